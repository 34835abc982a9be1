"""Migrations of PostgreSQL: once, whole or not at all, and never of somebody else's database."""

from __future__ import annotations

import asyncio
import os

import asyncpg
import pytest
from databases import need_postgres, postgres
from store_builders import TestClock, change, patient, rows_of

from fhir_gateway.errors import Unavailable
from fhir_gateway.store import points
from fhir_gateway.store.postgres import open_postgres
from fhir_gateway.store.postgres_migrate import migrate, migrations
from fhir_gateway.store.postgres_pool import connect

TABLES = """
SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace
"""


@pytest.fixture
def blank():
    """The address of a database with nothing in it."""
    need_postgres()
    name = postgres().create()
    yield postgres().local(name)
    postgres().drop(name)


async def migrated(url, **options):
    connection = await connect(url, {})
    try:
        return await migrate(connection, now=7, random=os.urandom, **options)
    finally:
        await connection.close()


async def asked(url, statement):
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


def test_an_empty_database_becomes_a_store(blank):
    async def scenario():
        number = await migrated(blank)
        clock = await asked(blank, "SELECT t, epoch, updated, length(index_key) FROM clock")
        steps = await asked(blank, "SELECT number, at FROM schema ORDER BY 1")
        return number, clock, steps

    newest = len(migrations())
    assert asyncio.run(scenario()) == (
        newest, [(0, 0, 7, 32)], [(number, 7) for number in range(1, newest + 1)]
    )  # fmt: skip


def test_migrating_twice_changes_nothing(blank):
    async def scenario():
        await migrated(blank)
        before = await asked(blank, "SELECT * FROM clock"), await asked(blank, TABLES)
        await migrated(blank)
        return before == (await asked(blank, "SELECT * FROM clock"), await asked(blank, TABLES))

    assert asyncio.run(scenario())


def test_of_several_that_start_at_once_one_migrates(blank):
    async def scenario():
        numbers = await asyncio.gather(*(migrated(blank) for _ in range(4)))
        return set(numbers), await asked(blank, "SELECT count(*) FROM schema")

    newest = len(migrations())
    assert asyncio.run(scenario()) == ({newest}, [(newest,)])


def test_a_migration_that_stops_has_not_happened(blank, monkeypatch):
    class Stopped(Exception):
        pass

    def stop(name):
        raise Stopped

    async def scenario():
        monkeypatch.setattr(points, "reached", stop)
        with pytest.raises(Stopped):
            await migrated(blank)
        monkeypatch.undo()
        left = await asked(blank, TABLES)
        return left, await migrated(blank)

    assert asyncio.run(scenario()) == ([(0,)], len(migrations()))


def test_a_migration_that_fails_leaves_those_before_it(blank):
    steps = (*migrations(), (len(migrations()) + 1, "CREATE TABLE px (wrong BIGINT)"))

    async def scenario():
        with pytest.raises(asyncpg.DuplicateTableError):
            await migrated(blank, steps=steps)
        return await asked(blank, "SELECT max(number) FROM schema")

    assert asyncio.run(scenario()) == [(len(migrations()),)]


@pytest.mark.parametrize(
    ("before", "rule"),
    [
        ("CREATE TABLE schema (number BIGINT, at BIGINT); INSERT INTO schema VALUES (99, 0)",
         "schema-newer"),
        ("CREATE TABLE orders (number BIGINT)", "foreign-database"),
    ],
)  # fmt: skip
def test_a_database_that_is_not_ours_is_left_alone(blank, before, rule):
    async def scenario():
        connection = await asyncpg.connect(blank)
        await connection.execute(before)
        await connection.close()
        with pytest.raises(Unavailable) as refused:
            await migrated(blank)
        return refused.value.issues[0].rule, await asked(blank, TABLES)

    assert asyncio.run(scenario()) == (rule, [(1,)])


def test_a_database_of_another_encoding_is_refused():
    need_postgres()
    server = postgres()
    server.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'")
    try:
        with pytest.raises(Unavailable) as refused:
            asyncio.run(migrated(server.local("latin")))
        assert refused.value.issues[0].rule == "database-encoding"
    finally:
        server.drop("latin")


def test_a_store_opens_in_an_empty_database(blank):
    async def scenario():
        store = await open_postgres(
            f"{blank}&durability=test", clock=TestClock(), random=os.urandom, rows=rows_of
        )
        try:
            committed = await store.commit(change(patient("p1")))
            return committed.t, len(store.index_key)
        finally:
            await store.close()

    assert asyncio.run(scenario()) == (1, 32)
