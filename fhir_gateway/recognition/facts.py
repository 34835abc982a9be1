"""Recognition facts: what one stored resource says of one catalogue item, as one flat row.

`derive` runs when a resource is stored and is pure: an Observation gives a fact for its code and
for each coded component; a DiagnosticReport gives its status, its printed mark and its panel to its
results and studies, and a fact of its own for an imaging item (or for a laboratory item while it
has no results yet); an ImagingStudy gives a fact that says how images can be fetched, under the
item "" when it carries no catalogue coding. What shares an accession number is told under the item
"" beside, so that it is found whatever was ordered. hl7.org/fhir/R4/observation.html,
diagnosticreport.html, imagingstudy.html; every field: docs/facts.md

The bits of `Fact.flags` are listed in `recognition.model`. A status counts as unknown where a
modifier extension or implicit rules may turn the meaning round: we know none of them
(hl7.org/fhir/R4/extensibility.html#modifierExtension).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fhir_gateway.fhir.datatypes import Reference, parse_reference
from fhir_gateway.fhir.keys import key64
from fhir_gateway.mapping.doors import door_of
from fhir_gateway.recognition.facts_imaging import (
    NO_PARTS,
    BodyParts,
    accession_of,
    contrast_of_study,
    contrast_of_words,
    endpoints_of,
    laterality,
    own_words,
    region_of_study,
    side_of_words,
)
from fhir_gateway.recognition.facts_more import LinkMore, More, clean
from fhir_gateway.recognition.facts_time import clinical_time, instant, started
from fhir_gateway.recognition.facts_value import (
    concept_text,
    instrument_of,
    interval_of,
    observation_flags,
    quantity_of,
    unit_of,
    value_of,
)
from fhir_gateway.recognition.model import (
    COMING,
    IMAGES,
    NO_IMAGES,
    PENDING,
    PRINTED_MARK,
    VALUELESS,
)
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import Derived, Fact, ReportLink
from fhir_gateway.terminology.catalogue import SYSTEMS, Catalogue, Item, is_group
from fhir_gateway.terminology.catalogue_resource import PANEL_SYSTEM
from fhir_gateway.terminology.specimen import canonical_specimen, specimen_of

__all__ = ["MARK_URL", "derive", "laterality"]

MARK_URL = f"{CANONICAL}/StructureDefinition/recognition-mark"

Json = Mapping[str, Any]

#: Longest texts of a fact, in characters: a fact is one entry of an index, which has 2,704 bytes.
#: No item and no unit that anybody asks for comes near that.
_CODE_LENGTH, _NAME_LENGTH, _VALUE_LENGTH = 40, 100, 200

#: Systems whose words are the catalogue's own and say nothing new of an examination.
_OURS = (*SYSTEMS, PANEL_SYSTEM)


class _Setting(NamedTuple):
    """What facts are read by, beside the resource: the zone of days, and the catalogue."""

    zone: str
    catalogue: Catalogue | None
    parts: BodyParts

    def item(self, code: str) -> Item | None:
        """The catalogue's entry, also of an item that was retired."""
        known = self.catalogue
        return (known.items.get(code) or known.retired.get(code)) if known else None


def derive(
    resource: dict[str, Any],
    derived: Derived,
    zone: str = "Asia/Shanghai",
    catalogue: Catalogue | None = None,
    parts: BodyParts = NO_PARTS,
) -> None:
    """Adds the facts and report links of a resource to `derived`. Other types add nothing.

    Without a catalogue nothing is said that stands there: quantities in its units, regions,
    contrast and panels by name. `parts` are the names that body sites are known by.
    """
    reader = _READERS.get(resource.get("resourceType", ""))
    if reader is not None and resource.get("id"):
        reader(resource, derived, _Setting(zone, catalogue, parts))


def _observation(resource: Json, derived: Derived, setting: _Setting) -> None:
    parts = [resource, *resource.get("component", ())]
    coded = [(part, codes) for part in parts if (codes := _catalogue_codes([part.get("code")]))]
    for part, codes in coded:
        status = _status(resource)
        if len(codes) > 1 and status not in _VOID:  # one value cannot be of two items
            status = "unknown"
        for kind, item in codes:
            _result_of(resource, part, (kind, item, status), derived, setting)


