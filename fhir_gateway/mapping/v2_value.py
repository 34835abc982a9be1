"""The values of OBX-5 to OBX-8 as FHIR: numbers as spelled, units, ranges, flags, words.

Chinese laboratories send most results as text: `＜0.05`, `5.6↑`, `阴性（-）`, `1:80`, `++`, ranges
as `8.5--14.5` or `0--5.17`, units as `×10^9/L` with an unescaped `^`. What reads as exactly one
thing becomes it; everything else stays the text that was sent.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from decimal import Decimal
from functools import lru_cache
from typing import Any

from fhir_gateway.fhir import wire
from fhir_gateway.mapping.tables import Table, look_up, normal
from fhir_gateway.terminology.unit import canonical_unit

Number = Decimal | int

UCUM = "http://unitsofmeasure.org"
INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"

_DIGITS = r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+"
_NUMBER = re.compile(rf"[+-]?(?:{_DIGITS})(?:[eE][+-]?[0-9]{{1,3}})?")
_GROUPED = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_COMPARED = re.compile(
    r"(?P<sign><=|>=|=<|=>|[<>≤≥≦≧]|小于等于|大于等于|小于|大于|低于|高于)\s*(?P<rest>.+)"
)
_FLAGGED = re.compile(r"(?P<number>\S+?)\s*(?P<flag>[↑↓]{1,2}|HH|LL|H|L)")
_SEPARATORS = ("--", "~", "—", "–", "−", "至", "到", "-")

#: How a comparison is written -> FHIR comparator.
COMPARATORS = {
    "<": "<", ">": ">", "<=": "<=", ">=": ">=", "=<": "<=", "=>": ">=", "≤": "<=", "≥": ">=",
    "≦": "<=", "≧": ">=", "小于": "<", "低于": "<", "大于": ">", "高于": ">", "小于等于": "<=",
    "大于等于": ">=",
}  # fmt: skip


#: Digits, full-width ones, and raised ones, which `normal` spells as powers.
_DIGITS_READ = frozenset("0123456789０１２３４５６７８９⁰¹²³⁴⁵⁶⁷⁸⁹")


def _plain(text: str) -> str:
    """The text for comparing; as it came where it has digits that are no plain ones, such as ① or
    the 2 of CO₂: NFKC would put those into the number."""
    strange = not text.isascii() and any(c.isdigit() and c not in _DIGITS_READ for c in text)
    return text if strange else normal(text)


@lru_cache(maxsize=16_384)
def read_number(text: str) -> Number | None:
    """The number of a text, spelled as JSON wants it: `+5.10` is 5.10, `.5` is 0.5, `5.` is 5."""
    text = _plain(text)
    if _GROUPED.fullmatch(text):
        text = text.replace(",", "")
    if not _NUMBER.fullmatch(text):
        return None
    sign = "-" if text[0] == "-" else ""
    mantissa, mark, exponent = text.lstrip("+-").replace("E", "e").partition("e")
    whole, _, fraction = mantissa.partition(".")
    spelled = sign + (whole.lstrip("0") or "0") + (f".{fraction}" if fraction else "")
    try:
        return wire.read_number(spelled + mark + exponent)
    except ValueError:
        return None


def quantity(text: str, unit: dict[str, str]) -> dict[str, Any] | None:
    """The Quantity of `5.10`, `<0.05`, `＞1000`, `小于0.05`; None when it is another thing."""
    plain = _plain(text)
    compared = _COMPARED.fullmatch(plain)
    value = read_number(compared["rest"] if compared else plain)
    if value is None:
        return None
    result: dict[str, Any] = {"value": value}
    if compared:
        result["comparator"] = COMPARATORS[compared["sign"]]
    return result | unit


def split_flag(text: str) -> tuple[str, str]:
    """`5.6↑` -> `5.6` and `↑`; a text without flag comes back with an empty one."""
    found = _FLAGGED.fullmatch(_plain(text))
    if found is None or read_number(found["number"]) is None:
        return text, ""
    return found["number"], found["flag"]


def read_unit(components: list[str], units: Table) -> tuple[dict[str, str], bool]:
    """The unit part of a Quantity from OBX-6, and whether it is known.

    An unescaped `^` in `10^9/L` has split the unit; `mmol/L^^UCUM` says its own system.
    """
    first = components[0].strip() if components else ""
    if len(components) >= 3 and components[2].strip().upper() == "UCUM" and first:
        spelled = components[1].strip() or first
        return {"unit": spelled, "system": UCUM, "code": "".join(first.split())}, True
    if len(components) >= 2 and re.fullmatch(r"[*xX×]?10", first):
        first = f"{first}^{components[1].strip()}"
    if not first:
        return {}, True
    code = canonical_unit(first)
    if not code:
        row = look_up(units, first)
        code = row.code if row is not None else ""
    if not code:
        return {"unit": first}, False
    return {"unit": first, "system": UCUM, "code": code}, True


def read_range(text: str, unit: dict[str, str]) -> list[dict[str, Any]]:
    """Observation.referenceRange of OBX-7: limits where it says exactly one range, text always."""
    if not text:
        return []
    result: dict[str, Any] = {}
    limits = _limits(_plain(text).strip("[]()"), unit)
    if limits is not None:
        low, high = limits
        if low is not None:
            result["low"] = {"value": low} | unit
        if high is not None:
            result["high"] = {"value": high} | unit
    result["text"] = text
    return [result]


def _limits(text: str, unit: dict[str, str]) -> tuple[Number | None, Number | None] | None:
    spelled = unit.get("unit", "")
    if spelled and text.endswith(spelled):
        text = text[: -len(spelled)].rstrip()
    compared = _COMPARED.fullmatch(text)
    if compared is None:
        return _pair(text)
    limit = read_number(compared["rest"])
    if limit is None:
        return None
    upper = COMPARATORS[compared["sign"]][0] == "<"
    return (None, limit) if upper else (limit, None)


def _pair(text: str) -> tuple[Number, Number] | None:
    """Low and high of `3.5-5.3`, `8.5--14.5`, `-2~2`; None when it can be read in two ways."""
    readings: set[tuple[Number, Number]] = set()
    for separator in _SEPARATORS:
        start = text.find(separator, 1)
        while start > 0:
            low = read_number(text[:start])
            high = read_number(text[start + len(separator) :])
            if low is not None and high is not None and low <= high:
                readings.add((low, high))
            start = text.find(separator, start + 1)
    return readings.pop() if len(readings) == 1 else None


def structured(components: list[str], unit: dict[str, str]) -> dict[str, Any] | None:
    """The value[x] of an SN: comparator^number^separator^number; None when it is none."""
    sign, first, separator, second = (_plain(part) for part in (*components, *[""] * 4)[:4])
    low, high = read_number(first), read_number(second)
    if low is None:
        return None
    if high is None and not separator and (sign in ("", "=") or sign in COMPARATORS):
        compared = {"comparator": COMPARATORS[sign]} if sign in COMPARATORS else {}
        return {"valueQuantity": {"value": low} | compared | unit}
    if high is not None and separator == "-" and not sign:
        return {"valueRange": {"low": {"value": low} | unit, "high": {"value": high} | unit}}
    if high is not None and separator in (":", "/") and sign in ("", "="):
        return {"valueRatio": {"numerator": {"value": low}, "denominator": {"value": high}}}
    return None


def interpretation(text: str, flags: Table) -> dict[str, Any]:
    """The CodeableConcept of one flag; its text alone when the table does not know it."""
    row = look_up(flags, text)
    if row is None:
        return {"text": text}
    coding = {"system": INTERPRETATION, "code": row.code, "display": row.display}
    return {"coding": [coding], "text": text}


def attachment_data(encoding: str, data: str) -> str | None:
    """The base64 of an ED's data (HL7 table 0299); None when it is not what it says."""
    try:
        if encoding.lower() == "base64":
            content = b64decode("".join(data.split()), validate=True)
        elif encoding.lower() == "hex":
            content = bytes.fromhex(data)
        elif encoding.upper() == "A":
            content = data.encode("utf-8")
        else:
            return None
    except ValueError:
        return None
    return b64encode(content).decode("ascii") if content else None
