"""What a result says of its value: spelling, unit, the catalogue's unit, flags, reference interval.

The spelling stays what was sent; the quantity beside it is the same number in the catalogue's UCUM
unit where that can be said exactly, and nothing where it cannot. hl7.org/fhir/R4/observation.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_gateway.recognition.facts_more import SAME, clean
from fhir_gateway.recognition.model import (
    ABNORMAL,
    COMING,
    CRITICAL,
    DATA_ABSENT,
    PENDING,
    TEXT_ONLY,
    VALUELESS,
)
from fhir_gateway.terminology.quantity import convert

Json = Mapping[str, Any]

UCUM = "http://unitsofmeasure.org"

#: HL7 v3 ObservationInterpretation (FHIR R4), and the codes of v2 table 0078 that it took over.
_CRITICAL_CODES = frozenset({"HH", "LL", "AA"})
_CRITICAL_WORDS = ("危急", "危机值", "critical", "panic")
_NORMAL_CODES = frozenset({"N", "NEG", "ND", "S", "NR", "EXP", "IND", "QCF", "TOX"})

#: A range without a type is the normal one (observation-definitions.html#referenceRange.type).
NORMAL, TEXT = "normal", "text"
_RATIO = ("numerator", "denominator")


def unit_of(quantity: Json) -> str:
    """The UCUM code of a quantity, else its unit as written."""
    if quantity.get("system") == UCUM and quantity.get("code"):
        return str(quantity["code"])
    return str(quantity.get("unit") or quantity.get("code") or "")


def value_of(part: Json) -> str:
    """The value as a card shows it; numbers keep their spelling."""
    if quantity := part.get("valueQuantity"):
        return f"{quantity.get('comparator', '')}{_spelled(quantity.get('value', ''))}"
    if concept := part.get("valueCodeableConcept"):
        return concept_text(concept)
    if ratio := part.get("valueRatio"):
        sides = (_spelled(ratio.get(side, {}).get("value", "")) for side in _RATIO)
        return ":".join(sides)
    if bounds := part.get("valueRange"):
        return "-".join(_spelled(bounds.get(end, {}).get("value", "")) for end in ("low", "high"))
    for name in ("valueString", "valueInteger", "valueBoolean", "valueDateTime", "valueTime"):
        if name in part:
            return str(part[name])
    return ""


def quantity_of(part: Json, target: str) -> tuple[str, str]:
    """(value in the UCUM unit `target`, that unit), SAME for what stands in the row already.

    ("", "") when there is no number, a comparator makes it a bound, or it has no exact form.
    """
    quantity = part.get("valueQuantity")
    if not target or not quantity or quantity.get("comparator"):
        return "", ""
    value, unit = _spelled(quantity.get("value", "")), unit_of(quantity)
    found = convert(value, unit, target)
    if not found:
        return "", ""
    return SAME if found == value else found, SAME if unit == target else target


def _spelled(number: Any) -> str:
    return str(getattr(number, "spelling", number))


def concept_text(concept: Json | None) -> str:
    """What a CodeableConcept says in words, else its first code."""
    concept = concept or {}
    first: Json = next(iter(concept.get("coding", ())), {})
    return str(concept.get("text") or first.get("display") or first.get("code") or "")


def observation_flags(resource: Json, part: Json) -> int:
    """The bits of a result or of one of its components."""
    codes = {
        coding.get("code")
        for concept in part.get("interpretation", ())
        for coding in concept.get("coding", ())
    }
    flags = CRITICAL if codes & _CRITICAL_CODES or _is_called_critical(part) else 0
    flags |= ABNORMAL if codes - _CRITICAL_CODES - _NORMAL_CODES else 0
    flags |= PENDING if resource.get("status", "") in COMING else 0
    if "dataAbsentReason" in part:
        return flags | DATA_ABSENT
    if "valueString" in part:
        return flags | TEXT_ONLY
    if not any(name.startswith("value") for name in part) and not flags & PENDING:
        return flags | VALUELESS
    if part.get("valueQuantity", {"value": 0}).get("value") is None:
        return flags | VALUELESS
    return flags


def _is_called_critical(part: Json) -> bool:
    """Whether the words of an interpretation say so: not every sender has a code for it."""
    said = (
        str(words or "").lower()
        for concept in part.get("interpretation", ())
        for words in (
            concept.get("text"),
            *(one.get("display") for one in concept.get("coding", ())),
        )
    )
    return any(word in words for words in said for word in _CRITICAL_WORDS)


def interval_of(part: Json) -> str:
    """The kind of the reference interval: its type, `normal` without one, `text` for words alone,
    "" without any; behind a colon whom it applies to. Several kinds stand in order, with blanks.
    """
    kinds = {kind for one in part.get("referenceRange", ()) if (kind := _kind(one))}
    return clean(" ".join(sorted(kinds)))


def _kind(range: Json) -> str:
    type: Json = next(iter(range.get("type", {}).get("coding", ())), {})
    kind = str(type.get("code") or "")
    if not kind:
        bounded = "low" in range or "high" in range
        kind = NORMAL if bounded else TEXT if range.get("text") else ""
    whom = sorted({_word(concept) for concept in range.get("appliesTo", ())} - {""})
    if "age" in range:
        whom.append("age")
    return f"{kind}:{','.join(whom)}" if kind and whom else kind


def _word(concept: Json) -> str:
    first: Json = next(iter(concept.get("coding", ())), {})
    word = first.get("code") or concept.get("text") or ""
    return "-".join(str(word).split())


def instrument_of(resource: Json) -> str:
    """The class of instrument that measured: the type of the contained Device, else its name or
    model, else what the reference displays."""
    reference: Json = resource.get("device", {})
    target = str(reference.get("reference", ""))
    for device in resource.get("contained", ()) if target.startswith("#") else ():
        if device.get("resourceType") == "Device" and f"#{device.get('id')}" == target:
            names = device.get("deviceName", ())
            named: str = next((one["name"] for one in names if one.get("name")), "")
            found = concept_text(device.get("type")) or named or device.get("modelNumber", "")
            return clean(str(found))
    return clean(str(reference.get("display", "")))
