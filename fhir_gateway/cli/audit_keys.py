"""`fhir-gateway audit key …` and `audit recover`: what an operator does to the log."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import click

from fhir_gateway.cli.audit_common import audited_gateway, common, sentences
from fhir_gateway.settings import Settings, load_settings
from fhir_gateway.transparency import govern, keys, place


@click.group("key")
def key() -> None:
    """The keys that sign the log's heads, and a witness's own."""


@key.command("new")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--name", help="The log's name, such as gw.example/audit-log: no blanks, no plus.")
def new(file: Path | None, name: str | None) -> None:
    """Make FILE (default: FHIR_GATEWAY_LOG_KEY) with a new private key, and print the public one.

    Give the public key to every auditor and witness, and keep a copy of the file in a safe: who has
    it can sign for the log, and without it the log cannot go on. An existing file is left alone.
    """
    with sentences():
        settings = load_settings()
        signer = keys.new_signer(name or place.default_name(settings))
        keys.write_new(file or place.key_file(settings), signer)
    click.echo(str(signer.verifier))


@key.command("show")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--timed", is_flag=True, help="As the key of timed signatures (tlog-cosignature).")
@click.option("--database", help="Where the data is, when the key lies beside it.")
def show(file: Path | None, timed: bool, database: str | None) -> None:
    """Print the public keys of FILE (default: the log's), oldest first; none of the private."""
    with sentences():
        path = file or place.key_file(load_settings(database=database))
        held = keys.read_keys(path)
    for signer in held:
        click.echo(str(signer.verifier.timed() if timed else signer.verifier))


@key.command("rotate")
@click.option("--reason", required=True, help="Why: for the auditors, in one line.")
@common
async def rotate(settings: Settings, reason: str) -> None:
    """Sign with a new key from now on.

    The new key is put behind the old one in the file, both sign the change, and the change is an
    entry of the log itself. Heads of before stay good. With several machines copy the file to the
    others at once: they sign nothing until they have it.
    """
    async with audited_gateway(settings) as gateway:
        statement = await govern.rotate(gateway, reason)
    click.echo(f"from size {statement.size + 1:,} on: {statement.key}")


@click.command("recover")
@click.option("--reason", required=True, help="What happened: for the auditors, in one line.")
@click.option(
    "--lost",
    type=click.File("r", encoding="utf-8"),
    help="File with the newest head that was signed (default: the one kept beside the key).",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
async def recover(settings: Settings, reason: str, lost: IO[str] | None, yes: bool) -> None:
    """Let the log go on after an older backup was restored.

    Records of after the backup are gone, and heads over them were signed: the gateway notices and
    signs nothing. This states in the log, signed, which head was lost and why, and goes on under a
    new origin, so that no size has two heads. Witnesses must be told; each accepts it by hand.
    """
    if not yes:
        click.confirm("Records that were signed are given up for good. Go on?", abort=True)
    note = lost.read() if lost is not None else None
    async with audited_gateway(settings) as gateway:
        statement = await govern.recover(gateway, reason, note)
    assert statement.lost is not None
    click.echo(f"{statement.origin} goes on from size {statement.size:,};"
               f" the head of size {statement.lost.size:,} is given up")  # fmt: skip
