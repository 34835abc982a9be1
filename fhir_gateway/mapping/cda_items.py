"""检验报告 C0007 and 检查报告 C0006 of WS/T 500: data elements DE… as panels of results.

An item is an observation DE04.30.019.00; what belongs to it stands inside. Items of one organizer
with a code are one panel, those without a panel are one report under the category. What stands
beside the items (method, category, findings, conclusion, department, remark) is the whole report's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fhir_gateway.mapping.cda_header import Header
from fhir_gateway.mapping.cda_parse import (
    V3,
    Node,
    at,
    attribute,
    check_stated,
    every,
    fault,
    is_null,
    is_stated,
    long_text,
    sections,
    text_of,
)
from fhir_gateway.mapping.cda_report import (
    Panel,
    Result,
    add_panel,
    enclosing,
    first_of,
    issued,
    narrative_ids,
    report_number,
    report_status,
    requester,
    result_status,
    times,
)
from fhir_gateway.mapping.cda_segments import Value, Writer
from fhir_gateway.mapping.cda_tables import EXAM, Tables
from fhir_gateway.mapping.cda_value import (
    NOTHING,
    Said,
    coded_or_named,
    concept,
    flags,
    is_number,
    is_result_code,
    parts_of,
    reference_range,
    role_of,
    said,
    value_of,
)
from fhir_gateway.mapping.tables import look_up

Parts = dict[str, list[Node]]

#: The texts of a report that are results of their own: role -> OBX-3, as tables have them.
_TEXTS: dict[str, Value] = {
    "findings": ["GDT", "检查所见", "L"],
    "conclusion": ["IMP", "检查结论", "L"],
    "body-part": ["DE06.00.187.00", "操作部位名称", "L"],
    "operation-method": ["DE06.00.251.00", "操作方法描述", "L"],
    "device": ["DE08.50.037.00", "介入物名称", "L"],
}


class _Item(NamedTuple):
    """An item with the data elements inside it, and the organizer that it stands in."""

    node: Node
    parts: Parts
    organizer: Node | None


class _Report(NamedTuple):
    """What the items are read with."""

    writer: Writer
    header: Header
    tables: Tables
    names: dict[str, Node]
    around: Parts  # data elements that belong to no item


def add_items(writer: Writer, header: Header, tables: Tables) -> None:
    """Adds the panels of a document of WS/T 500. Raises Unprocessable with the element."""
    items, around = _found(header.root, tables)
    report = _Report(writer, header, tables, narrative_ids(header.root), around)
    role = "exam-report" if header.template.kind == EXAM else "lab-report"
    number = report_number(header, role)
    groups = _groups(items, tables)
    if not groups and not any(around.get(role) for role in _TEXTS):
        raise fault(header.root, "the document holds no item (DE04.30.019.00) and no text of a "
                    "report", "cda-no-result")  # fmt: skip
    if not groups:
        writer.warn(header.root, "no item (DE04.30.019.00) says what was examined", "cda-item")
        groups = [("", [])]
    several = len({_specimen_key(one.parts, tables) for one in items}) > 1
    for key, group in groups:
        add_panel(writer, header, _panel(report, number, key, group, several=several))


def _found(root: Node, tables: Tables) -> tuple[list[_Item], Parts]:
    """The items, and the data elements outside of them."""
    items: list[_Item] = []
    around: Parts = {}
    inside: set[Node] = set()
    for section in sections(root):
        for node in section.iter(f"{V3}observation"):
            if node in inside:
                continue
            role = role_of(node, tables)
            if role:
                check_stated(node)
            if role != "item":
                around.setdefault(role, []).append(node)
                continue
            parts: Parts = {}
            for name, inner in parts_of(node, tables):
                if name:
                    check_stated(inner)
                parts.setdefault(name, []).append(inner)
                inside.add(inner)
            items.append(_Item(node, parts, enclosing(node, "organizer")))
    return _unique(items), {role: _distinct(nodes) for role, nodes in around.items()}


def _distinct(nodes: Iterable[Node]) -> list[Node]:
    """Each once: a section inside a section is walked with both."""
    return list(dict.fromkeys(nodes))


def _unique(items: Sequence[_Item]) -> list[_Item]:
    return list({item.node: item for item in items}.values())


def _groups(items: Sequence[_Item], tables: Tables) -> list[tuple[str, list[_Item]]]:
    """Items by the code of their organizer; those without one together. An examination's items are
    reports of their own."""
    groups: dict[str, list[_Item]] = {}
    for item in items:
        code = at(item.organizer, "code")
        key = attribute(code, "code") if not is_null(code) else ""
        groups.setdefault(key, []).append(item)
    return list(groups.items())


def _panel(
    report: _Report, number: str, key: str, group: Sequence[_Item], *, several: bool
) -> Panel:
    header, tables = report.header, report.tables
    node = group[0].node if group else header.root
    if len({_specimen_key(one.parts, tables) for one in group}) > 1:
        raise fault(node, "items of one panel name several specimens; give each panel an organizer "
                    "with a code of its own", "cda-specimen")  # fmt: skip
    specimen = first_of(group[0].parts, "specimen") if group else None
    collected, received = times(specimen)
    exam = header.template.kind == EXAM
    if exam and not collected[0] and group:
        collected, _ = times(group[0].node)
    results = [result for one in group for result in _results(report, one, collected[0], exam)]
    return Panel(
        node=node,
        number=number,
        code=_code(report, key, group, exam=exam),
        status=report_status(header, tables, _status(group)),
        results=[*results, *_texts(report)],
        order=header.number("order"),
        collected=collected,
        received=("", None) if exam else received,
        issued=issued(header),
        section=_section(report, exam=exam),
        specimen=_value(specimen, tables),
        specimen_number="" if several or specimen is None else header.number("specimen"),
        doctor=requester(header),
        notes=_notes(report, group),
    )


def _status(group: Sequence[_Item]) -> str:
    """statusCode of the organizer: of the panel, not of a result."""
    return attribute(at(group[0].organizer, "statusCode"), "code") if group else ""


def _code(report: _Report, key: str, group: Sequence[_Item], *, exam: bool) -> Value:
    """What was ordered: the organizer's code; of an examination its item; else the category."""
    if key:
        return concept(at(group[0].organizer, "code"), report.tables, report.names)
    if exam and group:
        return coded_or_named(at(group[0].node, "value"), report.tables)
    category = first_of(report.around, "category")
    named = _value(category, report.tables)
    return named or ["", report.header.title or report.header.template.name]


