"""Local code maps as tables: an institution's own codes of results and orders, and their items.

One table per institution, `mappings/concepts/<institution>.csv`; mappings/concepts/README.md tells
its columns. Each is also served as FHIR ConceptMaps, see local_map_resource.py.
"""

from __future__ import annotations

import re
from pathlib import Path

from fhir_gateway.errors import Issue, Unprocessable
from fhir_gateway.terminology.catalogue import Catalogue
from fhir_gateway.terminology.local_map import LocalMap, Row, local_map
from fhir_gateway.terminology.local_map_check import Cells, clash, faults, key_of, row_of
from fhir_gateway.terminology.local_map_resource import sourced
from fhir_gateway.terminology.table import Table

COLUMNS = (
    "kind", "local_system", "local_code", "local_name", "item",
    "specimen", "unit", "method", "note",
)  # fmt: skip
OPTIONAL = ("from", "to")

_FHIR_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


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
    table = Table(path, COLUMNS, OPTIONAL)
    if not _FHIR_ID.fullmatch(path.stem):
        table.fault(0, "", "the file name must be the institution's id", rule="map-institution")
    rows: list[Row] = []
    seen: dict[tuple[str, ...], dict[Row, int]] = {}
    for line, cells in table.rows():
        written = cells_of(cells)
        wrong = list(faults(written, catalogue))
        for column, sentence, rule in wrong:
            table.fault(line, column, sentence, rule=rule)
        if wrong:
            continue
        row = row_of(written, catalogue, source="")
        same = seen.setdefault(key_of(row), {})
        if other := clash(row, same):
            table.fault(line, "local_code", f"the same as row {same[other]}", rule="map-twice")
        same[row] = line
        rows.append(row)
    table.check()
    return local_map(path.stem, sourced(path.stem, rows, catalogue))


def cells_of(cells: dict[str, str]) -> Cells:
    """The cells of a line, as they stand in a table."""
    items = tuple(code.strip() for code in cells["item"].split(";") if code.strip())
    return Cells(
        kind=cells["kind"],
        local_system=cells["local_system"],
        local_code=cells["local_code"],
        local_name=cells["local_name"],
        item=items,
        specimen=cells["specimen"],
        unit=cells["unit"],
        method=cells["method"],
        note=cells["note"],
        from_=cells["from"],
        to=cells["to"],
    )
