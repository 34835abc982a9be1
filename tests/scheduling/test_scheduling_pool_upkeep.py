"""What goes on by itself: holds that are over, deadlines of hospitals, offers of waiting lists."""

from __future__ import annotations

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
from fhir_gateway.scheduling.tidy import tidy
from fhir_gateway.scheduling.waitlist import WaitRequest, decline, wait
from fhir_gateway.scheduling.waitlist_offers import offer
from fhir_gateway.security.actor import GATEWAY
from fhir_gateway.store import jobs


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
    pool.run(cancel(pool.gateway, GATEWAY, taken))
    told = pool.all(offer(pool.gateway))
    assert outcomes(told)[0] == (entries[2], "offered")
    assert {one for _, one in outcomes(told)[1:]} == {"nothing-free"}
    assert [one for one in pool.all(offer(pool.gateway)) if one.outcome == "offered"] == []

    pool.run(decline(pool.gateway, GATEWAY, entries[2]))
    assert pool.read("Appointment", entries[2])["status"] == "waitlist"
    assert outcomes(pool.all(offer(pool.gateway)))[:2] == [
        (entries[2], "nothing-free"), (entries[0], "offered"),  # not the same one again
    ]  # fmt: skip
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
