"""What only PostgreSQL's writer does: judging in memory what a whole batch has fetched, several
processes behind one clock row, and a refusal of servers that could lose commits.
"""

from __future__ import annotations

import asyncio
import os

import asyncpg
import pytest
from store_builders import (
    TestClock,
    body,
    change,
    delete,
    event,
    fact,
    observation,
    patient,
    rows_of,
)

from fhir_gateway.errors import (
    GatewayError,
    Internal,
    Invalid,
    PreconditionFailed,
    Unavailable,
    Unprocessable,
)
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store import postgres_durable, postgres_writer
from fhir_gateway.store.changes import (
    Absent,
    ChangeSet,
    Counter,
    Derived,
    Exists,
    Put,
    ReportLink,
    Settled,
    VersionIs,
)
from fhir_gateway.store.postgres import open_postgres
from fhir_gateway.store.waiting import Drain

pytestmark = pytest.mark.drivers("postgresql")


async def together(store, *change_sets):
    """Commits all in one batch; what each is told, in their order."""
    told = await asyncio.gather(*map(store.commit, change_sets), return_exceptions=True)
    assert len({each.t for each in told if not isinstance(each, Exception)}) <= 1
    return told


# -- one batch: what it does counts at once ------------------------------------------------------


def test_several_versions_of_a_resource_are_made_in_one_batch(play, rows):
    def version(number):
        derived = Derived(
            ints=[(1, number, 0)], texts=[(2, f"text {number}")],
            global_ints=[(3, number, 0)], global_texts=[(4, f"name {number}")],
            facts=[fact("L001", number, "Observation/o1", value=str(number))],
            links=[ReportLink(number, "final", 5)],
        )  # fmt: skip
        return change(observation("o1", "p1", str(number), derived=derived))

    async def scenario(store):
        await store.commit(change(patient("p1")))
        await store.commit(version(1))
        told = await together(store, *map(version, range(2, 6)))
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            history = await reader.history("Observation", "o1")
            facts = await reader.facts(told[0].results[0].home, ["L001"], told[0].t)
            return told, history, [found.fact.value for found in facts]

    told, history, facts = play(scenario)
    assert [each.results[0].version for each in told] == [2, 3, 4, 5]
    assert [(one.version, one.tail) for one in history] == [
        (number, body(str(number))) for number in (5, 4, 3, 2, 1)
    ]
    assert facts == ["5"]
    assert rows("SELECT v1 FROM px WHERE parameter IN (1, 3)") == [(5,), (5,)]
    assert rows("SELECT text FROM px_text ORDER BY parameter") == [("text 5",), ("name 5",)]
    assert rows("SELECT v1 FROM gx") == [(5,)]
    assert rows("SELECT text FROM gx_text") == [("name 5",)]
    assert rows("SELECT result FROM result_of WHERE t_to > 1000 ORDER BY 1") == [(5,)]
    assert rows("SELECT version, op FROM change WHERE type = (SELECT type FROM locator WHERE"
                " id = 'o1') ORDER BY t, n, i") == [
        (1, "create"), (2, "update"), (3, "update"), (4, "update"), (5, "update"),
    ]  # fmt: skip


def test_a_resource_is_made_deleted_and_made_again_in_one_batch(play):
    async def scenario(store):
        first, gone, missing, again = await together(
            store,
            change(patient("p1", text="1")),
            change(delete("Patient", "p1")),
            change(observation("o1", None), guards=[Exists("Patient/p1", "subject")]),
            change(patient("p1", text="3"), guards=[VersionIs("Patient", "p1", 0)]),
        )
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            history = await reader.history("Patient", "p1")
        return first, gone, missing, again, history

    first, gone, missing, again, history = play(scenario)
    assert isinstance(missing, Unprocessable)
    outcomes = [each.results[0].outcome for each in (first, gone, again)]
    assert outcomes == ["created", "deleted", "created"]
    assert [(one.version, one.deleted) for one in history] == [(3, False), (2, True), (1, False)]


