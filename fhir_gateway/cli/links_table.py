"""`fhir-gateway links export` and `import`: proposals as a CSV, for batch tools."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import click

from fhir_gateway.cli.catalogue_frame import sheet_of, with_gateway, write
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.identity.review_store import questions
from fhir_gateway.identity.review_table import (
    COLUMNS,
    REQUIRED,
    ask_all,
    cells_of,
    proposals_of,
    read_table,
)
from fhir_gateway.terminology.sheet_text import guarded


@click.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--open", "only_open", is_flag=True, help="Open questions only.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@with_gateway
async def export(gateway: Gateway, *, file: Path, only_open: bool, force: bool) -> None:
    """Writes all questions to FILE (CSV, UTF-8): logical ids, scores, levels and answers, and no
    name, date or number of a patient. Rejected pairs are labels for who fits weights."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\r\n")
    out.writerow(COLUMNS)
    count = 0
    async for question in questions(gateway):
        if question.is_open or not only_open:
            out.writerow(map(guarded, cells_of(question)))
            count += 1
    write(file, b"\xef\xbb\xbf" + text.getvalue().encode(), force=force)
    click.echo(f"{file.name}: {count} questions")


@click.command("import", help=f"""Asks reviewers about the pairs of a table; links nobody.

    FILE is a CSV file or a workbook with the columns {", ".join(REQUIRED)}: logical ids of two
    Patients and the probability that they are one person's, as a batch tool says it (splink's
    unique_id_l, unique_id_r and match_probability are known). Other columns are passed over, so
    that an exported table can be read again. A pair that a reviewer has rejected is asked about
    again only when our own comparison of the two says something else by now. Any fault, named by
    row and column, stores nothing.
    """)  # fmt: skip
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--source", required=True, help="Name and version of the tool; kept with each pair.")
@click.option("--sheet", default="", help="Sheet of a workbook, when it has several.")
@click.option("--encoding", default="", help="Charset of a CSV file: UTF-8, GB18030.")
@click.option("--dry-run", is_flag=True, help="Check and count everything, store nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
@with_gateway
async def import_(
    gateway: Gateway, *, file: Path, source: str, sheet: str, encoding: str, dry_run: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Runs the import and prints what became of the pairs."""
    if not source.strip():
        raise Invalid("--source must name the tool that found the pairs", rule="links-source")
    table = sheet_of(file, sheet=sheet, encoding=encoding)
    rows = read_table(table)
    proposals = await proposals_of(gateway, table, rows, source=source.strip())
    became = {} if dry_run else await ask_all(gateway, proposals)
    if as_json:
        told = {"file": file.name, "pairs": len(proposals), "stored": not dry_run, **became}
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    said = ", ".join(f"{number} {name}" for name, number in sorted(became.items()))
    click.echo(f"{file.name}: {len(proposals)} pairs; {said or 'nothing stored (dry run)'}")
