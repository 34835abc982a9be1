"""`fhir-gateway evaluations`: the register of quality evaluations, entered by the operator.

The register makes the mark of a result (docs/adr/0011); no institution can write it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import click

from fhir_gateway.app import open_gateway
from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.envelope import BundleEntry
from fhir_gateway.fhir.wire import render
from fhir_gateway.interactions.transaction import transaction
from fhir_gateway.recognition.register import COLUMNS, load_evaluations_csv
from fhir_gateway.security.actor import GATEWAY
from fhir_gateway.settings import load_settings
from fhir_gateway.terminology.catalogue import load_catalogue


@click.group("evaluations")
def command() -> None:
    """The register of quality evaluations: import."""


@command.command("import", help=f"""Imports a table of evaluations.

    FILE is a CSV file in UTF-8 with the columns {", ".join(COLUMNS)}. `item` is a code of the
    catalogue, a class of it, or * for all items; dates are inclusive; `passed` is true or false.
    The same row has no second effect. Any fault, named by line and column, stores nothing.
    """)  # fmt: skip
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--database", help="Where the data is: sqlite:///PATH or postgresql://…")
@click.option("--terminology", help="Folder of the catalogue.")
@click.option("--dry-run", is_flag=True, help="Check the table and store nothing.")
def import_(file: Path, database: str | None, terminology: str | None, *, dry_run: bool) -> None:
    """Runs the import and prints what became of the table."""
    try:
        settings = load_settings(database=database, terminology=terminology)
        found = load_evaluations_csv(file, load_catalogue(settings.terminology))
        done = Counter[str]() if dry_run else asyncio.run(_store(settings, found))
    except GatewayError as error:
        lines = "\n  ".join(issue.diagnostics for issue in error.issues)
        raise click.ClickException(lines) from None
    except UnicodeDecodeError:
        raise click.ClickException(f"{file.name} is not UTF-8") from None
    said = "nothing stored (dry run)" if dry_run else _summary(done)
    click.echo(f"{file.name}: {len(found)} evaluations; {said}")


async def _store(settings: Any, found: list[dict[str, Any]]) -> Counter[str]:
    gateway = await open_gateway(settings, begin=False)
    try:
        entries = [
            BundleEntry(None, "PUT", f"VerificationResult/{one['id']}", render(one))
            for one in found
        ]
        outcome = await transaction(gateway, GATEWAY, entries, only_if_changed=True)
    finally:
        await gateway.store.close()
    return Counter(one.outcome for one in (outcome.committed.results if outcome.committed else []))


def _summary(done: Counter[str]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(done.items())) or "no rows"
