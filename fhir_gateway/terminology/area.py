"""Areas: where an institution lies and how far a mark reaches (terminology/areas.csv).

Codes are those of GB/T 2260; the nation and joint regions have codes of their own, because a mark
may name them (全国HR, 京津冀HR). A code that the table does not list lies, by the standard's own
digits, in its city and province when those are listed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.table import Table

AREA_SYSTEM = f"{CANONICAL}/CodeSystem/area"
_KINDS = ("nation", "region", "province", "city", "district")
_CODE = re.compile(r"[0-9]{6}")
_MARK_END = re.compile(r"(?:HR|-GX)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Area:
    """One row: `parents` are the codes of all areas that directly contain it."""

    code: str
    name: str
    kind: str
    parents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Areas:
    """All areas, and which lies in which."""

    areas: Mapping[str, Area]
    _within: Mapping[str, frozenset[str]]
    _names: Mapping[str, str]

    def known(self, code: str) -> bool:
        """Whether the code is listed, or lies in a listed city or province by its digits."""
        return bool(self.within(code))

    def within(self, code: str) -> frozenset[str]:
        """The area itself and all that contain it; empty for an unknown code."""
        found = self._within.get(code)
        if found is not None:
            return found
        if not _CODE.fullmatch(code):
            return frozenset()
        for parent in (f"{code[:4]}00", f"{code[:2]}0000"):
            if parent in self._within and parent != code:
                return self._within[parent] | {code}
        return frozenset()

    def covers(self, mark_area: str, receiver_area: str) -> bool | None:
        """Whether a mark of one area reaches a receiver in another; None for an unknown area."""
        reached = self.within(receiver_area)
        if not reached or not self.within(mark_area):
            return None
        return mark_area in reached

    def of_mark(self, mark: str) -> str:
        """The area that a printed mark names (北京市西城区HR -> 110102); "" when not known."""
        return self._names.get(_MARK_END.sub("", mark.strip()), "")


def load_areas(folder: Path | str) -> Areas:
    """The areas of this folder. Raises Unprocessable with every fault: file, row, column."""
    table = Table(Path(folder) / "areas.csv", ("code", "name", "kind", "parents"))
    areas: dict[str, Area] = {}
    for line, cells in table.rows():
        parents = tuple(cells["parents"].split(";")) if cells["parents"] else ()
        if not cells["code"] or cells["code"] in areas:
            table.fault(line, "code", "empty, or twice in the table", rule="area-code")
        if cells["kind"] not in _KINDS:
            table.fault(line, "kind", f"must be one of {', '.join(_KINDS)}", rule="area-kind")
        if unknown := [code for code in parents if code not in areas]:
            sentence = f"no row above has the code {unknown[0]}"
            table.fault(line, "parents", sentence, rule="area-parent")
        areas[cells["code"]] = Area(cells["code"], cells["name"], cells["kind"], parents)
    table.check()
    within: dict[str, frozenset[str]] = {}
    for area in areas.values():
        above = (within[parent] for parent in area.parents)
        within[area.code] = frozenset({area.code}).union(*above)
    return Areas(MappingProxyType(areas), within, _spelled(areas, within))


def _spelled(areas: Mapping[str, Area], within: Mapping[str, frozenset[str]]) -> dict[str, str]:
    """Every name of every area: alone, and after its city or province."""
    names: dict[str, str] = {}
    for area in areas.values():
        above = [areas[code] for code in within[area.code] if code != area.code]
        prefixes = [parent.name for parent in above if parent.kind in ("province", "city")]
        for prefix in ("", *prefixes):
            names.setdefault(prefix + area.name, area.code)
        if area.kind in ("province", "city"):
            names.setdefault(re.sub("[省市]$", "", area.name), area.code)
    return names
