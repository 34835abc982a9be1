"""Kick-offs that come all at once; files of a worker whose predecessor does not know yet; records
that move while they are exported."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from issue_cases import rule_of
from running import Running

from fhir_gateway.interactions.asynchronous import MOST_OPEN
from fhir_gateway.interactions.export_files import keep_only
from fhir_gateway.interactions.export_persons import Persons
from fhir_gateway.interactions.jobs import work_once
from fhir_gateway.rest.later import WORKS
from fhir_gateway.store import jobs

ASYNC = {"prefer": "respond-async"}


def test_no_crowd_of_kick_offs_opens_more_jobs_than_one_by_one(start: Any) -> None:
    server: Running = start(open_access=True)

    async def crowd() -> list[Any]:
        paths = ["/fhir/$export", "/fhir/Patient?_count=3"] * 15
        return list(await asyncio.gather(*(server.http.get(path, headers=ASYNC) for path in paths)))

    answers = server.run(crowd())
    statuses = [answer.status_code for answer in answers]
    assert sorted(statuses) == [202] * MOST_OPEN + [429] * (30 - MOST_OPEN)
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert rule_of(refused) == (429, "jobs")
    found = server.run(jobs.find_all(server.gateway.store, states=jobs.OPEN_STATES))
    assert len(found) == MOST_OPEN
    place = next(a for a in answers if a.status_code == 202).headers["content-location"]
    assert server.delete(place.removeprefix("http://127.0.0.1")).status_code == 202
    assert server.get("/fhir/$export", headers=ASYNC).status_code == 202


def test_a_worker_that_was_replaced_removes_nothing_of_the_next_one(tmp_path: Path) -> None:
    first = Persons(tmp_path, 1, counted=0)
    first.add([(7, "p")])
    counted = first.sync()
    (tmp_path / "0000-Patient-1.ndjson").write_bytes(b"whole")
    (tmp_path / "0001-Observation-1.ndjson.part").write_bytes(b"half")
    second = Persons(tmp_path, 2, counted=counted)  # the lease of the first one has run out
    (tmp_path / "0001-Observation-2.ndjson.part").write_bytes(b"half and more")
    keep_only(tmp_path, ["0000-Patient-1.ndjson"], fence=1)
    assert second.after(0, 10).people == [(7, "p")]
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["0000-Patient-1.ndjson", "0001-Observation-2.ndjson.part", "persons-2"]
    keep_only(tmp_path, ["0000-Patient-1.ndjson"], fence=2)
    assert [path.name for path in tmp_path.iterdir()] == ["0000-Patient-1.ndjson"]
    first.close()
    second.close()


DOCUMENT = [{"system": "urn:oid:2.16.156.10011.1.3", "value": "110101199003074610"}]


def result(id: str, patient: str, **members: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "id": id, "status": "final", "code": {"text": "x"},
            "subject": {"reference": f"Patient/{patient}"}, **members}  # fmt: skip


def exported(server: Running, place: str) -> list[str]:
    """What is in the files of an export, as "Type/id status patient"."""
    assert server.run(work_once(server.gateway, WORKS))
    files = server.get(place).json()["output"]
    texts = [server.get(file["url"].removeprefix("http://127.0.0.1")).text for file in files]
    found = [json.loads(line) for text in texts for line in text.splitlines()]
    return sorted(
        f"{one['id']} {one['status']} {one['subject']['reference']}"
        for one in found
        if one["resourceType"] == "Observation"
    )


def test_what_moves_to_another_record_of_the_person_is_exported_as_it_was(start: Any) -> None:
    server: Running = start(open_access=True)
    for id in "ab":  # one person by document and name: two records of one home
        server.put(f"/fhir/Patient/{id}", {
            "resourceType": "Patient", "id": id, "identifier": DOCUMENT,
            "name": [{"text": "王小明"}], "birthDate": "1990-03-07",
        })  # fmt: skip
    for id, patient in (("goes", "a"), ("stays", "a"), ("dies", "a"), ("comes", "b")):
        server.put(f"/fhir/Observation/{id}", result(id, patient))
    member = [{"entity": {"reference": "Patient/a"}}]
    server.put("/fhir/Group/g", {"resourceType": "Group", "id": "g", "type": "person",
                                 "actual": True, "member": member})  # fmt: skip
    kicked = server.get("/fhir/Group/g/$export", headers=ASYNC).headers["content-location"]
    for id, patient in (("goes", "b"), ("stays", "a"), ("comes", "a"), ("new", "a")):
        answer = server.put(f"/fhir/Observation/{id}", result(id, patient, status="amended"))
        assert answer.status_code in (200, 201)
    assert server.delete("/fhir/Observation/dies").status_code == 204
    expected = [f"{id} final Patient/a" for id in ("dies", "goes", "stays")]
    assert exported(server, kicked.removeprefix("http://127.0.0.1")) == expected
    kicked = server.get("/fhir/Group/g/$export", headers=ASYNC).headers["content-location"]
    expected = [f"{id} amended Patient/a" for id in ("comes", "new", "stays")]
    assert exported(server, kicked.removeprefix("http://127.0.0.1")) == expected
