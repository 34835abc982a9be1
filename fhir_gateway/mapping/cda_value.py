"""Data elements and values of CDA entries: what an observation says, as the parts of an OBX.

Values are ISO 21090 data types by xsi:type: PQ, REAL, INT, CD, ST, ED, IVL_PQ, TS. What is none of
them, or none that can be read, stays the text that was sent; mapping.v2_value judges numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from fhir_gateway.mapping.cda_parse import (
    V3,
    Node,
    at,
    attribute,
    every,
    fault,
    is_null,
    long_text,
    text_of,
    type_of,
)
from fhir_gateway.mapping.cda_segments import Value
from fhir_gateway.mapping.cda_tables import Tables

#: Data types that are one number.
_NUMBERS = frozenset({"PQ", "REAL", "INT", "MO"})
_CODES = frozenset({"CD", "CE", "CV", "CO", "CS"})
_RESULT_CODES = "2.16.156.10011.2.3.2.38"


class Said(NamedTuple):
    """OBX-2, OBX-5 and OBX-6 of a value; `kind` "" when it says nothing."""

    kind: str
    value: Value
    unit: Value = ""

    @property
    def is_empty(self) -> bool:
        """Whether there is no value."""
        return not self.value


NOTHING = Said("", "")


def role_of(observation: Node, tables: Tables) -> str:
    """What a data element is for, by its code; "" for one that no table names."""
    return tables.elements.get(attribute(at(observation, "code"), "code"), "")


def parts_of(observation: Node, tables: Tables) -> Iterator[tuple[str, Node]]:
    """(role, observation) of the data elements inside one, at any depth, each once."""
    for inner in observation.iter(f"{V3}observation"):
        if inner is not observation:
            yield role_of(inner, tables), inner


def concept(node: Node | None, tables: Tables, names: dict[str, Node] | None = None) -> Value:
    """CE components of a code: code, name, system; its name alone where it has no code.

    `names` are elements of the narrative by their ID, which originalText may point to.
    """
    if node is None:
        return ""
    code = "" if is_null(node) else attribute(node, "code")
    name = attribute(node, "displayName") or _original(node, names or {})
    if not code:
        return ["", name] if name else ""
    return [code, name, tables.systems.get(attribute(node, "codeSystem"), "L")]


def _original(node: Node, names: dict[str, Node]) -> str:
    original = at(node, "originalText")
    if original is None:
        return text_of(node)
    target = attribute(at(original, "reference"), "value").removeprefix("#")
    return text_of(names[target]) if target in names else text_of(original)


def coded_or_named(node: Node, tables: Tables) -> Value:
    """The value of a data element that is a code: CD, or a text, which is a code where it looks
    like one (WS/T 500 writes item codes as ST)."""
    if type_of(node) in _CODES or node.get("code"):
        return concept(node, tables)
    text = text_of(node) or attribute(node, "value")
    is_code = text.isascii() and " " not in text
    name = attribute(node, "displayName")
    return [text, name, "L"] if is_code and text else ["", text] if text else ""


def value_of(node: Node | None) -> Node | None:
    """The value of an observation, one that is known before one that is not. Raises Unprocessable
    for several: a result has one, and which of them it is nobody says."""
    values = every(node, "value") if node is not None else []
    found = [one for one in values if not is_null(one)]
    if len(found) > 1:
        raise fault(found[1], "this is a second value of one observation; send each as an "
                    "observation of its own", "cda-values")  # fmt: skip
    return next(iter((*found, *values)), None)


def said(node: Node | None, tables: Tables, names: dict[str, Node]) -> Said:
    """What a value element says."""
    kind = type_of(node)
    if node is None or (is_null(node) and not (kind in _NUMBERS and _amount(node)[0])):
        text = text_of(node)
        return Said("ST", text) if text else NOTHING
    if kind in _READERS:
        return _READERS[kind](node)
    if kind in _CODES or node.get("code"):
        value = concept(node, tables, names)
        return Said("CE", value) if value else NOTHING
    if kind in ("TS", "IVL_TS"):
        return Said("TS", attribute(node, "value"))
    return _words(node, names)


def _words(node: Node, names: dict[str, Node]) -> Said:
    """A text, also one that stands in the narrative and is pointed to; a file as it came."""
    if type_of(node) == "ED" and attribute(node, "representation") == "B64":
        media, _, subtype = attribute(node, "mediaType").partition("/")
        return Said("ED", ["", media, subtype, "Base64", text_of(node)])
    target = attribute(at(node, "reference"), "value").removeprefix("#")
    text = long_text(names[target]) if target in names else long_text(node)
    text = text or attribute(node, "value")
    return Said("ST" if "\n" not in text else "TX", text) if text else NOTHING


def _number(node: Node) -> Said:
    text, unit = _amount(node)
    text = text or text_of(node)
    if not text:
        return NOTHING
    if attribute(node, "nullFlavor") not in ("", "OTH"):  # says in one breath that there is none
        text = f"{text} ({attribute(node, 'nullFlavor')})"
    return Said("NM", text, "" if unit == "1" else unit)


def _ratio(node: Node) -> Said:
    """A titre or ratio; with units of its own it is a text."""
    (first, unit), (second, other) = (
        _amount(at(node, side)) for side in ("numerator", "denominator")
    )
    if not (first and second):
        return NOTHING
    if {unit, other} - {"", "1"}:
        return Said("TX", f"{first} {unit} : {second} {other}")
    return Said("SN", ["", first, ":", second])


def _interval(node: Node) -> Said:
    """One limit as a comparison, two as a range; a limit that is not inclusive says so."""
    low, high = at(node, "low"), at(node, "high")
    (least, unit), (most, other) = _amount(low), _amount(high)
    if least and most and unit != other and unit and other:
        return Said("TX", f"{least} {unit} - {most} {other}")
    unit = unit or other
    if least and most:
        return Said("SN", ["", least, "-", most], unit)
    if least:
        return Said("SN", [">" if _is_open(low) else ">=", least], unit)
    if most:
        return Said("SN", ["<" if _is_open(high) else "<=", most], unit)
    return NOTHING


#: Data type -> what reads it.
_READERS: Mapping[str, Callable[[Node], Said]] = {
    **dict.fromkeys(_NUMBERS, _number),
    **dict.fromkeys(("IVL_PQ", "IVL_REAL", "IVL_INT"), _interval),
    "RTO": _ratio,
}


def _is_open(node: Node | None) -> bool:
    return attribute(node, "inclusive") == "false"


def reference_range(observation: Node) -> str:
    """OBX-7: the range as it is written, else its limits. Several are told one after the other:
    which of them holds for this person is not for us to say."""
    texts = [_range(at(one, "observationRange")) for one in every(observation, "referenceRange")]
    return "; ".join(dict.fromkeys(text for text in texts if text))


def _range(found: Node | None) -> str:
    if text := text_of(at(found, "text")):
        return text
    value = at(found, "value")
    low, high = (_amount(at(value, side))[0] for side in ("low", "high"))
    if low and high:
        return f"{low}--{high}"
    if low or high:
        return f">={low}" if low else f"<={high}"
    return text_of(value)


def _amount(node: Node | None) -> tuple[str, str]:
    """Number and unit of a quantity; where the unit is none of UCUM they stand in a translation."""
    translation = at(node, "translation")
    if attribute(node, "value") or translation is None:
        return attribute(node, "value"), attribute(node, "unit")
    unit = attribute(translation, "unit") or text_of(at(translation, "originalText"))
    return attribute(translation, "value"), unit


def flags(observation: Node) -> list[str]:
    """OBX-8: the codes of interpretationCode, their names where they have none."""
    found = [
        attribute(one, "code") or attribute(one, "displayName")
        for one in every(observation, "interpretationCode")
        if not is_null(one)
    ]
    return [one for one in found if one]


def is_result_code(node: Node | None) -> bool:
    """Whether a code says normal or abnormal (table of WS 364) and is no result in itself."""
    return attribute(node, "codeSystem") == _RESULT_CODES


def is_number(node: Node | None) -> bool:
    """Whether a value is of a data type that is one number."""
    return type_of(node) in _NUMBERS
