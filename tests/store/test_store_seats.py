"""Seats, quotas and persons: what a claim gets, and why it is refused, on each driver."""

from __future__ import annotations

import asyncio

import pytest
from seat_world import (
    BUCKET,
    DAY,
    HOME,
    HOUR,
    KIND,
    NOW,
    again,
    appointment,
    begin,
    give,
    keep,
    persons,
    rule_of,
    schedule,
    settle,
    slot,
    take,
)
from store_builders import change, event

from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.changes import Once, Put
from fhir_gateway.store.claim_rows import (
    Excuse,
    Fall,
    Give,
    QuotaRow,
    Take,
)


def test_a_seat_is_taken_once(play, rows):
    async def scenario(store):
        await begin(store, slot("a"))
        busy = slot("a", busy=True)
        first = await rule_of(store, take("a", "x", "p0", puts=[busy]))
        second = await rule_of(store, take("a", "y", "p1", puts=[busy]))
        return first, second

    assert play(scenario) == ("", "slot-full")
    assert rows("SELECT seat, state FROM seat") == [(1, "booked")]
    assert rows("SELECT id, state FROM booking") == [("x", "booked")]
    assert rows("SELECT count(*) FROM resource WHERE id = 'y'") == [(0,)]


def test_fault_75_of_64_takers_of_one_slot_one_wins(play, rows):
    async def scenario(store):
        await begin(store, slot("a"), people=64)
        busy = slot("a", busy=True)
        wanted = [take("a", f"x{n}", f"p{n}", puts=[busy]) for n in range(64)]
        return await asyncio.gather(*(rule_of(store, one) for one in wanted))

    told = play(scenario)
    assert sorted(told) == [""] + ["slot-full"] * 63
    assert rows("SELECT count(*) FROM seat") == [(1,)]


@pytest.mark.parametrize("capacity", [3, 5])
def test_fault_76_the_last_seat_of_a_quota(play, rows, capacity):
    async def scenario(store):
        slots = [slot(f"a{n}", bucket=BUCKET) for n in range(capacity)]
        await store.commit(persons(capacity + 1))
        quotas = [QuotaRow("reserved", 1), QuotaRow("ordinary", capacity - 1)]
        await store.commit(change(schedule(), *slots, claims=[settle(*quotas)]))
        wanted = [
            take(f"a{n}", f"x{n}", f"p{n}", puts=[slot(f"a{n}", bucket=BUCKET, busy=True)])
            for n in range(capacity)
        ]
        return await asyncio.gather(*(rule_of(store, one) for one in wanted))

    assert sorted(play(scenario)) == [""] * (capacity - 1) + ["quota-full"]
    assert rows("SELECT used, cap FROM quota WHERE channel = 'ordinary'") == [
        (capacity - 1, capacity - 1)
    ]


def test_fault_77_a_reserve_falls_at_its_cut_off_and_has_one_owner(play, clock, rows):
    async def scenario(store):
        cut = NOW + HOUR
        quotas = [QuotaRow("reserved", 1, 0, cut, "ordinary"), QuotaRow("ordinary", 0)]
        await store.commit(persons(3))
        puts = (schedule(), slot("a", bucket=BUCKET))
        await store.commit(change(*puts, claims=[settle(*quotas)]))
        busy = slot("a", bucket=BUCKET, busy=True)
        early = await rule_of(store, take("a", "w", "p0"))
        clock.time = cut
        fall = change(claims=[Fall(HOME, BUCKET, KIND, "reserved")])
        wanted = [
            take("a", "x", "p0", channel="reserved", puts=[busy]),
            take("a", "y", "p1", puts=[busy]),
        ]
        told = await asyncio.gather(*(rule_of(store, one) for one in (*wanted, fall, again(fall))))
        return early, told

    early, told = play(scenario)
    assert (early, told) == ("quota-full", ["channel-closed", "", "", ""])
    assert rows("SELECT channel, cap, used FROM quota ORDER BY place") == [
        ("reserved", 0, 0), ("ordinary", 1, 1),
    ]  # fmt: skip


def test_fault_78_a_hold_that_is_over_is_not_confirmed_and_stands_in_nobodys_way(play, clock, rows):
    async def scenario(store):
        await begin(store, slot("a"))
        busy = slot("a", busy=True)
        await store.commit(take("a", "x", "p0", hold=NOW + HOUR))
        told = [await rule_of(store, take("a", "y", "p1", puts=[busy]))]
        clock.time = NOW + HOUR - 1
        told.append(await rule_of(store, keep("x", hold=NOW + 2 * HOUR)))
        clock.time = NOW + 2 * HOUR
        told.append(await rule_of(store, keep("x", busy)))
        told.append(await rule_of(store, take("a", "y", "p1", puts=[busy])))
        told.append(await rule_of(store, keep("x", busy)))
        return told

    assert play(scenario) == ["slot-full", "", "hold-expired", "", "hold-expired"]
    assert rows("SELECT id, state FROM booking ORDER BY id") == [("x", "expired"), ("y", "booked")]


