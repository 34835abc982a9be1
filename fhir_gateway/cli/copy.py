"""`fhir-gateway copy`: a whole store from one database to another, resumed and verified."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import click

from fhir_gateway.context import SystemClock
from fhir_gateway.errors import GatewayError, Invalid
from fhir_gateway.store import copying_postgres, copying_sqlite
from fhir_gateway.store.copying import Digest, copy
from fhir_gateway.store.opening import POSTGRES, SQLITE

#: Seconds between two lines of progress.
PAUSE = 1.0


@click.command("copy")
@click.option("--from", "source", required=True, help="The store: sqlite:///PATH or postgresql://…")
@click.option("--to", "target", required=True, help="An empty database, of either kind.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(source: str, target: str, as_json: bool) -> None:
    """Move a store to another database.

    Stop the gateway first: a store in use is refused. Everything goes along: versions, index,
    facts, audit log, decisions, tokens and jobs. A copy that was cut short goes on where it
    stopped when the same command is given again; until it is finished no gateway opens the
    target. At the end the target is read again and compared, table by table, by counts and
    hashes. Files of exports stay where they are. The source is not changed.

    \b
    Examples:
      fhir-gateway copy --from sqlite:///var/gateway.sqlite --to postgresql://gw:…@host/gateway
      fhir-gateway copy --from postgresql://gw:…@host/gateway --to sqlite:///copy.sqlite
    """
    if source == target:
        raise click.ClickException("source and target are the same database")
    began = time.monotonic()
    try:
        copied = asyncio.run(_copy(source, target))
    except GatewayError as error:
        raise click.ClickException(str(error)) from None
    rows = sum(digest.rows for digest in copied.values())
    if as_json:
        tables = {name: {"rows": one.rows, "hash": f"{one.hash:016x}"}
                  for name, one in copied.items()}  # fmt: skip
        click.echo(json.dumps({"rows": rows, "verified": True, "tables": tables}))
        return
    for name, digest in copied.items():
        click.echo(f"{name:<14}{digest.rows:>14,}  {digest.hash:016x}")
    click.echo(f"{rows:,} rows copied and verified in {time.monotonic() - began:.0f} s")


async def _copy(source: str, target: str) -> dict[str, Digest]:
    taken: Any = await _side(source, create=False)
    try:
        given: Any = await _side(target, create=True)
        try:
            return await copy(taken, given, progress=_Progress())
        finally:
            await given.close()
    finally:
        await taken.close()


async def _side(database: str, *, create: bool) -> Any:
    now = SystemClock().now()
    if database.startswith(SQLITE):
        return copying_sqlite.open_side(database.removeprefix(SQLITE), now=now, create=create)
    if database.startswith(POSTGRES):
        return await copying_postgres.open_side(database, now=now, create=create)
    raise Invalid("a store is sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME")


class _Progress:
    """Tells the standard error how far it is, once a second."""

    def __init__(self) -> None:
        self._told = 0.0

    def __call__(self, table: str, rows: int) -> None:
        now = time.monotonic()
        if now - self._told >= PAUSE:
            self._told = now
            print(f"{table}: {rows:,} rows", file=sys.stderr, flush=True)
