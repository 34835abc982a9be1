"""PDQm ITI-78: its parameters, combinations and identifier domains, on both stores."""

from __future__ import annotations

from typing import Any

import pytest
from identity_people import ID_SYSTEM, with_check

CARD = with_check("99010419800506123")
RED, BLUE = (f"urn:oid:1.3.6.1.4.1.21367.13.30.{number}000" for number in (1, 2))
MAIDEN = "http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName"

ALICE = {
    "resourceType": "Patient",
    "id": "pdqm-alice",
    "active": True,
    "identifier": [
        {"system": RED, "value": "IHERED-994"},
        {"system": BLUE, "value": "IHEBLUE-994"},
        {"system": ID_SYSTEM, "value": CARD},
    ],
    "name": [{"family": "MOHR", "given": ["ALICE"]}],
    "telecom": [{"system": "phone", "value": "19990000123"}],
    "gender": "female",
    "birthDate": "1958-01-30",
    "address": [
        {"line": ["1 Sample Road"], "city": "CHICAGO", "state": "IL", "postalCode": "00000",
         "country": "US"}
    ],
    "extension": [{"url": MAIDEN, "valueString": "Exemplar"}],
}  # fmt: skip
BOB = {
    "resourceType": "Patient",
    "id": "pdqm-bob",
    "active": True,
    "identifier": [{"system": BLUE, "value": "IHEBLUE-995"}],
    "name": [{"family": "MOHR", "given": ["BOB"]}],
    "gender": "male",
    "birthDate": "1958-01-30",
}


@pytest.fixture(scope="module")
def held(client):
    from fhir_gateway.interactions.institutions import register
    from fhir_gateway.security.institution import Institution

    for id, system in (("pdqm-red", RED), ("pdqm-blue", BLUE)):
        entry = Institution(id=id, name=id, area="110105", identifier_systems={"patient": system})
        client.run(register(client.gateway, entry))
    for resource in (ALICE, BOB):
        answer = client.put(f"/fhir/Patient/{resource['id']}", resource)
        assert answer.status_code == 201, answer.text
    return client


