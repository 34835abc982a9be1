"""Other derived rows for versions that stay, and the version of a store's index."""

from __future__ import annotations

import asyncio

import pytest
from effort import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_builders import change, delete, event, fact, fresh, observation, patient

from fhir_gateway.errors import Unavailable
from fhir_gateway.search.plan import Ids, SearchPlan, Token
from fhir_gateway.search.version import INDEX_VERSION
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.changes import (
    Absent,
    ChangeSet,
    Derived,
    Evaluation,
    Reindex,
    ReportLink,
)
from fhir_gateway.store.lookups import Place
from fhir_gateway.store.walk_sql import FIRST, place_of

ENDLESS = (1 << 63) - 1
MATCHED = "SELECT parameter, v1, v2 FROM gx ORDER BY 1, 2, 3"

OLD = Derived(
    ints=[(1, 1, 0), (2, 2, 0)], texts=[(3, "a"), (4, "b")],
    global_ints=[(5, 5, 0), (6, 6, 0)], global_texts=[(7, "x" * 200), (8, "y")],
    facts=[fact("L1", 10, "Observation/o"), fact("L2", 20, "Observation/o", value="2")],
    links=[ReportLink(1, "final", 1), ReportLink(2, "final", 1)],
    evaluations=[Evaluation("h1", "L1", "a", "2026-01-01", "2026-12-31", True, "e", "1")],
    identity=[(b"old", 2), (b"kept", 2)],
)  # fmt: skip
NEW = Derived(
    ints=[(1, 1, 0), (2, 3, 0)], texts=[(3, "a"), (4, "c")],
    global_ints=[(5, 5, 0), (6, 7, 0)], global_texts=[(7, "x" * 200), (8, "z")],
    facts=[fact("L0", 5, "Observation/o"), fact("L1", 10, "Observation/o"),
           fact("L2", 20, "Observation/o", value="3")],
    links=[ReportLink(1, "final", 1), ReportLink(2, "amended", 1)],
    evaluations=[Evaluation("h1", "L1", "a", "2026-01-01", "2026-12-31", True, "e", "1"),
                 Evaluation("h1", "L2", "a", "2026-01-01", "2026-12-31", True, "e", "1")],
    identity=[(b"kept", 2), (b"new", 2)],
)  # fmt: skip


def reindexed(*wanted: Reindex, **members) -> ChangeSet:
    """A change set that derives rows again."""
    return ChangeSet(b"", reindex=list(wanted), **members)


async def store_one(store, derived=OLD):
    """Observation/o with these rows; the commit."""
    return await store.commit(change(patient("p"), observation("o", "p", derived=derived)))


def test_rows_are_replaced_where_they_differ_and_nothing_else(play, rows):
    async def scenario(store):
        first = await store_one(store)
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            before = await reader.read("Observation", "o"), await reader.history("Observation", "o")
        second = await store.commit(reindexed(Reindex("Observation", "o", 1, NEW)))
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            after = await reader.read("Observation", "o"), await reader.history("Observation", "o")
            changed = await reader.changes(limit=10)
            scanned = await reader.scan(
                "Observation", until_t=reader.t, limit=5, updated_from=first.updated + 1
            )
            assert (reader.t, reader.epoch) == (second.t, 1)  # the register is another one
        assert after == before
        assert [(one.t, one.op) for one in changed] == [(first.t, "create")] * 2
        assert scanned == []
        return first.t, second.t

    first, second = play(scenario)
    assert second == first + 1
    assert rows("SELECT parameter, v1 FROM px ORDER BY 1") == [(1, 1), (2, 3), (5, 5), (6, 7)]
    texts = [(3, "a"), (4, "c"), (7, "x" * 200), (8, "z")]
    assert rows("SELECT parameter, text FROM px_text ORDER BY 1") == texts
    assert rows(MATCHED) == [(5, 5, 0), (6, 7, 0)]
    assert rows("SELECT parameter, text FROM gx_text ORDER BY 1") == texts[2:]
    assert sorted(bytes(key) for (key,) in rows("SELECT key FROM identity")) == [b"kept", b"new"]
    assert sorted(rows("SELECT item, value, t_from, t_to FROM fact")) == [
        ("L0", "", second, ENDLESS),
        ("L1", "", first, ENDLESS),
        ("L2", "2", first, second),
        ("L2", "3", second, ENDLESS),
    ]
    assert sorted(rows("SELECT result, status, t_from, t_to FROM result_of")) == [
        (1, "final", first, ENDLESS),
        (2, "amended", second, ENDLESS),
        (2, "final", first, second),
    ]
    assert sorted(rows("SELECT item, t_from, t_to FROM evaluation")) == [
        ("L1", first, ENDLESS), ("L2", second, ENDLESS),
    ]  # fmt: skip


