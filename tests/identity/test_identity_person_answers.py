"""What linked records are in answers: searches, $everything, $lastn and $prior-results of a person
with several homes, and what doubt, narrowed access and a link that is taken back do to them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from review_cases import Hospitals

from fhir_gateway.fhir.keys import key64
from fhir_gateway.interactions.search_type import search_type
from fhir_gateway.recognition.prior_results import PriorQuestion, prior_results
from fhir_gateway.security.actor import Access, Actor


@pytest.fixture(scope="module")
def hospitals(client):
    return Hospitals(client)


class Pair:
    """One person's records at two hospitals without a document in common, with their results."""

    def __init__(self, hospitals: Hospitals, name: str) -> None:
        self.hospitals = hospitals
        self.one, self.other = hospitals.pair(name)
        self.own = [self.store(self.one, "north", item) for item in ("L001", "L002", "L003")]
        self.theirs = [self.store(self.other, "south", item) for item in ("L001", "L004")]

    def store(self, patient: str, at: str, item: str) -> str:
        return "Observation/" + self.hospitals.result(patient, at, item)

    def page(self, path: str, at: str = "north") -> dict[str, Any]:
        answer = self.hospitals.running.get(f"/fhir/{path}", headers=self.hospitals.tokens[at])
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def names(self, path: str) -> list[str]:
        """The Observations of all pages, in order."""
        found, link = [], f"/fhir/{path}"
        while link:
            answer = self.hospitals.running.get(link, headers=self.hospitals.tokens["north"])
            assert answer.status_code == 200, answer.text
            page = answer.json()
            found += matches(page)
            link = next((one["url"] for one in page["link"] if one["relation"] == "next"), "")
        return found

    def prior(self, query: str = "") -> list[str]:
        """The results of $prior-results."""
        page = self.page(f"Patient/{self.one}/$prior-results{query}")
        return [
            part["valueReference"]["reference"].partition("/_history/")[0]
            for item in page["parameter"] if item["name"] == "item"
            for result in item["part"] if result["name"] == "result"
            for part in result["part"] if part["name"] == "reference"
        ]  # fmt: skip

    def identity(self) -> str:
        page = self.page(f"Patient/{self.one}/$prior-results?item=L001")
        (code,) = [one["valueCode"] for one in page["parameter"] if one["name"] == "identity"]
        return str(code)


def matches(page: dict[str, Any]) -> list[str]:
    return [
        f"Observation/{one['resource']['id']}"
        for one in page.get("entry", ())
        if one["search"]["mode"] == "match" and one["resource"]["resourceType"] == "Observation"
    ]


def rules(page: dict[str, Any]) -> set[str]:
    return {
        issue["details"]["text"]
        for one in page.get("entry", ())
        if one["search"]["mode"] == "outcome"
        for issue in one["resource"]["issue"]
    }


PATHS = (
    "Observation?patient={id}",
    "Observation?subject=Patient/{id}&_sort=-date&_count=2",
    "Patient/{id}/Observation?_count=1",
    "Patient/{id}/$everything?_type=Observation&_count=2",
    "Observation/$lastn?patient={id}&category:missing=true&max=9",
)


@pytest.fixture(scope="module")
def linked(hospitals):
    one = Pair(hospitals, "answers")
    answer = hospitals.answer("confirm-identity", one.one, one.other)
    assert answer.status_code == 200, answer.text
    return one


@pytest.mark.parametrize("path", PATHS)
def test_linked_records_are_one_persons_in_every_answer(linked, path):
    for id in (linked.one, linked.other):
        found = linked.names(path.format(id=id))
        assert sorted(found) == sorted(linked.own + linked.theirs)
    assert linked.hospitals.homes(linked.one) == 2