def _value(node: Node | None, tables: Tables) -> Value:
    value = at(node, "value")
    return "" if value is None or is_null(value) else coded_or_named(value, tables)


def _section(report: _Report, *, exam: bool) -> str:
    """OBR-24: of an examination its type by exam-types.csv, else as written; of a laboratory
    report what its template says."""
    category = at(first_of(report.around, "category"), "value")
    if not exam:
        return report.header.template.section
    spellings = (attribute(category, "displayName"), attribute(category, "code"), text_of(category))
    texts = [text for text in spellings if text]
    rows = [row for text in texts if (row := look_up(report.tables.exam_types, text))]
    return rows[0].code if rows else texts[0] if texts else ""


def _specimen_key(parts: Parts, tables: Tables) -> tuple[str, ...]:
    value = _value(first_of(parts, "specimen"), tables)
    return tuple(str(one) for one in value)


def _results(report: _Report, item: _Item, collected: str, exam: bool) -> list[Result]:
    """The result of an item; none for an examination that has only texts."""
    value = at(item.node, "value")
    if value is None or is_null(value):
        raise fault(item.node, "the item has no code: value of DE04.30.019.00", "cda-item")
    code = coded_or_named(value, report.tables)
    if not code:
        raise fault(item.node, "the item has no code: value of DE04.30.019.00", "cda-item")
    found, marks, node = _outcome(report, item)
    if exam and found.is_empty and not marks:
        return []
    own = times(first_of(item.parts, "specimen"))[0][0]
    analysed = "" if exam else attribute(at(item.node, "effectiveTime"), "value")
    return [Result(
        node=item.node,
        code=code,
        said=found,
        flags=[*marks, *_flags(item)],
        range=_range(item),
        status=result_status(report.header, report.tables, item.node, item.organizer),
        method=_text(item.parts, "method") or _text(report.around, "method"),
        laboratory=_text(report.around, "institution"),
        time=own if own and own != collected else "",
        analysed=analysed,
        value_node=node,
    )]  # fmt: skip


