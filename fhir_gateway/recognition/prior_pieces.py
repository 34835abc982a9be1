"""One result as parts of a Parameters resource, joined from pieces that are made once and kept.

Most of what is told of a result was told of another one just before: the same issuer, day, unit,
status, mark. Of each result only its name, its value and its place are new.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.fhir.datatypes import DAY, local_day
from fhir_gateway.fhir.wire import instant, render
from fhir_gateway.recognition.criteria_mark import standing_2
from fhir_gateway.recognition.examinations import Register
from fhir_gateway.recognition.facts_more import SAME, link_more_of, more_of
from fhir_gateway.recognition.model import ABNORMAL, CRITICAL, Candidate
from fhir_gateway.recognition.prior_filter import is_pending, is_void, shown_status
from fhir_gateway.recognition.prior_results import Examination
from fhir_gateway.recognition.situation import Situation
from fhir_gateway.recognition.spell import exam_time
from fhir_gateway.security.institution import Institution
from fhir_gateway.store.changes import Evaluation
from fhir_gateway.store.results_sql import ResultRow

UCUM = "http://unitsofmeasure.org"

#: Longer values are words, which do not come again.
_KEPT = 40

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{1,30})?")


class Frame(NamedTuple):
    """What all results of a page share."""

    situation: Situation
    institutions: Mapping[str, Institution]
    zone: str
    now: int
    several: bool  # records
    examinations: Mapping[tuple[str, str], Examination]
    register: Register
    unevaluated: str  # the standing of an issuer of whom the register has nothing
    unknown: str  # that of no issuer


class Counted(NamedTuple):
    """How the window of an item is counted."""

    days: int | None
    source: str
    from_issue: bool
    hours: bool


def part(name: str, element: str, value: Any) -> bytes:
    """One parameter with its value."""
    return render({"name": name, element: value})


def result_of(
    frame: Frame, one: ResultRow, window: Counted, unit: str, outcomes: Mapping[str, str]
) -> bytes:
    """A result of an item; `unit` is the catalogue's, `outcomes` are by the name of the result."""
    exam = frame.examinations.get((one.source, one.item)) if one.kind == "imaging" else None
    candidate = exam.candidate if exam is not None else None
    more = more_of(one.more)
    time_of = more.time_of if candidate is None else candidate.time_of
    zone_known = not more.zone if candidate is None else candidate.zone_known
    issuer = frame.institutions.get(one.issuer)
    pieces = [
        f'{{"name":"result","part":[{{"name":"reference","valueReference":{{"reference":'
        f'"{one.source}/_history/{one.version}"}}}}'.encode(),
        _times(one.time, one.time_high, time_of, zone_known, one.issued, frame.zone),
        _said(one.status, one.report_status, one.flags, one.issuer,
              issuer.name if issuer is not None else "", _standing(frame, one)),
    ]  # fmt: skip
    if one.value:
        number = one.value if more.quantity == SAME else more.quantity
        own = one.unit if more.unit == SAME else more.unit
        tell = _value if len(one.value) <= _KEPT else _value.__wrapped__
        pieces.append(tell(one.value, one.unit, number if own == unit else "", unit))
    if window.days is not None:
        pieces.append(_left(one, window, frame))
    if one.report_source:
        pieces.append(_reference("report", one.report_source))
    if frame.several:
        pieces.append(_reference("patient", f"Patient/{one.patient}"))
    for study in exam.studies if exam is not None else ():
        pieces.append(_reference("study", study))
    pieces.append(_rest(one) if candidate is None else _of_images(candidate))
    if outcome := outcomes.get(one.source, ""):
        pieces.append(_coded("outcome", outcome))
    pieces.append(b"]}")
    return b"".join(pieces)


class Judged(msgspec.Struct, frozen=True, gc=False):
    """What the mark of a result depends on."""

    issuer: str
    time: int
    time_high: int
    evaluations: tuple[Evaluation, ...]


def _standing(frame: Frame, one: ResultRow) -> str:
    """Whether the register makes a mark that reaches the receiver, at the day of the exam."""
    rows = frame.register.get((one.issuer, one.item))
    if not rows:
        return frame.unevaluated if one.issuer else frame.unknown
    judged: Any = Judged(one.issuer, one.time, one.time_high, rows)
    return standing_2(frame.situation, judged)


@lru_cache(maxsize=4_096)
def _reference(name: str, reference: str) -> bytes:
    """Names are logical ids of ours, which need no escape."""
    return f',{{"name":"{name}","valueReference":{{"reference":"{reference}"}}}}'.encode()


@lru_cache(maxsize=4_096)
def _coded(name: str, code: str) -> bytes:
    return b"," + part(name, "valueCode", code)


