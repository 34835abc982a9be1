"""The narrative of a document: what a reader without a FHIR program sees. Pure.

hl7.org/fhir/R4/narrative.html. Every text of a resource is escaped; the elements are these few.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

Json = Mapping[str, Any]

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def narrative(*blocks: str) -> dict[str, str]:
    """A Narrative of blocks that are XHTML already."""
    div = f'<div xmlns="http://www.w3.org/1999/xhtml">{"".join(blocks)}</div>'
    return {"status": "generated", "div": div}


def paragraphs(texts: Iterable[str]) -> str:
    """A paragraph for each text that is not empty, its lines kept."""
    return "".join(
        f"<p>{'<br/>'.join(_said(line) for line in text.splitlines())}</p>"
        for text in texts
        if text.strip()
    )


def listed(texts: Iterable[str]) -> str:
    """A list."""
    return f"<ul>{''.join(f'<li>{_said(text)}</li>' for text in texts)}</ul>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with a row of headings."""
    head = "".join(f"<th>{_said(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{_said(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _said(text: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", text))


# -- what a resource says --------------------------------------------------------------------------


def concept(value: Json | None) -> str:
    """A CodeableConcept: its text, else a display, else a code."""
    value = value or {}
    codings: Sequence[Json] = value.get("coding", ())
    shown = (one.get(name) for name in ("display", "code") for one in codings)
    return str(value.get("text") or next((one for one in shown if one), ""))


def quantity(value: Json | None) -> str:
    """A Quantity with its comparator and unit, its number as it was spelled."""
    value = value or {}
    number = f"{value.get('comparator', '')}{value.get('value', '')}"
    return f"{number} {value.get('unit') or value.get('code') or ''}".strip()


def range_of(value: Json) -> str:
    """A reference range: its text, else its limits."""
    if value.get("text"):
        return str(value["text"])
    low, high = quantity(value.get("low")), quantity(value.get("high"))
    return f"{low} – {high}" if low and high else (low and f"≥ {low}") or (high and f"≤ {high}")


def value_of(resource: Json) -> str:
    """The value of an Observation or of one of its components, or why it has none."""
    for name, value in resource.items():
        if name.startswith("value") and len(name) > 5 and name[5].isupper():
            return _value(name, value)
    parts = [f"{concept(one.get('code'))} {value_of(one)}" for one in resource.get("component", ())]
    return "；".join(parts) or concept(resource.get("dataAbsentReason"))


def _value(name: str, value: Any) -> str:
    """A value[x]; what has no reader here is a primitive, or is not told."""
    if name in _VALUES:
        return _VALUES[name](value)
    return "" if isinstance(value, Mapping) else str(value)


def _ratio(value: Json) -> str:
    return f"{quantity(value.get('numerator'))} : {quantity(value.get('denominator'))}"


def period(value: Json | None) -> str:
    """A Period."""
    value = value or {}
    return " – ".join(filter(None, (str(value.get("start", "")), str(value.get("end", "")))))


def when(resource: Json) -> str:
    """The clinical time of a result or report."""
    found = resource.get("effectiveDateTime") or resource.get("effectiveInstant")
    return str(found or period(resource.get("effectivePeriod")))


def identifiers(resource: Json) -> str:
    """The numbers that a resource has of its own."""
    return "、".join(str(one["value"]) for one in resource.get("identifier", ()) if "value" in one)


_VALUES: dict[str, Callable[[Any], str]] = {
    "valueQuantity": quantity,
    "valueCodeableConcept": concept,
    "valueRange": range_of,
    "valueRatio": _ratio,
    "valuePeriod": period,
    "valueBoolean": lambda value: "是" if value else "否",
}
