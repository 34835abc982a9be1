"""Quotas that follow their Slots, and what one person may book, on each driver."""

from __future__ import annotations

from seat_world import (
    BUCKET,
    DAY,
    HOME,
    HOUR,
    NOW,
    begin,
    give,
    persons,
    rule_of,
    schedule,
    settle,
    slot,
    take,
)
from store_builders import change, patient

from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.changes import Derived, Put
from fhir_gateway.store.claim_rows import (
    Excuse,
    Give,
    Limits,
    QuotaRow,
)
from fhir_gateway.store.slot_sql import quota_rows


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
