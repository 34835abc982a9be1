"""`fhir-gateway consortium`: who belongs to the consortium of which hospital (医联体).

Channels of booking depend on it (docs/scheduling-fhir.md).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from fhir_gateway.cli.catalogue_frame import sheet_of, table, with_gateway, write
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, Invalid, NotFound, PreconditionFailed
from fhir_gateway.fhir.datatypes import local_day
from fhir_gateway.fhir.envelope import BundleEntry
from fhir_gateway.fhir.wire import render
from fhir_gateway.interactions.evaluations import areas_of
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.interactions.transaction import transaction
from fhir_gateway.scheduling.membership import (
    KINDS,
    TYPE,
    Membership,
    affiliation_of,
    stored_memberships,
)
from fhir_gateway.scheduling.membership_table import (
    COLUMNS,
    REQUIRED,
    Change,
    Plan,
    Reading,
    plan_import,
)
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS
from fhir_gateway.terminology.evaluation import is_day
from fhir_gateway.terminology.sheet_text import guarded

_MOST_LINES = 200


@click.group("consortium")
def command() -> None:
    """Memberships of consortia (医联体): import, list, show, export."""


@command.command("import", help=f"""Imports a table of memberships.

    FILE is a CSV file (UTF-8 or GB 18030) or a workbook with the columns {", ".join(COLUMNS)};
    {", ".join(REQUIRED)} are required, Chinese headers are known. `core` and `member` are ids,
    names or codes of registered institutions, `kind` is one of {", ".join(KINDS)}; days are
    inclusive. A table speaks for the consortia that it names: memberships of theirs that it does
    not list any more end yesterday. The same table twice stores nothing twice; any fault, named by
    row and column, stores nothing.
    """)  # fmt: skip
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--sheet", default="", help="Sheet of a workbook, when it has several.")
@click.option("--encoding", default="", help="Charset of a CSV file: UTF-8, GB18030.")
@click.option("--dry-run", is_flag=True, help="Check and show everything, store nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
@with_gateway
async def import_(
    gateway: Gateway, *, file: Path, sheet: str, encoding: str, dry_run: bool, as_json: bool
) -> None:
    """Runs the import and prints what joined, changed and left."""
    rows = sheet_of(file, sheet=sheet, encoding=encoding)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        known = await institutions_at(gateway, reader)
        stored = await stored_memberships(reader)
    click.echo(f"reading {max(0, len(rows.rows) - 1)} rows …", err=True)
    reading = Reading(rows, known, areas_of(gateway))
    reading.read()
    plan = plan_import(reading, [one for _, one in stored], _today(gateway))
    if plan.changes and not dry_run:
        click.echo(f"storing {len(plan.changes)} memberships …", err=True)
        await _store(gateway, plan, {resource.id: resource.version for resource, _ in stored})
    _say(file.name, reading, plan, dry_run=dry_run, as_json=as_json)


async def _store(gateway: Gateway, plan: Plan, versions: dict[str, int]) -> None:
    """Stores all changes in one commit. Raises Conflict when somebody was faster."""
    entries = []
    for change in plan.changes:
        id = change.membership.id
        version = versions.get(id)
        body = render(affiliation_of(change.membership))
        condition: dict[str, Any] = {"if_none_match": "*"}
        if version is not None:
            condition = {"if_match": f'W/"{version}"'}
        entries.append(BundleEntry(None, "PUT", f"{TYPE}/{id}", body, **condition))
    try:
        await transaction(gateway, GATEWAY, entries)
    except (PreconditionFailed, Conflict):
        raise Conflict(
            "Memberships were changed by somebody else meanwhile; nothing is stored, run it again",
            rule="overtaken",
        ) from None


def _say(name: str, reading: Reading, plan: Plan, *, dry_run: bool, as_json: bool) -> None:
    counts = {what: plan.count(what) for what in ("joined", "changed", "left")}
    if as_json:
        said: dict[str, Any] = {
            "file": name, "rows": reading.rows, **counts, "unchanged": plan.unchanged,
            "stored": bool(plan.changes) and not dry_run, "notices": reading.notices,
            "changes": [_told(one) for one in plan.changes],
        }  # fmt: skip
        click.echo(json.dumps(said, ensure_ascii=False))
        return
    for notice in reading.notices:
        click.echo(f"note: {notice}", err=True)
    for line in _lines(plan.changes):
        click.echo(line)
    rest = "; nothing stored (dry run)" if dry_run else ""
    click.echo(
        f"{name}: {reading.rows} rows; {counts['joined']} joined, {counts['changed']} changed, "
        f"{counts['left']} left, {plan.unchanged} unchanged{rest}"
    )


_SIGNS = {"joined": "+", "changed": "~", "left": "-"}


def _lines(changes: Sequence[Change]) -> Iterable[str]:
    for one in changes[:_MOST_LINES]:
        now, rest = one.membership, ""
        if one.before is not None:
            names = [n for n in now._fields if getattr(now, n) != getattr(one.before, n)]
            rest = "; " + ", ".join(
                f"{n}: {getattr(one.before, n) or '-'} → {getattr(now, n) or '-'}" for n in names
            )
        period = f"{now.start} to {now.end or '-'}"
        yield f"{_SIGNS[one.what]} {now.consortium}: {now.member} at {now.core}, {period}{rest}"
    if len(changes) > _MOST_LINES:
        yield f"… and {len(changes) - _MOST_LINES} more; all of them with --json"


def _told(change: Change) -> dict[str, Any]:
    before = change.before._asdict() if change.before is not None else None
    return {"what": change.what, "now": change.membership._asdict(), "before": before}


@command.command("list")
@click.option("--institution", default="", help="Those of this institution, as hospital or member.")
@click.option("--on", "day", default="", help="Count what holds on this day; else today.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@with_gateway
async def list_(gateway: Gateway, *, institution: str, day: str, as_json: bool) -> None:
    """Lists consortia: kind, hospitals, and how many members they have on a day."""
    day = _day(gateway, day)
    found: dict[str, list[Membership]] = {}
    for one in await _stored(gateway):
        if institution in ("", one.core, one.member):
            found.setdefault(one.consortium, []).append(one)
    said = [_consortium(several, day) for _, several in sorted(found.items())]
    if as_json:
        click.echo(json.dumps(said, ensure_ascii=False))
        return
    rows = [
        (one["consortium"], one["name"], one["kind"], " ".join(one["core"]), str(one["members"]))
        for one in said
    ]
    table([("consortium", "name", "kind", "hospital", f"members on {day}"), *rows])


def _consortium(several: Sequence[Membership], day: str) -> dict[str, Any]:
    last = max(several, key=lambda one: one.start)
    holding = [one for one in several if one.holds(day)]
    return {
        "consortium": last.consortium, "name": last.name, "kind": last.kind,
        "core": sorted({one.core for one in holding or several}),
        "members": len({one.member for one in holding}),
    }  # fmt: skip


@command.command("show")
@click.argument("consortium")
@click.option("--on", "day", default="", help="What holds on this day alone; else all there was.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@with_gateway
async def show(gateway: Gateway, *, consortium: str, day: str, as_json: bool) -> None:
    """Shows the members of a CONSORTIUM: hospital, member, from when until when, where."""
    day = _day(gateway, day) if day else ""
    found = [one for one in await _stored(gateway) if one.consortium == consortium]
    if not found:
        raise NotFound(
            f"No consortium {consortium} is known; see: fhir-gateway consortium list",
            rule="consortium",
        )
    found = sorted(one for one in found if not day or one.holds(day))
    if as_json:
        click.echo(json.dumps([one._asdict() for one in found], ensure_ascii=False))
        return
    rows = [
        (one.core, one.member, one.start, one.end or "-", one.district, one.specialty,
         "" if one.active else "withdrawn")
        for one in found
    ]  # fmt: skip
    table([("hospital", "member", "from", "to", "district", "specialty", ""), *rows])


@command.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--consortium", default="", help="Of this one alone.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@with_gateway
async def export(gateway: Gateway, *, file: Path, consortium: str, force: bool) -> None:
    """Writes memberships to FILE as the table that `import` reads (CSV, UTF-8)."""
    found = sorted(
        one for one in await _stored(gateway)
        if one.active and consortium in ("", one.consortium)
    )  # fmt: skip
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\r\n")
    out.writerow(COLUMNS)
    for one in found:
        out.writerow([guarded(getattr(one, name)) for name in COLUMNS])
    write(file, b"\xef\xbb\xbf" + text.getvalue().encode(), force=force)
    click.echo(f"{file.name}: {len(found)} memberships")


async def _stored(gateway: Gateway) -> list[Membership]:
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return [one for _, one in await stored_memberships(reader)]


def _today(gateway: Gateway) -> str:
    return local_day(gateway.clock.now(), gateway.settings.zone).isoformat()


def _day(gateway: Gateway, text: str) -> str:
    if text and not is_day(text):
        raise Invalid(f"--on: {text} is no day, write it as 2027-01-31", rule="consortium-day")
    return text or _today(gateway)
