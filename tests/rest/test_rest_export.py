"""Bulk export over HTTP (hl7.org/fhir/uv/bulkdata/STU2/export.html)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from export_cases import Bulk, Json, names, observation, parameters, patient, plain, put
from running import BASE, Running

from fhir_gateway.context import PooledRandom
from fhir_gateway.fhir.keys import key64
from fhir_gateway.interactions import (
    export_files,
    export_job,
    export_ledger,
    export_persons,
    jobs,
)
from fhir_gateway.interactions.export import DEFINITION as EXPORT
from fhir_gateway.interactions.export import start_export
from fhir_gateway.interactions.export_files import folder_of
from fhir_gateway.interactions.given import take_query
from fhir_gateway.interactions.operation_definitions import Call
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.security.actor import RESTRICTED, Access, Actor
from fhir_gateway.store.changes import ChangeSet

ORGANIZATION = {"resourceType": "Organization", "id": "o1", "name": "x"}


@pytest.fixture
def bulk(start: Callable[..., Running]) -> Bulk:
    """A client of a gateway of its own, with a little in it."""
    running = start(open_access=True)
    put(running, patient("p1"), patient("p2"), ORGANIZATION)
    put(running, observation("a", "p1"), observation("b", "p2"), observation("c", "p2"))
    return Bulk(running)


MINE = ("Organization/o1", "Observation/a", "Observation/b", "Observation/c", "Patient/p1",
        "Patient/p2")  # fmt: skip


def test_a_system_export_has_everything_once(bulk: Bulk) -> None:
    place = bulk.accepted("$export")
    waiting = bulk.get(place)
    assert (waiting.status_code, waiting.headers["x-progress"]) == (202, "waiting")
    assert (waiting.headers["retry-after"], waiting.content) == ("1", b"")
    assert bulk.work() == 1
    answer = bulk.get(place)
    assert answer.headers["content-type"] == "application/json"
    assert "expires" in answer.headers
    manifest = answer.json()
    assert manifest["request"] == f"{BASE}/fhir/$export"
    assert manifest["requiresAccessToken"] is True
    assert (manifest["deleted"], manifest["error"]) == ([], [])
    found = names(bulk.lines(manifest))
    assert len(found) == len(set(found))
    assert set(MINE) <= set(found)
    assert not any(name.startswith("AuditEvent/") for name in found)


def test_lines_are_what_a_read_shows(bulk: Bulk) -> None:
    _, resources = bulk.export("$export?_type=Patient,Organization")
    for resource in resources:
        shown = bulk.get(f"/fhir/{resource['resourceType']}/{resource['id']}")
        assert shown.json() == resource


def test_a_patient_export_has_what_stands_in_records(bulk: Bulk) -> None:
    _, resources = bulk.export("Patient/$export")
    assert set(MINE) - {"Organization/o1"} == {
        name for name in names(resources) if not name.startswith(("Provenance", "AuditEvent"))
    }
    manifest, chosen = bulk.export(
        "Patient/$export",
        parameters(
            {"name": "patient", "valueReference": {"reference": "Patient/p2"}},
            {"name": "_type", "valueCode": "Patient"},
            {"name": "_type", "valueString": "Observation"},
        ),
    )
    assert names(chosen) == ["Observation/b", "Observation/c", "Patient/p2"]
    assert manifest["request"].startswith(f"{BASE}/fhir/Patient/$export?")


def test_a_group_export_follows_its_active_members(bulk: Bulk) -> None:
    def member(id: str, **more: Any) -> Json:
        return {"entity": {"reference": f"Patient/{id}"}, **more}

    put(bulk.running, patient("p3"), patient("p4"), {
        "resourceType": "Group", "id": "g", "type": "person", "actual": True,
        "member": [
            member("p1"), member("p2", inactive=True),
            member("p3", period={"end": "2020-01"}), member("p4", period={"start": "2020"}),
        ],
    })  # fmt: skip
    _, resources = bulk.export("Group/g/$export?_type=Patient,Observation")
    assert names(resources) == ["Observation/a", "Patient/p1", "Patient/p4"]


def test_groups_that_cannot_be_exported_say_why(bulk: Bulk) -> None:
    put(bulk.running,
        {"resourceType": "Group", "id": "described", "type": "person", "actual": False},
        {"resourceType": "Group", "id": "nested", "type": "person", "actual": True,
         "member": [{"entity": {"reference": "Group/described"}}]})  # fmt: skip
    told = []
    for id in ("described", "nested", "unknown"):
        answer = bulk.kick(f"Group/{id}/$export")
        told.append((answer.status_code, answer.json()["issue"][0].get("expression")))
    assert told == [
        (422, ["Group.actual"]), (422, ["Group.member[0].entity"]), (404, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "element"),
    [
        ("$export?_outputFormat=parquet", "_outputFormat"),
        ("$export?_type=Patient,Nothing", "_type"),
        ("Patient/$export?_type=Organization", "_type"),
        ("$export?_since=yesterday", "_since"),
        ("$export?includeAssociatedData=LatestProvenanceResources", "includeAssociatedData"),
        ("$export?_elements=id", "_elements"),
        ("Patient/$export?patient=Patient/p1", "patient"),
        ("$export?_typeFilter=Observation", "_typeFilter"),
        ("$export?_type=Patient&_typeFilter=Observation%3Fstatus%3Dfinal", "_typeFilter"),
        ("$export?_typeFilter=Observation%3Fstatsu%3Dfinal", "_typeFilter"),
        ("$export?_typeFilter=Observation%3Fsubject.name%3Dx", "_typeFilter"),
        ("$export?_typeFilter=Patient%3F_has:Observation:subject:status%3Dfinal", "_typeFilter"),
        ("$export?_typeFilter=Patient%3F_count%3D1", "_typeFilter"),
        ("$export?_typeFilter=Patient%3F_include%3DPatient:organization", "_typeFilter"),
    ],
)
def test_what_cannot_be_done_exactly_is_refused_by_name(
    client: Running, path: str, element: str
) -> None:
    answer = Bulk(client).kick(path)
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["expression"] == [element]


def test_patients_that_cannot_be_exported_are_refused(bulk: Bulk) -> None:
    def ask(path: str, id: str) -> int:
        named = {"name": "patient", "valueReference": {"reference": f"Patient/{id}"}}
        return bulk.kick(path, parameters(named)).status_code

    assert ask("Patient/$export", "nobody") == 400
    assert ask("$export", "p1") == 400


def test_an_export_has_to_be_asynchronous_and_in_its_place(client: Running) -> None:
    bulk = Bulk(client)
    told = [
        bulk.kick("$export", prefer="handling=lenient").status_code,
        bulk.kick("Group/$export").status_code,
        bulk.kick("Patient/p1/$export").status_code,
        bulk.kick("Observation/$export").status_code,
    ]
    assert told == [400, 404, 404, 404]


def test_an_empty_export_has_empty_lists(bulk: Bulk) -> None:
    manifest, resources = bulk.export("$export?_type=Slot")
    assert (manifest["output"], resources) == ([], [])


def test_since_and_what_was_deleted(bulk: Bulk) -> None:
    first, _ = bulk.export("$export?_type=Patient")
    since = first["transactionTime"]
    put(bulk.running, observation("d", "p1"), observation("a", "p1", status="amended"))
    bulk.delete("/fhir/Observation/b")
    bulk.delete("/fhir/Organization/o1")
    manifest, resources = bulk.export(
        f"$export?_since={since}&_type=Patient,Observation,Organization"
    )
    assert names(resources) == ["Observation/a", "Observation/d"]
    bundles = bulk.lines(manifest, "deleted")
    assert {bundle["type"] for bundle in bundles} == {"transaction"}
    assert sorted(
        (entry["request"]["method"], entry["request"]["url"])
        for bundle in bundles
        for entry in bundle["entry"]
    ) == [("DELETE", "Observation/b"), ("DELETE", "Organization/o1")]
    personal, _ = bulk.export(f"Patient/$export?_since={since}")
    (bundle,) = bulk.lines(personal, "deleted")
    assert [entry["request"]["url"] for entry in bundle["entry"]] == ["Observation/b"]


def test_what_changes_after_the_request_is_not_in_it(bulk: Bulk) -> None:
    place = bulk.accepted("$export?_type=Observation")
    put(bulk.running, observation("a", "p1", status="amended"), observation("late", "p1"))
    bulk.delete("/fhir/Observation/b")
    bulk.work()
    manifest = bulk.manifest(place)
    found = {one["id"]: one["status"] for one in bulk.lines(manifest)}
    assert found == {"a": "final", "b": "final", "c": "final"}
    _, later = bulk.export(f"$export?_type=Observation&_since={manifest['transactionTime']}")
    assert {"Observation/a", "Observation/late"} <= set(names(later))


def test_files_are_packed_for_those_who_take_it(bulk: Bulk) -> None:
    manifest, _ = bulk.export("$export?_type=Observation")
    path = manifest["output"][0]["url"].removeprefix(BASE)
    raw = folder_of(bulk.running.settings, path.split("/")[-2]) / f"{path.split('/')[-1]}.gz"
    packed = bulk.get(path, **{"accept-encoding": "gzip", "accept": "application/fhir+ndjson"})
    assert packed.headers["content-type"] == "application/fhir+ndjson"
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) == raw.stat().st_size
    for refused in ("identity", "gzip;q=0", "gzip;q=0.000"):
        answer = bulk.get(path, **{"accept-encoding": refused})
        assert "content-encoding" not in answer.headers
        assert answer.content == plain(raw.read_bytes()) == packed.content
        assert int(answer.headers["content-length"]) == len(answer.content)
    assert raw.stat().st_mode & 0o777 == 0o600
    assert raw.parent.stat().st_mode & 0o777 == 0o700


def test_pages_and_files_are_cut_where_they_must_be(
    bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_job, "PAGE", 2)
    monkeypatch.setattr(export_job, "FILE_LINES", 3)
    put(bulk.running, *(observation(f"n{number}", "p1") for number in range(8)))
    manifest, resources = bulk.export("$export?_type=Observation,Patient")
    assert [(file["type"], file["count"]) for file in manifest["output"]] == [
        ("Patient", 2), ("Observation", 4), ("Observation", 4), ("Observation", 3),
    ]  # fmt: skip
    assert len(set(names(resources))) == 13


def test_a_cancelled_export_is_gone_with_its_files(bulk: Bulk) -> None:
    waiting = bulk.accepted("$export")
    assert bulk.delete(waiting).status_code == 202
    assert (bulk.get(waiting).status_code, bulk.delete(waiting).status_code) == (404, 404)
    assert bulk.work() == 0
    done = bulk.accepted("$export?_type=Patient")
    bulk.work()
    url = bulk.manifest(done)["output"][0]["url"].removeprefix(BASE)
    folder = folder_of(bulk.running.settings, done.split("/")[-1])
    assert len(list(folder.iterdir())) == 1
    assert bulk.delete(done).status_code == 202
    assert (bulk.get(done).status_code, bulk.get(url).status_code) == (404, 404)
    assert not folder.exists()


def test_nobody_has_more_unfinished_exports_than_is_good(bulk: Bulk) -> None:
    places = [bulk.accepted("$export?_type=Patient") for _ in range(10)]
    refused = bulk.kick("$export")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    bulk.delete(places[0])
    assert bulk.kick("$export").status_code == 202


def test_056_an_institution_sees_neither_another_s_export_nor_its_files(
    start: Callable[..., Running],
) -> None:
    running = start()
    one, other = (Bulk(running, running.institution(id)) for id in ("h1", "h2"))
    put(running, patient("p1"), headers=one.headers)
    place = one.accepted("$export?_type=Patient")
    one.work()
    url = one.manifest(place)["output"][0]["url"].removeprefix(BASE)
    for path in (place, url):
        assert other.get(path).status_code == 404
        assert running.get(path).status_code == 401
    assert other.delete(place).status_code == 404
    assert one.get(url).status_code == 200


def test_paths_that_lead_nowhere(bulk: Bulk) -> None:
    manifest, _ = bulk.export("$export?_type=Patient")
    url = manifest["output"][0]["url"].removeprefix(BASE)
    place = url.rpartition("/")[0]
    told = [
        bulk.get(path).status_code
        for path in (
            "/fhir/_async/unknown", f"{place}/persons-1", f"{place}/..%2F..%2Fgateway.sqlite",
            f"{url}.part", f"{url}/more", "/fhir/_async", f"{place}?_type=Patient",
        )
    ]  # fmt: skip
    assert told == [404, 404, 404, 404, 404, 404, 400]
    assert bulk.running.put(place, patient("p1")).status_code == 405


def test_every_person_and_every_download_is_on_record(
    bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the chance that makes a job's id has digits that look like a mobile number, which
    no query in the log shows."""
    whole = PooledRandom.__call__

    def with_a_number(self: PooledRandom, count: int) -> bytes:
        number = bytes.fromhex("a13912345678bf")
        return whole(self, count) if count != 16 else number + whole(self, 9)

    monkeypatch.setattr(PooledRandom, "__call__", with_a_number)
    place = bulk.accepted("Patient/$export?_type=Observation,Patient")
    bulk.work()
    manifest = bulk.manifest(place)
    bulk.lines(manifest)
    job = place.rpartition("/")[2]
    _, events = bulk.export("$export?_type=AuditEvent")
    queries: dict[str, list[Json]] = {}
    for event in events:
        for entity in event.get("entity", ()):
            if "query" in entity:
                import base64

                query = base64.b64decode(entity["query"]).decode()
                queries.setdefault(query, []).append(event)
    about = queries[f"Patient/$export?_type=Observation%2CPatient#{job}"]
    patients = [
        detail["valueString"]
        for event in about
        for entity in event["entity"]
        for detail in entity.get("detail", ())
        if detail["type"] == "patients"
    ]
    assert patients == ["p1 p2"]
    assert [event.get("outcomeDesc") for event in about if "outcomeDesc" in event] == [
        "2 persons",
        "5 resources of 2 persons in 2 files",
    ]
    downloads = [query for query in queries if query.startswith(f"_async/{job}/")]
    assert len(downloads) == len(manifest["output"]) == 2


