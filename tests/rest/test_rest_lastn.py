"""Observation/$lastn over HTTP (hl7.org/fhir/R4/observation-operation-lastn.html)."""

from __future__ import annotations

import pytest
from rest_samples import observation, patient

SYSTEM = "http://hospital.example/codes"


def coded(*codes, text=""):
    code = {"coding": [{"system": SYSTEM, "code": one} for one in codes]} if codes else {}
    return {**code, **({"text": text} if text else {})}


@pytest.fixture(scope="module")
def subject(client):
    """The table of the standard's example, and more: (name, code, effective)."""
    name = f"Patient/{client.post('/fhir/Patient', patient()).json()['id']}"
    rows = {
        "a-old": (coded("a"), "2026-01-01"),
        "a-new": (coded("a"), "2026-03-01"),
        "ac": (coded("a", "c"), "2026-02-01"),
        "c": (coded("c"), "2026-04-01"),
        "b-tie-1": (coded("b"), "2026-05-01T08:00:00+08:00"),
        "b-tie-2": (coded("b"), "2026-05-01T00:00:00Z"),
        "b-old": (coded("b"), "2025-05-01"),
        "text": (coded(text="text"), "2026-01-01"),
        "Text": (coded(text="Text"), "2026-01-02"),
        "undated": (coded("d"), None),
        "dated": (coded("d"), "1999"),
    }
    for id, (code, effective) in rows.items():
        body = observation(name, id=f"lastn-{id}", code=code, effectiveDateTime=effective,
                           category=[{"text": "laboratory"}])  # fmt: skip
        if effective is None:
            del body["effectiveDateTime"]
        body["category"] = [{"coding": [{"system": SYSTEM, "code": "laboratory"}]}]
        assert client.put(f"/fhir/Observation/lastn-{id}", body).status_code == 201
    return name


def found(client, query):
    answer = client.get(f"/fhir/Observation/$lastn?{query}")
    assert answer.status_code == 200, answer.text
    page = answer.json()
    assert page["type"] == "searchset"
    entries = [one for one in page.get("entry", ()) if one["search"]["mode"] == "match"]
    assert page["total"] == len(entries)
    return [one["resource"]["id"].removeprefix("lastn-") for one in entries]


def test_each_kind_gives_its_newest_and_what_ties_with_it(client, subject):
    names = found(client, f"patient={subject}&category=laboratory")
    assert sorted(names) == sorted(["c", "b-tie-1", "b-tie-2", "text", "Text", "dated"])
    assert names[2:] == ["c", "Text", "text", "dated"]


def test_codes_are_equal_by_way_of_others(client, subject):
    assert found(client, f"subject={subject}&category=laboratory&max=4&code=a,c") == [
        "c", "a-new", "ac", "a-old",
    ]  # fmt: skip


def test_max_counts_within_a_kind_and_ties_go_beyond_it(client, subject):
    assert sorted(found(client, f"patient={subject}&code=b&max=1")) == ["b-tie-1", "b-tie-2"]
    assert sorted(found(client, f"patient={subject}&code=b&max=2")) == ["b-tie-1", "b-tie-2"]
    assert found(client, f"patient={subject}&code=b&max=3")[2:] == ["b-old"]


def test_what_has_no_time_comes_last(client, subject):
    assert found(client, f"patient={subject}&code=d&max=2") == ["dated", "undated"]


def test_other_parameters_filter(client, subject):
    assert found(client, f"patient={subject}&code=a&date=lt2026-02-15") == ["ac"]
    assert found(client, f"patient={subject}&code=nothing") == []


def test_the_self_link_says_what_was_applied(client, subject):
    page = client.get(f"/fhir/Observation/$lastn?max=2&patient={subject}&code=b").json()
    assert page["link"] == [
        {
            "relation": "self",
            "url": f"http://127.0.0.1/fhir/Observation/$lastn?max=2&patient={subject}&code=b",
        }
    ]


def test_a_post_with_parameters_asks_the_same(client, subject):
    body = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "max", "valuePositiveInt": 3},
            {"name": "patient", "valueString": subject},
            {"name": "code", "valueString": "b"},
        ],
    }
    page = client.post("/fhir/Observation/$lastn", body).json()
    assert page["total"] == 3


@pytest.mark.parametrize(
    ("query", "expression", "rule"),
    [
        ("code=a", "patient", "required"),
        ("patient=Patient/x", "category", "required"),
        ("patient=Patient/x&code=a&max=0", "max", "parameter-type"),
        ("patient=Patient/x&code=a&max=1&max=2", "max", "parameter-repeated"),
        ("patient=Patient/x&code=a&_sort=date", "_sort", "parameter"),
        ("patient=Patient/x&code=a&_count=1", "_count", "parameter"),
        ("patient=Patient/x&code=a&_include=Observation:subject", "_include", "parameter"),
        ("patient=Patient/x&code=a&status=a%7Cb%7Cc", "status", None),
        ("patient=Patient/x&code=a&nonsense=1", "nonsense", "unknown-search-parameter"),
    ],
)
def test_what_is_missing_or_not_understood_is_refused_by_name(client, query, expression, rule):
    answer = client.get(f"/fhir/Observation/$lastn?{query}")
    issue = answer.json()["issue"][0]
    assert (answer.status_code, issue["expression"]) == (400, [expression])
    assert rule is None or issue["details"]["text"] == rule


def test_it_is_audited_in_the_home_of_the_patient(client, subject):
    path = f"/fhir/AuditEvent?patient={subject}&_count=500"

    def count():
        return sum(
            one["resource"]["subtype"][0]["code"] == "operation"
            for one in client.get(path).json().get("entry", ())
        )

    before = count()
    found(client, f"patient={subject}&code=b")
    found(client, f"patient={subject}&code=nothing")
    assert count() == before + 2


def test_only_a_type_has_it(client):
    assert client.get("/fhir/Patient/$lastn").status_code == 404
    assert client.get("/fhir/Observation/x/$lastn").status_code == 404
    assert client.get("/fhir/$lastn").status_code == 404
