"""Whether a booked examination has a result by now that did not stand when it was booked.

The question is asked as the institution that booked would ask it, with what that institution may
see at this moment and nothing more, by the rules in force now. What could be recognised already
when the booking was made was told then, and is not told again. docs/adr/0054
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.datatypes import Reference, date_range, parse_reference
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.callers import Caller, actor_of
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.interactions.relations import BOOKED_BY
from fhir_gateway.recognition.ask import Question, conclude, inputs_of, read_candidates
from fhir_gateway.recognition.booked_task import Found
from fhir_gateway.recognition.known import Known, known
from fhir_gateway.recognition.model import ItemOutcome, OrderedItem
from fhir_gateway.recognition.order import read_orders
from fhir_gateway.recognition.past import commit_at, known_then
from fhir_gateway.recognition.record import Occasion
from fhir_gateway.recognition.spell import exam_day
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.booked_sql import Coming
from fhir_gateway.store.store import Reader, Stored

Json = Mapping[str, Any]

_LIVE = frozenset({"booked", "arrived", "checked-in"})


class Booked(NamedTuple):
    """A booked examination: the Appointment, who booked it, what is to be done, and for whom.

    `clinician` is a reference to who ordered, "" where no order names a person of ours.
    """

    stored: Stored
    resource: dict[str, Any]
    actor: Actor
    patient: str
    clinician: str
    items: tuple[OrderedItem, ...]


async def booked(gateway: Gateway, coming: Coming) -> Booked | None:
    """The booking as it stands; None where it is over, nobody is to be told, or it is not known
    which examination of several will be made."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        stored = await reader.read("Appointment", coming.id)
        if stored is None or stored.deleted:
            return None
        resource = parse(stored.whole())
        patient = patient_of(resource)
        by = await _institution(gateway, reader, stored, resource)
        if resource.get("status") not in _LIVE or not patient or not by:
            return None
        orders = await _orders(reader, resource)
        try:
            actor = await actor_of(gateway, reader, Caller("institution", by))
        except GatewayError:  # it has left the registry: nobody is there to be told
            return None
    items = await _items(gateway, resource, orders, coming, by)
    clinician = next((one for order in orders if (one := _requester(order))), "")
    return Booked(stored, resource, actor, patient, clinician, items) if items else None


async def _institution(gateway: Gateway, reader: Reader, stored: Stored, resource: Json) -> str:
    """Who booked; where nobody stands for it, the hospital itself."""
    for one in resource.get("extension", ()):
        if one.get("url") == BOOKED_BY:
            found = parse_reference(str((one.get("valueReference") or {}).get("reference", "")))
            if isinstance(found, Reference) and found.type == "Organization":
                return found.id
    known = await institutions_at(gateway, reader)
    return next((id for id in known if key64(f"Organization/{id}") == stored.owner), "")


async def _orders(reader: Reader, resource: Json) -> list[dict[str, Any]]:
    """The orders behind an Appointment that are stored here."""
    orders = []
    for one in resource.get("basedOn", ()):
        found = parse_reference(str(one.get("reference", "")))
        if isinstance(found, Reference) and found.type == "ServiceRequest":
            stored = await reader.read("ServiceRequest", found.id)
            if stored is not None and not stored.deleted:
                orders.append(parse(stored.whole()))
    return orders


async def _items(
    gateway: Gateway, resource: Json, orders: Sequence[dict[str, Any]], coming: Coming, by: str
) -> tuple[OrderedItem, ...]:
    """What is examined: what the orders ask for, else the one service of the booking."""
    drafts = [(str(order.get("id")), "Appointment.basedOn", order) for order in orders]
    if not drafts:
        services = resource.get("serviceType") or []
        if len(coming.items) != 1 or not services:
            return ()
        drafts = [("service", "Appointment.serviceType",
                   {"resourceType": "ServiceRequest", "code": services[0]})]  # fmt: skip
    try:
        read = await read_orders(gateway, drafts, by)
    except GatewayError:  # an order that was stored in a shape that cannot be read
        return ()
    found = tuple(item for order in read for item in order.items)
    return found if all(item.item for item in found) else ()


