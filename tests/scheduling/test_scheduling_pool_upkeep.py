"""What goes on by itself: holds that are over, deadlines of hospitals, offers of waiting lists."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from databases import Databases
from pool_world import DAY, HOUR, ITEM, MINUTE, Clock, Pool, PoolRunning

from fhir_gateway.errors import Conflict, GatewayError
from fhir_gateway.interactions.jobs import work_once
from fhir_gateway.rest.later import WORKS
from fhir_gateway.scheduling import pool_job
from fhir_gateway.scheduling.appointment import PROFILE
from fhir_gateway.scheduling.book import BookRequest, HoldRequest, book, cancel, hold
from fhir_gateway.scheduling.move import rebook
from fhir_gateway.scheduling.seat_commit import Asked
from fhir_gateway.scheduling.supply_change import WITHDRAWN, Affected
from fhir_gateway.scheduling.tidy import tidy
from fhir_gateway.scheduling.visit import take_step
from fhir_gateway.scheduling.waitlist import WaitRequest, decline, wait
from fhir_gateway.scheduling.waitlist_entry import waiting_of
from fhir_gateway.scheduling.waitlist_offers import offer
from fhir_gateway.scheduling.withdrawal import tell_affected
from fhir_gateway.security.actor import GATEWAY
from fhir_gateway.store import jobs
from fhir_gateway.store.claim_rows import QuotaRow, Settle


@pytest.fixture(scope="module")
def running(shared_database: Databases) -> Iterator[PoolRunning]:
    one = PoolRunning(shared_database.url("upkeep"))
    yield one
    one.close()


def seat(pool: Pool, slot: str, person: str, **more: Any) -> HoldRequest:
    return HoldRequest(f"{pool.name}-{slot}", person, channel="ordinary",
                       institution=pool.clinic, **more)  # fmt: skip


def held(pool: Pool, slot: str, person: str) -> str:
    id: str = pool.run(hold(pool.gateway, GATEWAY, seat(pool, slot, person))).id
    return id


def booked(pool: Pool, slot: str, person: str) -> str:
    request = BookRequest(take=seat(pool, slot, person))
    id: str = pool.run(book(pool.gateway, GATEWAY, request)).id
    return id


def outcomes(found: list[Any]) -> list[tuple[str, str]]:
    return [(one.appointment, one.outcome) for one in found]


def offered(pool: Pool, entry: str) -> str:
    """The Slot that is offered to an entry, "" for none."""
    waiting = waiting_of(pool.read("Appointment", entry), "Asia/Shanghai")
    return waiting.offered if waiting is not None else ""


def tasks(pool: Pool, appointment: str) -> list[tuple[str, str]]:
    """(kind, status) of the Tasks about an appointment, as the clinic finds them."""
    found = pool.found(f"Task?focus=Appointment/{appointment}")
    return [(one["code"]["coding"][0]["code"], one["status"]) for one in found]


def test_a_hold_that_is_over_is_cancelled_with_its_reason_once(running: PoolRunning) -> None:
    pool = Pool(running, "over")
    pool.supply("a", "b")
    first, second = (held(pool, one, pool.person()) for one in "ab")
    assert pool.all(tidy(pool.gateway)) == []
    pool.clock.time += 11 * MINUTE
    assert [one for _, one in outcomes(pool.all(tidy(pool.gateway, dry_run=True)))] == [
        "hold-over", "hold-over"
    ]  # fmt: skip
    assert pool.first(tidy(pool.gateway)).outcome == "hold-over"
    statuses = sorted(pool.read("Appointment", one)["status"] for one in (first, second))
    assert statuses == ["cancelled", "pending"]
    assert len(pool.all(tidy(pool.gateway))) == 1
    assert pool.all(tidy(pool.gateway)) == []
    appointment = pool.read("Appointment", first)
    assert appointment["status"] == "cancelled"
    assert "占位已过期" in appointment["cancelationReason"]["text"]
    assert (pool.quotas()["ordinary"], pool.faults()) == ((2, 0), [])


def test_a_booking_that_comes_first_wins_against_tidying(
    running: PoolRunning, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever tidies has a clock that is ahead; the booking comes between reading and storing."""
    pool = Pool(running, "race")
    pool.supply("a")
    id = held(pool, "a", pool.person())
    pool.clock.time += 9 * MINUTE
    ahead = replace(pool.gateway, clock=Clock(pool.clock.time + 2 * MINUTE))
    store, commit = pool.gateway.store, pool.gateway.store.commit

    async def slow(change_set: Any) -> Any:
        monkeypatch.setattr(store, "commit", commit)
        await book(pool.gateway, GATEWAY, BookRequest(hold=id))
        return await commit(change_set)

    monkeypatch.setattr(store, "commit", slow)
    assert outcomes(pool.all(tidy(ahead))) == [(id, "overtaken")]
    pool.clock.time += 2 * MINUTE
    assert pool.read("Appointment", id)["status"] == "booked"
    assert pool.all(tidy(pool.gateway)) == []
    assert pool.faults() == []


