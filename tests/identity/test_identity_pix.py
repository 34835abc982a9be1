"""Patient/$ihe-pix (IHE PIXm ITI-83) and its feed (ITI-104), on both stores."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from identity_people import ID_SYSTEM, with_check

from fhir_gateway.settings import CANONICAL

CARD = with_check("99010319800506123")
TAKEN = with_check("99010319810607124")
RED, BLUE, GREEN = (f"urn:oid:1.3.6.1.4.1.21367.13.20.{number}000" for number in (1, 2, 3))
BASE = "http://127.0.0.1/fhir"


def patient(text: str, card: str = "", **numbers: str) -> dict[str, Any]:
    systems = {"red": RED, "blue": BLUE, "green": GREEN, "free": "urn:example:free"}
    identifiers = [{"system": systems[name], "value": value} for name, value in numbers.items()]
    if card:
        identifiers.append({"system": ID_SYSTEM, "value": card})
    return {"resourceType": "Patient", "identifier": identifiers, "name": [{"text": text}]}


PEOPLE = {
    "red": patient("王小芳", CARD, red="R1"),
    "blue": patient("王小芳", CARD.lower(), blue="B1", free="F1"),
    "namesake": patient("王小芳", "", blue="B2"),
    "likely": {**patient("王小芳", "", blue="B3"), "birthDate": "1980-05-06"},
    "taken-a": patient("李娜", TAKEN, red="R8"),
    "taken-b": patient("孙去", TAKEN, red="R9"),
    "old": {**patient("钱来", "", red="R5"), "active": False, "link": [
        {"other": {"reference": "Patient/pix-red"}, "type": "replaced-by"}]},
}  # fmt: skip


@pytest.fixture(scope="module")
def held(client):
    from fhir_gateway.interactions.institutions import register
    from fhir_gateway.security.institution import Institution

    for id, system in (("pix-red", RED), ("pix-blue", BLUE), ("pix-green", GREEN)):
        entry = Institution(id=id, name=id, area="110105", identifier_systems={"patient": system})
        client.run(register(client.gateway, entry))
    for id, resource in PEOPLE.items():
        answer = client.put(f"/fhir/Patient/pix-{id}", {**resource, "id": f"pix-{id}"})
        assert answer.status_code == 201, answer.text
    return client


def asked(client, source: str, *targets: str) -> Any:
    query = [("sourceIdentifier", source), *(("targetSystem", one) for one in targets)]
    return client.get("/fhir/Patient/$ihe-pix", params=query)


def found(client, source: str, *targets: str) -> tuple[set[str], set[str]]:
    """Identifiers as system|value, and Patients."""
    answer = asked(client, source, *targets)
    assert answer.status_code == 200, answer.text
    parameters = answer.json()
    assert parameters["resourceType"] == "Parameters"
    identifiers, patients = [], []
    for one in parameters.get("parameter", ()):
        if one["name"] == "targetIdentifier":
            value = one["valueIdentifier"]
            identifiers.append(f"{value['system']}|{value['value']}")
        else:
            assert one["name"] == "targetId"
            patients.append(one["valueReference"]["reference"].removeprefix("Patient/pix-"))
    assert len(set(identifiers)) == len(identifiers)
    return set(identifiers), set(patients)


def test_all_numbers_of_the_person_but_the_one_that_was_asked_for(held):
    identifiers, patients = found(held, f"{RED}|R1")
    assert identifiers == {f"{ID_SYSTEM}|{CARD}", f"{BLUE}|B1", "urn:example:free|F1"}
    assert patients == {"red", "blue"}


def test_a_document_is_a_source_in_every_form_and_is_not_repeated(held):
    expected = ({f"{RED}|R1", f"{BLUE}|B1", "urn:example:free|F1"}, {"red", "blue"})
    for text in (CARD, CARD.lower(), CARD[:6] + " " + CARD[6:]):
        assert found(held, f"{ID_SYSTEM}|{text}") == expected
    assert found(held, f"urn:oid:2.16.156.10011.1.3|{CARD}") == expected


def test_targets_choose_domains(held):
    assert found(held, f"{RED}|R1", BLUE) == ({f"{BLUE}|B1"}, {"blue"})
    assert found(held, f"{RED}|R1", BLUE, ID_SYSTEM) == (
        {f"{BLUE}|B1", f"{ID_SYSTEM}|{CARD}"}, {"red", "blue"},
    )  # fmt: skip
    assert found(held, f"{RED}|R1", "urn:example:free") == ({"urn:example:free|F1"}, {"blue"})


def test_a_known_domain_without_a_number_of_the_person_is_an_empty_answer(held):
    assert found(held, f"{RED}|R1", GREEN) == (set(), set())


def test_a_logical_id_is_a_source_and_a_target(held):
    assert found(held, f"{BASE}|Patient/pix-blue")[1] == {"red", "blue"}
    assert found(held, f"{RED}|R1", BASE) == (set(), {"red", "blue"})


def test_what_is_only_likely_is_not_told(held):
    assert found(held, f"{BLUE}|B3") == (set(), {"likely"})
    assert found(held, f"{BLUE}|B2") == (set(), {"namesake"})


@pytest.mark.parametrize(
    ("source", "targets", "status", "code", "text"),
    [
        (f"{RED}|nobody", (), 404, "not-found", "sourceIdentifier Patient Identifier not found"),
        (f"{BASE}|Patient/nobody", (), 404, "not-found",
         "sourceIdentifier Patient Identifier not found"),
        (f"{BASE}|Observation/x", (), 404, "not-found",
         "sourceIdentifier Patient Identifier not found"),
        (f"{RED}|R5", (), 404, "not-found", "sourceIdentifier Patient Identifier not found"),
        ("urn:nobody|R1", (), 400, "code-invalid",
         "sourceIdentifier Assigning Authority not found"),
        (f"{RED}|R1", ("urn:nobody",), 403, "code-invalid", "targetSystem not found"),
        (f"{RED}|R1", (BLUE, "urn:nobody"), 403, "code-invalid", "targetSystem not found"),
        ("R1", (), 400, "invalid", "sourceIdentifier must be system|value"),
        ("|R1", (), 400, "invalid", "sourceIdentifier must be system|value"),
        (f"{RED}|", (), 400, "invalid", "sourceIdentifier must be system|value"),
    ],
)  # fmt: skip
def test_errors_of_the_transaction(held, source, targets, status, code, text):
    answer = asked(held, source, *targets)
    issue = answer.json()["issue"][0]
    assert (answer.status_code, issue["severity"]) == (status, "error")
    assert (issue["code"], issue["diagnostics"]) == (code, text)


def test_a_number_that_two_people_bear_names_neither(held):
    answer = asked(held, f"{ID_SYSTEM}|{TAKEN}")
    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (409, "conflict")
    assert f"{RED}|R9" not in found(held, f"{RED}|R8")[0]


def test_one_source_is_required(held):
    assert held.get("/fhir/Patient/$ihe-pix").status_code == 400
    twice = [("sourceIdentifier", f"{RED}|R1"), ("sourceIdentifier", f"{BLUE}|B1")]
    assert held.get("/fhir/Patient/$ihe-pix", params=twice).status_code == 400


def test_it_is_called_by_post_too(held):
    body = {"resourceType": "Parameters", "parameter": [
        {"name": "sourceIdentifier", "valueString": f"{RED}|R1"},
        {"name": "targetSystem", "valueUri": BLUE},
    ]}  # fmt: skip
    answer = held.post("/fhir/Patient/$ihe-pix", body)
    assert answer.status_code == 200
    assert [one["name"] for one in answer.json()["parameter"]] == ["targetIdentifier", "targetId"]


def test_systems_that_the_registry_makes_up_for_an_institution_are_known(held):
    answer = asked(held, f"{CANONICAL}/NamingSystem/pix-red-visit|1")
    assert answer.status_code == 404


def test_each_patient_of_the_answer_is_audited_and_the_number_is_not_told(held):
    def events(id: str) -> list[dict[str, Any]]:
        page = held.get(f"/fhir/AuditEvent?patient=Patient/pix-{id}&subtype=operation").json()
        return [entry["resource"] for entry in page.get("entry", ())]

    before = {id: len(events(id)) for id in ("red", "blue", "namesake")}
    asked(held, f"{RED}|R1")
    after = {id: events(id) for id in before}
    assert {id: len(after[id]) - before[id] for id in before} == {
        "red": 1, "blue": 1, "namesake": 0,
    }  # fmt: skip
    query = next(one["query"] for one in after["red"][0]["entity"] if "query" in one)
    assert base64.b64decode(query).decode().startswith("Patient/$ihe-pix?sourceIdentifier=~")


# -- the feed, ITI-104 -----------------------------------------------------------------------------


def fed(client, number: str, body: dict[str, Any]) -> Any:
    return client.request(
        "PUT", "/fhir/Patient", params={"identifier": f"{GREEN}|{number}"}, json=body
    )


def test_a_feed_adds_revises_and_removes_a_patient(held):
    card = with_check("99010319820708125")
    held.put("/fhir/Patient/pix-fed", {**patient("周静", card, red="R7"), "id": "pix-fed"})
    added = fed(held, "G7", patient("周进", "", green="G7"))
    assert added.status_code == 201, added.text
    assert found(held, f"{GREEN}|G7") == (set(), {f"Patient/{added.json()['id']}"})

    revised = fed(held, "G7", patient("周静", "", green="G7"))
    assert (revised.status_code, revised.json()["id"]) == (200, added.json()["id"])
    assert revised.json()["meta"]["versionId"] == "2"
    assert found(held, f"{GREEN}|G7")[1] == {
        f"Patient/{added.json()['id']}"
    }  # a name alone links nobody

    gone = held.delete("/fhir/Patient", params={"identifier": f"{GREEN}|G7"})
    assert gone.status_code in (200, 204)
    assert asked(held, f"{GREEN}|G7").status_code == 404


def test_a_feed_with_a_document_is_cross_referenced_at_once(held):
    card = with_check("99010319830809126")
    held.put("/fhir/Patient/pix-known", {**patient("吴明", card, red="R6"), "id": "pix-known"})
    assert fed(held, "G6", patient("吴明", card, green="G6")).status_code == 201
    assert f"{RED}|R6" in found(held, f"{GREEN}|G6")[0]
    assert f"{GREEN}|G6" in found(held, f"{RED}|R6", GREEN)[0]


def test_a_feed_is_declared(held):
    statement = held.get("/fhir/metadata").json()
    row = next(one for one in statement["rest"][0]["resource"] if one["type"] == "Patient")
    assert row["conditionalUpdate"] is True
    named = {one["name"]: one["definition"] for one in row["operation"]}
    assert named["ihe-pix"].startswith("https://profiles.ihe.net/ITI/PIXm/")
    assert named["match"] == "http://hl7.org/fhir/OperationDefinition/Patient-match"
