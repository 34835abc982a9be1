"""What a plain write may do to Schedules, Slots, Appointments and memberships of consortia."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from databases import Databases
from running import Running

from fhir_gateway.fhir.home import institution_home
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.scheduling.membership import Membership, affiliation_of
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.slot_sql import quota_rows
from fhir_gateway.terminology.catalogue import IMAGING_SYSTEM

Json = dict[str, Any]
#: A Monday far ahead, 8 o'clock in Shanghai.
MONDAY = datetime(2031, 6, 2, 0, tzinfo=UTC)
BUCKET = "hospital|ct|2031-06-02"


class Site:
    """A hospital that submits slots, and another one."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.hospital = running.institution("hospital", "示范市第一医院")
        self.other = running.institution("other", "示范市第二医院")
        for id, token in (("hospital", self.hospital), ("other", self.other)):
            service = {"resourceType": "HealthcareService", "id": f"{id}-ct", "active": True,
                       "name": "CT", "providedBy": {"reference": f"Organization/{id}"}}  # fmt: skip
            assert self.put(service, token)[0] == 201
        assert self.put(schedule("own", "hospital"))[0] == 201
        assert self.put(schedule("handed-over", "allotment"))[0] == 201
        assert self.put(schedule("shown", ""))[0] == 201

    def put(self, resource: Json, token: dict[str, str] | None = None) -> tuple[int, str, str]:
        """Status, rule and place of a PUT as the hospital, or as somebody else."""
        path = f"/fhir/{resource['resourceType']}/{resource['id']}"
        return told(self.running.put(path, resource, headers=token or self.hospital))

    def delete(self, name: str) -> tuple[int, str, str]:
        return told(self.running.delete(f"/fhir/{name}", headers=self.hospital))

    def get(self, name: str) -> Json:
        found: Json = self.running.get(f"/fhir/{name}", headers=self.hospital).json()
        return found

    def planned(self, *resources: Json, institution: str = "hospital") -> None:
        """Stores what the pool's commands and the booking operations store."""
        gateway = self.running.gateway
        puts = [prepare(gateway, one, op="create", institution=institution) for one in resources]
        self.running.run(gateway.store.commit(ChangeSet(id=gateway.random(16), puts=puts)))

    def quotas(self, bucket: str) -> dict[tuple[str, str], int]:
        """Seats by class and channel."""
        gateway = self.running.gateway

        async def ask() -> dict[tuple[str, str], int]:
            async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                home = institution_home("hospital")
                rows = await reader.steps(lambda _: quota_rows(home, bucket))
            return {(row.kind, row.channel): row.cap for row in rows if row.cap}

        found: dict[tuple[str, str], int] = self.running.run(ask())
        return found


def told(answer: Any) -> tuple[int, str, str]:
    issue = (answer.json().get("issue") or [{}])[0] if answer.content else {}
    rule = issue.get("details", {}).get("text", "")
    return answer.status_code, rule, (issue.get("expression") or [""])[0]


def schedule(id: str, master: str, *, service: str = "hospital-ct", **changes: Any) -> Json:
    coding = {"system": IMAGING_SYSTEM, "code": "I001"}
    made: Json = {
        "resourceType": "Schedule",
        "id": id,
        "extension": [{"url": ext.DEPARTMENT, "valueId": "ct"}],
        "active": True,
        "serviceCategory": [{"coding": [{"system": ext.BOOKING_KIND, "code": "exam"}]}],
        "serviceType": [{"coding": [coding]}],
        "actor": [{"reference": f"HealthcareService/{service}"}],
    }
    if master:
        made["extension"].append({"url": ext.MASTER, "valueCode": master})
    return made | changes


def slot(id: str, of: str = "own", *, hours: int = 0, seats: int = 4, **changes: Any) -> Json:
    start = MONDAY + timedelta(hours=hours)
    parts = [{"url": "total", "valuePositiveInt": seats}]
    made: Json = {
        "resourceType": "Slot",
        "id": id,
        "extension": [{"url": ext.CAPACITY, "extension": parts}],
        "schedule": {"reference": f"Schedule/{of}"},
        "status": "free",
        "start": start.isoformat(),
        "end": (start + timedelta(minutes=30)).isoformat(),
    }
    return made | changes


