"""A result is corrected: whoever relied on it is told, in the commit of the correction itself.

Runs on the one path of every write (interactions.write), as the governors do. A version that says
something else than the one before is looked up among what is relied on; each answer that relies on
it gives an alert. The alert stands in the same change set, so that neither is ever without the
other, however often the request is sent and whenever a process is killed. An answer that is
given meanwhile is not missed: `Settled` fails here, or `VersionIs` there (answer.py), and whoever
was slower looks again. docs/adr/0030
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.fhir.wire import instant, parse
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.interactions.steps import Guards, Step
from fhir_gateway.recognition.alert_task import (
    Alert,
    alert_id,
    alert_of,
    gravest_first,
    task_of_alert,
)
from fhir_gateway.recognition.answer_model import DoctorAnswer, unversioned
from fhir_gateway.recognition.answered import relied_on, relying_on
from fhir_gateway.recognition.relied_change import RESULT_TYPES, Change, what_became
from fhir_gateway.recognition.vocabulary import catalogue_of
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.changes import Guard, Put, Settled, VersionIs
from fhir_gateway.store.store import Reader


class Changed(NamedTuple):
    """A result that has changed: "Type/id", the version that stands now, and how."""

    reference: str
    version: int
    change: Change


class Told(NamedTuple):
    """Alerts as puts, and the guards under which they are true."""

    alerts: list[Alert]
    puts: list[Put]
    guards: list[Guard]


async def watch(
    gateway: Gateway, reader: Reader, actor: Actor, steps: Sequence[Step], guards: Guards
) -> None:
    """Adds to a write the alerts of those who relied on what it changes.

    The gateway looks for itself: what a caller may see has no say in who is told.
    """
    changed = [one for step in steps if (one := _changed(step)) is not None]
    if not changed:
        return
    async with gateway.store.snapshot(SYSTEM_ACCESS) as own:
        homes = await _homes(own, steps)
        guards.add(Settled(("Task",), homes, own.t), ours=True)
        told = await _told_of(gateway, own, changed)
    for guard in told.guards:
        guards.add(guard, ours=True)
    guards.puts += told.puts


def _changed(step: Step) -> Changed | None:
    before = step.current
    if step.type not in RESULT_TYPES or before is None or before.deleted or step.matched:
        return None
    after = step.resource if step.op != "delete" else None
    change = what_became(parse(before.whole()), after)
    return Changed(step.name, before.version + 1, change) if change else None


async def _homes(reader: Reader, steps: Sequence[Step]) -> tuple[int, ...]:
    """Where answers on these results may stand: in all homes of their persons."""
    homes: dict[int, None] = {}
    subjects: set[str] = set()
    for step in steps:
        if step.type not in RESULT_TYPES or step.current is None:
            continue
        homes[step.current.home] = None
        subject = parse(step.current.whole()).get("subject", {}).get("reference", "")
        if subject not in subjects:  # the results of a report are one person's
            subjects.add(subject)
            person = await reader.person(subject.partition("/")[2])
            homes |= dict.fromkeys(person.homes if person else ())
    return tuple(homes)


async def _told_of(gateway: Gateway, reader: Reader, changed: Sequence[Changed]) -> Told:
    """The alerts of all answers that rely on what has changed."""
    by_answer: dict[str, tuple[DoctorAnswer, list[Changed]]] = {}
    relied = await relied_on(reader, [one.reference for one in changed])
    for one in changed:
        if one.reference not in relied:
            continue
        for _, answer in await relying_on(reader, one.reference):
            by_answer.setdefault(answer.id, (answer, []))[1].append(one)
    told = Told([], [], [])
    for answer, mine in by_answer.values():
        await tell(gateway, reader, told, answer, mine)
    return told


async def tell(
    gateway: Gateway, reader: Reader, told: Told, answer: DoctorAnswer, changed: Sequence[Changed]
) -> None:
    """Adds the alert of one answer, unless it was told of these versions.

    What is not acknowledged yet stays in it. An alert that somebody took note of is open again
    when something changes again.
    """
    if not answer.institution:
        return
    stored = await reader.read("Task", alert_id(answer.id))
    before = alert_of(parse(stored.whole())) if stored is not None else None
    new = {(one.change, f"{one.reference}/_history/{one.version}") for one in changed}
    if before is not None and new <= set(before.changes):
        return
    names = {one.reference for one in changed}
    kept = before.changes if before is not None and before.is_open else ()
    changes = gravest_first([*new, *(one for one in kept if unversioned(one[1]) not in names)])
    changing = {unversioned(reference) for _, reference in changes}
    alert = Alert(
        id=alert_id(answer.id),
        answer=f"{'Communication' if answer.former else 'Task'}/{answer.id}",
        how=answer.state,
        changes=changes,
        relied=tuple(
            one for one in (*answer.results, *answer.reports) if unversioned(one) in changing
        ),
        patient=answer.patient,
        institution=answer.institution,
        items=answer.items,
        at=instant(gateway.clock.now()),
        version=before.version if before else 0,
    )
    told.alerts.append(alert)
    told.guards.append(VersionIs("Task", alert.id, alert.version))
    told.puts.append(put_of_task(gateway, task_of_alert(alert, catalogue_of(gateway)), alert))


def put_of_task(gateway: Gateway, task: Mapping[str, Any], about: Alert | DoctorAnswer) -> Put:
    """A Task of the gateway's own, in the home of its patient, owned by its institution."""
    put = prepare(gateway, dict(task), op="create", institution=about.institution or None)
    put.follow = None  # a decision about nobody is in no home that could be followed
    return put
