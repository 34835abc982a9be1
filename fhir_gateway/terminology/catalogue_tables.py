"""What is said of the catalogue's items beside their rows: panels, regions, names of groups.

None of it is hierarchy. A panel (组合) is what laboratories usually order together, a region may
cover others (胸腹盆 covers 胸部): both are properties of the served concepts. That one examination
covers the region of another says nothing of whether it can stand in for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from fhir_gateway.errors import Issue
from fhir_gateway.terminology.table import Table

Regions = Mapping[str, tuple[str, ...]]
#: (kind, class or modality) -> name in Chinese and in English
GroupNames = Mapping[tuple[str, str], tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Panel:
    """Items that are usually ordered together. A site's own panels stand in its order map."""

    code: str
    name_zh: str
    name_en: str
    items: tuple[str, ...]
    source: str


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables beside the items; each may be absent, and then it says nothing."""

    panels: Mapping[str, Panel]
    regions: Regions
    group_names: GroupNames


NO_TABLES = Tables(MappingProxyType({}), MappingProxyType({}), MappingProxyType({}))


def load_tables(folder: Path, codes: Collection[str]) -> tuple[Tables, list[Issue]]:
    """The tables of a folder, and their faults; `codes` are the items that a panel may name."""
    issues: list[Issue] = []
    tables = Tables(
        MappingProxyType(_panels(folder / "panels.csv", codes, issues)),
        MappingProxyType(_regions(folder / "regions.csv", issues)),
        MappingProxyType(_group_names(folder / "groups.csv", issues)),
    )
    return tables, issues


def covered(region: str, regions: Regions) -> tuple[str, ...]:
    """The region itself and all that it covers, through every step, in the order of the table."""
    found: dict[str, None] = {}
    waiting = [region] if region else []
    while waiting:
        one = waiting.pop(0)
        if one not in found:
            found[one] = None
            waiting += regions.get(one, ())
    return tuple(found)


def _panels(path: Path, codes: Collection[str], issues: list[Issue]) -> dict[str, Panel]:
    table = Table(path, ("code", "name_zh", "name_en", "items", "source"))
    panels: dict[str, Panel] = {}
    for line, cells in _rows(table):
        items = _parts(cells["items"])
        if not cells["code"] or not cells["name_zh"]:
            table.fault(line, "code", "a panel needs a code and a name", rule="catalogue-empty")
        if cells["code"] in panels:
            table.fault(line, "code", "the panel stands twice", rule="catalogue-panel")
        if unknown := [item for item in items if item not in codes]:
            sentence = f"{', '.join(unknown)}: not in the tables of items"
            table.fault(line, "items", sentence, rule="catalogue-panel")
        panels[cells["code"]] = Panel(
            cells["code"], cells["name_zh"], cells["name_en"], items, cells["source"]
        )
    issues += table.issues
    return panels


def _regions(path: Path, issues: list[Issue]) -> dict[str, tuple[str, ...]]:
    table = Table(path, ("region", "covers", "source"))
    regions: dict[str, tuple[str, ...]] = {}
    lines: dict[str, int] = {}
    for line, cells in _rows(table):
        if cells["region"] in regions:
            table.fault(line, "region", "the region stands twice", rule="catalogue-region")
        regions[cells["region"]], lines[cells["region"]] = _parts(cells["covers"]), line
    for region, line in lines.items():
        if any(region in covered(part, regions) for part in regions[region]):
            sentence = f"{region} would cover itself through what it covers"
            table.fault(line, "covers", sentence, rule="catalogue-region")
    issues += table.issues
    return regions


def _group_names(path: Path, issues: list[Issue]) -> dict[tuple[str, str], tuple[str, str]]:
    table = Table(path, ("kind", "group", "name_zh", "name_en"))
    names: dict[tuple[str, str], tuple[str, str]] = {}
    for line, cells in _rows(table):
        if cells["kind"] not in ("lab", "imaging"):
            table.fault(line, "kind", "must be lab or imaging", rule="catalogue-word")
        names[cells["kind"], cells["group"]] = (cells["name_zh"], cells["name_en"])
    issues += table.issues
    return names


def _rows(table: Table) -> list[tuple[int, dict[str, str]]]:
    """All rows; none when the site has no such table."""
    return list(table.rows()) if table.path.exists() else []


def _parts(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(";") if part.strip()))
