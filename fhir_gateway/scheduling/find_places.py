"""What a $find names by words and codes, as what Slots are found by: services, schedules, orders.

Specialties and names of places are looked up by the searches of HealthcareService and Location;
what none has finds nothing, it does not find everything. docs/booking.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, TooCostly
from fhir_gateway.interactions.operation_definitions import Call, Taken
from fhir_gateway.scheduling.booking_operations import id_of, orders_of
from fhir_gateway.search.planner import plan_search
from fhir_gateway.security.actor import SYSTEM_ACCESS, Access, Actor
from fhir_gateway.store.slot_view_sql import schedules_that

#: Stands for what nothing has.
NONE = "-"
_MOST = 500
_CLASSES, _KINDS = ("expert", "ordinary"), ("visit", "exam")


class Places(NamedTuple):
    """Logical ids of HealthcareServices and Schedules, classes of Slots, references of orders."""

    services: tuple[str, ...] = ()
    schedules: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    orders: tuple[str, ...] = ()


async def places_of(gateway: Gateway, actor: Actor, call: Call) -> Places:
    """What the parameters of a $find come to. Raises Invalid, TooCostly for too many of them."""
    types = [str(one).rpartition("|")[2] for one in call.values("visit-type")]
    if unknown := [one for one in types if one not in (*_CLASSES, *_KINDS)]:
        raise Invalid(
            f"visit-type is one of {', '.join((*_CLASSES, *_KINDS))}, not {unknown[0][:20]}",
            expression="visit-type",
            rule="find-visit-type",
        )
    return Places(
        await _services(gateway, call),
        await _schedules(gateway, call, [one for one in types if one in _KINDS]),
        tuple(one for one in types if one in _CLASSES),
        await _orders(gateway, actor, call),
    )


async def _services(gateway: Gateway, call: Call) -> tuple[str, ...]:
    said = [str(one) for one in call.values("specialty")]
    if not said:
        return ()
    pairs = [("specialty", ",".join(_escaped(one) for one in said))]
    found = await _search(gateway, SYSTEM_ACCESS, "HealthcareService", pairs)
    return tuple(found) or (NONE,)


async def _schedules(gateway: Gateway, call: Call, kinds: Sequence[str]) -> tuple[str, ...]:
    """The Schedules of the places and kinds, and those that are named."""
    named = [id_of(one, "Schedule", call.base) for one in call.parameters["schedule"]]
    locations = [
        f"Location/{id_of(one, 'Location', call.base)}"
        for one in call.parameters["location-reference"]
    ]
    words = [str(one) for one in call.values("location-string")]
    if words:
        pairs = [("name:contains", ",".join(_escaped(one) for one in words))]
        found = await _search(gateway, SYSTEM_ACCESS, "Location", pairs)
        called = {f"Location/{id}" for id in found}
        locations = [one for one in locations if one in called] if locations else [*called]
        locations = locations or [NONE]
    if not locations and not kinds:
        return tuple(named)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as whole:
        fit = await whole.steps(
            lambda seen: schedules_that(seen.dialect, kinds=kinds, locations=locations)
        )
    return tuple(one for one in fit if not named or one in named) or (NONE,)


async def _orders(gateway: Gateway, actor: Actor, call: Call) -> tuple[str, ...]:
    orders = list(orders_of(call))
    for one in call.parameters["referral-identifier"]:
        value = one.value
        if not isinstance(value, str):
            value = f"{value.get('system', '')}|{_number_of(one)}"
        pairs = [("identifier", _escaped(value.removeprefix("|")))]
        found = await _search(gateway, actor.access, "ServiceRequest", pairs)
        if not found:
            raise Invalid(
                "No order that you may see has this identifier; name the order by based-on",
                expression=one.expression,
                rule="order-unknown",
            )
        orders += [f"ServiceRequest/{id}" for id in found]
    return tuple(dict.fromkeys(orders))


def _number_of(taken: Taken) -> str:
    number = taken.value.get("value")
    if not number:
        raise Invalid(
            "An identifier has a value: a system alone names no order",
            expression=taken.expression,
            rule="order-unknown",
        )
    return str(number)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace(",", "\\,").replace("$", "\\$")


async def _search(
    gateway: Gateway, access: Access, type: str, pairs: Sequence[tuple[str, str]]
) -> list[str]:
    """Logical ids of what a search finds. Raises TooCostly for more than can be looked in."""
    settings = gateway.settings
    plan = plan_search(
        type, [*pairs, ("_count", str(_MOST))], secret=gateway.store.index_key,
        base_url=settings.base_url or "", zone=settings.zone, page_limit=_MOST,
        naming=gateway.extractor.naming,
    )  # fmt: skip
    async with gateway.store.snapshot(access) as reader:
        page = await reader.search(plan)
    if page.next is not None:
        raise TooCostly(f"More than {_MOST} {type} resources fit; say more of what you look for",
                        rule="find-places")  # fmt: skip
    return [one.id for one in page.matches]
