"""The value tables of the terminology folder: national tables, and Chinese names of others.

tables.csv names them, tables/<id>.csv holds their rows, and table-maps.csv says what rows mean in
other systems (FHIR R4 conceptmap.html). The tables are compiled from public sources, which each of
them names; none is an official publication.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from fhir_gateway.fhir.terminology import ConceptRow
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.listed_system import ListedSystem
from fhir_gateway.terminology.table import Table

#: A code system, or Chinese names for a system that is here anyway.
KINDS = ("system", "names")

_STATUS = ("", "deprecated", "retired")
_EQUIVALENCES = (
    "equivalent", "equal", "wider", "subsumes", "narrower", "specializes", "relatedto", "inexact",
)  # fmt: skip
_LANGUAGES = {"zh-CN": "name_zh", "en": "name_en"}


class About(NamedTuple):
    """A row of tables.csv. `language` is that of its displays, `source` that of the codes."""

    id: str
    kind: str
    url: str
    version: str
    language: str
    title_zh: str
    title_en: str
    source: str


class Mapped(NamedTuple):
    """A row of table-maps.csv: what a code of a table is in another system."""

    source: str
    code: str
    target: str
    target_code: str
    equivalence: str


class ValueTable(NamedTuple):
    """One table with its rows."""

    about: About
    rows: tuple[ConceptRow, ...]


@dataclass(frozen=True, eq=False)  # no slots: cached_property needs a __dict__
class ValueTables:
    """All tables by id, and all rows of the maps."""

    tables: Mapping[str, ValueTable]
    maps: tuple[Mapped, ...] = ()

    @cached_property
    def systems(self) -> tuple[ListedSystem, ...]:
        """The code systems among them."""
        return tuple(
            _system(table) for table in self.tables.values() if table.about.kind == "system"
        )

    @cached_property
    def names(self) -> Mapping[str, Mapping[str, str]]:
        """Chinese names by code, for systems that are here anyway, by url."""
        return {
            table.about.url: {row.code: row.display for row in table.rows}
            for table in self.tables.values()
            if table.about.kind == "names"
        }

    @cached_property
    def concept_maps(self) -> tuple[dict[str, Any], ...]:
        """The ConceptMaps, one for each table that has rows in table-maps.csv."""
        found: dict[str, list[Mapped]] = {}
        for one in self.maps:
            found.setdefault(one.source, []).append(one)
        return tuple(_concept_map(self.tables[id].about, rows) for id, rows in found.items())


NO_TABLES = ValueTables(MappingProxyType({}))


def load_value_tables(folder: Path | str) -> ValueTables:
    """The tables of this folder; none when it has no tables.csv.

    Raises Unprocessable with every fault: file, row, column.
    """
    folder = Path(folder)
    if not (folder / "tables.csv").exists():
        return NO_TABLES
    index = Table(folder / "tables.csv", About._fields)
    tables: dict[str, ValueTable] = {}
    for line, cells in index.rows():
        about = About(**cells)
        if _faultless(index, line, about, tables):
            tables[about.id] = ValueTable(about, _rows(index, folder, about))
    maps = _maps(index, folder, tables)
    index.check()
    return ValueTables(MappingProxyType(tables), maps)


def _faultless(table: Table, line: int, about: About, tables: Mapping[str, ValueTable]) -> bool:
    before = len(table.issues)
    if not about.id or about.id in tables or not about.id.replace("-", "").isalnum():
        sentence = "must be letters and hyphens, and once in the table"
        table.fault(line, "id", sentence, rule="value-table")
    if about.kind not in KINDS:
        table.fault(line, "kind", f"must be one of {', '.join(KINDS)}", rule="value-table")
    if about.language not in _LANGUAGES:
        sentence = f"must be one of {', '.join(_LANGUAGES)}"
        table.fault(line, "language", sentence, rule="value-table")
    if not about.url:
        table.fault(line, "url", "the cell is empty", rule="value-table")
    taken = {(one.about.kind, one.about.url, one.about.version) for one in tables.values()}
    if about.url and (about.kind, about.url, about.version) in taken:
        table.fault(line, "url", "a row above has the same url and version", rule="value-table")
    return len(table.issues) == before


def _rows(index: Table, folder: Path, about: About) -> tuple[ConceptRow, ...]:
    """The rows of one table, its faults noted with those of the index."""
    optional = ("parent", "status", "replaced_by", "definition")
    file = folder / "tables" / f"{about.id}.csv"
    table = Table(file, ("code", "name_zh", "name_en"), optional)
    rows: dict[str, ConceptRow] = {}
    for line, cells in table.rows():
        if not cells["code"] or cells["code"] in rows:
            table.fault(line, "code", "empty, or twice in the table", rule="value-table")
        if cells["status"] not in _STATUS:
            table.fault(line, "status", "must be deprecated, retired or empty", rule="value-table")
        if cells["parent"] and cells["parent"] not in rows:  # so no code is above itself
            table.fault(line, "parent", "no row above has this code", rule="value-table")
        if not (cells["name_zh"] or cells["name_en"] or cells["replaced_by"]):
            table.fault(line, "name_zh", "a code needs a name", rule="value-table")
        rows[cells["code"]] = _row(cells, about.language)
    index.issues += table.issues
    return tuple(rows.values())


def _row(cells: Mapping[str, str], language: str) -> ConceptRow:
    own = cells[_LANGUAGES[language]]
    display = own or cells["name_en"] or cells["name_zh"] or cells["code"]
    names = {tag: cells[column] for tag, column in _LANGUAGES.items()}
    return ConceptRow(
        code=cells["code"],
        display=display,
        definition=cells["definition"],
        parents=(cells["parent"],) if cells["parent"] else (),
        status=cells["status"],
        names={tag: name for tag, name in names.items() if name and name != display},
        replaced_by=cells["replaced_by"],
    )


def _maps(index: Table, folder: Path, tables: Mapping[str, ValueTable]) -> tuple[Mapped, ...]:
    table = Table(folder / "table-maps.csv", Mapped._fields)
    codes = {id: {row.code for row in one.rows} for id, one in tables.items()}
    found = []
    for line, cells in table.rows():
        row = Mapped(**cells)
        if row.source not in tables or tables[row.source].about.kind != "system":
            table.fault(line, "source", "no table of tables.csv has this id", rule="value-map")
        elif row.code not in codes[row.source]:
            table.fault(line, "code", f"the table {row.source} has no such code", rule="value-map")
        if not row.target or not row.target_code:
            table.fault(line, "target", "a row needs a system and a code", rule="value-map")
        if row.equivalence not in _EQUIVALENCES:
            sentence = f"must be one of {', '.join(_EQUIVALENCES)}"
            table.fault(line, "equivalence", sentence, rule="value-map")
        found.append(row)
    index.issues += table.issues
    return tuple(found)


def _system(table: ValueTable) -> ListedSystem:
    about = table.about
    return ListedSystem(
        url=about.url,
        title=about.title_zh if about.language == "zh-CN" else about.title_en,
        load=lambda: table.rows,
        version=about.version,
        language=about.language,
        notice=f"Compiled for this gateway, not an official publication. Codes: {about.source}.",
        value_set=f"{CANONICAL}/ValueSet/{about.id}",
    )


def _concept_map(about: About, rows: list[Mapped]) -> dict[str, Any]:
    """A ConceptMap from a table to all systems that its rows lead to."""
    groups: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        target = {"code": row.target_code, "equivalence": row.equivalence}
        groups.setdefault(row.target, {}).setdefault(row.code, []).append(target)
    id = f"{about.id}-to-fhir"
    return {
        "resourceType": "ConceptMap",
        "id": id,
        "url": f"{CANONICAL}/ConceptMap/{id}",
        "name": "".join(word.capitalize() for word in id.split("-")),
        "title": f"{about.title_en}: codes of FHIR",
        "status": "draft",
        "experimental": True,
        "description": "Compiled for this gateway, not an official publication.",
        "sourceUri": f"{CANONICAL}/ValueSet/{about.id}",
        "group": [
            {
                "source": about.url,
                "target": target,
                "element": [
                    {"code": code, "target": targets} for code, targets in elements.items()
                ],
            }
            for target, elements in groups.items()
        ],
    }
