"""Reading from PostgreSQL: snapshots, the pool, deadlines, and servers that come and go."""

from __future__ import annotations

import asyncio
import os

import asyncpg
import pytest
from databases import postgres
from store_builders import TestClock, body, change, fact, observation, patient

from fhir_gateway.errors import GatewayError, Invalid, TooCostly, Unavailable
from fhir_gateway.security.actor import Access
from fhir_gateway.store import postgres_pool
from fhir_gateway.store.changes import Derived, Put
from fhir_gateway.store.postgres import open_postgres
from fhir_gateway.store.postgres_claims import CLAIMS
from fhir_gateway.store.postgres_durable import address_of, connect_to_write
from fhir_gateway.store.postgres_pool import MOST_OPEN, PostgresPool, connect
from fhir_gateway.store.postgres_reader import PostgresReader
from fhir_gateway.store.postgres_sql import SEE_ALL, numbered
from fhir_gateway.store.query import Query

pytestmark = pytest.mark.drivers("postgresql")


async def nothing():
    """There is no journal to drain."""


async def refused(work):
    with pytest.raises(GatewayError) as error:
        await work
    return type(error.value), error.value.issues[0].rule


# -- snapshots ---------------------------------------------------------------------------------


def test_a_snapshot_stands_still_while_others_commit(play):
    async def scenario(store):
        await store.commit(change(patient("p1", text="one")))
        async with store.snapshot(Access()) as reader:
            before = reader.t
            await store.commit(change(patient("p1", text="two"), patient("p2")))
            found = await reader.read("Patient", "p1"), await reader.read("Patient", "p2")
            seen = before, found[0].tail, found[1]
        async with store.snapshot(Access()) as reader:
            later = await reader.read("Patient", "p1")
            return seen, reader.t, later.tail

    assert play(scenario) == ((1, body("one"), None), 2, body("two"))


def test_nothing_is_written_through_a_reader(play):
    async def scenario(store):
        async with store.snapshot(Access()) as reader:
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                await reader._fetch("UPDATE clock SET t = 9")
        async with store.snapshot(Access()) as reader:
            return reader.t

    assert play(scenario) == 0


def test_a_snapshot_that_was_given_back_ends_soon(play, rows):
    async def scenario(store):
        async with store.snapshot(Access()):
            open_ones = rows(IN_TRANSACTION)
        for _ in range(100):
            if rows(IN_TRANSACTION) == [(0,)]:
                break
            await asyncio.sleep(0.02)
        return open_ones, rows(IN_TRANSACTION)

    assert play(scenario) == ([(1,)], [(0,)])


IN_TRANSACTION = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND state LIKE 'idle in transaction%'"""


def test_more_snapshots_than_connections_take_turns(play, rows):
    async def scenario(store):
        async def look():
            async with store.snapshot(Access()) as reader:
                await asyncio.sleep(0.005)
                return await reader.read("Patient", "p1")

        found = await asyncio.gather(*(look() for _ in range(MOST_OPEN * 3)))
        connections = rows(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'fhir-gateway'"
        )
        return found == [None] * (MOST_OPEN * 3), connections[0][0]

    all_read, connections = play(scenario)
    assert all_read
    assert connections <= MOST_OPEN + 1  # one writes


def test_who_waits_too_long_for_a_turn_is_refused(play, monkeypatch):
    monkeypatch.setattr(postgres_pool, "TURN_SECONDS", 0.05)

    async def scenario(store):
        readers = [store.snapshot(Access()) for _ in range(MOST_OPEN)]
        for reader in readers:
            await reader.__aenter__()
        told = await refused(store.snapshot(Access()).__aenter__())
        for reader in readers:
            await reader.__aexit__(None, None, None)
        async with store.snapshot(Access()) as reader:
            return told, reader.t

    assert play(scenario) == ((Unavailable, "busy"), 0)


# -- deadlines ---------------------------------------------------------------------------------


def test_a_statement_that_takes_too_long_is_cut_off(play):
    async def scenario(store):
        async with store.snapshot(Access()) as reader:
            await reader._set("statement_timeout = 20")
            told = await refused(reader._fetch("SELECT pg_sleep(60)"))
        async with store.snapshot(Access()) as reader:
            limit = await reader._row("SHOW statement_timeout")
        return told, limit[0]

    assert play(scenario) == ((Unavailable, "database-slow"), "1s")


def test_a_search_that_takes_too_long_is_cut_off(play):
    def steps():
        yield Query("SELECT pg_sleep(60)")

    async def scenario(store):
        async with store.snapshot(Access()) as reader:
            await reader._set("statement_timeout = 20")
            return await refused(reader._drive(steps()))

    assert play(scenario) == (TooCostly, "deadline")


def test_the_first_statement_of_a_snapshot_may_be_cut_off_too(play, monkeypatch):
    async def scenario(store):
        cancelled = "SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(60)"
        monkeypatch.setattr(postgres_pool, "CLOCK", cancelled)
        return await refused(store.snapshot(Access()).__aenter__())

    assert play(scenario) == (Unavailable, "database-slow")


def test_many_short_statements_have_a_deadline_too(play):
    def steps():
        while True:
            yield Query("SELECT pg_sleep(0.01)")

    async def scenario(store):
        async with store.snapshot(Access()) as reader:
            return await refused(reader._drive(steps(), seconds=0.05))

    assert play(scenario) == (TooCostly, "deadline")


def test_a_read_that_nobody_waits_for_leaves_the_pool_in_order(play):
    async def scenario(store):
        async def slow():
            async with store.snapshot(Access()) as reader:
                await reader._fetch("SELECT pg_sleep(60)")

        for _ in range(3):
            task = asyncio.create_task(slow())
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        async with store.snapshot(Access()) as reader:
            return await reader.read("Patient", "p1")

    assert play(scenario) is None


@pytest.mark.parametrize("id", ["a\0b", "\ud800"])
def test_what_can_be_no_text_is_refused(play, id):
    async def scenario(store):
        async with store.snapshot(Access()) as reader:
            told = await refused(reader.read("Patient", id))
        async with store.snapshot(Access()) as reader:
            return told, await reader.read("Patient", "p1")

    assert play(scenario) == ((Invalid, "impossible-value"), None)


# -- servers that come and go --------------------------------------------------------------------

DROP_READERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'fhir-gateway'"""


