"""The catalogue: the items that can be recognised, read from terminology/*.csv.

The tables are data of a site. Nothing here, and nothing elsewhere, may depend on a row, a count or
a code that stands in them; terminology/README.md tells their columns and their sources. How
editions follow each other, and what an official list is beside them: docs/adr/0017.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from fhir_gateway.errors import Invalid
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue_tables import (
    NO_TABLES,
    GroupNames,
    Panel,
    Tables,
    covered,
    load_tables,
)
from fhir_gateway.terminology.table import Table

Kind = Literal["lab", "imaging"]

LAB_SYSTEM = f"{CANONICAL}/CodeSystem/catalogue-lab"
IMAGING_SYSTEM = f"{CANONICAL}/CodeSystem/catalogue-imaging"
SYSTEMS: Mapping[str, Kind] = MappingProxyType({LAB_SYSTEM: "lab", IMAGING_SYSTEM: "imaging"})
SYSTEM_OF: Mapping[Kind, str] = MappingProxyType({"lab": LAB_SYSTEM, "imaging": IMAGING_SYSTEM})
LOINC = "http://loinc.org"

#: How the codes begin that group items for a reader and are never an item themselves.
GROUP = "group:"

_COMMON = (
    "code", "name_zh", "name_en", "loinc", "loinc_relation", "class",
    "validity_days", "validity_source",
)  # fmt: skip
_COLUMNS: Mapping[Kind, tuple[str, ...]] = {
    "lab": (*_COMMON, "abbreviation", "specimen", "scale", "ucum_unit"),
    "imaging": (
        *_COMMON, "modality", "body_part_zh", "body_part_dicom", "laterality", "contrast",
        "default_recognition",
    ),
}  # fmt: skip
_FILES: Mapping[Kind, str] = {"lab": "lab-items.csv", "imaging": "imaging-items.csv"}

#: Columns that hold one of a few words.
_WORDS: Mapping[str, frozenset[str]] = {
    "loinc_relation": frozenset({"exact", "broader", "none"}),
    "scale": frozenset({"quantitative", "ordinal", "qualitative"}),
    "laterality": frozenset({"unpaired", "B", "R/L", "R/L/B"}),
    "contrast": frozenset({"none", "with", "without-with"}),
    "default_recognition": frozenset({"remind", "view-only"}),
}
_REQUIRED = frozenset({"code", "name_zh", "class", "modality", *_WORDS})
#: The day from which an item is no longer on the list; its row stays, because results carry it.
_OPTIONAL = ("retired",)

_DATE = re.compile(r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One row. Fields of the other kind are empty; an item of the lab is reminded by default.

    `list_system` is set for an entry of an imported list. `listed` is False where the list that a
    rule set speaks of does not hold the item.
    """

    kind: Kind
    code: str
    name_zh: str
    name_en: str
    abbreviation: str = ""
    loinc: str = ""
    loinc_relation: str = "none"
    specimen: str = ""
    scale: str = ""
    ucum_unit: str = ""
    modality: str = ""
    body_part_zh: str = ""
    body_part_dicom: str = ""
    laterality: str = ""
    contrast: str = ""
    item_class: str = ""
    validity_days: int = 0
    validity_source: str = ""
    default_recognition: str = "remind"
    edition: str = ""
    retired: str = ""
    list_system: str = ""
    listed: bool = True

    @property
    def system(self) -> str:
        """The code system of the item: its list's own, else that of the catalogue."""
        return self.list_system or SYSTEM_OF[self.kind]

    @property
    def group(self) -> str:
        """What it is grouped by in the served hierarchy: discipline, or kind of examination."""
        return self.modality if self.kind == "imaging" else self.item_class

    @property
    def window_published(self) -> bool:
        """Whether the window was read in a published list, not compiled by us."""
        return self.validity_source.startswith("published")

    def coding(self) -> dict[str, Any]:
        """The item as a FHIR Coding."""
        return {"system": self.system, "code": self.code, "display": self.name_zh}


