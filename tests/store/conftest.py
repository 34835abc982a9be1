"""One store for every test of this room. A second driver is added to DRIVERS and nowhere else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from store_builders import TestClock

from fhir_gateway.store.sqlite import open_sqlite

DRIVERS = {"sqlite": open_sqlite}


class Rows(NamedTuple):
    """Index rows of a journal entry, as the extractor of the search room gives them."""

    ints: list[tuple[int, int, int]]
    texts: list[tuple[int, str]]
    global_ints: list[tuple[int, int, int]]
    global_texts: list[tuple[int, str]]


def rows_of(type: str, resource: dict[str, Any]) -> Rows:
    """One number and one text from a resource's language."""
    language = resource.get("language", "")
    return Rows([(1, len(language), 0)], [(2, language)], [(3, len(language), 1)], [])


@pytest.fixture
def clock() -> TestClock:
    """The clock of the stores of a test."""
    return TestClock()


@pytest.fixture(params=sorted(DRIVERS))
def open_store(
    request: pytest.FixtureRequest, tmp_path: Path, clock: TestClock
) -> Callable[..., Awaitable[Any]]:
    """Opens the test's database; several stores on the same one are several openings."""

    async def open_one(**options: Any) -> Any:
        options = {"clock": clock, "random": os.urandom, "rows": rows_of, **options}
        return await DRIVERS[request.param](tmp_path / "store.sqlite", **options)

    return open_one


@pytest.fixture
def play(open_store: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    """Runs a scenario on an open store and closes it."""

    def run(scenario: Callable[[Any], Awaitable[Any]], **options: Any) -> Any:
        async def whole() -> Any:
            store = await open_store(**options)
            try:
                return await scenario(store)
            finally:
                await store.close()

        return asyncio.run(whole())

    return run
