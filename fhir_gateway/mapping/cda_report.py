"""What the reports of all kinds of documents have in common, as OBR, NTE, OBX and SPM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fhir_gateway.mapping.cda_header import APPENDS, Header
from fhir_gateway.mapping.cda_parse import V3, Node, at, attribute, every, fault, local, text_of
from fhir_gateway.mapping.cda_segments import Value, Writer
from fhir_gateway.mapping.cda_tables import Tables
from fhir_gateway.mapping.cda_value import NOTHING, Said
from fhir_gateway.mapping.v2_time import read_time

#: Digits of a time that has a time of day.
_EXACT = 10


class Result(NamedTuple):
    """One OBX. `node` is the observation that it was read of."""

    node: Node
    code: Value
    said: Said = NOTHING
    flags: Sequence[str] = ()
    range: str = ""
    status: str = "F"
    method: str = ""
    laboratory: str = ""
    doctor: str = ""
    time: str = ""
    analysed: str = ""
    notes: Sequence[str] = ()
    value_node: Node | None = None


class Panel(NamedTuple):
    """One OBR with its results. Times are as sent."""

    node: Node
    number: str
    code: Value
    status: str
    results: Sequence[Result]
    order: str = ""
    collected: tuple[str, Node | None] = ("", None)
    ended: str = ""
    received: tuple[str, Node | None] = ("", None)
    issued: tuple[str, Node | None] = ("", None)
    section: str = ""
    specimen: Value = ""
    specimen_number: str = ""
    doctor: str = ""
    notes: Sequence[str] = ()


def add_panel(writer: Writer, header: Header, panel: Panel) -> None:
    """Adds the segments of a report."""
    node, unread = panel.node, list[str]()
    specimen: Value = (
        [_parts(panel.specimen)] if panel.specimen and not panel.specimen_number else ""
    )
    writer.add("OBR", {
        2: (panel.order, node),
        3: (panel.number, node),
        4: (panel.code, node),
        7: _time(writer, panel.collected, unread),
        8: _time(writer, (panel.ended, node), unread),
        14: _time(writer, panel.received, unread),
        15: (specimen, node),
        16: (["", panel.doctor] if panel.doctor else "", node),
        22: _time(writer, panel.issued, unread),
        24: (panel.section, node),
        25: (panel.status, node),
        32: (_author(header), node),
    })  # fmt: skip
    for note in (*panel.notes, *unread):
        writer.add("NTE", {3: (note, node)})
    for result in panel.results:
        _add_result(writer, result)
    if panel.specimen_number:
        writer.add("SPM", {2: (panel.specimen_number, node), 4: (panel.specimen, node)})


def _author(header: Header) -> Value:
    return [["", header.author.name]] if header.author.name else ""


def _parts(value: Value) -> Sequence[str]:
    """The components of a code as the parts of one component."""
    return [value] if isinstance(value, str) else [str(one) for one in value]


def _time(
    writer: Writer, said: tuple[str, Node | None], unread: list[str]
) -> tuple[str, Node | None]:
    """A time that can be read. Any other is left out and told, and its text goes to `unread`."""
    text, node = said
    if not text or read_time(text, "UTC") is not None:
        return said
    if node is not None:
        writer.warn(node, "this is no time (YYYYMMDDHHMMSS); it was kept as a note", "cda-time")
    unread.append(f"{local(node) if node is not None else 'time'}: {text}")
    return "", node


def _add_result(writer: Writer, result: Result) -> None:
    unread = list[str]()
    value = result.value_node if result.value_node is not None else result.node
    said = result.said
    writer.add("OBX", {
        2: (said.kind, value),
        3: (result.code, result.node),
        5: (said.value, value),
        6: (said.unit, value),
        7: (result.range, result.node),
        8: ("\x03".join(result.flags), result.node),
        11: (result.status, result.node),
        14: _time(writer, (result.time, result.node), unread),
        16: (["", result.doctor] if result.doctor else "", result.node),
        17: (["", result.method] if result.method else "", result.node),
        19: _time(writer, (result.analysed, result.node), unread),
        23: (result.laboratory, result.node),
    })  # fmt: skip
    for note in (*result.notes, *unread):
        writer.add("NTE", {3: (note, result.node)})


def report_number(header: Header, role: str) -> str:
    """The number of the report. Raises Unprocessable where the document has none."""
    number = header.number(role)
    if not number:
        node = at(header.root, "recordTarget", "patientRole")
        raise fault(
            node if node is not None else header.root,
            "the number of the report is missing: patientRole/id with the OID of "
            "mappings/cda/identifiers.csv",
            "cda-report-number",
        )
    return number


def issued(header: Header) -> tuple[str, Node | None]:
    """When the report was issued: the first of author, signature and document that has a time of
    day; else the day that the author wrote."""
    root = header.root
    said = [
        (header.author.time, at(root, "author", "time")),
        (header.legal.time, at(root, "legalAuthenticator", "time")),
        (header.time, at(root, "effectiveTime")),
    ]
    exact = [one for one in said if len(one[0].split("+")[0]) >= _EXACT]
    some = [one for one in said if one[0]]
    return (exact or some or [("", None)])[0]


def report_status(header: Header, tables: Tables, said: str = "") -> str:
    """OBR-25: what the entries say; without it final, once somebody has signed."""
    status = tables.statuses.get(said, ("", ""))[1]
    status = status or ("F" if header.is_signed else "P")
    if status != "F":
        return status
    if header.relation(APPENDS) is not None:
        return "B"
    return "C" if header.corrects else "F"


def result_status(header: Header, tables: Tables, *nodes: Node | None) -> str:
    """OBX-11: by the first statusCode of these elements, else as the document is signed."""
    said = next((one for node in nodes if (one := attribute(at(node, "statusCode"), "code"))), "")
    status = tables.statuses.get(said, ("", ""))[0] or ("F" if header.is_signed else "P")
    return "C" if status == "F" and header.corrects else status


def requester(header: Header) -> str:
    """Who asked for the examination: the first participant that is a person."""
    for one in every(header.root, "participant"):
        if name := text_of(at(one, "associatedEntity", "associatedPerson", "name")):
            return name
    return ""


def enclosing(node: Node, name: str) -> Node | None:
    """The nearest element of a local name around another."""
    return next((one for one in node.iterancestors() if local(one) == name), None)


def narrative_ids(root: Node) -> dict[str, Node]:
    """Elements of the narrative by their ID, which entries point to."""
    found: dict[str, Node] = {}
    for text in root.iter(f"{V3}text"):
        for one in text.iter():
            if identifier := one.get("ID"):
                found.setdefault(identifier, one)
    return found


def times(node: Node | None) -> tuple[tuple[str, Node | None], tuple[str, Node | None]]:
    """effectiveTime as low and high, a single value as low."""
    effective = at(node, "effectiveTime")
    low, high = at(effective, "low"), at(effective, "high")
    start = attribute(low, "value") or attribute(effective, "value")
    return (start, effective), (attribute(high, "value"), effective)


def first_of(parts: Mapping[str, Sequence[Node]], role: str) -> Node | None:
    """The first data element of a role."""
    found = parts.get(role)
    return found[0] if found else None
