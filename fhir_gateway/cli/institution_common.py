"""What the subcommands of `fhir-gateway institution` share: settings, the store, tables."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, TypeVar
from unicodedata import east_asian_width

import click

from fhir_gateway.context import Gateway, SystemClock
from fhir_gateway.errors import GatewayError
from fhir_gateway.interactions.institutions import institution
from fhir_gateway.search.index import Extractor, IndexRows
from fhir_gateway.search.version import version_of
from fhir_gateway.security.policy import policy_of
from fhir_gateway.settings import Settings, load_settings
from fhir_gateway.store.opening import open_store
from fhir_gateway.terminology.naming_files import load_naming

R = TypeVar("R")


def common(function: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Gives a subcommand its settings, runs it, and says errors as sentences."""

    @click.option("--database", help="Where the data is: sqlite:///PATH or postgresql://…")
    @click.option("--terminology", help="Folder of the catalogue.")
    @click.option("--mappings", help="Folder of the mapping tables.")
    @wraps(function)
    def run(
        database: str | None, terminology: str | None, mappings: str | None, **options: Any
    ) -> None:
        try:
            settings = load_settings(database=database, terminology=terminology, mappings=mappings)
            asyncio.run(_awaited(function(settings, **options)))
        except GatewayError as error:
            lines = "\n  ".join(issue.diagnostics for issue in error.issues)
            raise click.ClickException(lines) from error

    return run


async def _awaited(work: Awaitable[R]) -> R:
    return await work


@asynccontextmanager
async def gateway_of(settings: Settings, *, begin: bool = False) -> AsyncIterator[Gateway]:
    """The store, opened beside a running server or alone, in the little the registry needs.

    One that is not there is made with `begin`, else it is refused.
    """
    clock, extractors = SystemClock(), list[Extractor]()

    def rows(type: str, resource: dict[str, Any]) -> IndexRows:
        return extractors[0].rows(type, resource)

    naming = load_naming(settings.profiles)
    store = await open_store(
        settings.database, clock=clock, random=os.urandom, rows=rows,
        index=version_of(naming.digest), begin=begin,
    )  # fmt: skip
    try:
        extractors.append(Extractor(store.index_key, settings.zone, naming))
        yield Gateway(
            settings=settings, store=store, extractor=extractors[0], clock=clock,
            policy=policy_of(settings.policy),
        )  # fmt: skip
    finally:
        await store.close()


async def tell_unknown(gateway: Gateway, id: str) -> None:
    """Says on the other stream that nobody registered an institution: a wrong id finds nothing, and
    nothing must not be taken for an answer. What was recorded of one is looked for all the same.
    """
    if id and await institution(gateway, id) is None:
        click.echo(f"Beware: no institution {id} is registered; is the id spelled so?", err=True)


def print_table(header: tuple[str, ...], lines: Sequence[Sequence[object]]) -> None:
    rows = [header, *(tuple(map(str, line)) for line in lines)]
    widths = [max(_width(row[n]) for row in rows) for n in range(len(header))]
    for row in rows:
        cells = [cell + " " * (widths[n] - _width(cell)) for n, cell in enumerate(row)]
        click.echo("  ".join(cells).rstrip())


def _width(text: str) -> int:
    """Columns of a terminal: Chinese characters take two."""
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in text)
