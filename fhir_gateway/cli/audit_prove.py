"""`fhir-gateway audit prove` and `audit export`: what an auditor takes home and checks without the
gateway (docs/verify/verify_audit.py)."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from pathlib import Path
from typing import IO, Any

import click

from fhir_gateway.cli.audit_common import audited_gateway, common
from fhir_gateway.errors import Invalid
from fhir_gateway.settings import Settings
from fhir_gateway.store import log
from fhir_gateway.store.log import NOWHERE, Logged
from fhir_gateway.transparency import proofs
from fhir_gateway.transparency.entries import told_entry

#: What the lines of a file are, for whoever reads it.
FORMAT, PROOF_FORMAT = "fhir-gateway-audit-log/1", "fhir-gateway-audit-proof/1"

_PAGE = 2_000


@click.command("prove")
@click.argument("event")
@click.option("--size", type=click.IntRange(1), help="In the head of this size (default: newest).")
@common
async def prove(settings: Settings, event: str, size: int | None) -> None:
    """Print one record with its proof, as JSON: EVENT is an AuditEvent's id, or Type/id.

    The file proves to anybody that the record stands in the log, unchanged, since the head was
    signed. It holds the record: it is for those who may read that.
    """
    async with audited_gateway(settings) as gateway:
        row = await proofs.row_of(gateway.store, event)
        proven = await proofs.prove_entry(gateway.store, row, size)
        head = await proofs.head_at(gateway.store, proven.size)
        statements = [turn.note for turn in await log.turns(gateway.store)]
    told = {
        "format": PROOF_FORMAT,
        "statements": statements,
        "checkpoint": head.note,
        "index": proven.number,
        "path": [b64encode(each).decode() for each in proven.path],
        "entry": told_entry(row),
    }
    click.echo(json.dumps(told, ensure_ascii=False))


@click.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@common
async def export(settings: Settings, file: Path) -> None:
    """Write the whole log into the new FILE, one JSON object a line: statements, heads, records.

    Everything that is needed to check it is in there, and every record too: keep it accordingly.
    """
    async with audited_gateway(settings) as gateway:
        with _begun(file) as out:
            count = await _write(gateway.store, out)
    click.echo(f"{file}: {count:,} records")


def _begun(file: Path) -> IO[str]:
    """The new file, its owner's alone."""
    try:
        descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        raise Invalid(
            f"{file} exists; an export goes into a new file", rule="export-exists"
        ) from None
    return open(descriptor, "w", encoding="utf-8")


async def _write(store: Logged, out: IO[str]) -> int:
    last = await log.last_head(store)
    size = last.size if last is not None else 0
    _line(out, {"format": FORMAT, "size": size})
    for turn in await log.turns(store):
        _line(out, {"statement": turn._asdict()})
    after = 0
    while page := await log.heads(store, after=after):
        for head in page:
            if head.size <= size:
                _line(out, {"head": {**head._asdict(), "place": list(head.place)}})
        after = page[-1].size
    place, index = NOWHERE, 0
    while index < size:
        rows = await log.entries(store, place, limit=min(_PAGE, size - index))
        if not rows:
            break
        for row in rows:
            _line(out, {"index": index, "entry": told_entry(row)})
            index += 1
        place = rows[-1].place
    return index


def _line(out: IO[str], value: dict[str, Any]) -> None:
    out.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")
