"""PostgreSQL goes away: nothing acknowledged is lost or doubled, and nobody waits for ever.

The server is killed and started again, connections end before or after the server has heard
COMMIT, and packets stop without a word. Callers get their answer or 503, and the gateway goes on
by itself when the server is back.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import asyncpg
import pytest
from crash_client import COUNTER, request
from databases import need_postgres
from effort import TORTURE
from postgres_proxy import Proxy
from postgres_server import PostgresServer
from store_builders import TestClock, change, event, patient, rows_of

from fhir_gateway.errors import Duplicate, GatewayError, Unavailable
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store import postgres_writer
from fhir_gateway.store.changes import ChangeSet, Counter
from fhir_gateway.store.postgres import open_postgres

CLIENTS, ROUNDS = (16, 60) if TORTURE else (6, 4)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that syncs, for these tests alone: they kill it."""
    need_postgres()
    one = PostgresServer(durable=True)
    yield one
    one.close()


@pytest.fixture
def url(server):
    name = server.create()
    yield server.url(name)
    server.drop(name)


async def opened(url):
    return await open_postgres(url, clock=TestClock(), random=os.urandom, rows=rows_of)


async def rows(url, statement, *values):
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(statement, *values)]
    finally:
        await connection.close()


async def check(url, store, stored, refused):
    """Asserts that exactly these are there, once and whole, and what belongs to them."""
    async with store.snapshot(SYSTEM_ACCESS) as reader:
        for name in [*stored, *refused]:
            found = await reader.read("Observation", name)
            assert (name, found and found.version) == (name, 1 if name in stored else None)
            told = "done" if name in stored else "refused"
            assert await reader.read("AuditEvent", f"{told}-{name}") is not None
    assert await rows(url, "SELECT k FROM counter WHERE key = $1", COUNTER) == [(len(stored),)]
    assert await rows(url, "SELECT count(*), count(DISTINCT (type, id)) FROM journal") == [
        (len(stored) + len(refused),) * 2
    ]
    orphans = """SELECT
      (SELECT count(*) FROM px WHERE (home, rid) NOT IN (SELECT home, rid FROM resource)),
      (SELECT count(*) FROM change WHERE (home, rid) NOT IN (SELECT home, rid FROM resource)),
      (SELECT count(*) FROM (SELECT 1 FROM change GROUP BY rid HAVING count(*) <> 1) odd),
      (SELECT count(*) FROM resource r WHERE enc <> 9 AND NOT EXISTS (
         SELECT 1 FROM px WHERE px.home = r.home AND px.rid = r.rid AND px.parameter = 1))"""
    assert await rows(url, orphans) == [(0, 0, 0, 0)]


async def clients(store, *, until):
    """Commits from all clients until the event; the names that were stored and refused."""
    stored, refused = set(), set()

    async def client(number):
        count = 0
        while not until.is_set():
            name = f"c{number}-{count}"
            count += 1
            made = request(name, id=os.urandom(16), refused=count % 5 == 0)
            try:
                await store.commit(made)
                stored.add(name)
            except Duplicate:
                refused.add(name)

    tasks = [asyncio.create_task(client(number)) for number in range(CLIENTS)]
    await until.wait()
    await asyncio.gather(*tasks)
    return stored, refused


async def in_thread(call, *values):
    return await asyncio.get_running_loop().run_in_executor(None, call, *values)


def test_a_killed_server_costs_nothing_but_time(server, url):
    chance = random.Random(20260921)

    async def scenario():
        store, until = await opened(url), asyncio.Event()
        running = asyncio.create_task(clients(store, until=until))
        for _ in range(ROUNDS):
            await asyncio.sleep(0.05 + chance.random() * 0.1)
            await in_thread(server.kill)
            await in_thread(server.start)
        await asyncio.sleep(0.1)
        until.set()
        stored, refused = await running
        await check(url, store, stored, refused)
        await store.close()
        return len(stored)

    assert asyncio.run(scenario()) > 0


