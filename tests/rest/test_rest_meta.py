"""$meta, $meta-add and $meta-delete over HTTP (hl7.org/fhir/R4/resource-operation-meta.html)."""

from __future__ import annotations

import pytest
from rest_samples import observation, patient

from fhir_gateway.terminology.coder import DATA_QUALITY

TAG = {"system": "http://hospital.example/tags", "code": "study"}
LABEL = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}
PROFILE = "http://hospital.example/StructureDefinition/result"


def parameters(**meta):
    return {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": meta}]}


@pytest.fixture
def name(client):
    subject = client.post("/fhir/Patient", patient()).json()["id"]
    stored = client.post("/fhir/Observation", observation(f"Patient/{subject}")).json()
    return f"Observation/{stored['id']}"


def returned(answer):
    assert answer.status_code == 200, answer.text
    (one,) = answer.json()["parameter"]
    assert one["name"] == "return"
    return one["valueMeta"]


def test_meta_is_what_a_read_shows(client, name):
    assert returned(client.get(f"/fhir/{name}/$meta")) == client.get(f"/fhir/{name}").json()["meta"]
    assert returned(client.post(f"/fhir/{name}/$meta", {"resourceType": "Parameters"}))


def test_adding_makes_a_new_version_with_what_was_not_there(client, name):
    before = client.get(f"/fhir/{name}").json()
    body = parameters(tag=[TAG], security=[LABEL], profile=[PROFILE])
    after = returned(client.post(f"/fhir/{name}/$meta-add", body))
    assert after["versionId"] == "2"
    assert (after["tag"], after["security"], after["profile"]) == ([TAG], [LABEL], [PROFILE])
    read = client.get(f"/fhir/{name}").json()
    assert read.pop("meta") == after
    del before["meta"]
    assert read == before
    found = client.get(f"/fhir/Observation?_tag={TAG['system']}|{TAG['code']}").json()
    assert name.partition("/")[2] in [one["resource"]["id"] for one in found["entry"]]


def test_system_and_code_are_the_identity_of_a_tag_and_the_url_that_of_a_profile(client, name):
    client.post(f"/fhir/{name}/$meta-add", parameters(tag=[TAG], profile=[PROFILE]))
    again = parameters(
        tag=[{**TAG, "display": "Study", "version": "2"}], profile=[PROFILE, f"{PROFILE}|1.0"]
    )
    after = returned(client.post(f"/fhir/{name}/$meta-add", again))
    assert (after["tag"], after["profile"]) == ([TAG], [PROFILE, f"{PROFILE}|1.0"])


def test_what_changes_nothing_makes_no_version(client, name):
    client.post(f"/fhir/{name}/$meta-add", parameters(tag=[TAG]))
    assert returned(client.post(f"/fhir/{name}/$meta-add", parameters(tag=[TAG])))[
        "versionId"
    ] == "2"  # fmt: skip
    gone = parameters(tag=[{"system": "http://hospital.example/other", "code": "x"}])
    assert returned(client.post(f"/fhir/{name}/$meta-delete", gone))["versionId"] == "2"
    assert len(client.get(f"/fhir/{name}/_history").json()["entry"]) == 2


def test_deleting_removes_what_is_there_and_only_that(client, name):
    client.post(f"/fhir/{name}/$meta-add", parameters(tag=[TAG], security=[LABEL]))
    body = parameters(tag=[{**TAG, "display": "whatever"}], profile=[PROFILE])
    after = returned(client.post(f"/fhir/{name}/$meta-delete", body))
    assert after["versionId"] == "3"
    assert ("tag" in after, "profile" in after, after["security"]) == (False, False, [LABEL])
    assert client.get(f"/fhir/{name}/_history/2").json()["meta"]["tag"] == [TAG]


def test_if_match_holds_as_for_an_update(client, name):
    path, body = f"/fhir/{name}/$meta-add", parameters(tag=[TAG])
    stale = client.post(path, body, headers={"if-match": 'W/"7"'})
    assert (stale.status_code, client.get(f"/fhir/{name}").json()["meta"]["versionId"]) == (
        412,
        "1",
    )
    assert returned(client.post(path, body, headers={"if-match": 'W/"1"'}))["versionId"] == "2"


@pytest.mark.parametrize(
    ("body", "expression", "rule"),
    [
        ({"resourceType": "Parameters"}, "Parameters.parameter", "required"),
        (
            {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueString": "x"}]},
            "Parameters.parameter[0]",
            "parameter-type",
        ),
        (parameters(source="http://x"), "Parameters.parameter[0].valueMeta.source", "meta"),
        (
            {"resourceType": "Parameters", "parameter": [{"name": "tag", "valueString": "x"}]},
            "Parameters.parameter[0].name",
            "unknown-parameter",
        ),
    ],
)
def test_what_it_does_not_take_is_refused_by_name(client, name, body, expression, rule):
    answer = client.post(f"/fhir/{name}/$meta-add", body)
    issue = answer.json()["issue"][0]
    assert (answer.status_code, issue["expression"], issue["details"]["text"]) == (
        400, [expression], rule,
    )  # fmt: skip
    assert client.get(f"/fhir/{name}").json()["meta"]["versionId"] == "1"


def test_tags_of_the_gateway_are_not_for_clients(client, name):
    tag = {"system": DATA_QUALITY, "code": "unmapped"}
    answer = client.post(f"/fhir/{name}/$meta-add", parameters(tag=[tag]))
    assert (answer.status_code, answer.json()["issue"][0]["details"]["text"]) == (400, "meta")


def test_it_is_a_post_for_changes_and_stands_on_resources_alone(client, name):
    got = client.get(f"/fhir/{name}/$meta-add")
    assert (got.status_code, got.headers["allow"]) == (405, "POST")
    assert client.get("/fhir/$meta").status_code == 404
    assert client.get("/fhir/Observation/$meta").status_code == 404
    assert client.get(f"/fhir/{name}/_history/1/$meta").status_code == 404
    assert client.post("/fhir/AuditEvent/x/$meta-add", parameters(tag=[TAG])).status_code == 404


def test_unknown_and_deleted_resources(client, name):
    body = parameters(tag=[TAG])
    assert client.get("/fhir/Patient/nobody/$meta").status_code == 404
    assert client.post("/fhir/Patient/nobody/$meta-add", body).status_code == 404
    client.delete(f"/fhir/{name}")
    assert client.get(f"/fhir/{name}/$meta").status_code == 410
    assert client.post(f"/fhir/{name}/$meta-add", body).status_code == 410


def test_owners_and_governed_types_hold(start):
    server = start()
    mine, other = server.institution("mine"), server.institution("other")
    subject = server.post("/fhir/Patient", patient(), headers=mine).json()["id"]
    path, body = f"/fhir/Patient/{subject}/$meta-add", parameters(tag=[TAG])
    assert server.post(path, body, headers=other).status_code == 403
    assert server.post(path, body, headers=mine).status_code == 200
    assert server.get(f"/fhir/Patient/{subject}/$meta", headers=other).status_code == 200
    governed = "/fhir/OperationDefinition/meta/$meta-add"
    assert server.post(governed, body, headers=mine).status_code == 403


def test_changes_and_reads_are_audited(client, name):
    subject = client.get(f"/fhir/{name}").json()["subject"]["reference"]
    client.get(f"/fhir/{name}/$meta")
    client.post(f"/fhir/{name}/$meta-add", parameters(tag=[TAG]))
    events = client.get(f"/fhir/AuditEvent?patient={subject}").json()["entry"]
    codes = [one["resource"]["subtype"][0]["code"] for one in events]
    assert {"operation", "patch"} <= set(codes)