def patient_of(appointment: Json) -> str:
    """The logical id of the Patient of an Appointment, "" for none."""
    return next(_named(appointment.get("participant"), "Patient"), "")


def _requester(order: Json) -> str:
    found = parse_reference(str((order.get("requester") or {}).get("reference", "")))
    if isinstance(found, Reference) and found.type in ("Practitioner", "PractitionerRole"):
        return f"{found.type}/{found.id}"
    return ""


def _named(participants: Any, type: str) -> Iterator[str]:
    for one in participants or ():
        found = parse_reference(str((one.get("actor") or {}).get("reference", "")))
        if isinstance(found, Reference) and found.type == type:
            yield found.id


class Looked(NamedTuple):
    """The results that can be recognised now and could not when the booking was made, and the
    names ("Type/id") of all that can be recognised now."""

    new: list[Found]
    standing: frozenset[str]


async def look(gateway: Gateway, booking: Booked) -> Looked:
    """What is there by now of what was booked, as who booked may see it."""
    now = gateway.clock.now() // 1000 * 1000
    async with gateway.store.snapshot(booking.actor.access) as reader:
        facts = await known(gateway, reader, now, booking.actor.institution or "")
        outcomes = await _decided(gateway, reader, booking, facts, (now, reader.t))
        hits = [one for one in outcomes if one.outcome == "recognize" and one.chosen]
        if not hits:
            return Looked([], frozenset())
        then = await _told_then(gateway, reader, booking)
    missed = tuple(one.item for one in outcomes if one.outcome != "recognize" and one.item)
    by_name = {one.chosen.source: one for one in hits if one.chosen is not None}
    new = [
        _found(gateway, booking, facts, one, missed)
        for name, one in by_name.items()
        if name not in then
    ]
    return Looked(new, frozenset(by_name))


async def _decided(
    gateway: Gateway, reader: Reader, booking: Booked, facts: Known, at: tuple[int, int]
) -> Sequence[ItemOutcome]:
    question = Question(
        patient=booking.patient,
        items=booking.items,
        receiver=booking.actor.institution or "",
        context=frozenset(),
        occasion=Occasion("booked-result"),
        context_known=False,
    )
    inputs = await inputs_of(gateway, reader, question, facts, at, booking.actor.access)
    rule_set = facts.rules.rule_set if facts.rules else None
    seen = await read_candidates(reader, inputs, facts.register, rule_set)
    return conclude(inputs, seen, rule_set, facts.view.catalogue).items


async def _told_then(gateway: Gateway, reader: Reader, booking: Booked) -> set[str]:
    """The results that could be recognised when the booking was made."""
    made = booking.resource.get("created")
    first = date_range(str(made), gateway.settings.zone)[0] if made else booking.stored.updated
    try:
        t = await commit_at(gateway, reader, first, "Appointment.created")
    except GatewayError:  # nothing was stored then
        return set()
    facts = await known_then(gateway, reader, first, booking.actor.institution or "")
    outcomes = await _decided(gateway, reader, booking, facts, (first, t))
    return {
        one.chosen.source
        for one in outcomes
        if one.chosen is not None and one.outcome == "recognize"
    }


def _found(
    gateway: Gateway, booking: Booked, facts: Known, hit: ItemOutcome, missed: tuple[str, ...]
) -> Found:
    chosen = hit.chosen
    assert chosen is not None
    issuer = facts.institutions.get(chosen.issuer)
    return Found(
        appointment=booking.stored.id,
        result=f"{chosen.source}/_history/{chosen.version}",
        item=hit.item or "",
        day=exam_day(chosen, gateway.settings.zone),
        issuer=issuer.name if issuer else "出具机构不明",
        patient=booking.patient,
        institution=booking.actor.institution or "",
        clinician=booking.clinician,
        start=str(booking.resource.get("start", "")),
        others=missed,
    )
