"""Searches by what codes mean, through a whole gateway on both databases."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from running import Running

from fhir_gateway.terminology.catalogue import IMAGING_SYSTEM, LAB_SYSTEM, load_catalogue

Resource = dict[str, Any]

FOLDER = Path(__file__).resolve().parents[2] / "terminology"
ANIMALS = "http://sets.test/animals"
PETS = "http://sets.test/ValueSet/pets"


def system() -> Resource:
    return {
        "resourceType": "CodeSystem", "url": ANIMALS, "status": "active", "content": "complete",
        "version": "1", "caseSensitive": True, "hierarchyMeaning": "is-a",
        "concept": [
            {"code": "animal", "concept": [
                {"code": "mammal", "concept": [{"code": "cat"}, {"code": "dog"}]},
                {"code": "bird", "concept": [{"code": "hen"}]},
            ]},
        ],
    }  # fmt: skip


def value_set(url: str, version: str, *codes: str, id: str = "") -> Resource:
    include = {"system": ANIMALS, "concept": [{"code": code} for code in codes]}
    named = {"url": url, "version": version} if url else {}
    return {"resourceType": "ValueSet", "status": "active", **named,
            "compose": {"include": [include]}, **({"id": id} if id else {})}  # fmt: skip


@pytest.fixture(scope="module")
def farm(client: Running) -> dict[str, str]:
    """Results of one patient coded by animals, and what defines the animals."""
    client.put("/fhir/CodeSystem/animals", {**system(), "id": "animals"})
    client.put("/fhir/ValueSet/pets-1", value_set(PETS, "1", "cat", id="pets-1"))
    client.put("/fhir/ValueSet/pets-2", value_set(PETS, "2", "cat", "dog", id="pets-2"))
    client.put("/fhir/ValueSet/nameless", value_set("", "", "hen", id="nameless"))
    patient = client.post("/fhir/Patient", {
        "resourceType": "Patient", "gender": "female",
        "identifier": [{"system": "http://sets.test/id", "value": "1"}],
        "maritalStatus": {"coding": [{"system": ANIMALS, "code": "cat"}]},
    }).json()["id"]  # fmt: skip
    names = {"patient": patient}
    for code in ("animal", "mammal", "cat", "dog", "hen"):
        names[code] = result(client, patient, {"system": ANIMALS, "code": code})
    names["bare"] = result(client, patient, {"code": "cat"})
    names["text"] = result(client, patient, None)
    return names


def result(client: Running, patient: str, coding: dict[str, str] | None) -> str:
    code = {"coding": [coding]} if coding else {"text": "cat"}
    answer = client.post("/fhir/Observation", {
        "resourceType": "Observation", "status": "final", "code": code,
        "subject": {"reference": f"Patient/{patient}"},
    })  # fmt: skip
    assert answer.status_code == 201, answer.text
    id: str = answer.json()["id"]
    return id


def found(client: Running, farm: dict[str, str], path: str) -> set[str]:
    """What a search finds, by the names of the farm."""
    answer = client.get(f"/fhir/{path}")
    assert answer.status_code == 200, answer.text
    names = {id: name for name, id in farm.items()}
    return {names[one["resource"]["id"]] for one in answer.json().get("entry", ())
            if one["search"]["mode"] != "outcome"}  # fmt: skip


def issue(client: Running, path: str, status: int = 400, **options: Any) -> dict[str, Any]:
    answer = client.get(f"/fhir/{path}", **options)
    assert answer.status_code == status, answer.text
    first: dict[str, Any] = answer.json()["issue"][0]
    return first


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"code:in={PETS}", {"cat", "dog"}),
        (f"code:in={PETS}|1", {"cat"}),
        ("code:in=ValueSet/pets-1", {"cat"}),
        ("code:in=http://127.0.0.1/fhir/ValueSet/pets-2", {"cat", "dog"}),
        ("code:in=ValueSet/nameless", {"hen"}),
        (f"code:in={PETS}|1,ValueSet/nameless", {"cat", "hen"}),
        (f"code:not-in={PETS}", {"animal", "mammal", "hen", "bare", "text"}),
        (f"code:below={ANIMALS}|mammal", {"mammal", "cat", "dog"}),
        (f"code:below={ANIMALS}|animal", {"animal", "mammal", "cat", "dog", "hen"}),
        (f"code:below={ANIMALS}|hen", {"hen"}),
        (f"code:above={ANIMALS}|cat", {"cat", "mammal", "animal"}),
        (f"code:above={ANIMALS}|animal", {"animal"}),
        (f"code:below={ANIMALS}|mammal,{ANIMALS}|hen", {"mammal", "cat", "dog", "hen"}),
        (f"combo-code:in={PETS}", {"cat", "dog"}),
        (f"combo-code:not-in={PETS}", {"animal", "mammal", "hen", "bare", "text"}),
        (f"code:in={PETS}&code:not-in={PETS}|1", {"dog"}),
        ("status:in=http://hl7.org/fhir/ValueSet/observation-status",
         {"animal", "mammal", "cat", "dog", "hen", "bare", "text"}),
        ("status:not-in=http://hl7.org/fhir/ValueSet/observation-status", set()),
    ],
)  # fmt: skip
def test_what_codes_mean(
    client: Running, farm: dict[str, str], query: str, expected: set[str]
) -> None:
    bound = f"Observation?patient={farm['patient']}&{query}"
    assert found(client, farm, bound) == expected
    assert found(client, farm, f"Patient/{farm['patient']}/Observation?{query}") == expected
    joint = f"?_type=Observation&patient={farm['patient']}&{query}"
    assert found(client, farm, joint) == expected


def test_across_patients_in_chains_and_has(client: Running, farm: dict[str, str]) -> None:
    who = "identifier=http://sets.test/id|1"
    has = "_has:Observation:patient:code"
    assert found(client, farm, f"Patient?{who}&{has}:in={PETS}") == {"patient"}
    assert found(client, farm, f"Patient?{who}&{has}:below={ANIMALS}|bird") == {"patient"}
    assert found(client, farm, "Patient?gender:in=http://hl7.org/fhir/ValueSet/"
                 f"administrative-gender&{who}") == {"patient"}  # fmt: skip
    chain = f"Observation?subject:Patient.{who}&code:in={PETS}"
    assert found(client, farm, chain) == {"cat", "dog"}
    female = "subject:Patient.gender:in=http://hl7.org/fhir/ValueSet/administrative-gender"
    assert "cat" in found(client, farm, f"Observation?patient={farm['patient']}&{female}")


def test_pages_say_what_was_asked(client: Running, farm: dict[str, str]) -> None:
    url = f"/fhir/Observation?patient={farm['patient']}&code:below={ANIMALS}|animal&_count=2"
    seen: list[str] = []
    while url:
        page = client.get(url).json()
        links = {one["relation"]: one["url"] for one in page["link"]}
        assert "code:below" in links["self"] or "code%3Abelow" in links["self"]
        seen += [one["resource"]["id"] for one in page.get("entry", ())]
        url = links.get("next", "")
    assert len(seen) == len(set(seen)) == 5


def test_a_value_set_that_changes_is_asked_as_it_is(client: Running, farm: dict[str, str]) -> None:
    url = "http://sets.test/ValueSet/changing"
    query = f"Observation?patient={farm['patient']}&code:in={url}"
    assert issue(client, query)["code"] == "not-found"
    client.put("/fhir/ValueSet/changing", value_set(url, "1", "cat", id="changing"))
    assert found(client, farm, query) == {"cat"}
    client.put("/fhir/ValueSet/changing", value_set(url, "1", "hen", id="changing"))
    assert found(client, farm, query) == {"hen"}
    client.delete("/fhir/ValueSet/changing")
    assert issue(client, query)["code"] == "not-found"


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ("code:in=http://sets.test/ValueSet/none", "not-found", "http://sets.test/ValueSet/none"),
        (f"code:in={PETS}|3", "not-found", f"{PETS}|3"),
        ("code:in=ValueSet/none", "not-found", "ValueSet/none"),
        ("code:not-in=http://sets.test/ValueSet/none", "not-found", "ValueSet/none"),
        ("code:below=http://sets.test/none|a", "not-found", "http://sets.test/none"),
        (f"code:below={ANIMALS}|none", "not-found", ANIMALS),
        (f"code:above={ANIMALS}|none", "not-found", ANIMALS),
        ("code:below=cat", "invalid", "system|code"),
        (f"code:below={ANIMALS}|", "invalid", "system|code"),
        ("code:in=http://hl7.org/fhir/ValueSet/ucum-units", "too-costly", "1,000"),
        ("code:in=http://terminology.hl7.org/ValueSet/v3-ActCode", "too-costly", "1,1"),
        ("identifier:in=http://sets.test/ValueSet/pets", "not-supported", "identifier:in"),
        ("subject:below=Patient/1", "not-supported", "subject:below"),
        ("code:in=", "invalid", "no value"),
    ],
)
def test_refusals(client: Running, farm: dict[str, str], query: str, code: str, words: str) -> None:
    told = issue(client, f"Observation?patient={farm['patient']}&{query}")
    assert told["code"] == code
    assert words in told["diagnostics"]
    assert told["expression"] == [query.partition("=")[0].partition("&")[0]] or code == "invalid"


def test_an_unknown_value_set_is_refused_even_leniently(
    client: Running, farm: dict[str, str]
) -> None:
    headers = {"prefer": "handling=lenient"}
    query = f"Observation?patient={farm['patient']}&code:in=http://sets.test/ValueSet/none"
    assert issue(client, query, headers=headers)["code"] == "not-found"


def test_too_many_value_sets(client: Running, farm: dict[str, str]) -> None:
    many = ",".join(f"http://sets.test/ValueSet/{number}" for number in range(21))
    assert issue(client, f"Observation?code:in={many}")["code"] == "too-costly"


def test_a_condition_of_a_write_follows_no_value_sets(
    client: Running, farm: dict[str, str]
) -> None:
    answer = client.put(f"/fhir/Observation?code:in={PETS}", {
        "resourceType": "Observation", "status": "final", "code": {"text": "x"},
    })  # fmt: skip
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["code"] == "not-supported"


def test_the_plan_is_explained(client: Running, farm: dict[str, str]) -> None:
    url = f"Observation?patient={farm['patient']}&code:in={PETS}&__explain=true"
    entry = client.get(f"/fhir/{url}").json()["entry"][0]["resource"]
    assert entry["resourceType"] == "Parameters"


def test_the_catalogue_is_searched_by_class_and_as_a_whole(client: Running) -> None:
    items = load_catalogue(FOLDER)
    ct = next(one for one in items.of("imaging") if one.modality == "CT")
    lab = items.of("lab")[0]
    patient = client.post("/fhir/Patient", {"resourceType": "Patient"}).json()["id"]
    names = {"patient": patient} | {
        name: result(client, patient, {"system": item.system, "code": item.code})
        for name, item in (("ct", ct), ("lab", lab))
    }
    bound = f"Observation?patient={patient}"
    assert found(client, names, f"{bound}&code:below={IMAGING_SYSTEM}|group:CT") == {"ct"}
    assert found(client, names, f"{bound}&code:above={ct.system}|{ct.code}") == {"ct"}
    lab_set = LAB_SYSTEM.replace("CodeSystem", "ValueSet")
    assert found(client, names, f"{bound}&code:in={lab_set}") == {"lab"}
    assert found(client, names, f"{bound}&code:not-in={lab_set}") == {"ct"}


def test_lastn_and_the_post_of_a_search(client: Running, farm: dict[str, str]) -> None:
    newest = client.get(f"/fhir/Observation/$lastn?patient={farm['patient']}&code:in={PETS}&max=5")
    assert newest.status_code == 200, newest.text
    assert len(newest.json()["entry"]) == 2
    form = f"patient={farm['patient']}&code:in={quote(PETS)}"
    answer = client.request(
        "POST", "/fhir/Observation/_search", content=form,
        headers={"content-type": "application/x-www-form-urlencoded"},
    )  # fmt: skip
    assert len(answer.json()["entry"]) == 2