def test_files_lie_where_the_setting_says(start: Callable[..., Running], tmp_path: Path) -> None:
    bulk = Bulk(start(open_access=True, exports=str(tmp_path / "elsewhere")))
    put(bulk.running, patient("p1"))
    place = bulk.accepted("$export?_type=Patient")
    bulk.work()
    (file,) = (tmp_path / "elsewhere" / place.rpartition("/")[2]).iterdir()
    assert json.loads(plain(file.read_bytes()))["id"] == "p1"


class Killed(BaseException):
    """Stands for kill -9: nothing that is there to clean up may run into it."""


@pytest.mark.parametrize(
    ("owner", "name"),
    [(jobs.Held, "step"), (export_files.Writer, "_write"), (export_files, "_sync_folder"),
     (export_persons.Persons, "sync"), (export_ledger.Ledger, "_record")],
    ids=["step", "write", "rename", "persons", "audit"],
)  # fmt: skip
def test_whoever_dies_anywhere_is_followed_by_one_that_ends_the_work_exactly(
    bulk: Bulk, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    for module, constant, value in (
        (export_job, "PAGE", 2), (export_job, "FILE_LINES", 3), (export_job, "PERSONS", 1),
        (jobs, "LEASE", 1),
    ):  # fmt: skip
        monkeypatch.setattr(module, constant, value)
    put(bulk.running, *(observation(f"n{number}", "p1") for number in range(6)))
    place = bulk.accepted("$export?_type=Observation,Patient&_since=2020-01-01T00:00:00Z")
    whole, calls = getattr(owner, name), 0

    def dying(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % 3 == 2:
            raise Killed
        return whole(*arguments, **named)

    monkeypatch.setattr(owner, name, dying)
    deaths = 0
    while bulk.get(place).status_code == 202:
        try:
            bulk.work()
        except Killed:
            deaths += 1
            assert deaths < 30
    assert deaths
    manifest = bulk.manifest(place)
    found = [f"{one['resourceType']}/{one['id']}" for one in bulk.lines(manifest)]
    expected = [f"Observation/{id}" for id in "abc"] + [f"Observation/n{n}" for n in range(6)]
    assert found == ["Patient/p1", "Patient/p2", *expected]
    folder = folder_of(bulk.running.settings, place.rpartition("/")[2])
    assert len(list(folder.iterdir())) == len(manifest["output"])
    asked = bulk.get("/fhir/AuditEvent?subtype=operation&_summary=count").json()["total"]
    told = bulk.get("/fhir/AuditEvent?subtype=disclose&_summary=count").json()["total"]
    assert asked == 1
    assert told == 2 + 1 + len(manifest["output"])  # two persons, the whole, files


def test_056_a_result_that_has_expired_is_gone(bulk: Bulk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "kept", lambda gateway: 1)
    place = bulk.accepted("$export?_type=Patient")
    bulk.work()
    assert bulk.get(place).status_code == 404
    folder = folder_of(bulk.running.settings, place.rpartition("/")[2])
    assert folder.exists()
    bulk.running.run(jobs.tidy(bulk.running.gateway))
    assert not folder.exists()


def exported_by(bulk: Bulk, access: Access) -> list[str]:
    """What a caller with this Access exports, and may fetch afterwards."""
    gateway, run = bulk.running.gateway, bulk.running.run
    actor = Actor("open", "open-access", access=access)
    given = take_query([("_type", "Patient,Observation")], EXPORT)
    call = Call("$export", base=f"{BASE}/fhir", parameters=given.parameters)
    job = run(start_export(gateway, actor, call))
    bulk.work()
    folder = folder_of(bulk.running.settings, job.id)
    lines = [
        json.loads(line)
        for path in folder.iterdir()
        for line in plain(path.read_bytes()).splitlines()
    ]
    return names(lines)


def test_an_export_has_what_its_caller_may_see(start: Callable[..., Running]) -> None:
    running = start(open_access=True)
    first, second = (running.institution(id) for id in ("h1", "h2"))
    put(running, patient("p1"), observation("a", "p1"), headers=first)
    put(running, patient("p2"), observation("b", "p2"), headers=second)
    secret = prepare(running.gateway, observation("secret", "p1"), op="create", institution="h1")
    secret.sensitivity = RESTRICTED
    change_set = ChangeSet(id=running.gateway.random(16), puts=[secret])
    running.run(running.gateway.store.commit(change_set))
    bulk, own = Bulk(running), frozenset({key64("Organization/h1")})
    everybody = ["Observation/a", "Observation/b", "Patient/p1", "Patient/p2"]
    assert exported_by(bulk, Access()) == everybody
    assert exported_by(bulk, Access(owners=own)) == ["Observation/a", "Patient/p1"]
    assert exported_by(bulk, Access(max_class=RESTRICTED)) == sorted(
        [*everybody, "Observation/secret"]
    )


def test_056_whoever_may_see_less_by_now_gets_nothing(start: Callable[..., Running]) -> None:
    bulk = Bulk(start(open_access=True))
    gateway, run = bulk.running.gateway, bulk.running.run
    call = Call("$export", base=f"{BASE}/fhir", parameters=take_query([], EXPORT).parameters)
    job = run(start_export(gateway, Actor("open", "x", access=Access(RESTRICTED)), call))
    assert bulk.get(f"/fhir/_async/{job.id}").status_code == 403