@dataclass(frozen=True)  # no slots: cached_property needs a __dict__
class Catalogue:
    """All items of one edition, with what must be said about them.

    `items` are those that stand on it; `retired` those that did once and keep their meaning.
    `effective` and `until` are the first and last day on which the edition holds.
    """

    items: Mapping[str, Item]
    edition: str
    date: str
    publisher: str
    statement: str
    notices: tuple[str, ...]
    status: str
    experimental: bool
    loinc_names: Mapping[str, str]
    effective: str = ""
    until: str = ""
    retired: Mapping[str, Item] = field(default_factory=lambda: MappingProxyType({}))
    tables: Tables = NO_TABLES

    @property
    def panels(self) -> Mapping[str, Panel]:
        """The usual panels by code."""
        return self.tables.panels

    @property
    def group_names(self) -> GroupNames:
        """Names of the groups of the hierarchy."""
        return self.tables.group_names

    @cached_property
    def panels_of(self) -> Mapping[str, tuple[str, ...]]:
        """Codes of the panels that each item usually belongs to."""
        found: dict[str, list[str]] = {}
        for panel in self.panels.values():
            for code in panel.items:
                found.setdefault(code, []).append(panel.code)
        return {code: tuple(panels) for code, panels in found.items()}

    @property
    def loinc_notice(self) -> str:
        """What has to be said wherever LOINC codes are, "" when the catalogue says nothing."""
        return next((notice for notice in self.notices if "LOINC" in notice), "")

    def covers(self, item: Item) -> tuple[str, ...]:
        """The regions that an imaging item shows: its own and what that covers."""
        return covered(item.body_part_zh, self.tables.regions)

    def by_coding(self, system: str | None, code: str | None) -> Item | None:
        """The item that a coding of one of the two catalogue systems names."""
        kind = SYSTEMS.get(system or "")
        item = self.items.get(code or "") if kind else None
        return item if item is not None and item.kind == kind else None

    @cached_property
    def by_loinc(self) -> Mapping[str, Item]:
        """Items by LOINC code, only where the code says exactly one row and nothing wider."""
        found: dict[str, list[Item]] = {}
        for item in self.items.values():
            if item.loinc:
                found.setdefault(item.loinc, []).append(item)
        return {
            code: rows[0]
            for code, rows in found.items()
            if len(rows) == 1 and rows[0].loinc_relation == "exact"
        }

    def of(self, kind: Kind) -> list[Item]:
        """The items of the laboratory or of imaging, in the order of the table."""
        return [item for item in self.items.values() if item.kind == kind]


def load_catalogue(folder: Path | str) -> Catalogue:
    """The catalogue in this folder. Raises Unprocessable with every fault: file, row, column."""
    folder = Path(folder)
    about = _load_about(folder / "catalogue.toml")
    tables = [Table(folder / _FILES[kind], _COLUMNS[kind], _OPTIONAL) for kind in _FILES]
    items: dict[str, Item] = {}
    for kind, table in zip(_FILES, tables, strict=True):
        for line, cells in table.rows():
            if _faultless(table, line, cells, items):
                items[cells["code"]] = _item(kind, cells, about["edition"])
    names = Table(folder / "loinc-names.csv", ("loinc", "long_common_name"))
    loinc_names = {cells["loinc"]: cells["long_common_name"] for _, cells in names.rows()}
    tables[0].issues += [*tables[1].issues, *names.issues]
    tables[0].check()  # before the tables that name items, which would be told as wrong, too
    beside, tables[0].issues = load_tables(folder, items)
    tables[0].check()
    return Catalogue(
        items=MappingProxyType({code: one for code, one in items.items() if not one.retired}),
        retired=MappingProxyType({code: one for code, one in items.items() if one.retired}),
        tables=beside,
        effective=about.get("effective", about["date"]),
        until=about.get("until", ""),
        edition=about["edition"],
        date=about["date"],
        publisher=about["publisher"],
        statement=about["statement"],
        notices=tuple(about.get("notices", {}).values()),
        status=about["status"],
        experimental=about["experimental"],
        loinc_names=MappingProxyType(loinc_names),
    )


