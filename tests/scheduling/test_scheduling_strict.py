"""What strict clients of IHE and of FHIR do: hold by a proposal alone, answer by a resource, and
move a booking to another hospital."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from booking_world import HOUR, SHIPPED, World, body_of, booked, marks, told
from databases import Databases

from fhir_gateway.app import profile_resources
from fhir_gateway.cli.profiles_check import context_of, judged
from fhir_gateway.fhir.profile_known import Known
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.institutions import issue_token, register
from fhir_gateway.scheduling.proposal import Numbers, id_of_proposal
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.security.institution import Institution
from fhir_gateway.settings import load_settings
from fhir_gateway.store.seat_audit import audit

CARDIAC = "I020"


@pytest.fixture(scope="module")
def world(shared_database: Databases) -> Iterator[World]:
    running = shared_database.running("strict", policy=SHIPPED)
    yield World(running)
    running.close()


@cache
def _definitions() -> Any:
    resources = list(profile_resources("profiles"))
    known = Known([one for one in resources if one["resourceType"] == "StructureDefinition"])
    return known, context_of(load_settings({}), resources, known)[1]


def faults(*resources: Any) -> list[Any]:
    found = [one for resource in resources for one in judged(resource, *_definitions())]
    return [one for one in found if one.severity != "information"]


def offers(world: World, hours: int, by: Any = None, **more: Any) -> list[Any]:
    """The proposals of a $find for a patient, around so many hours from now."""
    now = world.gateway.clock.now()
    answer = world.call(
        "Appointment/$find", by, start={"valueDateTime": instant(now + (hours - 1) * HOUR)},
        end={"valueDateTime": instant(now + (hours + 5) * HOUR)}, **more,
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    return [one["resource"] for one in answer.json()["entry"] if one["search"]["mode"] == "match"]


def rule_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, next(iter(told(answer)))


def no_faults(world: World) -> bool:
    async def ask() -> list[Any]:
        async with world.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            return list(await reader.steps(lambda _: audit()))

    return world.running.run(ask()) == []


# -- a proposal is enough -------------------------------------------------------------------------


def test_a_strict_client_holds_and_books_by_the_proposal_alone(world: World) -> None:
    world.slots(3, item=CARDIAC, hours=700)
    patient = world.patient()
    order = world.order(patient, CARDIAC)
    asked = {"patient_reference": f"Patient/{patient}", "based_on": f"ServiceRequest/{order}"}
    first, second, third = offers(world, 700, **asked)
    assert len(first["id"]) <= 64 and faults(first) == []
    assert patient not in first["id"] and first["id"] != second["id"]
    held = world.call("Appointment/$hold", appointment_reference=f"Appointment/{first['id']}")
    assert held.status_code == 200, held.text
    whole = booked(held)
    assert whole["participant"][0]["actor"]["reference"] == f"Patient/{patient}"
    assert whole["basedOn"] == [{"reference": f"ServiceRequest/{order}"}]
    made = booked(world.call("Appointment/$book",
                             appointment_reference=f"Appointment/{whole['id']}"))  # fmt: skip
    assert made["status"] == "booked"
    path = f"Appointment/{made['id']}/$rebook"
    moved = booked(world.call(path, appointment_reference=f"Appointment/{second['id']}"))
    assert (moved["id"], moved["slot"]) == (made["id"], second["slot"])
    # a seat that is gone is refused with the next offers, which are looked for as this patient's
    other = world.patient()
    late = world.call("Appointment/$hold", appointment_reference=f"Appointment/{second['id']}")
    assert (late.status_code, "offer" in told(late)) == (409, True)

    for one, more in (
        (third["id"], {"patient_reference": f"Patient/{other}"}),
        (third["id"], {"slot": "Slot/another"}),
        (third["id"][:-1] + ("A" if third["id"][-1] != "A" else "B"), {}),
        (third["id"][:-4], {}),
        ("offer.", {}),
        ("offer-", {}),
    ):
        answer = world.call("Appointment/$hold", appointment_reference=f"Appointment/{one}", **more)
        assert rule_of(answer) == (400, "proposal"), one
    stolen = world.call("Appointment/$hold", world.other,
                        appointment_reference=f"Appointment/{third['id']}")  # fmt: skip
    assert rule_of(stolen) == (400, "proposal")
    moved = world.call(f"Appointment/{booked(world.book(world.slots()[0], other))['id']}/$rebook",
                       appointment_reference=f"Appointment/{third['id']}")  # fmt: skip
    assert rule_of(moved) == (422, "appointment-other-person")


@pytest.mark.drivers("sqlite")
def test_what_an_id_has_no_room_for_is_said_again(world: World) -> None:
    (slot,) = world.slots(item=CARDIAC, hours=720)
    patient = world.patient()
    (one,) = offers(world, 720, service=CARDIAC)
    assert one["id"] == f"offer-{slot}"
    bare = world.call("Appointment/$hold", appointment_reference=f"Appointment/{one['id']}")
    assert rule_of(bare) == (400, "required")
    now = world.gateway.clock.now()
    answer = world.call(
        "Appointment/$find", service=CARDIAC, reason="胸闷", patient_reference=f"Patient/{patient}",
        start={"valueDateTime": instant(now + 719 * HOUR)},
        end={"valueDateTime": instant(now + 725 * HOUR)},
    )  # fmt: skip
    assert "reason-again" in told(answer)


@pytest.mark.drivers("sqlite")
def test_a_number_of_a_proposal_is_sealed_for_one_caller(world: World) -> None:
    from fhir_gateway.security.actor import Actor

    clinic = Actor("示范社区中心", "institution", "clinic")
    ids = {
        id_of_proposal(secret, actor, "s", numbers)
        for secret in (b"a" * 32, b"b" * 32)
        for actor in (clinic, Actor("x", "institution", "other"))
        for numbers in (Numbers(7, 8), Numbers(7, 9), Numbers(7, 8, (9,)))
    }
    assert len(ids) == 12 and all(len(one) == 64 for one in ids)
    assert id_of_proposal(b"a", clinic, "s", Numbers(7, 8, (1, 2, 3, 4, 5))) == "offer-s"
    assert id_of_proposal(b"a", clinic, "s" * 60, Numbers(7)) == ""


# -- answers as resources -------------------------------------------------------------------------


def asked_of_hospital(world: World) -> tuple[str, str, Any]:
    """A booking that waits for its hospital: Slot, patient, Appointment."""
    (slot,) = world.slots(master="hospital")
    patient = world.patient()
    whole = booked(world.book(slot, patient))
    assert "confirm-by" in marks(whole)
    return slot, patient, whole


def answer_to(whole: Any, status: str, **more: Any) -> dict[str, Any]:
    service = next(one["actor"] for one in whole["participant"]
                   if one["actor"]["reference"].startswith("HealthcareService/"))  # fmt: skip
    said = {
        "resourceType": "AppointmentResponse", "participantStatus": status,
        "appointment": {"reference": f"Appointment/{whole['id']}"}, "actor": service, **more,
    }  # fmt: skip
    return {name: value for name, value in said.items() if value is not None}


def responses(world: World, whole: Any, by: Any, more: str = "") -> list[Any]:
    path = f"/fhir/AppointmentResponse?appointment=Appointment/{whole['id']}{more}"
    answer = world.running.get(path, headers=by).json()
    return [one["resource"] for one in answer.get("entry", ())]


@pytest.mark.parametrize("verb", ["confirm", "refuse"])
def test_what_a_hospital_answers_can_be_searched_by_both_sides(world: World, verb: str) -> None:
    slot, _, whole = asked_of_hospital(world)
    done = world.call(f"Appointment/{whole['id']}/${verb}", world.hospital)
    assert done.status_code == 200, done.text
    status = {"confirm": "accepted", "refuse": "declined"}[verb]
    for by in (world.hospital, world.clinic):
        (one,) = responses(world, whole, by, f"&part-status={status}")
        assert one["participantStatus"] == status and faults(one) == []
        assert one["start"] == whole["start"]
    assert responses(world, whole, world.other) == []
    assert world.status(slot) == {"confirm": "busy", "refuse": "free"}[verb]


def test_an_answer_that_is_posted_is_the_step_that_it_says(world: World) -> None:
    def post(resource: Any, by: Any) -> Any:
        return world.running.post("/fhir/AppointmentResponse", resource, headers=by)

    def now(whole: Any) -> str:
        return str(world.read(f"Appointment/{whole['id']}").json()["status"])

    slot, _, whole = asked_of_hospital(world)
    later = answer_to(whole, "tentative", start="2031-01-01T08:00:00+08:00",
                      end="2031-01-01T09:00:00+08:00")  # fmt: skip
    assert post(later, world.hospital).status_code == 201
    assert now(whole) == "pending"
    # nobody answers for the hospital, and nobody else at all
    assert rule_of(post(answer_to(whole, "accepted"), world.clinic)) == (403, "appointment-party")
    room = {"reference": "Location/none"}
    assert post(answer_to(whole, "accepted", actor=room), world.clinic).status_code in (403, 422)
    assert post(answer_to(whole, "declined", comment="x"), world.other).status_code == 422
    forged = answer_to(whole, "accepted", extension=marked(world, whole))
    made = post(forged, world.hospital)
    assert made.status_code == 201, made.text
    assert (now(whole), world.status(slot)) == ("booked", "busy")
    stored = made.json() or {}
    id = made.headers["location"].split("/")[-3]
    stored = world.read(f"AppointmentResponse/{id}", world.clinic).json()  # who booked sees it
    assert faults(stored) == []
    changed = world.running.request(
        "PUT", f"/fhir/AppointmentResponse/{id}", headers=world.hospital,
        json={**stored, "participantStatus": "declined", "comment": "停机"},
    )  # fmt: skip
    assert rule_of(changed) == (403, "booking-governed")
    # once more: it is booked already, and what is declined then is cancelled
    assert post(answer_to(whole, "accepted"), world.hospital).status_code == 201
    declined = answer_to(whole, "declined", comment="设备故障")
    entry = {"resource": declined, "request": {"method": "POST", "url": "AppointmentResponse"}}
    twice = {"resourceType": "Bundle", "type": "transaction", "entry": [entry, entry]}
    both = world.running.post("/fhir", twice, headers=world.hospital)
    assert rule_of(both) == (422, "booking-answer")
    single = world.running.post("/fhir", {**twice, "entry": [entry]}, headers=world.hospital)
    assert single.status_code == 200, single.text
    assert (now(whole), world.status(slot)) == ("cancelled", "free")
    ended = world.read(f"Appointment/{whole['id']}").json()
    assert ended["cancelationReason"]["text"] == "设备故障"
    assert rule_of(post(declined, world.hospital)) == (409, "appointment-state")
    assert no_faults(world)


def marked(world: World, whole: Any) -> list[Any]:
    """Institutions that a client would like to have named; the gateway says its own."""
    url = next(one["url"] for one in whole["extension"]
               if one["url"].endswith("booking-institution"))  # fmt: skip
    return [{"url": url, "valueReference": {"reference": "Organization/other"}}]


@pytest.mark.drivers("sqlite")
def test_who_booked_declines_by_an_answer_and_holds_are_booked_by_their_operation(
    world: World,
) -> None:
    def post(resource: Any, by: Any = None) -> Any:
        return world.running.post("/fhir/AppointmentResponse", resource, headers=by or world.clinic)

    first, second = world.slots(2)
    patient = world.patient()
    held = booked(world.hold(first, patient))
    person = {"reference": f"Patient/{patient}"}
    answer = post(answer_to(held, "accepted", actor=person))
    assert rule_of(answer) == (422, "booking-answer")
    assert "$book" in answer.text
    other = {"reference": f"Patient/{world.patient()}"}
    answer = post(answer_to(held, "declined", actor=other, comment="不来"))
    assert rule_of(answer) == (422, "appointment-other-person")
    gone = post(answer_to(held, "declined", actor=person, comment="不来"))
    assert gone.status_code == 201, gone.text
    assert world.read(f"Appointment/{held['id']}").json()["status"] == "cancelled"
    # an Appointment that was not booked here is answered as any resource is
    plain = world.create({
        "resourceType": "Appointment", "status": "proposed",
        "participant": [{"actor": person, "status": "needs-action"}],
    })  # fmt: skip
    said = {"resourceType": "AppointmentResponse", "participantStatus": "accepted",
            "appointment": {"reference": f"Appointment/{plain}"}, "actor": person}  # fmt: skip
    assert post(said).status_code == 201
    named = post({**said, "extension": marked(world, held)})
    assert rule_of(named) == (403, "booking-governed")
    assert second and no_faults(world)


@pytest.mark.drivers("sqlite")
def test_what_a_booking_says_is_amended_by_its_parties(world: World) -> None:
    (slot,) = world.slots()
    patient = world.patient()
    order, other = world.order(patient), world.order(world.patient())
    whole = booked(world.book(slot, patient))
    path = f"Appointment/{whole['id']}/$amend"
    changed = world.call(path, headers={"if-match": 'W/"1"'}, comment="轮椅", reason="头痛",
                         based_on=f"ServiceRequest/{order}").json()  # fmt: skip
    assert (changed["comment"], changed["reasonCode"]) == ("轮椅", [{"text": "头痛"}])
    assert changed["basedOn"] == [{"reference": f"ServiceRequest/{order}"}]
    assert (changed["slot"], marks(changed)) == (whole["slot"], marks(whole))
    assert faults(changed) == []
    by_hospital = world.call(path, world.hospital, comment="请带旧片").json()
    assert (by_hospital["comment"], by_hospital["reasonCode"]) == ("请带旧片", [{"text": "头痛"}])
    assert world.call(path, headers={"if-match": 'W/"1"'}, comment="x").status_code == 412
    assert rule_of(world.call(path)) == (422, "amend-nothing")
    wrong = world.call(path, based_on=f"ServiceRequest/{other}")
    assert rule_of(wrong) == (422, "order-other-person")
    assert world.call(path, world.other, comment="x").status_code == 404
    world.call(f"Appointment/{whole['id']}/$cancel")
    assert rule_of(world.call(path, comment="x")) == (409, "appointment-state")


@pytest.mark.drivers("sqlite")
def test_a_whole_appointment_books_changes_and_cancels(world: World) -> None:
    """As IHE Scheduling 1.0 has it: `$book` with appointment-resource, by what its status says."""
    first, second = world.slots(2, item=CARDIAC, hours=800)
    patient = world.patient()

    def book(resource: Any, **more: Any) -> Any:
        return world.call("Appointment/$book", **more, appointment_resource={"resource": resource})

    offer = offers(world, 800, patient_reference=f"Patient/{patient}", service=CARDIAC)[0]
    whole = booked(book({**offer, "status": "pending"}))
    assert (whole["status"], whole["slot"]) == ("booked", offer["slot"])
    said = {name: one for name, one in whole.items() if name not in ("meta", "extension")}
    amended = booked(book({**said, "comment": "轮椅", "reasonCode": [{"text": "胸闷"}]}))
    assert (amended["id"], amended["comment"]) == (whole["id"], "轮椅")
    moved = booked(book({
        **said, "slot": [{"reference": f"http://127.0.0.1/fhir/Slot/{second}"}],
        "comment": "x",
    }))  # fmt: skip
    assert (moved["id"], moved["slot"]) == (whole["id"], [{"reference": f"Slot/{second}"}])
    reason = {"coding": [{"code": "pat"}], "text": "改期"}
    ended = {**said, "status": "cancelled", "cancelationReason": reason}
    gone = booked(book(ended, headers={"idempotency-key": "gone"}))
    assert (gone["status"], gone["cancelationReason"]["text"]) == ("cancelled", "改期")
    assert booked(book(ended, headers={"idempotency-key": "gone"})) == gone
    # without a number: a Slot, a participant and the times that were seen
    plain = {
        "resourceType": "Appointment", "status": "pending", "start": offer["start"],
        "end": offer["end"], "slot": [{"reference": f"Slot/{first}"}],
        "participant": [{"actor": {"reference": f"Patient/{patient}"}, "status": "accepted"}],
    }  # fmt: skip
    held = booked(world.hold(second, world.patient()))
    assert booked(book({**held, "status": "pending"}))["id"] == held["id"]
    early = {**plain, "start": "2026-12-24T08:00:00+08:00"}
    nobody = {**plain, "participant": [{"actor": {"display": "x"}, "status": "accepted"}]}
    for resource, more, expected in (
        ({**plain, "status": "arrived"}, {}, (400, "book-resource")),
        ({**plain, "status": "cancelled"}, {}, (400, "book-resource")),
        ({**plain, "status": "booked"}, {}, (400, "book-resource")),
        ({**plain, "slot": plain["slot"] * 2}, {}, (400, "book-resource")),
        ({name: one for name, one in plain.items() if name != "slot"}, {}, (400, "book-resource")),
        (nobody, {}, (400, "book-resource")),
        (
            {**plain, "slot": [{"reference": f"http://elsewhere.example/Slot/{first}"}]},
            {},
            (400, "book-resource"),
        ),
        (plain, {"slot": f"Slot/{first}"}, (400, "book-resource")),
        ({**plain, "status": "booked", "id": "none"}, {}, (404, "appointment-unknown")),
        (early, {}, (409, "slot-changed")),
    ):
        assert rule_of(book(resource, **more)) == expected, (resource, more)
    assert booked(book(plain))["status"] == "booked"
    assert book(plain).status_code == 409


# -- to another hospital --------------------------------------------------------------------------


def at_once(world: World, path: str, calls: list[tuple[str, dict[str, str]]]) -> list[int]:
    """The statuses of operations that are called at the same moment."""
    headers = {**world.clinic, "content-type": "application/fhir+json"}

    async def all_of_them() -> list[int]:
        answers = await asyncio.gather(*(
            world.running.http.post(f"/fhir/{path}/{name}", json=body_of(said), headers=headers)
            for name, said in calls
        ))  # fmt: skip
        return [one.status_code for one in answers]

    found: list[int] = world.running.run(all_of_them())
    return found


def test_a_booking_moves_to_another_hospital_in_one_step(world: World) -> None:
    run = world.running.run
    run(register(world.gateway, Institution(id="north", name="北部示范医院", area="110108",
                                            level="三级甲等")))  # fmt: skip
    north = {"authorization": f"Bearer {run(issue_token(world.gateway, 'north'))}"}
    (here,) = world.slots(hours=900)
    there, full = world.slots(2, hours=910, hospital="north")
    patient, order = world.patient(), ""
    order = world.order(patient)
    old = booked(world.book(here, patient, based_on=f"ServiceRequest/{order}", comment="轮椅"))
    booked(world.book(full, world.patient()))
    path = f"Appointment/{old['id']}/$rebook"
    lost = world.call(path, slot=f"Slot/{full}")
    assert lost.status_code == 409
    assert (world.status(here), world.read(f"Appointment/{old['id']}").json()["status"]) == (
        "busy", "booked")  # fmt: skip
    refused = world.call(path, world.hospital, slot=f"Slot/{there}")
    assert refused.status_code in (403, 404, 409)
    answer = world.call(path, slot=f"Slot/{there}", headers={"idempotency-key": "across"})
    new = booked(answer)
    assert new["id"] != old["id"] and old["id"] in told(answer)["rebook-replaced"]
    assert marks(new)["booking-replaces"] == {"reference": f"Appointment/{old['id']}"}
    assert (new["status"], new["comment"]) == ("booked", "轮椅")
    assert new["basedOn"] == [{"reference": f"ServiceRequest/{order}"}]
    again = world.call(path, slot=f"Slot/{there}", headers={"idempotency-key": "across"})
    assert again.content == answer.content
    ended = world.read(f"Appointment/{old['id']}", world.hospital).json()
    assert (ended["status"], "slot" in ended) == ("cancelled", True)
    assert new["id"] not in str(ended)  # where its patient went is not this hospital's
    assert faults(new, ended) == []
    assert (world.status(here), world.status(there)) == ("free", "busy")
    assert world.read(f"Appointment/{new['id']}", north).status_code == 200
    assert world.read(f"Appointment/{new['id']}", world.hospital).status_code == 404
    # it moves on within its new hospital, and keeps where it came from
    assert rule_of(world.call(path, slot=f"Slot/{here}")) == (409, "appointment-state")
    # whoever moves and cancels at once: one of them, and no seat is lost
    (home,) = world.slots(hours=950)
    one, two = world.slots(2, hours=960, hospital="north")
    third = booked(world.book(home, world.patient()))
    answers = at_once(world, f"Appointment/{third['id']}", [
        ("$rebook", {"slot": f"Slot/{one}"}), ("$rebook", {"slot": f"Slot/{two}"}), ("$cancel", {}),
    ])  # fmt: skip
    assert sorted(answers) == [200, 409, 409]
    assert world.status(home) == "free"
    assert [world.status(slot) for slot in (one, two)].count("busy") <= 1
    # a hold moves too, and one that the patient has at that time already does not count against it
    (beside,) = world.slots(hours=930)
    (far,) = world.slots(hours=930, hospital="north")
    held = booked(world.hold(beside, world.patient()))
    moved = booked(world.call(f"Appointment/{held['id']}/$rebook", slot=f"Slot/{far}"))
    assert (moved["status"], "hold-until" in marks(moved)) == ("pending", True)
    assert world.read(f"Appointment/{held['id']}").json()["status"] == "cancelled"
    assert no_faults(world)


def test_a_slot_whose_id_has_no_room_for_a_proposal_is_found_all_the_same(world: World) -> None:
    (short,) = world.slots(1, hours=1_100)
    slot = {**world.read(f"Slot/{short}").json(), "id": "s" * 64}
    del slot["meta"]
    world.store([slot], institution="hospital")
    found = offers(world, 1_100, service="I001")
    told = {one["slot"][0]["reference"]: one.get("id") for one in found}
    assert told == {f"Slot/{short}": f"offer-{short}", f"Slot/{'s' * 64}": None}
