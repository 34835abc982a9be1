"""The operation $recognize: Parameters in, Parameters out.

definitions.py says what they take; docs/api/recognize.md shows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Deleted, Forbidden, Invalid, Issue, NotFound
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.wire import parse, render
from fhir_gateway.interactions.given import local_id
from fhir_gateway.interactions.operation_definitions import Call, Taken
from fhir_gateway.recognition.ask import Answer, Question, ask
from fhir_gateway.recognition.model import OrderedItem
from fhir_gateway.recognition.order import read_contexts, read_orders
from fhir_gateway.recognition.ordering import ordering
from fhir_gateway.recognition.record import MAX_LINES, Occasion
from fhir_gateway.recognition.subject import Subject, subject_by_identifiers
from fhir_gateway.recognition.told import told
from fhir_gateway.recognition.vocabulary import vocabulary_of
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.store import Reader, Stored
from fhir_gateway.terminology.catalogue import SYSTEMS

Parameters = dict[str, Any]


async def recognize(gateway: Gateway, actor: Actor, call: Call) -> Parameters:
    """ServiceRequest/$recognize and ServiceRequest/[id]/$recognize: the recorded answer. Raises as
    `recognized`."""
    return told(await recognized(gateway, actor, call), vocabulary_of(gateway))


async def recognized(gateway: Gateway, actor: Actor, call: Call) -> Answer:
    """The answer to a call, on record.

    Raises Invalid with every fault of the parameters, NotFound and Deleted for the order, Forbidden
    when an institution asks on behalf of another.
    """
    given = call.parameters
    actor = ordering(gateway, actor, asserted=bool(call.value("consentObtained")))
    context = read_contexts(call.values("context"))
    context_known = call.one("contextKnown")
    receiver = _receiver(actor, call.one("receiver"))
    as_of = _moment(gateway, call.one("asOf"))
    if call.id:
        _refuse_on_instance(given)
        order = await _stored_order(gateway, actor, call.id)
        subject = _subject_of_order(order)
        drafts = [(f"ServiceRequest/{call.id}", "ServiceRequest", order)]
    else:
        subject = await _subject(gateway, actor, call.one("patient"))
        drafts = _drafts(given["order"])
    orders = await read_orders(gateway, drafts, receiver or None)
    items = [item for order in orders for item in order.items] + _items(given["item"])
    _check_items(items)
    return await ask(
        gateway,
        actor,
        Question(
            patient=subject.patient,
            items=tuple(items),
            receiver=receiver,
            context=context.union(*(order.context for order in orders)),
            occasion=Occasion("$recognize"),
            contradictory=subject.contradictory,
            kept=_kept(given["order"]) if not as_of else b"",
            as_of=as_of,
            born=await _born(gateway, actor, subject.patient, as_of),
            context_known=bool(context_known.value if context_known else context),
            asserted=bool(call.value("consentObtained")),
        ),
    )


def _moment(gateway: Gateway, taken: Taken | None) -> int:
    """A moment in µs, as exactly as instants are spelled; the beginning of a day. 0 without one."""
    if taken is None:
        return 0
    return date_range(taken.value, gateway.settings.zone)[0] // 1000 * 1000


def _kept(orders: Sequence[Taken]) -> bytes:
    """The draft orders as they are kept by hash, b"" when there are none."""
    return render({"order": [one.value for one in orders]}) if orders else b""


def _receiver(actor: Actor, taken: Taken | None) -> str:
    """The institution that the patient is at: the caller's own; others may name any."""
    if taken is None:
        return actor.institution or ""
    receiver = local_id(taken, "Organization")
    if actor.institution and receiver != actor.institution:
        raise Forbidden(
            "An institution asks for itself only", expression=taken.expression, rule="receiver"
        )
    return receiver


def _refuse_on_instance(given: Mapping[str, Sequence[Taken]]) -> None:
    issues = tuple(
        Issue("invalid", f"{name} is known from the order", taken.expression, "parameter")
        for name in ("patient", "order", "item")
        for taken in given[name]
    )
    if issues:
        raise Invalid(issues=issues)


async def _stored_order(gateway: Gateway, actor: Actor, id: str) -> dict[str, Any]:
    async with gateway.store.snapshot(actor.access) as reader:
        stored = await reader.read("ServiceRequest", id)
    if stored is None:
        raise NotFound("There is no such ServiceRequest", rule="unknown-id")
    if stored.deleted:
        raise Deleted("This ServiceRequest was deleted", rule="deleted")
    return parse(stored.whole())


def _subject_of_order(order: dict[str, Any]) -> Subject:
    text = order.get("subject", {}).get("reference", "")
    type, _, id = text.partition("/")
    return Subject(id) if type == "Patient" else Subject()


async def _subject(gateway: Gateway, actor: Actor, taken: Taken | None) -> Subject:
    """Whom the question is about. A logical id is looked up by `ask`."""
    if taken is None:
        raise Invalid("patient is required", expression="Parameters.parameter", rule="required")
    if taken.element != "valueIdentifier":
        return Subject(local_id(taken, "Patient"))
    async with gateway.store.snapshot(actor.access) as reader:
        return await subject_by_identifiers(reader, gateway, [taken.value])


async def _born(gateway: Gateway, actor: Actor, patient: str, as_of: int) -> str:
    """The date of birth as the record says it, or said it at a moment of the past; "" without."""
    if not patient:
        return ""
    async with gateway.store.snapshot(actor.access) as reader:
        stored = await _patient_then(reader, patient, as_of)
    if stored is None or stored.deleted:
        return ""
    return str(parse(stored.whole()).get("birthDate", ""))


async def _patient_then(reader: Reader, id: str, as_of: int) -> Stored | None:
    """The Patient as it is, or was at a moment of the past; None when it was not there."""
    stored = await reader.read("Patient", id)
    if stored is None or not as_of or stored.updated <= as_of:
        return stored
    past = await reader.history("Patient", id)
    return next((one for one in past if one.updated <= as_of), None)


def _drafts(orders: Sequence[Taken]) -> list[tuple[str, str, dict[str, Any]]]:
    """Orders with a key of their own: their id, or their place where ids are missing or doubled."""
    drafts, keys = [], set()
    for number, taken in enumerate(orders):
        if taken.value.get("resourceType") != "ServiceRequest":
            text = "An order is a ServiceRequest"
            raise Invalid(text, expression=taken.expression, rule="order")
        id = taken.value.get("id")
        key = f"ServiceRequest/{id}" if id else f"order-{number}"
        key = key if key not in keys else f"order-{number}"
        keys.add(key)
        drafts.append((key, taken.expression, taken.value))
    return drafts


def _items(taken: Sequence[Taken]) -> list[OrderedItem]:
    """Items asked for by their catalogue code, without an order."""
    items = []
    for one in taken:
        coded = one.element == "valueCoding"
        if coded and one.value.get("system") not in SYSTEMS:
            text = "An item is a code of the catalogue"
            raise Invalid(text, expression=one.expression, rule="item-system")
        code = one.value.get("code", "") if coded else one.value
        items.append(OrderedItem(key=code, item=code))
    return items


def _check_items(items: list[OrderedItem]) -> None:
    if not items:
        text = "At least one order or item is required"
        raise Invalid(text, expression="Parameters.parameter", rule="required")
    if len(items) > MAX_LINES:
        text = f"More than {MAX_LINES} items"
        raise Invalid(text, expression="Parameters.parameter", rule="too-many-items")
