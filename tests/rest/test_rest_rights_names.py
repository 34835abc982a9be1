"""Nobody writes in another's name, by no element and by no door (faults 48, 64, 65)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from rest_samples import bundle, entry, observation, patient
from rights_world import World

from fhir_gateway.fhir.keys import key64
from fhir_gateway.interactions.institutions import register
from fhir_gateway.interactions.own_name import SPEAKS
from fhir_gateway.mapping.doors import DOOR_URL, INTAKE_SYSTEM
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.security.institution import CREDIT_CODE_SYSTEM, Institution
from fhir_gateway.settings import CANONICAL

THERE = {"reference": "Organization/there"}
CODE = "12110000400000000X"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("names"))
    gateway = made.server.gateway
    named = Institution(id="there", name="there", area="110105", credit_code=CODE)
    made.server.run(register(gateway, named))
    there = made.server.institution("other")
    made.role = made.make(there, {
        "resourceType": "PractitionerRole", "organization": {"reference": "Organization/other"},
    })  # fmt: skip
    made.department = made.make(there, {"resourceType": "Organization", "name": "检验科"})
    yield made
    made.server.close()


def _report(world: World, **members: Any) -> dict[str, Any]:
    subject = {"reference": f"Patient/{world.patients[0]}"}
    return {
        "resourceType": "DiagnosticReport", "status": "final", "code": {"text": "x"},
        "subject": subject, **members,
    }  # fmt: skip


def _is_refused(answer: Any, *, rule: str = "performer") -> None:
    assert answer.status_code == 403, answer.text
    assert answer.json()["issue"][0]["details"]["text"] == rule


#: Ways to say "the other hospital": by name, by version, by address, by number, by its department,
#: by a role of it, by what the report contains.
def _ways(world: World) -> dict[str, dict[str, Any]]:
    number = {"identifier": {"system": CREDIT_CODE_SYSTEM, "value": CODE}}
    inside = {
        "role": {"resourceType": "PractitionerRole", "id": "r", "organization": THERE},
        "organization": {
            "resourceType": "Organization", "id": "r", "identifier": [number["identifier"]],
        },
    }  # fmt: skip
    return {
        "reference": {"performer": [THERE]},
        "second": {"performer": [{"reference": "Organization/here"}, THERE]},
        "version": {"performer": [{"reference": "Organization/there/_history/1"}]},
        "address": {"performer": [{"reference": "https://gw.example/fhir/Organization/there"}]},
        "number": {"performer": [number]},
        "named and numbered": {"performer": [{**number, "reference": "Organization/here"}]},
        "interpreter": {"resultsInterpreter": [THERE]},
        "department": {"performer": [{"reference": f"Organization/{world.department}"}]},
        "role": {"performer": [{"reference": f"PractitionerRole/{world.role}"}]},
        "contained role": {"contained": [inside["role"]], "performer": [{"reference": "#r"}]},
        "contained organization": {
            "contained": [inside["organization"]],
            "performer": [{"reference": "#r"}],
        },
    }


@pytest.mark.parametrize("role", ["institution", "clinician"])
def test_064_a_report_in_anothers_name_is_refused_however_it_is_spelled(
    world: World, role: str
) -> None:
    for way, members in _ways(world).items():
        answer = world.ask(role, "POST", "/fhir/DiagnosticReport", json=_report(world, **members))
        assert answer.status_code == 403, (way, answer.text)
    assert world.ask(role, "GET", "/fhir/DiagnosticReport?_summary=count").json()["total"] == 0


def test_064_every_way_to_write_is_closed_to_it(world: World) -> None:
    mine = world.make(world.tokens["institution"], _report(world))
    bad = _report(world, performer=[THERE])
    asked: dict[str, tuple[str, str, Any, dict[str, str]]] = {
        "update": ("PUT", f"DiagnosticReport/{mine}", {**bad, "id": mine}, {}),
        "as create": ("PUT", "DiagnosticReport/mine-1", {**bad, "id": "mine-1"}, {}),
        "if none exists": ("POST", "DiagnosticReport", bad, {"if-none-exist": "identifier=u|1"}),
        "by condition": ("PUT", "DiagnosticReport?identifier=u|2", bad, {}),
        "patch": (
            "PATCH", f"DiagnosticReport/{mine}",
            [{"op": "add", "path": "/performer", "value": [THERE]}],
            {"content-type": "application/json-patch+json"},
        ),
        "transaction": (
            "POST", "", bundle("transaction", entry("POST", "DiagnosticReport", bad)), {},
        ),
    }  # fmt: skip
    for way, (method, path, body, headers) in asked.items():
        answer = world.ask("institution", method, f"/fhir/{path}", json=body, headers=headers)
        assert answer.status_code == 403, (way, answer.text)
    batch = bundle("batch", entry("POST", "DiagnosticReport", bad))
    answer = world.ask("institution", "POST", "/fhir", json=batch).json()
    assert answer["entry"][0]["response"]["status"].startswith("403")
    stored = world.ask("institution", "GET", f"/fhir/DiagnosticReport/{mine}").json()
    assert stored["meta"]["versionId"] == "1" and "performer" not in stored


def test_064_an_organization_of_the_same_transaction_is_no_way_round(world: World) -> None:
    """A new Organization with the other's number, or one that says to be part of it."""
    number = [{"system": CREDIT_CODE_SYSTEM, "value": CODE}]
    part = {"resourceType": "Organization", "name": "x", "partOf": THERE}
    _is_refused(world.ask("institution", "POST", "/fhir/Organization", json=part))
    for type, element in (
        ("Location", "managingOrganization"), ("PractitionerRole", "organization"),
        ("HealthcareService", "providedBy"),
    ):  # fmt: skip
        body = {"resourceType": type, element: THERE}
        _is_refused(world.ask("institution", "POST", f"/fhir/{type}", json=body))
    copy = {"resourceType": "Organization", "name": "there", "identifier": number}
    _is_refused(world.ask("institution", "POST", "/fhir/Organization", json=copy))


