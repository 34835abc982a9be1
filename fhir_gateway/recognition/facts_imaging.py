"""What an examination says of side, contrast and region; and by what its parts are joined.

Sides are read off codes, off post-coordinated SNOMED CT expressions (laterality 272741003), and off
plain words. R4's ImagingStudy has no element for contrast: DICOM's Contrast/Bolus Agent
(0018,0010) stands in an extension of the series, and the words of a hospital's own code say what
was ordered. What nobody says is unknown and never "none". hl7.org/fhir/R4/imagingstudy.html,
PS3.3 C.7.6.4, PS3.16 Annex L, docs/facts.md
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from fhir_gateway.fhir.datatypes import Reference, parse_reference
from fhir_gateway.mapping.doors import CONTRAST_URL
from fhir_gateway.mapping.tables import Row
from fhir_gateway.recognition.facts_more import LONGEST, clean
from fhir_gateway.terminology.catalogue import Catalogue

Json = Mapping[str, Any]

_ACCESSION_SYSTEM = "http://terminology.hl7.org/CodeSystem/v2-0203"

#: SNOMED CT sides, DICOM letters, and what reports write. Lower case.
_SIDES: Mapping[str, str] = {
    "7771000": "L", "24028007": "R", "51440002": "B",
    "419161000": "L", "419465000": "R",  # unilateral left and right
    "l": "L", "r": "R", "b": "B", "left": "L", "right": "R", "bilateral": "B", "both": "B",
    "左": "L", "左侧": "L", "右": "R", "右侧": "R", "双": "B", "双侧": "B",
}  # fmt: skip

#: 272741003 is SNOMED CT's attribute of laterality; a term may stand between bars behind a code.
_POSTCOORDINATED = re.compile(r"272741003\s*(?:\|[^|]*\|)?\s*=\s*(7771000|24028007|51440002)(?!\d)")
#: A side in a name. The heart's chambers have sides and are no pair; 双能 and 双源 are machines.
_LEFT = re.compile(r"左(?!右|心|室|房|冠|主干)|\bleft\b(?! (?:heart|ventric|atri|coronary|main))")
_RIGHT = re.compile(r"(?<!左)右(?!心|室|房|冠)|\bright\b(?! (?:heart|ventric|atri|coronary))")
_BOTH = re.compile(
    r"双侧|两侧|左右|双(?=[乳肾肺眼耳膝肘肩髋踝腕手足脚指趾上下腿臂前股胫锁颈髂腹膈额颞])"
    r"|\bbilateral\b|\bboth\b"
)

_PLAIN = re.compile(
    r"平扫|[非无不]增强|无对比剂|without (?:iv |intravenous )?contrast|\bplain\b|\bw/o contrast|"
    r"\bnon-?contrast\b|\bunenhanced\b"
)
_ENHANCED = re.compile(
    r"(?<![非无不])增强|强化扫描|\bc\+|\bce-?(?=ct|mr)|"
    r"(?<!without )(?<!without iv )(?<!without intravenous )(?<!w/o )(?<!non-)(?<!non)(?<!no )"
    r"\b(?:with |and with |w/ ?)(?:iv |intravenous )?contrast|\benhanced\b|"
    r"without (?:and|&) with|with (?:and|&) without"
)
_BOTH_WAYS = re.compile(r"(?:without (?:and|&) with|with (?:and|&) without)")

#: What scanners write into (0018,0010) when nothing was given.
_NO_AGENT = frozenset({"none", "no", "n", "without", "无", "未用", "未使用", "不使用", "平扫"})


def laterality(concepts: Iterable[Json | None]) -> str:
    """R, L or B as Codings or CodeableConcepts say it; B when both sides are named; else ""."""
    sides = {
        side for concept in concepts for text in _texts(concept or {}) if (side := _side(text))
    }
    return sides.pop() if len(sides) == 1 else "B" if sides else ""


@lru_cache(maxsize=4_096)
def _side(text: str) -> str:
    """The side that one code or word says."""
    folded = unicodedata.normalize("NFKC", text).casefold().strip()
    if folded in _SIDES:
        return _SIDES[folded]
    if coded := {_SIDES[code] for code in _POSTCOORDINATED.findall(folded)}:
        return coded.pop() if len(coded) == 1 else "B"
    if _BOTH.search(folded):
        return "B"
    left, right = bool(_LEFT.search(folded)), bool(_RIGHT.search(folded))
    return "B" if left and right else "L" if left else "R" if right else ""


def _texts(concept: Json) -> Iterator[str]:
    for coding in (concept, *concept.get("coding", ())):
        yield from (coding[name] for name in ("code", "display", "text") if name in coding)


def own_words(concept: Json | None, systems: Iterable[str]) -> Iterator[str]:
    """What the sender's own codings and text say; not those of the systems."""
    concept = concept or {}
    known = frozenset(systems)
    for coding in concept.get("coding", ()):
        if coding.get("system") not in known and coding.get("display"):
            yield str(coding["display"])
    if concept.get("text"):
        yield str(concept["text"])


