"""Seats and who is who in one change set, and at one moment."""

from __future__ import annotations

from seat_world import (
    BUCKET,
    HOUR,
    NOW,
    again,
    appointment,
    begin,
    keep,
    rule_of,
    settle,
    slot,
    take,
)
from store_builders import change

from fhir_gateway.store.changes import Derived, Put
from fhir_gateway.store.claim_rows import Keep, QuotaRow, Take


def linkage(id, one, other, *, active=True):
    """A Linkage that says that two Patients are one person."""
    pairs = [(one, other, "linkage")] if active else []
    return Put("Linkage", id, "update", 0, b'},"active":%d}' % active, patient=one,
               derived=Derived(aliases=pairs))  # fmt: skip


def test_a_change_set_that_is_refused_for_its_link_leaves_no_seat(play, rows):
    """What judges who is who comes after what judges seats: nothing is gathered before both."""

    async def scenario(store):
        await begin(store, slot("a", capacity=2, bucket=BUCKET))
        await store.commit(change(claims=[settle(QuotaRow("ordinary", 2))]))
        claims = [Take("Slot/a", "Appointment/x", "p0", "ordinary")]
        more = [settle(QuotaRow("ordinary", 5), serial=2)]
        wider = slot("a", capacity=5, bucket=BUCKET)
        return [
            await rule_of(store, change(appointment("x", "p0"), linkage("l", "p0", "nobody"),
                                        claims=claims)),
            await rule_of(store, change(wider, linkage("l", "p0", "nobody"), claims=more)),
        ]  # fmt: skip

    assert play(scenario) == ["link-patient-unknown"] * 2
    assert rows("SELECT count(*) FROM seat") == rows("SELECT count(*) FROM booking") == [(0,)]
    assert rows("SELECT cap, used FROM quota") == [(2, 0)]
    assert rows("SELECT capacity FROM slot_row") == [(2,)]


def test_a_hold_is_not_booked_for_who_is_elsewhere_by_now(play):
    """Two Patients become one person while both have a seat at one time: one hold, one booking."""

    async def scenario(store):
        await begin(store, slot("a"), slot("b"))
        until = NOW + HOUR
        await store.commit(take("a", "x", "p0", hold=until))
        await store.commit(take("b", "y", "p1", puts=[slot("b", busy=True)]))
        await store.commit(change(linkage("l", "p0", "p1")))
        booking = change(slot("a", busy=True), claims=[Keep("Appointment/x", patient="p0")])
        apart = change(linkage("l", "p0", "p1", active=False))
        return [
            await rule_of(store, booking),
            await rule_of(store, keep("x", hold=until + HOUR)),
            await rule_of(store, apart),
            await rule_of(store, again(booking)),
        ]

    assert play(scenario) == ["person-overlap", "", "", ""]


def test_a_plan_of_before_a_cut_off_has_fallen_when_it_is_stored_after_it(play, clock, rows):
    async def scenario(store):
        await begin(store, slot("a", capacity=4, bucket=BUCKET))
        clock.time += HOUR
        early = QuotaRow("reserved", 3, 0, clock.time, "ordinary")
        await store.commit(change(claims=[settle(early, QuotaRow("ordinary", 1))]))

    play(scenario)
    assert rows("SELECT channel, cap FROM quota ORDER BY place") == [
        ("reserved", 0), ("ordinary", 4),
    ]  # fmt: skip
