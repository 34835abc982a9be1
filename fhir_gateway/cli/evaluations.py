"""`fhir-gateway evaluations`: the register of quality evaluations, kept by the operator.

The register makes the mark of a result (docs/adr/0011, docs/adr/0024); docs/evaluations.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fhir_gateway.cli.catalogue_frame import sheet_of, with_gateway
from fhir_gateway.cli.evaluations_body import body
from fhir_gateway.cli.evaluations_change import expire, resume, suspend
from fhir_gateway.cli.evaluations_list import export, list_
from fhir_gateway.cli.evaluations_store import register_of, store
from fhir_gateway.context import Gateway
from fhir_gateway.interactions.evaluations import areas_of, bodies_at
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.recognition.register_import import COLUMNS, REQUIRED, Reading, Registered
from fhir_gateway.recognition.register_plan import Plan, plan_import
from fhir_gateway.recognition.vocabulary import catalogue_of
from fhir_gateway.security.actor import SYSTEM_ACCESS


@click.group("evaluations")
def command() -> None:
    """The register of quality evaluations: import, list, export, suspend, resume, expire, body."""


for one in (list_, export, suspend, resume, expire, body):
    command.add_command(one)


@command.command("import", help=f"""Imports a table of evaluations.

    FILE is a CSV file (UTF-8 or GB 18030) or a workbook with the columns {", ".join(COLUMNS)};
    {", ".join(REQUIRED)} are required, Chinese headers are known. `item` is a code of the
    catalogue, a class of it, or * for all items; days are inclusive. A round that was imported
    before is brought up to date, the same table twice stores nothing twice. Any fault, named by
    row and column, stores nothing.
    """)  # fmt: skip
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--sheet", default="", help="Sheet of a workbook, when it has several.")
@click.option("--encoding", default="", help="Charset of a CSV file: UTF-8, GB18030.")
@click.option("--dry-run", is_flag=True, help="Check and count everything, store nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
@with_gateway
async def import_(
    gateway: Gateway, *, file: Path, sheet: str, encoding: str, dry_run: bool, as_json: bool
) -> None:
    """Runs the import and prints what became of the table."""
    table = sheet_of(file, sheet=sheet, encoding=encoding)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        known = Registered(
            catalogue_of(gateway),
            areas_of(gateway),
            await institutions_at(gateway, reader),
            await bodies_at(gateway, reader),
        )
        register = await register_of(reader)
    reading = Reading(table, known)
    _progress(f"reading {len(table.rows) - 1} rows")
    reading.read()
    _progress(f"comparing {len(reading.stated)} entries with {len(register)} evaluations")
    plan = plan_import(reading, register)
    if not dry_run and plan.changes:
        _progress(f"storing {len(plan.changes)} evaluations")
        await store(gateway, plan.changes)
    _say(file.name, reading, plan, dry_run=dry_run, as_json=as_json)


def _progress(text: str) -> None:
    click.echo(f"{text} …", err=True)


def _say(name: str, reading: Reading, plan: Plan, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        said: dict[str, Any] = {
            "file": name, "rows": reading.rows, "added": plan.added, "changed": plan.changed,
            "unchanged": plan.unchanged, "evaluations": len(plan.changes),
            "stored": bool(plan.changes) and not dry_run, "notices": reading.notices,
        }  # fmt: skip
        click.echo(json.dumps(said, ensure_ascii=False))
        return
    for notice in reading.notices:
        click.echo(f"note: {notice}", err=True)
    rest = "nothing stored (dry run)" if dry_run else f"{len(plan.changes)} evaluations stored"
    click.echo(
        f"{name}: {reading.rows} rows; {plan.added} added, {plan.changed} changed, "
        f"{plan.unchanged} unchanged; {rest}"
    )
