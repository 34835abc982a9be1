"""A result is corrected: whoever relied on it is told, once, in the commit of the correction."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import Any

import pytest
from city import POTASSIUM, City, Json, said

from fhir_gateway.errors import Unavailable
from fhir_gateway.fhir.validate import issues
from fhir_gateway.interactions import jobs as worker
from fhir_gateway.interactions.intake import V2_MEDIA, entries_of
from fhir_gateway.interactions.reconcile import Planned
from fhir_gateway.interactions.transaction import transaction
from fhir_gateway.mapping.doors import INTAKE_SYSTEM
from fhir_gateway.mapping.merge import voided
from fhir_gateway.recognition import relied_job, relied_watch
from fhir_gateway.recognition.alert_task import Alert
from fhir_gateway.recognition.answer import Reply, record_answers
from fhir_gateway.recognition.answer_model import DoctorAnswer
from fhir_gateway.recognition.answered import answers_of, relying_on
from fhir_gateway.recognition.relied import notices_for
from fhir_gateway.recognition.relied_check import check
from fhir_gateway.recognition.relied_watch import Changed, Told, tell
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store import jobs
from fhir_gateway.store.changes import Received

RECEIVER = Actor("institution", "receiver", "receiver")


def decided(city: City) -> tuple[str, str, str]:
    """A patient, a result and the decision about it."""
    patient = city.patient()
    observation = city.result(patient)
    return patient, observation, said(city.recognize(patient, POTASSIUM), "decision")["reference"]


def answer(city: City, decision: str, outcome: str = "accepted") -> Json:
    done = city.operate(f"{decision}/$answer", [{"name": "outcome", "valueCode": outcome}])
    assert done.status_code == 200, done.text
    body: Json = done.json()
    return body


def change(city: City, name: str, **members: Any) -> int:
    """Stores another version of a result, as its institution does; its version."""
    resource = city.running.get(f"/fhir/{name}", headers=city.sender).json()
    resource = {k: v for k, v in {**resource, **members}.items() if v is not ...}
    done = city.running.put(f"/fhir/{name}", resource, headers=city.sender)
    assert done.status_code == 200, done.text
    return int(done.json()["meta"]["versionId"])


def taken_back(city: City, name: str) -> int:
    """Takes a result back as another person's, as a message does; its version."""
    stored = city.running.get(f"/fhir/{name}", headers=city.sender).json()
    planned = Planned([(voided(stored, ("wrong-patient",)), 1)], [])
    sender, raw = Actor("institution", "sender", "sender"), b"MSH|taken back"
    kept = Received(sha256(raw).digest(), V2_MEDIA, 0, raw)
    entries = entries_of(planned, "v2")
    city.running.run(transaction(city.gateway, sender, entries, received=kept))
    return 2


def alerts(city: City, patient: str, more: str = "") -> list[Json]:
    found = city.search(f"Task?patient={patient}&code=recognition-alert{more}")
    return [one for one in found if one["resourceType"] == "Task"]


def notices(city: City, patient: str, institution: str = "receiver") -> list[Alert]:
    async def read() -> list[Alert]:
        async with city.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            person = await reader.person(patient)
            assert person is not None
            return await notices_for(reader, institution, person.homes)

    found: list[Alert] = city.running.run(read())
    return found


def acknowledge(city: City, alert: Json, **who: Any) -> Any:
    parameters = [{"name": "practitioner", "valueReference": who}]
    parameters.append({"name": "text", "valueString": "已复查"})
    return city.operate(f"Task/{alert['id']}/$acknowledge", parameters)


