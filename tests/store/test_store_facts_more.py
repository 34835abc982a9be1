"""The packed column of facts and report links: kept, read back, and turned when derived again."""

from __future__ import annotations

from store_builders import change, fact, observation, patient

from fhir_gateway.fhir.keys import key64
from fhir_gateway.security.actor import SYSTEM_ACCESS, Access
from fhir_gateway.store.changes import ChangeSet, Derived, Put, Reindex, ReportLink

MORE, OTHER = "c\x1f\x1f=\x1f=", "c\x1f?\x1f5.10\x1fmg/L\x1f仪器"
RESULT = key64("Observation/o")


def result(more: str) -> Put:
    said = fact("L1", 10, "Observation/o", more=more)
    return observation("o", "p", derived=Derived(facts=[said]))


def carried(more: str, id: str = "r", issued: int = 5) -> Put:
    links = Derived(links=[ReportLink(RESULT, "final", issued, more)])
    return Put("DiagnosticReport", id, "update", 0, b"}", patient="p", derived=links)


async def facts(store, access=SYSTEM_ACCESS, as_of=None):
    async with store.snapshot(access) as reader:
        home = (await reader.person("p")).home
        found = await reader.facts(home, ["L1"], reader.t if as_of is None else as_of)
    return [(one.fact.more, one.report_more) for one in found]


def test_what_is_packed_is_read_back(play):
    async def scenario(store):
        await store.commit(change(patient("p"), result(MORE)))
        assert await facts(store) == [(MORE, "")]
        await store.commit(change(carried("全国HR\x1flipids")))
        assert await facts(store) == [(MORE, "全国HR\x1flipids")]
        assert await facts(store, Access(owners=frozenset())) == [(MORE, "全国HR\x1flipids")]

    play(scenario)


def test_the_report_that_was_issued_last_speaks(play):
    async def scenario(store):
        await store.commit(change(patient("p"), result(""), carried("later", "r1", 9)))
        await store.commit(change(carried("earlier", "r2", 5)))
        assert await facts(store) == [("", "later")]

    play(scenario)


def test_many_rows_at_once_are_written_as_few_are(play):
    async def scenario(store):
        said = [fact(f"M{n}", n, "Observation/many", more=f"c\x1f\x1f{n}") for n in range(150)]
        links = [ReportLink(n, "final", n, f"mark {n}") for n in range(150)]
        many = observation("many", "p", derived=Derived(facts=said, links=links))
        await store.commit(change(patient("p"), many))
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            home = (await reader.person("p")).home
            found = await reader.facts(home, [f"M{n}" for n in range(150)], reader.t)
        assert sorted(int(one.fact.more.split("\x1f")[2]) for one in found) == list(range(150))

    play(scenario)


def test_rows_from_before_end_and_new_ones_begin(play, rows):
    """A decision from before is read again from the rows that it had read."""

    async def scenario(store):
        first = await store.commit(change(patient("p"), result(""), carried("")))
        wanted = [
            Reindex("Observation", "o", 1, result(OTHER).derived),
            Reindex("DiagnosticReport", "r", 1, carried("全国HR").derived),
        ]
        second = await store.commit(ChangeSet(b"", reindex=wanted))
        assert await facts(store, as_of=first.t) == [("", "")]
        assert await facts(store, as_of=second.t) == [(OTHER, "全国HR")]
        again = await store.commit(ChangeSet(b"", reindex=wanted))
        assert await facts(store, as_of=again.t) == [(OTHER, "全国HR")]
        return first.t, second.t

    first, second = play(scenario)
    endless = (1 << 63) - 1
    expected = [("", first, second), (OTHER, second, endless)]
    assert sorted(rows("SELECT more, t_from, t_to FROM fact")) == expected
    assert sorted(rows("SELECT more, t_from, t_to FROM result_of")) == [
        ("", first, second), ("全国HR", second, endless),
    ]  # fmt: skip
