"""A quality evaluation as a FHIR VerificationResult: its extensions, and who may give it.

One resource is one outcome of one round of one institution: items, areas, first and last day,
passed or failed, who judged; and from which day on it was suspended or expired, and why.
hl7.org/fhir/R4/verificationresult.html, docs/adr/0011, docs/adr/0024. The rows of the register
are made in recognition.register.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date, timedelta
from typing import Any, NamedTuple

from fhir_gateway.security.evaluating_body import LEVELS, EvaluatingBody
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.area import Areas

_ROOT = f"{CANONICAL}/StructureDefinition"
ITEM_URL = f"{_ROOT}/evaluation-item"
AREA_URL = f"{_ROOT}/evaluation-area"
PERIOD_URL = f"{_ROOT}/evaluation-period"
ROUND_URL = f"{_ROOT}/evaluation-round"
SCORE_URL = f"{_ROOT}/evaluation-score"  # on the Coding of an item
CITY_WIDE_URL = f"{_ROOT}/evaluation-city-wide"
SUSPENSION_URL = f"{_ROOT}/evaluation-suspension"

#: VerificationResult.status that is an outcome; the others (in-process, attested) are not yet.
OUTCOMES: Mapping[str, bool] = {"validated": True, "val-fail": False, "reval-fail": False}

#: What an institution may say of itself. It is no outcome and makes no mark.
ASSERTED = "attested"

SUSPENDED, EXPIRED = "suspended", "expired"


class Suspension(NamedTuple):
    """Days on which an evaluation that was passed does not count.

    `since` is the first of them, `until` the last, "" while nobody has resumed it; `expired` is
    never resumed. `reason` and `resumed` are the operator's words.
    """

    kind: str
    since: str
    until: str
    reason: str
    resumed: str = ""


def values(extensions: Iterable[Mapping[str, Any]], url: str, name: str) -> list[Any]:
    """What the extensions of this url carry."""
    return [e[name] for e in extensions if e.get("url") == url and name in e]


def read_suspensions(
    extensions: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[Suspension, frozenset[str]]]:
    """Every suspension, and the codes of the items that it is of; none of them: all items."""
    for one in extensions:
        if one.get("url") != SUSPENSION_URL:
            continue
        parts = one.get("extension", ())
        texts = {part.get("url"): _text(part) for part in parts}
        codes = frozenset(
            part.get("valueCoding", {}).get("code", "")
            for part in parts
            if part.get("url") == "item"
        )
        yield (
            Suspension(
                texts.get("kind", SUSPENDED),
                texts.get("from", ""),
                texts.get("until", ""),
                texts.get("reason", ""),
                texts.get("resumed", ""),
            ),
            codes,
        )


def _text(part: Mapping[str, Any]) -> str:
    for name in ("valueCode", "valueDate", "valueString"):
        if name in part:
            return str(part[name])
    return ""


def suspension_extension(one: Suspension, items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A suspension as an extension; without items it is of the whole evaluation."""
    parts: list[dict[str, Any]] = [
        {"url": "kind", "valueCode": one.kind},
        {"url": "from", "valueDate": one.since},
    ]
    parts += [{"url": "until", "valueDate": one.until}] if one.until else []
    parts.append({"url": "reason", "valueString": one.reason})
    parts += [{"url": "resumed", "valueString": one.resumed}] if one.resumed else []
    parts += [{"url": "item", "valueCoding": dict(coding)} for coding in items]
    return {"url": SUSPENSION_URL, "extension": parts}


def spans(start: str, end: str, suspensions: Collection[Suspension]) -> list[tuple[str, str]]:
    """First and last days of the stretches in which an evaluation counts; "" is an open end.

    Days are those of the calendar; what is suspended is cut out of start..end.
    """
    left = [(start, end)]
    for one in suspensions:
        left = [piece for span in left for piece in _cut(span, one)]
    return left


def _cut(span: tuple[str, str], one: Suspension) -> Iterator[tuple[str, str]]:
    start, end = span
    until = "" if one.kind == EXPIRED else one.until
    if (end and one.since > end) or (until and start and until < start):
        yield span
        return
    if not start or start < one.since:
        yield start, day_before(one.since)
    if until and (not end or until < end):
        yield day_after(until), end


def day_before(day: str) -> str:
    """The day before a day of the calendar."""
    return (date.fromisoformat(day) - timedelta(days=1)).isoformat()


def day_after(day: str) -> str:
    """The day after a day of the calendar."""
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()


def is_day(text: str) -> bool:
    """Whether a text is a day of the calendar, YYYY-MM-DD."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def cities_of(area: str, areas: Areas) -> frozenset[str]:
    """The city that a district lies in; a municipality is its own city."""
    above = [areas.areas[code] for code in areas.within(area) if code in areas.areas]
    cities = [one.code for one in above if one.kind == "city"]
    return frozenset(cities or [one.code for one in above if one.kind == "province"])


def why_not(body: EvaluatingBody, area: str, areas: Areas, *, city_wide: bool = False) -> str:
    """Why a body cannot evaluate for an area; "" when it can.

    It speaks for its own area and all that lies in it. A district centre's evaluation counts for
    the whole city when it was given by the city's standard, which the row has to say.
    """
    reached = areas.within(area)
    if not reached:
        return f"{area} is no area of the table of areas"
    if body.area in reached:
        return ""
    if body.level == "district" and area in cities_of(body.area, areas):
        if city_wide:
            return ""
        return (
            f"{body.name} is a district centre: its evaluation counts for the whole of {area} only "
            "where it was given by the city's standard, which must be said (city-wide)"
        )
    return f"{body.name} evaluates for {body.area} and what lies in it, not for {area}"


def body_faults(body: EvaluatingBody, areas: Areas) -> list[str]:
    """What is wrong with the entry of a body, as sentences."""
    faults = []
    if not body.name:
        faults.append("name: must not be empty")
    kinds = LEVELS.get(body.level)
    if kinds is None:
        faults.append(f"level: must be one of {', '.join(LEVELS)}")
    if not areas.within(body.area):
        faults.append(f"area: {body.area} is no area of the table of areas")
    elif kinds is not None:
        listed = areas.areas.get(body.area)
        kind = listed.kind if listed else "district"
        if kind not in kinds:
            faults.append(f"area: {body.area} is a {kind}, and a {body.level} body speaks for none")
    return faults
