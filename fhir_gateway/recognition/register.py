"""The register of quality evaluations: who passed for which items, where and when.

One evaluation round of one institution is a FHIR VerificationResult (target: the Organization;
validator: the quality control body; status validated or val-fail), with extensions for items,
areas, period, round and suspensions. `derive` turns it into rows; the register makes the mark,
whatever is printed on a report. hl7.org/fhir/R4/verificationresult.html, docs/adr/0011,
docs/adr/0024; tables are read in register_import.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from fhir_gateway.fhir.datatypes import Reference, parse_reference
from fhir_gateway.store.changes import Derived, Evaluation
from fhir_gateway.terminology.area import AREA_SYSTEM
from fhir_gateway.terminology.catalogue import SYSTEM_OF, SYSTEMS, Kind
from fhir_gateway.terminology.evaluation import (
    AREA_URL,
    CITY_WIDE_URL,
    ITEM_URL,
    OUTCOMES,
    PERIOD_URL,
    ROUND_URL,
    SCORE_URL,
    SUSPENSION_URL,
    Suspension,
    is_day,
    read_suspensions,
    spans,
    suspension_extension,
    values,
)

__all__ = [
    "AREA_URL",
    "ITEM_URL",
    "PERIOD_URL",
    "ROUND_URL",
    "Entry",
    "derive",
    "entries_of",
    "verification_result",
    "with_suspensions",
]

#: No item is longer; a longer text would not fit into a key of the register.
_CODE_LENGTH = 40


def derive(resource: dict[str, Any], derived: Derived) -> None:
    """Adds the rows of a VerificationResult that has an outcome.

    One for each institution, item, area and stretch of days in which it counts: a failed round
    counts throughout, of one that was passed the suspended days are cut out.
    """
    if resource.get("resourceType") != "VerificationResult":
        return
    derived.evaluations += [
        Evaluation(
            institution=entry.institution,
            item=entry.item[:_CODE_LENGTH],
            area=entry.area,
            start=start,
            end=end,
            passed=entry.passed,
            evaluator=entry.evaluator,
            round=entry.round,
        )
        for entry in entries_of(resource)
        for start, end in _counting(entry)
    ]


def _counting(entry: Entry) -> list[tuple[str, str]]:
    sound = [one for one in entry.suspensions if is_day(one.since)] if entry.passed else []
    if not sound:
        return [(entry.start, entry.end)]
    return spans(entry.start, entry.end, sound)


class Entry(NamedTuple):
    """What one evaluation says of one item of one institution in one area.

    `body` is the logical id of the evaluating body, "" when it was only named; `evaluator` its
    name. Days are inclusive, an empty `end` is open.
    """

    institution: str
    item: str
    kind: Kind
    area: str
    start: str
    end: str
    passed: bool
    evaluator: str
    body: str
    round: str
    score: str = ""
    city_wide: bool = False
    suspensions: tuple[Suspension, ...] = ()
    display: str = ""

    @property
    def family(self) -> tuple[str, ...]:
        """The round that it is of: institution, body, round (its first day without one), area."""
        body = self.body or self.evaluator
        return (self.institution, body, self.round or self.start, self.area)

    @property
    def said(self) -> tuple[Any, ...]:
        """What a table says of it: all but what came later."""
        return (self.start, self.end, self.passed, self.score, self.city_wide)


def entries_of(resource: Mapping[str, Any]) -> list[Entry]:
    """What a VerificationResult says, item by item; nothing when it has no outcome."""
    passed = OUTCOMES.get(resource.get("status", ""))
    if passed is None:
        return []
    extensions = resource.get("extension", ())
    period: dict[str, str] = next(iter(values(extensions, PERIOD_URL, "valuePeriod")), {})
    rounds = values(extensions, ROUND_URL, "valueString")
    codings = values(extensions, ITEM_URL, "valueCoding")
    items = [one for one in codings if one.get("system") in SYSTEMS]
    suspended = list(read_suspensions(extensions))
    evaluator, body = _evaluator(resource)
    return [
        Entry(
            institution=institution,
            item=item.get("code", ""),
            kind=SYSTEMS[item["system"]],
            area=area.get("code", ""),
            start=period.get("start", "")[:10],
            end=period.get("end", "")[:10],
            passed=passed,
            evaluator=evaluator,
            body=body,
            round=rounds[0] if rounds else "",
            score=next(iter(values(item.get("extension", ()), SCORE_URL, "valueString")), ""),
            city_wide=True in values(extensions, CITY_WIDE_URL, "valueBoolean"),
            suspensions=tuple(
                one for one, codes in suspended if not codes or item.get("code") in codes
            ),
            display=item.get("display", ""),
        )
        for institution in targets(resource)
        for item in items
        for area in values(extensions, AREA_URL, "valueCoding")
    ]


def targets(resource: Mapping[str, Any]) -> list[str]:
    """The institutions that a VerificationResult is about."""
    parsed = (parse_reference(t.get("reference", "")) for t in resource.get("target", ()))
    return [p.id for p in parsed if isinstance(p, Reference) and p.type == "Organization"]


def _evaluator(resource: Mapping[str, Any]) -> tuple[str, str]:
    """The quality control body: its display, else its reference; and its id where it has one."""
    for validator in resource.get("validator", ()):
        organization: Mapping[str, Any] = validator.get("organization", {})
        text = str(organization.get("reference", ""))
        parsed = parse_reference(text)
        body = parsed.id if isinstance(parsed, Reference) and parsed.type == "Organization" else ""
        return str(organization.get("display") or text), body
    return "", ""


def verification_result(id: str, entries: Sequence[Entry]) -> dict[str, Any]:
    """The VerificationResult of entries that differ in item, score and suspensions alone."""
    one = entries[0]
    extension: list[dict[str, Any]] = [
        {"url": ITEM_URL, "valueCoding": _coding(entry)} for entry in entries
    ]
    extension.append({"url": AREA_URL, "valueCoding": {"system": AREA_SYSTEM, "code": one.area}})
    period = {"start": one.start, "end": one.end}
    extension.append(
        {"url": PERIOD_URL, "valuePeriod": {name: day for name, day in period.items() if day}}
    )
    if one.round:
        extension.append({"url": ROUND_URL, "valueString": one.round})
    if one.city_wide:
        extension.append({"url": CITY_WIDE_URL, "valueBoolean": True})
    organization = {"reference": f"Organization/{one.body}"} if one.body else {}
    resource: dict[str, Any] = {
        "resourceType": "VerificationResult",
        "id": id,
        "extension": extension,
        "target": [{"reference": f"Organization/{one.institution}"}],
        "status": "validated" if one.passed else "val-fail",
        "statusDate": one.start,
        "validationType": {"coding": [_PRIMARY]},
        "validator": [{"organization": {**organization, "display": one.evaluator}}],
    }
    return with_suspensions(resource, {entry.item: entry.suspensions for entry in entries})


_PRIMARY = {
    "system": "http://terminology.hl7.org/CodeSystem/validation-type",
    "code": "primary",
}


def _coding(entry: Entry) -> dict[str, Any]:
    coding: dict[str, Any] = {"system": SYSTEM_OF[entry.kind], "code": entry.item}
    if entry.score:
        coding = {"extension": [{"url": SCORE_URL, "valueString": entry.score}], **coding}
    if entry.display:
        coding["display"] = entry.display
    return coding


def with_suspensions(
    resource: Mapping[str, Any], by_item: Mapping[str, Iterable[Suspension]]
) -> dict[str, Any]:
    """The resource with these suspensions of its items and no others; all else as it is."""
    extensions = resource.get("extension", ())
    codings = values(extensions, ITEM_URL, "valueCoding")
    of: dict[Suspension, list[Mapping[str, Any]]] = {}
    for coding in codings:
        for one in by_item.get(coding.get("code", ""), ()):
            of.setdefault(one, []).append({"system": coding["system"], "code": coding["code"]})
    kept = [one for one in extensions if one.get("url") != SUSPENSION_URL]
    for one, items in sorted(of.items(), key=lambda pair: pair[0]):
        kept.append(suspension_extension(one, () if len(items) == len(codings) else items))
    return {**resource, "extension": kept}


def resource_id(family: Sequence[str], number: int) -> str:
    """The id of a VerificationResult that was imported: that of its round, and a number in it."""
    name = "\n".join(family)
    return f"evaluation-{blake2b(name.encode(), digest_size=10).hexdigest()}-{number}"
