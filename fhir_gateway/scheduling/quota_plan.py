"""Buckets of a plan: which seats count together, by which table, from when to when. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from fhir_gateway.scheduling.calendar import instant_at
from fhir_gateway.scheduling.generate import (
    Finding,
    Period,
    PlannedSlot,
    period_last,
    period_start,
)
from fhir_gateway.scheduling.quota import (
    CLASSES,
    Moment,
    QuotaTable,
    apportion,
    table_for,
)
from fhir_gateway.scheduling.template import Site, Supply, Template


class Seats(NamedTuple):
    """What one open slot puts into a bucket."""

    bucket: str
    kind: str
    capacity: int


class Row(NamedTuple):
    """The part of one channel in one class: `cap` seats from `opens` until before `closes` (µs; 0
    for no cut-off), then what is left falls to `falls_to`."""

    kind: str
    channel: str
    cap: int
    opens: int
    closes: int
    falls_to: str


class Bucket(NamedTuple):
    """What is counted together. `table` is None where no table holds: all seats are ordinary."""

    key: str
    first: date
    table: QuotaTable | None
    capacity: dict[str, int]
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]


def table_of(tables: Sequence[QuotaTable], site: Site, template: Template, day: date
             ) -> QuotaTable | None:  # fmt: skip
    """The table by which a template's slots of a day are counted."""
    return table_for(tables, site, template.department.kind, template.modality, day)


def period_by(tables: Sequence[QuotaTable], site: Site, template: Template, day: date) -> Period:
    """The release period in which a template's slot of a day is counted; a week without table."""
    table = table_of(tables, site, template, day)
    return table.period if table else "week"


def whole_periods(tables: Sequence[QuotaTable], supply: Supply, first: date, last: date
                  ) -> tuple[date, date]:  # fmt: skip
    """The days from first to last, widened until no release period is cut: quotas are parts of a
    whole period, and parts of half of one would be other numbers."""
    begins, ends = [first], [last]
    for template in supply.templates:
        begins.append(period_start(first, period_by(tables, supply.site, template, first)))
        ends.append(period_last(last, period_by(tables, supply.site, template, last)))
    return min(begins), max(ends)


def seats_of(slots: Iterable[PlannedSlot]) -> list[Seats]:
    """What planned slots put into their buckets."""
    return [Seats(one.bucket, one.template.slot_class, one.capacity) for one in slots]


def plan_buckets(tables: Sequence[QuotaTable], supply: Supply, seats: Iterable[Seats],
                 zone: ZoneInfo) -> tuple[Bucket, ...]:  # fmt: skip
    """The buckets of some seats, in order of their keys. All seats of a bucket must be given."""
    counted: dict[str, dict[str, int]] = {}
    for one in seats:
        counted.setdefault(one.bucket, dict.fromkeys(CLASSES, 0))[one.kind] += one.capacity
    templates = {one.department.id: one for one in supply.templates}
    return tuple(
        _bucket(tables, supply.site, key, templates.get(key.split("|")[1]), counted[key], zone)
        for key in sorted(counted)
    )


def _bucket(tables: Sequence[QuotaTable], site: Site, key: str, template: Template | None,
            capacity: dict[str, int], zone: ZoneInfo) -> Bucket:  # fmt: skip
    first = date.fromisoformat(key.rpartition("|")[2])
    table = table_of(tables, site, template, first) if template else None
    if table is None:
        finding = Finding("quota-no-table", f"no table of quotas holds for {key}: all of its seats "
                          "are ordinary and open at once")  # fmt: skip
        rows = tuple(Row(kind, "ordinary", seats, 0, 0, "") for kind, seats in capacity.items())
        return Bucket(key, first, None, capacity, rows, (finding,))
    caps = apportion(table, capacity["expert"], capacity["ordinary"])
    rows = tuple(
        Row(
            kind, share.channel, caps.seats[share.channel][kind], _at(first, share.opens, zone),
            _at(first, share.closes, zone) if share.closes else 0, share.falls_to,
        )
        for kind in CLASSES
        for share in table.shares
    )  # fmt: skip
    said = tuple(Finding(one.rule, f"{key}: {one.said}") for one in caps.findings)
    return Bucket(key, first, table, capacity, rows, said)


def _at(first: date, moment: Moment, zone: ZoneInfo) -> int:
    return instant_at(first - timedelta(days=moment.days_before), moment.minutes, zone)


def rows_at(rows: Sequence[Row], now: int) -> tuple[Row, ...]:
    """The rows as they stand at a moment: what a channel is kept falls once its cut-off is past.

    The sum is the same. What it has sold already stays its own: the store never goes below that.
    """
    caps = {(row.kind, row.channel): row.cap for row in rows}
    for row in sorted((one for one in rows if 0 < one.closes <= now), key=lambda one: one.closes):
        target = (row.kind, row.falls_to)
        if target in caps:
            caps[target] += caps[row.kind, row.channel]
            caps[row.kind, row.channel] = 0
    return tuple(row._replace(cap=caps[row.kind, row.channel]) for row in rows)


def mixed_departments(tables: Sequence[QuotaTable], site: Site, templates: Sequence[Template],
                      day: date) -> list[Finding]:  # fmt: skip
    """Departments whose templates fall under different tables: one bucket cannot follow two."""
    found: dict[str, dict[str, str]] = {}
    for template in templates:
        table = table_of(tables, site, template, day)
        name = table.name if table else "no table"
        found.setdefault(template.department.id, {}).setdefault(name, template.id)
    return [
        Finding("department-mixed", f"{department} falls under "
                + " and ".join(f"{name} ({template})" for name, template in names.items())
                + ": give each of them a department of its own")
        for department, names in found.items() if len(names) > 1
    ]  # fmt: skip