def item_code(codeable_concept: Mapping[str, Any] | None) -> str | None:
    """The catalogue code in a CodeableConcept, the first when there are several.

    The code of a group is none: nobody can order or report "clinical chemistry".
    """
    for coding in (codeable_concept or {}).get("coding", ()):
        code: str | None = coding.get("code")
        if coding.get("system") in SYSTEMS and not is_group(code):
            return code
    return None


def is_group(code: str | None) -> bool:
    """Whether a code of a catalogue system only groups items."""
    return code is not None and code.startswith(GROUP)


def group_code(group: str) -> str:
    """The code of a discipline or of a kind of examination in the served hierarchy."""
    return GROUP + "-".join(group.split())


def ordered_items(service_request: Mapping[str, Any]) -> list[str]:
    """The catalogue codes of an order: its code, or for a panel those in its order detail."""
    concepts = [service_request.get("code"), *service_request.get("orderDetail", ())]
    codes = [code for concept in concepts if (code := item_code(concept))]
    return list(dict.fromkeys(codes))


def _load_about(path: Path) -> dict[str, Any]:
    try:
        about = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Invalid(f"{path.name} is missing", rule="catalogue-missing") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{path.name} cannot be read: {error}", rule="catalogue-syntax") from None
    for name in ("edition", "date", "publisher", "status", "statement", "experimental"):
        if name not in about:
            raise Invalid(f"{path.name}: {name} is missing", rule="catalogue-about")
    for name in ("date", "effective", "until"):
        if name in about and not is_date(str(about[name])):
            raise Invalid(
                f'{path.name}: {name} must be a day, as "2026-11-01"', rule="catalogue-date"
            )
    return about


def is_date(text: str) -> bool:
    """Whether a text is a day of the calendar, as 2026-11-01."""
    try:
        return bool(_DATE.fullmatch(text)) and bool(date.fromisoformat(text))
    except ValueError:
        return False


def _faultless(table: Table, line: int, cells: dict[str, str], items: dict[str, Item]) -> bool:
    before = len(table.issues)
    for column, text in cells.items():
        if not text and column in _REQUIRED:
            table.fault(line, column, "the cell is empty", rule="catalogue-empty")
        elif column in _WORDS and text not in _WORDS[column]:
            words = ", ".join(sorted(_WORDS[column]))
            table.fault(line, column, f"must be one of {words}", rule="catalogue-word")
    if is_group(cells["code"]):
        sentence = f"{GROUP} begins the codes of groups, choose another code"
        table.fault(line, "code", sentence, rule="catalogue-code")
    if cells["retired"] and not is_date(cells["retired"]):
        table.fault(line, "retired", "must be a day, as 2026-11-01", rule="catalogue-date")
    if cells["code"] in items:
        table.fault(line, "code", "the code stands twice in the catalogue", rule="catalogue-code")
    if not cells["validity_days"].isdecimal() or int(cells["validity_days"]) < 1:
        table.fault(line, "validity_days", "must be a number of days", rule="catalogue-days")
    if (cells["loinc_relation"] == "none") != (not cells["loinc"]):
        table.fault(line, "loinc", "does not go with the relation", rule="catalogue-loinc")
    if cells.get("scale") == "quantitative" and not cells["ucum_unit"]:
        table.fault(line, "ucum_unit", "a quantitative item needs a unit", rule="catalogue-unit")
    return len(table.issues) == before


def _item(kind: Kind, cells: dict[str, str], edition: str) -> Item:
    fields: dict[str, Any] = {name: text for name, text in cells.items() if name != "class"}
    fields |= {"item_class": cells["class"], "validity_days": int(cells["validity_days"])}
    return Item(kind=kind, edition=edition, **fields)
