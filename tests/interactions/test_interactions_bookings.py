"""Whom a booking opens what to: the hospital the record, who booked the booking alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from city import Json
from consented import SHIPPED, Town, ago
from databases import Databases

from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.keys import key64
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.interactions.relations import BOOKED_BY, derive_relations
from fhir_gateway.security.policy import load_policy
from fhir_gateway.store.changes import ChangeSet, Derived, Opening

DAY = 86_400_000_000
HOSPITAL, CLINIC = key64("Organization/hospital"), key64("Organization/clinic")
CREATED, START, END = (
    date_range(text)[0]
    for text in ("2026-11-22T09:00:00+08:00", "2026-12-07T08:00:00+08:00",
                 "2026-12-07T08:30:00+08:00")
)  # fmt: skip


def booking(**changes: Any) -> Json:
    by = {"url": BOOKED_BY, "valueReference": {"reference": "Organization/clinic"}}
    whole = {
        "resourceType": "Appointment",
        "extension": [by],
        "status": "booked",
        "created": "2026-11-22T09:00:00+08:00",
        "start": "2026-12-07T08:00:00+08:00",
        "end": "2026-12-07T08:30:00+08:00",
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


def openings(resource: Json, owner: int = HOSPITAL) -> list[Opening]:
    derived = Derived()
    policy = load_policy(Path(SHIPPED))
    derive_relations(resource, derived, owner=owner, policy=policy, zone="Asia/Shanghai")
    return derived.openings


def test_a_booking_opens_the_record_to_the_hospital_from_its_making_on() -> None:
    relation, *_ = openings(booking())
    assert (relation.party, relation.kind, relation.grade) == (HOSPITAL, "appointment", 0)
    assert relation.since == CREATED
    assert END + 7 * DAY < relation.until <= END + 7 * DAY + 1_000_000


def test_what_was_booked_elsewhere_opens_it_some_days_before() -> None:
    (relation,) = openings(booking(extension=[]))
    assert relation.since == START - 7 * DAY


@pytest.mark.parametrize("status", ["booked", "pending", "cancelled", "noshow", "waitlist"])
def test_both_see_the_booking_itself_whatever_became_of_it(status: str) -> None:
    found = [one for one in openings(booking(status=status)) if one.grade == -1]
    assert [(one.party, one.kind, one.since) for one in found] == [
        (CLINIC, "booking", CREATED),
        (HOSPITAL, "booking", CREATED),
    ]
    assert all(one.until > END + 90 * DAY for one in found)


def test_who_waits_is_seen_by_both_until_long_after_the_last_day() -> None:
    period = {"start": "2027-01-01", "end": "2027-01-31"}
    waiting = booking(status="waitlist", start=None, end=None, requestedPeriod=[period])
    until = date_range("2027-01-31")[1]
    assert [one.until > until + 90 * DAY for one in openings(waiting)] == [True, True]


@pytest.mark.parametrize("status", ["pending", "waitlist", "cancelled", "noshow", "proposed"])
def test_what_is_no_booking_opens_no_record(status: str) -> None:
    assert [one for one in openings(booking(status=status)) if one.grade >= 0] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "entered-in-error"},
        {"extension": [{"url": BOOKED_BY, "valueReference": {"display": "clinic"}}],
         "status": "pending"},
    ],
)  # fmt: skip
def test_what_was_an_error_or_names_nobody_opens_nothing(changes: Json) -> None:
    assert openings(booking(**changes)) == []


def test_what_belongs_to_nobody_opens_nothing() -> None:
    assert openings(booking(), owner=0) == []


@pytest.fixture(scope="module")
def town(shared_database: Databases) -> Iterator[Town]:
    running = shared_database.running("bookings", policy=SHIPPED)
    yield Town(running)
    running.close()


def test_who_booked_sees_the_booking_and_nothing_else_of_the_hospital(town: Town) -> None:
    """The receiver booked at the sender, which examined the person before; nobody consented."""
    patient = town.patient()
    result = town.result(patient)
    gateway = town.running.gateway
    named = []
    for id, by in (("app-mine", "receiver"), ("app-other", "somebody-else")):
        extension = {"url": BOOKED_BY, "valueReference": {"reference": f"Organization/{by}"}}
        resource = booking(id=id, extension=[extension], created=ago(minutes=1),
                           start=ago(days=-15), end=ago(days=-15))  # fmt: skip
        resource["participant"] = [
            {"actor": {"reference": f"Patient/{patient}"}, "status": "accepted"}
        ]
        put = prepare(gateway, resource, op="create", institution="sender")
        town.running.run(gateway.store.commit(ChangeSet(id=gateway.random(16), puts=[put])))
        named.append(f"Appointment/{id}")
    assert town.sees(*named, result) == [True, False, False]
    found = town.running.get(f"/fhir/Appointment?patient={patient}", headers=town.receiver).json()
    assert [one["resource"]["id"] for one in found.get("entry", [])
            if one["search"]["mode"] == "match"] == ["app-mine"]  # fmt: skip
    answer = town.running.get(f"/fhir/{named[0]}", headers=town.sender)
    assert answer.status_code == 200
