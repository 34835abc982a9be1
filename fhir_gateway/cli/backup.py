"""`fhir-gateway backup`: a consistent copy of a SQLite store, while the gateway serves."""

from __future__ import annotations

import os
from pathlib import Path

import apsw
import click

from fhir_gateway.errors import GatewayError
from fhir_gateway.settings import load_settings
from fhir_gateway.store.engine import check_engine
from fhir_gateway.store.opening import SQLITE


@click.command("backup")
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--database", help="The store: sqlite:///PATH.")
def command(target: Path, database: str | None) -> None:
    """Copy a SQLite store into the new file TARGET while the gateway goes on.

    The copy is one consistent state, is examined, and is on the disk when this returns. To restore
    it stop every process, put the file in the place of the old one and its -wal and -shm, and run
    `fhir-gateway check`. For PostgreSQL use pg_dump or pg_basebackup: see docs/operate.md.

    \b
    Example:
      fhir-gateway backup /srv/backup/city-20261122.sqlite
    """
    try:
        address = load_settings(database=database).database
        check_engine()
    except GatewayError as error:
        raise click.ClickException(str(error)) from None
    if not address.startswith(SQLITE):
        raise click.ClickException(
            "this store is not a file: back it up with pg_dump or pg_basebackup (docs/operate.md)"
        )
    source = Path(address.removeprefix(SQLITE))
    if not source.is_file():
        raise click.ClickException("there is no store at that address")
    if target.exists():
        raise click.ClickException(f"{target} exists; a backup goes into a new file")
    try:
        size = _backup(source, target)
    except apsw.Error as error:
        target.unlink(missing_ok=True)
        raise click.ClickException(f"not copied: {error.__class__.__name__}") from None
    click.echo(f"{target}: {size:,} bytes, examined and sound")


def _backup(source: Path, target: Path) -> int:
    """Copies all pages in one read transaction; commits go on meanwhile. Returns the size."""
    descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    read = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE)
    write = apsw.Connection(str(target))
    try:
        with write.backup("main", read, "main") as work:
            while not work.done:
                work.step(-1)
        if write.pragma("quick_check") != "ok":
            raise apsw.CorruptError("the copy is not sound")
    finally:
        write.close()
        read.close()
        os.fsync(descriptor)
        os.close(descriptor)
    folder = os.open(target.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    return target.stat().st_size
