"""Many rows of one batch on SQLite: several in a statement, and no statement prepared anew."""

from __future__ import annotations

import apsw
import pytest
from store_builders import change, observation, patient

from fhir_gateway.store import statements as sql
from fhir_gateway.store.changes import Derived, Exists, Put, VersionIs
from fhir_gateway.store.sqlite_rows import write_rows

pytestmark = pytest.mark.drivers("sqlite")


def test_every_row_is_written_once_however_many_there_are():
    for count in (0, 1, 3, 4, 5, 16, 23, 64, 150):
        connection = apsw.Connection(":memory:")
        connection.execute("CREATE TABLE px (home, parameter, v1, v2, rid, PRIMARY KEY (v1))")
        connection.execute("CREATE TABLE counter (key PRIMARY KEY, k)")
        rows = [(1, 2, n, -n, n * n) for n in range(count)]
        write_rows(connection, sql.ADD_INDEX_ROW, rows)
        write_rows(connection, sql.ADD_INDEX_ROW, rows)  # what is there is left alone
        assert connection.execute("SELECT * FROM px ORDER BY v1").fetchall() == rows
        write_rows(connection, sql.SET_COUNTER, [(b"a", n) for n in range(count)])
        assert connection.execute("SELECT k FROM counter").fetchall() == [(count - 1,)][:count]


def test_a_batch_of_many_rows_leaves_all_statements_prepared(play):
    async def scenario(store):
        async def report(n):
            derived = Derived(ints=[(k, n, k) for k in range(300)], texts=[(1, f"t{n}")])
            results = [observation(f"r{n}-{k}", "p1", derived=derived) for k in range(8)]
            await store.commit(change(*results))

        await store.commit(change(patient("p1")))
        for n in range(3):
            await report(n)
        connection = store._seat._connection
        before = connection.cache_stats(False)["misses"]
        await report(3)
        return connection.cache_stats(False)["misses"] - before

    assert play(scenario) == 0


def test_what_is_looked_up_together_is_what_each_would_be(play):
    """New ones, stored ones, deletions, and what a guard names besides."""

    async def scenario(store):
        await store.commit(change(patient("p1"), observation("a", "p1"), observation("b", "p1")))
        await store.commit(change(Put("Observation", "b", "delete")))
        guards = [VersionIs("Observation", "a", 1), VersionIs("Observation", "b", 0),
                  VersionIs("Observation", "new", 0), Exists("Patient/p1", "x")]  # fmt: skip
        puts = [observation(name, "p1", text="x") for name in ("a", "b", "new", "other")]
        committed = await store.commit(change(*puts, guards=guards))
        more = await store.commit(change(*(observation(f"c{n}", "p1") for n in range(5))))
        return [(one.version, one.outcome, one.home) for one in committed.results], more.results

    results, more = play(scenario)
    assert results == [
        (2, "updated", 1), (3, "created", 1), (1, "created", 1), (1, "created", 1),
    ]  # fmt: skip
    assert {one.version for one in more} == {1}
