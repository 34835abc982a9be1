"""The change log read newest first: everything, a type, one resource; by time and by place."""

from __future__ import annotations

import apsw
import pytest
from store_builders import body, change, delete, event, observation, patient

from fhir_gateway.security.actor import RESTRICTED, SYSTEM_ACCESS, Access
from fhir_gateway.store import history_sql
from fhir_gateway.store.dialect import SQLITE

SECOND = 1_000_000
START = 1_790_000_000_000_000


def told(changes):
    return [(one.op, one.stored.type, one.stored.id, one.stored.version) for one in changes]


async def fill(store, clock):
    """Six batches, a second apart."""
    clock.time = START
    await store.commit(change(patient("p1", text="one")))
    clock.time = START + SECOND
    await store.commit(change(patient("p2"), observation("o1", "p1", "one")))
    clock.time = START + 2 * SECOND
    await store.commit(change(patient("p1", text="two"), journal=[event("a1", patient="p1")]))
    clock.time = START + 3 * SECOND
    await store.commit(change(delete("Observation", "o1")))
    clock.time = START + 4 * SECOND
    await store.commit(change(journal=[event("g1", type="GuidanceResponse"), event("a2")]))
    clock.time = START + 5 * SECOND
    await store.commit(change(observation("o1", "p1", "again"), patient("p1", text="three")))


ALL = [
    ("update", "Patient", "p1", 3),
    ("create", "Observation", "o1", 3),
    ("create", "AuditEvent", "a2", 1),
    ("create", "GuidanceResponse", "g1", 1),
    ("delete", "Observation", "o1", 2),
    ("create", "AuditEvent", "a1", 1),
    ("update", "Patient", "p1", 2),
    ("create", "Observation", "o1", 1),
    ("create", "Patient", "p2", 1),
    ("create", "Patient", "p1", 1),
]


def of(**named):
    return [
        one for one in ALL if all(one[("op", "type", "id").index(name)] == value
                                  for name, value in named.items())
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ALL),
        ({"type": "Patient"}, of(type="Patient")),
        ({"type": "Observation"}, of(type="Observation")),
        ({"type": "AuditEvent"}, of(type="AuditEvent")),
        ({"type": "GuidanceResponse"}, of(type="GuidanceResponse")),
        ({"type": "Patient", "id": "p1"}, of(type="Patient", id="p1")),
        ({"type": "Observation", "id": "o1"}, of(type="Observation", id="o1")),
        ({"type": "AuditEvent", "id": "a1"}, of(id="a1")),
        ({"type": "Patient", "id": "nobody"}, []),
        ({"type": "Encounter"}, []),
        ({"until_t": 3}, ALL[5:]),
        ({"type": "Observation", "until_t": 5}, of(id="o1")[1:]),
        ({"type": "AuditEvent", "until_t": 4}, of(id="a1")),
    ],
)  # fmt: skip
def test_changes_are_told_newest_first(look, asked, expected):
    async def scenario(store):
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            return await reader.changes(**asked, limit=100)

    assert told(look(scenario)) == expected


@pytest.mark.parametrize("type", [None, "Patient", "Observation", "AuditEvent"])
@pytest.mark.parametrize("size", [1, 3])
def test_pages_go_on_where_the_last_one_ended_while_more_is_written(play, clock, type, size):
    async def scenario(store):
        await fill(store, clock)
        pages, before = [], None
        while True:
            async with store.snapshot(SYSTEM_ACCESS) as reader:
                page = await reader.changes(type=type, before=before, limit=size)
            pages += page
            if not page:
                return pages
            before = page[-1][:3]
            await store.commit(
                change(patient("p1", text=f"n{len(pages)}"), journal=[event(f"n{len(pages)}")])
            )

    assert told(play(scenario)) == [one for one in ALL if type in (None, one[1])]


def since(seconds):
    return {"since": START + seconds * SECOND}


def at(low, high):
    return {"at": (START + int(low * SECOND), START + int(high * SECOND))}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (since(0), ALL),
        (since(-9), ALL),
        (since(1), ALL[:-1]),
        ({"since": START + 1}, ALL[:-1]),
        ({**since(3), "type": "Patient"}, ALL[:1]),
        ({**since(2), "type": "AuditEvent"}, of(type="AuditEvent")),
        ({**since(3), "type": "AuditEvent"}, of(id="a2")),
        ({**since(5), "type": "AuditEvent"}, []),
        ({**since(2), "type": "Patient", "id": "p1"}, of(id="p1")[:2]),
        (since(5), ALL[:2]),
        ({"since": START + 5 * SECOND + 1}, []),
        # versions that were current at some moment of the range
        (at(-5, -1), []),
        ({**at(0, 0), "type": "Patient"}, of(id="p1")[2:]),
        ({**at(1.5, 1.5), "type": "Patient"}, [*of(id="p2"), *of(id="p1")[2:]]),
        ({**at(2, 2), "type": "Patient"}, [of(id="p1")[1], *of(id="p2")]),
        ({**at(1.5, 2.5), "type": "Patient"}, [of(id="p1")[1], *of(id="p2"), of(id="p1")[2]]),
        ({**at(2, 9), "type": "Patient", "id": "p1"}, of(id="p1")[:2]),
        ({**at(4, 4.5), "type": "Observation"}, []),  # it was deleted before
        ({**at(2.5, 3.5), "type": "Observation"}, of(id="o1")[1:]),
        ({**at(3, 3), "type": "AuditEvent"}, of(id="a1")),
        (at(3, 3), [ALL[4], ALL[5], ALL[6], ALL[8]]),
    ],
)
def test_times_choose_versions(look, asked, expected):
    async def scenario(store):
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            return await reader.changes(**asked, limit=100)

    assert told(look(scenario)) == expected


