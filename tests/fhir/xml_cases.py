"""For the tests of FHIR XML: when two resources are the same, examples, and a generator."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import pytest

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.primitives import PRIMITIVES
from fhir_gateway.fhir.wire import number
from fhir_gateway.fhir.xhtml import canonical_text
from fhir_gateway.fhir.xml_plan import slots

HERE = Path(__file__).parent
NODE = HERE.parent / "node"
OFFICIAL = NODE / "node_modules" / "hl7.fhir.r4.examples"
SHARED = HERE.parents[2] / "shared" / "data" / "samples"


def official() -> list[Path]:
    """HL7's own examples; the test is skipped where they are missing, and fails in CI."""
    files = sorted(OFFICIAL.glob("*-*.json"))
    if not files:
        missing = "hl7.fhir.r4.examples is missing; `make services` installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    return files


def same(value: Any) -> Any:
    """A value that equals another one only where every number is spelled alike.

    An array of nothing but nulls says nothing; narratives are in canonical form.
    """
    if isinstance(value, dict):
        made = {name: same(child) for name, child in value.items()}
        if isinstance(value.get("div"), str):
            made["div"] = canonical_text(value["div"])
        return {name: child for name, child in made.items() if not _says_nothing(child)}
    if isinstance(value, list):
        return [same(one) for one in value]
    return value if isinstance(value, bool | str) or value is None else ("number", str(value))


def _says_nothing(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(one is None for one in value)


# -- XML as a sender would write it who knows nothing of order or definitions --------------------


def loose(resource: Mapping[str, Any]) -> bytes:
    """XML of any JSON that looks like a resource, sound or not."""
    body = _loose(resource["resourceType"], resource, resource["resourceType"])
    name = resource["resourceType"]
    return body.replace(f"<{name}", f'<{name} xmlns="http://hl7.org/fhir"', 1).encode()


def _loose(tag: str, value: Any, type: str, beside: Any = None) -> str:
    if not isinstance(value, dict):
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        start = tag if value is None else f"{tag} value={quoteattr(shown)}"
        inner = _loose(tag, beside, "Element") if beside else ""
        return f"<{start}{inner[len(tag) + 1 :]}" if inner else f"<{start}/>"
    plan = slots(type) if type in definitions().types else {}
    names = {name.removeprefix("_") for name in value if name != "resourceType"}
    attributes, inner = "", ""
    for name in sorted(names, key=lambda name: plan[name].place if name in plan else 99):
        slot = plan.get(name)
        if slot and slot.attribute:
            attributes += f" {name}={quoteattr(str(value[name]))}"
        else:
            inner += _loose_members(name, value, slot.type if slot else "")
    return f"<{tag}{attributes}>{inner}</{tag}>"


def _loose_members(name: str, holder: Mapping[str, Any], type: str) -> str:
    values, besides = holder.get(name), holder.get(f"_{name}")
    if not isinstance(values, list) and not isinstance(besides, list):
        values, besides = [values], [besides]
    length = max(len(values or ()), len(besides or ()))
    values = [*(values or ()), *[None] * (length - len(values or ()))]
    besides = [*(besides or ()), *[None] * (length - len(besides or ()))]
    made = ""
    for value, beside in zip(values, besides, strict=True):
        if name == "div":
            made += canonical_text(value)
        elif type == "Resource" and isinstance(value, dict):
            inner = value.get("resourceType", "Nothing")
            made += f"<{name}>{_loose(inner, value, inner)}</{name}>"
        else:
            made += _loose(name, value, type, beside)
    return made


# -- generated -----------------------------------------------------------------------------------

_TEXTS = (
    "x",
    " 甲\t乙 ",
    "𠮷\u0301é",
    "a\nb\r\nc",
    "quote \" ' and \\ & < > ]]> </script>",
    "&amp;",
)
_NUMBERS = (
    "7.10",
    "0.0",
    "-0",
    "-0.50",
    "1e2",
    "1E-7",
    "0.0000001",
    "12345678901234567890.10",
    "5",
)
_DIVS = (
    '<div xmlns="http://www.w3.org/1999/xhtml"><p>甲&amp;乙 &lt;</p><br/></div>',
    '<div xmlns="http://www.w3.org/1999/xhtml"> a <td></td>\r\n<b class=\'x"y\'>z</b></div>',
)
_VALUES: dict[str, tuple[Any, ...]] = {
    "base64Binary": ("eHh4", "eH h4"),
    "boolean": (True, False),
    "decimal": tuple(number(text) if text != "5" else 5 for text in _NUMBERS),
    "integer": (0, -1, 2**31 - 1),
    "positiveInt": (1, 7),
    "unsignedInt": (0, 7),
    "xhtml": _DIVS,
}


def generated(type: str, chance: random.Random) -> dict[str, Any]:
    """A resource with some of its elements, extensions on primitives, contained resources; in the
    shape of the definitions, with values that no rule was asked about."""
    return {"resourceType": type, **_object(type, chance, 0)}


def _object(type: str, chance: random.Random, depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    elements = list(definitions().types[type].elements.values())
    wanted = [one for one in elements if chance.random() < (0.5, 0.3, 0.2, 0.1)[min(depth, 3)]]
    chance.shuffle(wanted)
    for element in wanted:
        name, kind = chance.choice(element.members())
        if depth < 5 or kind in PRIMITIVES:
            slot = slots(type)[name]
            size = chance.choice((1, 1, 2, 3)) if slot.many else 0
            _put(made, name, kind, size, slot.attribute, chance, depth)
    return made or {"id": "x"}


def _put(
    made: dict[str, Any],
    name: str,
    kind: str,
    size: int,
    attribute: bool,
    chance: random.Random,
    depth: int,
) -> None:
    values = [_value(kind, chance, depth) for _ in range(size or 1)]
    besides: list[Any] = [None] * len(values)
    if kind in PRIMITIVES and kind != "xhtml" and not attribute:
        for place in range(len(values)):
            if chance.random() < 0.2:
                besides[place] = _object("Element", chance, depth + 1)
                if chance.random() < 0.5:
                    values[place] = None
    if any(value is not None for value in values):
        made[name] = values if size else values[0]
    if any(beside is not None for beside in besides):
        made[f"_{name}"] = besides if size else besides[0]


def _value(kind: str, chance: random.Random, depth: int) -> Any:
    if kind in PRIMITIVES:
        return chance.choice(_VALUES.get(kind, _TEXTS))
    if kind == "Resource":
        return generated(chance.choice(("Basic", "Patient", "Parameters")), chance)
    return _object(kind, chance, depth + 1)