QUANTITY = {"value": 6.1, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"}


@pytest.mark.parametrize(
    ("members", "code", "outcome"),
    [
        ({"status": "corrected", "valueQuantity": QUANTITY}, "corrected", "accepted"),
        ({"valueQuantity": QUANTITY}, "corrected", "cited"),  # nobody said it is a correction
        ({"status": "entered-in-error"}, "voided", "viewed"),
        ({"performer": ...}, "other-issuer", "accepted"),
    ],
)
def test_whoever_relied_on_a_result_is_told_what_became_of_it(
    city: City, members: Json, code: str, outcome: str
) -> None:
    patient, observation, decision = decided(city)
    answer(city, decision, outcome)
    assert alerts(city, patient) == []
    version = change(city, observation, **members)
    (alert,) = alerts(city, patient)
    assert issues(alert) == []
    assert alert["businessStatus"]["coding"][0]["code"] == code
    assert alert["focus"] == {"reference": f"{observation}/_history/{version}"}
    assert alert["owner"] == {"reference": "Organization/receiver"}
    assert alert["status"] == "requested"
    assert alert["priority"] == ("urgent" if outcome == "accepted" else "routine")
    (notice,) = notices(city, patient)
    assert (notice.change, notice.how) == (code, outcome)
    assert notice.relied == (f"{observation}/_history/1",)
    assert notices(city, patient, "sender") == []


def test_a_result_of_a_wrong_patient_is_told_and_urgent_even_if_it_was_only_viewed(
    city: City,
) -> None:
    patient, observation, decision = decided(city)
    answer(city, decision, "viewed")
    version = taken_back(city, observation)
    (alert,) = alerts(city, patient)
    assert issues(alert) == []
    assert alert["businessStatus"]["coding"][0]["code"] == "wrong-patient"
    assert alert["priority"] == "urgent"
    path = f"/fhir/Task?patient={patient}&code={INTAKE_SYSTEM}|wrong-patient"
    (alarm,) = city.running.get(path, headers=city.sender).json()["entry"]
    assert issues(alarm["resource"]) == []
    assert alarm["resource"]["owner"] == {"reference": "Organization/sender"}
    assert alarm["resource"]["focus"] == {"reference": f"{observation}/_history/{version}"}


def test_a_deletion_is_told(city: City) -> None:
    patient, observation, decision = decided(city)
    answer(city, decision)
    done = city.running.delete(f"/fhir/{observation}", headers=city.sender)
    assert done.status_code in (200, 204)
    (alert,) = alerts(city, patient)
    assert alert["businessStatus"]["coding"][0]["code"] == "deleted"


def test_another_record_of_the_same_person_is_told(city: City) -> None:
    patient, observation, decision = decided(city)
    answer(city, decision)
    resource = city.running.get(f"/fhir/Patient/{patient}", headers=city.sender).json()
    other = city.create({k: v for k, v in resource.items() if k not in ("id", "meta")})
    change(city, observation, subject={"reference": f"Patient/{other}"})
    (alert,) = alerts(city, patient)
    assert alert["businessStatus"]["coding"][0]["code"] == "other-patient"


def test_a_report_that_is_voided_is_told_though_its_results_stay(city: City) -> None:
    patient, observation, decision = decided(city)
    answer(city, decision)
    (report,) = city.search(f"DiagnosticReport?result={observation}&_elements=id")[:1]
    change(city, f"DiagnosticReport/{report['id']}", status="entered-in-error")
    (alert,) = alerts(city, patient)
    assert alert["focus"]["reference"].startswith("DiagnosticReport/")
    change(city, observation, status="entered-in-error")
    (alert,) = alerts(city, patient)  # one alert for one answer, which names both
    changed = [one["valueReference"]["reference"] for one in alert["input"][-2:]]
    assert {one.partition("/")[0] for one in changed} == {"DiagnosticReport", "Observation"}


def test_a_correction_among_other_changes_is_told(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all that changes only what somebody relies on is looked into."""
    patient, observation, decision = decided(city)
    answer(city, decision)
    asked: list[str] = []

    async def counted(reader: Any, reference: str) -> Any:
        asked.append(reference)
        return await relying_on(reader, reference)

    monkeypatch.setattr(relied_watch, "relying_on", counted)
    unread = [
        city.running.get(f"/fhir/{city.result(patient)}", headers=city.sender).json()
        | {"status": "corrected", "valueQuantity": QUANTITY}
        for _ in range(2)
    ]
    other = city.running.get(f"/fhir/Patient/{city.patient()}", headers=city.sender).json()
    corrected = city.running.get(f"/fhir/{observation}", headers=city.sender).json()
    corrected |= {"status": "corrected", "valueQuantity": QUANTITY}
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
        for one in (*unread, corrected, other | {"birthDate": "1990-03-07"})
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    done = city.running.post("/fhir", bundle, headers=city.sender)
    assert done.status_code == 200, done.text
    (alert,) = alerts(city, patient)
    assert alert["focus"]["reference"].startswith(observation)
    assert asked == [observation]


def test_an_answer_is_told_once_and_one_of_nobody_never(city: City) -> None:
    _, observation, decision = decided(city)
    answer(city, decision)
    version = change(city, observation, status="corrected")
    (kept,) = city.running.run(read_answers(city, decision))
    changed = [Changed(observation, version, "corrected")]

    async def told(one: DoctorAnswer, *changes: Changed) -> list[str]:
        """What an answer is told of these changes, and of what it rests on as it stands."""
        found = Told([], [], [])
        async with city.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            await tell(city.gateway, reader, found, one, changes)
            looked = await check(city.gateway, reader, one)
        return [one.change for one in (*found.alerts, *looked.alerts)]

    assert city.running.run(told(kept, *changed)) == []
    later = Changed(observation, version + 1, "voided")
    assert city.running.run(told(kept, later)) == ["voided"]
    assert city.running.run(told(kept._replace(institution=""), later)) == []
    # what was erased says nothing of what it became
    erased = kept._replace(results=("Observation/erased/_history/1",), reports=())
    assert city.running.run(told(erased, *changed)) == []


async def read_answers(city: City, decision: str) -> list[DoctorAnswer]:
    async with city.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return await answers_of(reader, decision.partition("/")[2])


@pytest.mark.parametrize("outcome", ["repeated", "revoked", ""])
def test_who_relies_on_nothing_is_told_nothing(city: City, outcome: str) -> None:
    patient, observation, decision = decided(city)
    if outcome == "revoked":
        answer(city, decision)
    if outcome:
        answer(city, decision, outcome)
    change(city, observation, status="entered-in-error")
    assert alerts(city, patient) == []


def test_what_says_the_same_is_no_correction(city: City) -> None:
    patient, observation, decision = decided(city)
    answer(city, decision)
    change(city, observation, note=[{"text": "电话已通知"}])
    change(city, observation)
    assert alerts(city, patient) == []


def test_an_alert_is_closed_by_a_named_person_and_opened_by_the_next_correction(
    city: City,
) -> None:
    patient, observation, decision = decided(city)
    answer(city, decision)
    change(city, observation, status="corrected")
    (alert,) = alerts(city, patient)
    assert acknowledge(city, alert, display=" ").status_code == 400
    body = {"resourceType": "Parameters", "parameter": [
        {"name": "practitioner", "valueReference": {"display": "x"}}]}  # fmt: skip
    path = f"/fhir/Task/{alert['id']}/$acknowledge"
    assert city.running.post(path, body, headers=city.sender).status_code == 404
    assert acknowledge(city, alert, display="示例医师").status_code == 200
    assert acknowledge(city, alert, display="另一人").status_code == 200  # changes nothing
    (closed,) = alerts(city, patient, "&status=completed")
    assert closed["output"][0]["valueString"] == "示例医师"
    assert closed["note"][0]["text"] == "已复查"
    assert notices(city, patient) == []
    version = change(city, observation, status="amended", valueQuantity=QUANTITY)
    (again,) = alerts(city, patient, "&status=requested")
    assert again["id"] == alert["id"]
    assert again["focus"]["reference"] == f"{observation}/_history/{version}"


def test_an_alert_is_changed_by_nobody_but_the_gateway(city: City) -> None:
    patient, observation, decision = decided(city)
    answer(city, decision)
    change(city, observation, status="corrected")
    (alert,) = alerts(city, patient)
    body = {**alert, "status": "completed"}
    path = f"/fhir/Task/{alert['id']}"
    assert city.running.put(path, body, headers=city.receiver).status_code == 403
    assert city.running.delete(path, headers=city.receiver).status_code == 403
    assert acknowledge(city, {"id": "none"}, display="x").status_code == 404


def test_who_relies_on_what_was_corrected_meanwhile_is_told_at_once(city: City) -> None:
    patient, observation, decision = decided(city)
    change(city, observation, status="corrected", valueQuantity=QUANTITY)
    body = answer(city, decision)
    (alert,) = alerts(city, patient)
    assert said(body, "alert") == {"reference": f"Task/{alert['id']}"}
    assert alert["businessStatus"]["coding"][0]["code"] == "corrected"
    answer(city, decision)
    assert alerts(city, patient) == [alert]


def test_answers_and_corrections_at_once_miss_nobody(city: City) -> None:
    patient, observation, decision = decided(city)
    resource = city.running.get(f"/fhir/{observation}", headers=city.sender).json()
    resource |= {"status": "corrected", "valueQuantity": QUANTITY}

    async def both() -> None:
        reply = Reply("x", decision.partition("/")[2], None, "accepted")
        await asyncio.gather(
            record_answers(city.gateway, RECEIVER, [reply], operation="feedback"),
            city.running.http.put(
                f"/fhir/{observation}", json=resource,
                headers={**city.sender, "content-type": "application/fhir+json"},
            ),
        )  # fmt: skip

    city.running.run(both())
    (alert,) = alerts(city, patient)
    assert alert["businessStatus"]["coding"][0]["code"] == "corrected"


def test_a_correction_that_is_not_stored_tells_nobody_and_its_repeat_tells_once(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient, observation, decision = decided(city)
    answer(city, decision)
    store = type(city.gateway.store)
    commit = store.commit
    killed: list[bool] = []

    async def killing(self: Any, change_set: Any) -> Any:
        if any(put.type == "Observation" for put in change_set.puts) and not killed:
            killed.append(True)
            raise Unavailable("killed before it was durable")
        return await commit(self, change_set)

    resource = city.running.get(f"/fhir/{observation}", headers=city.sender).json()
    resource |= {"status": "corrected"}
    monkeypatch.setattr(store, "commit", killing)
    done = city.running.put(f"/fhir/{observation}", resource, headers=city.sender)
    assert (done.status_code, alerts(city, patient)) == (503, [])
    for _ in range(2):  # the sender does not know, and sends it again and again
        done = city.running.put(f"/fhir/{observation}", resource, headers=city.sender)
        assert done.status_code == 200
    assert len(alerts(city, patient)) == 1


# -- records that are one person's no more -------------------------------------------------------


def run_jobs(city: City) -> int:
    """Does the jobs behind the change log; how many there were."""
    count = 0
    while city.running.run(relied_job.plan(city.gateway)) is not None:
        while city.running.run(worker.work_once(city.gateway, {relied_job.KIND: relied_job.work})):
            count += 1
    return count


def linked(city: City, one: str, other: str, *, active: bool) -> None:
    """Says that two records are one person's, or takes it back."""
    city.put({
        "resourceType": "Linkage",
        "id": f"link-{one}",
        "active": active,
        "item": [
            {"type": "source", "resource": {"reference": f"Patient/{one}"}},
            {"type": "alternate", "resource": {"reference": f"Patient/{other}"}},
        ],
    })  # fmt: skip


def test_records_that_are_unlinked_are_told_to_whoever_relied_on_the_link(city: City) -> None:
    mine, theirs = city.patient(), city.patient()
    observation = city.result(theirs)
    linked(city, mine, theirs, active=True)
    run_jobs(city)
    decision = said(city.recognize(mine, POTASSIUM), "decision")["reference"]
    answer(city, decision)
    assert run_jobs(city) == 0
    linked(city, mine, theirs, active=False)
    assert run_jobs(city) == 1
    (alert,) = alerts(city, mine)
    assert alert["businessStatus"]["coding"][0]["code"] == "other-person"
    assert alert["focus"]["reference"].startswith(observation)
    assert acknowledge(city, alert, display="示例医师").status_code == 200
    city.running.run(relied_job.plan(city.gateway, everything=True))  # a look at all answers
    city.running.run(worker.work_once(city.gateway, {relied_job.KIND: relied_job.work}))
    assert alerts(city, mine, "&status=requested") == []


def test_what_a_cancelled_job_did_not_look_at_is_looked_at_by_the_next(city: City) -> None:
    mine, theirs = city.patient(), city.patient()
    city.result(theirs)
    linked(city, mine, theirs, active=True)
    run_jobs(city)
    answer(city, said(city.recognize(mine, POTASSIUM), "decision")["reference"])
    run_jobs(city)
    linked(city, mine, theirs, active=False)
    job = city.running.run(relied_job.plan(city.gateway))
    assert job is not None
    assert city.running.run(jobs.cancel(city.gateway.store, job.id)) is not None
    assert run_jobs(city) == 1
    assert len(alerts(city, mine)) == 1


def test_a_job_that_is_killed_is_taken_up_and_tells_nobody_twice(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = [(city.patient(), city.patient()) for _ in range(3)]
    for mine, theirs in people:
        city.result(theirs)
        linked(city, mine, theirs, active=True)
        answer(city, said(city.recognize(mine, POTASSIUM), "decision")["reference"])
    run_jobs(city)
    for mine, theirs in people:
        linked(city, mine, theirs, active=False)
    job = city.running.run(relied_job.plan(city.gateway))
    assert city.running.run(relied_job.plan(city.gateway)) is None  # one at a time
    calls: list[str] = []
    tell = relied_job.tell

    async def killed(gateway: Any, one: Any) -> int:
        calls.append(one.id)
        if len(calls) == 2:
            raise worker.Lost  # the worker is no more: another one takes the lease
        return await tell(gateway, one)

    monkeypatch.setattr(relied_job, "tell", killed)
    city.running.run(worker.work_once(city.gateway, {relied_job.KIND: relied_job.work}))
    assert sum(len(alerts(city, mine)) for mine, _ in people) == 1
    running = city.running.run(jobs.find(city.gateway.store, job.id))
    assert running is not None
    city.running.run(jobs.release(city.gateway.store, running))
    city.running.run(worker.work_once(city.gateway, {relied_job.KIND: relied_job.work}))
    for mine, _ in people:
        (alert,) = alerts(city, mine)
        assert alert["meta"]["versionId"] == "1"


def test_a_worker_looks_for_records_that_were_unlinked(city: City) -> None:
    run_jobs(city)
    watch = relied_job.Watch(city.gateway)

    async def look() -> int:
        await watch.look()
        found = await jobs.find_all(city.gateway.store, kind=relied_job.KIND)
        return len(found)

    before = city.running.run(look())
    assert city.running.run(look()) == before  # not again at once
    city.patient()
    again = relied_job.Watch(city.gateway)
    city.running.run(again.look())
    assert len(city.running.run(jobs.find_all(city.gateway.store, kind=relied_job.KIND))) > before
    assert run_jobs(city) == 0  # one is waiting already
    while city.running.run(worker.work_once(city.gateway, {relied_job.KIND: relied_job.work})):
        pass
