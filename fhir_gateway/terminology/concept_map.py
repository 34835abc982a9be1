"""Local code maps: an institution's own codes of results and orders, and the items they mean.

One table per institution, `mappings/concepts/<institution>.csv`; mappings/concepts/README.md tells
its columns. Each is also served as FHIR ConceptMaps (R4 conceptmap.html), one for results and one
for orders, so that a hospital can read what is believed of its codes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fhir_gateway.errors import Issue, Unprocessable
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import SYSTEM_OF, SYSTEMS, Catalogue, Item, Kind
from fhir_gateway.terminology.specimen import compare_specimens, specimen_classes
from fhir_gateway.terminology.table import Table
from fhir_gateway.terminology.unit import canonical_unit, compare_units

Use = Literal["result", "order"]
COLUMNS = (
    "kind", "local_system", "local_code", "local_name", "item",
    "specimen", "unit", "method", "note",
)  # fmt: skip

_FHIR_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")

#: A row without a system fits a code of any system but these: nobody's own codes live there.
_STANDARD = (
    "http://loinc.org", "http://snomed.info", "http://hl7.org/", "http://terminology.hl7.org/",
    "http://dicom.nema.org/", "http://unitsofmeasure.org", "urn:oid:2.16.840.1.113883.6.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One row. No items: the code is known and stands for nothing in the catalogue."""

    use: Use
    system: str
    code: str
    name: str
    items: tuple[Item, ...]
    specimen: str
    unit: str
    method: str
    note: str


@dataclass(frozen=True, slots=True)
class Stated:
    """What a resource says beside its code; it tells rows of the same code apart."""

    specimen: str = ""
    unit: str = ""
    method: str = ""


@dataclass(frozen=True, slots=True)
class LocalMap:
    """The table of one institution."""

    institution: str
    rows: tuple[Row, ...]
    _index: Mapping[tuple[str, str], tuple[Row, ...]] = field(repr=False)

    def find(self, use: Use, concept: Mapping[str, Any], stated: Stated) -> tuple[Item, ...] | None:
        """The items that a CodeableConcept means here; empty when the table says it means none.

        None when no row fits, and when several rows fit that mean different things: a doubt is
        not decided by the order of rows.
        """
        fitting = [row for row in self._named(use, concept) if _fits(row, stated)]
        if not fitting:
            return None
        stated_by_row = [_confirmed(row, stated) for row in fitting]
        best = max(stated_by_row)
        meanings = {
            row.items for row, sure in zip(fitting, stated_by_row, strict=True) if sure == best
        }
        return meanings.pop() if len(meanings) == 1 else None

    def _named(self, use: Use, concept: Mapping[str, Any]) -> Iterable[Row]:
        codings = concept.get("coding", ())
        for coding in codings:
            system = coding.get("system", "")
            for row in self._index.get((use, coding.get("code", "")), ()):
                if system == row.system if row.system else not _standard(system):
                    yield row
        if not any(coding.get("code") for coding in codings):
            names = {concept.get("text"), *(coding.get("display") for coding in codings)}
            for name in names:
                yield from self._index.get((use, f"={name}"), ())

    def counts(self) -> tuple[int, int]:
        """(rows with an item, rows without)."""
        mapped = sum(1 for row in self.rows if row.items)
        return mapped, len(self.rows) - mapped


def load_concept_maps(folder: Path | str, catalogue: Catalogue) -> dict[str, LocalMap]:
    """All maps by institution. Raises Unprocessable with the faults of all files at once."""
    maps: dict[str, LocalMap] = {}
    issues: list[Issue] = []
    for path in sorted(Path(folder).glob("*.csv")):
        try:
            maps[path.stem] = load_concept_map(path, catalogue)
        except Unprocessable as error:
            issues += error.issues
    if issues:
        raise Unprocessable(issues=tuple(issues))
    return maps


def load_concept_map(path: Path, catalogue: Catalogue) -> LocalMap:
    """One map. Raises Unprocessable with every fault: file, row, column."""
    table = Table(path, COLUMNS)
    if not _FHIR_ID.fullmatch(path.stem):
        table.fault(0, "", "the file name must be the institution's id", rule="map-institution")
    rows: list[Row] = []
    seen: dict[tuple[str, ...], int] = {}
    for line, cells in table.rows():
        row = _row(table, line, cells, catalogue)
        if row is None:
            continue
        key = (row.use, row.system, row.code or row.name, row.specimen, row.unit, row.method)
        if key in seen:
            table.fault(line, "local_code", f"the same as row {seen[key]}", rule="map-twice")
        seen[key] = line
        rows.append(row)
    table.check()
    return LocalMap(path.stem, tuple(rows), _indexed(rows))


def doubts(local_map: LocalMap) -> list[str]:
    """What a person should look at: rows that will never be recognised as they stand."""
    lines = []
    for row in local_map.rows:
        for item in row.items:
            if row.unit and item.ucum_unit and compare_units(row.unit, item.ucum_unit) is False:
                lines.append(
                    f"{row.code or row.name}: reported in {row.unit}, "
                    f"but {item.code} {item.name_zh} is compared in {item.ucum_unit}"
                )
    return lines


def concept_maps_of(local_map: LocalMap, name: str, catalogue: Catalogue) -> list[dict[str, Any]]:
    """The map as ConceptMap resources, one for each use that has rows; `name` the institution's."""
    uses: tuple[Use, ...] = ("result", "order")
    return [
        _resource(local_map, use, name, catalogue)
        for use in uses
        if any(row.use == use for row in local_map.rows)
    ]


def _standard(system: str) -> bool:
    return system in SYSTEMS or system.startswith(_STANDARD)