def test_what_a_decision_has_read_stays_readable(play):
    async def scenario(store):
        first = await store_one(store)
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            home = (await reader.person("p")).home
            before = await reader.facts(home, ["L0", "L1", "L2"], first.t)
        second = await store.commit(reindexed(Reindex("Observation", "o", 1, NEW)))
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            assert await reader.facts(home, ["L0", "L1", "L2"], first.t) == before
            now = await reader.facts(home, ["L0", "L1", "L2"], second.t)
        assert [(one.fact.item, one.fact.value, one.t_from) for one in now] == [
            ("L2", "3", second.t), ("L1", "", first.t), ("L0", "", second.t),
        ]  # fmt: skip

    play(scenario)


@pytest.mark.parametrize("version", [0, 2])
def test_another_version_than_the_current_is_passed_over(play, rows, version):
    async def scenario(store):
        await store_one(store)
        await store.commit(reindexed(Reindex("Observation", "o", version, NEW)))

    play(scenario)
    assert rows(MATCHED) == [(5, 5, 0), (6, 6, 0)]


def test_what_is_deleted_or_unknown_is_passed_over(play, rows):
    async def scenario(store):
        await store_one(store)
        await store.commit(change(delete("Observation", "o")))
        await store.commit(
            reindexed(Reindex("Observation", "o", 2, NEW), Reindex("Observation", "nobody", 1, NEW))
        )

    play(scenario)
    assert rows("SELECT * FROM px") == []
    assert rows("SELECT item FROM fact WHERE t_to = 9223372036854775807") == []


def test_the_newest_wins_whatever_comes_between(play, rows):
    """Puts and derivations of the same resource, in one batch or not."""

    async def scenario(store):
        await store_one(store)
        newest = Derived(global_ints=[(5, 99, 0)], facts=[fact("L9", 1, "Observation/o")])
        put = change(observation("o", "p", "newer", derived=newest))
        again = [store.commit(reindexed(Reindex("Observation", "o", 1, NEW))) for _ in range(3)]
        await asyncio.gather(*again[:2], store.commit(put), again[2])
        both = change(observation("o", "p", "last", derived=newest))
        both.reindex = [Reindex("Observation", "o", 2, NEW), Reindex("Observation", "o", 3, NEW)]
        await store.commit(both)

    play(scenario)
    assert rows("SELECT parameter, v1 FROM gx") == [(5, 99)]
    assert rows("SELECT item FROM fact WHERE t_to = 9223372036854775807") == [("L9",)]
    assert rows("SELECT version FROM resource WHERE id = 'o'") == [(3,)]


def test_journal_entries_and_resources_of_nobody(play, rows):
    async def scenario(store):
        await store.commit(change(observation("o", None, derived=OLD), journal=[event("e")]))
        await store.drain()
        await store.commit(
            reindexed(
                Reindex("AuditEvent", "e", 1, Derived(global_ints=[(1, 42, 0)])),
                Reindex("Observation", "o", 1, NEW),
                journal=[event("told")],
            )
        )
        await store.drain()
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            assert (await reader.read("AuditEvent", "e")).version == 1

    play(scenario)
    assert rows("SELECT v1 FROM gx WHERE parameter = 1") == [(42,)]
    assert rows("SELECT v1 FROM px WHERE parameter = 6") == [(7,)]
    assert rows("SELECT count(*) FROM fact") == [(0,)]  # facts are facts of a person


numbers = st.integers(0, 3)
int_rows = st.lists(st.tuples(numbers, numbers, numbers), max_size=4)
text_rows = st.lists(st.tuples(numbers, st.sampled_from(["", "a", "王", "x" * 130])), max_size=4)
derivations = st.builds(
    Derived, ints=int_rows, texts=text_rows, global_ints=int_rows, global_texts=text_rows,
    facts=st.lists(st.builds(fact, st.sampled_from(["L1", "L2"]), numbers, st.just("Observation/o"),
                             value=st.sampled_from("ab")), max_size=4),
    links=st.lists(st.builds(ReportLink, numbers, st.sampled_from(["final", "amended"]), numbers),
                   max_size=3),
    identity=st.lists(st.tuples(st.sampled_from([b"1", b"2"]), st.just(2)), max_size=2),
)  # fmt: skip


