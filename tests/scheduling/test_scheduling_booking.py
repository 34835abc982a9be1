"""Booking from one end to the other: held, booked, moved, cancelled, visited, over REST."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from booking_world import CT_CHEST, SHIPPED, World, booked, marks, soon, told
from databases import Databases

from fhir_gateway.app import profile_resources
from fhir_gateway.cli.profiles_check import context_of, judged
from fhir_gateway.fhir.profile_known import Known
from fhir_gateway.fhir.xml_read import read_xml
from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.scheduling.booking_rules import booking_rules
from fhir_gateway.scheduling.generate_fhir import AREA_SYSTEM
from fhir_gateway.settings import load_settings


@pytest.fixture(scope="module")
def world(shared_database: Databases) -> Iterator[World]:
    running = shared_database.running("booking", policy=SHIPPED)
    yield World(running)
    running.close()


@cache
def _definitions():
    resources = list(profile_resources("profiles"))
    known = Known([one for one in resources if one["resourceType"] == "StructureDefinition"])
    return known, context_of(load_settings({}), resources, known)[1]


def faults(*resources):
    """What profiles say against resources."""
    found = [one for resource in resources for one in judged(resource, *_definitions())]
    return [one for one in found if one.severity != "information"]


def test_a_seat_is_held_and_then_booked(world):
    (slot,) = world.slots()
    answer = world.hold(slot, world.patient())
    assert answer.status_code == 200, answer.text
    held = booked(answer)
    assert (held["status"], marks(held)["booking-channel"]) == ("pending", "ordinary")
    assert "hold-until" in marks(held)
    assert world.status(slot) == "free"
    answer = world.call("Appointment/$book", appointment_reference=f"Appointment/{held['id']}")
    whole = booked(answer)
    assert (whole["id"], whole["status"]) == (held["id"], "booked")
    assert "hold-until" not in marks(whole)
    assert marks(whole)["booking-institution"] == {"reference": "Organization/clinic"}
    assert world.status(slot) == "busy"


def test_a_hold_is_answered_as_a_booking_is_by_a_bundle_of_one(world):
    """ITI-116: a searchset with the Appointment and an OperationOutcome; the same to a repeat, even
    when it is booked by then, in XML and whatever Prefer says."""
    (slot,) = world.slots()
    asked = {"slot": f"Slot/{slot}", "patient_reference": f"Patient/{world.patient()}"}
    key = {"idempotency-key": f"hold-{slot}", "prefer": "return=minimal"}
    answer = world.call("Appointment/$hold", headers=key, **asked)
    held, bundle = booked(answer), answer.json()
    assert (bundle["type"], bundle["total"], [*told(answer)]) == ("searchset", 1, ["channel"])
    assert bundle["entry"][0]["fullUrl"].endswith(f"/fhir/Appointment/{held['id']}")
    whole = world.call("Appointment/$book", appointment_reference=f"Appointment/{held['id']}")
    assert booked(whole)["status"] == "booked"
    assert frame(whole.json()) == frame(bundle)
    assert world.call("Appointment/$hold", headers=key, **asked).content == answer.content
    accept = {**key, "accept": "application/fhir+xml"}
    again = world.call("Appointment/$hold", headers=accept, **asked)
    assert again.headers["content-type"].startswith("application/fhir+xml")
    assert read_xml(again.content) == bundle
    (hold,) = world.read("OperationDefinition?code=hold").json()["entry"]
    given = [one for one in hold["resource"]["parameter"] if one["use"] == "out"]
    assert [(one["name"], one["type"]) for one in given] == [("return", "Bundle")]


def frame(bundle):
    """A Bundle without what its resources say."""
    entries = [{**one, "resource": one["resource"]["resourceType"]} for one in bundle["entry"]]
    return {**bundle, "entry": entries}


def test_what_is_found_is_held_by_its_proposal_and_found_no_more(world):
    first, second = world.slots(2, item=CT_CHEST, hours=700)
    patient = world.patient()
    period = {"start": soon(hours=690), "end": soon(hours=720), "service": CT_CHEST}

    def found():
        answer = world.call("Appointment/$find", patient_reference=f"Patient/{patient}",
                            **{name: one if name == "service" else {"valueDateTime": one}
                               for name, one in period.items()})  # fmt: skip
        assert answer.status_code == 200, answer.text
        whole = answer.json()
        return whole["total"], [
            one["resource"] for one in whole["entry"] if one["search"]["mode"] == "match"
        ]

    total, offers = found()
    assert (total, [one["slot"][0]["reference"] for one in offers]) == (
        2, [f"Slot/{first}", f"Slot/{second}"])  # fmt: skip
    assert faults(*offers) == []
    reference = f"Appointment/{offers[0]['id']}"
    held = world.call("Appointment/$hold", appointment_reference=reference,
                      patient_reference=f"Patient/{patient}")  # fmt: skip
    assert held.status_code == 200, held.text
    assert found()[0] == 1
    answer = world.hold(first, world.patient())
    assert answer.status_code == 409
    issues = answer.json()["issue"]
    assert (issues[0]["severity"], issues[0]["code"]) == ("fatal", "not-found")
    assert f"Slot/{second}" in told(answer)["offer"]


def test_a_booking_is_valid_at_every_step(world):
    first, second = world.slots(2, requires=[
        {"url": "preparation", "valueString": "去除金属物品"},
        {"url": "fasting", "valueUnsignedInt": 4},
        {"url": "device", "valueString": "64排CT"},
    ])  # fmt: skip
    patient = world.patient()
    order = world.order(patient)
    held = booked(world.hold(first, patient, based_on=f"ServiceRequest/{order}", comment="轮椅"))
    whole = booked(world.call("Appointment/$book",
                              appointment_reference=f"Appointment/{held['id']}"))  # fmt: skip
    assert whole["patientInstruction"] == "去除金属物品；检查前禁食4小时；检查设备：64排CT"
    assert whole["basedOn"] == [{"reference": f"ServiceRequest/{order}"}]
    moved = booked(world.call(f"Appointment/{held['id']}/$rebook", slot=f"Slot/{second}"))
    assert (moved["id"], moved["slot"]) == (held["id"], [{"reference": f"Slot/{second}"}])
    assert (world.status(first), world.status(second)) == ("free", "busy")
    arrived = world.call(f"Appointment/{held['id']}/$arrive", world.hospital).json()
    done = world.call(f"Appointment/{held['id']}/$fulfil", world.hospital).json()
    assert [one["status"] for one in (arrived, done)] == ["arrived", "fulfilled"]
    assert done["comment"] == "轮椅"
    assert faults(held, whole, moved, arrived, done) == []


def test_a_seat_that_is_cancelled_is_sold_again(world):
    (slot,) = world.slots()
    patient = world.patient()
    whole = booked(world.book(slot, patient))
    path = f"Appointment/{whole['id']}/$cancel"
    version = whole["meta"]["versionId"]
    late = world.call(path, headers={"if-match": f'W/"{int(version) + 1}"'})
    assert late.status_code == 412
    answer = world.call(
        path, headers={"if-match": f'W/"{version}"'}, reason={"valueCode": "pat"}, text="改期"
    )
    assert answer.status_code == 200, answer.text
    ended = answer.json()
    assert ended["status"] == "cancelled"
    assert ended["cancelationReason"]["coding"][0]["code"] == "pat"
    assert faults(ended) == []
    assert world.status(slot) == "free"
    assert booked(world.book(slot, world.patient()))["status"] == "booked"
    again = world.call(path)
    assert (again.status_code, [*told(again)]) == (409, ["appointment-state"])


def test_a_hold_is_renewed_a_limited_number_of_times(world):
    (slot,) = world.slots()
    held = booked(world.hold(slot, world.patient()))
    path = f"Appointment/{held['id']}/$renew"
    for number in (1, 2):
        answer = world.call(path)
        assert marks(answer.json())["hold-renewals"] == number
    answer = world.call(path)
    assert (answer.status_code, [*told(answer)]) == (422, ["hold-renewals"])


def test_where_the_hospital_sells_itself_it_has_to_confirm(world):
    first, second = world.slots(2, master="hospital")
    answer = world.book(first, world.patient())
    asked = booked(answer)
    assert (asked["status"], "confirm-by" in marks(asked)) == ("pending", True)
    assert "to-be-confirmed" in told(answer)
    assert faults(asked) == []
    path = f"Appointment/{asked['id']}"
    foreign = world.call(f"{path}/$confirm")
    assert (foreign.status_code, [*told(foreign)]) == (403, ["appointment-party"])
    confirmed = world.call(f"{path}/$confirm", world.hospital).json()
    assert (confirmed["status"], "confirm-by" in marks(confirmed)) == ("booked", False)
    assert world.status(first) == "busy"
    other = booked(world.book(second, world.patient()))
    refused = world.call(f"Appointment/{other['id']}/$refuse", world.hospital, text="设备故障")
    assert refused.json()["status"] == "cancelled"
    assert refused.json()["cancelationReason"]["text"] == "设备故障"
    assert booked(world.book(second, world.patient()))["status"] == "pending"


def test_both_parties_see_the_booking_and_nobody_else(world):
    (slot,) = world.slots()
    patient = world.patient()
    whole = booked(world.book(slot, patient))
    reference = f"Appointment/{whole['id']}"
    by = (world.clinic, world.hospital, world.other)
    assert [world.read(reference, one).status_code for one in by] == [200, 200, 404]
    search = f"Appointment?patient={patient}&status=booked&date=ge{soon(days=1)[:10]}"
    totals = [world.read(search, one).json()["total"] for one in by]
    assert totals == [1, 1, 0]
    foreign = world.call(f"{reference}/$cancel", world.other)
    assert (foreign.status_code, [*told(foreign)]) == (404, ["appointment-unknown"])
    assert world.read(reference).json()["status"] == "booked"


def test_a_plain_write_of_a_booking_names_the_operations(world):
    (slot,) = world.slots()
    whole = booked(world.book(slot, world.patient()))
    ended = {**whole, "status": "cancelled"}
    answer = world.running.put(f"/fhir/Appointment/{whole['id']}", ended, headers=world.hospital)
    assert answer.status_code == 403
    assert "$hold" in told(answer)["booking-governed"]


def test_the_last_seat_makes_a_slot_busy(world):
    (slot,) = world.slots(capacity=3)
    found = []
    for _ in range(3):
        found.append(booked(world.book(slot, world.patient()))["id"])
        assert world.status(slot) == ("busy" if len(found) == 3 else "free")
    assert world.book(slot, world.patient()).status_code == 409
    world.call(f"Appointment/{found[1]}/$cancel")
    assert world.status(slot) == "free"


def test_the_green_channel_comes_first_for_who_was_referred(world):
    (slot,) = world.slots(capacity=2, quotas={"green-channel": 1, "ordinary": 1})
    patient = world.patient()
    order = world.order(patient, performer=[{"reference": "Organization/hospital"}])
    answer = world.book(slot, patient, based_on=f"ServiceRequest/{order}")
    assert marks(booked(answer))["booking-channel"] == "green-channel"
    assert "green-channel" in told(answer)["channel"]
    answer = world.book(slot, world.patient())
    assert marks(booked(answer))["booking-channel"] == "ordinary"


def test_who_lives_elsewhere_comes_through_the_channel_for_that(world):
    (slot,) = world.slots(capacity=2, quotas={"out-of-town": 1, "ordinary": 1})
    code = {"system": AREA_SYSTEM, "code": "130000"}
    home = {"text": "外地", "extension": [{"url": ext.AREA, "valueCoding": code}]}
    patient = world.patient(address=[home])
    assert faults(world.read(f"Patient/{patient}").json()) == []
    answer = world.book(slot, patient)
    assert marks(booked(answer))["booking-channel"] == "out-of-town"
    assert marks(booked(world.book(slot, world.patient())))["booking-channel"] == "ordinary"


def test_other_bookings_of_the_patient_are_warned_of_by_the_days_of_the_site(world, monkeypatch):
    first, second, third = (world.slots(1, hours=hours)[0] for hours in (240, 480, 600))
    patient = world.patient()
    one = booked(world.book(first, patient))
    answer = world.book(second, patient)
    assert booked(answer)["status"] == "booked"
    assert f"Appointment/{one['id']}" in told(answer)["booking-same-item"]
    rules = booking_rules(world.gateway)
    near = rules._replace(limits=rules.limits._replace(same_item_days=4))
    monkeypatch.setattr("fhir_gateway.scheduling.seat_choice.booking_rules", lambda _: near)
    assert "booking-same-item" not in told(world.book(third, patient))


def test_what_is_audited_names_patient_and_operation(world):
    (slot,) = world.slots()
    patient = world.patient()
    whole = booked(world.book(slot, patient))
    found = world.read(f"AuditEvent?patient=Patient/{patient}&_count=50").json()
    events = [one["resource"] for one in found["entry"]]
    names = [
        [one.get("display") for one in event["subtype"]] for event in events
    ]  # fmt: skip
    assert [None, "$book"] in [[one if one == "$book" else None for one in name] for name in names]
    assert any(f"Appointment/{whole['id']}" in str(event["entity"]) for event in events)
