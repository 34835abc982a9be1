"""`fhir-gateway institution status`: what came from an institution, how late, and what waits."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import click

from fhir_gateway.cli.institution_common import common, gateway_of, print_table
from fhir_gateway.errors import Invalid
from fhir_gateway.interactions.institutions import institutions
from fhir_gateway.interactions.message_figures import Figures, Lag, figures
from fhir_gateway.settings import Settings


@click.command("status")
@click.argument("id", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON each.")
@common
async def status(settings: Settings, *, id: str | None, as_json: bool) -> None:
    """Tells what came from each institution, or from ID by door and kind; no patient data.

    received counts every message, also repeated and refused ones; flagged is stored with doubts or
    codes that no map knows. Lag is the time from what a message, and its report, state to its
    receipt, of the newest 500; below zero the sender's clock is ahead. dead: what waits
    (fhir-gateway messages dead).
    """
    async with gateway_of(settings) as gateway:
        known = await institutions(gateway)
        if id is not None and id not in known:
            raise Invalid(f"No institution {id} is registered", rule="institution")
        found = [await figures(gateway, one) for one in ([id] if id else sorted(known))]
    zone = ZoneInfo(settings.zone)
    if as_json:
        for one in found:
            click.echo(json.dumps(told(one, zone), ensure_ascii=False))
    elif id is None:
        header = ("id", "received", "stored", "flagged", "refused", "repeated", "dead",
                  "report lag", "last received")  # fmt: skip
        print_table(header, [_line(one, zone) for one in found])
    else:
        _print_one(found[0], zone)


def told(one: Figures, zone: ZoneInfo) -> dict[str, Any]:
    """The figures as JSON."""
    total = one.total
    return {
        "id": one.institution,
        **_counters(total),
        "lastReceived": _time(total.last, zone),
        "messageLag": _lag(one.message),
        "reportLag": _lag(one.report),
        "dead": [
            {"rule": row.rule, "letters": row.letters, "since": _time(row.since, zone)}
            for row in one.waiting
        ],
        "kinds": [
            {"door": row.door, "kind": row.kind, **_counters(row),
             "lastReceived": _time(row.last, zone)}
            for row in one.counts
        ],
    }  # fmt: skip


def _counters(row: Any) -> dict[str, int]:
    names = ("received", "stored", "flagged", "refused", "repeated")
    return {name: getattr(row, name) for name in names}


def _lag(lag: Lag | None) -> dict[str, float] | None:
    if lag is None:
        return None
    return {"of": lag.of, **{name: round(getattr(lag, name), 1)
                             for name in ("last", "median", "p95")}}  # fmt: skip


def _line(one: Figures, zone: ZoneInfo) -> tuple[object, ...]:
    total = one.total
    dead = sum(row.letters for row in one.waiting)
    return (one.institution, *_counters(total).values(), dead,
            _seconds(one.report.median) if one.report else "-",
            _time(total.last, zone) or "never")  # fmt: skip


def _print_one(one: Figures, zone: ZoneInfo) -> None:
    header = ("door", "kind", "received", "stored", "flagged", "refused", "repeated",
              "last received")  # fmt: skip
    rows = [(row.door, row.kind, *_counters(row).values(), _time(row.last, zone))
            for row in one.counts]  # fmt: skip
    print_table(header, rows)
    for name, lag in (("message", one.message), ("report", one.report)):
        if lag is None:
            click.echo(f"{name} lag: not known, none states its time")
        else:
            click.echo(f"{name} lag: last {_seconds(lag.last)}, median {_seconds(lag.median)}, "
                       f"p95 {_seconds(lag.p95)} (of {lag.of})")  # fmt: skip
    for row in one.waiting:
        click.echo(f"dead letters, {row.rule}: {row.letters}, since {_time(row.since, zone)}")


def _seconds(value: float) -> str:
    """A duration for people: seconds, minutes, hours or days."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if abs(value) >= 2 * size:
            return f"{value / size:.0f} {unit}"
    return f"{value:.0f} s"


def _time(moment: int, zone: ZoneInfo) -> str:
    if not moment:
        return ""
    return datetime.fromtimestamp(moment / 1_000_000, zone).strftime("%Y-%m-%d %H:%M:%S")
