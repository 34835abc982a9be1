"""What is refused when somebody books, and the sentence that says what would work instead."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from booking_world import CT_CHEST, HOUR, SHIPPED, World, body_of, booked, marks, told
from databases import Databases

from fhir_gateway.app import build
from fhir_gateway.context import SystemClock
from fhir_gateway.fhir.wire import instant


class Clock(SystemClock):
    """The machine's clock, which a test may put forward."""

    ahead = 0

    def now(self) -> int:
        return super().now() + self.ahead


@pytest.fixture(scope="module")
def world(shared_database: Databases, request: Any) -> Iterator[World]:
    from running import Running

    clock = Clock()

    class Later(Running):
        def build(self, settings):
            return build(settings, clock=clock)

    running = Later(shared_database.url("refused"), policy=SHIPPED)
    made = World(running)
    made.clock = clock
    yield made
    running.close()


@pytest.fixture
def later(world):
    """Puts the clock forward; it never goes back, as the store's own does not."""

    def put(hours):
        world.clock.ahead += int(hours * HOUR)

    return put


def when(world, hours):
    """A moment in so many hours, on the gateway's clock."""
    return instant(world.gateway.clock.now() + hours * HOUR)


def refusal(answer):
    """Status, first rule and first sentence."""
    issue = answer.json()["issue"][0]
    return answer.status_code, issue["details"]["text"], issue["diagnostics"]


def find(world, by=None, **more):
    period = {
        "start": {"valueDateTime": when(world, 200)},
        "end": {"valueDateTime": when(world, 300)},
    }
    return world.call("Appointment/$find", by, **{**period, **more})


def test_a_slot_that_has_begun(world, later):
    slots = world.slots(2, hours=2)
    later(3)
    answer = world.book(slots[0], world.patient())
    status, rule, text = refusal(answer)
    assert (status, rule) == (409, "slot-past")
    assert "later" in text


def test_a_slot_that_nobody_sells(world):
    status, rule, text = refusal(world.book("no-such-slot", world.patient()))
    assert (status, rule, "$find" in text) == (409, "slot-unknown", True)


def test_a_channel_that_is_not_the_callers_is_explained(world):
    (slot,) = world.slots(quotas={"grassroots-referral": 1})
    patient = world.patient(world.hospital)
    answer = world.book(slot, patient, by=world.hospital)
    assert answer.status_code == 409
    assert "grade" in "".join(told(answer)) or "grassroots" in str(told(answer))
    assert "no institution of primary care" in told(answer)["grassroots-grade"]
    why = world.call(f"Slot/{slot}/$why-not", world.hospital,
                     patient_reference=f"Patient/{patient}").json()["parameter"]  # fmt: skip
    assert why[0] == {"name": "bookable", "valueBoolean": False}
    rules = [one["part"][0]["valueCode"] for one in why if one["name"] == "reason"]
    assert {"grassroots-grade", "channel-no-part"} <= set(rules)
    assert booked(world.book(slot, world.patient()))["status"] == "booked"


def test_a_channel_that_opens_later_says_when(world):
    (slot,) = world.slots(quotas={"ordinary": 1}, opens={"ordinary": 24})
    answer = world.book(slot, world.patient())
    assert answer.status_code == 409
    assert "opens" in told(answer)["channel-not-open"]


def test_a_hold_that_is_over(world, later):
    (slot,) = world.slots()
    held = booked(world.hold(slot, world.patient()))
    later(0.5)
    answer = world.call("Appointment/$book", appointment_reference=f"Appointment/{held['id']}")
    status, rule, text = refusal(answer)
    assert (status, rule, "anew" in text) == (409, "hold-expired", True)
    assert booked(world.book(slot, world.patient()))["status"] == "booked"


def test_a_hold_for_another_patient(world):
    (slot,) = world.slots()
    held = booked(world.hold(slot, world.patient()))
    answer = world.call("Appointment/$book", appointment_reference=f"Appointment/{held['id']}",
                        patient_reference=f"Patient/{world.patient()}")  # fmt: skip
    status, rule, text = refusal(answer)
    assert (status, rule) == (422, "appointment-other-person")
    assert "made for" in text


