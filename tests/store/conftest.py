"""One store for every test of this room. A second driver is added to DRIVERS and nowhere else."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from store_builders import TestClock, rows_of

import fhir_gateway
from fhir_gateway.store.sqlite import open_sqlite

DRIVERS = {"sqlite": open_sqlite}


class Child:
    """Starts crash_client.py as a process of its own; see there for the arguments."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []

    def __call__(
        self, name: str, rounds: int, clients: int, *point: Any
    ) -> subprocess.Popen[bytes]:
        arguments = [self.folder / "store.sqlite", self.folder / f"{name}.ledger", name, rounds,
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
def child(tmp_path: Path) -> Iterator[Child]:
    """Starts clients on the test's database; none outlives the test."""
    children = Child(tmp_path)
    yield children
    for process in children.started:
        if process.poll() is None:
            process.kill()
        process.wait()


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