def page(client, query: str, *, post: bool = False) -> dict[str, Any]:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = (
        client.request("POST", "/fhir/Patient/_search", content=query, headers=headers)
        if post
        else client.get(f"/fhir/Patient?{query}")
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def people(found: dict[str, Any]) -> set[str]:
    return {
        entry["resource"]["id"].removeprefix("pdqm-")
        for entry in found.get("entry", ())
        if entry["search"]["mode"] == "match"
    }


#: Each parameter of ITI-78 with a value of Alice, and whether Bob has it too.
PARAMETERS = {
    "_id=pdqm-alice": {"alice"},
    "active=true&family=mohr": {"alice", "bob"},
    "family=Mohr": {"alice", "bob"},
    "family:exact=MOHR": {"alice", "bob"},
    "family:exact=Mohr": set(),
    "given=ali": {"alice"},
    "given:exact=ALICE": {"alice"},
    "family=mohr&given=alice": {"alice"},
    f"identifier={RED}|IHERED-994": {"alice"},
    "identifier=IHERED-994": {"alice"},
    f"identifier={RED}|IHERED-994&identifier={BLUE}|IHEBLUE-994": {"alice"},
    f"identifier={RED}|IHERED-994&identifier={BLUE}|IHEBLUE-995": set(),
    f"identifier={RED}|IHERED-994,{BLUE}|IHEBLUE-995": {"alice", "bob"},
    "telecom=19990000123&family=mohr": {"alice"},
    "telecom=phone|19990000123&family=mohr": {"alice"},
    "birthdate=1958-01-30": {"alice", "bob"},
    "birthdate=ge1958-01-01&birthdate=le1958-12-31": {"alice", "bob"},
    "address=chicago&family=mohr": {"alice"},
    "address-city=Chicago&family=mohr": {"alice"},
    "address-city:exact=CHICAGO&family=mohr": {"alice"},
    "address-country=US&family=mohr": {"alice"},
    "address-postalcode=00000&family=mohr": {"alice"},
    "address-state=IL&family=mohr": {"alice"},
    "gender=female&family=mohr": {"alice"},
    "family=mohr&gender=male": {"bob"},
    "birthdate=1958-01-30&family=mohr": {"alice", "bob"},
    "mothersMaidenName=exem": {"alice"},
    "mothersMaidenName:exact=Exemplar": {"alice"},
    "mothersMaidenName:exact=exemplar": set(),
    "mothersMaidenName=exemplar&family=mohr&birthdate=1958-01-30&gender=female": {"alice"},
    "family=nobody": set(),
}


@pytest.mark.parametrize("query", PARAMETERS)
@pytest.mark.parametrize("post", [False, True], ids=["GET", "POST"])
def test_parameters(held, query, post):
    found = page(held, query, post=post)
    assert people(found) == PARAMETERS[query]
    assert found["total"] == len(PARAMETERS[query])


def identifiers(found: dict[str, Any]) -> dict[str, set[str]]:
    return {
        entry["resource"]["id"].removeprefix("pdqm-"): {
            one["value"] for one in entry["resource"].get("identifier", ())
        }
        for entry in found.get("entry", ())
        if entry["search"]["mode"] == "match"
    }


def outcomes(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (issue["severity"], issue["code"])
        for entry in found.get("entry", ())
        if entry["search"]["mode"] == "outcome"
        for issue in entry["resource"]["issue"]
    ]


def test_a_domain_alone_chooses_patients_and_the_identifiers_that_are_returned(held):
    found = page(held, f"family=mohr&identifier={BLUE}|")
    assert identifiers(found) == {"alice": {"IHEBLUE-994"}, "bob": {"IHEBLUE-995"}}
    assert outcomes(found) == []
    tags = {
        entry["resource"]["id"]: [tag["code"] for tag in entry["resource"]["meta"].get("tag", ())]
        for entry in found["entry"]
    }
    assert tags == {"pdqm-alice": ["SUBSETTED"], "pdqm-bob": []}


def test_several_domains_are_alternatives(held):
    found = page(held, f"family=mohr&identifier={RED}|,{BLUE}|")
    assert identifiers(found)["alice"] == {"IHERED-994", "IHEBLUE-994"}
    found = page(held, f"family=mohr&identifier={ID_SYSTEM}|")
    assert identifiers(found) == {"alice": {CARD}}


def test_another_name_of_a_domain_is_the_same_domain(held):
    found = page(held, "family=mohr&identifier=2.16.156.10011.1.3|")
    assert identifiers(found) == {"alice": {CARD}}


def test_a_domain_that_nobody_registered_is_told_beside_what_was_found(held):
    found = page(held, f"family=mohr&identifier={BLUE}|,urn:oid:1.2.3.4|")
    assert people(found) == {"alice", "bob"}
    assert outcomes(found) == [("warning", "not-found")]
    diagnostics = found["entry"][-1]["resource"]["issue"][0]["diagnostics"]
    assert diagnostics.startswith("targetSystem not found: urn:oid:1.2.3.4 ")


def test_an_unknown_domain_alone_finds_nobody_and_says_why(held):
    found = page(held, "family=mohr&identifier=urn:oid:1.2.3.4|")
    assert (found["total"], people(found)) == (0, set())
    assert outcomes(found) == [("warning", "not-found")]


def test_a_number_is_no_domain(held):
    found = page(held, f"identifier={RED}|IHERED-994")
    assert identifiers(found)["alice"] == {"IHERED-994", "IHEBLUE-994", CARD}
    found = page(held, f"identifier={RED}|,{BLUE}|IHEBLUE-995&family=mohr")
    assert identifiers(found)["alice"] == {"IHERED-994", "IHEBLUE-994", CARD}


def test_what_was_cut_cannot_be_written_back(held):
    found = page(held, f"family=mohr&given=alice&identifier={RED}|")
    resource = found["entry"][0]["resource"]
    answer = held.put("/fhir/Patient/pdqm-alice", resource)
    assert (answer.status_code, answer.json()["issue"][0]["details"]["text"]) == (422, "subsetted")


def test_the_domain_is_kept_through_the_pages(held):
    found = page(held, f"family=mohr&identifier={BLUE}|&_count=1&_sort=given")
    following = next(link["url"] for link in found["link"] if link["relation"] == "next")
    second = held.get(following.removeprefix("http://127.0.0.1")).json()
    assert [*identifiers(found).values(), *identifiers(second).values()] == [
        {"IHEBLUE-994"}, {"IHEBLUE-995"},
    ]  # fmt: skip


def test_no_match_is_an_empty_page_and_a_format_that_is_not_offered_406(held):
    found = page(held, "family=nobody")
    assert (found["total"], found.get("entry")) == (0, None)
    assert held.get("/fhir/Patient?family=mohr&_format=text/turtle").status_code == 406


def test_the_mothers_maiden_name_is_declared(held):
    statement = held.get("/fhir/metadata").json()
    row = next(one for one in statement["rest"][0]["resource"] if one["type"] == "Patient")
    named = {one["name"]: one["definition"] for one in row["searchParam"]}
    assert named["mothersMaidenName"].endswith("-mothersMaidenName")