def test_what_no_hospital_confirms_is_released_and_said(running: PoolRunning) -> None:
    pool = Pool(running, "asked")
    pool.supply("a", master="hospital")
    id = booked(pool, "a", pool.person())
    assert pool.read("Appointment", id)["status"] == "pending"
    pool.clock.time += 121 * MINUTE
    assert outcomes(pool.all(tidy(pool.gateway))) == [(id, "unconfirmed")]
    assert pool.read("Appointment", id)["status"] == "cancelled"
    assert tasks(pool, id) == [("booking-released", "requested")]
    assert pool.all(tidy(pool.gateway)) == []
    assert (pool.quotas()["ordinary"], pool.faults()) == ((1, 0), [])


def waits(pool: Pool, person: str, **more: Any) -> str:
    request = WaitRequest(
        person, f"{pool.name}-ct", (ITEM,), pool.start - DAY, pool.start + DAY, **more
    )
    id: str = pool.run(wait(pool.gateway, GATEWAY, request)).id
    return id


def order(pool: Pool, person: str, priority: str) -> str:
    id = f"order-{person}"
    pool.store({
        "resourceType": "ServiceRequest", "id": id, "status": "active", "intent": "order",
        "priority": priority, "subject": {"reference": f"Patient/{person}"},
    }, institution=pool.clinic)  # fmt: skip
    return f"ServiceRequest/{id}"


def test_who_waits_is_served_by_urgency_then_age_and_takes_it_by_booking(
    running: PoolRunning,
) -> None:
    pool = Pool(running, "queue")
    pool.supply("a")
    taken = booked(pool, "a", pool.person())
    people = [pool.person() for _ in range(3)]
    entries = []
    for person, priority in zip(people, ("routine", "routine", "urgent"), strict=True):
        entries.append(waits(pool, person, based_on=(order(pool, person, priority),)))
        pool.clock.time += 1
    assert pool.read("Appointment", entries[0])["status"] == "waitlist"
    assert outcomes(pool.all(offer(pool.gateway))) == [
        (entries[2], "nothing-free"), (entries[0], "nothing-free"), (entries[1], "nothing-free"),
    ]  # fmt: skip
    with pytest.raises(Conflict, match="waits for this already"):
        waits(pool, people[0])
    pool.run(cancel(pool.gateway, GATEWAY, taken))  # offered in the same commit
    assert [offered(pool, one) for one in entries] == ["", "", f"{pool.name}-a"]
    assert tasks(pool, entries[2]) == [("waitlist-offered", "requested")]
    assert {one for _, one in outcomes(pool.all(offer(pool.gateway)))} == {"nothing-free"}

    pool.run(decline(pool.gateway, GATEWAY, entries[2]))
    assert pool.read("Appointment", entries[2])["status"] == "waitlist"
    assert [offered(pool, one) for one in entries] == [f"{pool.name}-a", "", ""]
    assert {one for _, one in outcomes(pool.all(offer(pool.gateway)))} == {"nothing-free"}
    pool.clock.time += 31 * MINUTE  # nobody answers
    assert outcomes(pool.all(tidy(pool.gateway))) == [(entries[0], "offer-over")]
    assert outcomes(pool.all(offer(pool.gateway)))[-1] == (entries[1], "offered")

    for entry in (entries[0], entries[2]):
        pool.run(cancel(pool.gateway, GATEWAY, entry))
    done = pool.run(book(pool.gateway, GATEWAY, BookRequest(hold=entries[1])))
    assert (done.id, done.status) == (entries[1], "booked")
    after = pool.read("Appointment", entries[1])
    assert after["slot"] == [{"reference": f"Slot/{pool.name}-a"}]
    assert not any("waitlist-offer" in one["url"] for one in after["extension"])
    assert pool.read("Slot", f"{pool.name}-a")["status"] == "busy"
    with pytest.raises(GatewayError):
        pool.run(decline(pool.gateway, GATEWAY, entries[1]))
    assert (pool.quotas()["ordinary"], pool.faults()) == ((1, 1), [])