def test_connections_that_broke_while_idle_are_passed_over(play, rows):
    async def scenario(store):
        async def look():
            async with store.snapshot(Access()) as reader:
                await asyncio.sleep(0.01)
                return reader.t

        await asyncio.gather(*(look() for _ in range(6)))
        rows(DROP_READERS)
        return await asyncio.gather(*(look() for _ in range(6)))

    assert play(scenario) == [0] * 6


def test_a_snapshot_whose_connection_is_lost_says_so(play, rows):
    async def scenario(store):
        async with store.snapshot(Access()) as reader:
            rows(DROP_READERS)
            told = await refused(reader.read("Patient", "p1"))
            again = await refused(reader.read("Patient", "p1"))
        async with store.snapshot(Access()) as reader:
            return told, again, await reader.read("Patient", "p1")

    lost = (Unavailable, "database-lost")
    assert play(scenario) == (lost, lost, None)


def test_reads_go_on_when_the_server_is_back(database):
    server = postgres()

    async def scenario(pool):
        reader = PostgresReader(pool, Access(), drain=nothing, search_budget=9, now=int)
        async with reader:
            assert reader.t == 0
        await asyncio.to_thread(server.stop)
        try:
            away = await refused(reader.__aenter__())
        finally:
            await asyncio.to_thread(server.start)
        async with reader:
            return away, reader.t

    async def whole():
        pool = PostgresPool(server.local(database._name("store")))
        try:
            return await scenario(pool)
        finally:
            await pool.close()

    assert asyncio.run(whole()) == ((Unavailable, "database-down"), 0)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"password": "secret-word"}, "database-login"),
        ({"name": "nowhere"}, "database-missing"),
    ],
)
def test_a_refusal_says_what_to_do_and_no_password(database, change, rule):
    url = postgres().url(**{"name": database._name("store"), **change})

    async def attempt():
        with pytest.raises(Unavailable) as error:
            await open_postgres(url, clock=TestClock(), random=os.urandom)
        return error.value

    told = asyncio.run(attempt())
    assert told.issues[0].rule == rule
    assert "in the setting database" in told.issues[0].diagnostics
    assert "secret-word" not in repr(told) + str(told.__cause__) + str(told.__context__ or "")


@pytest.mark.parametrize(
    ("url", "kind", "rule"),
    [
        ("postgresql://u:p@127.0.0.1:1/x", Unavailable, "database-down"),
        ("postgresql://u@/x?host=/nowhere", Unavailable, "database-down"),
        ("postgresql://u:p@[x/y", Invalid, "database"),
    ],
)
def test_an_address_that_leads_nowhere_is_said_to(url, kind, rule):
    assert asyncio.run(refused(connect(url))) == (kind, rule)


