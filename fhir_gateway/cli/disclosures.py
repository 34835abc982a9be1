"""`fhir-gateway disclosures`: the ledger of what was passed on, to whom, when and why."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

import click

from fhir_gateway.accountability.disclosures import Charset, Form, disclosures, header, written
from fhir_gateway.cli.answers_find import period
from fhir_gateway.cli.catalogue_frame import with_gateway
from fhir_gateway.cli.institution_common import tell_unknown
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid


@click.group("disclosures")
def command() -> None:
    """The ledger of disclosures: one line for each act and person."""


@command.command("export")
@click.option("--from", "since", default="", help="First day, as 2026-11-01; the beginning.")
@click.option("--to", "until", default="", help="Last day; until now when left out.")
@click.option("--institution", default="", help="Only what this institution was given: its id.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "ndjson"]),
    default="csv",
    show_default=True,
    help="A table for people, or lines for systems.",
)
@click.option(
    "--encoding",
    "charset",
    type=click.Choice(["utf-8", "gb18030"]),
    default="utf-8",
    show_default=True,
    help="Of a table; utf-8 bears the mark that spreadsheets need.",
)
@click.option("--output", type=click.Path(path_type=Path), help="A file; it must not be there.")
@with_gateway
async def export(
    gateway: Gateway,
    *,
    since: str,
    until: str,
    institution: str,
    form: Form,
    charset: Charset,
    output: Path | None,
) -> None:
    """Writes the ledger of a time, oldest first; figures of progress go to the other stream.

    It names persons by the logical ids of their records. Cells that a spreadsheet would take for a
    formula begin with an apostrophe.
    """
    start, end = period(gateway, since, until, ("--from", "--to"))
    await tell_unknown(gateway, institution)
    stream = _opened(output)
    count = 0
    try:
        stream.write(header(form, charset))
        async for lines in disclosures(gateway, start, end, institution=institution):
            stream.write(written(lines, form, charset))
            count += len(lines)
            click.echo(f"\r{count} lines", nl=False, err=True)
    finally:
        if output is not None:
            stream.close()
    click.echo(f"\r{count} lines", err=True)


def _opened(path: Path | None) -> BinaryIO:
    if path is None:
        return sys.stdout.buffer
    try:
        return path.open("xb")
    except OSError as error:
        raise Invalid(
            f"{path} cannot be written: {error.strerror}. Name a file that is not there yet",
            rule="file",
        ) from None
