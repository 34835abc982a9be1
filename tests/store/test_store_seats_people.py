"""Seats and who is who in one change set, and at one moment."""

from __future__ import annotations

from seat_world import BUCKET, appointment, begin, rule_of, settle, slot
from store_builders import change

from fhir_gateway.store.changes import Derived, Put
from fhir_gateway.store.claim_rows import QuotaRow, Take


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
