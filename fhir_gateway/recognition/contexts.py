"""What visit, diagnoses and planned procedures say of the patient's situation (Query.context).

Only codes of terminology/contexts.csv count, and only of what is so: a diagnosis that is refuted,
inactive or resolved says nothing, nor does a visit or a plan that is over. Free text is not
interpreted. The resources come from a workstation and may have any shape; what has another shape
than FHIR's says nothing. hl7.org/fhir/R4/encounter.html, condition.html, procedure.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from functools import lru_cache
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.datatypes import date_range, local_day
from fhir_gateway.fhir.wire import parse, render
from fhir_gateway.recognition.model import CONTEXTS
from fhir_gateway.terminology.context_table import ContextRow, load_contexts

#: A newborn is one in the first 28 days of life.
NEWBORN_DAYS = 28

_OVER = {
    "Encounter": frozenset({"finished", "cancelled", "entered-in-error"}),
    "Procedure": frozenset({"not-done", "stopped", "completed", "entered-in-error"}),
    "ServiceRequest": frozenset({"revoked", "completed", "entered-in-error"}),
}
#: The system of a class that names none: R4 binds the element to it.
_CLASSES = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_NO_CONDITION = frozenset(
    {"inactive", "remission", "resolved", "refuted", "entered-in-error"}
)  # codes of clinicalStatus and verificationStatus

#: Longer elements are rare, and are not worth the memory.
_KEPT_BYTES = 2_048


class _Rows(NamedTuple):
    """The rows about one element, and all systems that they speak of."""

    systems: frozenset[str]
    rows: tuple[ContextRow, ...]


def contexts_of(gateway: Gateway, resources: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The contexts that these resources stand for."""
    table = _table(gateway.settings.terminology)
    zone = gateway.settings.zone
    today = local_day(gateway.clock.now(), zone)
    found: set[str] = set()
    for resource in resources:
        kind = resource.get("resourceType")
        if kind == "Patient":
            found.update(_of_age(resource, today))
        elif isinstance(kind, str) and kind in table and _holds(resource):
            found.update(_of_resource(gateway.settings.terminology, resource, kind, today, zone))
    return frozenset(found)


@lru_cache(maxsize=8)
def _table(folder: str) -> Mapping[str, Mapping[str, _Rows]]:
    """The table by type of resource and element."""
    found: dict[str, dict[str, _Rows]] = {}
    for row in load_contexts(folder, CONTEXTS):
        elements = found.setdefault(row.resource, {})
        known = elements.get(row.element, _Rows(frozenset(), ()))
        elements[row.element] = _Rows(known.systems | row.systems, (*known.rows, row))
    return found


def _of_resource(
    folder: str, resource: Mapping[str, Any], kind: str, today: date, zone: str
) -> Iterable[str]:
    elements = _table(folder)[kind]
    if kind == "ServiceRequest":  # a workstation orders the same few hundred things
        read = (*elements, "period")
        said = render({name: resource[name] for name in read if name in resource})
        if len(said) <= _KEPT_BYTES:
            return _of_order(folder, said, today, zone)
    return _of_codes(resource, elements, today, zone)


@lru_cache(maxsize=4_096)
def _of_order(folder: str, said: bytes, today: date, zone: str) -> frozenset[str]:
    """The contexts of the elements of an order that the table speaks of."""
    return frozenset(_of_codes(parse(said), _table(folder)["ServiceRequest"], today, zone))


def _of_codes(
    resource: Mapping[str, Any], elements: Mapping[str, _Rows], today: date, zone: str
) -> Iterator[str]:
    for element, (systems, rows) in elements.items():
        if element not in resource:
            continue
        for system, code in _codings(resource, element):
            if system not in systems:
                continue
            for row in rows:
                if row.matches(system, code) and (
                    row.days is None or _began(resource, row.days, today, zone)
                ):
                    yield row.context


def _holds(resource: Mapping[str, Any]) -> bool:
    """Whether what the resource says is so, or is planned."""
    kind = str(resource.get("resourceType"))
    if resource.get("doNotPerform") is True:
        return False
    if kind != "Condition":
        return str(resource.get("status")) not in _OVER.get(kind, frozenset())
    statuses = (*_concept(resource.get("clinicalStatus")),)
    verified = (*_concept(resource.get("verificationStatus")),)
    return not any(code in _NO_CONDITION for _, code in statuses + verified)


def _codings(resource: Mapping[str, Any], element: str) -> Iterator[tuple[str, str]]:
    value = resource.get(element)
    if element == "location":
        yield from _units(resource)
    elif element == "class":
        yield from _coding({"system": _CLASSES, **value} if isinstance(value, dict) else value)
    else:
        for concept in value if isinstance(value, list) else [value]:
            yield from _concept(concept)


def _units(encounter: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The types of the contained Locations where the patient is."""
    contained = {}
    for one in _objects(encounter.get("contained")):
        contained[f"#{one.get('id')}"] = one
    for stay in _objects(encounter.get("location")):
        place = stay.get("location")
        reference = place.get("reference") if isinstance(place, dict) else None
        if stay.get("status") != "completed" and str(reference) in contained:
            for concept in _objects(contained[str(reference)].get("type")):
                yield from _concept(concept)


def _concept(value: Any) -> Iterator[tuple[str, str]]:
    for coding in _objects(value.get("coding")) if isinstance(value, dict) else ():
        yield from _coding(coding)


def _coding(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        system, code = value.get("system"), value.get("code")
        if isinstance(system, str) and isinstance(code, str):
            yield system, code


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _began(encounter: Mapping[str, Any], days: int, today: date, zone: str) -> bool:
    """Whether a visit began so many days ago at the most; one without a beginning did not."""
    period = encounter.get("period")
    start = period.get("start") if isinstance(period, dict) else None
    began = _day(start, zone)
    return began is not None and 0 <= (today - began).days <= days


def _of_age(patient: Mapping[str, Any], today: date) -> Iterator[str]:
    born = _day(patient.get("birthDate"), "UTC")
    if born is not None and 0 <= (today - born).days < NEWBORN_DAYS:
        yield "newborn"


def _day(value: Any, zone: str) -> date | None:
    """The calendar day of a FHIR date or time, None where it is none or only partly known."""
    if not isinstance(value, str) or len(value) < len("2000-01-01"):
        return None
    try:
        return local_day(date_range(value, zone)[0], zone)
    except (Invalid, ValueError, OverflowError):  # or a day that is no day in that zone
        return None