def test_cut_connections_cost_nothing(server, url):
    """Backends are ended at any moment, among them some that commit."""
    terminate = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'fhir-gateway' AND datname = current_database()"""

    async def scenario():
        store, until = await opened(url), asyncio.Event()
        running = asyncio.create_task(clients(store, until=until))
        for _ in range(ROUNDS * 5):
            await asyncio.sleep(0.02)
            await rows(url, terminate)
        until.set()
        stored, refused = await running
        await check(url, store, stored, refused)
        await store.close()
        return len(stored)

    assert asyncio.run(scenario()) > 0


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("moment", [b"BEGIN", b"COMMIT"])
def test_a_connection_lost_around_commit_stores_once(server, url, moment, after):
    async def scenario():
        proxy = Proxy(server.port)
        store = await opened(await through(proxy, url))
        await store.commit(change(patient("p0")))
        proxy.cut_at, proxy.after = moment, after
        sets = [
            change(patient(f"p{n}"), guards=[Counter(COUNTER, 1, 9)], journal=[event(f"e{n}")])
            for n in range(1, 4)
        ]
        committed = await asyncio.gather(*map(store.commit, sets))
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            counts = await reader.counts()
        kept = await rows(url, "SELECT k FROM counter")
        await store.close()
        await proxy.close()
        return proxy.cuts, [each.repeated for each in committed], counts, kept

    cuts, repeated, counts, kept = asyncio.run(scenario())
    was_stored = moment == b"COMMIT" and after
    assert (cuts, set(repeated)) == (1, {was_stored})
    assert (counts, kept) == ({"AuditEvent": 3, "Patient": 4}, [(3,)])


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_record_of_what_was_read_is_never_missing(server, url, after):
    """It may stand twice when nobody knows whether it was stored, which harms nobody."""

    async def scenario():
        proxy = Proxy(server.port)
        store = await opened(await through(proxy, url))
        proxy.cut_at, proxy.after = b"told-what", after
        await store.commit(ChangeSet(b"", journal=[event("told-what")], urgent=True))
        kept = await rows(url, "SELECT count(*) FROM journal WHERE id = 'told-what'")
        await store.close()
        await proxy.close()
        return proxy.cuts, kept

    assert asyncio.run(scenario()) == (1, [(1 + after,)])


def test_while_the_server_is_away_callers_are_refused_and_then_served(server, url, monkeypatch):
    monkeypatch.setattr(postgres_writer, "PATIENCE_SECONDS", 0.3)

    async def scenario():
        store = await opened(url)
        await store.commit(change(patient("p1")))
        await in_thread(server.kill)
        waited, at_once = [await refusal(store, change(patient("p2"))) for _ in range(2)]
        await in_thread(server.start)
        kept = change(patient("p3"))
        await served(store, kept)
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            there = [await reader.read("Patient", f"p{n}") is not None for n in (1, 2, 3)]
        await store.close()
        return waited, at_once, there

    waited, at_once, there = asyncio.run(scenario())
    assert (type(waited), type(at_once)) == (Unavailable, Unavailable)
    assert (waited.status, there) == (503, [True, False, True])


@pytest.mark.parametrize("rule", ["patience", "hangs"])
def test_a_server_that_says_nothing_is_given_up(server, url, monkeypatch, rule):
    """Packets stop. Either the caller's patience ends first, or the batch is sent again."""
    monkeypatch.setattr(postgres_writer, "PATIENCE_SECONDS", 0.2 if rule == "patience" else 60)
    monkeypatch.setattr(postgres_writer, "BATCH_SECONDS", 0.5)

    async def scenario():
        proxy = Proxy(server.port)
        store = await opened(await through(proxy, url))
        proxy.hold()
        first = asyncio.create_task(store.commit(change(patient("p1"))))
        if rule == "patience":
            with pytest.raises(Unavailable):
                await first
            proxy.release()
            await served(store, change(patient("p2")))
        else:
            await asyncio.sleep(0.6)
            proxy.release()
            await first
        await store.close()
        await proxy.close()

    asyncio.run(scenario())


def test_a_store_closes_while_the_server_is_away(server, url):
    async def scenario():
        store = await opened(url)
        await in_thread(server.kill)
        try:
            waiting = asyncio.create_task(store.commit(change(patient("p1"))))
            await asyncio.sleep(0.1)
            started = time.monotonic()
            await store.close()
            with pytest.raises(Unavailable):
                await waiting
            return time.monotonic() - started < postgres_writer.PATIENCE_SECONDS / 2
        finally:
            await in_thread(server.start)

    assert asyncio.run(scenario()) is True


def test_a_process_that_stands_still_inside_a_batch_stops_nobody_for_long(server, url):
    """Another process holds the clock row: waiting for it ends, and is tried again."""

    async def scenario():
        store = await opened(url)
        stuck = await asyncpg.connect(url)
        await stuck.execute("BEGIN; SELECT FROM clock FOR UPDATE")
        waiting = asyncio.create_task(store.commit(change(patient("p1"))))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await stuck.close()
        committed = await waiting
        await store.close()
        return committed.repeated

    assert asyncio.run(scenario()) is False


async def through(proxy, url):
    """The address of the database behind the proxy."""
    return url.replace(f":{urlsplit(url).port}/", f":{await proxy.open()}/")


async def refusal(store, change_set):
    with pytest.raises(GatewayError) as refused:
        await store.commit(change_set)
    return refused.value


async def served(store, change_set):
    """Sends the same change set until it is stored."""
    for _ in range(400):
        try:
            return await store.commit(change_set)
        except Unavailable:
            await asyncio.sleep(0.05)
    raise AssertionError("the store does not recover")