def _fits(row: Row, stated: Stated) -> bool:
    """No cell of the row is contradicted."""
    if row.specimen and compare_specimens(stated.specimen, row.specimen) is False:
        return False
    if row.unit and compare_units(stated.unit, row.unit) is False:
        return False
    return not (row.method and stated.method and row.method != stated.method)


def _confirmed(row: Row, stated: Stated) -> int:
    """How many cells of the row the resource states itself."""
    return (
        (bool(row.specimen) and compare_specimens(stated.specimen, row.specimen) is True)
        + (bool(row.unit) and compare_units(stated.unit, row.unit) is True)
        + (bool(row.method) and row.method == stated.method)
    )


def _row(table: Table, line: int, cells: dict[str, str], catalogue: Catalogue) -> Row | None:
    before = len(table.issues)
    use = cells["kind"]
    if use not in ("result", "order"):
        table.fault(line, "kind", "must be result or order", rule="map-kind")
    if not cells["local_code"] and not cells["local_name"]:
        table.fault(line, "local_code", "neither a code nor a name", rule="map-code")
    items = _items(table, line, cells["item"], catalogue)
    if use == "result" and len(items) > 1:
        table.fault(line, "item", "a result is one item; panels are orders", rule="map-panel")
    if cells["specimen"] and not specimen_classes(cells["specimen"]):
        table.fault(line, "specimen", "is not a known specimen", rule="map-specimen")
    if cells["unit"] and not canonical_unit(cells["unit"]):
        table.fault(line, "unit", "is not a known unit", rule="map-unit")
    for item in items:
        if item.specimen and compare_specimens(cells["specimen"], item.specimen) is False:
            sentence = f"contradicts {item.code}, which is measured in {item.specimen}"
            table.fault(line, "specimen", sentence, rule="map-specimen")
    if len(table.issues) > before:
        return None
    return Row(
        use="order" if use == "order" else "result",
        system=cells["local_system"],
        code=cells["local_code"],
        name=cells["local_name"],
        items=items,
        specimen=cells["specimen"],
        unit=cells["unit"],
        method=cells["method"],
        note=cells["note"],
    )


def _items(table: Table, line: int, text: str, catalogue: Catalogue) -> tuple[Item, ...]:
    codes = [code.strip() for code in text.split(";") if code.strip()]
    for code in codes:
        if code not in catalogue.items:
            table.fault(line, "item", f"{code} is not in the catalogue", rule="map-item")
    return tuple(catalogue.items[code] for code in codes if code in catalogue.items)


def _indexed(rows: Sequence[Row]) -> dict[tuple[str, str], tuple[Row, ...]]:
    """Rows by use and code; rows without a code by `=` and name."""
    index: dict[tuple[str, str], tuple[Row, ...]] = {}
    for row in rows:
        key = (row.use, row.code or f"={row.name}")
        index[key] = (*index.get(key, ()), row)
    return index


# -- as FHIR -------------------------------------------------------------------------------------

_NO_KIND: tuple[Kind, ...] = ("lab",)  # where a code that means nothing is listed
_OBSERVATION = "http://hl7.org/fhir/StructureDefinition/Observation#Observation."


def _resource(local_map: LocalMap, use: Use, name: str, catalogue: Catalogue) -> dict[str, Any]:
    id = f"{local_map.institution}-{use}"[:64]
    words = {"result": "results", "order": "orders"}[use]
    resource: dict[str, Any] = {
        "resourceType": "ConceptMap",
        "id": id,
        "url": f"{CANONICAL}/ConceptMap/{id}",
        "version": catalogue.edition,
        "name": re.sub("[^A-Za-z0-9]", "_", f"LocalCodes_{id}"),
        "title": f"Local codes of {words}: {name}",
        "status": catalogue.status,
        "experimental": catalogue.experimental,
        "date": catalogue.date,
        "publisher": catalogue.publisher,
        "description": f"What the codes of {words} of {name} mean in the catalogue of items.",
        "copyright": "\n\n".join(catalogue.notices),
        "group": _groups([row for row in local_map.rows if row.use == use]),
    }
    return {key: value for key, value in resource.items() if value not in ("", [])}


def _groups(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One group for each pair of source and target system, in the order of the table."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        kinds: dict[Kind, None] = dict.fromkeys(item.kind for item in row.items)
        for kind in kinds or dict.fromkeys(_NO_KIND):
            targets = [_target(row, item) for item in row.items if item.kind == kind]
            element = {
                "code": row.code or row.name,
                "display": row.name,
                "target": targets or [{"equivalence": "unmatched", "comment": row.note}],
            }
            groups.setdefault((row.system, SYSTEM_OF[kind]), []).append(_filled(element))
    return [
        _filled({"source": source, "target": target, "element": elements})
        for (source, target), elements in groups.items()
    ]


def _target(row: Row, item: Item) -> dict[str, Any]:
    depends = [
        {"property": f"{_OBSERVATION}{name}", "value": value}
        for name, value in (
            ("specimen", row.specimen),
            ("valueQuantity.unit", row.unit),
            ("method", row.method),
        )
        if value
    ]
    return _filled(
        {
            "code": item.code,
            "display": item.name_zh,
            "equivalence": "equivalent" if len(row.items) == 1 else "narrower",
            "comment": row.note,
            "dependsOn": depends,
        }
    )


def _filled(element: dict[str, Any]) -> dict[str, Any]:
    """Without what is empty, in the targets too: FHIR has no empty texts and lists."""
    filled = {key: value for key, value in element.items() if value not in ("", [])}
    if "target" in filled and isinstance(filled["target"], list):
        filled["target"] = [_filled(target) for target in filled["target"]]
    return filled
