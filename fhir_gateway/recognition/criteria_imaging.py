"""Criteria about imaging: what was examined, with which contrast, and whether it can be seen.

`contrast-comparable@2` looks at what was done and not at the order alone. `images-retrievable@2`
wants an endpoint that answered when it was last asked. `wider-examination@1` lets a wider
examination answer for a narrower item, where the rule set says which. docs/adr/0029.
"""

from __future__ import annotations

from typing import Any

from fhir_gateway.recognition.findings import NOT_APPLICABLE, PASSED, Finding
from fhir_gateway.recognition.model import CONTRADICTORY, Candidate
from fhir_gateway.recognition.parameters import ContrastRule, RegionRule, RetrievableImages
from fhir_gateway.recognition.situation import Situation
from fhir_gateway.recognition.values import Values
from fhir_gateway.terminology.catalogue import Item


def _own(s: Situation, c: Candidate) -> Item | None:
    """The catalogue entry of the result: the ordered one, or that of a wider examination."""
    return s.entry if c.item == s.ordered.item else s.items.get(c.item)


def contrast_comparable_2(s: Situation, c: Candidate, p: ContrastRule) -> Finding:
    """The contrast is the ordered one, as the images or the report say it."""
    own = _own(s, c)
    if s.entry is None or own is None or not own.contrast:
        return NOT_APPLICABLE
    if s.ordered.contrast and s.ordered.contrast != s.entry.contrast:
        return ("fail", "contrast-differs", None)
    if not c.contrast:
        return ("unknown", "contrast-unknown", None) if p.stated else PASSED
    return PASSED if c.contrast == own.contrast else ("fail", "contrast-differs", None)


def contrast_values_2(s: Situation, c: Candidate, p: Any) -> Values:
    """What was done, and what was ordered."""
    own = _own(s, c)
    done = c.contrast or (own.contrast if own else "")
    return {
        "contrast": done,
        "expected": s.ordered.contrast or (s.entry.contrast if s.entry else ""),
    }


def region_comparable(s: Situation, c: Candidate, p: RegionRule) -> Finding:
    """The images name the body part of the report's item, or one that may stand for it.

    Where they name another, report and images contradict each other, and nobody here can tell
    which of them is right.
    """
    own = _own(s, c)
    if own is None or not own.body_part_dicom or not c.region:
        return NOT_APPLICABLE
    if c.region == own.body_part_dicom or c.region in p.same.get(own.body_part_dicom, ()):
        return PASSED
    return ("unknown", "region-differs", None)


def region_values(s: Situation, c: Candidate, p: Any) -> Values:
    """The body part that the images name, and that of the item."""
    own = _own(s, c)
    return {"region": c.region, "expected": own.body_part_dicom if own else ""}


def examination_certain(s: Situation, c: Candidate, p: Any) -> Finding:
    """Reports and images of one accession number say the same item."""
    return ("unknown", "item-contradictory", None) if c.flags & CONTRADICTORY else PASSED


def images_retrievable_2(s: Situation, c: Candidate, p: RetrievableImages) -> Finding:
    """The images can be fetched: an active endpoint answered when it was last asked."""
    if c.retrievable:
        return PASSED
    return ("fail", "images-not-checked" if c.retrievable is None else "images-unreachable", None)


def retrievable_values(s: Situation, c: Candidate, p: RetrievableImages) -> Values:
    """The ground that a repeat has when the images cannot be had."""
    return {} if c.retrievable else {"ground": p.ground}


def wider_examination(s: Situation, c: Candidate, p: Any) -> Finding:
    """A wider examination answers for the ordered one: only those that may do so are looked at."""
    return NOT_APPLICABLE if c.item == s.ordered.item else PASSED


def wider_values(s: Situation, c: Candidate, p: Any) -> Values:
    """The item of the wider examination."""
    return {"item": c.item}