def test_a_patient_whom_the_caller_does_not_see(world):
    (slot,) = world.slots()
    status, rule, text = refusal(world.book(slot, world.patient(world.hospital), by=world.other))
    assert (status, rule) == (404, "patient-unknown")
    assert "register" in text


def test_two_bodies_under_one_key(world):
    first, second = world.slots(2)
    patient = world.patient()
    headers = {"idempotency-key": "k-1"}
    one = world.book(first, patient, headers=headers)
    again = world.book(first, patient, headers=headers)
    assert (one.status_code, again.content) == (200, one.content)
    by_parameter = world.book(first, patient, idempotency_key="k-1")
    assert by_parameter.content == one.content
    status, rule, text = refusal(world.book(second, world.patient(), headers=headers))
    assert (status, rule) == (422, "idempotency-key")
    assert "new key" in text
    elsewhere = world.patient(world.other)
    other = world.book(second, elsewhere, by=world.other, headers=headers)
    assert booked(other)["status"] == "booked"  # each caller has keys of its own


def test_fault_81_without_its_key_a_repeat_books_no_second_time(world):
    """As when a key was forgotten: the person's own time stands in the way."""
    (slot,) = world.slots(capacity=4)
    patient = world.patient()
    assert booked(world.book(slot, patient, headers={"idempotency-key": "old"}))
    for headers in ({"idempotency-key": "new"}, {}):
        status, rule, _ = refusal(world.book(slot, patient, headers=headers))
        assert (status, rule) == (409, "person-overlap")


def test_fault_85_two_at_once_leave_what_is_kept_for_others(world):
    """One seat each for everybody and for consultations: two who would each leave the last one
    untouched take one, and the reserve is a row that both are judged by."""
    slots = world.slots(2, quotas={"ordinary": 1, "in-consultation": 1})
    bodies = [
        body_of({"slot": f"Slot/{slot}", "patient_reference": f"Patient/{world.patient()}"})
        for slot in slots
    ]
    headers = {**world.clinic, "content-type": "application/fhir+json"}

    async def both():
        http = world.running.http
        return await asyncio.gather(*(
            http.post("/fhir/Appointment/$book", json=body, headers=headers) for body in bodies
        ))  # fmt: skip

    answers = world.running.run(both())
    assert sorted(one.status_code for one in answers) == [200, 409]
    (lost,) = [one for one in answers if one.status_code == 409]
    assert {"quota-full", "channel-closed"} & set(told(lost)), lost.text
    assert sorted(world.status(slot) for slot in slots) == ["busy", "free"]


def test_who_is_barred_and_what_is_excused(world, later):
    patient = world.patient()
    missed = []
    for number in range(3):
        (slot,) = world.slots(hours=2 + 30 * number)
        missed.append(booked(world.book(slot, patient))["id"])
    later(100)
    for id in missed:
        answer = world.call(f"Appointment/{id}/$no-show", world.hospital)
        assert (answer.status_code, answer.json()["status"]) == (200, "noshow")
    (slot,) = world.slots(hours=240)
    status, rule, text = refusal(world.book(slot, patient))
    assert (status, rule, "appeal" in text) == (422, "person-barred", True)
    assert world.call(f"Appointment/{missed[1]}/$excuse", world.hospital,
                      text="急诊住院").status_code == 200  # fmt: skip
    assert booked(world.book(slot, patient))["status"] == "booked"


def test_two_at_one_time_and_too_many_of_a_day(world):
    first, second = world.slots(2)
    patient = world.patient()
    world.book(first, patient)
    world.slots(hours=288)
    answer = world.book(second, patient)
    status, rule, text = refusal(answer)
    assert (status, rule, "day" in text) == (409, "person-limit", True)
    start = datetime.fromisoformat(world.read(f"Slot/{second}").json()["start"])
    day = start.astimezone(ZoneInfo("Asia/Shanghai")).date().isoformat()
    offered = [one["diagnostics"] for one in answer.json()["issue"][1:]]
    assert offered and not [text for text in offered if day in text]
    (beside,) = world.slots()
    status, rule, text = refusal(world.book(beside, patient))
    assert (status, rule, "rebook" in text) == (409, "person-overlap", True)