def test_the_losers_of_a_batch_are_told_apart(play):
    async def scenario(store):
        await store.commit(change(patient("p1", text="0")))
        race = [
            change(patient("p1", text=str(n)), guards=[VersionIs("Patient", "p1", 1)])
            for n in range(4)
        ]
        return await together(store, *race)

    won, *lost = play(scenario)
    assert won.results[0].version == 2
    assert [type(each) for each in lost] == [PreconditionFailed] * 3


def test_a_token_is_seen_and_freed_within_a_batch(play):
    def organization(id, *values):
        derived = Derived(global_ints=[(9, value, 1) for value in values])
        return Put("Organization", id, "update", 0, body(id), derived=derived)

    def absent(value, system=1):
        return [Absent("Organization", 9, value, system)]

    async def scenario(store):
        await store.commit(change(organization("old", 5)))
        return await together(
            store,
            change(organization("a", 1), guards=absent(1)),
            change(organization("b", 1), guards=absent(1)),
            change(organization("c", 1), guards=absent(1, None)),
            change(organization("a", 2)),
            change(organization("d", 1), guards=absent(1)),
            change(organization("e", 5), guards=absent(5)),
            change(delete("Organization", "old")),
            change(organization("f", 5), guards=absent(5)),
            change(organization("g", 5)),
            change(organization("h", 5), guards=absent(5)),
        )

    told = play(scenario)
    assert [each.matches if isinstance(each, Exception) else None for each in told] == [
        None, [("Organization", "a")], [("Organization", "a")], None, None,
        [("Organization", "old")], None, None, None,
        [("Organization", "f"), ("Organization", "g")],
    ]  # fmt: skip


def test_people_met_in_one_batch_are_one_person(play):
    async def scenario(store):
        told = await together(
            store,
            change(patient("a", (b"key", 1))),
            change(patient("b", (b"key", 1))),
            change(patient("a")),
            change(patient("b")),
            change(patient("c", (b"key", 1))),
        )
        return [each.results[0].home for each in told]

    a, b, _, _, c = play(scenario)
    assert (a == b, c == a) == (True, False)  # who gave the key away is not found by it


def test_a_search_of_before_the_batch_is_overtaken_within_it(play):
    async def scenario(store):
        seen = await store.commit(change(patient("p1")))
        guard = Settled(("Observation",), (seen.results[0].home,), seen.t)
        elsewhere = Settled(("Observation",), (999,), seen.t)
        return await together(
            store,
            change(patient("p2"), guards=[guard]),
            change(observation("o1", "p1")),
            change(patient("p3"), guards=[guard]),
            change(patient("p4"), guards=[elsewhere]),
        )

    told = play(scenario)
    assert [isinstance(each, Exception) for each in told] == [False, False, True, False]


def test_a_change_set_twice_in_one_batch_is_stored_once(play, rows):
    async def scenario(store):
        one = change(patient("p1"), guards=[Counter(b"c", 1, 9)])
        return await together(store, one, one)

    first, again = play(scenario)
    assert (first.repeated, again.repeated, again.results) == (False, True, first.results)
    assert rows("SELECT k FROM counter") == [(1,)]


def test_the_innocent_of_a_batch_are_stored(play, caplog):
    """Text that PostgreSQL cannot hold is refused at the doors; here it stands for any fault."""

    async def scenario(store):
        bad = change(observation("bad", None, derived=Derived(texts=[(1, "secret\x00")])))
        return await asyncio.gather(
            store.commit(change(patient("p1"))),
            store.commit(bad),
            store.commit(change(patient("p2"))),
            return_exceptions=True,
        )

    told = play(scenario)
    assert [isinstance(each, Internal) for each in told] == [False, True, False]
    assert "secret" not in caplog.text