@pytest.fixture(scope="module")
def site(shared_database: Databases) -> Iterator[Site]:
    running = shared_database.running("governor")
    yield Site(running)
    running.close()


# -- slots that a hospital submits -----------------------------------------------------------------


def test_a_submitted_slot_is_counted_in_its_bucket_and_divided_among_the_channels(
    site: Site,
) -> None:
    assert site.put(slot("s-1"))[0] == 201
    stored = site.get("Slot/s-1")
    assert ext.value_of(stored, ext.BUCKET) == BUCKET
    assert stored["serviceType"][0]["coding"][0]["code"] == "I001"
    assert sum(site.quotas(BUCKET).values()) == 4
    for number in range(2, 6):
        assert site.put(slot(f"s-{number}", hours=number))[0] == 201
    quotas = site.quotas(BUCKET)
    assert sum(quotas.values()) == 20
    assert {channel for _, channel in quotas} > {"green-channel", "ordinary"}
    assert site.put(slot("s-5", hours=5, status="busy-unavailable"))[0] == 200
    assert sum(site.quotas(BUCKET).values()) == 16
    assert site.delete("Slot/s-4")[0] == 204
    assert sum(site.quotas(BUCKET).values()) == 12
    expert = {"coding": [{"system": ext.SLOT_CLASS, "code": "expert"}]}
    assert site.put(slot("s-3", hours=3, appointmentType=expert))[0] == 200
    assert sum(cap for (kind, _), cap in site.quotas(BUCKET).items() if kind == "expert") == 4
    assert sum(site.quotas(BUCKET).values()) == 12


def test_one_bundle_is_divided_at_once(site: Site) -> None:
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": f"Slot/{one['id']}"}}
        for one in (slot(f"b-{n}", "handed-over", hours=24 * 7 + n, seats=5) for n in range(4))
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = site.running.post("/fhir", bundle, headers=site.hospital)
    assert answer.status_code == 200, answer.text
    assert sum(site.quotas("hospital|ct|2031-06-09").values()) == 20


def test_submissions_at_once_lose_no_seat(site: Site) -> None:
    http, headers = site.running.http, site.hospital | {"content-type": "application/fhir+json"}
    slots = [slot(f"c-{n}", hours=24 * 28 + n, seats=2) for n in range(8)]

    async def together() -> list[int]:
        answers = await asyncio.gather(
            *(http.put(f"/fhir/Slot/{one['id']}", content=json.dumps(one), headers=headers)
              for one in slots)
        )  # fmt: skip
        return [answer.status_code for answer in answers]

    assert site.running.run(together()) == [201] * 8
    assert sum(site.quotas("hospital|ct|2031-06-30").values()) == 16


def test_a_slot_moves_its_seats_from_week_to_week(site: Site) -> None:
    assert site.put(slot("m-1", hours=24 * 14))[0] == 201
    assert site.put(slot("m-1", hours=24 * 21))[0] == 200
    assert site.quotas("hospital|ct|2031-06-16") == {}
    assert sum(site.quotas("hospital|ct|2031-06-23").values()) == 4


@pytest.mark.parametrize(
    ("changes", "rule", "place"),
    [
        ({"status": "busy"}, "slot-status", "Slot.status"),
        ({"start": "2031-06-02T12:00:00Z"}, "slot-time", "Slot.start"),
        ({"serviceType": [{"coding": [{"system": IMAGING_SYSTEM, "code": "I99999"}]}]},
         "item-unknown", "Slot.serviceType[0].coding[0].code"),
        ({"extension": [{"url": ext.BUCKET, "valueString": "hospital|mr|2031-06-02"}]},
         "slot-bucket", "Slot.extension"),
        ({"schedule": {"reference": "Schedule/shown"},
          "extension": [{"url": ext.BUCKET, "valueString": BUCKET}]},
         "slot-master", "Slot.schedule"),
    ],
)  # fmt: skip
def test_a_slot_that_cannot_be_sold_is_refused(
    site: Site, changes: Json, rule: str, place: str
) -> None:
    assert site.put(slot("bad", hours=8, **changes)) == (422, rule, place)