def test_derived_again_is_as_if_stored_so(play, rows):
    """Whatever was there before, the rows are those of a new version with the new derivation."""
    cases = []

    @settings(max_examples=examples(25), suppress_health_check=list(HealthCheck), deadline=None)
    @given(st.lists(derivations, min_size=2, max_size=3))
    def collect(derivation):
        cases.append((fresh("again"), fresh("once"), derivation))

    collect()

    async def scenario(store):
        await store.commit(change(patient("p")))
        for again, once, derivation in cases:
            await store.commit(change(observation(again, "p", derived=derivation[0])))
            for derived in derivation[1:]:
                await store.commit(reindexed(Reindex("Observation", again, 1, derived)))
            await store.commit(change(observation(once, "p", derived=derivation[-1])))

    play(scenario)
    rids = dict(rows("SELECT id, rid FROM resource"))
    tables = {
        "px": "parameter, v1, v2", "px_text": "parameter, text", "gx": "parameter, v1, v2",
        "gx_text": "parameter, text", "identity": "key, kind", "fact": "item, time, value",
        "result_of": "result, status, issued",
    }  # fmt: skip
    found: dict[tuple[str, int], set] = {}
    for table, columns in tables.items():
        only = " WHERE t_to = 9223372036854775807" if table in ("fact", "result_of") else ""
        for rid, *row in rows(f"SELECT rid, {columns} FROM {table}{only}"):
            found.setdefault((table, rid), set()).add(tuple(row))
    for again, once, _ in cases:
        for table in tables:
            made, expected = (found.get((table, rids[id]), set()) for id in (again, once))
            assert made == expected, table


def test_a_walk_meets_everything_once_in_the_order_of_places(play):
    async def scenario(store):
        puts = [patient(f"p{n}") for n in range(3)]
        puts += [observation(f"o{n}", f"p{n % 3}") for n in range(7)] + [observation("x", None)]
        await store.commit(change(*puts, journal=[event("e"), event("f", home=2)]))
        await store.commit(change(delete("Observation", "o1"), observation("o2", "p2", "newer")))
        await store.drain()
        met, after = [], FIRST
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            while page := await reader.walk(after, until_home=1 << 62, limit=3):
                met += page
                after = place_of(page[-1])
            some = await reader.walk(Place(1, ENDLESS, 0), until_home=2, limit=99)
            every = {("Observation", f"o{n}") for n in range(7) if n != 1} | {
                *(("Patient", f"p{n}") for n in range(3)), ("Observation", "x"),
                ("AuditEvent", "e"), ("AuditEvent", "f"),
            }  # fmt: skip
            assert [(one.type, one.id) for one in met] == [
                (one.type, one.id) for one in sorted(met, key=place_of)
            ]
            assert sorted((one.type, one.id) for one in met) == sorted(every)
            for one in met:
                assert one == await reader.read(one.type, one.id)
        assert {one.home for one in some} == {2}
        assert len(some) == len([one for one in met if one.home == 2])

    play(scenario)


# -- the version of the index -----------------------------------------------------------------


def test_a_new_store_is_of_this_version(play):
    async def scenario(store):
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            assert reader.index[:2] == (INDEX_VERSION, INDEX_VERSION)

    play(scenario)


BY_TOKEN = SearchPlan("Observation", (Token(1, ((1, None),)),), home=0)
BY_ID = SearchPlan("Observation", (Ids(("o",)),), home=0)


async def _search(store, plan):
    async with store.snapshot(SYSTEM_ACCESS) as reader:
        return len((await reader.search(plan)).matches)


async def _refused(doing):
    with pytest.raises(Unavailable) as caught:
        await doing
    return caught.value.issues[0].rule


def test_an_older_index_is_not_searched_until_it_is_told_to_be_whole(open_store, rows, database):
    async def scenario():
        store = await open_store()
        await store.commit(change(observation("o", None, derived=OLD)))
        await store.close()
        database.execute("UPDATE clock SET indexed = 0, indexing = 0")
        store = await open_store()
        guarded = change(observation("n", None), guards=[Absent("Observation", 5, 9, None)])
        try:
            assert await _refused(_search(store, BY_TOKEN)) == "reindex-needed"
            assert await _search(store, BY_ID) == 1
            assert await _refused(store.commit(guarded)) == "reindex-needed"
            await store.commit(change(observation("o2", None)))
            await store.commit(ChangeSet(b"", indexed=INDEX_VERSION))
            assert await _search(store, BY_TOKEN) == 1
            assert (await store.commit(guarded)).repeated is False
        finally:
            await store.close()

    asyncio.run(scenario())
    assert rows("SELECT indexed, indexing FROM clock") == [(INDEX_VERSION, INDEX_VERSION)]


def test_an_older_program_does_not_open_what_a_newer_one_indexes(open_store, database):
    async def scenario():
        await (await open_store()).close()
        database.execute(f"UPDATE clock SET indexing = {INDEX_VERSION + 1}")
        return await _refused(open_store())

    assert asyncio.run(scenario()) == "index-newer"


@pytest.mark.drivers("postgresql")
def test_an_older_program_that_runs_on_neither_stores_nor_searches(play, database):
    async def scenario(store):
        await store.commit(change(observation("o", None, derived=OLD)))
        database.execute(f"UPDATE clock SET indexing = {INDEX_VERSION + 1}")
        assert await _refused(store.commit(change(observation("o2", None)))) == "index-newer"
        assert await _refused(_search(store, BY_TOKEN)) == "index-newer"
        await store.commit(ChangeSet(b"", journal=[event("told")]))
        assert await _refused(store.drain()) == "index-newer"

    play(scenario)
