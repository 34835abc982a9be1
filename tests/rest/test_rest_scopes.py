"""Scopes of tokens at the door: what is refused, what is left out, what is named (SMART 2.2.0)."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
from rest_samples import bundle, entry, observation, patient
from running import Running

from fhir_gateway.interactions.narrowing import unknown_scopes
from fhir_gateway.interactions.scope_needs import load_needs
from fhir_gateway.rest.operations import OPERATIONS
from fhir_gateway.security.actor import Access, Actor
from fhir_gateway.security.tokens import Known, hash_token

_number = count(1)
LAB = [{"coding": [{"system": "http://c.example", "code": "laboratory"}]}]
VITAL = [{"coding": [{"system": "http://c.example", "code": "vital-signs"}]}]
QUERIED = "system/Observation.cruds?category=laboratory"


class Bearer:
    """Somebody with scopes."""

    def __init__(self, running: Running, *scopes: str, **said: Any) -> None:
        self.running, self.token = running, f"token-{next(_number)}"
        said = {"institution": None, "access": Access(), **said}
        self.actor = Actor("open", "scoped", scopes=scopes, **said)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        gateway = self.running.gateway
        until = gateway.clock.now() + 4_000_000
        gateway.tokens[hash_token(self.token)] = Known(self.actor, until, 1 << 62, "issued")
        given = {"authorization": f"Bearer {self.token}", **headers}
        options = {} if body is None else {"json": body}
        return self.running.request(method, f"/fhir/{path}", headers=given, **options)

    def total(self, path: str) -> int:
        answer = self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()["total"]


@pytest.fixture(scope="module")
def record(client):
    """A Patient with results of two categories; ids by name."""
    ids = {}
    for name in ("mine", "other"):
        ids[name] = client.post("/fhir/Patient", patient(gender="female")).json()["id"]
    for name, of, members in (
        ("lab", "mine", {"category": LAB}), ("vital", "mine", {"category": VITAL}),
        ("other-lab", "other", {"category": LAB}),
    ):  # fmt: skip
        one = observation(f"Patient/{ids[of]}", **members)
        ids[name] = client.post("/fhir/Observation", one).json()["id"]
    report = {
        "resourceType": "DiagnosticReport", "status": "final", "code": {"text": "r"},
        "subject": {"reference": f"Patient/{ids['mine']}"},
        "result": [{"reference": f"Observation/{ids[name]}"} for name in ("lab", "vital")],
    }  # fmt: skip
    ids["report"] = client.post("/fhir/DiagnosticReport", report).json()["id"]
    return ids


@pytest.mark.parametrize(
    ("method", "path", "needs"),
    [
        ("GET", "Observation/x", "system/Observation.r"),
        ("GET", "Observation/x/_history", "system/Observation.r"),
        ("GET", "Observation/x/_history/1", "system/Observation.r"),
        ("GET", "Observation", "system/Observation.s"),
        ("GET", "Observation/_history", "system/Observation.s"),
        ("GET", "_history", "system/*.s"),
        ("GET", "?_type=Observation,Patient", "system/Observation.s"),
        ("GET", "Patient/x/Observation", "system/Observation.s"),
        ("GET", "Patient/x/$everything", "system/Patient.r"),
        ("GET", "Observation/$lastn?patient=x&category=laboratory", "system/Observation.s"),
        ("POST", "Observation", "system/Observation.c"),
        ("PUT", "Observation/x", "system/Observation.u"),
        ("PUT", "Observation?_id=x", "system/Observation.us"),
        ("PATCH", "Observation/x", "system/Observation.u"),
        ("DELETE", "Observation/x", "system/Observation.d"),
        ("DELETE", "Observation?_id=x", "system/Observation.ds"),
        ("GET", "$export", "system/*.s"),
        ("POST", "Patient/$match", "system/Patient.rs"),
    ],
)
def test_039_what_no_scope_grants_is_refused_and_named(client, method, path, needs):
    bearer = Bearer(client, "system/Task.cruds", "user/*.cruds", "patient/*.cruds")
    if path in ("$export", "_history"):
        bearer = Bearer(client, "system/Task.c")
    body = {} if method in ("POST", "PUT", "PATCH") else None
    answer = bearer.ask(method, path, body, prefer="respond-async")
    assert answer.status_code == 403, answer.text
    told = answer.headers["www-authenticate"]
    assert told == f'Bearer error="insufficient_scope", scope="{needs}"'
    assert answer.json()["issue"][0]["details"]["text"] == "insufficient-scope"


def test_039_a_token_without_scopes_has_the_rights_of_its_role(client, record):
    bearer = Bearer(client)
    bearer.actor = Actor("open", "free", scopes=None)
    assert bearer.ask("GET", f"Observation/{record['vital']}").status_code == 200


@pytest.mark.parametrize("scope", ["system/Observation.rs?category=laboratory", QUERIED])
def test_039_a_query_of_a_scope_is_a_filter_on_every_path(client, record, scope):
    bearer = Bearer(client, scope, "system/Patient.rs", "system/DiagnosticReport.rs")
    mine = record["mine"]
    assert bearer.ask("GET", f"Observation/{record['lab']}").status_code == 200
    assert bearer.ask("GET", f"Observation/{record['vital']}").status_code == 404
    assert bearer.ask("GET", f"Observation/{record['vital']}/_history").status_code == 404
    assert bearer.ask("GET", f"Observation/{record['vital']}/_history/1").status_code == 404
    assert bearer.total(f"Observation?patient={mine}") == 1
    assert bearer.total(f"Observation?patient={mine}&_summary=count") == 1
    assert bearer.total(f"Observation?patient={mine}&category=vital-signs") == 0
    assert bearer.total(f"Observation?patient={mine}&category:not=laboratory") == 0
    assert bearer.total(f"Observation?_id={record['vital']},{record['lab']}") == 1
    assert bearer.total(f"Patient/{mine}/Observation") == 1
    assert bearer.total(f"Patient?_id={mine}&_has:Observation:patient:category=vital-signs") == 0
    assert bearer.total(f"Patient?_id={mine}&_has:Observation:patient:category=laboratory") == 1
    chained = f"DiagnosticReport?patient={mine}&result.category="
    assert (bearer.total(chained + "vital-signs"), bearer.total(chained + "laboratory")) == (0, 1)
    for path in (
        f"DiagnosticReport?_id={record['report']}&_include=DiagnosticReport:result",
        f"Patient?_id={mine}&_revinclude=Observation:patient", f"Patient/{mine}/$everything",
        f"Observation/$lastn?patient={mine}&code=2951-2", f"Patient/{mine}/*",
        f"?_type=Observation,Patient&_id={record['lab']},{record['vital']}",
        "Observation/_history?_count=400", "_history?_count=400",
    ):  # fmt: skip
        answer = bearer.ask("GET", path)
        assert answer.status_code == 200, (path, answer.text)
        assert f'"id":"{record["lab"]}"' in answer.text, path
        assert f'"id":"{record["vital"]}"' not in answer.text, path


def test_039_types_that_no_scope_names_are_in_no_answer(client, record):
    bearer = Bearer(client, "system/Observation.rs")
    mine, lab = record["mine"], record["lab"]
    answer = bearer.ask("GET", f"Observation?_id={lab}&_include=Observation:patient")
    assert [one["search"]["mode"] for one in answer.json()["entry"]] == ["match"]
    assert bearer.total(f"Observation?_id={lab}&patient.gender=female") == 0
    assert bearer.total(f"Observation?patient={mine}") == 2
    assert '"resourceType":"Patient"' not in bearer.ask("GET", "_history?_count=400").text


def test_039_patient_scopes_are_of_one_patient(client, record):
    bearer = Bearer(client, "patient/*.rs", patient=record["mine"])
    assert bearer.ask("GET", f"Observation/{record['lab']}").status_code == 200
    assert bearer.ask("GET", f"Observation/{record['other-lab']}").status_code == 404
    assert bearer.total("Observation?code=2951-2&_total=accurate") == 2
    assert bearer.total("Patient?gender=female&_total=accurate") == 1
    everything = bearer.ask("GET", f"Patient/{record['mine']}/$everything").text
    assert record["vital"] in everything
    both = Bearer(client, "patient/Observation.rs", "system/Patient.rs", patient=record["mine"])
    assert both.ask("GET", f"Patient/{record['other']}").status_code == 200
    assert both.total("Observation?code=2951-2&_total=accurate") == 2


@pytest.mark.parametrize("id", ["other", "nobody-at-all"])
def test_040_another_patient_than_the_tokens_is_refused(client, record, id):
    bearer = Bearer(client, "patient/*.cruds", patient=record["mine"])
    id = record.get(id, id)
    for path in (
        f"Patient/{id}", f"Patient/{id}/_history", f"Patient/{id}/$everything",
        f"Patient/{id}/Observation", f"Observation?patient={id}",
        f"Observation?subject=Patient/{id}", f"Observation?patient:Patient={id}",
        f"Observation?patient={record['mine']},{id}",
    ):  # fmt: skip
        answer = bearer.ask("GET", path)
        assert answer.status_code == 403, path
        assert answer.json()["issue"][0]["details"]["text"] == "launch-patient"


def test_040_a_patient_scope_without_a_patient_grants_nothing(client, record):
    bearer = Bearer(client, "patient/*.cruds")
    assert bearer.ask("GET", f"Observation/{record['lab']}").status_code == 403


def test_039_a_write_stays_within_the_query_on_both_sides(client, record):
    bearer = Bearer(client, QUERIED)
    mine = f"Patient/{record['mine']}"
    lab, vital = observation(mine, category=LAB), observation(mine, category=VITAL)
    made = bearer.ask("POST", "Observation", lab)
    assert made.status_code == 201, made.text
    path = f"Observation/{made.json()['id']}"
    assert bearer.ask("POST", "Observation", vital).status_code == 403
    assert bearer.ask("PUT", path, {**vital, "id": path[12:]}).status_code == 403
    assert bearer.ask("PUT", path, {**lab, "id": path[12:], "status": "amended"}).status_code == 200
    hidden = f"Observation/{record['vital']}"
    assert bearer.ask("PUT", hidden, {**lab, "id": record["vital"]}).status_code == 403
    assert bearer.ask("DELETE", hidden).status_code == 403
    patch = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
        {"name": "type", "valueCode": "replace"},
        {"name": "path", "valueString": "Observation.status"},
        {"name": "value", "valueCode": "amended"}]}]}  # fmt: skip
    assert bearer.ask("PATCH", hidden, patch).status_code == 403
    assert bearer.ask("PATCH", path, patch).status_code == 200
    assert bearer.ask("DELETE", f"Observation?_id={record['vital']}").status_code == 204
    assert client.get(f"/fhir/{hidden}").json()["meta"]["versionId"] == "1"
    assert bearer.ask("DELETE", path).status_code == 204


def test_039_u_alone_allows_an_update_that_creates(client, record):
    bearer = Bearer(client, "system/Observation.u")
    one = {**observation(f"Patient/{record['mine']}"), "id": f"u-{next(_number)}"}
    assert bearer.ask("PUT", f"Observation/{one['id']}", one).status_code == 201
    assert bearer.ask("POST", "Observation", one).status_code == 403
    assert bearer.ask("GET", f"Observation/{one['id']}").status_code == 403


def test_057_conditions_find_what_may_be_searched_and_nothing_else(client, record):
    number = f"n-{next(_number)}"
    mine = f"Patient/{record['mine']}"
    named = [{"system": "http://n.example", "value": number}]
    client.post("/fhir/Observation", observation(mine, category=VITAL, identifier=named))
    bearer = Bearer(client, QUERIED)
    one = observation(mine, category=LAB)
    query = f"identifier=http://n.example|{number}"
    made = bearer.ask("POST", "Observation", one, **{"if-none-exist": query})
    assert made.status_code == 201
    creator = Bearer(client, "system/Observation.c")
    refused = creator.ask("POST", "Observation", one, **{"if-none-exist": query})
    assert refused.status_code == 403
    assert 'scope="system/Observation.cs"' in refused.headers["www-authenticate"]


def test_057_each_entry_of_a_bundle_is_judged_alone(client, record):
    bearer = Bearer(client, "system/Observation.rs", "system/Observation.c")
    one = observation(f"Patient/{record['mine']}", category=LAB)
    entries = [entry("POST", "Observation", one), entry("GET", f"Observation/{record['lab']}"),
               entry("GET", f"Patient/{record['mine']}"),
               entry("GET", f"Patient/{record['mine']}/Condition")]  # fmt: skip
    answer = bearer.ask("POST", "", bundle("batch", *entries)).json()
    found = [one["response"]["status"][:3] for one in answer["entry"]]
    assert found == ["201", "200", "403", "403"]
    before = client.get("/fhir/Observation?_summary=count&code=2951-2").json()["total"]
    for refused in (entries[2], entry("DELETE", f"Observation/{record['lab']}")):
        answer = bearer.ask("POST", "", bundle("transaction", entries[0], refused))
        assert answer.status_code == 403
    assert client.get("/fhir/Observation?_summary=count&code=2951-2").json()["total"] == before


def test_039_what_cannot_be_narrowed_is_refused_with_a_sentence(client, record):
    queried = [f"system/{type}.rs?_id=x" for type in ("Patient", "Observation")]
    bearer = Bearer(client, *queried, "system/DiagnosticReport.rs", "system/ImagingStudy.rs",
                    "system/GuidanceResponse.c")  # fmt: skip
    for method, path in (
        ("GET", f"Patient/{record['mine']}/$prior-results"), ("POST", "Patient/$match"),
        ("POST", "ServiceRequest/$recognize"),
    ):  # fmt: skip
        answer = bearer.ask(method, path, {} if method == "POST" else None)
        assert answer.status_code == 403, path
        assert "cannot be narrowed" in answer.json()["issue"][0]["diagnostics"]


@pytest.mark.parametrize(
    "query",
    ["nonsense=1", "category:in=http://v", "_has:Observation:patient:code=1", "patient.name=a",
     "_sort=date", "_count=1", "date=never", "_lastUpdated=gt2020", "_include=*"],
)  # fmt: skip
def test_039_a_query_that_cannot_be_kept_is_named_and_grants_nothing(client, record, query):
    scope = f"system/Observation.rs?{query}"
    assert [one.text for one in unknown_scopes(client.gateway, [scope, QUERIED])] == [scope]
    bearer = Bearer(client, scope)
    assert bearer.ask("GET", f"Observation/{record['lab']}").status_code == 403


def test_every_operation_has_a_row_in_the_table_of_scopes(gateway):
    needs = load_needs(Path(gateway.settings.profiles) / "access" / "scopes.csv")
    assert set(OPERATIONS) <= set(needs)