def test_many_rows_are_copied_and_few_are_not(play, rows):
    """Both ways of writing give the same rows."""

    def put(id):
        derived = Derived(
            ints=[(n, 1, 2) for n in range(20)], texts=[(1, "t")], facts=[fact("L1", 5, "x/y")],
            links=[ReportLink(7, "final", 5)] * 2,
        )  # fmt: skip
        return observation(id, "p1", id, derived=derived, source=b"s")

    async def scenario(store):
        await store.commit(change(patient("p1")))
        await store.commit(change(put("few")))
        await store.commit(change(*(put(f"many{n}") for n in range(100))))
        await store.commit(change(*(put(f"many{n}") for n in range(100))))

    play(scenario)
    for statement in (
        "SELECT DISTINCT home, parameter, v1, v2 FROM px",
        "SELECT DISTINCT home, parameter, text FROM px_text",
        "SELECT DISTINCT item, time, kind, value, t_to FROM fact WHERE t_to > 1000",
        "SELECT DISTINCT home, result, status, t_to FROM result_of WHERE t_to > 1000",
    ):
        few = rows(f"{statement} {'AND' if 'WHERE' in statement else 'WHERE'} rid = 2")
        assert sorted(rows(statement)) == sorted(few) != []
    assert rows("SELECT count(*) FROM version") == [(100,)]
    assert rows("SELECT count(*) FROM px") == [(101 * 20,)]


# -- what was read ------------------------------------------------------------------------------


def test_what_was_read_is_recorded_in_the_home_of_the_person(play, rows):
    async def scenario(store):
        home = (await store.commit(change(patient("p1")))).results[0].home
        told = await together(
            store,
            ChangeSet(b"", journal=[event("a", patient="p1"), event("b", home=77)]),
            ChangeSet(b"", journal=[event("c")]),
        )
        unknown = await store.commit(ChangeSet(b"", journal=[event("d", patient="nobody")]))
        return home, [(each.t, each.n) for each in [*told, unknown]]

    home, places = play(scenario)
    assert places == [(2, 0), (2, 1), (3, 0)]
    assert rows("SELECT id, home, t, n, i FROM journal ORDER BY id") == [
        ("a", home, 2, 0, 0), ("b", 77, 2, 0, 1), ("c", 0, 2, 1, 0), ("d", 0, 3, 0, 0),
    ]  # fmt: skip
    assert rows("SELECT home, t, n, i FROM journal_home ORDER BY i") == [
        (home, 2, 0, 0), (77, 2, 0, 1),
    ]  # fmt: skip


# -- several processes --------------------------------------------------------------------------


def test_no_update_is_lost_between_stores_and_their_order_is_one(open_store, rows):
    async def scenario():
        stores = [await open_store() for _ in range(3)]
        await stores[0].commit(change(patient("p1", text="0")))
        committed = []

        async def add(store, times):
            done = 0
            while done < times:
                async with store.snapshot(SYSTEM_ACCESS) as reader:
                    found = await reader.read("Patient", "p1")
                text = str(int(found.tail.split(b'"')[3]) + 1)
                guards = [VersionIs("Patient", "p1", found.version)]
                try:
                    told = await store.commit(change(patient("p1", text=text), guards=guards))
                except PreconditionFailed:
                    continue
                done += 1
                committed.append((told.t, told.n, told.results[0].version))

        await asyncio.gather(*(add(store, 5) for store in stores for _ in range(2)))
        async with stores[1].snapshot(SYSTEM_ACCESS) as reader:
            found = await reader.read("Patient", "p1")
        for store in stores:
            await store.close()
        return found, sorted(committed)

    found, committed = asyncio.run(scenario())
    assert (found.version, found.tail) == (31, body("30"))
    assert [version for _, _, version in committed] == list(range(2, 32))
    assert rows("SELECT t, n, version FROM change ORDER BY t, n")[1:] == committed


def test_stores_drain_the_journal_together(open_store, rows):
    async def scenario():
        stores = [await open_store() for _ in range(3)]
        await stores[0].commit(change(journal=[event(f"a{n}") for n in range(500)]))
        await asyncio.gather(*(store.drain() for store in stores))
        for store in stores:
            await store.close()

    asyncio.run(scenario())
    assert rows("SELECT count(*), count(DISTINCT rid) FROM resource") == [(500, 500)]