@pytest.mark.parametrize("type", sorted(SPEAKS))
def test_064_no_element_of_any_type_speaks_for_another(world: World, type: str) -> None:
    """Every element of the table, as Reference or as the object that holds one."""
    from fhir_gateway.interactions.own_name import named_by

    for element in SPEAKS[type]:
        shapes: list[Any] = [THERE, [THERE], [{"actor": THERE}], [{"who": THERE}]]
        if element == "series":
            shapes = [[{"performer": [{"actor": THERE}]}], [{"uid": "1"}, {"performer": [THERE]}]]
        for value in shapes:
            found = [one.reference for one in named_by({"resourceType": type, element: value})]
            assert found == [THERE], (element, value)


def test_064_whom_a_request_is_sent_to_is_free(world: World) -> None:
    order = {
        "resourceType": "ServiceRequest", "status": "active", "intent": "order",
        "subject": {"reference": f"Patient/{world.patients[0]}"}, "performer": [THERE],
        "requester": {"reference": "Organization/here"},
    }  # fmt: skip
    world.make(world.tokens["institution"], order)
    forged = {**order, "requester": THERE}
    _is_refused(world.ask("institution", "POST", "/fhir/ServiceRequest", json=forged))


def test_064_a_feed_that_says_to_be_anothers_is_refused(world: World) -> None:
    raw = "MSH|^~\\&|LIS|there|GW|CITY|20261118113100||ORU^R01^ORU_R01|1|P|2.5.1\rPID|1||7\r"
    answer = world.ask("institution", "POST", "/hl7v2", content=raw.encode())
    assert answer.status_code == 403
    assert "MSH" in answer.text and "|AR|" in answer.text.replace("MSA|AR|", "MSA||AR|")


def test_064_an_institution_passes_nobody_and_asserts_of_itself_alone(world: World) -> None:
    result = {
        "resourceType": "VerificationResult", "status": "validated",
        "target": [{"reference": "Organization/here"}],
    }  # fmt: skip
    for body in (
        result,
        {**result, "status": "attested", "target": [THERE]},
        {**result, "status": "attested", "target": [{"reference": "Organization/here"}, THERE]},
    ):
        for role in ("institution", "clinician"):
            answer = world.ask(role, "POST", "/fhir/VerificationResult", json=body)
            assert answer.status_code == 403, (role, answer.text)


def test_065_a_record_moves_to_no_other_person_and_the_way_out_is_told(world: World) -> None:
    own = world.tokens["institution"]
    second = world.make(own, patient(name=[{"text": "丙"}], birthDate="1999-01-01"))
    mine = world.make(own, observation(f"Patient/{world.patients[0]}"))
    moved = {**observation(f"Patient/{second}"), "id": mine}
    patched = [{"op": "replace", "path": "/subject/reference", "value": f"Patient/{second}"}]
    for method, body, headers in (
        ("PUT", moved, {}),
        ("PATCH", patched, {"content-type": "application/json-patch+json"}),
    ):
        answer = world.ask(
            "institution", method, f"/fhir/Observation/{mine}", json=body, headers=headers
        )
        assert answer.status_code in (409, 422), answer.text
        assert "entered-in-error" in answer.json()["issue"][0]["diagnostics"]
    gone = {k: v for k, v in moved.items() if k != "subject"}
    answer = world.ask("institution", "PUT", f"/fhir/Observation/{mine}", json=gone)
    assert answer.status_code in (409, 422), answer.text


def _owner(world: World, type: str, id: str) -> int:
    async def read() -> int:
        async with world.server.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            stored = await reader.read(type, id)
            assert stored is not None
            return int(stored.owner)

    return int(world.server.run(read()))


def test_065_what_is_anothers_stays_anothers(world: World) -> None:
    pb, there = world.patients[1], world.server.institution("there")
    theirs = world.make(there, observation(f"Patient/{pb}"))
    body = {**observation(f"Patient/{pb}"), "id": theirs, "status": "entered-in-error"}
    patched = [{"op": "replace", "path": "/status", "value": "entered-in-error"}]
    for role in ("institution", "clinician"):
        for method, sent, headers in (
            ("PUT", body, {}),
            ("PATCH", patched, {"content-type": "application/json-patch+json"}),
            ("DELETE", None, {}),
        ):
            options: dict[str, Any] = {"headers": headers} | ({"json": sent} if sent else {})
            answer = world.ask(role, method, f"/fhir/Observation/{theirs}", **options)
            assert answer.status_code in (204, 403, 404, 409, 422), (role, method, answer.text)
    stored = world.server.get(f"/fhir/Observation/{theirs}", headers=there).json()
    assert (stored["meta"]["versionId"], stored["status"]) == ("1", "final")
    assert _owner(world, "Observation", theirs) == key64("Organization/there")


