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
    give,
    keep,
    persons,
    schedule,
    settle,
    slot,
    take,
)  # fmt: skip
from store_builders import change, event, patient

from fhir_gateway.errors import GatewayError
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.changes import Derived, Once, Put
from fhir_gateway.store.claim_rows import (
    Excuse,
    Fall,
    Give,
    Limits,
    QuotaRow,
    Take,
)  # fmt: skip
from fhir_gateway.store.slot_sql import quota_rows


async def rule_of(store, change_set):
    """The rule by which it is refused, "" when it is stored."""
    try:
        await store.commit(change_set)
    except GatewayError as error:
        return error.issues[0].rule
    return ""


async def begin(store, *slots: Put, people: int = 4) -> None:
    await store.commit(persons(people))
    await store.commit(change(schedule(), *slots))


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


def test_what_is_given_back_after_the_cut_off_goes_where_the_reserve_fell(play, clock, rows):
    async def scenario(store):
        cut = NOW + HOUR
        quotas = [QuotaRow("reserved", 2, 0, cut, "ordinary"), QuotaRow("ordinary", 0)]
        await store.commit(persons(3))
        puts = [slot(name, bucket=BUCKET) for name in "ab"]
        await store.commit(change(schedule(), *puts, claims=[settle(*quotas)]))
        busy = {name: slot(name, bucket=BUCKET, busy=True) for name in "ab"}
        for n, name in enumerate("ab"):
            await store.commit(take(name, f"x{n}", f"p{n}", channel="reserved", puts=[busy[name]]))
        await store.commit(give("x0", puts[0]))
        again = take("a", "y0", "p0", channel="reserved", puts=[busy["a"]])
        told = [await rule_of(store, again)]
        clock.time = cut
        await store.commit(give("x1", puts[1]))
        told.append(await rule_of(store, take("b", "z", "p2", channel="reserved")))
        told.append(await rule_of(store, take("b", "z", "p2", puts=[busy["b"]])))
        return told

    assert play(scenario) == ["", "channel-closed", ""]
    assert rows("SELECT cap, used FROM quota ORDER BY place") == [(1, 1), (1, 1)]


def test_quotas_follow_the_slots_and_never_fall_below_what_is_used(play, rows):
    async def scenario(store):
        quotas = [QuotaRow("reserved", 2), QuotaRow("ordinary", 1)]
        slots = [slot(name, bucket=BUCKET) for name in "abc"]
        await store.commit(persons(3))
        await store.commit(change(schedule(), *slots, claims=[settle(*quotas)]))
        for n, name in enumerate("ab"):
            busy = slot(name, bucket=BUCKET, busy=True)
            await store.commit(take(name, f"x{n}", f"p{n}", channel="reserved", puts=[busy]))
        caps = []

        async def step(change_set):
            rule = await rule_of(store, change_set)
            async with store.snapshot(SYSTEM_ACCESS) as reader:
                quotas = await reader.steps(lambda _: quota_rows(HOME, BUCKET))
            caps.append((rule, [(row.channel, row.cap, row.used) for row in quotas]))

        await step(change(slot("d", bucket=BUCKET, capacity=2)))
        await step(
            change(claims=[settle(QuotaRow("reserved", 1), QuotaRow("ordinary", 4), serial=2)])
        )
        await step(change(slot("d", bucket=BUCKET, capacity=2, open=False)))
        await step(change(claims=[settle(QuotaRow("ordinary", 3), serial=3)]))
        return caps

    assert play(scenario) == [
        ("", [("reserved", 2, 2), ("ordinary", 3, 0)]),
        ("", [("reserved", 2, 2), ("ordinary", 3, 0)]),
        ("", [("reserved", 2, 2), ("ordinary", 1, 0)]),
        ("", [("ordinary", 1, 0), ("reserved", 2, 2)]),
    ]


def test_a_person_is_at_one_place_at_a_time_in_all_homes(play):
    async def scenario(store):
        await begin(store, slot("a"), slot("b", NOW + DAY + HOUR // 2), slot("c", NOW + DAY + HOUR))
        twin = Derived(identity=[(b"key0", 1), (b"other", 1)])
        linked = Put("Patient", "q", "update", 0, b"}", patient="q", derived=twin)
        await store.commit(change(patient("q", (b"other", 1))))
        await store.commit(change(linked))
        await store.commit(take("a", "x", "p0", puts=[slot("a", busy=True)]))
        late = slot("c", NOW + DAY + HOUR, busy=True)
        return [
            await rule_of(store, take("b", "y", "q")),
            await rule_of(store, take("c", "z", "q", puts=[late])),
        ]

    assert play(scenario) == ["person-overlap", ""]


def test_limits_of_a_day_and_a_department(play, clock):
    async def scenario(store):
        starts = {
            "a": NOW + DAY,
            "b": NOW + DAY + HOUR,
            "c": NOW + DAY - 4 * HOUR,
            "e": NOW + 3 * DAY,
        }
        await begin(store, *(slot(name, start, capacity=5) for name, start in starts.items()))
        await store.commit(change(schedule("t", department="mri")))
        other = slot("d", NOW + DAY - 2 * HOUR, capacity=5, schedule="Schedule/t")
        await store.commit(change(other))
        limits = Limits(per_day=2, per_department_day=1)
        return [
            await rule_of(store, take(name, f"x{name}", "p0", limits=limits)) for name in "abdce"
        ]

    assert play(scenario) == ["", "person-limit", "", "person-limit", ""]


def test_who_missed_three_is_barred_for_three_months_unless_excused(play, clock):
    async def scenario(store):
        now = NOW + 200 * DAY
        starts = [now - 100 * DAY, now - 50 * DAY, now - 2 * DAY]
        slots = [slot(f"m{n}", start, capacity=2) for n, start in enumerate(starts)]
        await begin(store, *slots, slot("a", now + DAY, capacity=5))
        early = await rule_of(store, change(claims=[Give("Appointment/x", "noshow")]))
        for n in range(3):
            await store.commit(take(f"m{n}", f"m{n}", "p0"))
        early = [early, await rule_of(store, give("m0", state="noshow"))]
        clock.time = now
        for n in range(3):
            await store.commit(give(f"m{n}", state="noshow"))
        limits = Limits(no_shows=3, documented=True)
        told = [await rule_of(store, take("a", "x", "p0", limits=limits))]
        await store.commit(change(claims=[Excuse("Appointment/m1")]))
        told.append(await rule_of(store, take("a", "x", "p0", limits=limits)))
        await store.commit(change(patient("bare")))
        told.append(await rule_of(store, take("a", "y", "bare", limits=limits)))
        return early, told

    assert play(scenario) == (
        ["hold-unknown", "slot-not-begun"], ["person-barred", "", "person-unproved"],
    )  # fmt: skip


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


def test_a_plan_is_stored_at_once_with_all_that_it_follows(play, rows):
    async def scenario(store):
        service = Put("HealthcareService", "ct", "update", 0, b"}", home=HOME)
        plan, one = schedule(), slot("a", bucket=BUCKET)
        plan.home, plan.follow = 0, "HealthcareService/ct"
        one.home, one.follow = 0, "Schedule/s"
        await store.commit(change(service, plan, one, claims=[settle(QuotaRow("ordinary", 1))]))
        other = slot("b", NOW + 2 * DAY, bucket=BUCKET)
        other.home, other.follow = 0, "Schedule/s"
        return await rule_of(store, change(other))

    assert play(scenario) == ""
    assert rows("SELECT home, cap FROM quota") == [(HOME, 2)]
