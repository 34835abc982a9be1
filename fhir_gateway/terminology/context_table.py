"""Which codes of a visit, a diagnosis or a planned procedure say what of a patient's situation.

The table terminology/contexts.csv, read into rows that can be matched. A code of the table counts
in the systems of its row alone; hospitals add rows for their own systems.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from fhir_gateway.terminology.table import Table

#: What is looked at, by type of resource.
ELEMENTS = {
    "Encounter": ("class", "type", "serviceType", "location"),
    "Condition": ("code", "category"),
    "Procedure": ("code", "category"),
    "ServiceRequest": ("code", "category"),
}
_MATCHES = ("exact", "prefix", "range")
_COLUMNS = (
    "context", "resource", "element", "system", "code", "match", "days", "name_zh", "source",
)  # fmt: skip


class ContextRow(NamedTuple):
    """One row. `days` limits an Encounter to those that began so many days ago at the most."""

    context: str
    resource: str
    element: str
    systems: frozenset[str]
    code: str
    match: Literal["exact", "prefix", "range"]
    days: int | None

    def matches(self, system: str, code: str) -> bool:
        """Whether a coding is one of those that the row means."""
        if system not in self.systems:
            return False
        if self.match == "exact":
            return code == self.code
        if self.match == "prefix":
            return code.startswith(self.code)
        low, _, high = self.code.partition("..")
        return low <= code[: len(low)] <= high


@lru_cache(maxsize=8)
def load_contexts(folder: Path | str, known: tuple[str, ...]) -> tuple[ContextRow, ...]:
    """The rows of the table; `known` are the contexts that there are.

    Raises Unprocessable with every fault.
    """
    table = Table(Path(folder) / "contexts.csv", _COLUMNS)
    rows = []
    for line, cells in table.rows():
        if cells["context"] not in known:
            table.fault(line, "context", f"must be one of {', '.join(known)}", rule="context")
        if cells["element"] not in ELEMENTS.get(cells["resource"], ()):
            table.fault(line, "element", "is not looked at in this resource", rule="context")
        if cells["match"] not in _MATCHES:
            table.fault(line, "match", f"must be one of {', '.join(_MATCHES)}", rule="context")
        if not cells["code"] or not cells["system"]:
            table.fault(line, "code", "code and system are required", rule="context")
        low, dots, high = cells["code"].partition("..")
        if cells["match"] == "range" and (not dots or len(low) != len(high)):
            table.fault(line, "code", "a range is two codes of one length, 01..86", rule="context")
        if cells["days"] and not cells["days"].isdecimal():
            table.fault(line, "days", "must be a whole number", rule="context")
            cells["days"] = ""
        rows.append(_row(cells))
    table.check()
    return tuple(rows)


def _row(cells: dict[str, str]) -> ContextRow:
    return ContextRow(
        cells["context"],
        cells["resource"],
        cells["element"],
        frozenset(cells["system"].split()),
        cells["code"],
        cells["match"],  # type: ignore[arg-type]  # one of _MATCHES, or a fault was noted
        int(cells["days"]) if cells["days"] else None,
    )
