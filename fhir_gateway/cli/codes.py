"""`fhir-gateway codes`: an institution's own codes, from the work list to the map."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from fhir_gateway.cli.catalogue_frame import sheet_of, table, with_gateway, write
from fhir_gateway.cli.codes_table import day, decisions_in, map_csv, work_csv
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.interactions.local_codes import map_at
from fhir_gateway.interactions.local_codes_coverage import Coverage, coverage, share
from fhir_gateway.interactions.local_codes_decide import Asked, accepted_above, decide, use_of
from fhir_gateway.interactions.local_codes_work import (
    Line,
    check_institution,
    matcher_of,
    work_list,
)
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS
from fhir_gateway.terminology.local_map_check import Cells
from fhir_gateway.terminology.local_map_decide import Kind
from fhir_gateway.terminology.matcher import Proposal
from fhir_gateway.terminology.unmapped import Local

_ENCODINGS = click.Choice(["utf-8", "gb18030"])
_USE = click.option("--use", type=click.Choice(["result", "order"]), help="Of one kind only.")
_PERSON = click.option("--person", required=True, help="Who decides: the name is kept.")


@click.group("codes")
def command() -> None:
    """Local codes of an institution: work list, proposals, decisions, coverage, export.

    Nothing is mapped until a person, who is named, accepts it. docs/local-codes.md
    """


class _Said:
    """How far a long reading is, on a terminal."""

    def __init__(self, what: str) -> None:
        self._what, self._at, self._shown = what, time.monotonic(), False

    def __call__(self, count: int) -> None:
        if sys.stderr.isatty() and time.monotonic() - self._at > 0.5:
            self._at, self._shown = time.monotonic(), True
            click.echo(f"\r{count} {self._what} …", nl=False, err=True)

    def close(self) -> None:
        """Leaves the line empty."""
        if self._shown:
            click.echo("\r" + " " * 40 + "\r", nl=False, err=True)


async def _lines(gateway: Gateway, institution: str, use: str | None) -> list[Line]:
    said = _Said("codes")
    lines = await work_list(
        gateway, institution, use=use_of(use or ""), access=SYSTEM_ACCESS, progress=said
    )
    said.close()
    return lines


@command.command("worklist")
@click.argument("institution")
@_USE
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Codes shown.")
@click.option("--csv", "file", type=click.Path(path_type=Path), help="Write all of it to a table.")
@click.option("--encoding", type=_ENCODINGS, default="utf-8", help="Charset of the table.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@with_gateway
async def worklist(
    gateway: Gateway, *, institution: str, use: str | None, limit: int, **options: Any
) -> None:
    """Lists the codes that nobody has decided, those that come most often first.

    The table has a column `decision` to fill in (accept, reject, nothing) and goes back by
    `codes accept INSTITUTION --table FILE`.
    """
    lines = await _lines(gateway, institution, use)
    zone = ZoneInfo(gateway.settings.zone)
    if options["file"] is not None:
        content = work_csv(lines, zone, options["encoding"])
        write(options["file"], content, force=options["force"])
        click.echo(f"{len(lines)} codes: {options['file']}")
        return
    if options["as_json"]:
        click.echo(json.dumps([_as_json(line, zone) for line in lines], ensure_ascii=False))
        return
    rows: list[tuple[str, ...]] = [("use", "code", "name", "count", "last", "may mean", "score")]
    rows += [_shown(line, zone) for line in lines[:limit]]
    table(rows)
    if len(lines) > limit:
        click.echo(f"… and {len(lines) - limit} more: --limit, or --csv FILE")


def _shown(line: Line, zone: ZoneInfo) -> tuple[str, ...]:
    first = next(iter(line.proposals), None)
    local = line.local
    name = " ".join(filter(None, (local.name, local.specimen, local.unit)))
    may = f"{first.codes} {first.items[0].name_zh}" if first else "-"
    score = f"{first.score:.2f}{'' if first.sure else ' ?'}" if first else ""
    return (local.use, local.code or "-", name or "-", str(line.times), day(line.last, zone),
            may, score)  # fmt: skip


def _as_json(line: Line, zone: ZoneInfo) -> dict[str, Any]:
    return {
        **line.local._asdict(),
        "count": line.times,
        "first": day(line.first, zone),
        "last": day(line.last, zone),
        "seen": [*line.specimens, *line.units, *line.methods],
        "example": line.example,
        "own": line.is_own,
        "proposals": [_proposal(one) for one in line.proposals],
    }


def _proposal(one: Proposal) -> dict[str, Any]:
    return {
        "items": one.codes,
        "score": one.score,
        "sure": one.sure,
        "reasons": one.reasons,
        "against": one.against,
    }


@command.command("propose")
@click.argument("institution")
@click.argument("code", required=False)
@click.option("--name", default="", help="A name to try, in place of a code of the work list.")
@click.option("--specimen", default="", help="… in this specimen.")
@click.option("--unit", default="", help="… in this unit.")
@_USE
@with_gateway
async def propose(
    gateway: Gateway, *, institution: str, code: str | None, use: str | None, **asked: str
) -> None:
    """Says what a code of the work list, or a name, may mean, and why. Maps nothing."""
    if bool(code) == bool(asked["name"]):
        raise Invalid("Name a code of the work list, or --name a name", rule="code")
    await check_institution(gateway, institution, SYSTEM_ACCESS)
    if code:
        lines = [one for one in await _lines(gateway, institution, use) if one.local.code == code]
        if not lines:
            raise Invalid(f"{code} is not in the work list of {institution}", rule="code")
        found = [(line.local, line.proposals) for line in lines]
    else:
        local = Local(use_of(use or "") or "result", "", "", asked["name"], asked["specimen"],
                      asked["unit"])  # fmt: skip
        found = [(local, tuple(matcher_of(gateway).propose(local)))]
    for local, proposals in found:
        click.echo(" ".join(filter(None, (local.code, local.name, local.specimen, local.unit))))
        for one in proposals:
            names = "; ".join(item.name_zh for item in one.items)
            sure = "sure" if one.sure else "not sure"
            click.echo(f"  {one.codes} {names}: {one.score:.2f}, {sure}")
            for text in (*one.reasons, *one.against):
                click.echo(f"    - {text}")
        if not proposals:
            click.echo("  nothing in the catalogue resembles it")


@command.command("accept")
@click.argument("institution")
@click.argument("code", required=False)
@click.argument("items", nargs=-1)
@_PERSON
@click.option("--accept-above", type=click.FloatRange(0, 1), help="All sure ones of this score.")
@click.option("--table", "file", type=click.Path(path_type=Path), help="A work list filled in.")
@click.option("--encoding", default="", help="Charset of a CSV table, where it is not plain.")
@click.option("--system", default="", help="Code system of the code.")
@click.option("--name", default="", help="Its name.")
@click.option("--specimen", default="", help="Only in this specimen.")
@click.option("--unit", default="", help="Only in this unit.")
@click.option("--method", default="", help="Only by this method.")
@click.option("--from", "from_", default="", help="From this day on, such as 2026-07-01.")
@click.option("--to", default="", help="Until this day.")
@click.option("--note", default="", help="A note for people.")
@_USE
@with_gateway
async def accept(gateway: Gateway, **options: Any) -> None:
    """Maps CODE to ITEMS; a table or --accept-above decide many at once, all or none.

    A code that is in the work list takes its system and name from there.
    """
    ways = [bool(options["code"]), options["accept_above"] is not None, bool(options["file"])]
    if sum(ways) != 1:
        raise Invalid("Name a code and its items, or --accept-above, or --table", rule="decisions")
    institution, use = options["institution"], options["use"]
    await check_institution(gateway, institution, SYSTEM_ACCESS)
    if options["file"] is not None:
        asked = decisions_in(sheet_of(options["file"], encoding=options["encoding"]))
    elif options["accept_above"] is not None:
        lines = await _lines(gateway, institution, use)
        asked = accepted_above(lines, options["accept_above"])
    else:
        asked = [await _one(gateway, "accept", options)]
    await _decide(gateway, institution, asked, options["person"])


@command.command("reject")
@click.argument("institution")
@click.argument("code")
@click.argument("items", nargs=-1, required=True)
@_PERSON
@click.option("--system", default="", help="Code system of the code.")
@_USE
@with_gateway
async def reject(gateway: Gateway, **options: Any) -> None:
    """Says that CODE does not mean ITEMS: they are not proposed for it again."""
    await check_institution(gateway, options["institution"], SYSTEM_ACCESS)
    asked = [
        await _one(gateway, "reject", options | {"items": (item,)}) for item in options["items"]
    ]
    await _decide(gateway, options["institution"], asked, options["person"])


@command.command("nothing")
@click.argument("institution")
@click.argument("code")
@_PERSON
@click.option("--system", default="", help="Code system of the code.")
@_USE
@with_gateway
async def nothing(gateway: Gateway, **options: Any) -> None:
    """Says that the catalogue has nothing for CODE."""
    await check_institution(gateway, options["institution"], SYSTEM_ACCESS)
    asked = [await _one(gateway, "nothing", options | {"items": ()})]
    await _decide(gateway, options["institution"], asked, options["person"])


async def _one(gateway: Gateway, kind: Kind, options: dict[str, Any]) -> Asked:
    """A decision on one code; what is not said comes from the work list."""
    lines = [
        one
        for one in await _lines(gateway, options["institution"], options["use"])
        if one.local.code == options["code"] and options["system"] in ("", one.local.system)
    ]
    if not options["use"] and len({one.local.use for one in lines}) > 1:
        raise Invalid(f"{options['code']} is a code of results and of orders: --use", rule="use")
    if not options["system"] and len({one.local.system for one in lines}) > 1:
        raise Invalid(f"Several systems have {options['code']}: --system", rule="system")
    local = lines[0].local if lines else None
    return Asked(
        kind,
        Cells(
            kind=options["use"] or (local.use if local else "result"),
            local_system=options["system"] or (local.system if local else ""),
            local_code=options["code"],
            local_name=options.get("name") or (local.name if local else ""),
            item=tuple(options["items"]),
            **{name: options.get(name, "") for name in _CELLS},
        ),
        where=options["code"],
    )


_CELLS = ("specimen", "unit", "method", "note", "from_", "to")


async def _decide(gateway: Gateway, institution: str, asked: list[Asked], person: str) -> None:
    if not asked:
        click.echo("Nothing to decide.")
        return
    done = await decide(gateway, GATEWAY, institution, asked, person=person)
    click.echo(f"{done.decisions} decided by {person.strip()}")
    for id, version in done.maps:
        click.echo(f"  ConceptMap/{id}, version {version}")
    click.echo(
        f"What is stored follows while a gateway serves, or by: fhir-gateway remap {institution}"
    )


@command.command("coverage")
@click.argument("institution")
@click.option("--since", default="", help="Only what was stored at or after this time.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_gateway
async def coverage_(gateway: Gateway, *, institution: str, since: str, as_json: bool) -> None:
    """Says how much of what an institution sent is mapped today: results and orders apart."""
    said = _Said("resources")
    start = max(date_range(since, gateway.settings.zone)[0], 1) if since else None
    found = await coverage(gateway, institution, access=SYSTEM_ACCESS, since=start, progress=said)
    said.close()
    if as_json:
        click.echo(json.dumps({use: _figures(one) for use, one in found.items()}))
        return
    rows: list[tuple[str, ...]] = [("", "codes mapped", "of", "", "volume mapped", "of", "")]
    for use, one in found.items():
        parts = ((one.codes_mapped, one.codes), (one.mapped, one.volume))
        cells = [
            text for part, whole in parts for text in (str(part), str(whole), _share(part, whole))
        ]
        rows.append((f"{use}s", *cells))
    table(rows)


def _figures(one: Coverage) -> dict[str, Any]:
    return {
        "codes": one.codes,
        "codes_mapped": one.codes_mapped,
        "codes_share": share(one.codes_mapped, one.codes),
        "volume": one.volume,
        "volume_mapped": one.mapped,
        "volume_share": share(one.mapped, one.volume),
    }


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


@command.command("export")
@click.argument("institution")
@click.argument("file", type=click.Path(path_type=Path))
@_USE
@click.option("--encoding", type=_ENCODINGS, default="utf-8", help="Charset of the table.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@with_gateway
async def export(
    gateway: Gateway, *, institution: str, file: Path, use: str | None, **options: Any
) -> None:
    """Writes the map as it counts now, of the table and of the store, in the form of a table."""
    await check_institution(gateway, institution, SYSTEM_ACCESS)
    found = await map_at(gateway, institution)
    rows = [row for row in (found.effective() if found else ()) if use in (None, row.use)]
    write(file, map_csv(rows, options["encoding"]), force=options["force"])
    click.echo(f"{len(rows)} rows: {file}")
