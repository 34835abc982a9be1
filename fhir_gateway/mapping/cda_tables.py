"""The tables of mappings/cda: which templates, numbers, data elements and codes a document uses.

A committee edits them; sources stand in mappings/cda/README.md. What a table does not name is
passed over or kept as text, as its module says.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from fhir_gateway.mapping.tables import Table, table
from fhir_gateway.terminology.table import Table as File

KINDS = ("lab", "exam", "results", "document")
LAB, EXAM, RESULTS, DOCUMENT = KINDS


class Template(NamedTuple):
    """A kind of document: how it is read, its code, and the section of OBR-24 where it has one."""

    kind: str
    code: str
    system: str
    name: str
    section: str


class Number(NamedTuple):
    """What an OID numbers: a role, the type of CX.5 for a person, the order of preference."""

    role: str
    type: str
    rank: int


class Tables(NamedTuple):
    """All tables of a folder."""

    templates: Mapping[str, Template]
    numbers: Mapping[str, Number]
    elements: Mapping[str, str]
    names: Mapping[str, str]
    sections: Mapping[str, str]
    systems: Mapping[str, str]
    statuses: Mapping[str, tuple[str, str]]
    results: Table
    exam_types: Table


@lru_cache(maxsize=8)
def tables_of(folder: str) -> Tables:
    """The tables of mappings/cda. Raises Unprocessable with the faults of a file."""
    templates = {
        row["template"]: Template(row["kind"], row["code"], row["system"], row["name"],
                                  row["section"])
        for row in _rows(folder, "templates", ("template", "kind", "code", "system", "name",
                                               "section"), kind=KINDS)
    }  # fmt: skip
    numbers = {
        row["oid"]: Number(row["role"], row["type"], int(row["rank"]))
        for row in _rows(folder, "identifiers", ("oid", "role", "type", "rank"))
    }
    rows = _rows(folder, "elements", ("element", "role", "name"))
    elements = {row["element"]: row["role"] for row in rows}
    names = {row["element"]: row["name"] for row in rows}
    systems = {row["oid"]: row["name"] for row in _rows(folder, "code-systems", ("oid", "name"))}
    statuses = {
        row["received"]: (row["result"], row["report"])
        for row in _rows(folder, "statuses", ("received", "result", "report"))
    }
    return Tables(
        templates,
        numbers,
        elements,
        names,
        {row["code"]: row["name"] for row in _rows(folder, "sections", ("code", "name"))},
        systems,
        statuses,
        table(folder, "result-codes"),
        table(folder, "exam-types"),
    )


def _rows(
    folder: str, name: str, columns: tuple[str, ...], **allowed: tuple[str, ...]
) -> list[dict[str, str]]:
    """The rows of a file whose first column says each thing once."""
    file = File(Path(folder) / f"{name}.csv", columns)
    found: dict[str, dict[str, str]] = {}
    for line, cells in file.rows():
        if cells[columns[0]] in found:
            file.fault(line, columns[0], "the row stands twice", rule="mapping-table")
        for column, values in allowed.items():
            if cells[column] not in values:
                file.fault(line, column, f"one of {', '.join(values)}", rule="mapping-table")
        if "rank" in columns and not (cells["rank"].isascii() and cells["rank"].isdigit()):
            file.fault(line, "rank", "a number", rule="mapping-table")
        found[cells[columns[0]]] = cells
    file.check()
    return list(found.values())