# -- plans -------------------------------------------------------------------------------------

PLAN = "EXPLAIN (FORMAT TEXT) EXECUTE asked "


async def plan_of(url, statement, arguments):
    connection = await connect(url)
    try:
        await connection.execute(f"PREPARE asked AS {statement}")
        return [row[0].strip() for row in await connection.fetch(PLAN + arguments)]
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("statement", "arguments", "index"),
    [
        (SEE_ALL.facts.sql, "(1, ARRAY['L001', 'L002'], 5, 9)", "fact_"),
        (SEE_ALL.reports.sql, "(1, ARRAY[1, 2]::bigint[], 5, 9)", "result_of_"),
        ("SELECT rid FROM px WHERE home = $1::bigint AND parameter = $2::bigint"
         " AND v1 = $3::bigint AND v2 = $4::bigint", "(1, 2, 3, 4)", "px_"),
    ],
    ids=["facts", "reports", "px"],
)  # fmt: skip
def test_hot_rows_are_read_from_one_part_and_its_index_alone(
    play, database, statement, arguments, index
):
    async def scenario(store):
        for number in range(40):
            name = f"o{number}"
            facts = [fact("L001", number, f"Observation/{name}")]
            derived = Derived(facts=facts, ints=[(1, number, 0)])
            await store.commit(change(patient("p1"), observation(name, "p1", derived=derived)))

    play(scenario)
    database.rows("VACUUM ANALYZE")
    url = postgres().local(database._name("store"))
    plan = asyncio.run(plan_of(url, statement, arguments))
    scans = [line for line in plan if "Scan" in line]
    assert "Subplans Removed: 7" in plan
    assert [line.split()[1:4] for line in scans] == [["Index", "Only", "Scan"]]
    assert f"using {index}" in scans[0]


def test_what_claims_ask_is_looked_up_by_keys_when_no_table_was_ever_looked_at(play, database):
    async def scenario(store):
        connection = await connect_to_write(address_of(database.url()))
        try:
            await connection.execute(f"PREPARE asked AS {CLAIMS}")
            empty = ", ".join(["'{}'"] * 11)
            return [row[0].strip() for row in await connection.fetch(f"{PLAN}({empty}, 1)")]
        finally:
            await connection.close()

    plan = play(scenario)
    scans = [at for at, line in enumerate(plan) if " Scan using " in line]
    assert len(scans) > 20
    assert [plan[at] for at in scans if not plan[at + 1].startswith("Index Cond:")] == []
    turned = ("Seq Scan", "Semi Join", "Join Filter:", "Materialize")  # an order that was chosen
    assert not [line for line in plan if any(word in line for word in turned)]


def test_a_long_text_is_found_by_its_index(play, database):
    long = "很" * 3_000

    async def scenario(store):
        derived = Derived(texts=[(7, long)], global_texts=[(8, long)])
        await store.commit(change(Put("Organization", "o", "create", 0, body(), derived=derived)))

    play(scenario)
    url = postgres().local(database._name("store"))
    statement = "SELECT rid FROM gx_text WHERE parameter = $1 AND left(text, 128) = left($2, 128)"
    plan = asyncio.run(plan_of(url, statement, f"(8, '{long}')"))
    assert database.rows("SELECT length(text) FROM gx_text") == [(3_000,)]
    assert "gx_text_text" in " ".join(plan)


def test_marks_are_numbered():
    assert numbered("a = ? AND b = ?") == "a = $1 AND b = $2"
    assert numbered("a = ?2 AND b = ?1 AND c = ?2") == "a = $2 AND b = $1 AND c = $2"


@pytest.mark.parametrize("milliseconds", [0, 5, 20, 50])
def test_a_store_closes_whatever_its_connections_are_doing(play, rows, milliseconds):
    """Snapshots that were given back a moment ago, and statements that were just cancelled."""

    async def scenario(store):
        async def slow():
            async with store.snapshot(Access()) as reader:
                await reader._fetch("SELECT pg_sleep(60)")

        tasks = [asyncio.create_task(slow()) for _ in range(4)]
        async with store.snapshot(Access()) as reader:
            assert reader.t == 0
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(milliseconds / 1_000)

    play(scenario)
    for _ in range(100):
        if rows(OURS) == [(0,)]:
            break
    assert rows(OURS) == [(0,)]


OURS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'fhir-gateway'"""