def test_both_records_are_named_and_audited(linked):
    page = linked.page(f"Observation?patient={linked.other}")
    assert "person-records" in rules(page)
    told = json.dumps(page["entry"][-1])
    assert f"Patient/{linked.one} of Organization/north" in told
    assert f"Patient/{linked.other} of Organization/south" in told

    def events(id: str) -> int:
        return int(linked.page(f"AuditEvent?patient={id}&_summary=count")["total"])

    before = events(linked.one), events(linked.other)
    linked.prior()
    assert (events(linked.one), events(linked.other)) == (before[0] + 2, before[1] + 2)


def test_earlier_results_are_of_all_homes(linked):
    assert sorted(linked.prior()) == sorted(linked.own + linked.theirs)
    assert sorted(linked.prior("?_person=false")) == sorted(linked.own)
    assert sorted(linked.prior("?item=L001")) == sorted([linked.own[0], linked.theirs[0]])


def test_068_until_somebody_confirms_it_a_likely_record_is_said_and_not_included(hospitals):
    pair = Pair(hospitals, "doubt")
    page = pair.page(f"Observation?patient={pair.one}")
    assert sorted(matches(page)) == sorted(pair.own)
    assert "identity-doubtful" in rules(page)
    assert pair.other not in json.dumps(page)
    assert sorted(pair.prior()) == sorted(pair.own)
    assert pair.identity() == "doubtful"
    hospitals.answer("reject-identity", pair.one, pair.other)
    assert rules(pair.page(f"Observation?patient={pair.one}")) == set()
    assert pair.identity() == "undocumented"


def test_069_a_link_that_is_taken_back_is_gone_from_answers_and_its_page_links(hospitals):
    pair = Pair(hospitals, "undone")
    hospitals.answer("confirm-identity", pair.one, pair.other)
    page = pair.page(f"Observation?patient={pair.one}&_count=2")
    (following,) = [one["url"] for one in page["link"] if one["relation"] == "next"]
    assert len(pair.prior()) == 5
    assert hospitals.answer("unlink", pair.one, pair.other).status_code == 200
    assert sorted(pair.names(f"Observation?patient={pair.one}")) == sorted(pair.own)
    assert sorted(pair.prior()) == sorted(pair.own)
    answer = hospitals.running.get(following, headers=hospitals.tokens["north"])
    assert answer.status_code == 400


def test_069_a_merged_number_of_one_hospital_keeps_its_results_in_answers(hospitals):
    someone = hospitals.someone()
    for id in ("merged-a", "merged-b"):
        assert hospitals.store(id, someone).status_code == 201
    results = [f"Observation/{hospitals.result(id)}" for id in ("merged-a", "merged-b")]
    link = [{"other": {"reference": "Patient/merged-b"}, "type": "replaced-by"}]
    answer = hospitals.store("merged-a", someone, active=False, link=link)
    assert answer.status_code == 200, answer.text
    found = hospitals.running.get(
        "/fhir/Observation?patient=merged-b", headers=hospitals.tokens["north"]
    )
    assert sorted(matches(found.json())) == sorted(results)


def test_a_narrowed_caller_sees_its_own_rows_and_is_told_whom_it_did_not_ask(linked):
    gateway = linked.hospitals.gateway
    access = Access(owners=frozenset({key64("Organization/north")}))
    actor = Actor("institution", "north", "north", access)
    body = linked.hospitals.running.run(
        search_type(gateway, actor, type="Observation", pairs=[("patient", linked.one),
                    ("code", "nothing")], base="http://127.0.0.1/fhir")
    )  # fmt: skip
    told = json.loads(body)
    assert "sources-not-asked" in rules(told)
    assert f"Patient/{linked.other}" not in json.dumps(told)
    prior = linked.hospitals.running.run(
        prior_results(gateway, actor, PriorQuestion(linked.one, "north"))
    )
    found = {row.source for group in prior.groups for row in group.results}
    assert found == set(linked.own)
    assert prior.told.hidden == {"south", "east"}
    assert [one.id for one in prior.person.records] == [linked.one]
