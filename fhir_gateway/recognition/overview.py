"""How many earlier results of a person could be used: the badge when a chart is opened.

Every item of the catalogue is decided as if it were ordered now, without anything known of the
patient's situation. Nothing is recommended, so no decision is recorded; that it was counted is in
the audit log before the number is told (hook patient-view, docs/cds-hooks.md).
"""

from __future__ import annotations

from typing import NamedTuple

from fhir_gateway.audit.events import search_event
from fhir_gateway.context import Gateway
from fhir_gateway.interactions.audit import call_of, disclose, entry
from fhir_gateway.recognition.ask import Question, conclude, inputs_of, read_candidates
from fhir_gateway.recognition.known import known
from fhir_gateway.recognition.model import Decision, OrderedItem
from fhir_gateway.recognition.record import Occasion
from fhir_gateway.recognition.spell import exam_day
from fhir_gateway.recognition.subject import Subject
from fhir_gateway.recognition.vocabulary import catalogue_of
from fhir_gateway.security.actor import Actor


class Overview(NamedTuple):
    """Items by what their newest usable result is good for, and the day of the newest result.

    `homes` are those of the person, empty when nobody here is the patient.
    """

    homes: tuple[int, ...] = ()
    recognizable: int = 0
    viewable: int = 0
    undecided: int = 0
    newest: str = ""

    @property
    def total(self) -> int:
        """All items with a result that a doctor may want to see."""
        return self.recognizable + self.viewable + self.undecided


async def overview(gateway: Gateway, actor: Actor, subject: Subject) -> Overview:
    """The counts for a person who is known here. Audited where there is anything to count."""
    now = gateway.clock.now() // 1000 * 1000
    items = tuple(OrderedItem(key=item, item=item) for item in catalogue_of(gateway).items)
    question = Question(
        patient=subject.patient,
        items=items,
        receiver=actor.institution or "",
        context=frozenset(),
        occasion=Occasion("patient-view"),
        contradictory=subject.contradictory,
        context_known=False,
    )
    async with gateway.store.snapshot(actor.access) as reader:
        facts = await known(gateway, reader, now, question.receiver)
        inputs = await inputs_of(gateway, reader, question, facts, (now, reader.t), actor.access)
        if inputs.unknown:
            return Overview()
        rule_set = facts.rules.rule_set if facts.rules else None
        seen = await read_candidates(reader, inputs, facts.register, rule_set)
    decision = conclude(inputs, seen, rule_set, facts.view.catalogue)
    query = inputs.query
    counted = _count(decision, query.zone, query.homes or (query.home,))
    if counted.total and gateway.audit:
        event = search_event(
            call_of(gateway, actor),
            query=f"Patient/{query.patient}/$prior-results",
            patient=query.patient,
            count=counted.total,
            interaction="operation",
        )
        await disclose(gateway, [entry(gateway, event, home=query.home)])
    return counted


def _count(decision: Decision, zone: str, homes: tuple[int, ...]) -> Overview:
    outcomes = [item.outcome for item in decision.items if item.chosen is not None]
    newest = max(
        (item.chosen for item in decision.items if item.chosen is not None),
        key=lambda one: one.time,
        default=None,
    )
    return Overview(
        homes,
        outcomes.count("recognize"),
        outcomes.count("view-only"),
        outcomes.count("cannot-decide"),
        exam_day(newest, zone) if newest is not None else "",
    )
