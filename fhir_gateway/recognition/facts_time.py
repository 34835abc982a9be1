"""When a result was true of the patient: the time, which time it is, and whether its zone is sure.

A laboratory result is dated by the collection of its specimen, an examination by its own day; a
result that states neither lies somewhere before it was issued. A time that is only partly known is
a range. A stamp with a time of day needs an offset in FHIR; one that came without was read by the
zone that its source is registered with, and intake tags it where none is. hl7.org/fhir/R4/
datatypes.html#dateTime, observation-definitions.html#Observation.effective_x_
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.mapping.doors import has_unknown_zone
from fhir_gateway.recognition.situation import ENDLESS

Json = Mapping[str, Any]


class Moment(NamedTuple):
    """A range of time (µs), which time it is, and "?" where its zone is not known."""

    low: int
    high: int
    time_of: str
    zone: str = ""


def clinical_time(resource: Json, zone: str, kind: str) -> Moment:
    """When the specimen was collected or the examination made.

    Without any such time the range ends when the report was issued.
    """
    own = "collected" if kind == "lab" else "performed"
    period = resource.get("effectivePeriod", {})
    for text, time_of in _stated(resource, own):
        found = time_range(text, zone)
        if found is not None:
            return Moment(*found, time_of, _doubt(resource, text))
    for text, time_of in ((period.get("end"), own), (resource.get("issued"), "issued")):
        bound = time_range(text, zone)
        if bound is not None:
            return Moment(0, bound[1], time_of, _doubt(resource, text))
    return Moment(0, ENDLESS, "")


def started(study: Json, zone: str) -> Moment:
    """When an imaging study was started."""
    text = study.get("started")
    found = time_range(text, zone)
    if found is None:
        return Moment(0, ENDLESS, "")
    return Moment(*found, "started", _doubt(study, text))


def _stated(resource: Json, own: str) -> Iterator[tuple[str | None, str]]:
    """The times that a result states, the surest first."""
    yield resource.get("effectiveDateTime"), own
    yield resource.get("effectiveInstant"), own
    yield resource.get("effectivePeriod", {}).get("start"), own
    yield min(resource.get("effectiveTiming", {}).get("event", ()), default=None), own
    for item in resource.get("contained", ()):
        if item.get("resourceType") == "Specimen":
            collection = item.get("collection", {})
            yield collection.get("collectedDateTime"), "collected"
            yield collection.get("collectedPeriod", {}).get("start"), "collected"


def _doubt(resource: Json, text: str | None) -> str:
    """ "?" for a time of day whose offset nobody wrote: the day alone is the same in any zone of
    the source, and stays a range."""
    if text is None or "T" not in text:
        return ""
    clock = text.partition("T")[2]
    written = clock.endswith("Z") or "+" in clock or "-" in clock
    return "" if written and not has_unknown_zone(resource) else "?"


def time_range(text: str | None, zone: str) -> tuple[int, int] | None:
    """The range of a date; None when there is none or when it is in no calendar."""
    if not text:
        return None
    try:
        return date_range(text, zone)
    except Invalid:
        return None


def instant(text: str | None, zone: str) -> int:
    """The first microsecond of a date, 0 without one."""
    found = time_range(text, zone)
    return found[0] if found is not None else 0
