"""Judging one row of a local code map, whether it came in a table or in a ConceptMap."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import date
from typing import NamedTuple

from fhir_gateway.terminology.catalogue import Catalogue, Item
from fhir_gateway.terminology.local_map import Row, Use, overlap
from fhir_gateway.terminology.specimen import compare_specimens, specimen_classes
from fhir_gateway.terminology.unit import canonical_unit, compare_units

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Cells(NamedTuple):
    """A row as it was written; the names of the fields are the columns of the table."""

    kind: str
    local_system: str
    local_code: str
    local_name: str
    item: tuple[str, ...]
    specimen: str = ""
    unit: str = ""
    method: str = ""
    note: str = ""
    from_: str = ""
    to: str = ""


class Fault(NamedTuple):
    """What is wrong with a cell: its column, a sentence, the rule that it breaks."""

    column: str
    sentence: str
    rule: str


def faults(cells: Cells, catalogue: Catalogue) -> Iterator[Fault]:
    """Everything that is wrong with a row, in the order of its columns."""
    if cells.kind not in ("result", "order"):
        yield Fault("kind", "must be result or order", "map-kind")
    if not cells.local_code and not cells.local_name:
        yield Fault("local_code", "neither a code nor a name", "map-code")
    for code in cells.item:
        if code not in catalogue.items:
            yield Fault("item", f"{code} is not in the catalogue", "map-item")
    items = _items(cells, catalogue)
    if cells.kind == "result" and len(items) > 1:
        yield Fault("item", "a result is one item; panels are orders", "map-panel")
    if cells.specimen and not specimen_classes(cells.specimen):
        yield Fault("specimen", "is not a known specimen", "map-specimen")
    if cells.unit and not canonical_unit(cells.unit):
        yield Fault("unit", "is not a known unit", "map-unit")
    for item in items:
        if item.specimen and compare_specimens(cells.specimen, item.specimen) is False:
            sentence = f"contradicts {item.code}, which is measured in {item.specimen}"
            yield Fault("specimen", sentence, "map-specimen")
    yield from _days(cells)


def row_of(cells: Cells, catalogue: Catalogue, *, source: str, stored: bool = False) -> Row:
    """The row of cells without faults."""
    use: Use = "order" if cells.kind == "order" else "result"
    return Row(
        use=use,
        system=cells.local_system,
        code=cells.local_code,
        name=cells.local_name,
        items=_items(cells, catalogue),
        specimen=cells.specimen,
        unit=cells.unit,
        method=cells.method,
        note=cells.note,
        start=cells.from_,
        end=cells.to,
        source=source,
        stored=stored,
    )


def key_of(row: Row) -> tuple[str, ...]:
    """What no two rows of a map may share on one day."""
    return (row.use, row.system, row.code or row.name, row.specimen, row.unit, row.method)


def clash(row: Row, others: Iterable[Row]) -> Row | None:
    """The first of these rows, all of the same key, that holds on a day on which `row` does."""
    return next((other for other in others if overlap(row, other)), None)


def doubts(rows: Iterable[Row]) -> list[str]:
    """What a person should look at: rows that will never be recognised as they stand."""
    return [
        f"{row.code or row.name}: reported in {row.unit}, "
        f"but {item.code} {item.name_zh} is compared in {item.ucum_unit}"
        for row in rows
        for item in row.items
        if row.unit and item.ucum_unit and compare_units(row.unit, item.ucum_unit) is False
    ]


def _items(cells: Cells, catalogue: Catalogue) -> tuple[Item, ...]:
    return tuple(catalogue.items[code] for code in cells.item if code in catalogue.items)


def _days(cells: Cells) -> Iterator[Fault]:
    days = {"from": cells.from_, "to": cells.to}
    wrong = [name for name, text in days.items() if text and not _is_day(text)]
    for name in wrong:
        yield Fault(name, "must be a day, such as 2026-07-01", "map-day")
    if not wrong and cells.from_ and cells.to and cells.to < cells.from_:
        yield Fault("to", "is before the first day", "map-day")


def _is_day(text: str) -> bool:
    if not _DAY.fullmatch(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
