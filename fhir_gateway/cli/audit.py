"""`fhir-gateway audit`: how far the audit log is signed, is it whole, keys, proofs, witnesses."""

from __future__ import annotations

import json

import click

from fhir_gateway.cli.audit_common import audit_store, audited_gateway, common, moment
from fhir_gateway.cli.audit_keys import key, recover
from fhir_gateway.cli.audit_prove import export, prove
from fhir_gateway.cli.audit_verify import verify
from fhir_gateway.cli.audit_witness import witness
from fhir_gateway.context import SystemClock
from fhir_gateway.settings import Settings
from fhir_gateway.store import log
from fhir_gateway.transparency.sequencer import Sequencer
from fhir_gateway.transparency.watermark import watermark


@click.group("audit")
def command() -> None:
    """The audit log: a Merkle tree over every record of the journal, with signed heads
    (docs/transparency.md)."""


for one in (verify, prove, export, key, recover, witness):
    command.add_command(one)


@command.command("head")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@common
async def head(settings: Settings, as_json: bool) -> None:
    """Show the newest signed head, and what is not signed yet.

    Exit code: 0 when the log is in time; 3 when it is late or nothing is signed.
    """
    async with audit_store(settings) as store:
        mark = await watermark(store, SystemClock())
        last = await log.last_head(store)
    if as_json:
        told = {**mark._asdict(), "late": mark.late, "note": last.note if last else None}
        click.echo(json.dumps(told, ensure_ascii=False))
    elif last is None:
        click.echo("No head was signed yet: `fhir-gateway serve` or `worker` signs them")
    else:
        click.echo(last.note)
        click.echo(f"signed {moment(mark.signed)}, last heard of {moment(mark.heard)}")
    if not as_json:
        if mark.waiting:
            click.echo(f"{mark.waiting:,} records wait for their number, for {mark.behind} s")
        if mark.alarm:
            click.echo(f"ALARM: {mark.alarm}")
    if mark.late:
        raise SystemExit(3)


@command.command("sign")
@common
async def sign(settings: Settings) -> None:
    """Number and sign what waits, now, and end.

    `fhir-gateway serve` and `worker` do so by themselves; this is for a store that nobody serves.
    """
    async with audited_gateway(settings) as gateway:
        sequencer = Sequencer(gateway)
        try:
            done = await sequencer.all()
        finally:
            await sequencer.vacate()
    click.echo(f"{done:,} records numbered and signed")
