"""Entries of a section without text as tables: items with their results, then what else is said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from fhir_gateway.mapping.cda_parse import V3, Node, at, attribute, every, is_null, text_of
from fhir_gateway.mapping.cda_tables import Tables
from fhir_gateway.mapping.cda_value import flags, parts_of, reference_range, role_of
from fhir_gateway.mapping.v2_time import read_time

_ITEM_HEADS = ("项目", "结果", "提示", "参考范围", "标本", "采集时间")
_HEADS = ("名称", "内容", "时间")


def time_text(text: str) -> str:
    """A time for people; as it was sent where it cannot be read."""
    moment = read_time(text, "Asia/Shanghai") if text else None
    if moment is None:
        return text
    return moment.text[:16].replace("T", " ") if moment.exact else moment.text


def entries_html(section: Node, tables: Tables) -> str:
    """What the entries say, "" when they say nothing."""
    inside: set[Node] = set()
    items = [_item(node, tables, inside) for node in _items(section, tables)]
    others = [
        row
        for entry in every(section, "entry")
        for node in entry.iter(f"{V3}observation", f"{V3}procedure")
        if node not in inside and (row := _statement(node, tables))
    ]
    return _table(_ITEM_HEADS, items) + _table(_HEADS, others)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table without the columns that no row fills."""
    filled = [n for n in range(len(heads)) if any(row[n] for row in rows)]
    if not rows:
        return ""
    head = "".join(f"<th>{heads[n]}</th>" for n in filled)
    lines = "".join(
        "<tr>" + "".join(f"<td>{escape(row[n])}</td>" for n in filled) + "</tr>" for row in rows
    )
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _items(section: Node, tables: Tables) -> Iterator[Node]:
    for node in section.iter(f"{V3}observation"):
        if role_of(node, tables) == "item":
            yield node


def _item(node: Node, tables: Tables, inside: set[Node]) -> tuple[str, ...]:
    """Name, result with its unit, flags, range, specimen and time of an item."""
    parts: dict[str, list[Node]] = {}
    inside.add(node)
    for role, inner in parts_of(node, tables):
        parts.setdefault(role, []).append(inner)
        inside.add(inner)
    everything = [node, *(one for found in parts.values() for one in found)]

    def shown(role: str) -> str:
        return " ".join(_value(at(one, "value")) for one in parts.get(role, ())).strip()

    specimen = parts.get("specimen", [None])[0]
    amount = f"{shown('quantity')} {shown('unit')}".strip()
    marks = list(dict.fromkeys(flag for one in everything for flag in flags(one)))
    ranges = [text for one in everything if (text := reference_range(one))]
    code = shown("result-code")
    return (
        _value(at(node, "value")),
        amount or code,
        " ".join([*([code] if amount and code else []), *marks]),
        "; ".join(ranges),
        _value(at(specimen, "value")),
        _period(at(specimen, "effectiveTime")) or _period(at(node, "effectiveTime")),
    )


def _statement(node: Node, tables: Tables) -> tuple[str, ...]:
    """Name, value and time of a statement; () when it says nothing."""
    code = at(node, "code")
    name = attribute(code, "displayName") or tables.names.get(
        attribute(code, "code"), attribute(code, "code")
    )
    text, time = _value(at(node, "value")), _period(at(node, "effectiveTime"))
    return (name, text, time) if text or time else ()


def _value(node: Node | None) -> str:
    if node is None or is_null(node):
        return text_of(node)
    code, name = attribute(node, "code"), attribute(node, "displayName")
    if code or name:
        return f"{name}（{code}）" if name and code else name or code
    amount = attribute(node, "value")
    if amount:
        return f"{amount} {attribute(node, 'unit')}".strip()
    low, high = at(node, "low"), at(node, "high")
    ends = [attribute(one, "value") for one in (low, high)]
    unit = attribute(low, "unit") or attribute(high, "unit")
    return f"{'–'.join(ends)} {unit}".strip() if any(ends) else text_of(node)


def _period(node: Node | None) -> str:
    if node is None:
        return ""
    ends = [attribute(at(node, one), "value") for one in ("low", "high")]
    texts = [time_text(one) for one in (attribute(node, "value"), *ends) if one]
    return " – ".join(texts)