def test_a_hold_that_lives_is_confirmed(play, rows):
    async def scenario(store):
        await begin(store, slot("a"))
        await store.commit(take("a", "x", "p0", hold=NOW + HOUR))
        told = [await rule_of(store, keep("x"))]
        told.append(await rule_of(store, keep("x", slot("a", busy=True))))
        told.append(await rule_of(store, keep("x")))
        return told

    assert play(scenario) == ["slot-changed", "", "hold-unknown"]
    assert rows('SELECT state, "until" FROM seat') == [("booked", 0)]


def test_fault_79_a_seat_is_freed_once(play, clock, rows):
    async def scenario(store):
        await begin(store, slot("a"))
        busy, free = slot("a", busy=True), slot("a")
        await store.commit(take("a", "x", "p0", puts=[busy]))
        told = [await rule_of(store, give("x", free)), await rule_of(store, give("x", free))]
        told.append(await rule_of(store, take("a", "y", "p1", puts=[busy])))
        told.append(await rule_of(store, give("x", free)))  # it would say that y's seat is free
        told.append(await rule_of(store, give("x")))
        clock.time = NOW + 2 * DAY
        told.append(await rule_of(store, give("y", state="fulfilled")))
        told.append(await rule_of(store, give("y", free)))
        told.append(await rule_of(store, give("z")))
        return told

    assert play(scenario) == ["", "", "", "slot-changed", "", "", "booking-ended", "hold-unknown"]
    assert rows("SELECT count(*) FROM seat") == [(1,)]


def test_rebooking_keeps_the_old_where_the_new_is_full(play, rows):
    async def scenario(store):
        await begin(store, slot("a"), slot("b"), slot("c", NOW + 3 * DAY))
        busy = {name: slot(name, busy=True) for name in "ab"}
        await store.commit(take("a", "x", "p0", puts=[busy["a"]]))
        await store.commit(take("b", "y", "p1", puts=[busy["b"]]))

        def move(to, *puts):
            claims = [
                Take(f"Slot/{to}", "Appointment/n", "p0", "ordinary", instead_of="Appointment/x"),
                Give("Appointment/x"),
            ]
            return change(appointment("n", "p0"), *puts, claims=claims)

        alone = move("c")
        alone.claims.pop()
        told = [await rule_of(store, alone), await rule_of(store, move("b"))]
        kept = await rule_of(store, take("a", "z", "p2", puts=[busy["a"]]))
        last = slot("c", NOW + 3 * DAY, busy=True)
        told.append(await rule_of(store, move("c", last, slot("a"))))
        return [*told, kept, await rule_of(store, take("a", "z", "p2", puts=[busy["a"]]))]

    assert play(scenario) == ["rebook-alone", "slot-full", "", "slot-full", ""]


def test_an_appointment_moves_to_another_slot(play, rows):
    async def scenario(store):
        await begin(store, slot("a"), slot("b"))
        await store.commit(take("a", "x", "p0", puts=[slot("a", busy=True)]))
        puts = [slot("a"), slot("b", busy=True)]
        told = [await rule_of(store, take("b", "x", "p0", puts=puts))]
        moved = take("b", "x", "p0", puts=puts, instead_of="Appointment/x")
        return [*told, await rule_of(store, moved)]

    assert play(scenario) == ["appointment-seated", ""]
    assert rows("SELECT count(*) FROM seat") == [(1,)]


def test_an_appointment_whose_hold_is_over_moves_no_more_and_leaves_no_seat(play, clock, rows):
    async def scenario(store):
        await begin(store, slot("a"), slot("b"))
        await store.commit(take("a", "x", "p0", hold=NOW + HOUR))
        clock.time = NOW + HOUR
        puts = [slot("b", busy=True)]
        told = [await rule_of(store, take("b", "x", "p0", instead_of="Appointment/x", puts=puts))]
        told.append(await rule_of(store, take("b", "x", "p0", puts=puts)))  # anew, as who waits
        clock.time = NOW + 2 * DAY
        told.append(await rule_of(store, give("x", state="noshow")))
        await store.commit(change(slot("c", NOW + 3 * DAY)))
        return [*told, await rule_of(store, take("c", "x", "p0"))]

    assert play(scenario) == ["hold-expired", "", "", "booking-ended"]
    assert rows("SELECT count(*) FROM seat") == [(1,)]


