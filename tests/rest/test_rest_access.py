"""Who may do what: tokens, institutions, what the gateway's operator alone publishes."""

from __future__ import annotations

import re

import pytest
from rest_samples import bundle, entry, observation, patient
from running import Running

from fhir_gateway.app import check_open_access
from fhir_gateway.errors import Invalid
from fhir_gateway.interactions.institutions import revoke_token
from fhir_gateway.interactions.prepare import put_of
from fhir_gateway.interactions.table import INTERACTIONS
from fhir_gateway.settings import Settings
from fhir_gateway.store.changes import ChangeSet


@pytest.fixture(scope="module")
def server(shared_database):
    """A gateway that wants credentials."""
    one = Running(shared_database.url("closed"))
    yield one
    one.close()


WITHOUT_CREDENTIAL = {"GET /fhir/metadata", "GET /healthz", "GET /readyz"}


NAMED = {"type": "Patient", "version": "1", "member": "Observation"}


def _addresses():
    for row in INTERACTIONS:
        path = re.sub(r"{(\w+)}", lambda name: NAMED.get(name[1], "x"), row.path)
        yield row.method, f"/fhir/{path}"
    for operation in ("ServiceRequest/$recognize", "GuidanceResponse/x/$replay", "$nonsense"):
        yield "POST", f"/fhir/{operation}"
    yield from [("GET", "/fhir/Nonsense"), ("GET", "/fhir/a/b/c/d/e"), ("PATCH", "/fhir/Patient/x")]
    yield from [("POST", "/hl7v2"), ("POST", "/cds-services/recognition-order-sign")]
    yield from [("GET", "/healthz"), ("GET", "/readyz")]


@pytest.mark.parametrize(("method", "path"), list(_addresses()))
def test_every_address_wants_a_credential_but_metadata_and_health(server, method, path):
    answer = server.request(method, path)
    if f"{method} {path}" in WITHOUT_CREDENTIAL:
        assert answer.status_code == 200
        return
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer ", "Bearer wrong", "Basic YTpi", "wrong", "é"]
)
def test_credentials_that_nobody_issued_are_refused(server, header):
    answer = server.get("/fhir/Patient/x", headers={"authorization": header.encode()})
    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (401, "login")


def test_an_institution_owns_what_it_writes(server):
    first, second = server.institution("first"), server.institution("second")
    stored = server.post("/fhir/Patient", patient(), headers=first).json()
    path = f"/fhir/Patient/{stored['id']}"
    assert server.get(path, headers=second).status_code == 200
    assert server.put(path, stored, headers=second).status_code == 403
    assert server.delete(path, headers=second).status_code == 403
    refused = server.post("/fhir", bundle("transaction", entry("PUT", path[6:], stored)),
                          headers=second)  # fmt: skip
    assert refused.status_code == 403
    assert server.put(path, stored, headers=first).status_code == 200
    assert server.delete(path, headers=first).status_code == 204


def test_nobody_takes_over_a_deleted_resource(server):
    first, second = server.institution("first"), server.institution("second")
    server.put("/fhir/Patient/p", patient(id="p"), headers=first)
    server.delete("/fhir/Patient/p", headers=first)
    assert server.put("/fhir/Patient/p", patient(id="p"), headers=second).status_code == 403


#: How the deletion of what is not there is answered: maps of its own codes are an institution's.
ABSENT = {"CodeSystem": (403,), "ConceptMap": (204,), "PlanDefinition": (403,), "ValueSet": (403,)}


@pytest.mark.parametrize("type", ABSENT)
def test_definitions_are_published_by_the_operator_alone(server, type):
    mine = server.institution("first")
    body = {"resourceType": type, "id": "x", "status": "active"}
    assert server.put(f"/fhir/{type}/x", body, headers=mine).status_code == 403
    assert server.post(f"/fhir/{type}", body, headers=mine).status_code == 403
    assert server.delete(f"/fhir/{type}/x", headers=mine).status_code in ABSENT[type]
    put = put_of(server.gateway, body, op="create", owner=0)
    published = ChangeSet(id=server.gateway.random(16), puts=[put])
    server.run(server.gateway.store.commit(published))
    assert server.delete(f"/fhir/{type}/x", headers=mine).status_code == 403
    batch = server.post("/fhir", bundle("batch", entry("PUT", f"{type}/x", body)), headers=mine)
    assert batch.json()["entry"][0]["response"]["status"] == "403"


