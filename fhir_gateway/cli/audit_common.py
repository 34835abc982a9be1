"""What the subcommands of `fhir-gateway audit` share: settings, the store, errors as sentences."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import click

from fhir_gateway.app import open_gateway
from fhir_gateway.context import Gateway, SystemClock
from fhir_gateway.errors import GatewayError
from fhir_gateway.settings import Settings, load_settings
from fhir_gateway.store.opening import AnyStore, open_store


def common(function: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Gives a subcommand its settings, runs it, and says errors as sentences."""

    @click.option("--database", help="Where the data is: sqlite:///PATH or postgresql://…")
    @click.option("--log-key", help="File of the private keys that sign the log.")
    @wraps(function)
    def run(database: str | None, log_key: str | None, **options: Any) -> None:
        async def whole() -> None:
            await function(load_settings(database=database, log_key=log_key), **options)

        with sentences():
            asyncio.run(whole())

    return run


class CannotCheck(click.ClickException):
    """The check did not take place: not to be taken for one that found something."""

    exit_code = 2


class sentences:
    """Says the gateway's errors as a command line does."""

    def __init__(self, kind: type[click.ClickException] = click.ClickException) -> None:
        self._kind = kind

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, GatewayError):
            raise self._kind("\n  ".join(issue.diagnostics for issue in error.issues)) from error


@asynccontextmanager
async def audit_store(settings: Settings) -> AsyncIterator[AnyStore]:
    """The store by itself, beside a running server or alone."""
    store = await open_store(
        settings.database, clock=SystemClock(), random=os.urandom, index=0, begin=False
    )
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def audited_gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """The gateway without doors: what is done by it is told in the log."""
    gateway = await open_gateway(settings, begin=False)
    try:
        yield gateway
    finally:
        await gateway.store.close()


def moment(seconds: int) -> str:
    """A time for people."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