def test_a_slot_that_is_taken_cannot_be_closed_moved_or_made_smaller(play, rows):
    async def scenario(store):
        await begin(store, slot("a", capacity=3))
        await store.commit(take("a", "x", "p0"))
        await store.commit(take("a", "y", "p1"))
        await store.commit(give("x"))
        told = []
        for put in (
            slot("a", capacity=0), slot("a", open=False, capacity=3), slot("a", NOW + 2 * DAY),
            Put("Slot", "a", "delete"), slot("a", capacity=1, busy=True),
        ):  # fmt: skip
            told.append(await rule_of(store, change(put)))
        closed = change(slot("a", open=False, capacity=1), claims=[Give("Appointment/y")])
        return [*told, await rule_of(store, closed), await rule_of(store, take("a", "z", "p2"))]

    assert play(scenario) == ["slot-taken"] * 4 + ["", "", "slot-closed"]


def test_a_slot_knows_its_seats_again_when_it_is_smaller(play, rows):
    async def scenario(store):
        await begin(store, slot("a", capacity=3))
        for n in range(3):
            put = [slot("a", capacity=3, busy=True)] if n == 2 else []
            await store.commit(take("a", f"x{n}", f"p{n}", puts=put))
        await store.commit(give("x0", slot("a", capacity=2, busy=True)))
        return await rule_of(store, take("a", "z", "p3"))

    assert play(scenario) == "slot-full"
    assert sorted(rows("SELECT seat FROM seat")) == [(1,), (2,)]


def test_refusals_that_say_what_would_work(play, clock):
    async def scenario(store):
        quotas = [
            QuotaRow("later", 1, NOW + HOUR, NOW + 2 * HOUR, "ordinary"), QuotaRow("ordinary", 0),
        ]  # fmt: skip
        await store.commit(persons(2))
        puts = (
            schedule(),
            slot("a", bucket=BUCKET),
            slot("old", NOW - HOUR),
            slot("n", bucket="q"),
        )
        await store.commit(change(*puts, claims=[settle(*quotas)]))
        return [
            await rule_of(store, one)
            for one in [
                take("none", "x", "p0"),
                take("old", "x", "p0"),
                take("a", "x", "p0", start=1, end=2),
                take("a", "x", "p0", channel="later"),
                take("a", "x", "p0", channel="green"),
                take("n", "x", "p0"),
                take("a", "x", "p0", hold=NOW),
                keep("x"),
                give("x"),
                change(claims=[Excuse("Appointment/x")]),
                change(claims=[settle(QuotaRow("a", 2), serial=2)]),
                change(claims=[settle(QuotaRow("a", 1), serial=0)]),
                change(claims=[settle(QuotaRow("a", 1, falls_to="b"), serial=2)]),
            ]
        ]

    assert play(scenario) == [
        "slot-unknown", "slot-past", "slot-changed", "channel-not-open", "channel-closed",
        "channel-closed", "hold-expired", "hold-unknown", "hold-unknown", "hold-unknown",
        "quota-capacity", "quota-stale", "quota-rows",
    ]  # fmt: skip


def test_fault_80_a_refusal_is_judged_anew_and_an_acceptance_repeated(play):
    async def scenario(store):
        await begin(store, slot("a"))
        busy = slot("a", busy=True)
        await store.commit(take("a", "x", "p0", puts=[busy]))
        wanted = take("a", "y", "p1", puts=[busy])
        wanted.once, wanted.refusal = Once("booking", b"k", b"yes"), event("refused")
        told = [await rule_of(store, wanted), await rule_of(store, wanted)]
        await store.commit(give("x", slot("a")))
        told.append(await rule_of(store, wanted))  # the same request: the outcome it had
        first = await store.commit(again(wanted))
        second = await store.commit(again(wanted))
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            audited = await reader.read("AuditEvent", "refused")
        return told, first.repeated, second.repeated, second.response, audited is not None

    assert play(scenario) == (["slot-full"] * 3, False, True, b"yes", True)


def test_claims_of_one_change_set_see_each_other(play):
    async def scenario(store):
        await begin(store, slot("a"))
        claims = [Take("Slot/a", f"Appointment/{n}", f"p{n}", "ordinary") for n in range(2)]
        both = change(appointment("0", "p0"), appointment("1", "p1"), claims=claims)
        return await rule_of(store, both)

    assert play(scenario) == "slot-full"


def test_a_slot_that_its_hospital_calls_busy_is_not_sold(play):
    async def scenario(store):
        await begin(store, slot("a", busy=True), slot("b"))
        told = [await rule_of(store, take("a", "x", "p0", puts=[slot("a", busy=True)]))]
        await store.commit(take("b", "y", "p1", puts=[slot("b", busy=True)]))
        claims = [
            Give("Appointment/y"), Take("Slot/b", "Appointment/z", "p2", "ordinary"),
        ]  # fmt: skip
        swap = change(appointment("z", "p2"), slot("b", busy=True), claims=claims)
        return [*told, await rule_of(store, swap)]

    assert play(scenario) == ["slot-full", ""]
