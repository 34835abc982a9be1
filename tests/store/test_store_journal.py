"""The journal: written in the batch of the act, readable and searchable once it is asked for."""

from __future__ import annotations

import asyncio

import pytest
from store_builders import body, change, event, patient, rows_of

from fhir_gateway.errors import Unavailable
from fhir_gateway.security.actor import SYSTEM_ACCESS, Access
from fhir_gateway.store import writer
from fhir_gateway.store.blobs import pack
from fhir_gateway.store.changes import Entry


def test_an_entry_is_a_resource_as_soon_as_it_is_read(play):
    async def scenario(store):
        enc, packed = pack(body("y" * 400))
        decision = Entry("GuidanceResponse", "g1", 0, enc, packed, patient="p1")
        committed = await store.commit(
            change(patient("p1"), journal=[event("a1", text="x"), decision])
        )
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            first = await reader.read("AuditEvent", "a1")
            second = await reader.vread("GuidanceResponse", "g1", 1)
            return committed, first, second, await reader.history("AuditEvent", "a1")

    committed, first, second, history = play(scenario)
    assert (first.version, first.home, first.tail) == (1, 0, body("x"))
    assert (second.home, second.tail) == (committed.results[0].home, body("y" * 400))
    assert first.updated == committed.updated
    assert history == [first]


def test_entries_get_index_rows_in_the_home_of_their_patient(play, rows):
    async def scenario(store):
        await store.commit(
            change(
                patient("p1"),
                journal=[
                    event("a1", text="abc", patient="p1"),
                    event("a2", text="de", patient="nobody"),
                    event("a3", text="f", home=-5),
                ],
            )
        )
        await store.drain()

    play(scenario)
    assert rows("SELECT home, text FROM px_text ORDER BY text") == [
        (1, "abc"), (0, "de"), (-5, "f"),
    ]  # fmt: skip
    assert rows("SELECT home, v1 FROM gx ORDER BY v1") == [(-5, 1), (0, 2), (1, 3)]
    assert rows("SELECT id, patient FROM resource WHERE enc = 9 ORDER BY id") == [
        ("a1", "p1"), ("a2", "nobody"), ("a3", None),
    ]  # fmt: skip
    assert rows("SELECT home, i FROM journal_home") == [(1, 0)]


def test_the_journal_is_drained_when_nothing_else_is_to_do(play, rows):
    async def scenario(store):
        for n in range(3):
            await store.commit(change(journal=[event(f"a{n}-{i}") for i in range(150)]))
        for _ in range(100):
            await asyncio.sleep(0.05)
            if rows("SELECT count(*) FROM resource") == [(450,)]:
                return True
        return False

    assert play(scenario) is True


@pytest.mark.drivers("sqlite")
def test_what_arrives_during_housework_waits_for_a_piece_of_it(open_store):
    """PostgreSQL's housework cannot know who waits in other processes; it ends by the time."""
    seen = {"made": 0}

    async def scenario():
        def counted(type, resource):
            seen["made"] += 1
            if seen["made"] == 3:
                waiting = store._seat.submit(change(patient("p1")))
                waiting.add_done_callback(lambda _: seen.setdefault("told", seen["made"]))
            return rows_of(type, resource)

        store = await open_store(rows=counted)
        await store.commit(change(journal=[event(f"a{n}") for n in range(100)]))
        for _ in range(200):
            await asyncio.sleep(0.02)
            if seen["made"] == 100:
                break
        await store.close()

    asyncio.run(scenario())
    assert (seen["made"], seen["told"]) == (100, writer.DRAIN_PIECE)


def test_every_entry_has_one_place_in_order(play, rows):
    async def scenario(store):
        sets = [change(journal=[event(f"a{n}-{i}") for i in range(2)]) for n in range(20)]
        committed = await asyncio.gather(*map(store.commit, sets))
        return [(each.t, each.n) for each in committed]

    places = play(scenario)
    assert sorted(set(places)) == places
    stored = rows("SELECT t, n, i, id FROM journal ORDER BY t, n, i")
    assert stored == [
        (t, n, i, f"a{number}-{i}") for number, (t, n) in enumerate(places) for i in range(2)
    ]


def test_an_entry_that_cannot_be_read_holds_up_nobody(play, caplog):
    async def scenario(store):
        broken = Entry("AuditEvent", "a1", 0, 0, b"not the tail of anything")
        await store.commit(change(journal=[broken, event("a2")]))
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            return await reader.read("AuditEvent", "a2")

    assert play(scenario).tail == body()
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_an_id_that_is_taken_stays_with_its_first_record(play):
    async def scenario(store):
        await store.commit(change(journal=[event("a1", text="first"), event("a1", text="second")]))
        await store.drain()
        await store.commit(change(journal=[event("a1", text="third")]))
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            return await reader.read("AuditEvent", "a1")

    assert play(scenario).tail == body("first")


def test_a_store_without_an_extractor_says_so(play):
    async def scenario(store):
        await store.commit(change(journal=[event("a1")]))
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            with pytest.raises(Unavailable) as refused:
                await reader.read("AuditEvent", "a1")
        return refused.value.issues[0].rule

    assert play(scenario, rows=None) == "no-index"


def test_another_opening_sees_the_journal_too(open_store):
    async def scenario():
        writer, other = await open_store(), await open_store()
        await other.commit(change(journal=[event("a1", text="x")]))
        async with other.snapshot(Access()) as reader:
            found = await reader.read("AuditEvent", "a1")
        await other.close()
        await writer.close()
        return found.tail

    assert asyncio.run(scenario()) == body("x")
