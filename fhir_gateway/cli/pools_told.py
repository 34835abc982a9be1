"""How plans and changes of supply are told: on a terminal, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import click

from fhir_gateway.scheduling.calendar import moment_at
from fhir_gateway.scheduling.generate import Finding, Plan, PlannedSlot
from fhir_gateway.scheduling.quota_plan import Bucket
from fhir_gateway.scheduling.supply import Compared, affected_of
from fhir_gateway.scheduling.supply_change import REASONS

Rows = list[tuple[str, ...]]


def tell_findings(findings: Iterable[Finding]) -> None:
    """Notes on the error output, each once."""
    for finding in dict.fromkeys(findings):
        click.echo(f"note [{finding.rule}]: {finding.said}", err=True)


def sessions_told(plan: Plan, zone: ZoneInfo) -> Rows:
    """One row for each session: day, template, resource, times, slots and seats."""
    sessions: dict[tuple[str, str], list[PlannedSlot]] = {}
    for slot in plan.slots:
        sessions.setdefault((str(slot.day), slot.template.id), []).append(slot)
    rows: Rows = [("day", "template", "resource", "class", "master", "time", "slots", "seats")]
    for (day, id), slots in sorted(sessions.items()):
        template = slots[0].template
        times = f"{_clock(slots[0].start, zone)}-{_clock(slots[-1].end, zone)}"
        rows.append((
            day, id, template.resource.name, template.slot_class, template.master, times,
            str(len(slots)), str(sum(slot.capacity for slot in slots)),
        ))  # fmt: skip
    return rows


def buckets_told(buckets: Sequence[Bucket], zone: ZoneInfo) -> Rows:
    """One row for each part of a channel that is not empty."""
    rows: Rows = [
        ("bucket", "table", "class", "channel", "seats", "opens", "cut-off", "falls to"),
    ]  # fmt: skip
    for bucket in buckets:
        name = bucket.table.name if bucket.table else "-"
        rows += [
            (bucket.key, name, row.kind, row.channel, str(row.cap), _moment(row.opens, zone),
             _moment(row.closes, zone), row.falls_to or "-")
            for row in bucket.rows if row.cap
        ]  # fmt: skip
    return rows


def compared_told(compared: Compared) -> None:
    """What a plan changes: counts, and whose bookings have to be made anew, slot by slot."""
    plan, change = compared.plan, compared.change
    counts = Counter(one.action for one in change.writes)
    parts = [f"{counts[action]} {word}" for action, word in (
        ("create", "created"), ("change", "changed"), ("withdraw", "withdrawn"),
        ("keep-back", "kept for those who have booked"),
    )]  # fmt: skip
    first, last = plan.only or (plan.first, plan.last)
    click.echo(
        f"{plan.supply.site.id}, {first} to {last}: {', '.join(parts)}, "
        f"{change.same} the same, {change.past} begun already; {len(compared.pieces)} commits"
    )
    for one in affected_of(compared):
        chinese, english = REASONS[one.reason]
        click.echo(f"re-book Slot/{one.slot}: {chinese} ({english})")
        for appointment in one.appointments:
            click.echo(f"  {appointment}")


def plan_json(plan: Plan, buckets: Sequence[Bucket], zone: ZoneInfo) -> dict[str, Any]:
    """A plan as JSON values."""
    return {
        "file": plan.supply.file,
        "version": plan.supply.version,
        "calendar": plan.calendar,
        "from": str(plan.first),
        "to": str(plan.last),
        "slots": [
            {
                "id": slot.id, "template": slot.template.id, "start": _moment(slot.start, zone),
                "end": _moment(slot.end, zone), "capacity": slot.capacity, "bucket": slot.bucket,
            }
            for slot in plan.slots
        ],
        "closed": [
            {"id": slot.id, "start": _moment(slot.start, zone), "reason": closure.reason}
            for slot, closure in plan.closed
        ],
        "buckets": [
            {
                "key": bucket.key, "table": bucket.table.name if bucket.table else None,
                "capacity": bucket.capacity,
                "channels": [
                    {
                        "class": row.kind, "channel": row.channel, "seats": row.cap,
                        "opens": _moment(row.opens, zone), "closes": _moment(row.closes, zone),
                        "fallsTo": row.falls_to,
                    }
                    for row in bucket.rows
                ],
            }
            for bucket in buckets
        ],
        "notes": [
            {"rule": one.rule, "text": one.said}
            for one in (*plan.findings, *(one for bucket in buckets for one in bucket.findings))
        ],
    }  # fmt: skip


def _clock(us: int, zone: ZoneInfo) -> str:
    return f"{moment_at(us, zone):%H:%M}"


def _moment(us: int, zone: ZoneInfo) -> str:
    return f"{moment_at(us, zone):%Y-%m-%d %H:%M}" if us else "-"