def test_a_bucket_that_is_right_is_taken_and_written_back(site: Site) -> None:
    assert site.put(slot("again", hours=9))[0] == 201
    stored = site.get("Slot/again")
    assert site.put(stored)[0] == 200


def test_whether_a_slot_is_full_is_said_by_its_seats(site: Site) -> None:
    assert site.put(slot("full", hours=10))[0] == 201
    busy = slot("full", hours=10, status="busy")
    assert site.put(busy) == (422, "slot-status", "Slot.status")
    site.planned(site.get("Slot/full") | {"status": "busy"})  # of which no seat is booked
    assert site.put(busy | {"comment": "二楼"})[0] == 200
    assert site.get("Slot/full")["status"] == "free"


def test_slots_that_are_only_shown_are_stored_as_they_are(site: Site) -> None:
    plain = slot("plain", "shown", status="busy")
    assert site.put(plain)[0] == 201
    assert site.get("Slot/plain")["extension"] == plain["extension"]


def test_nobody_submits_slots_of_another_hospital(site: Site) -> None:
    assert site.put(slot("theirs"), site.other) == (403, "performer", "Slot.schedule")
    refused = site.put(schedule("theirs", "hospital"), site.other)
    assert refused == (403, "performer", "Schedule.actor")


# -- schedules -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "rule", "place"),
    [
        ({"actor": [{"reference": "Location/l"}]}, "sch-service", "Schedule.actor"),
        ({"extension": [{"url": ext.MASTER, "valueCode": "hospital"}]}, "sch-department",
         "Schedule"),
        ({"serviceType": [{"coding": [{"system": IMAGING_SYSTEM, "code": "I99999"}]}]},
         "item-unknown", "Schedule.serviceType[0].coding[0].code"),
    ],
)  # fmt: skip
def test_a_schedule_that_cannot_be_sold_is_refused(
    site: Site, changes: Json, rule: str, place: str
) -> None:
    location = {"resourceType": "Location", "id": "l", "name": "x"}
    site.put(location)
    assert site.put(schedule("bad", "hospital", **changes)) == (422, rule, place)


def test_a_service_that_nobody_provides_has_no_schedules_here(site: Site) -> None:
    service = {"resourceType": "HealthcareService", "id": "nobodys", "name": "x"}
    assert site.put(service)[0] == 201
    answer = site.put(schedule("bad", "hospital", service="nobodys"))
    assert answer == (422, "sch-service", "Schedule.actor")


def test_a_schedule_keeps_what_its_slots_are_counted_by(site: Site) -> None:
    assert site.put(schedule("kept", "hospital"))[0] == 201
    assert site.put(schedule("kept", "hospital", active=False))[0] == 200
    assert site.put(schedule("kept", "allotment"))[:2] == (422, "schedule-fixed")
    assert site.put(schedule("kept", ""))[:2] == (422, "schedule-kept")
    assert site.delete("Schedule/kept")[:2] == (422, "schedule-kept")
    assert site.delete("Schedule/shown")[0] in (204, 409)


def test_what_the_gateway_plans_is_not_written_by_hand(site: Site) -> None:
    bucket = {"url": ext.BUCKET, "valueString": "hospital|ct|2031-07-07"}
    mine = slot("pool-1", "pool", hours=24 * 35)
    mine["extension"].append(bucket)
    assert site.put(schedule("pool", "gateway"))[:2] == (403, "pool-governed")
    site.planned(schedule("pool", "gateway"))
    site.planned(mine)
    for refused in (
        site.put(schedule("pool", "hospital")),
        site.put(mine),
        site.put(slot("pool-2", "pool")),
        site.put(slot("pool-1", "own", hours=24 * 35)),
        site.delete("Slot/pool-1"),
        site.delete("Schedule/pool"),
    ):
        assert refused[:2] == (403, "pool-governed")
    patch = [{"op": "replace", "path": "/status", "value": "busy-unavailable"}]
    answer = site.running.request(
        "PATCH", "/fhir/Slot/pool-1", json=patch,
        headers=site.hospital | {"content-type": "application/json-patch+json"},
    )  # fmt: skip
    assert told(answer)[:2] == (403, "pool-governed")


# -- appointments ----------------------------------------------------------------------------------


