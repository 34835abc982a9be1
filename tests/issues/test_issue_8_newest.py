"""Where the newest verbs of booking meet: answers that act, the waiting list, plain writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from booking_world import SHIPPED, World, booked, soon, told
from databases import Databases

from fhir_gateway.interactions.steps import Guards
from fhir_gateway.scheduling.supply_change import WITHDRAWN, Affected
from fhir_gateway.scheduling.waitlist_offers import offer
from fhir_gateway.scheduling.withdrawal import tell_affected
from fhir_gateway.store.changes import ChangeSet, Derived, Put, VersionIs
from fhir_gateway.store.claim_refusals import refused

FEMALE = [{"url": "sex", "valueCode": "female"}]


@pytest.fixture(scope="module")
def world(shared_database: Databases) -> Iterator[World]:
    running = shared_database.running("newest", policy=SHIPPED)
    yield World(running)
    running.close()


def answer_to(id: str, status: str) -> dict[str, Any]:
    return {
        "resourceType": "AppointmentResponse", "participantStatus": status, "comment": "已阅",
        "appointment": {"reference": f"Appointment/{id}"}, "actor": {"display": "CT室"},
    }  # fmt: skip


def transaction(world: World, *resources: dict[str, Any]) -> Any:
    """By the hospital; what has an id is an update."""
    entries = [
        {"resource": one, "request": {
            "method": "PUT" if "id" in one else "POST",
            "url": f"{one['resourceType']}/{one['id']}" if "id" in one else one["resourceType"],
        }} for one in resources
    ]  # fmt: skip
    whole = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    return world.running.post("/fhir", whole, headers=world.hospital)


def test_what_a_claim_refuses_is_told_at_once_whatever_guards_there_are(world: World) -> None:
    """A claim's number is no guard's: the write was sent again and again, and told `overtaken`."""
    (asked,), (mine,) = world.slots(master="hospital"), world.slots()
    one, other = world.patient(), world.patient()
    waits = booked(world.book(asked, one))["id"]
    held = booked(world.hold(mine, other))["id"]
    edge = Put("Linkage", "newest", "create", 0, b'},"active":true}', patient=one,
               derived=Derived(aliases=[(one, other, "linkage")]))  # fmt: skip
    gateway = world.gateway
    world.running.run(gateway.store.commit(ChangeSet(id=gateway.random(16), puts=[edge])))
    assert booked(world.call("Appointment/$book", appointment_reference=f"Appointment/{held}"))
    for answer in (
        world.running.post("/fhir/AppointmentResponse", answer_to(waits, "accepted"),
                           headers=world.hospital),
        transaction(world, answer_to(waits, "accepted")),
    ):  # fmt: skip
        assert (answer.status_code, [*told(answer)]) == (409, ["person-overlap"])
    guards = Guards()
    guards.add(VersionIs("Slot", "a", 1), ours=True)
    error = refused("person-overlap")
    vars(error)["guard"] = 0
    assert guards.index_of(error) not in guards.ours


def test_an_answer_and_a_plain_write_of_the_same_are_not_one_commit(world: World) -> None:
    (slot,) = world.slots()
    whole = booked(world.book(slot, world.patient()))
    plain = world.read(f"Appointment/{whole['id']}").json() | {"comment": "请带旧片"}
    for both in ((plain, answer_to(whole["id"], "declined")),
                 (answer_to(whole["id"], "declined"), plain)):  # fmt: skip
        answer = transaction(world, *both)
        assert (answer.status_code, [*told(answer)]) == (422, ["named-twice"])
    assert world.read(f"Appointment/{whole['id']}").json()["status"] == "booked"
    assert world.status(slot) == "busy"


def test_who_gives_up_a_withdrawn_seat_by_an_answer_is_asked_no_more(world: World) -> None:
    """As by `$cancel`: the Task that asks to book it anew is done in the same commit."""
    (slot,) = world.slots()
    id = booked(world.book(slot, world.patient()))["id"]
    affected = [Affected(slot, WITHDRAWN, (f"Appointment/{id}",))]

    async def tell() -> list[str]:
        return [one.outcome async for one in tell_affected(world.gateway, affected)]

    def asked() -> list[str]:
        found = world.read(f"Task?focus=Appointment/{id}").json().get("entry", ())
        return [one["resource"]["status"] for one in found]

    assert (world.running.run(tell()), asked()) == (["told"], ["requested"])
    answer = world.running.post("/fhir/AppointmentResponse", answer_to(id, "declined"),
                                headers=world.clinic)  # fmt: skip
    assert (answer.status_code, asked()) == (201, ["completed"])


def waits_for(world: World, slot: str, patient: str) -> str:
    """An entry of the waiting list for what a Slot is; its id."""
    schedule = world.read(world.read(f"Slot/{slot}").json()["schedule"]["reference"]).json()
    answer = world.call(
        "Appointment/$waitlist", service=schedule["actor"][0]["reference"],
        patient_reference=f"Patient/{patient}",
        start={"valueDateTime": soon(days=1)}, end={"valueDateTime": soon(days=30)},
    )  # fmt: skip
    assert answer.status_code in (200, 201), answer.text
    return str(answer.json()["id"])


def offered(world: World, id: str) -> bool:
    extensions = world.read(f"Appointment/{id}").json()["extension"]
    return any(one["url"].endswith("waitlist-offer") for one in extensions)


def correct(world: World, patient: str, **said: Any) -> None:
    known = world.read(f"Patient/{patient}").json()
    answer = world.running.put(f"/fhir/Patient/{patient}", known | said, headers=world.clinic)
    assert answer.status_code == 200, answer.text


def test_a_seat_is_offered_to_nobody_whom_it_is_not_for(world: World) -> None:
    """Neither when it is given back nor by the job; and who is another one by now does not take
    it: the seat would be kept, or booked, for nobody."""
    (slot,) = world.slots(requires=FEMALE)
    taken = booked(world.book(slot, world.patient(gender="female")))["id"]
    man, late, she = (world.patient(gender=one) for one in ("male", "female", "female"))
    entries = [waits_for(world, slot, one) for one in (man, late, she)]
    correct(world, late, deceasedBoolean=True)
    assert world.call(f"Appointment/{taken}/$cancel").status_code == 200
    assert [offered(world, one) for one in entries] == [False, False, True]

    correct(world, she, gender="male")
    path = f"Appointment/{entries[2]}"
    answer = world.call("Appointment/$book", appointment_reference=path)
    assert (answer.status_code, [*told(answer)]) == (422, ["waitlist-unfit"])
    assert world.call(f"{path}/$decline").status_code == 200

    async def look() -> list[str]:
        return [one.outcome async for one in offer(world.gateway)]

    assert set(world.running.run(look())) == {"nothing-free"}
    correct(world, man, gender="female")
    assert "offered" in world.running.run(look())
    assert booked(
        world.call("Appointment/$book", appointment_reference=f"Appointment/{entries[0]}")
    )
    for one in entries[1:]:
        world.call(f"Appointment/{one}/$cancel")


def test_of_a_slot_for_several_items_the_ordered_one_is_booked(world: World) -> None:
    """The hospital was told to do all that the Slot serves (SIU's AIS)."""
    first, second = world.slots(2, item="I001 I002")
    patient = world.patient()
    order = f"ServiceRequest/{world.order(patient, 'I001')}"

    def named(appointment: dict[str, Any]) -> list[str]:
        return [one["coding"][0]["code"] for one in appointment["serviceType"]]

    found = world.call(
        "Appointment/$find", start={"valueDateTime": soon(hours=1)},
        end={"valueDateTime": soon(days=12)}, patient_reference=f"Patient/{patient}",
        based_on=order,
    )  # fmt: skip
    matches = [one for one in found.json()["entry"] if one["search"]["mode"] == "match"]
    slots = {f"Slot/{first}", f"Slot/{second}"}
    proposals = [one["resource"] for one in matches]
    mine = [one for one in proposals if one["slot"][0]["reference"] in slots]
    assert [*map(named, mine)] == [["I001"], ["I001"]]
    whole = booked(world.book(first, patient, based_on=order))
    assert named(whole) == ["I001"]
    moved = booked(world.call(f"Appointment/{whole['id']}/$rebook", slot=f"Slot/{second}"))
    assert named(moved) == ["I001"]
    assert named(booked(world.book(first, world.patient()))) == ["I001", "I002"]