# -- which servers are trusted -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "rule"),
    [
        ((14, "UTF8", ["on", "on", "on"], False), "database-version"),
        ((15, "LATIN1", ["on", "on", "on"], False), "database-encoding"),
        ((15, "UTF8", ["on", "on", "on"], True), "standby"),
        ((15, "UTF8", ["off", "on", "on"], False), "not-durable"),
        ((15, "UTF8", ["on", "off", "on"], False), "not-durable"),
        ((15, "UTF8", ["on", "on", "off"], False), "not-durable"),
        ((15, "UTF8", ["on", "on", "on"], False), None),
    ],
)
def test_a_server_that_could_lose_commits_is_refused(told, rule):
    refusal = postgres_durable._refusal(*told, is_test=False)
    assert (refusal and refusal.issues[0].rule) == rule


def test_a_server_without_sync_serves_tests_alone(database):
    """The server of these tests runs without fsync; only `durability=test` in the address helps."""
    url = postgres_durable.address_of(database.url()).url

    async def opening(address):
        store = await open_postgres(address, clock=TestClock(), random=os.urandom, rows=rows_of)
        await store.close()

    with pytest.raises(Unavailable) as refused:
        asyncio.run(opening(url))
    assert refused.value.issues[0].rule == "not-durable"
    with pytest.raises(Invalid):
        asyncio.run(opening(f"{url}{'&' if '?' in url else '?'}durability=none"))
    asyncio.run(opening(f"{url}{'&' if '?' in url else '?'}durability=test"))


def test_the_address_keeps_what_is_not_ours():
    address = postgres_durable.address_of(
        "postgresql://u:p%40ss@h:5432/n?sslmode=require&durability=test"
    )
    assert address == ("postgresql://u:p%40ss@h:5432/n?sslmode=require", True)


def test_a_session_of_the_writer_waits_for_the_disk_and_not_for_ever(database):
    async def scenario():
        address = postgres_durable.address_of(database.url())
        connection = await postgres_durable.connect_to_write(address)
        shown = [
            await connection.fetchval(f"SHOW {name}")
            for name in ("synchronous_commit", "statement_timeout", "lock_timeout",
                         "idle_in_transaction_session_timeout", "transaction_isolation")
        ]  # fmt: skip
        await connection.close()
        return shown

    assert asyncio.run(scenario()) == ["on", "20s", "5s", "20s", "read committed"]


def test_a_batch_that_waits_too_long_for_the_clock_is_tried_again(play, database, monkeypatch):
    monkeypatch.setattr(postgres_writer, "RETRY_SECONDS", 0.01)
    monkeypatch.setitem(postgres_durable._WRITING, "lock_timeout", "50")

    async def scenario(store):
        other = await asyncpg.connect(postgres_durable.address_of(database.url()).url)
        await other.execute("BEGIN; SELECT FROM clock FOR UPDATE")
        waiting = asyncio.create_task(store.commit(change(patient("p1"))))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await other.execute("COMMIT")
        await other.close()
        return await waiting

    assert play(scenario).repeated is False


def test_who_waits_for_index_rows_is_not_put_off_by_housework(play, database, monkeypatch):
    """Housework gives way to the batches of other processes; who reads the journal waits."""
    monkeypatch.setattr(postgres_writer, "IDLE_SECONDS", 60)

    async def scenario(store):
        await store.commit(change(journal=[event("a1")]))
        other = await asyncpg.connect(postgres_durable.address_of(database.url()).url)
        await other.execute("BEGIN; SELECT FROM clock FOR UPDATE")
        store._writer._waiting.add(Drain(housework=True))  # as one that was put back
        waiting = asyncio.create_task(store.drain())
        await asyncio.sleep(0.1)
        put_off = waiting.done()
        await other.execute("COMMIT")
        await other.close()
        await waiting
        return put_off

    assert play(scenario) is False


def test_a_doubtful_commit_is_made_sure_of(play, monkeypatch):
    """A standby that does not answer cuts a commit's wait short with a warning: not durable yet."""
    doubted = []

    async def settle(doubt):
        if not doubted:
            doubted.append(True)
            raise postgres_durable.CommitDoubtful

    monkeypatch.setattr(postgres_durable.Doubt, "settle", settle)

    async def scenario(store):
        committed = await store.commit(change(patient("p1")))
        try:
            await store.commit(change(patient("p2"), guards=[VersionIs("Patient", "p1", 1)]))
        except GatewayError as error:
            return error
        return committed.repeated, committed.t

    assert play(scenario) == (True, 1)
