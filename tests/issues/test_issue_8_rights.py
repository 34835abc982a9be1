"""Whose booking it is: what tokens, other institutions and refusals let somebody learn or do."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from booking_world import HOUR, SHIPPED, World, booked, soon, told
from databases import Databases
from running import Running

from fhir_gateway.app import build
from fhir_gateway.context import SystemClock
from fhir_gateway.interactions.callers import Caller, actor_of
from fhir_gateway.interactions.relations import CONSENT_OBTAINED
from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.scheduling.generate_fhir import AREA_SYSTEM
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.security.tokens import Known, hash_token
from fhir_gateway.settings import Settings
from fhir_gateway.terminology.catalogue import LAB_SYSTEM

HIV = "L115"
PSY = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "PSY"}


class Clock(SystemClock):
    """The machine's clock, which the last test puts forward."""

    ahead = 0

    def now(self) -> int:
        return super().now() + self.ahead


class Later(Running):
    """A gateway with such a clock."""

    def build(self, settings: Settings) -> Any:
        self.clock = Clock()
        return build(settings, clock=self.clock)


@pytest.fixture(scope="module")
def world(shared_database: Databases) -> Iterator[World]:
    running = Later(shared_database.url("rights"), policy=SHIPPED)
    yield World(running)
    running.close()


def caller(world: World, **said: Any) -> dict[str, str]:
    """The headers of somebody whose token says this."""
    gateway = world.gateway

    async def made() -> Any:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            return await actor_of(gateway, reader, Caller(**said))

    token = f"token-{len(gateway.tokens)}-{said}"
    known = Known(world.running.run(made()), gateway.clock.now() + 4_000_000, 1 << 60, "issued")
    gateway.tokens[hash_token(token)] = known
    return {"authorization": f"Bearer {token}"}


def doctor(world: World, *scopes: str, patient: str = "") -> dict[str, str]:
    return caller(world, role="clinician", institution="clinic", user="Practitioner/d",
                  scopes=scopes, patient=patient)  # fmt: skip


def elsewhere(world: World, patient: str) -> str:
    """The same person, registered by an institution that has nothing to do with the clinic."""
    known = world.read(f"Patient/{patient}").json()
    same = {name: known[name] for name in ("identifier", "name")}
    return world.patient(world.other, **same)


def visit(world: World, patient: str, by: dict[str, str], *, agreed: bool = False) -> None:
    """An encounter in progress; `agreed` says in it that the patient consented."""
    world.create({
        "resourceType": "Encounter", "status": "in-progress", "class": {"code": "AMB"},
        "subject": {"reference": f"Patient/{patient}"}, "period": {"start": soon(minutes=-5)},
        **({"extension": [{"url": CONSENT_OBTAINED, "valueBoolean": True}]} if agreed else {}),
    }, by)  # fmt: skip