def _outcome(report: _Report, item: _Item) -> tuple[Said, list[str], Node | None]:
    """The value of an item, flags that stand for it, and where it stands: the quantity, else the
    code or text of the result."""
    quantity = first_of(item.parts, "quantity")
    amount = said(value_of(quantity), report.tables, report.names)
    if not amount.is_empty:
        amount = _with_unit(item, quantity, amount)
    marks: list[str] = []
    other = NOTHING
    place = quantity
    for node in item.parts.get("result-code", ()):
        value = value_of(node)
        if value is None or is_null(value):
            continue
        if is_result_code(value):
            name = attribute(value, "displayName") or attribute(value, "code")
            row = look_up(report.tables.results, name)
            marks.append(row.code if row else name)
        elif other.is_empty:
            other = said(value, report.tables, report.names)
            place = place if not amount.is_empty else node
        if other.is_empty and amount.is_empty and is_result_code(value):
            other, place = said(value, report.tables, report.names), node
    return (other if amount.is_empty else amount), marks, place


def _with_unit(item: _Item, quantity: Node | None, amount: Said) -> Said:
    """The unit of the value itself, else DE04.30.016.00."""
    unit = amount.unit or _text(item.parts, "unit")
    kind = "NM" if is_number(value_of(quantity)) else amount.kind
    return amount._replace(kind=kind, unit=unit)


def _flags(item: _Item) -> list[str]:
    nodes = [item.node, *(one for nodes in item.parts.values() for one in nodes)]
    return list(dict.fromkeys(flag for node in nodes for flag in flags(node)))


def _range(item: _Item) -> str:
    nodes = [item.node, *(one for nodes in item.parts.values() for one in nodes)]
    return next((text for node in nodes if (text := reference_range(node))), "")


def _text(parts: Parts, role: str) -> str:
    """The text of the first data element of a role."""
    value = at(first_of(parts, role), "value")
    if is_null(value):
        return ""
    return text_of(value) or attribute(value, "displayName") or attribute(value, "value")


def _texts(report: _Report) -> list[Result]:
    """Findings, conclusion and what else is said of the whole report in words."""
    results: list[Result] = []
    for role, code in _TEXTS.items():
        texts: list[str] = []
        for node in report.around.get(role, ()):
            value = at(node, "value")
            found = said(value, report.tables, report.names)
            text = long_text(value) if found.kind != "CE" else attribute(value, "displayName")
            text = text or (str(found.value) if found.kind in ("ST", "TX") else "")
            texts += [text] if text else []
        if texts:
            node = report.around[role][0]
            status = result_status(report.header, report.tables, node)
            results.append(Result(node, code, Said("TX", "\n".join(texts)), status=status))
    if not report.around.get("body-part"):
        results += _targets(report)
    return results


def _targets(report: _Report) -> list[Result]:
    """targetSiteCode of what was done, where no data element names the part."""
    for section in sections(report.header.root):
        for name in ("procedure", "observation"):
            for node in section.iter(V3 + name):
                for site in every(node, "targetSiteCode") if is_stated(node) else ():
                    if value := concept(site, report.tables, report.names):
                        status = result_status(report.header, report.tables, node)
                        return [Result(node, _TEXTS["body-part"], Said("CE", value), status=status)]
    return []


def _notes(report: _Report, group: Sequence[_Item]) -> list[str]:
    """Remarks, and the state of the specimen where it is told."""
    notes = [text_of(at(node, "value")) for node in report.around.get("remark", ())]
    states = {_text(one.parts, "specimen-state") for one in group} - {""}
    notes += [f"标本状态：{state}" for state in sorted(states)]
    return [note for note in notes if note]
