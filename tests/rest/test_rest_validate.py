"""$validate over HTTP (hl7.org/fhir/R4/resource-operation-validate.html)."""

from __future__ import annotations

import pytest
from rest_samples import observation, patient

OBSERVATION = "http://hl7.org/fhir/StructureDefinition/Observation"


def parameters(resource=None, **codes):
    members = [{"name": "resource", "resource": resource}] if resource is not None else []
    members += [
        {"name": name, "valueUri" if name == "profile" else "valueCode": value}
        for name, value in codes.items()
    ]
    return {"resourceType": "Parameters", "parameter": members}


def found(answer):
    """(severity, code, rule, expression) of each issue, but for the advice to write a narrative."""
    assert answer.status_code == 200, answer.text
    outcome = answer.json()
    assert outcome["resourceType"] == "OperationOutcome"
    issues = [
        (one["severity"], one["code"], one.get("details", {}).get("text"),
         one.get("expression", [None])[0])
        for one in outcome["issue"]
    ]  # fmt: skip
    return [one for one in issues if one[2] != "dom-6"] or ALL_OK


ALL_OK = [("information", "informational", None, None)]


@pytest.fixture(scope="module")
def subject(client):
    return f"Patient/{client.post('/fhir/Patient', patient()).json()['id']}"


@pytest.fixture(scope="module")
def stored(client, subject):
    return client.post("/fhir/Observation", observation(subject)).json()


def test_a_sound_resource_is_all_ok_raw_and_in_parameters(client, subject):
    body = observation(subject)
    assert found(client.post("/fhir/Observation/$validate", body)) == ALL_OK
    assert found(client.post("/fhir/Observation/$validate", parameters(body))) == ALL_OK


def test_all_faults_are_told_and_the_status_is_200(client, subject):
    body = {**observation(subject), "status": "done", "nonsense": 1, "effectiveDateTime": "x"}
    del body["code"]
    for sent in (body, parameters(body)):
        issues = found(client.post("/fhir/Observation/$validate", sent))
        assert {expression for _, _, _, expression in issues} == {
            "Observation.status", "Observation.code", "Observation.effective",
            "Observation.nonsense",
        }  # fmt: skip
        assert {severity for severity, *_ in issues} == {"error"}


def test_another_type_than_the_address_names_is_a_fault(client):
    assert found(client.post("/fhir/Observation/$validate", patient())) == [
        ("error", "invalid", "resource-type", "Observation")
    ]


@pytest.mark.parametrize("resource", [5, "x", True, [], {}, [{}], {"resourceType": 7}])
def test_what_is_no_resource_at_all_is_a_fault_of_it(client, resource):
    for mode in ({}, {"mode": "create"}):
        issues = found(client.post("/fhir/Observation/$validate", parameters(resource, **mode)))
        assert [severity for severity, *_ in issues] == ["error"]


def test_nothing_is_stored(client, subject):
    before = client.get("/fhir/Observation?_summary=count").json()["total"]
    client.post("/fhir/Observation/$validate", parameters(observation(subject), mode="create"))
    assert client.get("/fhir/Observation?_summary=count").json()["total"] == before


def test_mode_create_finds_what_the_write_would_refuse(client, subject):
    path = "/fhir/Observation/$validate"
    assert found(client.post(path, parameters(observation(subject), mode="create"))) == ALL_OK
    broken = parameters(observation("Patient/nobody"), mode="create")
    assert found(client.post(path, broken)) == [
        ("error", "invalid", "reference-unknown", "Observation.subject.reference")
    ]
    assert found(client.post(path, parameters(observation("Patient/nobody")))) == ALL_OK


def test_mode_update_looks_at_the_stored_resource(client, subject, stored):
    path = f"/fhir/Observation/{stored['id']}/$validate"
    assert found(client.post(path, parameters(stored, mode="update"))) == ALL_OK
    assert found(client.post(f"{path}?mode=update", stored)) == ALL_OK
    other = parameters({**stored, "id": "other"}, mode="update")
    assert found(client.post(path, other)) == [("error", "invalid", "id", "Observation.id")]
    somebody = f"Patient/{client.post('/fhir/Patient', patient()).json()['id']}"
    moved = parameters({**stored, "subject": {"reference": somebody}}, mode="update")
    assert found(client.post(path, moved)) == [
        ("error", "invalid", "subject-changed", "Observation")
    ]
    assert client.put(
        f"/fhir/Observation/{stored['id']}", moved["parameter"][0]["resource"]
    ).json()["issue"][0]["details"] == {"text": "subject-changed"}