def test_a_person_without_a_document(world):
    (slot,) = world.slots()
    patient = world.patient(identifier=[{"system": "urn:clinic:patient", "value": "17"}])
    status, rule, text = refusal(world.book(slot, patient))
    assert (status, rule, "document" in text) == (422, "person-unproved", True)


def test_orders_that_do_not_fit(world):
    (slot,), (ordered,) = world.slots(), world.slots(item=CT_CHEST)
    patient = world.patient()
    cases = {
        "order-other-person": world.order(world.patient()),
        "order-not-active": world.order(patient, status="completed"),
        "order-other-item": world.order(patient, CT_CHEST),
    }
    for rule, order in cases.items():
        answer = world.book(slot, patient, based_on=f"ServiceRequest/{order}")
        assert (answer.status_code, refusal(answer)[1]) == (422, rule)
    assert f"Slot/{ordered} " in told(answer)["offer"]  # the last one: what its order asks for
    answer = world.book(slot, patient, based_on="ServiceRequest/none")
    assert (answer.status_code, refusal(answer)[1]) == (422, "order-unknown")


def test_an_examination_that_is_not_for_this_patient(world):
    (slot,) = world.slots(requires=[
        {"url": "sex", "valueCode": "female"}, {"url": "maxAge", "valueUnsignedInt": 14},
    ])  # fmt: skip
    answer = world.book(slot, world.patient(gender="male"))
    assert (answer.status_code, [*told(answer)]) == (422, ["patient-sex", "patient-age"])
    (slot,) = world.slots(requires=[{"url": "sex", "valueCode": "female"}])
    answer = world.book(slot, world.patient())
    assert booked(answer)["status"] == "booked"
    assert "does not say its sex" in told(answer)["patient-sex"]


def test_steps_out_of_turn(world):
    (slot,) = world.slots()
    held = booked(world.hold(slot, world.patient()))
    path = f"Appointment/{held['id']}"
    answer = world.call(f"{path}/$fulfil", world.hospital)
    status, rule, text = refusal(answer)
    assert (status, rule) == (409, "appointment-state")
    assert "what can be done is" in text
    assert refusal(world.call(f"{path}/$arrive"))[:2] == (403, "appointment-party")


@pytest.mark.parametrize(
    ("parameters", "status", "rule"),
    [
        ({"timing": {"valueTiming": {"repeat": {"dayOfWeek": ["mon"]}}}}, 400, "find-timing"),
        ({"insurance_reference": "Coverage/1"}, 400, "find-insurance-reference"),
        ({"service": "no-item"}, 400, "item-unknown"),
        ({"visit_type": "walk-in"}, 400, "find-visit-type"),
        ({"sort": {"valueCode": "cheapest"}}, 400, "find-sort"),
        ({"sort": {"valueCode": "district"}}, 400, "find-sort"),
        ({"practitioner": "Device/1"}, 400, "reference"),
        ({"colour": "red"}, 400, "unknown-parameter"),
        ({"referral_identifier": "urn:none|1"}, 400, "order-unknown"),
        ({"end": {"valueDateTime": "2020-01-01"}}, 400, "find-period"),
        ({"_cursor": "eyJ"}, 400, "cursor"),
    ],
)
def test_what_a_search_cannot_heed_is_refused(world, parameters, status, rule):
    answer = find(world, **parameters)
    assert (answer.status_code, refusal(answer)[1]) == (status, rule)


def test_what_is_sold_later_or_to_others_is_told(world):
    world.slots(item="I010", quotas={"grassroots-referral": 1}, hours=250)
    world.slots(item="I010", quotas={"ordinary": 1}, opens={"ordinary": 9}, hours=250)
    answer = find(world, world.hospital, service="I010")
    assert answer.json()["total"] == 0
    hints = told(answer)
    assert "hospital sells 1 of these through grassroots-referral" in hints["other-channel"]
    assert "opens ordinary" in hints["opens-later"]
    elsewhere = find(world, world.hospital, service="I010", department="nowhere")
    assert "other days" in told(elsewhere)["nothing-free"]
    assert find(world, service="I010").json()["total"] == 1
    assert "other days" in told(find(world, service="I011"))["nothing-free"]


