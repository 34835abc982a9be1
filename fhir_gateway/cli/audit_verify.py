"""`fhir-gateway audit verify`: is every record still what it was when it was signed?"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import click

from fhir_gateway.cli.audit_common import CannotCheck, sentences
from fhir_gateway.errors import Invalid
from fhir_gateway.settings import load_settings
from fhir_gateway.transparency.note import Malformed, Verifier, read_verifier
from fhir_gateway.transparency.verify import Wanted
from fhir_gateway.transparency.verify import verify as check
from fhir_gateway.transparency.verify_found import Report

#: Seconds between two lines of progress.
_PAUSE = 1.0


@click.command("verify")
@click.option("--database", help="Where the data is: sqlite:///PATH or postgresql://…")
@click.option(
    "--witness",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of heads that a witness kept: finds a database that was set back.",
)
@click.option("--key", help="The public key (NAME+HASH+BASE64) that the log must begin with.")
@click.option("--from", "start", type=click.IntRange(0), default=0, help="First leaf to look at.")
@click.option(
    "--jobs", type=click.IntRange(1, 64), help="Processes (default: one for each processor)."
)
@click.option("--quick", is_flag=True, help="The whole tree, but only the last 10,000 records.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
def verify(
    database: str | None,
    witness: Path | None,
    key: str | None,
    start: int,
    jobs: int | None,
    quick: bool,
    as_json: bool,
) -> None:
    """Check the whole audit log: every record's stored bytes against its leaf, every node, every
    signed head, the statements of keys and recoveries, and the index rows by which records are
    found. The gateway may be running; a backup can be checked too.

    Without --witness only an outsider can tell that a whole database was set back to an earlier
    day; without --key, that it was replaced by another one.

    \b
    Examples:
      fhir-gateway audit verify --witness regulator.heads --key "$(cat log.pub)"
      fhir-gateway audit verify --database sqlite:///backup.sqlite --quick

    Exit code: 0 when all is as it was signed; 1 when something is not; 2 for wrong options and for
    a store that cannot be opened.
    """
    with sentences(CannotCheck):
        settings = load_settings(database=database)
        wanted = Wanted(
            start, quick, witness.read_text("utf-8") if witness else "", _key(key),
            jobs or os.cpu_count() or 1,
        )  # fmt: skip
        began = time.monotonic()
        report = check(settings.database, wanted, _Progress())
    _tell(report, time.monotonic() - began, as_json)
    if not report.sound:
        raise SystemExit(1)


def _key(text: str | None) -> Verifier | None:
    try:
        return read_verifier(text) if text else None
    except Malformed as error:
        raise Invalid(f"--key: {error}", rule="log-key") from None


def _tell(report: Report, seconds: float, as_json: bool) -> None:
    if as_json:
        told = {
            "sound": report.sound,
            "size": report.size,
            "records": report.leaves,
            "heads": report.heads,
            "nodes": report.nodes,
            "purged": report.purged,
            "unsigned": report.unsigned,
            "witnessed": report.witnessed,
            "recoveries": report.recoveries,
            "findings": [finding._asdict() for finding in report.findings],
            "more": report.more,
            "seconds": round(seconds, 1),
        }
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    for finding in report.findings:
        click.echo(str(finding))
    if report.more:
        click.echo(f"… and {report.more:,} more")
    for line in report.recoveries:
        click.echo(f"recovered: {line}")
    if report.purged:
        click.echo(f"{report.purged:,} records were lawfully removed; their leaves stand")
    click.echo(
        f"{report.leaves:,} of {report.size:,} records, {report.nodes:,} nodes, {report.heads:,}"
        f" heads, {report.witnessed:,} witnessed; {report.unsigned:,} not signed yet;"
        f" {seconds:.1f} s"
    )
    click.echo("All is as it was signed" if report.sound else "NOT as it was signed")


class _Progress:
    """Tells the standard error how far it is, once a second."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, what: str, done: int, of: int) -> None:
        now = time.monotonic()
        if now - self._told >= _PAUSE:
            self._told = now
            print(f"{what}: {done:,} of {of:,}", file=sys.stderr, flush=True)
