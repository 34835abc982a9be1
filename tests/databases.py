"""Databases for the tests of both drivers: a file of SQLite, or a database of PostgreSQL.

A test that asks for the fixture `database` runs once for each driver, unless a marker
`drivers("sqlite")` says that it is about one of them. PostgreSQL's tests are skipped where there
is no server, but not in CI: there they have to run.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import apsw
import asyncpg
import pytest
import sown
from postgres_server import PostgresServer, apart, programs
from running import Running

from fhir_gateway.store.postgres_migrate import migrate
from fhir_gateway.store.postgres_pool import connect

DRIVERS = ("sqlite", "postgresql")

#: A clock's first time; tests set their own.
_THEN = 1_790_000_000_000_000


class Databases:
    """The databases of one test or module, by name; all are gone after `close`."""

    def __init__(self, driver: str, folder: Path) -> None:
        self.driver = driver
        self.folder = folder
        self._made: dict[str, str] = {}

    def url(self, name: str = "store") -> str:
        """The address of the database of that name, the same each time."""
        if self.driver == "sqlite":
            return f"sqlite:///{self.folder / name}.sqlite"
        return postgres().store(self._name(name))

    def running(self, name: str, **chosen: Any) -> Running:
        """A gateway on the database of that name; what it exports lies in this folder too."""
        chosen.setdefault("exports", str(self.folder / f"{name}-exports"))
        if self.driver == "postgresql" and name not in self._made and sown.is_usual(chosen):
            self._made[name] = postgres().create(begun())
        return Running(self.url(name), **chosen)

    def _name(self, name: str) -> str:
        if name not in self._made:
            self._made[name] = postgres().create(migrated())
        return self._made[name]

    def rows(self, sql: str, name: str = "store") -> list[tuple[Any, ...]]:
        """What a statement finds in a database that exists, past the store."""
        if self.driver == "sqlite":
            connection = apsw.Connection(str(self.folder / f"{name}.sqlite"))
            connection.set_busy_timeout(10_000)  # the gateway's writer may be at its housework
            try:
                return [tuple(row) for row in connection.execute(sql)]
            finally:
                connection.close()
        return apart(_rows(postgres().local(self._name(name)), sql))

    def execute(self, sql: str, name: str = "store") -> None:
        """Changes a database that exists, past the store."""
        self.rows(sql, name)

    def close(self) -> None:
        """Removes what is not removed with the folder."""
        for name in self._made.values():
            postgres().drop(name)
        self._made.clear()


async def _rows(url: str, sql: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


@cache
def postgres() -> PostgresServer:
    """The server of this test process, started when it is first asked for."""
    return PostgresServer()


def migrated() -> str:
    """The template with the gateway's tables and nothing in them."""
    return postgres().template("gateway", _migrate)


def begun() -> str:
    """The template of a gateway with the shipped tables."""
    return postgres().template("sown", lambda _: sown.sow(postgres().store("sown")))


def _no_chance(count: int) -> bytes:
    """Every copy of the template has the same secret anyway."""
    return b"k" * count


async def _migrate(url: str) -> None:
    connection = await connect(url, {})
    try:
        await migrate(connection, now=_THEN, random=_no_chance)
    finally:
        await connection.close()


def need_postgres() -> None:
    """Skips the test where there is no PostgreSQL; in CI it fails."""
    if programs() is None:
        missing = "PostgreSQL is not installed; `make services` installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)


def stop_postgres() -> None:
    """Ends the server, when there is one."""
    if postgres.cache_info().currsize:
        postgres().close()
        postgres.cache_clear()


def drivers_of(metafunc: pytest.Metafunc) -> tuple[str, ...]:
    """The drivers that a test runs on: all, or those of its marker."""
    marker = metafunc.definition.get_closest_marker("drivers")
    return marker.args if marker else DRIVERS
