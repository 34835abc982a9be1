"""Recognition facts: what one stored resource says of one catalogue item, as one flat row.

`derive` runs when a resource is stored and is pure: an Observation gives a fact for its code and
for each coded component; a DiagnosticReport gives its status to its results and studies, and a
fact of its own for an imaging item (or for a laboratory item while it has no results yet); an
ImagingStudy gives a fact that says whether images can be fetched, under the item "" when it
carries no catalogue coding. hl7.org/fhir/R4/observation.html, diagnosticreport.html,
imagingstudy.html

The bits of `Fact.flags` are listed in `recognition.model`. A time that is only partly known is a
range; a result that states no time lies somewhere before it was issued. A status counts as unknown
where a modifier extension or implicit rules may turn the meaning round: we know none of them
(hl7.org/fhir/R4/extensibility.html#modifierExtension).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.datatypes import Reference, date_range, parse_reference
from fhir_gateway.fhir.keys import key64
from fhir_gateway.recognition.model import (
    ABNORMAL,
    COMING,
    CRITICAL,
    DATA_ABSENT,
    IMAGES,
    NO_IMAGES,
    PENDING,
    PRINTED_MARK,
    TEXT_ONLY,
    VALUELESS,
)
from fhir_gateway.recognition.situation import ENDLESS
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import Derived, Fact, ReportLink
from fhir_gateway.terminology.catalogue import SYSTEMS, is_group
from fhir_gateway.terminology.specimen import canonical_specimen, specimen_of

MARK_URL = f"{CANONICAL}/StructureDefinition/recognition-mark"

Json = Mapping[str, Any]

#: HL7 v3 ObservationInterpretation (FHIR R4), and the codes of v2 table 0078 that it took over.
_CRITICAL_CODES = frozenset({"HH", "LL", "AA"})
_NORMAL_CODES = frozenset({"N", "NEG", "ND", "S", "NR", "EXP", "IND", "QCF", "TOX"})

#: SNOMED CT sides, DICOM letters, and what reports write. Lower case.
_SIDES: Mapping[str, str] = {
    "7771000": "L", "24028007": "R", "51440002": "B",
    "l": "L", "r": "R", "b": "B", "left": "L", "right": "R", "bilateral": "B", "both": "B",
    "左": "L", "左侧": "L", "右": "R", "右侧": "R", "双": "B", "双侧": "B",
}  # fmt: skip

#: Longest texts of a fact, in characters: a fact is one entry of an index, which has 2,704 bytes.
#: No item and no unit that anybody asks for comes near that.
_CODE_LENGTH, _NAME_LENGTH, _VALUE_LENGTH = 40, 100, 200


def derive(resource: dict[str, Any], derived: Derived, zone: str = "Asia/Shanghai") -> None:
    """Adds the facts and report links of a resource to `derived`. Other types add nothing."""
    reader = _READERS.get(resource.get("resourceType", ""))
    if reader is not None and resource.get("id"):
        reader(resource, derived, zone)


def _observation(resource: Json, derived: Derived, zone: str) -> None:
    parts = [resource, *resource.get("component", ())]
    coded = [(part, *code) for part in parts for code in _catalogue_codes([part.get("code")])]
    if not coded:
        return
    time, high = _clinical_time(resource, zone)
    mark = _mark(resource)
    for part, kind, item in coded:
        derived.facts.append(
            Fact(
                item=item,
                time=time,
                time_high=high,
                issued=_instant(resource.get("issued"), zone),
                kind=kind,
                status=_status(resource),
                issuer=_organization(resource.get("performer", ())),
                specimen=canonical_specimen(specimen_of(resource)),
                unit=_unit(part.get("valueQuantity", {}))[:_CODE_LENGTH],
                method=_concept_text(resource.get("method"))[:_NAME_LENGTH],
                value=_value(part)[:_VALUE_LENGTH],
                laterality=laterality([resource.get("bodySite")]),
                flags=_observation_flags(resource, part) | (PRINTED_MARK if mark else 0),
                mark=mark,
                source=f"Observation/{resource['id']}",
            )
        )


def _diagnostic_report(resource: Json, derived: Derived, zone: str) -> None:
    issued = _instant(resource.get("issued"), zone)
    status = _status(resource)
    results = list(_references(resource.get("result", ()), "Observation"))
    studies = _references(resource.get("imagingStudy", ()), "ImagingStudy")
    derived.links += [
        ReportLink(key64(reference.key), status, issued) for reference in (*results, *studies)
    ]
    codes = _catalogue_codes([resource.get("code")])
    codes = [(kind, item) for kind, item in codes if kind == "imaging" or not results]
    if not codes:
        return
    time, high = _clinical_time(resource, zone)
    mark = _mark(resource)
    for kind, item in codes:
        derived.facts.append(
            Fact(
                item=item,
                time=time,
                time_high=high,
                issued=issued,
                kind=kind,
                status=status,
                issuer=_organization(resource.get("performer", ())),
                specimen=canonical_specimen(specimen_of(resource)),
                unit="",
                method="",
                value="",
                laterality="",
                flags=_report_flags(status, kind) | (PRINTED_MARK if mark else 0),
                mark=mark,
                source=f"DiagnosticReport/{resource['id']}",
            )
        )


def _imaging_study(resource: Json, derived: Derived, zone: str) -> None:
    codes = _catalogue_codes(resource.get("procedureCode", ()))
    items = [item for kind, item in codes if kind == "imaging"] or [""]
    time, high = _range(resource.get("started"), zone) or (0, ENDLESS)
    series = resource.get("series", ())
    performers = [one.get("actor", {}) for part in series for one in part.get("performer", ())]
    mark = _mark(resource)
    for item in items:
        derived.facts.append(
            Fact(
                item=item,
                time=time,
                time_high=high,
                issued=0,
                kind="imaging",
                status=_status(resource),
                issuer=_organization(performers),
                specimen="",
                unit="",
                method="",
                value="",
                laterality=laterality([part.get("laterality") for part in series]),
                flags=_study_flags(resource) | (PRINTED_MARK if mark else 0),
                mark=mark,
                source=f"ImagingStudy/{resource['id']}",
            )
        )


_READERS = {
    "Observation": _observation,
    "DiagnosticReport": _diagnostic_report,
    "ImagingStudy": _imaging_study,
}


#: What is void stays void, whatever modifies it.
_VOID = frozenset({"cancelled", "entered-in-error"})


def _status(resource: Json) -> str:
    """The status, "unknown" where something may modify what the resource says."""
    status = str(resource.get("status", ""))
    if status in _VOID:
        return status
    inside = [one for name in _PARTS for one in resource.get(name, ())]
    if any(name in one for one in (resource, *inside) for name in _MODIFIERS):
        return "unknown"
    return status


_PARTS = ("component", "contained", "series")
_MODIFIERS = ("modifierExtension", "implicitRules")


def _catalogue_codes(concepts: Iterable[Json | None]) -> list[tuple[str, str]]:
    """(kind, item) of every catalogue coding, each item once."""
    found = {
        coding["code"][:_CODE_LENGTH]: SYSTEMS[coding["system"]]
        for concept in concepts
        for coding in (concept or {}).get("coding", ())
        if coding.get("system") in SYSTEMS and coding.get("code") and not is_group(coding["code"])
    }
    return [(kind, item) for item, kind in found.items()]


def _clinical_time(resource: Json, zone: str) -> tuple[int, int]:
    """When the specimen was collected or the examination made, as a range.

    Without any such time the range ends when the report was issued.
    """
    period = resource.get("effectivePeriod", {})
    timing = resource.get("effectiveTiming", {}).get("event", ())
    stated = (
        resource.get("effectiveDateTime"),
        resource.get("effectiveInstant"),
        period.get("start"),
        min(timing, default=None),
        *_collected(resource),
    )
    for text in stated:
        found = _range(text, zone)
        if found is not None:
            return found
    bound = _range(period.get("end"), zone) or _range(resource.get("issued"), zone)
    return (0, bound[1]) if bound is not None else (0, ENDLESS)


def _collected(resource: Json) -> Iterator[str | None]:
    for item in resource.get("contained", ()):
        if item.get("resourceType") == "Specimen":
            collection = item.get("collection", {})
            yield collection.get("collectedDateTime")
            yield collection.get("collectedPeriod", {}).get("start")


def _range(text: str | None, zone: str) -> tuple[int, int] | None:
    """The range of a date; None when there is none or when it is in no calendar."""
    if not text:
        return None
    try:
        return date_range(text, zone)
    except Invalid:
        return None


def _instant(text: str | None, zone: str) -> int:
    found = _range(text, zone)
    return found[0] if found is not None else 0


def _references(references: Iterable[Json], type: str) -> Iterator[Reference]:
    for reference in references:
        parsed = parse_reference(reference.get("reference", ""))
        if isinstance(parsed, Reference) and parsed.type == type:
            yield parsed


def _organization(references: Iterable[Json]) -> str:
    """Logical id of the first Organization referred to, "" when there is none."""
    return next((reference.id for reference in _references(references, "Organization")), "")


def _mark(resource: Json) -> str:
    for extension in resource.get("extension", ()):
        if extension.get("url") == MARK_URL:
            return str(extension.get("valueString", ""))[:_NAME_LENGTH]
    return ""


def _unit(quantity: Json) -> str:
    if quantity.get("system") == "http://unitsofmeasure.org" and quantity.get("code"):
        return str(quantity["code"])
    return str(quantity.get("unit") or quantity.get("code") or "")


def _value(part: Json) -> str:
    """The value as a card shows it; numbers keep their spelling."""
    if quantity := part.get("valueQuantity"):
        return f"{quantity.get('comparator', '')}{_spelled(quantity.get('value', ''))}"
    if concept := part.get("valueCodeableConcept"):
        return _concept_text(concept)
    if ratio := part.get("valueRatio"):
        sides = (_spelled(ratio.get(side, {}).get("value", "")) for side in _RATIO)
        return ":".join(sides)
    if bounds := part.get("valueRange"):
        return "-".join(_spelled(bounds.get(end, {}).get("value", "")) for end in ("low", "high"))
    for name in ("valueString", "valueInteger", "valueBoolean", "valueDateTime", "valueTime"):
        if name in part:
            return str(part[name])
    return ""


_RATIO = ("numerator", "denominator")


def _spelled(number: Any) -> str:
    return str(getattr(number, "spelling", number))


def _concept_text(concept: Json | None) -> str:
    concept = concept or {}
    first: Json = next(iter(concept.get("coding", ())), {})
    return str(concept.get("text") or first.get("display") or first.get("code") or "")


def laterality(concepts: Iterable[Json | None]) -> str:
    """R, L or B as Codings or CodeableConcepts say it; B when both sides are named; else ""."""
    sides = {
        _SIDES[text.lower()]
        for concept in concepts
        for text in _texts(concept or {})
        if text.lower() in _SIDES
    }
    return sides.pop() if len(sides) == 1 else "B" if sides else ""


def _texts(concept: Json) -> Iterator[str]:
    for coding in (concept, *concept.get("coding", ())):
        yield from (coding[name] for name in ("code", "display", "text") if name in coding)


def _observation_flags(resource: Json, part: Json) -> int:
    status = resource.get("status", "")
    codes = {
        coding.get("code")
        for concept in part.get("interpretation", ())
        for coding in concept.get("coding", ())
    }
    flags = CRITICAL if codes & _CRITICAL_CODES else 0
    flags |= ABNORMAL if codes - _CRITICAL_CODES - _NORMAL_CODES else 0
    flags |= PENDING if status in COMING else 0
    if "dataAbsentReason" in part:
        return flags | DATA_ABSENT
    if "valueString" in part:
        return flags | TEXT_ONLY
    if not any(name.startswith("value") for name in part) and not flags & PENDING:
        return flags | VALUELESS
    if part.get("valueQuantity", {"value": 0}).get("value") is None:
        return flags | VALUELESS
    return flags


def _report_flags(status: str, kind: str) -> int:
    if status in COMING:
        return PENDING
    return VALUELESS if kind == "lab" else 0


def _study_flags(resource: Json) -> int:
    """Images can be fetched when an endpoint is known; there are none when the study says zero."""
    if resource.get("status") in ("cancelled", "entered-in-error"):
        return NO_IMAGES
    series = resource.get("series", ())
    pending = PENDING if resource.get("status") == "registered" else 0
    if resource.get("numberOfInstances") == 0:
        return pending | NO_IMAGES
    if resource.get("endpoint") or any(part.get("endpoint") for part in series):
        return pending | IMAGES
    return pending
