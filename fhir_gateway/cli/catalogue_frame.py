"""What the commands on lists share: the gateway, files in and out, errors as sentences."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any
from unicodedata import east_asian_width

import click

from fhir_gateway.app import open_gateway
from fhir_gateway.errors import GatewayError, Invalid
from fhir_gateway.settings import load_settings
from fhir_gateway.terminology.sheet import MOST_BYTES, Sheet, read_sheet, refused


def with_gateway(function: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Opens the store beside a running server or alone, and says errors as sentences."""

    @click.option("--database", help="Where the data is: sqlite:///PATH or postgresql://…")
    @click.option("--terminology", help="Folder of the catalogue.")
    @wraps(function)
    def run(database: str | None, terminology: str | None, **options: Any) -> None:
        async def opened() -> None:
            settings = load_settings(database=database, terminology=terminology)
            gateway = await open_gateway(settings, begin=False)
            try:
                await function(gateway, **options)
            finally:
                await gateway.store.close()

        try:
            asyncio.run(opened())
        except GatewayError as error:
            said = "\n  ".join(issue.diagnostics for issue in error.issues)
            raise click.ClickException(said) from None

    return run


def content_of(path: Path) -> bytes:
    """The bytes of a file that a person named. Raises Invalid when there is none to read."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise refused(
                path.name,
                f"is larger than {MOST_BYTES // 1_000_000} MB; this is no list",
                "sheet-size",
            )
        return path.read_bytes()
    except OSError as error:
        raise Invalid(
            f"{path} cannot be read: {error.strerror}. Is it there, and closed elsewhere?",
            rule="file",
        ) from None


def sheet_of(path: Path, *, sheet: str = "", encoding: str = "") -> Sheet:
    """The table in a file. Raises Invalid and Unprocessable."""
    return read_sheet(content_of(path), path.name, sheet=sheet, encoding=encoding)


def write(path: Path, content: bytes, *, force: bool) -> None:
    """Writes a file, all of it or nothing. Raises Invalid for one that is there without force."""
    if path.exists() and not force:
        raise Invalid(f"{path} is there: name another file, or say --force", rule="file")
    made = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        made.write_bytes(content)
        os.replace(made, path)
    except OSError as error:
        with suppress(OSError):
            made.unlink()
        raise Invalid(f"{path} cannot be written: {error.strerror}", rule="file") from None


def table(rows: list[tuple[str, ...]]) -> None:
    """Prints rows in columns; Chinese characters take two places of a terminal."""
    widths = [max(_width(row[n]) for row in rows) for n in range(len(rows[0]))]
    for row in rows:
        cells = [cell + " " * (widths[n] - _width(cell)) for n, cell in enumerate(row)]
        click.echo("  ".join(cells).rstrip())


def _width(text: str) -> int:
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in text)