def appointment(id: str, patient: str, **changes: Any) -> Json:
    return {
        "resourceType": "Appointment",
        "id": id,
        "status": "booked",
        "start": MONDAY.isoformat(),
        "end": (MONDAY + timedelta(minutes=30)).isoformat(),
        "participant": [{"actor": {"reference": f"Patient/{patient}"}, "status": "accepted"}],
    } | changes


@pytest.fixture(scope="module")
def patient(site: Site) -> str:
    person = {"resourceType": "Patient", "id": "booked", "name": [{"text": "示例"}]}
    assert site.put(person)[0] == 201
    return "booked"


def test_a_booking_changes_by_booking_operations_alone(site: Site, patient: str) -> None:
    extensions = [
        {"url": ext.CHANNEL, "valueCode": "ordinary"},
        {"url": ext.BOOKED_BY, "valueReference": {"reference": "Organization/other"}},
    ]
    held = appointment("a-1", patient, extension=extensions)
    site.planned(held)
    later = (MONDAY + timedelta(hours=1)).isoformat()
    for changed, place in (
        (held | {"status": "cancelled"}, "Appointment.status"),
        (held | {"end": later}, "Appointment.end"),
        (held | {"slot": [{"reference": "Slot/s-1"}]}, "Appointment.slot"),
        (held | {"participant": [*held["participant"], *held["participant"]]},
         "Appointment.participant"),
        (held | {"extension": extensions[:1]}, "Appointment.extension"),
    ):  # fmt: skip
        assert site.put(changed) == (403, "booking-governed", place)
    assert site.delete("Appointment/a-1")[:2] == (403, "booking-governed")
    assert site.put(held | {"comment": "带旧片"})[0] == 200
    answer = site.running.put("/fhir/Appointment/a-1", held | {"status": "noshow"},
                              headers=site.hospital)  # fmt: skip
    assert "Appointment/$book" in answer.json()["issue"][0]["diagnostics"]


@pytest.mark.parametrize(
    ("url", "value"),
    [
        (ext.CHANNEL, {"valueCode": "green-channel"}),
        (ext.BOOKED_BY, {"valueReference": {"reference": "Organization/other"}}),
        (ext.HOLD_UNTIL, {"valueInstant": "2031-06-01T00:00:00Z"}),
    ],
)
def test_nobody_says_of_an_appointment_what_the_gateway_says(
    site: Site, patient: str, url: str, value: Json
) -> None:
    claimed = appointment("a-2", patient, extension=[{"url": url, **value}])
    assert site.put(claimed) == (403, "booking-governed", "Appointment.extension")


def test_a_slot_that_is_sold_here_is_not_taken_by_writing_an_appointment(
    site: Site, patient: str
) -> None:
    assert site.put(slot("taken", hours=12))[0] == 201
    shown = slot("only-shown", "shown-2")
    assert site.put(schedule("shown-2", ""))[0] == 201
    assert site.put(shown)[0] == 201
    mine = appointment("a-3", patient, slot=[{"reference": "Slot/taken"}])
    assert site.put(mine) == (403, "booking-governed", "Appointment.slot[0]")
    assert site.put(mine | {"status": "proposed"})[0] == 201
    named = appointment("a-4", patient, slot=[{"reference": "Slot/only-shown"}])
    assert site.put(named)[0] == 201


def test_what_a_hospital_books_in_its_own_system_is_stored_as_it_says(
    site: Site, patient: str
) -> None:
    assert site.put(appointment("a-5", patient))[0] == 201
    assert site.put(appointment("a-5", patient, status="cancelled"))[0] == 200
    assert site.delete("Appointment/a-5")[0] == 204


