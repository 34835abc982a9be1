"""What a request names beside its address, and each entry of a Bundle, by the table of rights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rest_samples import bundle, entry, observation
from rights_world import World

from fhir_gateway.interactions.institutions import register
from fhir_gateway.security.institution import Institution


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("rights"))
    yield made
    made.server.close()


# -- what a request names beside its own address --------------------------------------------------


@pytest.mark.parametrize(
    ("role", "query"),
    [
        ("patient", "Patient?_revinclude=Group:member"),
        ("administrator", "Organization?_has:Encounter:service-provider:status=finished"),
        ("administrator", "Practitioner?_revinclude=Group:member"),
        ("administrator", "VerificationResult?target:Patient.name=x"),
        ("administrator", "?_type=Organization,Patient&_lastUpdated=gt2020"),
        ("regulator", "Patient?_has:Group:member:code=x"),
        ("clinician", "?_type=Observation,AuditEvent"),
        ("evaluator", "Organization?_has:Group:managing-entity:code=x"),
    ],
)
def test_053_a_search_may_not_reach_what_the_role_may_not_see(
    world: World, role: str, query: str
) -> None:
    """Whatever is stored: the same words for one who is there and for nobody."""
    answers = {world.ask(role, "GET", f"/fhir/{query}{more}").text for more in ("", "&_count=3")}
    answer = world.ask(role, "GET", f"/fhir/{query}")
    assert answer.status_code == 403, answer.text
    assert answer.json()["issue"][0]["details"]["text"] == "rights"
    assert len(answers) == 1


def test_052_a_wildcard_leaves_out_what_the_role_may_not_see(world: World) -> None:
    pa = world.patients[0]
    page = world.ask("patient", "GET", f"/fhir/Patient/{pa}/*?_count=100").json()
    types = {one["resource"]["resourceType"] for one in page["entry"]}
    assert "Observation" in types and types.isdisjoint({"Group", "MeasureReport"})
    history = world.ask("administrator", "GET", "/fhir/_history?_count=1000").json()
    shown = {one.get("resource", {}).get("resourceType") for one in history["entry"]}
    assert shown.isdisjoint({"Patient", "Observation", "Task", "AuditEvent", "Group"})


# -- entries ---------------------------------------------------------------------------------------


def test_057_each_entry_of_a_batch_is_judged_alone(world: World) -> None:
    pa, pb = world.patients
    sent = bundle(
        "batch",
        entry("GET", f"Patient/{pa}"),
        entry("POST", "Observation", observation(f"Patient/{pa}")),
        entry("GET", f"Patient/{pb}"),
        entry("GET", "Group"),
        entry("DELETE", f"Observation/{world.ids['Observation']['own']}"),
        entry("GET", f"Patient/{pa}/Observation"),
    )
    answer = world.ask("patient", "POST", "/fhir", json=sent).json()
    statuses = [one["response"]["status"][:3] for one in answer["entry"]]
    assert statuses == ["200", "403", "404", "403", "403", "200"]
    told = answer["entry"][1]["response"]["outcome"]["issue"][0]
    assert told["details"]["text"] == "rights"
    assert told["expression"] == ["Bundle.entry[1]"]


@pytest.mark.parametrize("forbidden", [("GET", "Group"), ("DELETE", "Observation/x")])
def test_057_a_transaction_with_one_forbidden_entry_does_nothing(
    world: World, forbidden: tuple[str, str]
) -> None:
    pa = world.patients[0]
    consent = {
        "resourceType": "Consent", "status": "active", "scope": {"text": "x"},
        "category": [{"text": "x"}], "patient": {"reference": f"Patient/{pa}"},
        "policyRule": {"text": "x"},
    }  # fmt: skip
    before = world.ask("patient", "GET", "/fhir/Consent?_summary=count").json()["total"]
    sent = bundle("transaction", entry("POST", "Consent", consent), entry(*forbidden))
    answer = world.ask("patient", "POST", "/fhir", json=sent)
    assert answer.status_code == 403
    assert answer.json()["issue"][0]["expression"] == ["Bundle.entry[1]"]
    after = world.ask("patient", "GET", "/fhir/Consent?_summary=count").json()["total"]
    assert after == before


def test_a_request_that_is_put_off_is_judged_before_and_fetched_by_its_caller(
    world: World,
) -> None:
    later = {"prefer": "respond-async"}
    refused = world.ask("administrator", "GET", "/fhir/Observation", headers=later)
    assert refused.status_code == 403
    accepted = world.ask("institution", "GET", "/fhir/Observation", headers=later)
    place = accepted.headers["content-location"].partition("example")[2]
    assert world.ask("institution", "GET", place).status_code == 202
    assert world.ask("clinician", "GET", place).status_code == 404  # of the same institution
    assert world.ask("regulator", "GET", place).status_code == 404
    assert world.ask("institution", "DELETE", place).status_code == 202


def test_a_refusal_is_on_record(world: World) -> None:
    world.ask("administrator", "GET", "/fhir/Observation?code=canary")
    page = world.ask("regulator", "GET", "/fhir/AuditEvent?outcome=4&_count=20&_sort=-date").json()
    events = [one["resource"] for one in page["entry"]]
    assert any(event["action"] for event in events)
    assert any("403" in str(event) or "forbidden" in str(event) for event in events)


def test_the_scopes_of_one_caller_take_the_registry_from_nobody(world: World) -> None:
    """What is read once for everybody is read whole, whoever asks first after it has changed."""
    narrow = world.provider.token(
        role="clinician", institution="here", user="Practitioner/d",
        scopes="user/Observation.rs?category=laboratory user/Patient.rs",
    )  # fmt: skip
    asked = f"/fhir/Observation?patient={world.patients[0]}&code=none"
    assert world.server.get(asked, headers=narrow).status_code == 200  # who that is is known now
    newcomer = Institution(id="newcomer", name="newcomer")
    world.server.run(register(world.server.gateway, newcomer))  # the registry is to be read anew
    assert world.server.get(asked, headers=narrow).status_code == 200
    world.server.gateway.tokens.clear()
    assert world.ask("institution", "GET", asked).status_code == 200


def test_051_a_report_that_names_nobody_is_its_senders_alone(world: World) -> None:
    """What has no subject stands in no person's home, and is no entry of a directory for that."""
    there = world.server.institution("there")
    lost = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    id = world.make(there, {**lost, "valueString": "secret"})
    assert world.server.get(f"/fhir/Observation/{id}", headers=there).status_code == 200
    for role in world.tokens:
        status = world.ask(role, "GET", f"/fhir/Observation/{id}").status_code
        assert status in (403, 404), role