@lru_cache(maxsize=32_768)
def _times(time: int, high: int, time_of: str, zone_known: bool, issued: int, zone: str) -> bytes:
    """When it was collected or examined, as exactly as that is known, and issued."""
    parts = []
    if text := exam_time(_Timed(time, high), zone):  # type: ignore[arg-type]  # it has the times
        parts.append(part("time", "valueDateTime", text))
    if time_of:
        parts.append(part("time-of", "valueCode", time_of))
    if not zone_known:
        parts.append(part("zone-known", "valueBoolean", False))
    if issued:
        parts.append(part("issued", "valueInstant", instant(issued)))
    return b"".join(b"," + one for one in parts)


class _Timed(NamedTuple):
    time: int
    time_high: int


@lru_cache(maxsize=8_192)
def _said(
    status: str, report_status: str, flags: int, issuer: str, name: str, standing: str
) -> bytes:
    """The status, whether it is taken back or still to come, what stands out, issuer and mark."""
    void = is_void(status, report_status)
    parts = [part("status", "valueCode", shown_status(status, report_status))]
    said = {"void": void, "pending": is_pending(flags, report_status) and not void}
    parts += [part(name, "valueBoolean", True) for name, is_so in said.items() if is_so]
    if flags & (CRITICAL | ABNORMAL):
        parts.append(part("flag", "valueCode", "critical" if flags & CRITICAL else "abnormal"))
    if issuer:
        reference = {"reference": f"Organization/{issuer}"} | ({"display": name} if name else {})
        parts.append(part("issuer", "valueReference", reference))
    parts.append(part("mark", "valueCode", standing))
    return b"".join(b"," + one for one in parts)


@lru_cache(maxsize=32_768)
def _value(value: str, spelled: str, number: str, unit: str) -> bytes:
    """The value as spelled, and the number in the catalogue's unit where it is one of them."""
    text = render(f"{value} {spelled}" if spelled else value)
    piece = b',{"name":"value","valueString":' + text + b"}"
    if number and _NUMBER.fullmatch(number):
        return piece + _quantity(unit) % number.encode()
    return piece


@lru_cache(maxsize=1_024)
def _quantity(unit: str) -> bytes:
    """A number in the catalogue's unit, with a place for the number as it is spelled."""
    rest = render({"unit": unit, "system": UCUM, "code": unit})[1:].replace(b"%", b"%%")
    return b',{"name":"quantity","valueQuantity":{"value":%b,' + rest + b"}"


def _left(one: ResultRow, window: Counted, frame: Frame) -> bytes:
    """How long the result may still be used, by the window alone; nothing without a window."""
    start = one.issued if window.from_issue else one.time
    if window.days is None or not start:
        return b""
    if window.hours:
        return _until(start + window.days * DAY, frame.now)
    return _days_left(_day(start, frame.zone), window.days, frame.situation.today)


@lru_cache(maxsize=32_768)
def _day(us: int, zone: str) -> int:
    return local_day(us, zone).toordinal()


@lru_cache(maxsize=16_384)
def _days_left(day: int, days: int, today: int) -> bytes:
    """The window of calendar days, of which `day` is the first."""
    last = min(day + days, date.max.toordinal())
    return _in_window(part("window-end", "valueDate", date.fromordinal(last).isoformat()),
                      last - today, last >= today)  # fmt: skip


def _until(end: int, now: int) -> bytes:
    """The window of so many times 24 hours, which ends at a moment."""
    return _in_window(part("window-end", "valueDateTime", instant(end)), (end - now) // DAY,
                      end > now)  # fmt: skip


def _in_window(end: bytes, left: int, inside: bool) -> bytes:
    parts = [end, part("days-left", "valueInteger", left)]
    return b"".join(b"," + one for one in (*parts, part("in-window", "valueBoolean", inside)))


def _rest(one: ResultRow) -> bytes:
    """What few results say; the pieces are the same for most of them."""
    return _of_words(one.specimen, one.method, one.laterality, one.more, one.report_more)


@lru_cache(maxsize=8_192)
def _of_words(specimen: str, method: str, side: str, packed: str, of_report: str) -> bytes:
    more = more_of(packed)
    door = more.door or ("fhir" if packed else "")
    panel = link_more_of(of_report).panel
    return _others(specimen, method, more.instrument, side, "", "", panel, more.interval, door,
                   None)  # fmt: skip


def _of_images(one: Candidate) -> bytes:
    """The same of an examination, which has its words from report and studies together."""
    return _others(
        one.specimen, one.method, one.instrument, one.laterality, one.region, one.contrast,
        one.panel, one.interval, one.door, one.retrievable,
    )  # fmt: skip


_WORDS = (
    ("specimen", "valueString"), ("method", "valueString"), ("instrument", "valueString"),
    ("laterality", "valueCode"), ("region", "valueString"), ("contrast", "valueCode"),
    ("panel", "valueCode"), ("interval", "valueCode"), ("door", "valueCode"),
    ("images", "valueBoolean"),
)  # fmt: skip


@lru_cache(maxsize=8_192)
def _others(*said: str | bool | None) -> bytes:
    return b"".join(
        b"," + part(name, element, value)
        for (name, element), value in zip(_WORDS, said, strict=True)
        if value not in ("", None)
    )
