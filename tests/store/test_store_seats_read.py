"""Which Slots are found, how they stand, and why one cannot be booked, on each driver."""

from __future__ import annotations

import random

import pytest
from click.testing import CliRunner
from databases import Databases, need_postgres
from seat_world import (
    BUCKET,
    DAY,
    HOME,
    HOUR,
    KIND,
    NOW,
    give,
    keep,
    persons,
    schedule,
    settle,
    slot,
    take,
)
from store_builders import change

from fhir_gateway.cli.copy import command
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store import seat_sql, slot_sql
from fhir_gateway.store.changes import Derived, Put, Reindex
from fhir_gateway.store.claim_rows import Fall, Limits, QuotaRow
from fhir_gateway.store.slot_sql import Wish

WEEK = Wish(NOW, NOW + 7 * DAY)


async def read(store, make):
    async with store.snapshot(SYSTEM_ACCESS) as reader:
        return await reader.steps(make)


async def found(store, clock, wish=WEEK, **page):
    page = {"limit": 50, **page}
    return await read(
        store, lambda seen: slot_sql.find_slots(seen.dialect, wish, now=clock.time, **page)
    )


def ids(page):
    return [one.id for one in page.slots]


def test_only_free_slots_of_open_channels_are_found(play, clock):
    async def scenario(store):
        await store.commit(persons(4))
        names = "abcdef"
        slots = [slot(name, NOW + DAY + n * HOUR, bucket=BUCKET) for n, name in enumerate(names)]
        rest = [
            slot("x", NOW + DAY - HOUR), slot("closed", NOW + DAY, open=False),
            slot("past", NOW - HOUR), slot("late", NOW + 8 * DAY),
        ]  # fmt: skip
        cut = NOW + 2 * HOUR
        quotas = settle(
            QuotaRow("early", 1, NOW + HOUR), QuotaRow("reserved", 3, 0, cut, "ordinary"),
            QuotaRow("ordinary", 2),
        )  # fmt: skip
        await store.commit(change(schedule(), *slots, *rest, claims=[quotas]))
        told = [ids(await found(store, clock))]
        busy = {name: slot(name, slots[n].derived.slots[0].start, bucket=BUCKET, busy=True)
                for n, name in enumerate(names)}  # fmt: skip
        await store.commit(take("a", "a", "p0", puts=[busy["a"]]))
        await store.commit(take("b", "b", "p1", hold=NOW + HOUR))
        ordinary = WEEK._replace(channels=("ordinary",))
        told.append(ids(await found(store, clock)))
        told.append(ids(await found(store, clock, ordinary)))
        clock.time = NOW + HOUR  # the hold is over, the first channel opens
        told.append(ids(await found(store, clock, ordinary)))
        page = await found(store, clock, limit=2)
        channels = page.slots[1].channels
        clock.time = cut  # the reserve has to fall
        await store.commit(take("b", "c", "p2", puts=[busy["b"]]))
        told.append(ids(await found(store, clock, ordinary)))
        await store.commit(change(claims=[Fall(HOME, BUCKET, KIND, "reserved")]))
        told.append(ids(await found(store, clock, ordinary)))
        return told, (page.total, page.more), channels

    told, page, channels = play(scenario)
    assert told == [
        ["x", "a", "b", "c", "d", "e", "f"],
        ["x", "c", "d", "e", "f"], ["x"], ["x", "b", "c", "d", "e", "f"],
        ["x", "c", "d", "e", "f"], ["x", "c", "d", "e", "f"],
    ]  # fmt: skip
    assert page == (6, True)
    assert channels == ("early", "reserved", "ordinary")


