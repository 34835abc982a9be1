"""Patient/$match over HTTP (patient-operation-match.html, IHE PDQm ITI-119), on both stores."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from identity_people import ID_SYSTEM, with_check

from fhir_gateway.identity import candidates

CARD = with_check("99010119800506124")
LONELY = with_check("99010119750304125")
CONTESTED = with_check("99010119690708127")
GRADE = "http://hl7.org/fhir/StructureDefinition/match-grade"
MRN = "urn:example:hospital-{}"


def patient(text: str = "", number: str = "", born: str = "", **more: Any) -> dict[str, Any]:
    resource: dict[str, Any] = {"resourceType": "Patient", **more}
    if text:
        resource["name"] = [{"text": text}]
    if number:
        resource["identifier"] = [{"system": ID_SYSTEM, "value": number}]
    if born:
        resource["birthDate"] = born
    return resource


def phoned(number: str) -> dict[str, Any]:
    return {"telecom": [{"system": "phone", "value": number}]}


#: What the hospitals hold, by logical id.
PEOPLE = {
    "two-a": patient("王小芳", CARD, "1980-05-06", gender="female", **phoned("19990000001")),
    "two-b": patient("王小芳", CARD[:6] + CARD[8:17]),
    "two-c": patient("王小芳", "", "1980-06-05", gender="female", **phoned("19990000001")),
    "two-d": patient("WANG XIAOFANG", "", "1980-05-06", gender="female"),
    "two-e": patient("王小芳", "", "", gender="female", **phoned("19990000001")),
    "one": patient("赵强", LONELY, "1975-03-04", gender="male"),
    "contested-a": patient("钱来", CONTESTED, "1969-07-08"),
    "contested-b": patient("孙去", CONTESTED, "1969-07-08"),
    "mother": patient("周静", "", "1990-02-03", gender="female", **phoned("19990000002")),
    "newborn": patient("周静之女", "", "2026-05-06", gender="female", **phoned("19990000002")),
    "plain": patient("何欣", "", "", identifier=[{"system": MRN.format(1), "value": "M1"}]),
}  # fmt: skip


@pytest.fixture(scope="module")
def held(client):
    for id, resource in PEOPLE.items():
        answer = client.put(f"/fhir/Patient/match-{id}", {**resource, "id": f"match-{id}"})
        assert answer.status_code == 201, answer.text
    return client


def asked(client, resource: dict[str, Any], **parameters: Any) -> dict[str, Any]:
    members: list[dict[str, Any]] = [{"name": "resource", "resource": resource}]
    for name, value in parameters.items():
        kind = "valueBoolean" if isinstance(value, bool) else "valueInteger"
        members.append({"name": name, kind: value})
    answer = client.post(
        "/fhir/Patient/$match", {"resourceType": "Parameters", "parameter": members}
    )
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    assert (page["resourceType"], page["type"]) == ("Bundle", "searchset")
    return page


def matches(page: dict[str, Any]) -> dict[str, str]:
    """The grade of each match by its id, in the order of the answer."""
    found = {}
    scores = []
    for entry in page.get("entry", ()):
        if entry["search"]["mode"] != "match":
            continue
        grades = [one["valueCode"] for one in entry["search"]["extension"] if one["url"] == GRADE]
        assert len(grades) == 1
        assert entry["fullUrl"].endswith(f"/Patient/{entry['resource']['id']}")
        scores.append(entry["search"]["score"])
        found[entry["resource"]["id"].removeprefix("match-")] = grades[0]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    return found


def warnings(page: dict[str, Any]) -> list[str]:
    return [
        issue["details"]["text"]
        for entry in page.get("entry", ())
        if entry["search"]["mode"] == "outcome"
        for issue in entry["resource"]["issue"]
        if issue["severity"] == "warning"
    ]


def test_certain_matches_come_first_and_all_others_are_proposals(held):
    page = asked(held, PEOPLE["two-a"])
    found = matches(page)
    assert list(found)[:2] == ["two-a", "two-b"]
    assert (found["two-a"], found["two-b"]) == ("certain", "certain")
    assert found["two-c"] == found["two-d"] == found["two-e"] == "probable"
    assert page["total"] == len(found)
    assert page["entry"][0]["search"]["score"] == 1


def test_a_bare_patient_is_the_resource(held):
    answer = held.post("/fhir/Patient/$match", patient("赵强", LONELY))
    assert matches(answer.json()) == {"one": "certain"}


@pytest.mark.parametrize(
    "resource",
    [
        patient("赵强", LONELY.lower()),
        patient("赵强", "".join(chr(0xFEE0 + ord(sign)) for sign in LONELY)),
        patient("赵强", LONELY[:6] + LONELY[8:17]),
        patient("赵强", identifier=[{"system": "urn:oid:2.16.156.10011.1.3", "value": LONELY}]),
    ],
    ids=["lower case", "full width", "fifteen digits", "another system"],
)
def test_a_document_is_found_in_every_form(held, resource):
    assert matches(asked(held, resource)) == {"one": "certain"}


@pytest.mark.parametrize(
    ("resource", "grade"),
    [
        (patient("ZHAO QIANG", "", "1975-03-04", gender="male"), "probable"),
        (patient("趙強", "", "1975-03-04", gender="male"), "probable"),
        (patient("赵强", "", "1975-04-03", gender="male"), "possible"),
        (patient("赵墙", "", "1975-03-04", gender="male"), "possible"),
        (patient("强赵", "", "1975-03-04", gender="male"), "certainly-not"),
        (patient("赵强", "", "1975-03"), "possible"),
    ],
    ids=["pinyin", "traditional", "swapped date", "by sound", "turned", "month alone"],
)
def test_a_person_is_found_by_other_ways_to_write_the_name_or_the_date(held, resource, grade):
    found = matches(asked(held, resource))
    assert found.get("one", "certainly-not") == grade
    assert "certain" not in found.values()


def test_a_number_of_an_institution_finds_its_patient(held):
    found = matches(asked(held, patient("何欣", "", "", identifier=[
        {"system": MRN.format(1), "value": "M1"}])))  # fmt: skip
    assert found == {"plain": "probable"}
    other = [{"system": MRN.format(2), "value": "M1"}]
    assert matches(asked(held, patient("郑欣", identifier=other))) == {}


def test_the_same_document_under_another_name_is_told_as_a_conflict(held):
    page = asked(held, PEOPLE["contested-a"])
    assert matches(page) == {"contested-a": "certain", "contested-b": "possible"}
    assert warnings(page) == ["document-conflict"]
    rules = [
        part["valueCode"]
        for one in page["entry"][1]["search"]["extension"]
        for part in one.get("extension", ())
        if part["url"] == "level"
    ]
    assert "document-conflict" in rules


def test_a_newborn_is_not_its_mother(held):
    assert "mother" not in matches(asked(held, patient("周静之女", "", "2026-05-06")))
    assert "newborn" not in matches(asked(held, PEOPLE["mother"]))


def test_reasons_are_told_in_chinese_with_a_translation(held):
    entry = asked(held, PEOPLE["one"])["entry"][0]
    reasons = [one for one in entry["search"]["extension"] if one["url"].endswith("/match-reason")]
    parts = [{part["url"]: part for part in one["extension"]} for one in reasons]
    assert [one["field"]["valueCode"] for one in parts] == ["document", "name", "birth", "sex"]
    assert parts[1]["text"]["valueString"] == "姓名：一致"
    translation = parts[1]["text"]["_valueString"]["extension"][0]["extension"]
    assert {"url": "content", "valueString": "Name: the same"} in translation
    assert parts[0]["weight"]["valueDecimal"] > 0


# -- onlyCertainMatches, count ---------------------------------------------------------------------


def test_only_certain_matches(held):
    assert matches(asked(held, PEOPLE["one"], onlyCertainMatches=True)) == {"one": "certain"}
    assert matches(asked(held, PEOPLE["one"], onlyCertainMatches=False)) == {"one": "certain"}


@pytest.mark.parametrize("name", ["two-a", "contested-a", "two-d"])
def test_doubt_leaves_nothing(held, name):
    page = asked(held, PEOPLE[name], onlyCertainMatches=True)
    assert (page["total"], page.get("entry")) == (0, None)


def test_count_cuts_after_the_best(held):
    page = asked(held, PEOPLE["two-a"], count=1)
    assert list(matches(page)) == ["two-a"]
    assert page["total"] > 1


def test_nobody_is_an_empty_searchset(held):
    page = asked(held, patient("无此人", with_check("99010119990909121"), "1999-09-09"))
    assert (page["total"], page.get("entry")) == (0, None)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "rule"),
    [
        ({"resourceType": "Parameters"}, 400, "required"),
        ({"resourceType": "Observation"}, 400, "match-patient"),
        ({"resourceType": "Patient"}, 400, "match-criteria"),
        (patient("", "", "1980-05-06", gender="male"), 400, "match-criteria"),
        ({"resourceType": "Patient", "name": "王小芳"}, 422, "cardinality"),
        ({"resourceType": "Patient", "birthDate": "1980-13-01"}, 422, "date"),
    ],
)
def test_refusals(held, body, status, rule):
    answer = held.post("/fhir/Patient/$match", body)
    issue = answer.json()["issue"][0]
    assert (answer.status_code, issue["details"]["text"]) == (status, rule), issue


@pytest.mark.parametrize("value", [0, -1])
def test_a_count_of_nothing_is_refused(held, value):
    body = {"resourceType": "Parameters", "parameter": [
        {"name": "resource", "resource": PEOPLE["one"]}, {"name": "count", "valueInteger": value},
    ]}  # fmt: skip
    answer = held.post("/fhir/Patient/$match", body)
    assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (400, ["count"])


def test_it_is_called_by_post_alone(held):
    assert held.get("/fhir/Patient/$match").status_code == 405


# -- bounds ----------------------------------------------------------------------------------------


def test_what_finds_more_than_is_compared_is_told(held, monkeypatch):
    monkeypatch.setattr(candidates, "MOST_FOUND", 1)
    page = asked(held, PEOPLE["two-a"])
    assert "match-cut" in warnings(page)
    assert asked(held, PEOPLE["two-a"], onlyCertainMatches=True)["total"] == 0


def test_what_would_visit_too_many_records_is_told_and_the_rest_is_answered(start):
    gateway = start(open_access=True, search_budget=4)
    for number in range(8):
        body = patient("冯同", "", f"198{number}-05-06")
        assert gateway.post("/fhir/Patient", body).status_code == 201
    gateway.put("/fhir/Patient/match-own", patient("冯同", CARD, "1980-05-06", id="match-own"))
    page = asked(gateway, patient("冯同", CARD, "1980-05-06"))
    assert "match-cut" in warnings(page)
    assert matches(page)["own"] == "certain"
    answer = gateway.post("/fhir/Patient/$match", patient("冯同"))
    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (400, "too-costly")


# -- audit -----------------------------------------------------------------------------------------


def _events(client, id: str) -> list[dict[str, Any]]:
    page = client.get(f"/fhir/AuditEvent?patient=Patient/{id}&subtype=operation").json()
    return [entry["resource"] for entry in page.get("entry", ())]


def test_one_event_for_each_patient_of_the_answer_and_nothing_personal_in_it(held):
    before = {id: len(_events(held, f"match-{id}")) for id in ("contested-a", "contested-b", "one")}
    asked(held, PEOPLE["contested-a"])
    after = {id: _events(held, f"match-{id}") for id in before}
    grown = {id: len(events) - before[id] for id, events in after.items()}
    assert grown == {"contested-a": 1, "contested-b": 1, "one": 0}
    entity = next(one for one in after["contested-a"][0]["entity"] if "query" in one)
    query = base64.b64decode(entity["query"]).decode()
    assert query.startswith("Patient/$match?identifier=~")
    assert "1969" not in query
    assert CONTESTED not in query


def test_a_refused_match_is_audited(held):
    before = held.get("/fhir/AuditEvent?outcome=4&_summary=count").json()["total"]
    held.post("/fhir/Patient/$match", {"resourceType": "Patient"})
    assert held.get("/fhir/AuditEvent?outcome=4&_summary=count").json()["total"] == before + 1