def test_065_a_clinician_writes_for_the_institution_and_is_on_record(world: World) -> None:
    answer = world.ask(
        "clinician", "POST", "/fhir/Observation",
        json=observation(f"Patient/{world.patients[0]}"),
    )  # fmt: skip
    id = answer.json()["id"]
    assert _owner(world, "Observation", id) == key64("Organization/here")
    found = world.ask("regulator", "GET", f"/fhir/AuditEvent?entity=Observation/{id}").json()
    assert "Practitioner/d" in str(found["entry"][0]["resource"]["agent"])


# -- what the gateway alone says ------------------------------------------------------------------


def test_048_server_owned_fields_of_a_client_are_not_stored(world: World) -> None:
    ours = {"system": INTAKE_SYSTEM, "code": "unknown-zone"}
    label = {"system": f"{CANONICAL}/CodeSystem/decision", "code": "recognized"}
    kept = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}
    meta = {
        "versionId": "77", "lastUpdated": "2001-01-01T00:00:00Z", "source": DOOR_URL + "v2",
        "security": [label, kept], "tag": [ours],
    }  # fmt: skip
    for role in ("institution", "clinician"):
        sent = {**observation(f"Patient/{world.patients[0]}"), "id": "chosen", "meta": meta}
        answer = world.ask(role, "POST", "/fhir/Observation", json=sent)
        assert answer.status_code == 201
        stored = world.ask(role, "GET", f"/fhir/Observation/{answer.json()['id']}").json()
        assert stored["id"] != "chosen" and stored["meta"]["versionId"] == "1"
        assert stored["meta"]["lastUpdated"] > "2026"
        assert "source" not in stored["meta"]
        assert stored["meta"]["security"] == [kept]
        assert ours not in stored["meta"].get("tag", [])


def test_048_a_tag_of_ours_is_not_added_by_an_operation(world: World) -> None:
    mine = world.make(world.tokens["institution"], observation(f"Patient/{world.patients[0]}"))
    label = {"system": f"{CANONICAL}/CodeSystem/decision", "code": "recognized"}
    body = {
        "resourceType": "Parameters",
        "parameter": [{"name": "meta", "valueMeta": {"security": [label]}}],
    }
    world.ask("institution", "POST", f"/fhir/Observation/{mine}/$meta-add", json=body)
    stored = world.ask("institution", "GET", f"/fhir/Observation/{mine}").json()
    assert "security" not in stored["meta"]


@pytest.mark.parametrize("type", ["AuditEvent", "GuidanceResponse"])
def test_048_nobody_writes_the_journal(world: World, type: str) -> None:
    for role in world.tokens:
        for method, path in (("POST", type), ("PUT", f"{type}/x"), ("DELETE", f"{type}/x")):
            options = {} if method == "DELETE" else {"json": {"resourceType": type, "id": "x"}}
            answer = world.ask(role, method, f"/fhir/{path}", **options)
            assert answer.status_code in (403, 405), (role, method)


def test_048_a_patient_writes_consents_of_the_own_record_alone(world: World) -> None:
    pa, pb = world.patients
    consent = {
        "resourceType": "Consent", "status": "active", "scope": {"text": "x"},
        "category": [{"text": "x"}], "policyRule": {"text": "x"},
    }  # fmt: skip
    mine = {**consent, "patient": {"reference": f"Patient/{pa}"}}
    other = {**consent, "patient": {"reference": f"Patient/{pb}"}}
    stored = world.ask("patient", "POST", "/fhir/Consent", json=mine)
    assert stored.status_code == 201, stored.text
    id = stored.json()["id"]
    withdrawn = {**mine, "id": id, "status": "inactive"}
    answer = world.ask("patient", "PUT", f"/fhir/Consent/{id}", json=withdrawn)
    assert answer.status_code == 200
    for body in (other, consent, {**mine, "organization": [THERE]}):
        answer = world.ask("patient", "POST", "/fhir/Consent", json=body)
        assert answer.status_code in (403, 422), answer.text  # 422: of one whom he does not see
    assert world.ask("patient", "DELETE", f"/fhir/Consent/{id}").status_code == 403
    recorded = world.make(world.tokens["institution"], mine)
    answer = world.ask("patient", "PUT", f"/fhir/Consent/{recorded}", json={**mine, "id": recorded})
    _is_refused(answer, rule="owner")
    theirs = world.make(world.server.institution("there"), other)
    answer = world.ask("patient", "PUT", f"/fhir/Consent/{theirs}", json={**mine, "id": theirs})
    assert answer.status_code in (403, 404, 409), answer.text
