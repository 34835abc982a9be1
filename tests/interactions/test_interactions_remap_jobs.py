"""The jobs that follow maps: when there are any, what they look at, how they go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from city import POTASSIUM, SODIUM
from click.testing import CliRunner
from databases import Databases
from remap_cases import LAB_SYSTEM, Mapped, concept_map, counts
from running import Running

from fhir_gateway.cli import main
from fhir_gateway.interactions import remap
from fhir_gateway.interactions.jobs import Held, Lost, Stopped, work_once
from fhir_gateway.interactions.remap_plan import Watch, order_now, order_of, plan, planned
from fhir_gateway.store import jobs
from fhir_gateway.terminology.remapping import read_changed

Start = Callable[..., Running]


@pytest.fixture
def mapped(start: Start, tmp_path: Path) -> Mapped:
    """Without installed tables, whose institutions would have jobs too."""
    return Mapped(start(mappings=str(tmp_path)))


def found_as(mapped: Mapped, item: str) -> set[str]:
    return mapped.found(f"Observation?code={LAB_SYSTEM}|{item}")


@pytest.mark.drivers("sqlite")
def test_nothing_is_planned_twice_for_one_situation(mapped: Mapped) -> None:
    mapped.store({"K": POTASSIUM})
    assert len(mapped.follow()) == 1
    mapped.store({"K": POTASSIUM})  # a version that says the same
    first = mapped.follow()
    assert [counts(job) for job in first] == [(0, 0, 0, 0, 0)] * len(first)
    mapped.running.institution("somebody")  # raises the epoch
    assert mapped.follow() == first
    again = mapped.running.run(Watch(mapped.gateway).look())  # a worker that begins
    assert again is None
    assert mapped.running.run(planned(mapped.gateway, "sender")) == first


def test_only_what_bears_a_changed_code_is_derived_again(mapped: Mapped) -> None:
    mapped.store({"K": POTASSIUM, "NA": SODIUM, "X": ""})
    mapped.follow()
    patient = mapped.city.patient()
    for code in ("K", "NA", "X", "K", "other"):
        mapped.result(patient, code, report="")
    mapped.store({"K": POTASSIUM, "NA": POTASSIUM, "X": ""})
    assert counts(mapped.follow()[0]) == (5, 1, 0, 0, 1)
    mapped.store({"K": POTASSIUM})
    assert counts(mapped.follow()[0]) == (5, 2, 0, 1, 0)
    assert len(found_as(mapped, POTASSIUM)) == 2


@pytest.mark.drivers("sqlite")
def test_orders_and_reports_follow_too(mapped: Mapped) -> None:
    patient = mapped.city.patient()
    about = {"subject": {"reference": f"Patient/{patient}"}}
    own = {"coding": [{"system": "urn:sender:lis", "code": "O1"}]}
    order = mapped.city.create({
        "resourceType": "ServiceRequest", "status": "active", "intent": "order", "code": own,
        **about,
    })  # fmt: skip
    assert mapped.found("ServiceRequest?_tag=unmapped-order") == {order}
    mapped.store({"O1": POTASSIUM}, id="sender-orders", use="order")
    assert counts(mapped.follow()[0]) == (1, 1, 1, 0, 0)
    assert mapped.found(f"ServiceRequest?code={LAB_SYSTEM}|{POTASSIUM}") == {order}
    assert mapped.found("ServiceRequest?_tag=unmapped-order") == set()


def test_what_was_stored_under_a_map_in_between_is_looked_at(mapped: Mapped) -> None:
    """The map goes back to what it said; a result of the time between was coded by neither."""
    mapped.store({"K": POTASSIUM})
    mapped.follow()
    mapped.store({"K": SODIUM})
    id = mapped.result(mapped.city.patient(), report="").partition("/")[2]
    assert found_as(mapped, SODIUM) == {id}
    mapped.store({"K": POTASSIUM})
    assert counts(mapped.follow()[0])[:2] == (1, 1)
    assert (found_as(mapped, SODIUM), found_as(mapped, POTASSIUM)) == (set(), {id})


@pytest.mark.drivers("sqlite")
def test_a_map_that_is_deleted_or_retired_means_nothing_any_more(mapped: Mapped) -> None:
    mapped.store({"K": POTASSIUM})
    id = mapped.result(mapped.city.patient(), report="").partition("/")[2]
    mapped.follow()
    mapped.store({"K": POTASSIUM}, status="retired")
    assert counts(mapped.follow()[0]) == (1, 1, 0, 1, 0)
    assert found_as(mapped, POTASSIUM) == set()
    mapped.store({"K": POTASSIUM})
    assert counts(mapped.follow()[0]) == (1, 1, 1, 0, 0)
    path = "/fhir/ConceptMap/sender-map"
    assert mapped.running.delete(path, headers=mapped.city.sender).status_code in (200, 204)
    assert counts(mapped.follow()[0]) == (1, 1, 0, 1, 0)
    assert mapped.found("Observation?_tag=unmapped-item") == {id}


@pytest.mark.drivers("sqlite")
def test_other_institutions_are_left_alone(mapped: Mapped) -> None:
    other = mapped.running.institution("other")
    own = {"coding": [{"system": "urn:sender:lis", "code": "K"}]}
    result = {"resourceType": "Observation", "status": "final", "code": own,
              "effectiveDateTime": "2026-11-20T08:00:00+08:00"}  # fmt: skip
    assert mapped.running.post("/fhir/Observation", result, headers=other).status_code == 201
    mapped.store({"K": POTASSIUM})
    assert counts(mapped.follow()[0]) == (0, 0, 0, 0, 0)
    assert found_as(mapped, POTASSIUM) == set()
    assert mapped.running.run(planned(mapped.gateway, "other")) == []


@pytest.mark.drivers("sqlite")
def test_the_latest_map_wins_and_the_job_before_it_is_cancelled(mapped: Mapped) -> None:
    mapped.result(mapped.city.patient(), report="")
    mapped.store({"K": SODIUM})
    mapped.running.run(mapped.watch.look())
    mapped.store({"K": POTASSIUM})
    last, first = mapped.follow()
    assert (first.state, last.state) == ("cancelled", "done")
    assert read_changed(order_of(last).changed).everything  # none before it came to its end
    assert order_of(first) is None
    assert len(found_as(mapped, POTASSIUM)) == 1


@pytest.mark.drivers("sqlite")
def test_a_cancelled_job_is_not_taken_up_again_before_the_map_changes(mapped: Mapped) -> None:
    mapped.store({"K": POTASSIUM})
    mapped.running.run(mapped.watch.look())
    (job,) = mapped.running.run(planned(mapped.gateway, "sender"))
    mapped.running.run(jobs.cancel(mapped.gateway.store, job.id))
    mapped.running.run(Watch(mapped.gateway).look())
    assert [one.state for one in mapped.follow()] == ["cancelled"]
    mapped.store({"K": SODIUM})
    assert [one.state for one in mapped.follow()] == ["done", "cancelled"]


def test_a_job_that_was_killed_goes_on_at_its_checkpoint(
    mapped: Mapped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remap, "VISIT", 1)
    monkeypatch.setattr(remap, "STEP_SECONDS", 0.0)
    patient, store = mapped.city.patient(), mapped.gateway.store
    ids = [mapped.result(patient, report="").partition("/")[2] for _ in range(4)]
    mapped.store({"K": POTASSIUM})

    async def killed() -> Any:
        await mapped.watch.look()
        job = await jobs.lease(store, kind=remap.KIND, duration=1)
        held = Held(mapped.gateway, job, asyncio.Event())
        step, steps = held.step, []

        async def stops(progress: str, checkpoint: str) -> None:
            await step(progress, checkpoint)
            steps.append(progress)
            if len(steps) == 2:
                raise Lost

        held.step = stops  # type: ignore[method-assign]
        with pytest.raises(Lost):
            await remap.work(held)
        await jobs.renew(store, held.job, duration=1, checkpoint=held.job.checkpoint)
        return steps

    steps = mapped.running.run(killed())
    assert "2 looked at, 2 derived again" in steps[1]
    assert len(found_as(mapped, POTASSIUM)) == 2
    (job,) = mapped.follow()
    assert (job.state, counts(job)) == ("done", (4, 4, 4, 0, 0))
    assert found_as(mapped, POTASSIUM) == set(ids)


@pytest.mark.drivers("sqlite")
def test_a_worker_that_is_stopped_gives_the_job_back(
    mapped: Mapped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remap, "STEP_SECONDS", 0.0)
    mapped.result(mapped.city.patient(), report="")
    mapped.store({"K": POTASSIUM})

    async def stopped() -> list[jobs.Job]:
        stop = asyncio.Event()
        stop.set()
        await mapped.watch.look()
        job = await jobs.lease(mapped.gateway.store, kind=remap.KIND, duration=1_000_000)
        with pytest.raises(Stopped):
            await remap.work(Held(mapped.gateway, job, stop))
        return await planned(mapped.gateway, "sender")

    (job,) = mapped.running.run(stopped())
    assert job.state == "waiting"
    assert msgspec.json.decode(job.checkpoint, type=remap.State).counts.looked == 1
    assert [one.state for one in mapped.follow()] == ["done"]


def test_several_workers_do_the_jobs_of_several_institutions(mapped: Mapped) -> None:
    running = mapped.running
    for name in ("a", "b", "c"):
        headers = running.institution(name)
        resource = concept_map({"K": POTASSIUM}, id=f"{name}-map", institution=name)
        assert running.put(f"/fhir/ConceptMap/{name}-map", resource, headers=headers).is_success

    async def all_of_them() -> list[str]:
        await asyncio.gather(mapped.watch.look(), Watch(mapped.gateway).look())
        works = {remap.KIND: remap.work}
        while any(await asyncio.gather(*(work_once(mapped.gateway, works) for _ in range(3)))):
            pass
        known = await jobs.find_all(mapped.gateway.store, kind=remap.KIND)
        return sorted(f"{job.id.split('_')[1]} {job.state} {job.attempts}" for job in known
                      if job.id.split("_")[1] in ("a", "b", "c"))  # fmt: skip

    assert running.run(all_of_them()) == ["a done 1", "b done 1", "c done 1"]


# -- tables of the installation ----------------------------------------------------------------

HEADER = "kind,local_system,local_code,local_name,item,specimen,unit,method,note\n"


def test_a_table_that_has_changed_is_followed_when_a_worker_begins(
    database: Databases, tmp_path: Path
) -> None:
    folder = tmp_path / "mappings"
    (folder / "concepts").mkdir(parents=True)
    table = folder / "concepts" / "sender.csv"
    ids: set[str] = set()
    for row, expected in (
        ("result,urn:sender:lis,K,钾,,,,,\n", (0, 0, 0, 0, 0)),
        (f"result,urn:sender:lis,K,钾,{POTASSIUM},,,,\nresult,urn:sender:lis,Z,z,,,,,\n",
         (1, 1, 1, 0, 0)),
        ("result,urn:sender:lis,K,钾,,,,,\n", (1, 1, 0, 1, 0)),
        (f"result,urn:sender:lis,K,钾,{SODIUM},,,,\n", (1, 1, 1, 0, 0)),
    ):  # fmt: skip
        table.write_text(HEADER + row, encoding="utf-8")
        running = Running(database.url("gateway"), mappings=str(folder))
        try:
            mapped = Mapped(running)
            (job, *_) = mapped.follow()
            assert counts(job) == expected, row
            everything = not ids
            assert read_changed(order_of(job).changed).everything is everything
            if not ids:
                ids.add(mapped.result(mapped.city.patient(), report="").partition("/")[2])
            if SODIUM in row:
                assert found_as(mapped, SODIUM) == ids
        finally:
            running.close()


# -- by hand -----------------------------------------------------------------------------------


@pytest.mark.drivers("sqlite")
def test_the_command_follows_a_map_and_says_what_became_of_it(
    database: Databases,
) -> None:
    mapped = Mapped(Running(database.url("gateway")))
    patient = mapped.city.patient()
    for code in ("K", "K", "NA"):
        mapped.result(patient, code, report="")
    mapped.store({"K": POTASSIUM})
    mapped.running.close()

    def invoke(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["remap", *words, "--database", database.url("gateway")])
        return done.exit_code, done.output

    code, said = invoke("sender", "--dry-run")
    assert (code, said.splitlines()[-1]) == (
        0, "would be: 3 looked at, 3 derived again: 2 became mapped, 0 became unmapped, "
           "0 have another item",
    )  # fmt: skip
    assert database.rows("SELECT count(*) FROM job", "gateway") == [(0,)]
    code, said = invoke("sender")
    assert code == 0
    assert "sender: 100%, 3 looked at, 3 derived again: 2 became mapped" in said
    code, said = invoke("sender")
    assert (code, "no code means anything else" in said, "0 looked at" in said) == (0, True, True)
    code, said = invoke("sender", "--all")
    assert (code, "3 looked at, 3 derived again: 0 became mapped" in said) == (0, True)
    code, said = invoke("nobody")
    assert (code, "No institution nobody is registered" in said) == (2, True)
    listed = CliRunner().invoke(
        main, ["jobs", "list", "--kind", "remap", "--database", database.url("gateway")]
    )
    assert listed.output.count("sender: 100%") == 3


@pytest.mark.drivers("sqlite")
def test_what_cannot_be_derived_fails_the_job_with_a_name_and_no_half(
    mapped: Mapped, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = mapped.result(mapped.city.patient(), report="").partition("/")[2]
    mapped.store({"K": POTASSIUM})
    rows = mapped.gateway.extractor.rows

    def fail(type: str, resource: dict[str, Any]) -> Any:
        if resource["id"] == id:
            raise KeyError("王")
        return rows(type, resource)

    with monkeypatch.context() as patched:
        patched.setattr(type(mapped.gateway.extractor), "rows", lambda self, *given: fail(*given))
        (job,) = mapped.follow()
    assert job.state == "failed"
    assert f"Observation/{id} has no rows in this version" in job.checkpoint
    assert "王" not in job.checkpoint

    async def by_hand() -> None:
        await plan(mapped.gateway, "sender", again=True)

    mapped.running.run(by_hand())
    assert mapped.follow()[0].state == "done"
    assert found_as(mapped, POTASSIUM) == {id}


@pytest.mark.drivers("sqlite")
def test_an_order_says_since_when_it_looks(mapped: Mapped) -> None:
    mapped.store({"K": POTASSIUM})
    mapped.follow()
    mapped.store({"K": SODIUM})
    order = mapped.running.run(order_now(mapped.gateway, "sender"))
    assert order.before is not None
    assert order.before.t < order.now.t
    changed = read_changed(order.changed)
    assert (changed.touches(["K"]), changed.touches(["NA"]), changed.everything) == (
        True, False, False,
    )  # fmt: skip