def side_of_words(texts: Iterable[str]) -> str:
    """The side that names of an examination say; "" where they contradict each other."""
    sides = {_side(text) for text in texts} - {""}
    return sides.pop() if len(sides) == 1 else ""


def contrast_of_words(texts: Iterable[str]) -> str:
    """none, with or without-with as names of an examination say it; "" where they do not, or
    contradict each other."""
    found = {_contrast(text) for text in texts} - {""}
    return found.pop() if len(found) == 1 else ""


@lru_cache(maxsize=4_096)
def _contrast(text: str) -> str:
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    if _BOTH_WAYS.search(folded):
        return "without-with"
    plain, enhanced = bool(_PLAIN.search(folded)), bool(_ENHANCED.search(folded))
    if plain and enhanced:
        return "without-with"
    return "none" if plain else "with" if enhanced else ""


def contrast_of_study(study: Json) -> str:
    """with, when DICOM names an agent in any series; none, when all that say anything say that
    none was given; else ""."""
    agents = [
        str(extension.get("valueString", "")).strip().casefold()
        for series in study.get("series", ())
        for extension in series.get("extension", ())
        if extension.get("url") == CONTRAST_URL
    ]
    said = [agent for agent in agents if agent]
    if any(agent not in _NO_AGENT for agent in said):
        return "with"
    return "none" if said else ""


class BodyParts(NamedTuple):
    """Terms of Body Part Examined (PS3.16 Annex L) that are known, and those of SNOMED CT codes."""

    terms: frozenset[str] = frozenset()
    by_code: Mapping[str, str] = MappingProxyType({})

    def term(self, site: Json, *, from_dicom: bool) -> str:
        """The term of a body site: what DICOM itself said, else of its code or word; "" for what
        is no term, because another spelling of a region is not another region."""
        said = clean(str(site.get("display") or site.get("code") or "")).upper()
        if from_dicom or said in self.terms:
            return said
        code = str(site.get("code", ""))
        return self.by_code.get(code, "") or (code if code in self.terms else "")


NO_PARTS = BodyParts()


def body_parts(catalogue: Catalogue, received: Mapping[str, Row]) -> BodyParts:
    """The terms of the catalogue and of the table of what DICOM headers say (mappings/dicom)."""
    items = (*catalogue.items.values(), *catalogue.retired.values())
    by_code: dict[str, str] = {}
    for term, row in received.items():
        if term == term.upper():  # tables know folded spellings too
            by_code.setdefault(row.code, term)
    named = {item.body_part_dicom for item in items if item.body_part_dicom}
    return BodyParts(frozenset(named | set(by_code.values())), MappingProxyType(by_code))


def region_of_study(study: Json, parts: BodyParts, *, from_dicom: bool) -> str:
    """Body Part Examined of its series, upper case, several joined by +."""
    regions = {
        parts.term(site, from_dicom=from_dicom)
        for series in study.get("series", ())
        if (site := series.get("bodySite"))
    }
    return "+".join(sorted(regions - {""}))[:LONGEST]


def accession_of(resource: Json) -> str:
    """The accession number: the first identifier of type ACSN (HL7 table 0203)."""
    for identifier in resource.get("identifier", ()):
        codings = identifier.get("type", {}).get("coding", ())
        if any(
            coding.get("code") == "ACSN" and coding.get("system", "") in ("", _ACCESSION_SYSTEM)
            for coding in codings
        ):
            return clean(str(identifier.get("value", "")))
    return ""


def endpoints_of(study: Json) -> str:
    """Logical ids of the Endpoints by which its images can be fetched, parted by blanks."""
    parts = (study, *study.get("series", ()))
    parsed = (
        parse_reference(one.get("reference", ""))
        for part in parts
        for one in part.get("endpoint", ())
    )
    ids = [one.id for one in parsed if isinstance(one, Reference) and one.type == "Endpoint"]
    return " ".join(dict.fromkeys(ids[:_MOST_ENDPOINTS]))


#: Of so many Endpoints at most: a row is one entry of an index.
_MOST_ENDPOINTS = 4