def test_offers_stay_within_the_quota_and_end_with_the_days_that_were_asked_for(
    running: PoolRunning,
) -> None:
    pool = Pool(running, "quota")
    pool.supply("a", "b", caps={"grassroots-referral": 1, "ordinary": 1})
    entries = [waits(pool, pool.person()) for _ in range(2)]
    assert sorted(one.outcome for one in pool.all(offer(pool.gateway))) == [
        "nothing-free", "offered"
    ]  # fmt: skip
    assert pool.quotas() == {"grassroots-referral": (1, 0), "ordinary": (1, 1)}
    pool.clock.time = pool.start + DAY
    pool.all(tidy(pool.gateway))
    assert "days-over" in {one.outcome for one in pool.all(offer(pool.gateway))}
    assert {pool.read("Appointment", one)["status"] for one in entries} == {"cancelled"}
    assert pool.faults() == []


def test_the_worker_does_all_of_it_and_makes_no_job_when_nothing_is_due(
    running: PoolRunning,
) -> None:
    pool = Pool(running, "job")
    caps = {"grassroots-referral": 1, "ordinary": 1}
    pool.supply("a", "b", caps=caps, closes=pool.start - 6 * DAY)
    first = held(pool, "a", pool.person())
    timer = pool_job.Timer(pool.gateway)
    pool.run(timer.look())
    assert not pool.run(work_once(pool.gateway, WORKS))
    entry = waits(pool, pool.person())
    pool.clock.time = pool.start - 6 * DAY + HOUR
    pool.run(timer.look())
    pool.run(timer.look())
    assert pool.run(work_once(pool.gateway, WORKS))
    assert not pool.run(work_once(pool.gateway, WORKS))
    found = pool.run(jobs.find_all(pool.gateway.store, kind=pool_job.KIND, limit=1))
    assert found[0].state == "done"
    assert {"1 hold-over", "1 fell", "1 offered"} <= set(found[0].progress.split(", "))
    assert pool.read("Appointment", first)["status"] == "cancelled"
    assert pool.read("Appointment", entry)["status"] == "waitlist"
    assert pool.faults() == []


def test_offers_that_nobody_answers_end_an_entry(running: PoolRunning) -> None:
    pool = Pool(running, "silent")
    pool.supply("a", "b", "c", "d")
    entry = waits(pool, pool.person())
    slots = []
    for _ in range(3):
        slots += [one.slot for one in pool.all(offer(pool.gateway)) if one.appointment == entry]
        pool.clock.time += 31 * MINUTE
        pool.all(tidy(pool.gateway))
    assert slots == [f"{pool.name}-{one}" for one in "abc"]
    ended = pool.read("Appointment", entry)
    assert (ended["status"], len(ended["supportingInformation"])) == ("cancelled", 3)
    assert ended["meta"]["profile"] == [PROFILE]
    answer = running.post("/fhir/Appointment/$validate", ended, headers=pool.tokens[pool.clinic])
    assert [one for one in answer.json()["issue"] if one["severity"] == "error"] == []
    assert [one for one in pool.all(offer(pool.gateway)) if one.appointment == entry] == []
    assert {status for _, status in tasks(pool, entry)} == {"failed"}
    assert pool.faults() == []


