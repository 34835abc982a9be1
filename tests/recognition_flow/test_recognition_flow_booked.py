"""A result comes for an examination that is booked: who booked, and the patient, are told once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from city import POTASSIUM, SODIUM, City, Json, order
from consent_made import consent

from fhir_gateway.fhir.validate import issues
from fhir_gateway.interactions import jobs as worker
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.interactions.relations import BOOKED_BY
from fhir_gateway.recognition import booked_job
from fhir_gateway.store import jobs
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.claim_rows import BOOKED, Give, SlotRow, Take
from fhir_gateway.terminology.catalogue import LAB_SYSTEM

ZONE = ZoneInfo("Asia/Shanghai")
_DAY = 86_400_000_000


class Booking:
    """A booked examination at the hospital `sender`, made by the receiver."""

    def __init__(
        self, city: City, patient: str, id: str, *items: str, ago: int = 0, based_on: str = ""
    ) -> None:
        self.city, self.id, gateway = city, id, city.gateway
        start = datetime.now(ZONE).replace(microsecond=0) + timedelta(days=9, minutes=len(id))
        codes = [{"coding": [{"system": LAB_SYSTEM, "code": one}]} for one in items]
        times = {"start": start.isoformat(), "end": (start + timedelta(minutes=1)).isoformat()}
        slot: Json = {
            "resourceType": "Slot", "id": f"slot-{id}", "status": "busy", **times,
            "schedule": {"reference": "Schedule/lab"}, "serviceType": codes,
        }  # fmt: skip
        self.resource: Json = {
            "resourceType": "Appointment", "id": id, "status": "booked", **times,
            "extension": [{"url": BOOKED_BY,
                           "valueReference": {"reference": "Organization/receiver"}}],
            "created": (datetime.now(ZONE) - timedelta(days=ago)).isoformat(),
            "serviceType": codes, "slot": [{"reference": f"Slot/slot-{id}"}],
            "participant": [{"actor": {"reference": f"Patient/{patient}"}, "status": "accepted"}],
        }  # fmt: skip
        if based_on:
            self.resource["basedOn"] = [{"reference": based_on}]
        begin = int(start.timestamp() * 1_000_000)
        free = prepare(gateway, {**slot, "status": "free"}, op="create", institution="sender")
        row = SlotRow("Schedule/lab", begin, begin + 60_000_000, 1, True, "ordinary", [*items], "")
        free.derived.slots = [row]
        full = prepare(gateway, slot, op="update", institution="sender")
        full.derived.slots = [SlotRow(*(getattr(row, name) for name in row.__struct_fields__[:-1]),
                                      busy=True)]  # fmt: skip
        claim = Take(f"Slot/slot-{id}", f"Appointment/{id}", patient, "ordinary", BOOKED)
        self.commit([free])
        self.commit([self.put(), full], [claim])

    def put(self, **members: Any) -> Any:
        resource = {**self.resource, **members}
        return prepare(self.city.gateway, resource, op="update", institution="sender")

    def commit(self, puts: list[Any], claims: list[Any] | None = None) -> None:
        gateway = self.city.gateway
        change_set = ChangeSet(id=gateway.random(16), puts=puts, claims=claims or [])
        self.city.running.run(gateway.store.commit(change_set))

    def cancel(self) -> None:
        gateway = self.city.gateway
        read = self.city.running.get(f"/fhir/Slot/slot-{self.id}", headers=self.city.sender).json()
        free = prepare(gateway, {**read, "status": "free"}, op="update", institution="sender")
        begin = int(datetime.fromisoformat(read["start"]).timestamp() * 1_000_000)
        free.derived.slots = [SlotRow("Schedule/lab", begin, begin + 60_000_000, 1, True,
                                      "ordinary", [POTASSIUM], "")]  # fmt: skip
        self.commit([self.put(status="cancelled"), free], [Give(f"Appointment/{self.id}")])


@pytest.fixture(scope="module", autouse=True)
def _supply(city: City) -> None:
    city.put({
        "resourceType": "Schedule", "id": "lab", "active": True,
        "actor": [{"reference": "Organization/sender"}],
    })  # fmt: skip


def run(city: City, gateway: Any = None) -> int:
    """Does the job that is wanted; how many notices it gave, -1 where none is."""
    gateway = gateway or city.gateway

    async def one() -> int:
        job = await booked_job.plan(gateway)
        if job is None:
            return -1
        assert await worker.work_once(gateway, {booked_job.KIND: booked_job.work})
        done = await jobs.find(gateway.store, job.id)
        assert done is not None and done.state == "done", done
        return int(done.progress.split(", ")[1].split()[0])

    told: int = city.running.run(one())
    return told


def notices(city: City, patient: str) -> list[Json]:
    found = city.search(f"Task?patient={patient}&code=booked-result")
    for task in found:
        answer = city.running.post("/fhir/Task/$validate", task, headers=city.receiver)
        wrong = [one for one in answer.json()["issue"] if one["severity"] in ("error", "warning")]
        assert "booked-result" in task["meta"]["profile"][0] and wrong == []
    return found


def test_a_result_that_comes_before_the_date_is_told_once(city: City) -> None:
    patient = city.patient()
    Booking(city, patient, "booked-once", POTASSIUM)
    assert run(city) == 0  # nothing has come yet
    observation = city.result(patient)
    assert run(city) == 1
    (task,) = notices(city, patient)
    assert issues(task) == []
    assert task["status"] == "requested" and task["owner"]["reference"] == "Organization/receiver"
    assert task["focus"]["reference"] == f"{observation}/_history/1"
    assert task["restriction"]["recipient"] == [{"reference": f"Patient/{patient}"}]
    assert "3.95" not in str(task)
    assert run(city) == -1  # nothing has changed since
    city.running.run(_asked_again(city, patient))
    assert len(notices(city, patient)) == 1


async def _asked_again(city: City, patient: str) -> None:
    """The same booking by two workers at once, as after a kill: nobody is told twice."""
    async with city.gateway.store.snapshot(booked_job.SYSTEM_ACCESS) as reader:
        person = await reader.person(patient)
        assert person is not None
        found = await booked_job._coming(reader, person.homes, city.gateway.clock.now())
    looks = [booked_job.tell(city.gateway, one) for one in found for _ in range(3)]
    assert await asyncio.gather(*looks) == [0, 0, 0]


def test_two_workers_at_once_give_one_notice(city: City) -> None:
    patient = city.patient()
    Booking(city, patient, "booked-race", POTASSIUM)
    city.result(patient)

    async def race() -> list[int]:
        async with city.gateway.store.snapshot(booked_job.SYSTEM_ACCESS) as reader:
            person = await reader.person(patient)
            assert person is not None
            (one,) = await booked_job._coming(reader, person.homes, city.gateway.clock.now())
        return list(await asyncio.gather(*(booked_job.tell(city.gateway, one) for _ in range(4))))

    assert sorted(city.running.run(race())) == [0, 0, 0, 1]
    assert len(notices(city, patient)) == 1


def test_what_could_be_recognised_when_it_was_booked_is_no_news(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    Booking(city, patient, "booked-known", POTASSIUM)
    run(city)
    assert notices(city, patient) == []


def test_an_order_says_which_of_several_examinations_is_booked(city: City) -> None:
    patient, other = city.patient(), city.patient()
    ordered = city.create({**order(patient), "id": ..., "status": "active"} | {"id": "x"})
    Booking(city, patient, "booked-order", POTASSIUM, SODIUM, based_on=f"ServiceRequest/{ordered}")
    Booking(city, other, "booked-several", POTASSIUM, SODIUM)
    city.result(patient)
    city.result(other)
    run(city)
    assert len(notices(city, patient)) == 1
    assert notices(city, other) == []  # it is not known which of the two will be made


def test_a_result_that_is_taken_back_takes_its_notice_back(city: City) -> None:
    patient = city.patient()
    Booking(city, patient, "booked-void", POTASSIUM)
    observation = city.result(patient)
    run(city)
    stored = city.running.get(f"/fhir/{observation}", headers=city.sender).json()
    stored["status"] = "entered-in-error"
    done = city.running.put(f"/fhir/{observation}", stored, headers=city.sender)
    assert done.status_code == 200
    assert run(city) == 0
    (task,) = notices(city, patient)
    assert task["status"] == "cancelled" and issues(task) == []


def test_a_booking_that_was_cancelled_is_told_nothing(city: City) -> None:
    patient = city.patient()
    Booking(city, patient, "booked-off", POTASSIUM).cancel()
    city.result(patient)
    run(city)
    assert notices(city, patient) == []


def test_an_evaluation_that_comes_later_is_news(city: City) -> None:
    item = "L003"
    patient = city.patient()
    Booking(city, patient, "booked-evaluated", item)
    city.result(patient, item)
    run(city)
    assert notices(city, patient) == []
    city.evaluate("sender", (POTASSIUM, SODIUM, "L060", item))
    run(city)
    assert len(notices(city, patient)) == 1


def test_only_the_gateway_writes_a_notice_and_who_is_told_takes_note_of_it(city: City) -> None:
    patient = city.patient()
    Booking(city, patient, "booked-noted", POTASSIUM)
    city.result(patient)
    run(city)
    (task,) = notices(city, patient)
    done = city.running.put(f"/fhir/Task/{task['id']}", task, headers=city.receiver)
    assert done.status_code == 403
    who = [{"name": "practitioner", "valueReference": {"display": "测试医师"}}]
    path = f"Task/{task['id']}/$acknowledge"
    other = city.running.post(
        f"/fhir/{path}", {"resourceType": "Parameters", "parameter": who}, headers=city.sender
    )
    assert other.status_code == 404
    assert city.operate(path, who).status_code == 200
    (task,) = notices(city, patient)
    assert task["status"] == "completed" and issues(task) == []
    assert city.operate(path, who).status_code == 200


def states(city: City, patient: str) -> list[str]:
    return sorted(one["status"] for one in notices(city, patient))


def test_a_notice_goes_when_the_evaluation_goes_and_comes_again_with_it(city: City) -> None:
    item = "L004"
    city.evaluate("sender", (POTASSIUM, SODIUM, "L060", item))
    patient = city.patient()
    Booking(city, patient, "booked-passing", item)
    city.result(patient, item)
    run(city)
    assert states(city, patient) == ["requested"]
    city.evaluate("sender", (POTASSIUM, SODIUM, "L060"))  # the laboratory failed the next round
    assert run(city) == 0 and states(city, patient) == ["cancelled"]
    city.evaluate("sender", (POTASSIUM, SODIUM, "L060", item))
    assert run(city) == 1 and states(city, patient) == ["requested"]
    assert issues(notices(city, patient)[0]) == []


def test_a_booking_that_is_cancelled_takes_its_notice_with_it(city: City) -> None:
    patient = city.patient()
    booking = Booking(city, patient, "booked-ended", POTASSIUM)
    city.result(patient)
    run(city)
    assert states(city, patient) == ["requested"]
    booking.cancel()
    assert run(city) == 0 and states(city, patient) == ["cancelled"]
    assert run(city) == -1


def test_a_newer_result_takes_the_place_of_the_one_that_was_told(city: City) -> None:
    patient = city.patient()
    Booking(city, patient, "booked-newer", POTASSIUM)
    city.result(patient, ago=3)
    run(city)
    newer = city.result(patient, ago=1)
    assert run(city) == 1 and states(city, patient) == ["cancelled", "requested"]
    (told,) = [one for one in notices(city, patient) if one["status"] == "requested"]
    assert told["focus"]["reference"] == f"{newer}/_history/1"


def test_a_result_of_a_record_that_is_parted_again_is_told_of_no_longer(city: City) -> None:
    """Two records that were taken for one person's: the result lies under the other number."""
    patient, other = city.patient(), city.patient(documented=False)
    Booking(city, patient, "booked-linked", POTASSIUM)
    city.result(other)
    run(city)
    assert states(city, patient) == []
    record = city.running.get(f"/fhir/Patient/{other}", headers=city.sender).json()
    link = {"other": {"reference": f"Patient/{patient}"}, "type": "replaced-by"}
    for links, told in (([link], ["requested"]), ([], ["cancelled"])):
        changed = {**record, "active": not links, "link": links}
        changed = {name: value for name, value in changed.items() if value != []}
        done = city.running.put(f"/fhir/Patient/{other}", changed, headers=city.sender)
        assert done.status_code == 200, done.text
        run(city)
        assert states(city, patient) == told


def test_what_the_patient_withdraws_from_who_booked_is_told_of_no_longer(city: City) -> None:
    bases = {
        name: basis._replace(denials=True) for name, basis in city.gateway.policy.bases.items()
    }
    strict = replace(city.gateway, policy=replace(city.gateway.policy, bases=bases))
    patient = city.patient()
    Booking(city, patient, "booked-denied", POTASSIUM)
    city.result(patient)
    run(city, strict)
    assert states(city, patient) == ["requested"]
    denied = {**consent({"type": "deny", "to": ["receiver"]}, patient), "id": "denied"}
    for status, told in (("active", ["cancelled"]), ("inactive", ["requested"])):
        city.put({**denied, "status": status})
        run(city, strict)
        assert states(city, patient) == told
