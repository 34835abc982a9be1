"""Who is booked for: the Patient as the caller sees it, its age and sex, orders and visits.

Nothing is read here that the caller may not see, but whether the patient has an encounter in
progress at the caller's own hospital. docs/booking.md
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Issue, NotFound, Unprocessable
from fhir_gateway.fhir.datatypes import Reference, date_range, local_day, parse_reference
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.scheduling.channel import Referral
from fhir_gateway.security.age import ages_on
from fhir_gateway.store.seat_around_sql import Around
from fhir_gateway.store.store import Reader, Stored
from fhir_gateway.terminology.catalogue import SYSTEMS

Json = Mapping[str, Any]

#: Orders and visits are read so many at a time.
_PAGE = 200


class Person(NamedTuple):
    """A Patient, and all homes of the person."""

    id: str
    resource: Json
    homes: tuple[int, ...]
    number: int = 0  # of the row

    @property
    def residence(self) -> str:
        """The area in which the person lives, "" where it is not registered."""
        return residence_of(self.resource)


class Order(NamedTuple):
    """A ServiceRequest: who made it, for whom it is meant, and what it asks for."""

    reference: str
    resource: Json
    owner: int
    home: int
    number: int = 0  # of the row

    @property
    def items(self) -> tuple[str, ...]:
        """Catalogue codes."""
        return tuple(_items(self.resource))

    @property
    def fault(self) -> str:
        """Why nothing rests on it, "" for an order in force."""
        if self.resource.get("doNotPerform") is True:
            return "asks that this is not done (doNotPerform)"
        status = self.resource.get("status")
        return "" if status == "active" else f"is {status} and not active"

    @property
    def performer(self) -> str:
        """The hospital that it refers to, "" for any."""
        for one in self.resource.get("performer") or ():
            found = parse_reference(str(one.get("reference", "")))
            if isinstance(found, Reference) and found.type == "Organization":
                return found.id
        return ""


async def person_of(own: Reader, patient: str) -> Person:
    """The person of a Patient that the caller sees. Raises NotFound."""
    stored = await own.read("Patient", patient)
    known = await own.person(patient) if stored is not None and not stored.deleted else None
    if stored is None or known is None:
        raise _no_person()
    homes = known.homes or (known.home,)
    return Person(patient, parse(stored.whole()), homes, stored.rid)


async def person_around(own: Reader, patient: str, around: Around) -> Person:
    """The same, whose homes were found with a Slot. Raises NotFound."""
    stored = await own.read("Patient", patient)
    if stored is None or stored.deleted:
        raise _no_person()
    return Person(patient, parse(stored.whole()), around.homes or (stored.home,), stored.rid)


def _no_person() -> NotFound:
    return NotFound(
        "There is no such Patient that you may see; register the person first, or book with "
        "the Patient of your own institution",
        expression="patient-reference",
        rule="patient-unknown",
    )


async def orders_named(own: Reader, references: Sequence[str]) -> list[Order]:
    """The ServiceRequests that a request names. Raises Unprocessable for one that is not seen."""
    found = []
    for reference in references:
        type, _, id = reference.partition("/")
        stored = await own.read(type, id) if type == "ServiceRequest" else None
        if stored is None or stored.deleted:
            raise Unprocessable(
                f"{reference[:80]} is no ServiceRequest that you may see; name the order or "
                "referral that the booking is for",
                expression="based-on",
                rule="order-unknown",
            )
        found.append(_order(stored))
    return found


async def orders_seen(own: Reader, person: Person) -> list[Order]:
    """The active ServiceRequests of a person that the caller sees, by whichever record."""
    orders = [_order(one) for one in await _recorded(own, person, "ServiceRequest")]
    return [one for one in orders if not one.fault]


async def _recorded(reader: Reader, person: Person, type: str) -> list[Stored]:
    """What the records of a person have of a type, all of it."""
    found: list[Stored] = []
    for home in person.homes:
        for id in await reader.person_records([home]):
            after: tuple[str, int] | None = None
            while True:
                page = await reader.record(home, id, limit=_PAGE, types=[type], after=after)
                found += page
                if len(page) < _PAGE:
                    break
                after = (type, page[-1].rid)
    return found


def check_orders(orders: Sequence[Order], person: Person, items: Sequence[str]) -> None:
    """Raises Unprocessable, with every fault, for orders that a booking cannot rest on."""
    if issues := order_faults(orders, person, items):
        raise Unprocessable(issues=tuple(issues))


def order_faults(orders: Sequence[Order], person: Person, items: Sequence[str]) -> list[Issue]:
    """Every fault of orders that a booking of these items is to rest on."""
    return [issue for one in orders for issue in _faults(one, person, items)]


def _faults(order: Order, person: Person, items: Sequence[str]) -> Iterator[Issue]:
    def fault(rule: str, text: str) -> Issue:
        return Issue("business-rule", f"{order.reference} {text}", "based-on", rule)

    if order.home not in person.homes:
        yield fault("order-other-person", "is for another person; name an order of this patient")
    if order.fault:
        yield fault("order-not-active", f"{order.fault}; write a new order")
    if items and order.items and not set(items) & set(order.items):
        yield fault(
            "order-other-item",
            f"asks for {', '.join(order.items)} and the slot is for {', '.join(items)}; search for "
            "a slot of the ordered item",
        )


async def referrals_of(gateway: Gateway, whole: Reader, orders: Sequence[Order]) -> list[Referral]:
    """Orders as referrals: by which institution, to which hospital, since when."""
    known = {key64(f"Organization/{id}"): id for id in await institutions_at(gateway, whole)}
    zone = gateway.settings.zone
    return [
        Referral(
            one.reference,
            known.get(one.owner, ""),
            one.performer,
            not one.fault,
            _authored(one.resource, zone),
            one.items,
        )
        for one in orders
    ]


async def is_in_consultation(whole: Reader, person: Person, institution: str) -> bool:
    """Whether the person has an encounter in progress at an institution."""
    owner = key64(f"Organization/{institution}")
    for one in await _recorded(whole, person, "Encounter"):
        if one.owner != owner or b'"in-progress"' not in one.tail:
            continue
        if parse(one.whole()).get("status") == "in-progress":  # it may stand in its history alone
            return True
    return False


def residence_of(patient: Json) -> str:
    """The area code of the first address that has one, "" for none."""
    for place in patient.get("address") or ():
        area = ext.value_of(place, ext.AREA)
        if isinstance(area, Mapping) and area.get("code"):
            return str(area["code"])
    return ""


def unfit(patient: Json, day: date, *resources: Json) -> list[Issue]:
    """Why what is asked of a patient does not fit this one: errors, and warnings for what is not
    known. `resources` are Slot and Schedule; the first that says something counts."""
    asked = next((found for one in resources for found in ext.extensions(one, ext.REQUIREMENT)), {})
    issues: list[Issue] = []
    if patient.get("deceasedBoolean") is True or patient.get("deceasedDateTime"):
        issues.append(_misfit("patient-deceased", "The Patient is registered as deceased; name who "
                              "is to come, or correct the Patient"))  # fmt: skip
    sex, gender = ext.value_of(asked, "sex"), patient.get("gender")
    if sex and gender in ("male", "female") and gender != sex:
        issues.append(_misfit("patient-sex", f"This examination is for {sex} persons; choose "
                              "another item, or correct the Patient"))  # fmt: skip
    elif sex and gender != sex:
        issues.append(_unknown("patient-sex", f"This examination is for {sex} persons, and the "
                               "Patient does not say its sex"))  # fmt: skip
    low, high = ext.value_of(asked, "minAge"), ext.value_of(asked, "maxAge")
    if low is None and high is None:
        return issues
    ages = ages_on(str(patient.get("birthDate") or ""), day)
    limits = f"from {low or 0} years" + (f" to {high} years" if high is not None else "")
    if ages is None:
        issues.append(_unknown("patient-age", f"This examination is for persons {limits}, and the "
                               "Patient does not say its age"))  # fmt: skip
    elif ages[1] < (low or 0) or (high is not None and ages[0] > high):
        issues.append(_misfit("patient-age", f"This examination is for persons {limits}; choose "
                              "another item, or a later date"))  # fmt: skip
    return issues


def _misfit(rule: str, text: str) -> Issue:
    return Issue("business-rule", text, "patient-reference", rule)


def _unknown(rule: str, text: str) -> Issue:
    return Issue("business-rule", text, "patient-reference", rule, "warning")


def _order(stored: Stored) -> Order:
    reference, resource = f"ServiceRequest/{stored.id}", parse(stored.whole())
    return Order(reference, resource, stored.owner, stored.home, stored.rid)


def _items(request: Json) -> Iterator[str]:
    for concept in (request.get("code") or {}, *(request.get("orderDetail") or ())):
        for coding in concept.get("coding") or ():
            if coding.get("system") in SYSTEMS and coding.get("code"):
                yield str(coding["code"])


def _authored(request: Json, zone: str) -> date:
    for name in ("authoredOn", "occurrenceDateTime"):
        if isinstance(text := request.get(name), str):
            return local_day(date_range(text, zone)[0], zone)
    return date.min