def in_turn(pool: Pool, *people: str) -> list[str]:
    """Entries of these persons, one after the other."""
    found = []
    for one in people:
        found.append(waits(pool, one))
        pool.clock.time += 1_000
    return found


def test_a_seat_that_is_given_back_passes_over_who_cannot_have_it(running: PoolRunning) -> None:
    """Nobody who searches is faster than the list: the offer is in the commit that frees the seat,
    whichever step it is."""
    pool = Pool(running, "passed")
    pool.supply("a", "b", "c")
    taken = [booked(pool, slot, pool.person()) for slot in "abc"]
    busy, next_, last = (pool.person() for _ in range(3))
    bucket, pool.bucket = pool.bucket, f"{pool.hospital}|ct|other"
    settle = Settle(pool.home, pool.bucket, "ordinary", [QuotaRow("ordinary", 1)], 1)
    pool.store(pool.schedule("other"), pool.slot("x", pool.start, schedule="other"),
               claims=(settle,))  # fmt: skip
    pool.bucket = bucket
    entries = in_turn(pool, busy, next_, last)
    pool.run(book(pool.gateway, GATEWAY, BookRequest(take=seat(pool, "x", busy))))
    pool.run(cancel(pool.gateway, GATEWAY, taken[0]))
    assert [offered(pool, one) for one in entries] == ["", f"{pool.name}-a", ""]
    (found,) = [one for one in pool.all(offer(pool.gateway)) if one.appointment == entries[0]]
    assert found.outcome == "nothing-free"

    pool.run(cancel(pool.gateway, GATEWAY, entries[1]))  # leaves, with an offer in hand
    assert tasks(pool, entries[1]) == [("waitlist-offered", "cancelled")]
    assert offered(pool, entries[2]) == f"{pool.name}-a"
    pool.run(decline(pool.gateway, GATEWAY, entries[2]))
    moved = pool.run(rebook(pool.gateway, GATEWAY, taken[1], f"{pool.name}-a", channel="ordinary"))
    assert moved.status == "booked"
    assert [offered(pool, one) for one in entries] == ["", "", f"{pool.name}-b"]
    assert pool.faults() == []


def test_two_seats_that_are_given_back_at_once_go_to_the_first_two(running: PoolRunning) -> None:
    pool = Pool(running, "pair")
    pool.supply("a", capacity=2, master="hospital")
    pair = [booked(pool, "a", pool.person()) for _ in range(2)]
    entries = in_turn(pool, *(pool.person() for _ in range(3)))

    async def both() -> None:
        steps = [take_step(pool.gateway, GATEWAY, one, "refuse", Asked("$refuse")) for one in pair]
        await asyncio.gather(*steps)

    pool.run(both())
    assert [offered(pool, one) for one in entries] == [f"{pool.name}-a"] * 2 + [""]
    assert (pool.quotas()["ordinary"], pool.faults()) == ((2, 2), [])


def test_a_seat_of_a_withdrawn_slot_is_offered_to_nobody(running: PoolRunning) -> None:
    pool = Pool(running, "halted")
    pool.supply("a")
    taken = booked(pool, "a", pool.person())
    entry = waits(pool, pool.person())
    affected = [Affected(f"{pool.name}-a", WITHDRAWN, (f"Appointment/{taken}",))]
    assert [one.outcome for one in pool.all(tell_affected(pool.gateway, affected))] == ["told"]
    pool.run(cancel(pool.gateway, GATEWAY, taken))
    assert offered(pool, entry) == ""
    assert tasks(pool, taken) == [("booking-rebook", "completed")]