def _result_of(
    resource: Json, part: Json, told: tuple[str, str, str], derived: Derived, setting: _Setting
) -> None:
    """The fact of a result, or of one of its components, under one item."""
    (kind, item, status), mark = told, _mark(resource)
    moment = clinical_time(resource, setting.zone, kind)
    derived.facts.append(
        Fact(
            item=item,
            time=moment.low,
            time_high=moment.high,
            issued=instant(resource.get("issued"), setting.zone),
            kind=kind,
            status=status,
            issuer=_organization(resource.get("performer", ())),
            specimen=canonical_specimen(specimen_of(resource)),
            unit=unit_of(part.get("valueQuantity", {}))[:_CODE_LENGTH],
            method=concept_text(resource.get("method"))[:_NAME_LENGTH],
            value=value_of(part)[:_VALUE_LENGTH],
            laterality=laterality([resource.get("bodySite")]),
            flags=observation_flags(resource, part) | (PRINTED_MARK if mark else 0),
            mark=mark,
            source=f"Observation/{resource['id']}",
            more=_more_of_result(resource, part, moment, setting.item(item)).packed(),
        )
    )


def _more_of_result(resource: Json, part: Json, moment: Any, entry: Item | None) -> More:
    quantity, unit = quantity_of(part, entry.ucum_unit if entry else "")
    return More(
        time_of=moment.time_of,
        zone=moment.zone,
        quantity=quantity,
        unit=unit,
        instrument=instrument_of(resource),
        interval=interval_of(part),
        door=_door(resource),
    )


def _diagnostic_report(resource: Json, derived: Derived, setting: _Setting) -> None:
    issued = instant(resource.get("issued"), setting.zone)
    status, mark = _status(resource), _mark(resource)
    results = list(_references(resource.get("result", ()), "Observation"))
    studies = _references(resource.get("imagingStudy", ()), "ImagingStudy")
    said = LinkMore(mark, _panel(resource, setting.catalogue)).packed()
    derived.links += [
        ReportLink(key64(reference.key), status, issued, said) for reference in (*results, *studies)
    ]
    codes = _catalogue_codes([resource.get("code")])
    imaging = [item for kind, item in codes if kind == "imaging"]
    codes = [(kind, item) for kind, item in codes if kind == "imaging" or not results]
    if not codes:
        return
    accession = accession_of(resource)
    named = clean(" ".join(imaging)) if accession else ""
    for kind, item in codes:
        more = _more_of_report(resource, setting.item(item))
        more = more._replace(accession=accession, item=named)
        derived.facts.append(
            _examination(resource, setting, kind, item, more, _report_flags(status, kind))
        )
    if accession and imaging:
        beside = More(accession=accession, item=named)
        derived.facts.append(_examination(resource, setting, "imaging", "", beside, 0))


def _more_of_report(resource: Json, entry: Item | None) -> More:
    words = list(own_words(resource.get("code"), _OURS))
    imaging = entry is not None and entry.kind == "imaging"
    return More(
        region=entry.body_part_dicom if entry and imaging else "",
        contrast=contrast_of_words(words) or (entry.contrast if entry and imaging else ""),
        door=_door(resource),
    )


def _imaging_study(resource: Json, derived: Derived, setting: _Setting) -> None:
    codes = _catalogue_codes(resource.get("procedureCode", ()))
    items = [item for kind, item in codes if kind == "imaging"]
    accession = accession_of(resource)
    more = More(
        region=region_of_study(resource, setting.parts, from_dicom=door_of(resource) == "dicom"),
        contrast=contrast_of_study(resource),
        accession=accession,
        door=_door(resource),
        endpoints=endpoints_of(resource),
        item=clean(" ".join(items)) if accession else "",
    )
    flags = _study_flags(resource)
    places = [*items, *([""] if accession or not items else [])]
    for item in places:
        derived.facts.append(_examination(resource, setting, "imaging", item, more, flags))