def test_wishes_narrow_what_is_found(play, clock):
    async def scenario(store):
        await store.commit(change(
            schedule(), schedule("t", items=["I002"], district="110105", services=["mri"],
                                 department="mri", master="hospital", practitioner="dr"),
            schedule("u", active=False),
        ))  # fmt: skip
        await store.commit(change(
            slot("a", NOW + DAY), slot("b", NOW + 2 * DAY, kind="expert", items=["I001", "I003"]),
            slot("c", NOW + 3 * DAY, schedule="Schedule/t", items=["I002"]),
            slot("d", NOW + DAY, schedule="Schedule/u"),
        ))  # fmt: skip
        wishes = (
            {}, {"items": ["I001"]}, {"items": ["I003", "I002", "I001"]}, {"items": ["I009"]},
            {"kinds": ["expert"]}, {"districts": ["110105"]}, {"schedules": ["t"]},
            {"services": ["mri", "x"]}, {"departments": ["ct"]}, {"practitioners": ["dr"]},
            {"masters": ["gateway", "allotment"]}, {"homes": [HOME]}, {"homes": [-9]},
            {"end": NOW + DAY}, {"start": NOW + 2 * DAY},
        )  # fmt: skip
        told = []
        for wish in wishes:
            page = await found(store, clock, WEEK._replace(**wish))
            assert page.total == len(page.slots)
            told.append("".join(ids(page)))
        one = (await found(store, clock, WEEK._replace(schedules=("t",)))).slots[0]
        return told, one[1:5] + one[6:]

    told, one = play(scenario)
    assert told == [
        "abc", "ab", "abc", "", "b", "c", "c", "c", "ab", "c", "ab", "abc", "", "", "bc",
    ]  # fmt: skip
    assert one == (
        "c", NOW + 3 * DAY + HOUR, 1, KIND, ("I002",), "t", "hospital", "mri", "110105", "dr",
        "room-1", (),
    )  # fmt: skip


def test_pages_follow_each_other_without_gap_or_repeat(play, clock):
    async def scenario(store):
        chance = random.Random(3)
        slots = [slot(f"s{n}", NOW + chance.randint(1, 5) * HOUR) for n in range(37)]
        await store.commit(change(schedule(), *slots))
        told, after = [], None
        while True:
            page = await found(store, clock, limit=5, after=after)
            assert page.total == 37
            told += page.slots
            if not page.more:
                return told
            after = page.slots[-1].place

    told = play(scenario)
    assert len({one.id for one in told}) == 37
    assert [one.place for one in told] == sorted(one.place for one in told)


def test_how_a_slot_stands_and_who_has_its_seats(play, clock):
    async def scenario(store):
        await store.commit(persons(3))
        quotas = settle(QuotaRow("later", 1, NOW + 3 * HOUR), QuotaRow("ordinary", 2, 0, NOW + DAY))
        a = slot("a", bucket=BUCKET, capacity=3)
        await store.commit(change(schedule(), a, claims=[quotas]))
        await store.commit(take("a", "x", "p0"))
        await store.commit(take("a", "y", "p1", hold=NOW + HOUR))
        standing = await read(store, lambda _: seat_sql.slot_state("a"))
        seated = await read(store, lambda _: seat_sql.seats_of(HOME, slot="Slot/a"))
        of_schedule = await read(store, lambda _: seat_sql.seats_of(
            HOME, schedule="Schedule/s", start=NOW, end=NOW + 2 * DAY))  # fmt: skip
        none = await read(store, lambda _: seat_sql.slot_state("none"))
        clock.time = NOW + HOUR
        lapsed = await read(store, lambda _: seat_sql.expired_holds(clock.time, 10))
        await store.commit(give("y"))
        after = await read(store, lambda _: seat_sql.expired_holds(clock.time, 10))
        home = seated[0].seat.person
        mine = await read(store, lambda seen: seat_sql.bookings_of(seen.dialect, [home]))
        one = await read(store, lambda _: seat_sql.booking_of(home, "Appointment/x"))
        due = await read(store, lambda _: slot_sql.due_falls(NOW + 2 * DAY, 5))
        capacity = await read(store, lambda _: slot_sql.capacities(HOME, BUCKET))
        plan = await read(store, lambda seen: slot_sql.schedule(seen.dialect, "s"))
        assert of_schedule == seated and none is None and mine == [one]
        assert (due, capacity, plan.department) == ([], {KIND: 3}, "ct")
        states = [(one.seat.seat, one.seat.state, one.booking.id) for one in seated]
        return (
            standing.free(NOW), standing.free(NOW + HOUR), standing.next_release(NOW), states,
            [one.id for one in lapsed], after,
        )  # fmt: skip

    assert play(scenario) == (
        1, 2, NOW + 3 * HOUR, [(1, "booked", "x"), (2, "held", "y")], ["y"], [],
    )  # fmt: skip


