"""Validation on write by mode of the institution, $validate, and the table of issues."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner

from fhir_gateway.cli import main
from fhir_gateway.interactions.institutions import institutions, register
from fhir_gateway.interactions.prepare import derived_of
from fhir_gateway.interactions.profile_issues import issue_table
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.coder import DATA_QUALITY

TAG = {"system": DATA_QUALITY, "code": "profile-issue"}
LAB = f"{CANONICAL}/StructureDefinition/laboratory-observation"
ROOT = "http://example.org/StructureDefinition"
BASE = "http://hl7.org/fhir/StructureDefinition"
TOLD = {"prefer": "return=OperationOutcome"}
CATEGORY = [{"coding": [{
    "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory",
}]}]  # fmt: skip


def observation(**members: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "2951-2"}]},
        "valueString": "x",
        **members,
    }


def absent(**members: Any) -> dict[str, Any]:
    """It breaks obs-6, an invariant of R4: a value, and a reason for having none."""
    reason = {"coding": [{
        "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "unknown",
    }]}  # fmt: skip
    return observation(dataAbsentReason=reason, **members)


def structure(*elements: dict[str, Any], id: str = "p", **members: Any) -> dict[str, Any]:
    given = [{"path": one["id"], **one} for one in elements]
    return {
        "resourceType": "StructureDefinition", "id": id, "url": f"{ROOT}/{id}", "name": "P",
        "status": "draft", "kind": "resource", "abstract": False, "type": "Observation",
        "baseDefinition": f"{BASE}/Observation", "derivation": "constraint",
        "differential": {"element": given}, **members,
    }  # fmt: skip


def choose(server: Any, id: str, mode: str) -> None:
    """Sets the mode of an institution, as the command does."""
    entry = server.run(institutions(server.gateway))[id]
    server.run(register(server.gateway, replace(entry, validation=mode)))


def rules(answer: Any) -> list[tuple[str, str]]:
    """(rule, expression) of the errors and warnings of an OperationOutcome."""
    return [
        (one.get("details", {}).get("text", ""), one.get("expression", [""])[0])
        for one in answer.json()["issue"]
        if one["severity"] != "information"
    ]


def tags(resource: dict[str, Any]) -> list[Any]:
    return [tag for tag in resource.get("meta", {}).get("tag", ()) if tag == TAG]


def test_by_default_what_breaks_a_rule_is_stored_flagged_and_told(client) -> None:
    answer = client.post("/fhir/Observation", absent(), headers=TOLD)
    assert answer.status_code == 201
    assert rules(answer) == [("obs-6", "Observation")]
    place = answer.headers["location"].partition("/_history")[0]
    stored = client.get(place).json()
    assert tags(stored) == [TAG]
    assert client.get(
        f"/fhir/Observation?_tag={DATA_QUALITY}|profile-issue&_id={stored['id']}&_summary=count"
    ).json()["total"] == 1  # fmt: skip
    assert ("obs-6", "Observation") in rules(client.get(f"{place}/$validate"))


def test_the_flag_goes_when_the_fault_goes_and_no_client_sets_it(client) -> None:
    first = client.post("/fhir/Observation", absent()).json()
    assert tags(first) == [TAG]
    again = client.put(f"/fhir/Observation/{first['id']}", observation(id=first["id"])).json()
    assert tags(again) == []
    claimed = observation(meta={"tag": [TAG]})
    assert tags(client.post("/fhir/Observation", claimed).json()) == []
    back = [{"op": "add", "path": "/dataAbsentReason", "value": absent()["dataAbsentReason"]}]
    patched = client.request(
        "PATCH", f"/fhir/Observation/{first['id']}", json=back,
        headers={"content-type": "application/json-patch+json"},
    )  # fmt: skip
    assert tags(patched.json()) == [TAG]


def test_a_sound_resource_has_no_flag_and_no_issues(client) -> None:
    answer = client.post("/fhir/Observation", observation(), headers=TOLD)
    assert answer.json()["issue"][0]["diagnostics"] == "All OK"


def test_refuse_stores_nothing_and_lists_all(start) -> None:
    server = start()
    headers = server.institution("strict")
    choose(server, "strict", "refuse")
    sent = absent(component=[{"code": {"text": "a"}, "valueQuantity": {"value": 1, "code": "g"}}])
    answer = server.post("/fhir/Observation", sent, headers=headers)
    assert answer.status_code == 422
    assert rules(answer) == [("obs-6", "Observation"), ("qty-3", "Observation.component[0].value")]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [
        {"resource": one, "request": {"method": "POST", "url": "Observation"}}
        for one in (observation(), absent(), absent())]}  # fmt: skip
    answer = server.post("/fhir", bundle, headers=headers)
    assert answer.status_code == 422
    assert [place for _, place in rules(answer)] == [
        "Bundle.entry[1].resource", "Bundle.entry[2].resource",
    ]  # fmt: skip
    page = server.get("/fhir/Observation?_summary=count", headers=headers)
    assert page.json()["total"] == 0
    assert server.post("/fhir/Observation", observation(), headers=headers).status_code == 201


def test_learn_stores_as_it_is_and_the_table_shows_what_was_broken(start) -> None:
    server = start()
    headers = server.institution("learner")
    other = server.institution("other")
    choose(server, "learner", "learn")
    for _ in range(3):
        sent = absent(category=CATEGORY, note=[{"text": "secret"}])
        answer = server.post("/fhir/Observation", sent, headers=headers)
        assert tags(answer.json()) == []
    server.post("/fhir/Observation", absent(), headers=other)
    table = server.run(issue_table(server.gateway, "learner"))
    assert (table.judged, table.refused) == (3, 3)
    found = {(line.profile, line.rule, line.path): line.issues for line in table.lines}
    assert found["FHIR R4", "obs-6", "Observation"] == 3
    assert found[LAB, "cardinality", "Observation.subject"] == 3
    assert "secret" not in str(table)
    few = server.run(issue_table(server.gateway, "learner", last=1, type="Observation"))
    assert few.judged == 1
    assert server.run(issue_table(server.gateway, "learner", type="Patient")).judged == 0


def test_the_table_of_profiles_counts_for_who_has_chosen_a_mode(start) -> None:
    server = start()
    headers = server.institution("h")
    sent = observation(category=CATEGORY)
    assert tags(server.post("/fhir/Observation", sent, headers=headers).json()) == []
    choose(server, "h", "accept-and-flag")
    answer = server.post("/fhir/Observation", sent, headers={**headers, **TOLD})
    assert ("cardinality", "Observation.subject") in rules(answer)


def test_a_claimed_profile_is_judged_from_the_commit_that_stores_it(start) -> None:
    server = start(open_access=True)
    sent = observation(meta={"profile": [f"{ROOT}/p"]})
    assert tags(server.post("/fhir/Observation", sent).json()) == []
    asked = {"resourceType": "Parameters", "parameter": [
        {"name": "resource", "resource": observation()},
        {"name": "profile", "valueUri": f"{ROOT}/p"}]}  # fmt: skip
    assert rules(server.post("/fhir/Observation/$validate", asked)) == [
        ("profile-unknown", "profile")
    ]
    made = structure({"id": "Observation.method", "min": 1})
    assert server.put("/fhir/StructureDefinition/p", made).status_code == 201
    told = [("cardinality", "Observation.method")]
    answer = server.post("/fhir/Observation", sent, headers=TOLD)
    assert rules(answer) == told
    assert rules(server.post("/fhir/Observation/$validate", asked)) == told
    made["differential"]["element"][0] = {
        "id": "Observation.bodySite", "path": "Observation.bodySite", "min": 1}  # fmt: skip
    server.put("/fhir/StructureDefinition/p", made)
    answer = server.post("/fhir/Observation", sent, headers=TOLD)
    assert rules(answer) == [("cardinality", "Observation.bodySite")]
    server.delete("/fhir/StructureDefinition/p")
    assert tags(server.post("/fhir/Observation", sent).json()) == []


@pytest.mark.parametrize(
    ("element", "rule"),
    [
        ({"id": "Observation", "constraint": [
            {"key": "a", "severity": "error", "human": "x", "expression": "name.("}]}, "fhirpath"),
        ({"id": "Observation", "constraint": [
            {"key": "a", "severity": "error", "human": "x",
             "expression": "status.matches('(?=x)')"}]}, "fhirpath-regex"),
        ({"id": "Observation.nothing", "min": 1}, "profile-definition"),
        ({"id": "Observation.category", "slicing": {
            "discriminator": [{"type": "value", "path": "coding.where(a=b)"}], "rules": "closed"}},
         ""),
    ],
)  # fmt: skip
def test_a_profile_that_nobody_could_judge_by_is_refused(client, element, rule) -> None:
    answer = client.put("/fhir/StructureDefinition/broken", structure(element, id="broken"))
    if not rule:  # without slices nothing is lost
        assert answer.status_code == 201
        return
    assert answer.status_code == 422
    ((told, place),) = rules(answer)
    assert told == rule
    assert place.startswith("StructureDefinition.differential.element[0]")


def test_a_profile_with_a_function_that_is_not_known_is_stored_and_said(client) -> None:
    element = {"id": "Observation", "constraint": [
        {"key": "a", "severity": "error", "human": "x",
         "expression": "component.aggregate($this) = 1"}]}  # fmt: skip
    made = structure(element, {"id": "Observation.method", "min": 1}, id="unknown-function")
    assert client.put("/fhir/StructureDefinition/unknown-function", made).status_code == 201
    sent = observation(meta={"profile": [f"{ROOT}/unknown-function"]})
    answer = client.post("/fhir/Observation", sent, headers=TOLD)
    assert rules(answer) == [
        ("cardinality", "Observation.method"), ("profile-definition", "Observation"),
    ]  # fmt: skip


def test_a_flagged_result_gives_the_same_facts(client) -> None:
    item = {"coding": [{"system": f"{CANONICAL}/CodeSystem/catalogue-lab", "code": "L001"}]}
    sent = observation(id="f", code=item, subject={"reference": "Patient/p"},
                       effectiveDateTime="2026-11-01T08:00:00+08:00")  # fmt: skip
    gateway = client.gateway
    plain = derived_of(gateway, sent, 0)
    flagged = derived_of(gateway, {**sent, "meta": {"tag": [TAG]}}, 0)
    assert plain.facts
    assert plain.facts == flagged.facts


def test_the_rehearsal_of_a_refusal_tells_each_issue_once(start) -> None:
    server = start()
    headers = server.institution("strict")
    choose(server, "strict", "refuse")
    answer = server.post("/fhir/Observation/$validate?mode=create", absent(), headers=headers)
    assert rules(answer) == [("obs-6", "Observation")]


def test_every_resource_of_a_large_bundle_is_judged(client) -> None:
    entry = [{"fullUrl": f"urn:x:{number}", "resource": absent()} for number in range(90)]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entry}
    answer = client.post("/fhir/Bundle/$validate", bundle)
    places = {place for rule, place in rules(answer) if rule == "obs-6"}
    assert places == {f"Bundle.entry[{number}].resource" for number in range(90)}


def test_a_definition_never_gets_the_flag(client) -> None:
    sent = {"resourceType": "ValueSet", "url": "http://example.org/vs", "status": "draft",
            "compose": {"include": [{"concept": [{"code": "x"}]}]}}  # fmt: skip
    answer = client.post("/fhir/ValueSet", sent)
    assert answer.status_code == 201
    assert tags(answer.json()) == []


def test_the_metrics_count_what_broke_a_rule(start) -> None:
    server = start(open_access=True)
    server.post("/fhir/Observation", absent())
    page = server.metrics()
    assert 'fhir_gateway_events_total{event="profile_issues"} 1.0' in page


CODES: list[tuple[str, dict[str, Any], tuple[str, str], str]] = [
    ("a wrong url of a system that is here",
     {"code": {"coding": [{"system": "http://loinc.org/", "code": "2951-2"}]}},
     ("system-url", "Observation.code.coding[0].system"), "write http://loinc.org"),
    ("a code that the system does not have",
     {"interpretation": [{"coding": [{
         "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation",
         "code": "h"}]}]},
     ("code-unknown", "Observation.interpretation[0].coding[0].code"), "write H"),
    ("the display of another item",
     {"code": {"coding": [{"system": f"{CANONICAL}/CodeSystem/catalogue-lab", "code": "L001",
                           "display": "钠"}]}},
     ("display", "Observation.code.coding[0].display"), "this code is called 钾"),
    ("a unit of another kind of quantity",
     {"code": {"coding": [{"system": f"{CANONICAL}/CodeSystem/catalogue-lab", "code": "L001"}]},
      "valueQuantity": {"value": 3, "unit": "mg/dL", "system": "http://unitsofmeasure.org",
                        "code": "mg/dL"}},
     ("unit", "Observation.value"), "given in mmol/L"),
    ("a code that is no unit",
     {"valueQuantity": {"value": 3, "system": "http://unitsofmeasure.org", "code": "mmol/Liter"}},
     ("code-unknown", "Observation.value.code"), "no code of http://unitsofmeasure.org"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "members", "wanted", "says"), CODES, ids=[c[0] for c in CODES])
def test_codes_and_units_that_are_wrong_are_told_with_what_is_right(
    client, name, members, wanted, says
) -> None:
    sent = observation(**members)
    if "valueQuantity" in members:
        del sent["valueString"]
    answer = client.post("/fhir/Observation/$validate", sent)
    assert wanted in rules(answer)
    assert any(says in one["diagnostics"] for one in answer.json()["issue"])


def test_a_check_digit_is_judged_under_every_name_of_its_system(client) -> None:
    for system in ("urn:oid:2.16.840.1.113883.2.23.1.19.1", "urn:oid:2.16.156.10011.1.3"):
        sent = {"resourceType": "Patient", "name": [{"text": "测试"}],
                "identifier": [{"system": system, "value": "110101199003070012"}]}  # fmt: skip
        answer = client.post("/fhir/Patient/$validate", sent)
        assert ("gb11643-check", "Patient.identifier[0].value") in rules(answer)


def test_a_code_of_a_system_that_is_not_here_is_never_an_error(client) -> None:
    sent = observation(code={"coding": [{"system": "http://hospital.example/codes", "code": "1"}]})
    answer = client.post("/fhir/Observation/$validate", sent)
    assert "system-unknown" in {one["details"]["text"] for one in answer.json()["issue"]}
    assert rules(answer) == []


def test_targets_inside_a_bundle_are_judged(client) -> None:
    person = structure({"id": "Patient.birthDate", "min": 1}, id="person", type="Patient",
                       baseDefinition=f"{BASE}/Patient")  # fmt: skip
    reporting = structure({"id": "Observation.subject", "type": [
        {"code": "Reference", "targetProfile": [f"{ROOT}/person"]}]}, id="reporting")  # fmt: skip
    for one in (person, reporting):
        assert client.put(f"/fhir/StructureDefinition/{one['id']}", one).status_code < 300
    urn = "urn:uuid:9d8e7f00-0000-4000-8000-000000000001"
    sent = observation(meta={"profile": [f"{ROOT}/reporting"]}, subject={"reference": urn})
    patient = {"resourceType": "Patient", "name": [{"text": "测试"}]}
    entry = [{"fullUrl": urn, "resource": patient,
              "request": {"method": "POST", "url": "Patient"}},
             {"resource": sent, "request": {"method": "POST", "url": "Observation"}}]  # fmt: skip
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entry}
    answer = client.post("/fhir", bundle, headers=TOLD)
    outcome = answer.json()["entry"][1]["response"]["outcome"]
    assert [one["details"]["text"] for one in outcome["issue"]] == ["target-profile"]
    assert outcome["issue"][0]["expression"] == ["Observation.subject.reference"]


@pytest.mark.drivers("sqlite")
def test_the_commands_set_the_mode_and_print_the_table(tmp_path) -> None:
    where = ["--database", f"sqlite:///{tmp_path / 'g.sqlite'}"]

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(main, ["institution", *arguments, *where])
        assert result.exit_code == 0, result.output
        return result.output

    run("add", "h", "医院", "--area", "110105", "--no-token")
    assert run("validation", "h") == "h 医院: none\n"
    assert run("validation", "h", "learn") == "h 医院: learn\n"
    run("add", "h", "医院二", "--area", "110105", "--no-token")
    assert run("validation", "h") == "h 医院二: learn\n"
    run("add", "h", "医院二", "--area", "110105", "--no-token", "--validation", "refuse")
    assert run("validation", "h") == "h 医院二: refuse\n"
    assert run("validation", "h", "none") == "h 医院二: none\n"
    assert "0 resources judged" in run("issues", "h")
    assert run("issues", "h", "--json") == '{"judged": 0, "refused": 0, "lines": []}\n'
    unknown = CliRunner().invoke(main, ["institution", "issues", "nobody", *where])
    assert unknown.exit_code == 1
    assert "No institution nobody is registered" in unknown.output