def test_what_is_told_carries_its_body_and_its_time(look):
    async def scenario(store):
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            return await reader.changes(limit=100)

    shown = [
        (one.stored.tail, one.stored.deleted, (one.stored.updated - START) // SECOND)
        for one in look(scenario)
    ]
    assert shown == [
        (body("three"), False, 5), (body("again"), False, 5), (body(), False, 4),
        (body(), False, 4), (b"", True, 3), (body(), False, 2), (body("two"), False, 2),
        (body("one"), False, 1), (body(), False, 1), (body("one"), False, 0),
    ]  # fmt: skip


OURS, THEIRS = 11, 22


@pytest.mark.parametrize("type", [None, "Observation"])
@pytest.mark.parametrize(
    ("access", "expected"),
    [
        (Access(), ["open 2", "open 1", "theirs 2", "ours 2", "ours 1"]),
        (Access(owners=frozenset({OURS})), ["open 2", "open 1", "ours 2", "ours 1"]),
        (Access(owners=frozenset()), ["open 2", "open 1"]),
        (
            Access(max_class=RESTRICTED, owners=frozenset({OURS})),
            ["open 2", "open 1", "secret 2", "secret 1", "ours 2", "ours 1"],
        ),
    ],
)
def test_only_what_the_access_sees_is_told(play, access, type, expected):
    def result(id, owner, sensitivity, text):
        return observation(id, "p1", text, owner=owner, sensitivity=sensitivity)

    async def scenario(store):
        await store.commit(change(patient("p1", owner=99)))
        await store.commit(change(
            result("ours", OURS, 0, "1"), result("theirs", THEIRS, 1, "1"),
            result("secret", OURS, 1, "1"), result("open", 0, 0, "1"),
        ))  # fmt: skip
        await store.commit(change(
            result("ours", OURS, 0, "2"), result("theirs", THEIRS, 0, "2"),
            result("secret", OURS, 1, "2"), result("open", 0, 0, "2"),
            journal=[event("a1", owner=THEIRS)],
        ))  # fmt: skip
        async with store.snapshot(access) as reader:
            return await reader.changes(type=type, limit=100)

    seen = [
        f"{one.stored.id} {one.stored.version}" for one in play(scenario)
        if one.stored.type == "Observation"
    ]  # fmt: skip
    assert sorted(seen) == sorted(expected)


def test_the_first_batch_at_an_instant_is_found_among_many(play, clock, tmp_path):
    """For every instant around every batch; some batches write versions, some the journal."""

    async def scenario(store):
        for number in range(70):
            clock.time = START + (number // 2) * SECOND  # two batches an instant
            if number % 3:
                await store.commit(change(journal=[event(f"a{number}")]))
            else:
                await store.commit(change(patient("p1", text=f"{number}")))
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            every = await reader.changes(limit=100)
            found = {}
            for half in range(-1, 71):
                instant = START + half * SECOND // 2
                found[instant] = told(await reader.changes(since=instant, limit=100))
            return every, found

    every, found = play(scenario)
    assert len(every) == 70
    for instant, changes in found.items():
        assert changes == told([one for one in every if one.stored.updated >= instant])


def plan_of(connection, steps):
    """The query plans of all statements of a generator."""
    plans, sent = [], None
    try:
        while True:
            query = steps.send(sent)
            plans += connection.execute(f"EXPLAIN QUERY PLAN {query.sql}", query.values)
            sent = connection.execute(query.sql, query.values).fetchall()
    except StopIteration:
        return plans


@pytest.mark.drivers("sqlite")
def test_histories_are_found_by_index(play, clock, tmp_path):
    """No step of a plan reads a whole table: each is a search by an index or a bounded walk."""

    async def scenario(store):
        await fill(store, clock)
        await store.drain()

    play(scenario)
    connection = apsw.Connection(str(tmp_path / "store.sqlite"))
    seen = history_sql.Seen(SQLITE, Access(owners=frozenset({OURS})))
    asked = [
        {"type": None}, {"type": "Patient"}, {"type": "AuditEvent"},
        {"type": "Patient", "id": "p1"}, {"type": "AuditEvent", "id": "a1"},
        {"type": "Patient", "at": (START, START + SECOND)},
    ]  # fmt: skip
    plans = [
        (one, row[3])
        for one in asked
        for row in plan_of(connection, history_sql.changes(seen, **{
            "id": None, "since": START + SECOND, "at": None, "before": (9, 0, 0), "until_t": 6,
            "limit": 10, **one,
        }))
    ]  # fmt: skip
    connection.close()
    assert [(one, step) for one, step in plans if step in ("SCAN c", "SCAN j", "SCAN r")] == []
    assert [one for one, step in plans if "USE TEMP B-TREE" in step and not one.get("id")] == []
