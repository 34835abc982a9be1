"""One hook call: read it, know the patient, map the orders, ask, say it in cards.

The patient is known here or not at all: by a logical id of ours, or by an identifier in
`prefetch.patient`. An id of another server (`fhirServer`) means nothing here. docs/flows/order.md
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson

from fhir_gateway.cds_hooks.appointments import as_orders
from fhir_gateway.cds_hooks.beside import alert_cards, badge
from fhir_gateway.cds_hooks.cards import Card, Said, cards
from fhir_gateway.cds_hooks.prefetch import Had, complete
from fhir_gateway.cds_hooks.request import HookCall, read_call
from fhir_gateway.cds_hooks.services import SITUATION, Service
from fhir_gateway.cds_hooks.slots import Lookup, with_slots
from fhir_gateway.cds_hooks.trust import may_propose
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, PreconditionFailed
from fhir_gateway.recognition.answered import answered_lines
from fhir_gateway.recognition.ask import Answer, Question, ask, homes_of
from fhir_gateway.recognition.contexts import contexts_of
from fhir_gateway.recognition.order import Order, read_orders
from fhir_gateway.recognition.ordering import are_seen, ordering
from fhir_gateway.recognition.overview import overview
from fhir_gateway.recognition.record import Occasion
from fhir_gateway.recognition.relied import notices_for
from fhir_gateway.recognition.subject import Subject, subject_by_id, subject_by_identifiers
from fhir_gateway.recognition.vocabulary import catalogue_of, reason_codings, vocabulary_of
from fhir_gateway.security.actor import Actor

_NOTHING = b'{"cards":[]}'

#: Microseconds for which an answer to an order line stands: from choosing an item to signing it.
ONE_SESSION = 4 * 3_600_000_000


async def answer_call(
    gateway: Gateway, actor: Actor, service: Service, base: str, body: bytes
) -> bytes:
    """The response body: cards about the orders, which are on record already.

    Raises Structure, Invalid and TooLong for the call, PreconditionFailed when it does not say who
    the patient is and that cannot be had either.
    """
    until = asyncio.get_running_loop().time() + gateway.settings.hook_deadline_ms / 1000
    call = read_call(service, body)
    ours = not call.fhir_server or call.fhir_server.rstrip("/") == base
    if service.decides == "patient":
        return orjson.dumps({"cards": await _of_patient(gateway, actor, call, base, ours=ours)})
    if not call.drafts:
        return _NOTHING
    actor = ordering(gateway, actor, asserted=call.consented)
    had = await complete(gateway, actor, call, ours=ours)
    drafts = call.drafts
    if service.decides == "appointments":
        drafts = as_orders(drafts, had.resources)
    orders = await read_orders(gateway, drafts, actor.institution)
    if not orders:
        return _NOTHING
    answer = await _ask(gateway, actor, call, had, orders, ours=ours)
    said = Said(
        vocabulary_of(gateway),
        base,
        reason_codings(gateway),
        missing=tuple(key for key in had.missing if key in SITUATION),
        drafts={draft.reference: draft.resource for draft in drafts},
        removable=service.decides != "appointments",
    )
    # most patients have no Task: then nothing more is read
    found = await _alerts(gateway, actor, homes_of(answer.query), base) if answer.tasks else []
    shown = cards(answer, orders, said)
    if shown and answer.tasks and service.hook == "order-sign":
        answered = await _answered(gateway, actor, call, answer, orders)
        shown = {key: card for key, card in shown.items() if key not in answered}
    look = Lookup(
        gateway, actor, answer, orders, base, until, may_propose(gateway, actor), had.patient
    )
    shown = await with_slots(look, shown)
    return orjson.dumps({"cards": [*found, *shown.values()]})


async def _of_patient(
    gateway: Gateway, actor: Actor, call: HookCall, base: str, *, ours: bool
) -> list[Card]:
    """What there is of the patient whose chart was opened; nothing of somebody unknown."""
    had = await complete(gateway, actor, call, ours=ours)
    subject = await _subject(gateway, actor, call, had, ours=ours)
    counted = await overview(gateway, actor, subject)
    if not counted.homes and "patient" not in had.said:
        raise _prefetch_missing()
    found = await _alerts(gateway, actor, counted.homes, base)
    return found + badge(counted, subject.patient, base)


async def _alerts(gateway: Gateway, actor: Actor, homes: Sequence[int], base: str) -> list[Card]:
    """What has changed since this institution relied on it. None while the index is brought up to
    date: an order does not wait for it, and the next hook tells."""
    if not homes or not actor.institution:
        return []
    async with gateway.store.snapshot(actor.access) as reader:
        if not reader.index.is_current:
            return []
        alerts = await notices_for(reader, actor.institution, homes)
        if actor.access.sight is not None:  # a withdrawn consent holds for notices too
            alerts = [one for one in alerts if await are_seen(reader, one.relied)]
    return alert_cards(alerts, catalogue_of(gateway), base)


async def _answered(
    gateway: Gateway, actor: Actor, call: HookCall, answer: Answer, orders: Sequence[Order]
) -> frozenset[str]:
    """The order lines that this doctor has answered already: reminding of them again would be a
    second reminder. None while the index is brought up to date."""
    items = {item.item for order in orders for item in order.items if item.item}
    since = gateway.clock.now() - ONE_SESSION
    async with gateway.store.snapshot(actor.access) as reader:
        if not reader.index.is_current:
            return frozenset()
        found = await answered_lines(reader, homes_of(answer.query), items, since)
    mine = {
        (one.key, item)
        for item, one in found.items()
        if (one.institution, one.user) == (actor.institution, call.user)
    }
    return frozenset(
        order.key for order in orders if all((order.key, item.item) in mine for item in order.items)
    )


async def _ask(
    gateway: Gateway,
    actor: Actor,
    call: HookCall,
    had: Had,
    orders: list[Order],
    *,
    ours: bool,
) -> Answer:
    subject = await _subject(gateway, actor, call, had, ours=ours)
    visit = f"Encounter/{call.encounter_id}" if call.encounter_id else ""
    if visit and not ours:
        visit = f"{call.fhir_server.rstrip('/')}/{visit}"
    planned = [draft.resource for draft in call.drafts]
    born = (had.patient or {}).get("birthDate")
    return await ask(
        gateway,
        actor,
        Question(
            patient=subject.patient,
            items=tuple(item for order in orders for item in order.items),
            receiver=actor.institution or "",
            context=contexts_of(gateway, [*had.resources, *call.others, *planned]).union(
                *(order.context for order in orders)
            ),
            occasion=Occasion(call.service.hook, call.instance, call.user),
            contradictory=subject.contradictory,
            kept=call.kept,
            unless_known=None if "patient" in had.said else _prefetch_missing(),
            encounter=visit,
            context_known=had.situation_known,
            born=born if isinstance(born, str) else "",
            asserted=call.consented,
        ),
    )


async def _subject(
    gateway: Gateway, actor: Actor, call: HookCall, had: Had, *, ours: bool
) -> Subject:
    """Whom the call is about. An id of ours without identifiers is looked up by `ask`."""
    if "patient" not in had.said:
        if not ours:
            raise _prefetch_missing()
        return Subject(call.patient_id)
    identifiers = _identifiers(had.patient)
    async with gateway.store.snapshot(actor.access) as reader:
        if ours:
            subject = await subject_by_id(reader, gateway, call.patient_id, identifiers)
            if subject.patient:
                return subject
        return await subject_by_identifiers(reader, gateway, identifiers)


def _prefetch_missing() -> PreconditionFailed:
    return PreconditionFailed(
        "patientId is no id of this gateway, and the Patient could not be had from fhirServer: "
        "send prefetch.patient with its identifiers",
        expression="prefetch.patient",
        rule="prefetch-missing",
    )


def _identifiers(patient: dict[str, Any] | None) -> list[dict[str, Any]]:
    given = (patient or {}).get("identifier", [])
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise Invalid(
            "prefetch.patient.identifier must be an array of Identifiers",
            expression="prefetch.patient.identifier",
            rule="type",
        )
    return given