def test_pages_add_up_and_links_are_the_callers(world):
    made = world.slots(7, item="I012", capacity=2, hours=220)
    seen, path, body = (
        [],
        "/fhir/Appointment/$find",
        {"start": when(world, 200), "end": when(world, 300), "service": "I012", "_count": "3"},
    )
    answer = world.running.get(path, params=body, headers=world.clinic)
    while True:
        page = answer.json()
        assert page["total"] == 7
        seen += [one["resource"]["slot"][0]["reference"] for one in page["entry"]
                 if one["search"]["mode"] == "match"]  # fmt: skip
        following = [one["url"] for one in page["link"] if one["relation"] == "next"]
        if not following:
            break
        foreign = world.running.get(following[0], headers=world.other)
        assert foreign.status_code == 400
        answer = world.running.get(following[0], headers=world.clinic)
    assert seen == [f"Slot/{one}" for one in made]


def test_preferred_hospitals_come_first(world):
    late = world.slots(2, item="I013", hours=260)
    early = world.slots(2, item="I013", hours=210, hospital="other")
    order = ["Organization/hospital", "Organization/other"]
    preferred = find(world, service="I013", organization=order).json()
    found = [one["resource"]["slot"][0]["reference"] for one in preferred["entry"]
             if one["search"]["mode"] == "match"]  # fmt: skip
    assert found == [f"Slot/{one}" for one in (*late, *early)]
    by_time = find(world, service="I013", organization=order,
                   sort={"valueCode": "earliest"}).json()  # fmt: skip
    found = [one["resource"]["slot"][0]["reference"] for one in by_time["entry"]
             if one["search"]["mode"] == "match"]  # fmt: skip
    assert found == [f"Slot/{one}" for one in (*early, *late)]
    assert preferred["total"] == by_time["total"] == 4


# -- many at once ---------------------------------------------------------------------------------


def crowd(world, requests):
    """Sends all at once; the answers."""

    async def send():
        http = world.running.http
        return await asyncio.gather(*(
            http.post(f"/fhir/Appointment/{name}", json=body_of(parameters),
                      headers={**world.clinic, "content-type": "application/fhir+json"})
            for name, parameters in requests
        ))  # fmt: skip

    return world.running.run(send())


def wanting(slot, patients, name="$book"):
    return [
        (name, {"slot": f"Slot/{slot}", "patient_reference": f"Patient/{one}"}) for one in patients
    ]


def test_sixty_four_clients_want_one_slot(world):
    (slot,) = world.slots()
    patients = [world.patient() for _ in range(64)]
    requests = wanting(slot, patients[:32]) + wanting(slot, patients[32:], "$hold")
    answers = crowd(world, requests)
    assert sorted(one.status_code for one in answers) == [200] + [409] * 63
    assert {one.json()["issue"][0]["code"] for one in answers if one.status_code == 409} == {
        "not-found"}  # fmt: skip


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_the_last_seat_of_a_quota(world, more):
    """Six seats in three Slots, of which the channel has four: n - 1, n and n + 1 want one."""
    slots = world.slots(3, capacity=2, quotas={"ordinary": 4, "green-channel": 2})
    patients = [world.patient() for _ in range(4 + more)]
    requests = [wanting(slots[n % 3], [one])[0] for n, one in enumerate(patients)]
    answers = crowd(world, requests)
    good = [one for one in answers if one.status_code == 200]
    assert len(good) == min(4 + more, 4)
    for one in answers:
        if one.status_code != 200:
            assert "used" in "".join(told(one).values())


def test_a_slot_of_many_seats_serves_as_many_as_it_has(world):
    (slot,) = world.slots(capacity=10)
    answers = crowd(world, wanting(slot, [world.patient() for _ in range(16)]))
    assert sorted(one.status_code for one in answers) == [200] * 10 + [409] * 6
    assert world.status(slot) == "busy"
    kept = {booked(one)["id"] for one in answers if one.status_code == 200}
    assert all(marks(world.read(f"Appointment/{id}").json()) for id in kept)
