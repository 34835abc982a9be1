"""Work lists and maps as tables for a spreadsheet, and decisions out of one.

The columns of a code are those of mappings/concepts, so that what is exported can stand there. A
text that a spreadsheet would take for a formula is guarded, see terminology/sheet_text.py.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from fhir_gateway.errors import Invalid, Issue, Unprocessable
from fhir_gateway.interactions.local_codes_decide import Asked
from fhir_gateway.interactions.local_codes_work import Line
from fhir_gateway.terminology.concept_map import COLUMNS, OPTIONAL
from fhir_gateway.terminology.local_map import Row
from fhir_gateway.terminology.local_map_check import Cells
from fhir_gateway.terminology.local_map_decide import Kind
from fhir_gateway.terminology.sheet import Sheet
from fhir_gateway.terminology.sheet_text import guarded

#: Columns of a work list: what a person fills in, then what there is to decide it by.
WORK = (
    "decision", "kind", "local_system", "local_code", "local_name", "item",
    "specimen", "unit", "method", "note", "from", "to",
    "item_name", "score", "sure", "reasons", "against", "second", "third",
    "count", "first", "last", "seen", "example", "own",
)  # fmt: skip

#: What may stand in the column of the decision.
_DECISIONS: Mapping[str, Kind] = {
    "accept": "accept", "接受": "accept", "是": "accept",
    "reject": "reject", "拒绝": "reject", "否": "reject",
    "nothing": "nothing", "无": "nothing", "不在目录": "nothing",
}  # fmt: skip
_NEEDED = ("decision", "kind", "local_code", "local_name", "item")
_READ = (*COLUMNS, *OPTIONAL, "decision", "score")


def work_csv(lines: Iterable[Line], zone: ZoneInfo, encoding: str) -> bytes:
    """A work list; the first proposal stands in `item`, and is only taken with a decision."""
    return _csv(WORK, (_work(line, zone) for line in lines), encoding)


def map_csv(rows: Iterable[Row], encoding: str) -> bytes:
    """Rows of a map, as mappings/concepts has them."""
    names = (*COLUMNS, *OPTIONAL)
    return _csv(names, (_of_row(row) for row in rows), encoding)


def decisions_in(sheet: Sheet) -> list[Asked]:
    """The decisions of a work list that a person has filled in; rows without one are passed over.

    Raises Unprocessable with every fault, by row and column.
    """
    header = sheet.rows[0] if sheet.rows else None
    names = [cell.text.strip().casefold() for cell in header.cells] if header is not None else []
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        text = f"{sheet.where(1)}: these columns are missing: {', '.join(missing)}"
        raise Unprocessable(text, rule="table-column")
    places = {name: names.index(name) for name in _READ if name in names}
    found: list[Asked] = []
    issues: list[Issue] = []
    for row in sheet.rows[1:]:
        cells = {name: row.cell(place) for name, place in places.items()}
        if not cells["decision"].text:
            continue
        wrong = [(name, cell.wrong) for name, cell in cells.items() if cell.wrong]
        kind = _DECISIONS.get(cells["decision"].text.casefold())
        if kind is None:
            wrong.append(("decision", f"must be one of {', '.join(_DECISIONS)}"))
        for name, text in wrong:
            issues.append(sheet.issue("decision-cell", text, row.number, places[name], name))
        if kind is not None and not wrong:
            texts = {name: cell.text for name, cell in cells.items()}
            found.append(_asked(kind, texts, sheet.where(row.number)))
    if issues:
        raise Unprocessable(issues=tuple(issues))
    return found


def day(us: int, zone: ZoneInfo) -> str:
    """A time as a person reads it."""
    return datetime.fromtimestamp(us / 1e6, zone).strftime("%Y-%m-%d %H:%M")


def _work(line: Line, zone: ZoneInfo) -> dict[str, str]:
    local, first = line.local, next(iter(line.proposals), None)
    others = [f"{one.codes} {one.score:.2f}" for one in line.proposals[1:3]]
    cells = {
        "kind": local.use,
        "local_system": local.system,
        "local_code": local.code,
        "local_name": local.name,
        "specimen": local.specimen,
        "unit": local.unit,
        "count": str(line.times),
        "first": day(line.first, zone),
        "last": day(line.last, zone),
        "seen": "; ".join((*line.specimens, *line.units, *line.methods)),
        "example": line.example,
        "own": "yes" if line.is_own else "no",
        **dict(zip(("second", "third"), others, strict=False)),
    }
    if first is not None:
        cells |= {
            "item": first.codes,
            "item_name": "; ".join(item.name_zh for item in first.items),
            "score": f"{first.score:.3f}",
            "sure": "yes" if first.sure else "no",
            "reasons": "; ".join(first.reasons),
            "against": "; ".join(first.against),
        }
    return cells


def _of_row(row: Row) -> dict[str, str]:
    return {
        "kind": row.use,
        "local_system": row.system,
        "local_code": row.code,
        "local_name": row.name,
        "item": ";".join(item.code for item in row.items),
        "specimen": row.specimen,
        "unit": row.unit,
        "method": row.method,
        "note": row.note,
        "from": row.start,
        "to": row.end,
    }


def _csv(names: Sequence[str], rows: Iterable[dict[str, str]], encoding: str) -> bytes:
    """Guarded CSV. UTF-8 carries the mark by which spreadsheets know it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([guarded(row.get(name, "")) for name in names])
    try:
        return text.getvalue().encode("utf-8-sig" if encoding == "utf-8" else encoding)
    except (LookupError, UnicodeEncodeError) as error:
        raise Invalid(
            f"The table cannot be written in {encoding}: {error}", rule="encoding"
        ) from None


def _asked(kind: Kind, texts: dict[str, str], where: str) -> Asked:
    items = texts["item"] if kind != "nothing" else ""
    cells = Cells(
        kind=texts["kind"],
        local_system=texts.get("local_system", ""),
        local_code=texts["local_code"],
        local_name=texts["local_name"],
        item=tuple(code.strip() for code in items.split(";") if code.strip()),
        specimen=texts.get("specimen", ""),
        unit=texts.get("unit", ""),
        method=texts.get("method", ""),
        note=texts.get("note", ""),
        from_=texts.get("from", ""),
        to=texts.get("to", ""),
    )
    return Asked(kind, cells, where=where)
