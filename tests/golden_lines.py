"""Resources as lines that a person can read and a difference can be told of, losing nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from fhir_gateway.settings import CANONICAL


def lines_of(resources: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Resources as lines, an element each, ids as ordinals of their type. Of the second of a type
    on only what differs from the one before; `-name` is an element that is not there any more."""
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    for one in resources:
        type = one["resourceType"]
        counts[type] = counts.get(type, 0) + 1
        names[f"{type}/{one['id']}"] = f"{type} #{counts[type]}"
    before: dict[str, dict[str, str]] = {}
    for one in resources:
        yield names[f"{one['resourceType']}/{one['id']}"]
        now = {k: shown(v, names) for k, v in one.items() if k not in ("resourceType", "id")}
        last = before.get(one["resourceType"], {})
        yield from (f"  {name}: {text}" for name, text in now.items() if last.get(name) != text)
        yield from (f"  -{name}" for name in last if name not in now)
        before[one["resourceType"]] = now


def shown(value: Any, names: Mapping[str, str]) -> str:
    """An element on one line, in a spelling that is short and loses nothing."""
    if isinstance(value, Mapping):
        return _shown(value, names)
    if isinstance(value, list):
        return "[" + " | ".join(shown(item, names) for item in value) + "]"
    return _text(value, names)


def _shown(value: Mapping[str, Any], names: Mapping[str, str]) -> str:
    keys = set(value)
    if keys == {"reference"}:
        return _text(value["reference"], names)
    if keys <= {"system", "code", "display"}:
        return _coding(value)
    if keys <= {"coding", "text"}:
        codings = [_coding(one) for one in value.get("coding", ())]
        return " ".join([*codings, *([f"{value['text']!r}"] if "text" in value else [])])
    if isinstance(value.get("value"), int | Decimal):
        return _quantity(value)
    return "{" + "; ".join(f"{k} {shown(v, names)}" for k, v in value.items()) + "}"


def _text(value: Any, names: Mapping[str, str]) -> str:
    text = names.get(str(value), str(value))
    return text.replace("\n", "⏎").replace(CANONICAL, "{CANONICAL}")


def _coding(value: Mapping[str, Any]) -> str:
    system = shown(value["system"], {}) if "system" in value else ""
    display = f"({value['display']})" if "display" in value else ""
    return f"{system}#{value.get('code', '')}{display}"


def _quantity(value: Mapping[str, Any]) -> str:
    unit = f" {value['unit']}" if "unit" in value else ""
    coded = _coding({k: v for k, v in value.items() if k in ("system", "code")})
    coded = "" if coded == "#" else f" {coded}"
    return f"{value.get('comparator', '')}{value['value']}{unit}{coded}"
