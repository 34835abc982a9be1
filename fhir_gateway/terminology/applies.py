"""Which profile a resource is judged by without claiming it: `profiles/applies.csv`.

By type and category. The table counts for institutions that have a mode of validation; whoever has
none is judged by R4 and by what its resources claim (docs/validation.md).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from fhir_gateway.errors import Issue, Unprocessable
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.settings import CANONICAL

FILE = "applies.csv"
_COLUMNS = ("type", "category_system", "category_codes", "profile")


class Row(NamedTuple):
    """One row: an empty system stands for every resource of the type."""

    type: str
    system: str
    codes: frozenset[str]
    profile: str


@dataclass(frozen=True, slots=True)
class Applies:
    """The table, by resource type."""

    rows: Mapping[str, tuple[Row, ...]]

    def of(self, resource: Mapping[str, Any]) -> list[str]:
        """The canonical urls of the profiles that apply to a resource."""
        rows = self.rows.get(resource.get("resourceType", ""), ())
        return [row.profile for row in rows if not row.system or _is_of(resource, row)]


NO_TABLE = Applies({})


def _is_of(resource: Mapping[str, Any], row: Row) -> bool:
    categories = resource.get("category", [])
    return any(
        coding.get("system") == row.system and coding.get("code") in row.codes
        for category in (categories if isinstance(categories, list) else [categories])
        for coding in category.get("coding", ())
    )


@lru_cache(maxsize=8)
def load_applies(profiles: str) -> Applies:
    """The table of a folder, empty where there is none. Raises Unprocessable with every fault."""
    path = Path(profiles) / FILE
    if not path.is_file():
        return NO_TABLE
    found: dict[str, list[Row]] = {}
    issues: list[Issue] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != _COLUMNS:
            raise Unprocessable(f"{FILE}: the columns are {', '.join(_COLUMNS)}", rule="applies")
        for number, cells in enumerate(reader, 2):
            row = _row(cells)
            wrong = _wrong(row)
            if wrong:
                issues.append(Issue("invalid", f"{FILE}, row {number}: {wrong}", rule="applies"))
            else:
                found.setdefault(row.type, []).append(row)
    if issues:
        raise Unprocessable(issues=tuple(issues))
    return Applies({type: tuple(rows) for type, rows in found.items()})


def _row(cells: Mapping[str, str]) -> Row:
    texts = [(cells.get(name) or "").strip() for name in _COLUMNS]
    profile = texts[3].replace("{CANONICAL}", CANONICAL)
    return Row(texts[0], texts[1], frozenset(texts[2].split()), profile)


def _wrong(row: Row) -> str:
    if row.type not in definitions().resource_type_set:
        return f"{row.type} is no resource type of R4"
    if bool(row.system) != bool(row.codes):
        return "category_system and category_codes go together"
    return "" if row.profile else "a profile is needed"
