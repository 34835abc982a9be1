"""Searches that would cost too much (faults.md 23, 24; peers.md 14): refused before they run.

The store has little, and its budget is less: what would visit all of it is refused with
`too-costly`, by both databases alike, and `__explain` says so without running anything.
"""

from __future__ import annotations

import pytest

PEOPLE, EACH, BUDGET = 30, 3, 25


@pytest.fixture
def small(start):
    """A gateway whose searches may visit fewer rows than it has patients."""
    server = start(open_access=True, search_budget=BUDGET)
    entries = []
    for number in range(PEOPLE):
        entries.append({
            "resourceType": "Patient", "id": f"p{number}", "gender": "male",
            "name": [{"family": "王"}],
            "identifier": [{"system": "http://a.example", "value": f"{number}"}],
        })  # fmt: skip
        entries += [
            {"resourceType": "Observation", "id": f"o{number}-{n}", "status": "final",
             "code": {"coding": [{"code": "c"}]}, "subject": {"reference": f"Patient/p{number}"}}
            for n in range(EACH)
        ]  # fmt: skip
    answer = server.post("/fhir", {
        "resourceType": "Bundle", "type": "transaction",
        "entry": [
            {"resource": one,
             "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
            for one in entries
        ],
    })  # fmt: skip
    assert answer.status_code == 200
    return server


SIX_LINKS = ".".join(["has-member"] * 6)
#: What looks at everybody, or leads on and on.
COSTLY = (
    "Observation?code=c",
    "Observation?status=final&_sort=-date",
    "Observation?code=c&_total=accurate&_count=1",
    "Observation?_count=0",
    "Observation?_summary=count&status=final",
    "Observation?code:not=x",
    "Observation?code:missing=false",
    "Observation?date=ge1900",
    "Observation?value-quantity=lt99999",
    "Observation?subject:Patient.gender=male",
    "Observation?patient.name=王",
    "Observation?performer:missing=true&code=c,d,e,f,g",
    "Observation?_has:Observation:has-member:code=c",
    "Patient?gender=male",
    "Patient?name=王",
    "Patient?name:contains=王",
    "Patient?_has:Observation:patient:code=c",
    "Patient?_has:Observation:patient:_has:Observation:has-member:code=c",
    "Patient?_lastUpdated=gt2000",
    "Patient?_tag:missing=true",
    "Patient?_sort=name",
)
#: What no budget allows.
ALWAYS = (
    "Observation?code=" + ",".join(str(number) for number in range(10_000)),
    "Observation?patient=p1&" + "&".join(["code=c"] * 200),
    f"Observation?{SIX_LINKS}.has-member.code=c",
    "Patient?" + "&".join(["_has:Observation:patient:code=c"] * 5),
    "Patient?" + "_has:Observation:patient:" * 5 + "code=c",
    "Observation?patient=p1&_include:iterate=*",
    "Patient?_id=p1&_revinclude:iterate=Observation:*",
    "Practitioner?_id=d&_revinclude=Observation:performer:Practitioner&_revinclude=Encounter:*",
    "Patient?_id=p1&_sort=name,birthdate,gender,_id,family",
)


def cost_of(server, query):
    answer = server.get(f"/fhir/{query}&__explain=true")
    (entry,) = answer.json()["entry"]
    told = {one["name"]: one for one in entry["resource"]["parameter"]}
    return told["cost"]["valueCode"]


def test_14_a_costly_search_is_refused_before_it_runs(small):
    for query in COSTLY:
        answer = small.get(f"/fhir/{query}")
        assert (answer.status_code, answer.json()["issue"][0]["code"]) == (400, "too-costly"), query
        assert cost_of(small, query) == "refused", query


def test_24_what_no_budget_allows_is_refused_by_its_shape(small):
    for query in ALWAYS:
        answer = small.get(f"/fhir/{query}")
        assert answer.status_code == 400, query[:90]
        (issue,) = answer.json()["issue"]
        assert issue["code"] == "too-costly", query[:90]
        assert issue["diagnostics"]


def test_24_the_same_of_one_patient_is_answered(small):
    """Refusals are about cost, not about the form of a search."""
    for query, found in {
        "Observation?patient=p1&code=c": EACH,
        "Observation?patient=p1&_sort=-date&_total=accurate": EACH,
        "Observation?patient=p1&code:not=x&_count=0": 0,
        "Observation?patient.identifier=http://a.example|1": EACH,
        "Patient?identifier=http://a.example|1&gender=male": 1,
        "Patient?_id=p1&_has:Observation:patient:code=c": 1,
        f"Observation?patient=p1&{SIX_LINKS[:-11]}.code=c": 0,
    }.items():
        answer = small.get(f"/fhir/{query}")
        assert answer.status_code == 200, answer.text
        entries = answer.json().get("entry", ())
        assert len([one for one in entries if one["search"]["mode"] == "match"]) == found, query


def test_14_conditions_are_bounded_too(small):
    """A search inside of a write is refused like any other, and nothing is stored."""
    patient = {"resourceType": "Patient"}
    answers = [
        small.post("/fhir/Patient", patient, headers={"if-none-exist": "gender=male"}),
        small.put("/fhir/Patient?gender=male", patient),
        small.delete("/fhir/Patient?gender=male"),
        small.post("/fhir", {"resourceType": "Bundle", "type": "transaction", "entry": [
            {"request": {"method": "DELETE", "url": "Patient?gender=male"}}]}),
        small.get("/fhir?_type=Patient,Observation&_lastUpdated=gt2000"),
    ]  # fmt: skip
    assert [answer.status_code for answer in answers] == [400] * 5
    assert {answer.json()["issue"][0]["code"] for answer in answers} == {"too-costly"}
    assert len(small.get("/fhir/Patient/_history?_count=500").json()["entry"]) == PEOPLE


PATTERNS = ("%", "_", "%_" * 50, "王%", "\\%", "*", "[王]", "^王", "(王+)+$", "%_" * 2_000)


def test_23_signs_of_patterns_are_letters(small):
    """Nothing in a value is a pattern, so none can run away; it finds itself alone."""
    for text in PATTERNS:
        for modifier in ("", ":contains", ":exact"):
            form = {f"name{modifier}": text, "identifier": "http://a.example|1"}
            answer = small.request("POST", "/fhir/Patient/_search", data=form)
            assert answer.status_code in (200, 400), answer.text
            assert "entry" not in answer.json()
    small.put(
        "/fhir/Patient/odd", {"resourceType": "Patient", "id": "odd", "name": [{"text": "a%_b"}]}
    )
    found = small.get("/fhir/Patient?name:contains=%25_&_id=odd").json()
    assert [one["resource"]["id"] for one in found["entry"]] == ["odd"]
