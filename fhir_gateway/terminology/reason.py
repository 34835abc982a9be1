"""The grounds on which an item may be done again, and the flags of doubtful data.

The six national grounds are those of 《医疗机构检查检验结果互认管理办法》 (2022); provinces and
hospitals add their own as rows of terminology/reasons.csv with scope `local`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.table import Table

REASON_SYSTEM = f"{CANONICAL}/CodeSystem/repeat-reason"
DATA_QUALITY_SYSTEM = f"{CANONICAL}/CodeSystem/data-quality"


class Reason(NamedTuple):
    """One ground. `counts_as_refusal`: a repeat on it counts against the rate of recognition."""

    code: str
    name_zh: str
    name_en: str
    scope: str  # national | local
    counts_as_refusal: bool
    text_required: bool


class Flag(NamedTuple):
    """One data-quality flag."""

    code: str
    name_zh: str
    name_en: str
    definition: str


def load_reasons(folder: Path | str) -> dict[str, Reason]:
    """The grounds by code, in the order of the table. Raises Unprocessable with every fault."""
    table = Table(Path(folder) / "reasons.csv", Reason._fields)
    reasons: dict[str, Reason] = {}
    for line, cells in table.rows():
        if not cells["code"] or cells["code"] in reasons:
            table.fault(line, "code", "empty, or twice in the table", rule="reason-code")
        if cells["scope"] not in ("national", "local"):
            table.fault(line, "scope", "must be national or local", rule="reason-scope")
        for column in ("counts_as_refusal", "text_required"):
            if cells[column] not in ("yes", "no"):
                table.fault(line, column, "must be yes or no", rule="reason-word")
        reasons[cells["code"]] = Reason(
            code=cells["code"],
            name_zh=cells["name_zh"],
            name_en=cells["name_en"],
            scope=cells["scope"],
            counts_as_refusal=cells["counts_as_refusal"] == "yes",
            text_required=cells["text_required"] == "yes",
        )
    table.check()
    return reasons


def load_flags(folder: Path | str) -> dict[str, Flag]:
    """The data-quality flags by code. Raises Unprocessable with every fault."""
    table = Table(Path(folder) / "data-quality.csv", Flag._fields)
    flags = {cells["code"]: Flag(**cells) for _, cells in table.rows()}
    table.check()
    return flags