def rule(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["issue"][0]["details"]["text"]


def test_a_token_of_one_patient_books_for_that_one_alone(world: World) -> None:
    mine, other = world.patient(), world.patient()
    bound = doctor(world, "patient/Appointment.cruds", "user/Patient.rs", "user/Slot.rs",
                   patient=mine)  # fmt: skip
    first, second, third = world.slots(3)
    asked = {"slot": f"Slot/{first}", "patient_reference": f"Patient/{other}"}
    assert rule(world.call("Appointment/$hold", bound, **asked)) == (403, "launch-patient")
    assert rule(world.call("Appointment/$book", bound, **asked)) == (403, "launch-patient")
    asked = {"slot": f"Slot/{second}", "patient_reference": f"Patient/{mine}"}
    assert booked(world.call("Appointment/$book", bound, **asked))["status"] == "booked"
    foreign = booked(world.book(third, other))["id"]
    reads = doctor(world, "patient/Appointment.cud", "user/Appointment.rs", "user/Patient.rs",
                   "user/Slot.rs", patient=mine)  # fmt: skip
    answer = world.call(f"Appointment/{foreign}/$cancel", reads)
    assert rule(answer) == (403, "launch-patient")
    assert world.read(f"Appointment/{foreign}").json()["status"] == "booked"
    reader = doctor(world, "user/Appointment.rs", "user/Slot.rs", "user/Patient.rs")
    assert rule(world.call("Appointment/$hold", reader, **asked)) == (403, "insufficient-scope")


def test_references_of_other_servers_name_nobody_here(world: World) -> None:
    (slot,), patient = world.slots(), world.patient()
    for text in ("http://other.example/fhir/Patient/{}", "x/Patient/{}", "Patient/{}/_history/1"):
        answer = world.call("Appointment/$hold", slot=f"Slot/{slot}",
                            patient_reference=text.format(patient))  # fmt: skip
        assert rule(answer) == (400, "reference")
        assert answer.json()["issue"][0]["expression"] == ["Parameters.parameter[1].valueString"]
    whole = {"valueReference": {"reference": f"http://127.0.0.1/fhir/Patient/{patient}"}}
    held = world.call("Appointment/$hold", slot=f"http://127.0.0.1/fhir/Slot/{slot}",
                      patient_reference=whole)  # fmt: skip
    assert booked(held)["status"] == "pending"


def test_what_is_said_twice_or_by_halves_is_refused(world: World) -> None:
    patient, other = world.patient(), world.patient()
    period = {"start": {"valueDateTime": soon(days=1)}, "end": {"valueDateTime": soon(days=9)}}
    resource = {"resource": {"resourceType": "Patient", "gender": "male"}}
    cases = {
        "order-unknown": {"referral_identifier": {"valueIdentifier": {"system": "urn:x"}}},
        "find-patient": {"patient_reference": f"Patient/{patient}", "patient_resource": resource},
    }
    for name, more in cases.items():
        assert rule(world.call("Appointment/$find", **period, **more)) == (400, name)
    (slot,) = world.slots()
    both = world.call(f"Slot/{slot}/$why-not", patient_reference=f"Patient/{patient}",
                      patient=f"Patient/{other}")  # fmt: skip
    assert rule(both) == (400, "required")


def test_reasons_are_codes_of_their_system_or_words(world: World) -> None:
    said = {"|": {"text": "|"}, "|F20": {"coding": [{"code": "F20"}]}, "头痛": {"text": "头痛"},
            "urn:x|A 1": {"coding": [{"system": "urn:x", "code": "A 1"}]}}  # fmt: skip
    slots = world.slots(len(said))
    for slot, (text, concept) in zip(slots, said.items(), strict=True):
        held = booked(world.hold(slot, world.patient(), reason=text))
        assert held["reasonCode"] == [concept]
    path = f"Appointment/{held['id']}/$cancel"
    for wrong in ({"valueCode": "banana"}, {"valueCoding": {"system": "urn:x", "code": "pat"}},
                  {"valueCoding": {"display": "patient"}}):  # fmt: skip
        assert rule(world.call(path, reason=wrong)) == (400, "cancel-reason")
    ended = world.call(path, reason={"valueCoding": {"code": "pat-lt"}}).json()
    assert ended["cancelationReason"]["coding"][0]["code"] == "pat-lt"


def test_a_whole_appointment_is_of_one_patient_and_of_this_one(world: World) -> None:
    patient, other = world.patient(), world.patient()
    whole = booked(world.book(world.slots()[0], patient))

    def send(**changed: Any) -> Any:
        resource = {"resource": {**whole, **changed}}
        return world.call("Appointment/$book", appointment_resource=resource)

    mine, *others = whole["participant"]
    foreign = [mine | {"actor": {"reference": f"Patient/{other}"}}, *others]
    for said in ({"status": "cancelled"}, {"comment": "?"}):
        assert rule(send(**said, participant=foreign)) == (422, "appointment-other-person")
        assert rule(send(**said, participant=[mine, *foreign])) == (400, "book-resource")
    reason = {"coding": [{"code": "banana"}]}
    assert rule(send(status="cancelled", cancelationReason=reason)) == (400, "book-resource")
    assert world.read(f"Appointment/{whole['id']}").json()["status"] == "booked"
    reason = {"coding": [{"system": "urn:x", "code": "y"}], "text": "外出"}
    ended = booked(send(status="cancelled", cancelationReason=reason))
    assert (ended["status"], ended["cancelationReason"]["text"]) == ("cancelled", "外出")
    assert ended["cancelationReason"]["coding"][0]["code"] == "prov"


def test_another_institution_learns_of_no_entry_of_a_waiting_list(world: World) -> None:
    world.store([{
        "resourceType": "HealthcareService", "id": "psychiatry", "active": True, "name": "精神科",
        "providedBy": {"reference": "Organization/hospital"},
    }], institution="hospital")  # fmt: skip
    patient = world.patient()
    days = {"start": {"valueDateTime": soon(days=1)}, "end": {"valueDateTime": soon(days=9)}}

    def wait(one: str, by: dict[str, str]) -> Any:
        return world.call("Appointment/$waitlist", by, service="HealthcareService/psychiatry",
                          patient_reference=f"Patient/{one}", **days)  # fmt: skip

    entry = wait(patient, world.clinic).json()["id"]
    assert entry in told(wait(patient, world.clinic))["waitlist-twice"]
    answer = wait(elsewhere(world, patient), world.other)
    assert entry not in answer.text
    assert "ask the patient" in told(answer)["waitlist-twice"]


def test_what_is_labelled_sensitive_is_booked_as_sensitive(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = world._schedule
    monkeypatch.setattr(world, "_schedule", lambda *a: plain(*a) | {"meta": {"security": [PSY]}})
    first, second = world.slots(2)
    monkeypatch.undo()
    patient = world.patient()
    sensitive = booked(world.book(first, patient))
    ordinary = booked(world.book(world.slots(hours=300)[0], patient))
    visit(world, elsewhere(world, patient), world.other, agreed=True)

    def seen(id: str) -> list[int]:
        by = (world.clinic, world.hospital, world.other)
        return [world.read(f"Appointment/{id}", one).status_code for one in by]

    assert (seen(ordinary["id"]), seen(sensitive["id"])) == ([200] * 3, [200, 200, 404])
    assert world.read(f"Slot/{first}", world.other).status_code == 200
    answer = world.create({
        "resourceType": "AppointmentResponse", "participantStatus": "tentative",
        "appointment": {"reference": f"Appointment/{sensitive['id']}"}, "actor": {"display": "?"},
    }, world.hospital)  # fmt: skip
    by = (world.hospital, world.clinic, world.other)
    path = f"AppointmentResponse/{answer}"
    assert [world.read(path, one).status_code for one in by] == [200, 200, 404]
    query = f"AuditEvent?patient=Patient/{patient}&_sort=-date&_count=50"
    found = world.read(query, world.hospital).json()["entry"]
    assert "answer tentative" in [one["resource"].get("outcomeDesc") for one in found]
    moved = world.call(f"Appointment/{sensitive['id']}/$rebook", slot=f"Slot/{second}")
    assert booked(moved)["meta"]["security"] == [PSY]
    world.call(f"Appointment/{sensitive['id']}/$cancel")
    assert seen(sensitive["id"]) == [200, 200, 404]


def test_a_sensitive_item_that_others_book_is_not_told(world: World) -> None:
    lab = {"coding": [{"system": LAB_SYSTEM, "code": HIV}]}
    plain = world._slot

    def made(*asked: Any) -> Any:
        return plain(*asked) | {"serviceType": [lab]}

    world._slot = made  # type: ignore[method-assign]
    slots = [world.slots(hours=hours)[0] for hours in (240, 340, 440)]
    world._slot = plain  # type: ignore[method-assign]
    patient = world.patient()
    booked(world.book(slots[0], patient))
    mine = world.book(slots[1], patient)
    assert "booking-same-item" in told(mine)
    other = elsewhere(world, patient)
    answer = world.call("Appointment/$book", world.other, slot=f"Slot/{slots[2]}",
                        patient_reference=f"Patient/{other}")  # fmt: skip
    assert booked(answer)["status"] == "booked"
    assert "booking-same-item" not in told(answer)


def test_a_patient_is_not_ready_weeks_ahead(world: World) -> None:
    patient = world.patient()
    path = f"Appointment/{booked(world.book(world.slots()[0], patient))['id']}"
    app = caller(world, role="patient", patient=patient)
    assert rule(world.call(f"{path}/$check-in", app)) == (409, "check-in-early")
    for tag, status in (('W/"7"', 412), ("7.0", 400), ("*", 200)):
        answer = world.call(f"{path}/$cancel", app, headers={"if-match": tag})
        assert answer.status_code == status
    assert answer.json()["status"] == "cancelled"


def test_the_hospital_books_and_moves_what_it_does_not_see_the_record_of(world: World) -> None:
    first, second = world.slots(2)
    held = booked(world.hold(first, world.patient()))
    path, hospital = f"Appointment/{held['id']}", world.hospital
    assert world.read(f"Patient/{held['participant'][0]['actor']['reference'][8:]}",
                      hospital).status_code == 404  # fmt: skip
    answer = world.call("Appointment/$book", hospital, appointment_reference=path)
    assert booked(answer)["status"] == "booked"
    answer = world.call(f"{path}/$rebook", hospital, slot=f"Slot/{second}")
    assert booked(answer)["slot"] == [{"reference": f"Slot/{second}"}]


def test_a_hospital_does_not_take_a_booking_out_of_sight(world: World) -> None:
    path = f"Appointment/{booked(world.book(world.slots()[0], world.patient()))['id']}"
    later = world.read(path, world.hospital).json() | {"created": "2099-01-01T00:00:00Z"}
    answer = world.running.put(f"/fhir/{path}", later, headers=world.hospital)
    assert rule(answer) == (403, "booking-governed")
    assert world.read(path).status_code == 200


def test_what_opens_no_channel(world: World) -> None:
    patient = world.patient(world.hospital)
    over = {
        "resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"},
        "statusHistory": [{"status": "in-progress", "period": {"start": "2026-11-01"}}],
        "subject": {"reference": f"Patient/{patient}"},
        "period": {"start": "2026-11-01", "end": "2026-11-02"},
    }  # fmt: skip
    world.create(over, world.hospital)
    (slot,) = world.slots(quotas={"in-consultation": 1})
    asked = {"slot": f"Slot/{slot}", "patient_reference": f"Patient/{patient}"}
    answer = world.call("Appointment/$book", world.hospital, **asked)
    assert "consultation-no-encounter" in told(answer)
    visit(world, patient, world.hospital)
    assert booked(world.call("Appointment/$book", world.hospital, **asked))["status"] == "booked"
    (green,), mine = world.slots(quotas={"green-channel": 1}), world.patient()
    never = world.order(mine, doNotPerform=True)
    answer = world.book(green, mine, based_on=f"ServiceRequest/{never}")
    assert rule(answer) == (422, "order-not-active")
    assert "green-no-referral" in told(world.book(green, mine))
    world.order(mine)
    assert booked(world.book(green, mine))["status"] == "booked"


def test_why_not_tells_all_that_a_booking_would_be_refused_for(world: World) -> None:
    (slot,) = world.slots()
    unknown = world.patient(identifier=[{"system": "urn:clinic:patient", "value": "no-paper"}])
    patient, late = world.patient(), world.patient(deceasedBoolean=True)
    over = world.order(patient, status="completed")

    def why(one: str, **more: str) -> tuple[bool, set[str]]:
        answer = world.call(f"Slot/{slot}/$why-not", patient_reference=f"Patient/{one}", **more)
        first, *others = answer.json()["parameter"]
        rules = {one["part"][0]["valueCode"] for one in others if one["name"] == "reason"}
        return first["valueBoolean"], rules & {"person-unproved", "order-not-active",
                                               "patient-deceased"}  # fmt: skip

    assert why(unknown) == (False, {"person-unproved"})
    assert why(patient, based_on=f"ServiceRequest/{over}") == (False, {"order-not-active"})
    assert why(late) == (False, {"patient-deceased"})
    assert rule(world.book(slot, late)) == (422, "patient-deceased")
    assert why(patient) == (True, set())


def test_repeats_and_refusals_are_on_record(world: World) -> None:
    slot, beside = world.slots(1)[0], world.slots(1)[0]
    patient = world.patient()
    for _ in range(2):
        assert world.book(slot, patient, headers={"idempotency-key": "again"}).status_code == 200
    assert rule(world.book(beside, patient)) == (409, "person-overlap")
    world.running.get("/fhir/Appointment/$find", headers=world.clinic, params={
        "start": soon(days=1), "end": soon(days=2), "reason": "胸痛",
        "patient-reference": f"Patient/{patient}",
    })  # fmt: skip
    found = world.read(f"AuditEvent?patient=Patient/{patient}&_sort=date&_count=50").json()
    events = [one["resource"] for one in found["entry"]]
    acts = [(one["outcome"], one["outcomeDesc"].split()[0]) for one in events
            if one["subtype"][-1].get("display") == "$book"]  # fmt: skip
    assert acts == [("0", "booked"), ("0", "repeated"), ("4", "409")]
    (query,) = [base64.b64decode(part["query"]).decode() for one in events
                for part in one["entity"] if "$find" in base64.b64decode(
                    part.get("query", "")).decode()]  # fmt: skip
    assert f"Patient%2F{patient}" in query
    assert "reason=~" in query


def test_a_slot_without_end_or_number_is_no_fault_of_ours(world: World) -> None:
    service = {"resourceType": "HealthcareService", "id": "own-ct", "active": True, "name": "CT",
               "providedBy": {"reference": "Organization/hospital"}}  # fmt: skip
    schedule = world._schedule("own", "own-ct", "allotment", "I001")

    def put(resource: Any) -> Any:
        path = f"/fhir/{resource['resourceType']}/{resource['id']}"
        return world.running.put(path, resource, headers=world.hospital)

    assert [put(one).status_code for one in (service, schedule)] == [201, 201]
    begin = world.gateway.clock.now() // HOUR * HOUR + 240 * HOUR
    slot = world._slot("own-1", "own", "", begin, 2, "I001", None)
    slot["extension"] = slot["extension"][:1]
    seats = {"url": ext.CAPACITY, "extension": [{"url": "total", "valuePositiveInt": 10**9}]}
    part = {"url": ext.QUOTA, "extension": [{"url": "channel", "valueCode": "ordinary"},
                                            {"url": "seats", "valueUnsignedInt": 99}]}  # fmt: skip
    late = {"start": "9999-12-31T22:00:00-12:00", "end": "9999-12-31T23:59:59-12:00"}
    for more, name in (
        (late, "slot-time"), ({"end": "2099-01-01T00:00:00Z"}, "slot-time"),
        ({"extension": [seats]}, "slot-capacity"),
        ({"extension": [*slot["extension"], *slot["extension"]]}, "slot-capacity"),
        ({"extension": [*slot["extension"], part]}, "slot-quota"),
    ):  # fmt: skip
        assert rule(put(slot | more)) == (422, name)
    assert put(slot).status_code == 201


def test_a_referral_is_found_by_whichever_record_of_the_person(world: World) -> None:
    """Homes of a linked person come in an order of their own; the record that was asked for is in
    one of them, and so may be the referral."""
    patient = world.patient()
    world.order(patient)
    area = {"url": ext.AREA, "valueCoding": {"system": AREA_SYSTEM, "code": "130000"}}
    known = world.read(f"Patient/{patient}").json()
    again = world.patient(identifier=known["identifier"], name=known["name"],
                          address=[{"text": "外地", "extension": [area]}])  # fmt: skip
    (slot,) = world.slots(quotas={"green-channel": 1})
    assert booked(world.book(slot, again))["status"] == "booked"


def test_missed_appointments_are_named_to_who_sees_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So are appeals: what is said of a sensitive booking is as sensitive. The last test: it puts
    the clock forward."""
    plain = world._schedule
    monkeypatch.setattr(world, "_schedule", lambda *a: plain(*a) | {"meta": {"security": [PSY]}})
    (slot,), patient = world.slots(hours=2), world.patient()
    missed = booked(world.book(slot, patient))["id"]
    world.running.clock.ahead += 3 * HOUR  # type: ignore[attr-defined]
    answer = world.call(f"Appointment/{missed}/$no-show", world.hospital)
    assert answer.json()["meta"]["security"] == [PSY]
    other = elsewhere(world, patient)
    visit(world, other, world.other, agreed=True)

    def told_of(one: str, by: dict[str, str]) -> tuple[int, list[str]]:
        parts = world.call(f"Patient/{one}/$missed-appointments", by).json()["parameter"]
        named = [part["part"][0]["valueReference"]["reference"] for part in parts
                 if part["name"] == "missed"]  # fmt: skip
        return parts[0]["valueInteger"], named

    assert told_of(patient, world.clinic) == (1, [f"Appointment/{missed}"])
    assert told_of(other, world.other) == (1, [])
    path = f"Appointment/{missed}/$appeal"
    bound = doctor(world, "patient/Task.cu", "user/Appointment.rs", patient=world.patient())
    assert rule(world.call(path, bound, text="住院")) == (403, "launch-patient")
    task = world.call(path, text="住院").json()["parameter"][0]["valueReference"]["reference"]
    assert [world.read(task, by).status_code for by in (world.hospital, world.other)] == [200, 404]
