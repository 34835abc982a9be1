"""Many clients at once, in one process and in several."""

from __future__ import annotations

import asyncio
import json

import pytest
from store_builders import body, change, event, observation, patient

from fhir_gateway.errors import Conflict, GatewayError, PreconditionFailed, Unavailable
from fhir_gateway.security.actor import SYSTEM_ACCESS, Access
from fhir_gateway.store import writer
from fhir_gateway.store.changes import Absent, Counter, Derived, Put, VersionIs


def test_of_many_conditional_creates_one_wins(play):
    async def scenario(store):
        async def create(client, key):
            derived = Derived(global_ints=[(9, key, 1)])
            id = f"p{key}-{client}"
            put = Put("Patient", id, "create", 0, body(), patient=id, derived=derived)
            try:
                await store.commit(change(put, guards=[Absent("Patient", 9, key, 1)]))
                return put.id
            except PreconditionFailed as error:
                return error.matches[0][1]

        return await asyncio.gather(*(create(c, k) for k in range(20) for c in range(16)))

    winners = play(scenario)
    for key in range(20):
        assert len(set(winners[key * 16 : key * 16 + 16])) == 1


def test_a_bucket_is_never_over_and_never_under(play):
    async def scenario(store):
        async def book():
            try:
                await store.commit(change(guards=[Counter(b"slot", 1, 40)]))
                return True
            except Conflict:
                return False

        return await asyncio.gather(*(book() for _ in range(64)))

    assert sum(play(scenario)) == 40


def test_of_many_edits_of_one_version_one_wins(play):
    async def scenario(store):
        await store.commit(change(patient("p1")))

        async def edit(n):
            guarded = change(patient("p1", text=str(n)), guards=[VersionIs("Patient", "p1", 1)])
            return await store.commit(guarded)

        results = await asyncio.gather(*map(edit, range(16)), return_exceptions=True)
        async with store.snapshot(Access()) as reader:
            return results, await reader.history("Patient", "p1")

    results, history = play(scenario)
    assert [type(each) for each in results].count(PreconditionFailed) == 15
    assert len(history) == 2


def test_what_arrives_together_is_one_batch_with_the_urgent_first(play, monkeypatch):
    monkeypatch.setattr(writer, "BATCH_SECONDS", 60)  # however slow the machine is

    async def scenario(store):
        ordinary = [store.commit(change(patient(f"p{n}"))) for n in range(5)]
        urgent = [store.commit(change(journal=[event(f"a{n}")], urgent=True)) for n in range(5)]
        committed = await asyncio.gather(*ordinary, *urgent)
        return [(each.t, each.n) for each in committed]

    places = play(scenario)
    assert len({t for t, _ in places}) == 1
    assert sorted(n for _, n in places[5:]) == [0, 1, 2, 3, 4]


def test_a_caller_that_leaves_disturbs_nobody(play):
    async def scenario(store):
        leaving = asyncio.create_task(store.commit(change(patient("p1"))))
        staying = asyncio.create_task(store.commit(change(patient("p2"))))
        await asyncio.sleep(0)
        leaving.cancel()
        committed = await staying
        async with store.snapshot(Access()) as reader:
            return committed.results[0].id, await reader.read("Patient", "p1") is not None

    assert play(scenario) == ("p2", True)


def test_many_snapshots_at_once(play):
    async def scenario(store):
        await store.commit(change(patient("p1"), observation("o1", "p1")))

        async def look(n):
            async with store.snapshot(SYSTEM_ACCESS) as reader:
                await asyncio.sleep(0)
                return await reader.read("Observation", "o1"), await reader.counts()

        return await asyncio.gather(*map(look, range(200)))

    assert {json.dumps(counts) for _, counts in play(scenario)} == {
        '{"Observation": 1, "Patient": 1}'
    }


# -- several openings of one database -----------------------------------------------------------


def test_other_openings_send_their_change_sets_to_the_writer(open_store):
    async def scenario():
        stores = [await open_store() for _ in range(3)]
        for n, store in enumerate(stores):
            await store.commit(change(patient(f"p{n}"), guards=[Counter(b"c", 1, 3)]))
        refused = []
        for store in stores:
            with pytest.raises(Conflict) as error:
                await store.commit(change(guards=[Counter(b"c", 1, 3)]))
            refused.append((error.value.guard, error.value.issues))
        seen = []
        for store in stores:
            async with store.snapshot(Access()) as reader:
                seen.append((reader.t, await reader.counts()))
            await store.close()
        return refused, seen

    refused, seen = asyncio.run(scenario())
    assert refused == [refused[0]] * 3
    assert seen == [(6, {"Patient": 3})] * 3


def test_matches_of_a_refusal_cross_the_socket(open_store):
    async def scenario():
        writer, other = await open_store(), await open_store()
        put = Put("Organization", "g1", "create", 0, body(), derived=Derived(
            global_ints=[(9, 1, 1)]))  # fmt: skip
        await other.commit(change(put))
        with pytest.raises(PreconditionFailed) as refused:
            await other.commit(change(guards=[Absent("Organization", 9, 1, 1)]))
        await other.close()
        await writer.close()
        return refused.value.matches

    assert asyncio.run(scenario()) == [("Organization", "g1")]


def test_when_the_writer_closes_the_next_one_takes_over_and_nothing_is_lost(open_store):
    async def scenario():
        stores = [await open_store() for _ in range(3)]
        acknowledged = []

        async def client(store, name):
            for n in range(60):
                try:
                    await store.commit(change(patient(f"{name}-{n}")))
                except Unavailable:
                    return
                acknowledged.append(f"{name}-{n}")

        clients = [asyncio.create_task(client(store, f"s{n}")) for n, store in enumerate(stores)]
        for store in stores[:2]:
            await asyncio.sleep(0.02)
            await store.close()
        await asyncio.gather(*clients)
        async with stores[2].snapshot(Access()) as reader:
            there = [await reader.read("Patient", id) is not None for id in acknowledged]
        await stores[2].close()
        return len([id for id in acknowledged if id.startswith("s2")]), all(there)

    assert asyncio.run(scenario()) == (60, True)


def test_a_closed_store_says_so(open_store):
    async def scenario():
        store = await open_store()
        await store.close()
        with pytest.raises(GatewayError) as refused:
            await store.commit(change(patient("p1")))
        return refused.value.issues[0].rule

    assert asyncio.run(scenario()) == "closed"


def test_several_processes_write_one_database(play, child):
    children = [child(f"c{n}", 25, 4) for n in range(3)]
    assert [process.wait(120) for process in children] == [0, 0, 0]

    async def scenario(store):
        async with store.snapshot(Access()) as reader:
            return await reader.counts()

    kept = 3 * 4 * 20 + 1  # every fifth repeats the same business key, and one of those was first
    assert play(scenario)["Observation"] == kept