def test_an_institution_cannot_change_the_registry(server):
    mine = server.institution("first")
    stored = server.get("/fhir/Organization/first", headers=mine).json()
    assert server.put("/fhir/Organization/first", stored, headers=mine).status_code == 403
    copy = {**stored, "id": "copy"}
    assert server.put("/fhir/Organization/copy", copy, headers=mine).status_code == 403
    plain = {"resourceType": "Organization", "name": "a department"}
    assert server.post("/fhir/Organization", plain, headers=mine).status_code == 201


def test_a_clients_data_quality_tags_do_not_count(server):
    from fhir_gateway.settings import CANONICAL

    mine = server.institution("first")
    tags = [
        {"system": f"{CANONICAL}/CodeSystem/data-quality", "code": "unmapped-item"},
        {"system": "http://own.example", "code": "kept"},
    ]
    stored = server.post("/fhir/Patient", patient(meta={"tag": tags}), headers=mine).json()
    assert stored["meta"]["tag"] == tags[1:]


def test_server_owned_members_of_meta_are_ignored(server):
    mine = server.institution("first")
    meta = {"versionId": "77", "lastUpdated": "1999-01-01T00:00:00Z"}
    stored = server.post("/fhir/Patient", patient(meta=meta), headers=mine).json()
    assert stored["meta"]["versionId"] == "1"
    assert stored["meta"]["lastUpdated"].startswith("20")
    assert not stored["meta"]["lastUpdated"].startswith("1999")


def test_a_revoked_token_dies_within_seconds(server, monkeypatch):
    mine = server.institution("first")
    assert server.get("/fhir/Patient/x", headers=mine).status_code == 404
    server.run(revoke_token(server.gateway, mine["authorization"].removeprefix("Bearer ")))
    monkeypatch.setattr("fhir_gateway.interactions.authenticate.REMEMBERED_US", 0)
    later = server.gateway.clock.now() + 6_000_000
    monkeypatch.setattr(type(server.gateway.clock), "now", lambda self: later)
    assert server.get("/fhir/Patient/x", headers=mine).status_code == 401


def test_open_access_binds_to_loopback_only():
    for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9"):
        check_open_access(Settings(host=host, open_access=True))
    for host in ("0.0.0.0", "::", "192.0.2.1", "gateway.example"):
        with pytest.raises(Invalid):
            check_open_access(Settings(host=host, open_access=True))
    check_open_access(Settings(host="0.0.0.0"))


def test_open_access_says_so_loudly(client, server):
    loud = client.get("/fhir/metadata").json()
    assert loud["rest"][0]["security"]["description"].startswith("OPEN ACCESS")
    quiet = server.get("/fhir/metadata").json()
    assert "token" in quiet["rest"][0]["security"]["description"]


def test_050_metrics_are_the_operators_and_name_no_patient(client, server):
    mine = server.institution("first")
    secret = "王秘密110101199001011234"
    for one, headers in ((server, mine), (client, {})):
        one.get("/fhir/Patient", params={"name": secret}, headers=headers)
        one.get(f"/fhir/Patient/{'9' * 18}", headers=headers)
    page = client.get("/metrics")
    assert page.status_code == 200
    assert 'route="/fhir/{type}/{id}",status="404"' in page.text
    assert "9" * 18 not in page.text
    assert "王秘密" not in page.text
    assert server.get("/metrics").status_code == 401
    refused = server.get("/metrics", headers=mine)
    assert (refused.status_code, refused.json()["issue"][0]["details"]["text"]) == (403, "rights")


def test_log_lines_are_json_without_patient_data(server, caplog):
    import json
    import logging

    mine = server.institution("first")
    stored = server.post("/fhir/Patient", patient(), headers=mine).json()
    server.post("/fhir/Observation", observation(f"Patient/{stored['id']}"), headers=mine)
    with caplog.at_level(logging.DEBUG):
        server.get(f"/fhir/Patient/{stored['id']}", headers={**mine, "x-request-id": "r1"})
        server.get("/fhir/Patient?name=秘密", headers=mine)
    lines = [json.loads(record.message) for record in caplog.records
             if record.name == "fhir_gateway.requests"]  # fmt: skip
    assert lines[0]["id"] == "r1"
    assert lines[0]["route"] == "/fhir/{type}/{id}"
    assert lines[0]["status"] == 200
    assert lines[0]["actor"] == "first"
    ours = [record.getMessage() for record in caplog.records if record.name != "httpx"]
    assert not any(stored["id"] in line or "秘密" in line for line in ours)
