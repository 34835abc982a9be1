"""A patient's record read as one range of its home: what it holds, its order, its filters."""

from __future__ import annotations

import pytest
from store_builders import body, change, delete, event, observation, patient

from fhir_gateway.security.actor import RESTRICTED, Access
from fhir_gateway.store.changes import Derived, Put
from fhir_gateway.store.store import Dates

BEGINS, ENDS = 101, 102


def dated(id, begin, end, **members):
    derived = Derived(ints=[(BEGINS, begin, begin), (ENDS, end, end)])
    return observation(id, "p1", derived=derived, **members)


def condition(id, patient):
    return Put("Condition", id, "update", 0, body(), patient=patient)


def follower(id, name):
    return Put("Provenance", id, "update", 0, body(), follow=name)


def organization(id, **members):
    return Put("Organization", id, "update", 0, body(), **members)


def names(rows):
    return [f"{one.type}/{one.id}" for one in rows]


async def whole(reader, home, *, limit, **filters):
    """The record, page by page."""
    found, after = [], None
    while True:
        rows = await reader.record(home, "p1", after=after, limit=limit, **filters)
        found += rows
        if len(rows) < limit:
            return found
        after = (rows[-1].type, rows[-1].rid)


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_it_is_all_that_names_the_patient_and_each_resource_once(play, limit):
    async def scenario(store):
        same = (b"k" * 16, 1)
        await store.commit(change(patient("p1", same), patient("p2", same)))
        await store.commit(
            change(
                observation("o1", "p1"),
                observation("o2", "p1"),
                observation("o3", "p2"),
                observation("o4", None),
                condition("c1", "p1"),
                follower("f1", "Observation/o1"),
                organization("h1"),
            )
        )
        await store.commit(change(delete("Observation", "o2"), journal=[event("a1", home=1)]))
        async with store.snapshot(Access()) as reader:
            home = await reader.home("Patient", "p1")
            assert home == await reader.home("Patient", "p2")
            return await whole(reader, home, limit=limit)

    found = play(scenario)
    assert sorted(names(found)) == ["Condition/c1", "Observation/o1", "Patient/p1", "Provenance/f1"]


def test_types_and_time_of_storage_are_filters(play, clock):
    async def scenario(store):
        await store.commit(change(patient("p1"), observation("o1", "p1"), condition("c1", "p1")))
        clock.time += 1_000_000
        later = await store.commit(change(observation("o2", "p1"), condition("c1", "p1")))
        async with store.snapshot(Access()) as reader:
            home = await reader.home("Patient", "p1")
            return [
                sorted(names(await whole(reader, home, limit=9, **filters)))
                for filters in (
                    {"types": ["Observation"]},
                    {"since": later.updated},
                    {"types": ["Organization"]},
                )
            ]

    assert play(scenario) == [
        ["Observation/o1", "Observation/o2"], ["Condition/c1", "Observation/o2"], [],
    ]  # fmt: skip


def test_dates_leave_out_what_lies_wholly_outside(play):
    async def scenario(store):
        await store.commit(
            change(
                patient("p1"),
                dated("early", 10, 19),
                dated("across", 15, 25),
                dated("inside", 22, 23),
                dated("late", 31, 40),
                observation("undated", "p1"),
            )
        )

        async def within(low, high):
            dates = Dates((BEGINS,), (ENDS,), low, high)
            rows = await whole(reader, home, limit=9, types=["Observation"], dates=dates)
            return {one.id for one in rows}

        async with store.snapshot(Access()) as reader:
            home = await reader.home("Patient", "p1")
            return [await within(20, 30), await within(20, None), await within(None, 19)]

    assert play(scenario) == [
        {"across", "inside", "undated"},
        {"across", "inside", "late", "undated"},
        {"early", "across", "undated"},
    ]


OURS, THEIRS = 11, 22


@pytest.mark.parametrize(
    ("access", "visible"),
    [
        (Access(), {"open", "ours", "theirs"}),
        (Access(owners=frozenset({OURS})), {"open", "ours"}),
        (Access(max_class=RESTRICTED, owners=frozenset({THEIRS})), {"open", "theirs"}),
        (Access(max_class=RESTRICTED), {"open", "ours", "theirs", "secret"}),
    ],
)
def test_record_and_what_is_shared_show_what_the_access_says(play, access, visible):
    rows = {"open": (0, 0), "ours": (OURS, 0), "theirs": (THEIRS, 0), "secret": (OURS, 1)}

    async def scenario(store):
        puts = [patient("p1")]
        for id, (owner, grade) in rows.items():
            puts.append(observation(id, "p1", owner=owner, sensitivity=grade))
            puts.append(organization(id, owner=owner, sensitivity=grade))
        await store.commit(change(*puts))
        async with store.snapshot(access) as reader:
            record = await whole(reader, 1, limit=2, types=["Observation"])
            shared = await reader.shared([("Organization", id) for id in rows])
            return {one.id for one in record}, {one.id for one in shared}

    assert play(scenario) == (visible, visible)


def test_shared_is_what_stands_in_no_persons_home(play):
    async def scenario(store):
        await store.commit(
            change(
                patient("p1"),
                observation("o1", "p1"),
                observation("o2", None),
                organization("h2"),
                organization("h1"),
                Put("HealthcareService", "s1", "update", 0, body(), home=-7),
            )
        )
        await store.commit(change(organization("gone")))
        await store.commit(change(delete("Organization", "gone")))
        asked = [
            ("Patient", "p1"), ("Observation", "o1"), ("Observation", "o2"), ("Organization", "h2"),
            ("Organization", "h1"), ("Organization", "gone"), ("Organization", "never"),
            ("HealthcareService", "s1"),
        ]  # fmt: skip
        async with store.snapshot(Access()) as reader:
            return names(await reader.shared(asked)), await reader.shared([])

    assert play(scenario) == (
        ["HealthcareService/s1", "Observation/o2", "Organization/h1", "Organization/h2"], [],
    )  # fmt: skip
