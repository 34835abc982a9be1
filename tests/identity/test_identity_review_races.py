"""What happens at once, after a kill, and to a store from before there were links."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from databases import Databases
from review_cases import Hospitals

from fhir_gateway.errors import Conflict, GatewayError
from fhir_gateway.identity import review, review_job, review_propose
from fhir_gateway.identity.link import pair, pair_id
from fhir_gateway.identity.review_propose import Proposal
from fhir_gateway.interactions.jobs import work_once
from fhir_gateway.interactions.reindex import run
from fhir_gateway.search.version import program_of
from fhir_gateway.security.actor import GATEWAY
from fhir_gateway.store import jobs

BY = review.reviewer("赵审核")


@pytest.fixture(scope="module")
def hospitals(client):
    return Hospitals(client)


def gathered(hospitals: Hospitals, *works: Any) -> list[Any]:
    async def all() -> list[Any]:
        return await asyncio.gather(*works, return_exceptions=True)

    found: list[Any] = hospitals.running.run(all())
    return found


def test_of_two_answers_at_once_one_counts(hospitals):
    one, other = hospitals.pair("at-once")
    id = pair_id(pair(one, other))
    verbs: list[Any] = ["confirm", "reject", "confirm", "reject"]
    told = gathered(
        hospitals, *(review.decide(hospitals.gateway, GATEWAY, id, verb, BY) for verb in verbs)
    )
    refused = [answer for answer in told if isinstance(answer, Conflict)]
    [kept] = [answer for answer in told if not isinstance(answer, GatewayError)]
    assert len(refused) == 3
    assert hospitals.question(one, other)["status"] == kept["status"]
    assert hospitals.homes(one) == (2 if kept["status"] == "completed" else 1)


def test_a_pair_that_is_proposed_at_once_is_asked_about_once(hospitals):
    one, other = "same-1", "same-2"
    for id, at in ((one, "north"), (other, "south")):
        hospitals.store(id, hospitals.someone(), at)
    proposal = Proposal(pair(one, other), "confirm-identity", "probable", 0.95, "name=same")
    told = gathered(
        hospitals, *(review_propose.propose(hospitals.gateway, proposal) for _ in range(4))
    )
    assert sorted(told) == ["asked", "unchanged", "unchanged", "unchanged"]
    assert hospitals.question(one, other)["meta"]["versionId"] == "1"


def test_a_job_that_is_stopped_goes_on_where_it_was(hospitals, monkeypatch):
    hospitals.compare()
    pairs = []
    for number in range(3):
        someone, ids = hospitals.someone(), (f"killed-{number}-n", f"killed-{number}-s")
        for id, at in zip(ids, ("north", "south"), strict=True):
            hospitals.store(id, someone, at)
        pairs.append(ids)
    monkeypatch.setattr(review_job, "PAGE", 2)
    monkeypatch.setattr(review_job, "STEP_SECONDS", 0.0)
    gateway, works = hospitals.gateway, {review_job.KIND: review_job.work}
    job = hospitals.running.run(review_job.plan(gateway))
    stop = asyncio.Event()
    stop.set()
    hospitals.running.run(work_once(gateway, works, stop))
    stopped = hospitals.running.run(jobs.find(gateway.store, job.id))
    assert (stopped.state, stopped.progress.partition(" ")[0]) == ("waiting", "2")
    assert hospitals.running.run(review_job.plan(gateway)) is None  # one at a time
    hospitals.running.run(work_once(gateway, works))
    done = hospitals.running.run(jobs.find(gateway.store, job.id))
    assert (done.state, done.progress.partition(" ")[0]) == ("done", "6")
    assert [hospitals.question(*ids)["status"] for ids in pairs] == ["requested"] * 3


def test_a_watch_plans_once_a_minute_and_only_when_something_came(hospitals):
    hospitals.compare()
    watch = review_job.Watch(hospitals.gateway)

    def waiting() -> int:
        found = hospitals.running.run(
            jobs.find_all(hospitals.gateway.store, kind=review_job.KIND, states=jobs.OPEN_STATES)
        )
        return len(found)

    hospitals.running.run(watch.look())
    assert waiting() == 0
    hospitals.store("watched", hospitals.someone())
    hospitals.running.run(watch.look())
    assert waiting() == 0  # it looked a moment ago
    hospitals.running.run(review_job.Watch(hospitals.gateway).look())
    assert waiting() == 1
    hospitals.running.run(work_once(hospitals.gateway, {review_job.KIND: review_job.work}))


def test_a_store_from_before_gets_its_links_when_it_is_indexed_anew(start, database: Databases):
    hospitals = Hospitals(start())
    one, other = hospitals.pair("aged")
    hospitals.answer("confirm-identity", one, other)
    third, _ = hospitals.pair("doubted")
    for table in ("alias", "person", "proposal"):
        database.execute(f"DELETE FROM {table}", "gateway")
    assert hospitals.homes(one) == 1

    async def index() -> int:
        async with hospitals.gateway.store.snapshot(GATEWAY.access) as reader:
            return int(reader.index.indexing)

    newest = hospitals.running.run(index())
    database.execute(f"UPDATE clock SET indexed = {newest - program_of(newest) + 2}", "gateway")
    assert hospitals.running.run(run(hospitals.gateway, asyncio.Event()))
    assert hospitals.homes(one) == 2
    assert hospitals.homes(third) == 1
    assert len(database.rows("SELECT DISTINCT source FROM proposal", "gateway")) == 1
