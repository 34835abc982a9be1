"""Appointment/$find: what is asked for, the page of offers, and the link to the next (ITI-115).

No parameter is ignored: what cannot be heeded is refused with what to ask instead. Links to further
pages are sealed as those of searches are (search/page.py): for this caller and this question.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, Issue, NotSupported
from fhir_gateway.fhir import bundle
from fhir_gateway.fhir.datatypes import Reference, date_range, parse_reference
from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.interactions.audit import disclose_search
from fhir_gateway.interactions.operation_definitions import Call, Taken
from fhir_gateway.interactions.paging import holder_of
from fhir_gateway.scheduling.booking_operations import id_of, reason_of
from fhir_gateway.scheduling.find import After, FindRequest, Found, find
from fhir_gateway.scheduling.find_places import places_of
from fhir_gateway.scheduling.proposal import PLAIN
from fhir_gateway.search.page import opened, sealed
from fhir_gateway.search.results import CURSOR
from fhir_gateway.security.actor import Actor

_PAGE = 20
_PERSON = b"booking-cursor"
_SECOND = 1_000_000
_PREFERRED = {
    "organization": "hospitals", "practitioner": "practitioners", "district": "districts",
}  # fmt: skip
_NOT_OFFERED = {
    "timing": "timing is not offered: name periods by start and end, once for each part of a day",
    "insurance-reference": "insurance-reference is not offered: insurance decides of no seat here; "
    "leave it out",
}


class _Asked(NamedTuple):
    """A question with its parameters as a link can tell them."""

    request: FindRequest
    pairs: tuple[tuple[str, str], ...]
    is_linked: bool  # whether a link can tell all of it

    @property
    def bound(self) -> bytes:
        """What a cursor is bound to: the question without its page size."""
        return msgspec.msgpack.encode([pair for pair in self.pairs if pair[0] != "_count"])


async def find_operation(gateway: Gateway, actor: Actor, call: Call) -> bytes:
    """A searchset of proposed Appointments with their Slots, audited before it is told.

    Raises Invalid and NotSupported for parameters, NotFound and Unprocessable for a Patient or an
    order that the caller does not see.
    """
    _check_offered(call)
    asked = await _asked(gateway, actor, call)
    holder = holder_of(gateway, actor)
    cursor = call.value(CURSOR)
    if cursor:
        values = opened(str(cursor), asked.bound, holder, _PERSON, length=4)
        asked = asked._replace(request=asked.request._replace(after=_after(values)))
    found = await find(gateway, actor, asked.request)
    query = f"Appointment/$find?{urlencode(asked.pairs)}"
    patient = asked.request.patient
    await disclose_search(
        gateway, actor, asked=query, bound=[patient] if patient else [], matches=[]
    )
    links = [("self", f"{call.base}/{query}")]
    if found.next is not None and asked.is_linked:
        seal = sealed((holder.until // _SECOND, *found.next), asked.bound, holder, _PERSON)
        pairs = urlencode([*asked.pairs, (CURSOR, seal)])
        links.append(("next", f"{call.base}/Appointment/$find?{pairs}"))
    hits = list(_hits(call, found))
    issues = [*found.hints, *_misfits(found), *_unlinked(found, asked), *_untold(found, asked)]
    if issues:
        hits.append(bundle.Hit("", operation_outcome(issues), "outcome"))
    return bundle.searchset(hits, links=links, total=found.total)


def _hits(call: Call, found: Found) -> Iterator[bundle.Hit]:
    for one in found.offers:
        id = one.proposed_as or PLAIN + one.id
        yield bundle.Hit(f"{call.base}/Appointment/{id}", one.proposal)
    for one in found.offers:
        yield bundle.Hit(f"{call.base}/Slot/{one.id}", one.body, "include")


def _misfits(found: Found) -> Iterator[Issue]:
    """What of the offers does not fit the patient: they would be refused."""
    for offer in found.offers:
        for one in offer.issues:
            text = f"Slot/{offer.id}: {one.diagnostics}"
            yield Issue("business-rule", text, one.expression, one.rule, "warning")


def _unlinked(found: Found, asked: _Asked) -> Iterator[Issue]:
    if found.next is not None and not asked.is_linked:
        yield Issue(
            "informational",
            "There are more offers than on this page, and no link can carry a patient-resource: "
            "ask for fewer days or a larger _count, or store the Patient and name it",
            "patient-resource",
            "no-next",
            "information",
        )


def _untold(found: Found, asked: _Asked) -> Iterator[Issue]:
    """The number of a proposal carries patient and orders, and no words."""
    if found.offers and asked.request.reason and asked.request.patient:
        text = (
            "The number of a proposal does not carry the reason: say it again with $hold or $book"
        )
        yield Issue("informational", text, "reason", "reason-again", "information")


def _after(values: Sequence[int | str]) -> After:
    rank, start, home, slot = (int(one) for one in values)
    return rank, start, home, slot


# -- the question ---------------------------------------------------------------------------------


def _check_offered(call: Call) -> None:
    issues = tuple(
        Issue("not-supported", text, found.expression, f"find-{name}")
        for name, text in _NOT_OFFERED.items()
        if (found := call.one(name)) is not None
    )
    if issues:
        raise NotSupported(issues=issues)


async def _asked(gateway: Gateway, actor: Actor, call: Call) -> _Asked:
    start, end = _period(gateway, call)
    patient = _patient(actor, call)
    places = await places_of(gateway, actor, call)
    request = FindRequest(
        start,
        end,
        items=tuple(_items(gateway, call)),
        patient=patient,
        patient_resource=call.value("patient-resource"),
        based_on=places.orders,
        hospitals=tuple(
            id_of(one, "Organization", call.base) for one in call.parameters["organization"]
        ),
        practitioners=tuple(_reference(one, call.base) for one in call.parameters["practitioner"]),
        districts=_texts(call, "district"),
        services=places.services,
        schedules=places.schedules,
        kinds=places.kinds,
        departments=_texts(call, "department"),
        reason=reason_of(call.one("reason")),
        prefer=_prefer(call),
        limit=min(call.value("_count") or _PAGE, gateway.settings.page_limit),
    )
    pairs = tuple(
        (name, _told(one))
        for name, several in call.parameters.items()
        for one in several
        if name not in (CURSOR, "patient-resource")
    )
    return _Asked(request, pairs, call.one("patient-resource") is None)


def _patient(actor: Actor, call: Call) -> str:
    """The Patient who is to come, by name or by a patient's own token. Raises Invalid where a
    resource says it too: it would not be heeded."""
    named = id_of(call.one("patient-reference"), "Patient", call.base)
    patient = named or (actor.patient if actor.role == "patient" else "")
    resource = call.one("patient-resource")
    if patient and resource is not None:
        raise Invalid(
            f"Patient/{patient} is asked for already: leave patient-resource out, which is for who "
            "is not registered yet",
            expression=resource.expression,
            rule="find-patient",
        )
    return patient


def _period(gateway: Gateway, call: Call) -> tuple[int, int]:
    """The whole of all periods that are named. Raises Invalid where there are gaps between them."""
    zone = gateway.settings.zone
    starts = [date_range(one.value, zone)[0] for one in call.parameters["start"]]
    ends = [_end(one.value, zone) for one in call.parameters["end"]]
    if len(starts) != len(ends):
        raise Invalid("Each start has an end", expression="end", rule="find-period")
    periods = sorted(zip(starts, ends, strict=True))
    for start, end in periods:
        if start >= end:
            raise Invalid("A period ends after it starts; set end later than start",
                          expression="end", rule="find-period")  # fmt: skip
    low, high = periods[0]
    for start, end in periods[1:]:
        if start > high:
            raise NotSupported("Periods with a gap between them are asked for one by one",
                               expression="start", rule="find-period")  # fmt: skip
        high = max(high, end)
    if high <= gateway.clock.now():
        raise Invalid("This time is over; ask for days to come", expression="end",
                      rule="find-past")  # fmt: skip
    return low, high


def _end(text: str, zone: str) -> int:
    low, high = date_range(text, zone)
    return low if "T" in text else high + 1


def _items(gateway: Gateway, call: Call) -> Iterator[str]:
    """Codes of the catalogue. Raises Invalid for one that it does not have."""
    codes = gateway.local_codes
    known: Mapping[str, Any] = codes.catalogue.items if codes is not None else {}
    for one in call.parameters["service"]:
        system, _, code = str(one.value).rpartition("|")
        item = known.get(code)
        if item is None or (system and system != item.system):
            raise Invalid(
                "This is no item of the catalogue; take its code, as I003, or system|code. "
                "What the catalogue does not hold, as a visit, is found by department or specialty",
                expression=one.expression,
                rule="item-unknown",
            )
        yield code


def _prefer(call: Call) -> str:
    found = call.one("sort")
    said = found.value if found is not None else ""
    repeated = [name for name in _PREFERRED if len(call.parameters[name]) > 1]
    if said not in ("", "earliest", "preference", "district"):
        raise Invalid("sort is earliest, preference or district", expression="sort",
                      rule="find-sort")  # fmt: skip
    if said == "district" and not call.parameters["district"]:
        raise Invalid("sort=district needs district: name areas, the preferred first",
                      expression="sort", rule="find-sort")  # fmt: skip
    if said == "district":
        return "districts"
    if said == "earliest" or not repeated:
        return ""
    return _PREFERRED[repeated[0]]


def _texts(call: Call, name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(one) for one in call.values(name)))


def _reference(taken: Taken, base: str) -> str:
    """ "Type/id" of a doctor."""
    found = parse_reference(_told(taken), base)
    if not isinstance(found, Reference) or found.type not in ("Practitioner", "PractitionerRole"):
        raise Invalid("practitioner is a Practitioner or a PractitionerRole, as Practitioner/[id]",
                      expression=taken.expression, rule="reference")  # fmt: skip
    return found.key


def _told(taken: Taken) -> str:
    """A value as a query tells it."""
    value = taken.value
    if not isinstance(value, Mapping):
        return str(value)
    if "reference" in value:
        return str(value["reference"])
    return f"{value.get('system', '')}|{value.get('value', '')}"
