"""When the disk refuses: nothing false is acknowledged, reads go on, room that returns is used."""

from __future__ import annotations

import asyncio
import resource
import signal

import pytest
from store_builders import body, change, observation, patient

from fhir_gateway.errors import GatewayError, Internal, Unavailable
from fhir_gateway.security.actor import Access
from fhir_gateway.store.changes import Derived, Fact, Put

BIG = "x" * 200_000


@pytest.mark.drivers("sqlite")
def test_a_full_disk_refuses_writes_until_there_is_room(play):
    async def scenario(store):
        await store.commit(change(patient("p1", text="one")))
        writing = store._seat._connection  # the limit is a property of the connection that writes
        writing.pragma("max_page_count", writing.pragma("page_count") + 4)
        with pytest.raises(Unavailable) as refused:
            await store.commit(change(patient("p2", text=BIG)))
        small = await store.commit(change(patient("p3")))
        writing.pragma("max_page_count", 1 << 30)
        await store.commit(change(patient("p2", text=BIG)))
        async with store.snapshot(Access()) as reader:
            found = [await reader.read("Patient", id) for id in ("p1", "p2", "p3")]
        return refused.value.issues[0].rule, small.t, [each.version for each in found]

    assert play(scenario) == ("storage-full", 2, [1, 1, 1])


@pytest.mark.drivers("sqlite")
def test_after_a_failed_write_nothing_more_is_written_until_reopened(play, open_store, caplog):
    async def scenario(store):
        committed = await store.commit(change(patient("p1", text="one")))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
        try:
            sets = [change(patient(f"big{n}", text=BIG)) for n in range(6)]
            results = await asyncio.gather(*map(store.commit, sets), return_exceptions=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, handler)
        with pytest.raises(Unavailable) as refused:
            await store.commit(change(patient("p2")))
        async with store.snapshot(Access()) as reader:
            still = await reader.read("Patient", "p1")
        return committed.t, results, refused.value.issues[0].rule, still.tail

    t, results, rule, still = play(scenario)
    assert {type(each) for each in results} == {Unavailable}
    assert (t, rule, still) == (1, "storage-failed", body("one"))

    async def reopened(store):
        committed = await store.commit(change(patient("p2")))
        async with store.snapshot(Access()) as reader:
            return committed.t > 1, await reader.read("Patient", "p1") is not None

    assert play(reopened) == (True, True)


def test_a_request_that_cannot_be_written_fails_alone(play, caplog):
    async def scenario(store):
        poison = Put("Observation", "bad", "create", 0, body(), derived=Derived(
            ints=[(1, 1 << 80, 0)]))  # fmt: skip
        results = await asyncio.gather(
            store.commit(change(patient("p1"))),
            store.commit(change(poison)),
            store.commit(change(patient("p2"), observation("o1", "p1"))),
            return_exceptions=True,
        )
        async with store.snapshot(Access()) as reader:
            there = [await reader.read("Observation", id) for id in ("bad", "o1")]
        return results, there

    (first, second, third), (bad, good) = play(scenario)
    assert isinstance(second, Internal)
    assert [result.outcome for result in (*first.results, *third.results)] == ["created"] * 3
    assert (bad, good.version) == (None, 1)


class NoText:
    """A value that no database takes, and that tells what it holds when it is printed."""

    def __repr__(self):
        return "secret"


def test_faults_do_not_quote_what_was_written(play, caplog):
    secret = Fact(*["L001", 1, 1, 1, "lab", "final", "", "", "", "", NoText(), "", 0, "", "x/y"])

    async def scenario(store):
        put = observation("o1", "p1", derived=Derived(facts=[secret]))
        with pytest.raises(GatewayError):
            await store.commit(change(patient("p1"), put))

    play(scenario)
    assert "fault" in caplog.text or caplog.records
    assert "secret" not in caplog.text


@pytest.mark.drivers("sqlite")
def test_while_another_program_holds_the_database_requests_wait(play, tmp_path):
    import apsw

    async def scenario(store):
        holder = apsw.Connection(str(tmp_path / "store.sqlite"))
        holder.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(store.commit(change(patient("p1"))))
        await asyncio.sleep(0.05)
        waited = not waiting.done()
        holder.execute("ROLLBACK")
        holder.close()
        return waited, (await waiting).t

    assert play(scenario) == (True, 1)
