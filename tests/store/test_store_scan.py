"""A type as it stood at one commit, in the order of resource numbers: what an export reads."""

from __future__ import annotations

import pytest
from store_builders import body, change, delete, event, observation, patient

from fhir_gateway.security.actor import SYSTEM_ACCESS, Access
from fhir_gateway.store import scan_sql

SECOND = 1_000_000
START = 1_790_000_000_000_000


def at(clock, second):
    clock.time = START + second * SECOND


async def fill(store, clock):
    """t: 1 five Observations; 2 to 20 others; 21 o2 changes; 22 o3 is deleted; 23 o6 comes."""
    at(clock, 1)
    await store.commit(change(
        patient("p1"), patient("p2"),
        *(observation(f"o{n}", "p1" if n < 4 else "p2", "one") for n in range(1, 6)),
    ))  # fmt: skip
    for second in range(2, 21):
        at(clock, second)
        await store.commit(change(patient("p3", text=f"{second}"), journal=[event(f"a{second}")]))
    at(clock, 21)
    await store.commit(change(observation("o2", "p1", "two")))
    at(clock, 22)
    await store.commit(change(delete("Observation", "o3")))
    at(clock, 23)
    await store.commit(change(observation("o6", "p2", "one")))


def told(resources):
    return [(one.id, one.version, one.deleted) for one in resources]


NOW = [("o1", 1, False), ("o2", 2, False), ("o4", 1, False), ("o5", 1, False), ("o6", 1, False)]


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"until_t": 23}, NOW),
        ({"until_t": 22}, NOW[:-1]),
        ({"until_t": 1}, [(f"o{n}", 1, False) for n in range(1, 6)]),
        ({"until_t": 0}, []),
        ({"until_t": 23, "deleted": True}, [("o3", 2, True)]),
        ({"until_t": 21, "deleted": True}, []),
        ({"until_t": 23, "updated_from": START + 1 * SECOND}, NOW),
        ({"until_t": 23, "updated_from": START + 2 * SECOND}, [NOW[1], NOW[4]]),
        ({"until_t": 23, "updated_from": START + 21 * SECOND}, [NOW[1], NOW[4]]),
        ({"until_t": 23, "updated_from": START + 22 * SECOND}, [NOW[4]]),
        ({"until_t": 22, "updated_from": START + 22 * SECOND}, []),
        ({"until_t": 23, "updated_from": START + 24 * SECOND}, []),
        ({"until_t": 23, "updated_from": START + 21 * SECOND, "deleted": True}, [("o3", 2, True)]),
        ({"until_t": 23, "patients": ["p1"]}, NOW[:2]),
        ({"until_t": 23, "patients": ["p2", "p1"]}, NOW),
        ({"until_t": 22, "patients": ["p2"]}, NOW[2:4]),
        ({"until_t": 23, "patients": ["p1"], "deleted": True}, [("o3", 2, True)]),
        ({"until_t": 23, "patients": []}, []),
        ({"until_t": 23, "patients": ["nobody"]}, []),
    ],
)
def test_a_type_is_read_as_it_stood(look, asked, expected, size):
    async def scenario(store):
        found, after = [], 0
        while True:
            async with store.snapshot(SYSTEM_ACCESS) as reader:
                page = await reader.scan("Observation", **asked, after_rid=after, limit=size)
            found += page
            if len(page) < size:
                return found
            after = page[-1].rid

    assert told(look(scenario)) == expected


def test_bodies_are_those_of_the_version_that_was_current(look):
    async def scenario(store):
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            return [
                {one.id: one.tail for one in await reader.scan("Observation", until_t=t, limit=9)}
                for t in (20, 21)
            ]

    before, after = look(scenario)
    assert (before["o2"], after["o2"]) == (body("one"), body("two"))
    assert (before["o3"], after["o3"]) == (body("one"), body("one"))


@pytest.mark.parametrize("few", [True, False])
def test_pieces_go_on_until_enough_is_found(play, clock, monkeypatch, few):
    """Small pieces; what is wanted stands at the end of the type."""
    monkeypatch.setattr(scan_sql, "_FIRST_PIECE", 2)
    monkeypatch.setattr(scan_sql, "_LARGEST_PIECE", 4)

    async def scenario(store):
        await store.commit(change(*(patient(f"p{n:02}") for n in range(40))))
        await store.commit(change(*(delete("Patient", f"p{n:02}") for n in range(30))))
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            return await reader.scan("Patient", until_t=2, limit=3 if few else 100)

    expected = [f"p{n}" for n in range(30, 33 if few else 40)]
    assert [one.id for one in play(scenario)] == expected


@pytest.mark.parametrize("size", [1, 7, 100])
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"until_t": 99}, range(2, 21)),
        ({"until_t": 5}, range(2, 6)),
        ({"until_t": 99, "updated_from": START + 18 * SECOND}, range(18, 21)),
        ({"until_t": 99, "updated_from": START + 21 * SECOND}, []),
        ({"until_t": 19, "updated_from": START + 18 * SECOND}, range(18, 20)),
        ({"until_t": 99, "deleted": True}, []),
    ],
)
def test_the_journal_is_read_the_same_way(look, asked, expected, size):
    async def scenario(store):
        found, after = [], 0
        while True:
            async with store.snapshot(SYSTEM_ACCESS) as reader:
                page = await reader.scan("AuditEvent", **asked, after_rid=after, limit=size)
            found += page
            if len(page) < size:
                return found
            after = page[-1].rid

    assert [one.id for one in look(scenario)] == [f"a{n}" for n in expected]


def test_journal_entries_of_a_patient_are_found(play):
    async def scenario(store):
        await store.commit(change(patient("p1"), patient("p2")))
        await store.commit(change(journal=[
            event("g1", type="GuidanceResponse", patient="p1"),
            event("g2", type="GuidanceResponse", patient="p2"),
        ]))  # fmt: skip
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            return await reader.scan("GuidanceResponse", until_t=9, limit=9, patients=["p2"])

    assert [one.id for one in play(scenario)] == ["g2"]


OURS, THEIRS = 11, 22


@pytest.mark.parametrize("asked", [{}, {"patients": ["p1"]}, {"updated_from": START}])
def test_a_scan_shows_what_its_access_sees(play, clock, asked):
    at(clock, 1)

    async def scenario(store):
        await store.commit(change(
            patient("p1"), observation("ours", "p1", owner=OURS),
            observation("theirs", "p1", owner=THEIRS), observation("open", "p1"),
            observation("secret", "p1", owner=OURS, sensitivity=1),
            observation("was-theirs", "p1", owner=THEIRS),
        ))  # fmt: skip
        await store.commit(change(observation("was-theirs", "p1", "x", owner=OURS)))
        async with store.snapshot(Access(owners=frozenset({OURS}))) as reader:
            return [
                told(await reader.scan("Observation", until_t=t, limit=9, **asked)) for t in (1, 2)
            ]

    first, second = play(scenario)
    assert first == [("ours", 1, False), ("open", 1, False)]
    assert second == [*first, ("was-theirs", 2, False)]
