"""Others are faster, or the store refuses: answers and alerts end in a word that helps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from city import POTASSIUM, City, Json, said
from test_recognition_flow_relied import (
    acknowledge,
    alerts,
    answer,
    change,
    decided,
    linked,
    run_jobs,
)

from fhir_gateway.errors import PreconditionFailed, TooCostly, Unavailable
from fhir_gateway.interactions import jobs as worker
from fhir_gateway.recognition import relied_job
from fhir_gateway.recognition.answered import read_answer
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store import jobs

pytestmark = pytest.mark.drivers("sqlite")
Refuse = Callable[[Exception], None]


def guarded() -> PreconditionFailed:
    """What the store says when a guard of a change set does not hold."""
    error = PreconditionFailed("changed meanwhile")
    vars(error)["guard"] = 0
    return error


@pytest.fixture
def refuse(city: City, monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """From now on the store commits no Task and says this."""
    store = type(city.gateway.store)
    commit = store.commit

    def refusing(error: Exception) -> None:
        async def refused(self: Any, change_set: Any) -> Any:
            if any(put.type == "Task" for put in change_set.puts):
                raise error
            return await commit(self, change_set)

        monkeypatch.setattr(store, "commit", refused)

    return refusing


def refused(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["issue"][0]["details"]["text"]


def test_an_answer_that_is_always_overtaken_is_to_be_sent_again(city: City, refuse: Refuse) -> None:
    *_, decision = decided(city)
    accepted = [{"name": "outcome", "valueCode": "accepted"}]
    refuse(guarded())
    assert refused(city.operate(f"{decision}/$answer", accepted)) == (409, "overtaken")
    refuse(Unavailable("no room on the disk", rule="full"))
    assert refused(city.operate(f"{decision}/$answer", accepted)) == (503, "full")


def told(city: City) -> Json:
    """An alert that is open."""
    patient, observation, decision = decided(city)
    answer(city, decision)
    change(city, observation, status="corrected")
    (alert,) = alerts(city, patient)
    return alert


def test_an_alert_that_is_always_overtaken_stays_open(
    city: City, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    alert = told(city)
    refuse(guarded())
    assert refused(acknowledge(city, alert, display="示例医师")) == (409, "overtaken")
    monkeypatch.undo()
    assert acknowledge(city, alert, display="示例医师").status_code == 200


def test_an_answer_is_no_alert_that_could_be_closed(city: City) -> None:
    *_, decision = decided(city)
    reference = said(answer(city, decision), "answer")["reference"]
    task = {"id": reference.split("/")[1]}
    assert refused(acknowledge(city, task, display="示例医师")) == (404, "alert")


# -- the job behind the change log -----------------------------------------------------------------


def unlinked(city: City, count: int = 1) -> list[str]:
    """Persons whose answer rests on a record that is not theirs any more; their Patients."""
    people = [(city.patient(), city.patient()) for _ in range(count)]
    for mine, theirs in people:
        city.result(theirs)
        linked(city, mine, theirs, active=True)
        answer(city, said(city.recognize(mine, POTASSIUM), "decision")["reference"])
    run_jobs(city)
    for mine, theirs in people:
        linked(city, mine, theirs, active=False)
    return [mine for mine, _ in people]


def work(city: City) -> bool:
    done: bool = city.running.run(
        worker.work_once(city.gateway, {relied_job.KIND: relied_job.work})
    )
    return done


def test_a_job_is_tried_again_where_an_alert_cannot_be_stored(city: City, refuse: Refuse) -> None:
    (mine,) = unlinked(city)

    async def the_answer() -> Any:
        async with city.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            page = await reader.scan("Task", until_t=reader.t, after_rid=0, limit=1000)
        found = [one for one in map(read_answer, page) if one is not None]
        return next(one for one in found if one.patient == mine)

    one = city.running.run(the_answer())
    for error, says in ((guarded(), "others write"), (Unavailable("the disk is full"), "the disk")):
        refuse(error)
        with pytest.raises(Unavailable, match=f"(?i){says}"):
            city.running.run(relied_job.tell(city.gateway, one))
    assert alerts(city, mine) == []


@pytest.mark.parametrize("everything", [False, True])
def test_a_job_does_its_work_page_by_page_and_goes_on_at_its_checkpoint(
    city: City, monkeypatch: pytest.MonkeyPatch, everything: bool
) -> None:
    people = unlinked(city, 3)
    monkeypatch.setattr(relied_job, "PAGE", 1)
    job = city.running.run(relied_job.plan(city.gateway, everything=everything))
    step, steps = worker.Held.step, 0

    async def stopping(held: Any, said: str, checkpoint: str) -> Any:
        nonlocal steps
        steps += 1
        await step(held, said, checkpoint)
        if steps == 2:
            raise worker.Lost

    monkeypatch.setattr(worker.Held, "step", stopping)
    work(city)
    running = city.running.run(jobs.find(city.gateway.store, job.id))
    assert running is not None and running.checkpoint
    city.running.run(jobs.release(city.gateway.store, running))
    work(city)
    assert steps > 3
    assert [len(alerts(city, mine)) for mine in people] == [1, 1, 1]


@pytest.mark.parametrize(("name", "everything"), [("scan", True), ("changes", False)])
def test_a_job_waits_while_the_database_is_too_slow(
    city: City, monkeypatch: pytest.MonkeyPatch, name: str, everything: bool
) -> None:
    (mine,) = unlinked(city)
    job = city.running.run(relied_job.plan(city.gateway, everything=everything))

    async def slow(*given: Any, **asked: Any) -> Any:
        raise TooCostly("too slow")

    async def trying() -> None:
        async with city.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            monkeypatch.setattr(type(reader), name, slow)
        await relied_job.work(worker.Held(city.gateway, job, asyncio.Event()))

    with pytest.raises(Unavailable, match="too slow to read"):
        city.running.run(trying())
    monkeypatch.undo()
    assert alerts(city, mine) == []
    work(city)
    assert len(alerts(city, mine)) == 1


def test_a_job_whose_order_cannot_be_read_fails_for_good(city: City) -> None:
    run_jobs(city)
    store = city.gateway.store
    given = {"id": "relied_000009999_1", "kind": relied_job.KIND, "payload": "{"}
    city.running.run(jobs.enqueue(store, **given))
    assert work(city)
    job = city.running.run(jobs.find(store, given["id"]))
    assert (job.state, "not known what this job" in job.checkpoint) == ("failed", True)
    assert city.running.run(relied_job.plan(city.gateway)) is not None  # all answers, then
    assert work(city)


def test_a_worker_plans_nothing_while_nothing_is_stored(city: City) -> None:
    planned: list[Any] = []

    async def plan(gateway: Any) -> None:
        planned.append(gateway)

    watch = relied_job.Watch(city.gateway, plan=plan, every=0)

    for _ in range(3):
        city.running.run(watch.look())
    assert len(planned) == 1
    city.patient()
    city.running.run(watch.look())
    assert len(planned) == 2


def test_a_patient_that_parts_from_nobody_tells_nobody(city: City) -> None:
    patient, _, decision = decided(city)
    answer(city, decision)
    run_jobs(city)
    stored = city.running.get(f"/fhir/Patient/{patient}", headers=city.sender).json()
    stored["telecom"] = [{"system": "phone", "value": "000"}]
    done = city.running.put(f"/fhir/Patient/{patient}", stored, headers=city.sender)
    assert done.status_code == 200, done.text
    assert run_jobs(city) == 1
    assert alerts(city, patient) == []
