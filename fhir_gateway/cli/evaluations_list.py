"""`fhir-gateway evaluations list` and `export`: what the register says, by filters."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from fhir_gateway.cli.catalogue_frame import table, with_gateway, write
from fhir_gateway.cli.evaluations_store import register_of
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.interactions.evaluations import areas_of
from fhir_gateway.recognition.register import Entry
from fhir_gateway.recognition.register_import import COLUMNS
from fhir_gateway.recognition.register_plan import Held
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.terminology.evaluation import is_day, spans
from fhir_gateway.terminology.sheet_text import guarded


class _Filter(NamedTuple):
    institution: str
    item: str
    on: str
    reaching: frozenset[str] | None

    def has(self, entry: Entry) -> bool:
        return (
            self.institution in ("", entry.institution)
            and self.item in ("", entry.item)
            and (self.reaching is None or entry.area in self.reaching)
            and (not self.on or _in_force(entry, self.on))
        )


def _in_force(entry: Entry, day: str) -> bool:
    stretches = [(entry.start, entry.end)]
    if entry.passed:
        stretches = spans(entry.start, entry.end, entry.suspensions)
    return any(start <= day and (not end or day <= end) for start, end in stretches)


def _filters(function: Any) -> Any:
    for option in (
        click.option("--area", default="", help="Code of an area that must be reached."),
        click.option("--on", default="", help="In force on this day, as 2027-01-31."),
        click.option("--item", default="", help="Code of an item."),
        click.option("--institution", default="", help="Id of an institution."),
    ):
        function = option(function)
    return function


async def _found(
    gateway: Gateway, institution: str, item: str, on: str, area: str
) -> list[tuple[Held, Entry]]:
    if on and not is_day(on):
        raise Invalid(f"--on: {on} is no day, write it as 2027-01-31", rule="evaluation-days")
    reaching = areas_of(gateway).within(area) if area else None
    if area and not reaching:
        raise Invalid(f"--area: {area} is no area of the table of areas", rule="area")
    chosen = _Filter(institution, item, on, reaching)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        register = await register_of(reader)
    found = [(one, entry) for one in register for entry in one.entries if chosen.has(entry)]
    return sorted(found, key=lambda pair: (pair[1].institution, pair[1].item, pair[1].start))


@click.command("list")
@_filters
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@with_gateway
async def list_(gateway: Gateway, *, as_json: bool, **filters: str) -> None:
    """Lists evaluations item by item: where, when, passed or failed, who judged, what stopped."""
    found = await _found(gateway, **filters)
    if as_json:
        click.echo(json.dumps([_said(*pair) for pair in found], ensure_ascii=False))
        return
    rows = [
        (e.institution, e.item, e.area, e.start, e.end or "-", "passed" if e.passed else "failed",
         e.evaluator, e.round, "; ".join(_stops(e)))
        for _, e in found
    ]  # fmt: skip
    header = ("institution", "item", "area", "from", "to", "outcome", "body", "round", "stopped")
    table([header, *rows])
    click.echo(f"{len(rows)} entries")


def _said(one: Held, entry: Entry) -> dict[str, Any]:
    return {
        "institution": entry.institution, "item": entry.item, "area": entry.area,
        "start": entry.start, "end": entry.end, "passed": entry.passed,
        "evaluator": entry.evaluator, "body": entry.body, "round": entry.round,
        "score": entry.score, "city_wide": entry.city_wide,
        "suspensions": [stop._asdict() for stop in entry.suspensions],
        "resource": f"VerificationResult/{one.stored.id}/_history/{one.stored.version}",
    }  # fmt: skip


def _stops(entry: Entry) -> Iterator[str]:
    for one in entry.suspensions:
        until = f" to {one.until}" if one.until else ""
        yield f"{one.kind} from {one.since}{until}: {one.reason}"


@click.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@_filters
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@with_gateway
async def export(gateway: Gateway, *, file: Path, force: bool, **filters: str) -> None:
    """Writes evaluations to FILE as the table that `import` reads (CSV, UTF-8).

    Suspensions are no columns of it: importing the table again keeps those that stand.
    """
    found = await _found(gateway, **filters)
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\r\n")
    out.writerow(COLUMNS)
    for _, e in found:
        row = (
            e.institution, e.item, e.area, e.start, e.end, "true" if e.passed else "false",
            e.body or e.evaluator, e.round, e.score, "true" if e.city_wide else "",
        )  # fmt: skip
        out.writerow(map(guarded, row))
    write(file, b"\xef\xbb\xbf" + text.getvalue().encode(), force=force)
    click.echo(f"{file.name}: {len(found)} entries")
