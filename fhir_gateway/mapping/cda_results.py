"""The Results section of C-CDA R2.1 (2.16.840.1.113883.10.20.22.2.3.1): organizers as panels.

Each Result Organizer is a report of its own, known by its id; its observations are the results.
"""

from __future__ import annotations

from collections.abc import Iterator

from fhir_gateway.mapping.cda_header import Header
from fhir_gateway.mapping.cda_parse import (
    Node,
    at,
    attribute,
    check_stated,
    every,
    fault,
    long_text,
    sections,
    text_of,
)
from fhir_gateway.mapping.cda_report import (
    Panel,
    Result,
    add_panel,
    issued,
    narrative_ids,
    report_status,
    result_status,
    times,
)
from fhir_gateway.mapping.cda_segments import Writer
from fhir_gateway.mapping.cda_tables import Tables
from fhir_gateway.mapping.cda_value import (
    concept,
    flags,
    reference_range,
    said,
    value_of,
)

_SECTIONS = frozenset({
    "2.16.840.1.113883.10.20.22.2.3.1", "2.16.840.1.113883.10.20.22.2.3",
})  # fmt: skip


def add_results(writer: Writer, header: Header, tables: Tables) -> bool:
    """Adds a panel for each organizer of a Results section; False where there is none."""
    names = narrative_ids(header.root)
    found = False
    for organizer in _organizers(header.root):
        add_panel(writer, header, _panel(header, tables, names, organizer))
        found = True
    return found


def _organizers(root: Node) -> Iterator[Node]:
    seen: set[Node] = set()
    for section in sections(root):
        if _SECTIONS.isdisjoint(attribute(one, "root") for one in every(section, "templateId")):
            continue
        for entry in every(section, "entry"):
            organizer = at(entry, "organizer")
            if organizer is not None and organizer not in seen:
                seen.add(organizer)
                yield organizer


def _panel(header: Header, tables: Tables, names: dict[str, Node], organizer: Node) -> Panel:
    own = at(organizer, "id")
    number = attribute(own, "extension") or attribute(own, "root")
    if not number:
        raise fault(organizer, "a Result Organizer has an id", "cda-report-number")
    check_stated(organizer)
    code = concept(at(organizer, "code"), tables, names)
    if not code:
        raise fault(organizer, "a Result Organizer has a code", "cda-item")
    observations = [
        one
        for component in every(organizer, "component")
        if (one := at(component, "observation")) is not None
    ]
    start, end = times(organizer)
    starts = [time for one in observations if (time := times(one)[0])[0]]
    collected = start if start[0] else (starts[0] if starts else ("", None))
    specimen = at(organizer, "specimen", "specimenRole", "specimenPlayingEntity", "code")
    return Panel(
        node=organizer,
        number=number,
        code=code,
        status=report_status(header, tables, attribute(at(organizer, "statusCode"), "code")),
        results=[
            _result(header, tables, names, one, organizer, collected[0]) for one in observations
        ],
        collected=collected,
        ended=end[0],
        issued=issued(header),
        specimen=concept(specimen, tables, names),
    )


def _result(
    header: Header,
    tables: Tables,
    names: dict[str, Node],
    node: Node,
    organizer: Node,
    collected: str,
) -> Result:
    code = concept(at(node, "code"), tables, names)
    if not code:
        raise fault(node, "the observation has no code", "cda-item")
    check_stated(node)
    value = value_of(node)
    time = times(node)[0][0]
    return Result(
        node=node,
        code=code,
        said=said(value, tables, names),
        flags=flags(node),
        range=reference_range(node),
        status=result_status(header, tables, node, organizer),
        method=_name(at(node, "methodCode")),
        doctor=text_of(at(node, "author", "assignedAuthor", "assignedPerson", "name")),
        time=time if time != collected else "",
        notes=list(_comments(node)),
        value_node=value,
    )


def _name(node: Node | None) -> str:
    return attribute(node, "displayName") or text_of(node)


def _comments(node: Node) -> Iterator[str]:
    """Comment Activities (2.16.840.1.113883.10.20.22.4.64) of an observation."""
    for one in every(node, "entryRelationship"):
        act = at(one, "act")
        if attribute(at(act, "code"), "code") == "48767-8" and (text := long_text(at(act, "text"))):
            yield text