def test_what_is_booked_is_found_by_what_r4_has_no_parameter_for(site: Site, patient: str) -> None:
    channel = {"url": ext.CHANNEL, "valueCode": "green-channel"}
    by = {"url": ext.BOOKED_BY, "valueReference": {"reference": "Organization/other"}}
    site.planned(appointment("a-6", patient, extension=[channel, by]))
    assert site.put(slot("found", hours=24 * 42))[0] == 201
    assert site.put(schedule("found", "allotment"))[0] == 201
    about = f"patient=Patient/{patient}"
    for query, found in (
        ("Slot?bucket=hospital%7Cct%7C2031-07-14", ["found"]),
        (f"Slot?service-type={IMAGING_SYSTEM}%7CI001&start=gt2031-07-13", ["found"]),
        ("Schedule?master=allotment&department=ct&_id=found", ["found"]),
        ("Schedule?master=gateway&_id=found", []),
        (f"Appointment?channel=green-channel&{about}", ["a-6"]),
        (f"Appointment?booked-by=Organization/other&channel=green-channel&{about}", ["a-6"]),
        (f"Appointment?booked-by=Organization/hospital&{about}", []),
    ):
        entries = site.get(query).get("entry", [])
        ids = [one["resource"]["id"] for one in entries if one["search"]["mode"] == "match"]
        assert ids == found, query


# -- memberships -----------------------------------------------------------------------------------


def test_nobody_enters_itself_into_a_consortium(site: Site) -> None:
    """As a member of another's, or by calling others members of its own."""
    theirs = affiliation_of(Membership("e", "x", "city-group", "hospital", "other", "2026-01-01"))
    assert site.put(theirs, site.other)[0] == 403
    own = affiliation_of(Membership("e", "x", "city-group", "other", "third", "2026-01-01"))
    own["participatingOrganization"] = {"display": "third"}
    assert site.put(own, site.other)[:2] == (403, "governed")
    plain = {"resourceType": "OrganizationAffiliation", "id": "plain", "active": True}
    assert site.put(plain, site.other)[0] == 201
    code = [{"coding": [{"system": f"{CANONICAL}/CodeSystem/consortium-kind", "code": "x"}]}]
    assert site.put(plain | {"code": code}, site.other)[:2] == (403, "governed")


# -- what Schedules rest on ------------------------------------------------------------------------


def test_what_schedules_rest_on_is_not_deleted(site: Site) -> None:
    place = {"resourceType": "Location", "id": "room-1", "name": "CT一室", "status": "active",
             "managingOrganization": {"reference": "Organization/hospital"}}  # fmt: skip
    assert site.put(place)[0] == 201
    lonely = {"resourceType": "HealthcareService", "id": "lonely", "name": "康复",
              "providedBy": {"reference": "Organization/hospital"}}  # fmt: skip
    assert site.put(lonely)[0] == 201
    there = schedule("with-room", "hospital")
    there["actor"].append({"reference": "Location/room-1"})
    assert site.put(there)[0] == 201
    for name in ("HealthcareService/hospital-ct", "Location/room-1"):
        answer = site.running.delete(f"/fhir/{name}", headers=site.hospital)
        assert told(answer)[:2] == (422, "schedule-rests"), answer.text
        assert "Schedule/" in answer.text and "active" in answer.text
    assert site.put(there | {"active": False})[0] == 200
    assert site.delete("Location/room-1")[:2] == (422, "schedule-rests")  # what was booked is there
    assert site.delete("HealthcareService/lonely")[0] in (200, 204)


def test_a_local_code_of_a_service_is_sold_as_the_item_that_it_maps_to(site: Site) -> None:
    coded = {"coding": [{"system": "urn:hospital:service", "code": "TLCT"}]}
    members = [{"name": "person", "valueString": "李四(信息科)"}, {"name": "decision", "part": [
        {"name": "kind", "valueCode": "accept"}, {"name": "use", "valueCode": "order"},
        {"name": "coding", "valueCoding": {**coded["coding"][0], "display": "头颅CT"}},
        {"name": "item", "valueCode": "I001"},
    ]}]  # fmt: skip
    body = {"resourceType": "Parameters", "parameter": members}
    path = "/fhir/Organization/hospital/$map-codes"
    answer = site.running.post(path, body, headers=site.hospital)
    assert answer.status_code == 200, answer.text
    assert site.put(schedule("mapped", "allotment", serviceType=[coded]))[0] == 201
    assert site.put(slot("mapped-1", "mapped", hours=72, serviceType=[coded]))[0] == 201
    stored = site.get("Slot/mapped-1")["serviceType"][0]["coding"]
    assert [one["code"] for one in stored] == ["TLCT", "I001"]
    found = site.get(f"Slot?service-type={IMAGING_SYSTEM}%7CI001&schedule=Schedule/mapped")
    assert len(found["entry"]) == 1