def test_mode_delete_needs_no_resource(client, stored):
    path = f"/fhir/Observation/{stored['id']}/$validate"
    assert found(client.get(f"{path}?mode=delete")) == ALL_OK
    assert found(client.post(path, parameters(mode="delete"))) == ALL_OK
    assert client.get(f"/fhir/Observation/{stored['id']}").status_code == 200


def test_the_stored_resource_is_judged_when_none_is_sent(client, stored):
    path = f"/fhir/Observation/{stored['id']}/$validate"
    assert found(client.get(path)) == ALL_OK
    assert found(client.get(f"{path}?mode=profile&profile={OBSERVATION}")) == ALL_OK


def test_a_profile_that_is_not_known_is_never_silently_met(client, subject):
    path, profile = "/fhir/Observation/$validate", "http://hospital.example/profile"
    body = observation(subject)
    assert found(client.post(path, parameters(body, profile=OBSERVATION))) == ALL_OK
    assert found(client.post(path, parameters(body, profile=f"{OBSERVATION}|4.0.1"))) == ALL_OK
    assert found(client.post(path, parameters(body, profile=profile))) == [
        ("error", "not-supported", "profile-unknown", "profile")
    ]
    claimed = {**body, "meta": {"profile": [OBSERVATION, profile]}}
    assert found(client.post(path, claimed)) == [
        ("information", "not-supported", "profile-unknown", "Observation.meta.profile[1]")
    ]


@pytest.mark.parametrize(
    ("path", "body", "expression", "rule"),
    [
        ("Observation/$validate", {"resourceType": "Parameters"}, "resource", "required"),
        ("Observation/$validate", parameters(mode="create"), "resource", "required"),
        ("Observation/$validate", parameters(mode="delete"), "mode", "mode"),
        ("Observation/$validate", parameters(patient(), mode="destroy"), "mode", "mode"),
        (
            "Observation/$validate",
            parameters(patient(), strict="yes"),
            "Parameters.parameter[1].name",
            "unknown-parameter",
        ),
        (
            "Observation/$validate?mode=create&nonsense=1",
            patient(),
            "nonsense",
            "unknown-parameter",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(client, path, body, expression, rule):
    answer = client.post(f"/fhir/{path}", body)
    issue = answer.json()["issue"][0]
    assert (answer.status_code, issue["expression"], issue["details"]["text"]) == (
        400, [expression], rule,
    )  # fmt: skip


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b'{"resourceType":"Parameters","parameter":{}}']
)
def test_what_cannot_be_read_is_no_answer_to_the_question(client, body):
    answer = client.request(
        "POST",
        "/fhir/Observation/$validate",
        content=body,
        headers={"content-type": "application/fhir+json"},
    )
    assert answer.status_code in (400, 422)
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_an_unknown_resource_is_404_and_a_deleted_one_410(client, subject):
    assert client.get("/fhir/Observation/nobody/$validate").status_code == 404
    id = client.post("/fhir/Observation", observation(subject)).json()["id"]
    client.delete(f"/fhir/Observation/{id}")
    assert client.get(f"/fhir/Observation/{id}/$validate").status_code == 410


def test_another_institutions_resource_could_not_be_updated(start):
    server = start()
    mine, other = server.institution("mine"), server.institution("other")
    sent = server.post("/fhir/Patient", patient(), headers=mine).json()
    path = f"/fhir/Patient/{sent['id']}/$validate"
    asked = parameters(sent, mode="update")
    assert found(server.post(path, asked, headers=mine)) == ALL_OK
    assert [issue[:3] for issue in found(server.post(path, asked, headers=other))] == [
        ("error", "forbidden", "owner")
    ]
    governed = parameters({"resourceType": "ValueSet", "status": "active"}, mode="create")
    assert [one[:3] for one in found(server.post("/fhir/ValueSet/$validate", governed,
                                                 headers=mine))] == [
        ("error", "forbidden", "governed")
    ]  # fmt: skip


def test_what_it_tells_of_a_patient_is_audited(client, subject, stored):
    def count():
        page = client.get(f"/fhir/AuditEvent?patient={subject}&_count=500").json()
        return sum(
            one["resource"]["subtype"][0]["code"] == "operation" for one in page.get("entry", ())
        )

    before = count()
    client.get(f"/fhir/Observation/{stored['id']}/$validate")
    assert count() == before + 1