def _examination(
    resource: Json, setting: _Setting, kind: str, item: str, more: More, flags: int
) -> Fact:
    """The fact of a report or a study under one item."""
    is_study = resource["resourceType"] == "ImagingStudy"
    zone, mark = setting.zone, _mark(resource)
    moment = started(resource, zone) if is_study else clinical_time(resource, zone, kind)
    performers = _performers_of_series(resource) if is_study else resource.get("performer", ())
    return Fact(
        item=item,
        time=moment.low,
        time_high=moment.high,
        issued=0 if is_study else instant(resource.get("issued"), zone),
        kind=kind,
        status=_status(resource),
        issuer=_organization(performers),
        specimen="" if is_study else canonical_specimen(specimen_of(resource)),
        unit="",
        method="",
        value="",
        laterality=_side(resource),
        flags=flags | (PRINTED_MARK if mark else 0),
        mark=mark,
        source=f"{resource['resourceType']}/{resource['id']}",
        more=more._replace(time_of=moment.time_of, zone=moment.zone).packed(),
    )


_READERS = {
    "Observation": _observation,
    "DiagnosticReport": _diagnostic_report,
    "ImagingStudy": _imaging_study,
}


#: What is void stays void, whatever modifies it.
_VOID = frozenset({"cancelled", "entered-in-error"})


def _status(resource: Json) -> str:
    """The status, "unknown" where something may modify what the resource says, or whom of."""
    status = str(resource.get("status", ""))
    if status in _VOID:
        return status
    if _is_of_another(resource):
        return "unknown"
    inside = [one for name in _PARTS for one in resource.get(name, ())]
    if any(name in one for one in (resource, *inside) for name in _MODIFIERS):
        return "unknown"
    return status


def _is_of_another(resource: Json) -> bool:
    """Whether the result is about somebody or something beside the patient in whose record it
    stands: a foetus, a donor, a device (observation-definitions.html#Observation.focus)."""
    about = resource.get("subject", {}).get("reference")
    return any(one.get("reference") != about for one in resource.get("focus", ()))


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


def _panel(report: Json, catalogue: Catalogue | None) -> str:
    """The usual panel that a report is: by its code, else by its name; "" for any other."""
    concept: Json = report.get("code", {})
    for coding in concept.get("coding", ()):
        if coding.get("system") == PANEL_SYSTEM and coding.get("code"):
            return str(coding["code"])[:_CODE_LENGTH]
    words = {_folded(word) for word in own_words(concept, _OURS)} if catalogue else set()
    found = [
        panel.code
        for panel in (catalogue.panels.values() if catalogue and words else ())
        if _folded(panel.name_zh) in words or _folded(panel.name_en) in words
    ]
    return found[0] if len(found) == 1 else ""


def _folded(name: str) -> str:
    return "".join(name.split()).casefold()


def _references(references: Iterable[Json], type: str) -> Iterator[Reference]:
    for reference in references:
        parsed = parse_reference(reference.get("reference", ""))
        if isinstance(parsed, Reference) and parsed.type == type:
            yield parsed


def _organization(references: Iterable[Json]) -> str:
    """Logical id of the first Organization referred to, "" when there is none."""
    return next((reference.id for reference in _references(references, "Organization")), "")


def _performers_of_series(study: Json) -> list[Json]:
    return [
        one.get("actor", {})
        for series in study.get("series", ())
        for one in series.get("performer", ())
    ]


def _mark(resource: Json) -> str:
    for extension in resource.get("extension", ()):
        if extension.get("url") == MARK_URL:
            return clean(str(extension.get("valueString", "")), _NAME_LENGTH)
    return ""


def _door(resource: Json) -> str:
    """The door, "" for the usual one."""
    door = door_of(resource)
    return "" if door == "fhir" else door


def _side(resource: Json) -> str:
    """The side of a study's series; of a report, what its sender's own name for it says."""
    if resource["resourceType"] == "ImagingStudy":
        series = resource.get("series", ())
        return laterality(
            [part.get(name) for part in series for name in ("laterality", "bodySite")]
        )
    return side_of_words(own_words(resource.get("code"), _OURS))


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