def test_every_reason_that_holds_is_told(play, clock):
    async def scenario(store):
        await store.commit(persons(3))
        quotas = settle(
            QuotaRow("later", 0, NOW + 3 * HOUR),
            QuotaRow("ordinary", 1),
            QuotaRow("out", 0, 0, NOW),
        )
        puts = [slot("a", bucket=BUCKET), slot("b", NOW + DAY + HOUR // 2)]
        await store.commit(change(schedule(), *puts, claims=[quotas]))
        await store.commit(take("b", "z", "p0", puts=[slot("b", NOW + DAY + HOUR // 2, busy=True)]))
        home = (await read(store, lambda _: seat_sql.seats_of(HOME, slot="Slot/b")))[0].seat.person

        async def why(id="a", channel="ordinary", **more):
            return await read(store, lambda seen: seat_sql.why_not(
                seen.dialect, id, channel, now=clock.time, **more))  # fmt: skip

        limits = Limits(per_day=1)
        told = [
            await why(), await why(homes=[home], limits=limits), await why("none"),
            await why(channel="later"), await why(channel="green"), await why(channel="out"),
        ]  # fmt: skip
        await store.commit(take("a", "x", "p1", puts=[slot("a", bucket=BUCKET, busy=True)]))
        told.append(await why())
        clock.time = NOW + 2 * DAY
        told.append(await why())
        return told

    assert play(scenario) == [
        [], ["person-overlap", "person-limit"], ["slot-unknown"],
        ["channel-not-open", "quota-full"], ["channel-closed"], ["channel-closed"],
        ["slot-full", "quota-full"], ["slot-past", "slot-full", "quota-full"],
    ]  # fmt: skip


@pytest.mark.parametrize("what", ["slot", "schedule"])
def test_what_is_deleted_is_not_found(play, clock, rows, what):
    async def scenario(store):
        await store.commit(change(schedule(), slot("a")))
        gone = [Put("Slot", "a", "delete")]
        if what == "schedule":
            gone.append(Put("Schedule", "s", "delete", derived=Derived()))
        await store.commit(change(*gone))
        return ids(await found(store, clock))

    assert play(scenario) == []
    assert rows("SELECT count(*) FROM slot_item") == [(0,)]
    assert rows("SELECT count(*) FROM schedule_row") == [(int(what == "slot"),)]


def test_a_hold_that_is_over_does_not_hide_its_slot(play, clock):
    async def scenario(store):
        await store.commit(persons(2))
        await store.commit(change(schedule(), slot("a", capacity=2)))
        await store.commit(take("a", "x", "p0", hold=NOW + HOUR))
        await store.commit(take("a", "y", "p1", hold=NOW + 2 * HOUR))
        told = [ids(await found(store, clock))]
        clock.time = NOW + HOUR
        told.append(ids(await found(store, clock)))
        await store.commit(keep("y", hold=NOW + 3 * HOUR))
        told.append(ids(await found(store, clock)))
        return told

    assert play(scenario) == [[], ["a"], ["a"]]


def test_what_is_derived_again_is_found_by_what_it_is_now(play, clock, rows):
    async def scenario(store):
        await store.commit(persons(1))
        await store.commit(change(schedule(), slot("a"), slot("b")))
        await store.commit(take("b", "x", "p0", puts=[slot("b", busy=True)]))
        other = slot("a", items=["I007"], bucket=BUCKET).derived
        moved = slot("b", NOW + 5 * DAY, busy=True).derived
        plan = schedule(department="other").derived
        turned = [Reindex("Slot", "a", 1, other), Reindex("Slot", "b", 2, moved),
                  Reindex("Schedule", "s", 1, plan)]  # fmt: skip
        await store.commit(change(reindex=turned))
        page = await found(store, clock, WEEK._replace(items=("I007",)))
        standing = await read(store, lambda _: seat_sql.slot_state("b"))
        return ids(page), standing.slot.start, standing.department

    assert play(scenario) == ([], NOW + DAY, "other")  # no quota yet; what is taken stays
    assert rows("SELECT bucket FROM slot_row ORDER BY bucket") == [("",), (BUCKET,)]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_copy_of_a_store_has_its_seats_and_quotas(play, database, tmp_path, kind):
    if kind == "postgresql":
        need_postgres()

    async def scenario(store):
        await store.commit(persons(2))
        a = slot("a", bucket=BUCKET, capacity=2)
        await store.commit(change(schedule(), a, claims=[settle(QuotaRow("ordinary", 2))]))
        await store.commit(take("a", "x", "p0"))
        await store.commit(take("a", "y", "p1", hold=NOW + HOUR))

    play(scenario)
    (tmp_path / "target").mkdir()
    target = Databases(kind, tmp_path / "target")
    try:
        words = ["--from", database.url(), "--to", target.url(), "--json"]
        done = CliRunner().invoke(command, words)
        assert done.exit_code == 0, done.output
        for table in ("schedule_row", "slot_row", "slot_item", "seat", "quota", "booking"):
            there = target.rows(f"SELECT * FROM {table}")
            assert sorted(there) == sorted(database.rows(f"SELECT * FROM {table}"))
            assert there
    finally:
        target.close()
