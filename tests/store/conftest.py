"""A store for every test of this room, on each driver in turn."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databases import Databases
from store_builders import TestClock, rows_of

import fhir_gateway
from fhir_gateway.store.opening import open_store as open_any


class Child:
    """Starts crash_client.py as a process of its own; see there for the arguments."""

    def __init__(self, database: Databases) -> None:
        self.folder = database.folder
        self.database = database.url()
        self.started: list[subprocess.Popen[bytes]] = []

    def __call__(
        self, name: str, rounds: int, clients: int, *point: Any
    ) -> subprocess.Popen[bytes]:
        arguments = [self.database, self.folder / f"{name}.ledger", name, rounds,
                     clients, *point]  # fmt: skip
        package = Path(fhir_gateway.__file__).parent.parent
        process = subprocess.Popen(
            [sys.executable, "-W", "error", Path(__file__).with_name("crash_client.py"),
             *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(package)},
        )  # fmt: skip
        self.started.append(process)
        return process


@pytest.fixture
def child(database: Databases) -> Iterator[Child]:
    """Starts clients on the test's database; none outlives the test."""
    children = Child(database)
    yield children
    for process in children.started:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture
def clock() -> TestClock:
    """The clock of the stores of a test."""
    return TestClock()


@pytest.fixture
def open_store(database: Databases, clock: TestClock) -> Callable[..., Awaitable[Any]]:
    """Opens the test's database; several stores on the same one are several openings."""

    async def open_one(**options: Any) -> Any:
        options = {"clock": clock, "random": os.urandom, "rows": rows_of, **options}
        return await open_any(database.url(), **options)

    return open_one


@pytest.fixture
def rows(database: Databases) -> Callable[[str], list[tuple[Any, ...]]]:
    """What a statement finds in the test's database, past the store."""
    return database.rows


@pytest.fixture(scope="module")
def look(
    request: pytest.FixtureRequest, shared_database: Databases
) -> Iterator[Callable[[Callable[[Any], Awaitable[Any]]], Any]]:
    """Runs scenarios that only read, on one store that the module's own `fill` has filled."""
    clock = TestClock()
    with asyncio.Runner() as loop:
        store = loop.run(
            open_any(shared_database.url(), clock=clock, random=os.urandom, rows=rows_of)
        )
        try:
            loop.run(request.module.fill(store, clock))
            yield lambda scenario: loop.run(scenario(store))
        finally:
            loop.run(store.close())


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
