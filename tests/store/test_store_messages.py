"""The register of messages: rows, counters and what waits, the same on both stores."""

from __future__ import annotations

import asyncio
from hashlib import sha256

from store_builders import change, event

from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.message_changes import MessageRow, MessageSettled, RefusedBody
from fhir_gateway.store.message_rows import message_id
from fhir_gateway.store.messages import (
    Asked,
    count_steps,
    kept_steps,
    message,
    messages,
    oldest_steps,
    received_bytes,
    shown_id,
)


def told(name="M1", content=b"one", outcome="stored", *, institution="h1", **members):
    """A message as a door tells it; its name is its once key."""
    digest = sha256(content).digest()
    return MessageRow(
        institution, "hl7v2", name.encode(), name, digest, len(content), outcome,
        kind="ORU^R01", **members,
    )  # fmt: skip


def refused(name="M1", content=b"one", **members):
    """A refusal as it is committed: with the event of it, and the bytes."""
    row = told(name, content, "refused", code="AE", rule="v2-required", state="open", **members)
    body = RefusedBody(row.hash, row.institution, len(content), "x", 0, content)
    return ChangeSet(id=b"", journal=[event(f"e-{name}")], messages=[row], refused=[body])


async def found(store, institution="h1", asked=None, **page):
    async with store.snapshot(SYSTEM_ACCESS) as reader:
        return await messages(reader, institution, asked or Asked(), **page)


async def counted(store, institution="h1"):
    async with store.snapshot(SYSTEM_ACCESS) as reader:
        rows = await reader.steps(lambda _: count_steps(institution))
    return [row[1:8] for row in rows]


def test_a_message_is_one_row_however_often_it_comes(play):
    async def scenario(store):
        await asyncio.gather(*(store.commit(refused()) for _ in range(5)))
        (row,) = await found(store)
        assert (row.outcome, row.state, row.attempts, row.rule) == (
            "refused", "open", 5, "v2-required",
        )  # fmt: skip
        await store.commit(change(messages=[told()]))
        (row,) = await found(store)
        assert (row.outcome, row.state, row.attempts, row.rule) == ("stored", "overtaken", 6, "")
        repeat = told(outcome="repeated")
        sets = [ChangeSet(id=b"", messages=[repeat]) for _ in range(3)]
        await asyncio.gather(*(store.commit(one) for one in sets))
        await store.commit(refused())  # stored is stored
        (row,) = await found(store)
        assert (row.outcome, row.state, row.attempts) == ("stored", "overtaken", 10)
        assert await counted(store) == [("hl7v2", "ORU^R01", 10, 1, 0, 6, 3)]

    play(scenario)


def test_what_is_stored_under_the_same_key_overtakes_what_was_refused(play):
    async def scenario(store):
        await store.commit(refused("M1", b"broken"))
        await store.commit(refused("M2", b"broken too"))
        await store.commit(refused("M1", b"broken", institution="h2"))
        mended = change(messages=[told("M1", b"mended")])
        other = refused("M1", b"another under a number that was used")
        await asyncio.gather(store.commit(mended), store.commit(other))
        states = sorted((row.name, row.outcome, row.state) for row in await found(store))
        assert states == [
            ("M1", "refused", "open"),
            ("M1", "refused", "overtaken"),
            ("M1", "stored", ""),
            ("M2", "refused", "open"),
        ]
        assert [row.name for row in await found(store, "h2", Asked(state="open"))] == ["M1"]

    play(scenario)


def test_a_person_sets_aside_and_a_retry_is_told_by_name(play):
    async def scenario(store):
        await store.commit(refused("M1", b"a"))
        await store.commit(refused("M2", b"b"))
        one, two = await found(store)
        aside = MessageSettled(_raw("M1", b"a"), "aside", "Operator", "test message")
        await store.commit(ChangeSet(id=b"", settled=[aside]))
        await store.commit(change(messages=[told("M2", b"b", "flagged", who="Operator")]))
        one, two = await found(store)
        assert (one.state, one.who, one.reason) == ("aside", "Operator", "test message")
        assert (two.state, two.who, two.outcome) == ("retried", "Operator", "flagged")
        late = MessageSettled(_raw("M2", b"b"), "aside", "Operator", "too late")
        await store.commit(ChangeSet(id=b"", settled=[late]))
        assert (await found(store))[1].state == "retried"

    play(scenario)


def _raw(name, content):
    return message_id("h1", "hl7v2", name.encode(), sha256(content).digest())


def test_messages_are_found_by_what_is_said_of_them_page_by_page(play, clock):
    async def scenario(store):
        for number in range(7):
            clock.time += 1_000
            row = told(f"M{number}", b"%d" % number, "flagged" if number % 2 else "stored")
            await store.commit(change(messages=[row, told("other", b"%d" % number,
                                                          institution="h2")]))  # fmt: skip
        first = await found(store, limit=4)
        rest = await found(store, after=first[-1].place, limit=4)
        assert [row.name for row in (*first, *rest)] == [f"M{n}" for n in range(7)]
        newest = await found(store, newest=True, limit=2)
        older = await found(store, newest=True, after=newest[-1].place, limit=2)
        assert [row.name for row in (*newest, *older)] == ["M6", "M5", "M4", "M3"]
        asked = Asked(outcome="flagged", since=first[2].received, until=rest[-1].received)
        assert [row.name for row in await found(store, asked=asked)] == ["M3", "M5"]
        (one,) = await found(store, asked=Asked(name="M3", key=b"M3", door="hl7v2"))
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            assert await message(reader, "h1", one.id) == one
            assert await message(reader, "h2", one.id) is None
            assert await message(reader, "h1", "none") is None
            assert await message(reader, "h1", shown_id(b"0" * 16)) is None

    play(scenario)


def test_bytes_of_refusals_are_given_back_and_the_oldest_go(play, clock):
    async def scenario(store):
        for name in ("M1", "M2", "M3"):
            clock.time += 1_000
            await store.commit(refused(name, name.encode() * 10))
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            assert await reader.steps(lambda _: kept_steps("h1")) == 60
            assert await reader.steps(lambda _: kept_steps("h2")) == 0
            oldest = await reader.steps(lambda _: oldest_steps("h1", 2))
        assert [one.hash for one in oldest] == [sha256(n * 10).digest() for n in (b"M1", b"M2")]
        await store.commit(ChangeSet(id=b"", dropped=[one.hash for one in oldest]))
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            assert await received_bytes(reader, oldest[0].hash) is None
            assert await received_bytes(reader, sha256(b"M3" * 10).digest()) == ("x", b"M3" * 10)
        assert len(await found(store)) == 3

    play(scenario)
