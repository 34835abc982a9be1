"""Links, merges and the person under attack: what nobody may forge, what a narrowed caller must not
learn, and records that turn out to be somebody else's. On both stores."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from city import POTASSIUM, City, id_number
from issue_cases import bundle, rule_of

from fhir_gateway.fhir.keys import key64
from fhir_gateway.identity import review_job
from fhir_gateway.identity.link import TASK_SYSTEM, pair, pair_id
from fhir_gateway.identity.review_store import questions
from fhir_gateway.interactions.jobs import work_once
from fhir_gateway.interactions.search_type import search_type
from fhir_gateway.recognition import prior_told
from fhir_gateway.recognition.ask import Question, ask
from fhir_gateway.recognition.model import OrderedItem
from fhir_gateway.recognition.prior_results import PriorQuestion, prior_results
from fhir_gateway.recognition.record import Occasion
from fhir_gateway.security.actor import Access, Actor

DOCUMENT = "urn:oid:2.16.156.10011.1.3"
SOMEONE = {"gender": "female", "birthDate": "1961-05-04"}


@pytest.fixture(scope="module")
def city(client):
    return City(client)


class Records:
    """Patients of the city that bear a number of their own, one after the other."""

    def __init__(self, city: City) -> None:
        self.city, self._last = city, 700

    def number(self) -> str:
        self._last += 1
        return id_number(self._last)

    def put(self, id: str, at: str = "sender", *, card: str = "", **members: Any) -> Any:
        """Stores a Patient; the answer."""
        resource = {"resourceType": "Patient", "id": id, **members}
        if card:
            resource["identifier"] = [{"system": DOCUMENT, "value": card}]
        headers = self.city.sender if at == "sender" else self.city.receiver
        return self.city.running.put(f"/fhir/Patient/{id}", resource, headers=headers)

    def proposed(self, id: str) -> tuple[str, str]:
        """Two records, at sender and receiver, that a reviewer is asked about."""
        name = f"王{chr(0x6881 + self._last)}"
        self._last += 1
        phone = {"system": "phone", "value": f"1390000{self._last:04}"}
        someone = SOMEONE | {"name": [{"text": name}], "telecom": [phone]}
        for one, at in ((f"{id}-s", "sender"), (f"{id}-r", "receiver")):
            assert self.put(one, at, **someone).status_code == 201
        self.compare()
        return f"{id}-s", f"{id}-r"

    def compare(self) -> None:
        gateway, run = self.city.gateway, self.city.running.run
        while run(review_job.plan(gateway)) is not None:
            run(work_once(gateway, {review_job.KIND: review_job.work}))

    def question(self, one: str, other: str) -> str:
        return pair_id(pair(one, other))

    def confirm(self, one: str, other: str) -> Any:
        return self.city.operate(
            f"Task/{self.question(one, other)}/$confirm-identity",
            [{"name": "by", "valueString": "赵审核"}],
        )

    def outcome(self, patient: str) -> tuple[str, str]:
        """Outcome and reason for potassium."""
        text = json.dumps(self.city.recognize(patient, POTASSIUM))
        found = re.search(r'"outcome", "valueCode": "([^"]*)".*?"reason", "valueCode": "([^"]*)"',
                          text)  # fmt: skip
        assert found is not None
        return found[1], found[2]

    def prior(self, patient: str) -> tuple[str, int]:
        """Identity and number of results of $prior-results."""
        answer = self.city.running.get(
            f"/fhir/Patient/{patient}/$prior-results", headers=self.city.receiver
        ).json()
        said = {one["name"]: one for one in answer["parameter"]}
        return said["identity"]["valueCode"], said["total"]["valueInteger"]


@pytest.fixture(scope="module")
def records(city):
    return Records(city)


# -- somebody else's record in one home -----------------------------------------------------------


def mistaken(records: Records, id: str) -> str:
    """Two records with one document and name; the second, with a result, is a mistake. Its card."""
    card = records.number()
    for one in (f"{id}-1", f"{id}-2"):
        assert records.put(one, card=card, name=[{"text": "王测试"}]).status_code == 201
    records.city.result(f"{id}-2")
    assert records.outcome(f"{id}-1") == ("recognize", "usable")
    return card


def test_a_record_that_lost_the_name_and_then_the_document_is_not_this_persons(records):
    card = mistaken(records, "lost")
    records.put("lost-2", card=card, name=[{"text": "赵某某"}])
    assert records.outcome("lost-1") == ("cannot-decide", "identity-contested")
    assert records.put("lost-2", name=[{"text": "赵某某"}]).status_code == 200
    assert records.outcome("lost-1") == ("cannot-decide", "identity-contested")
    assert records.prior("lost-1") == ("contested", 0)
    assert records.prior("lost-2") == ("contested", 1)
    records.put("lost-2", card=card, name=[{"text": "王测试"}])
    assert records.outcome("lost-1") == ("recognize", "usable")


def test_a_record_that_changed_its_document_step_by_step_is_not_this_persons(records):
    card, second = mistaken(records, "step"), records.number()
    both = [{"system": "http://hl7.org/fhir/sid/passport-CHN", "value": "E11112222"}]
    cards = [{"system": DOCUMENT, "value": card}, *both]
    assert records.put("step-2", name=[{"text": "王测试"}], identifier=cards).status_code == 200
    assert records.outcome("step-1") == ("recognize", "usable")
    assert records.put("step-2", name=[{"text": "王测试"}], identifier=both).status_code == 200
    assert records.outcome("step-1") == ("cannot-decide", "identity-contested")
    assert records.put("step-3", card=second, name=[{"text": "王测试"}]).status_code == 201
    assert records.prior("step-3") == ("documented", 0)


def test_results_of_a_deleted_record_are_not_recognized_for_others(records):
    mistaken(records, "gone")
    answer = records.city.running.delete("/fhir/Patient/gone-2", headers=records.city.sender)
    assert answer.status_code == 204
    assert records.outcome("gone-1") == ("cannot-decide", "identity-contested")
    assert records.prior("gone-1") == ("contested", 0)


def test_a_deleted_record_without_results_raises_no_doubt(records):
    card = records.number()
    for one in ("bare-1", "bare-2"):
        records.put(one, card=card, name=[{"text": "王测试"}])
    records.city.result("bare-1")
    records.city.running.delete("/fhir/Patient/bare-2", headers=records.city.sender)
    assert records.outcome("bare-1") == ("recognize", "usable")


def test_a_merged_number_without_its_document_is_still_this_persons(records):
    mistaken(records, "stub")
    link = [{"other": {"reference": "Patient/stub-1"}, "type": "replaced-by"}]
    answer = records.put("stub-2", name=[{"text": "王测试"}], active=False, link=link)
    assert answer.status_code == 200
    assert records.outcome("stub-1") == ("recognize", "usable")
    assert records.put("stub-2", name=[{"text": "王测试"}]).status_code == 200
    assert records.outcome("stub-1") == ("cannot-decide", "identity-contested")


def test_three_records_that_two_documents_hold_together_are_one_persons(records):
    card, passport = records.number(), {"system": "http://hl7.org/fhir/sid/passport-CHN"}
    first, second = {"system": DOCUMENT, "value": card}, passport | {"value": "E33334444"}
    name = [{"text": "王测试"}]
    for id, papers in (("three-1", [first]), ("three-2", [first, second]), ("three-3", [second])):
        assert records.put(id, name=name, identifier=papers).status_code == 201
    records.city.result("three-3")
    assert records.outcome("three-1") == ("recognize", "usable")


# -- what nobody may forge -------------------------------------------------------------------------


def test_no_institution_puts_questions_into_the_queue(city):
    codes = [{"system": TASK_SYSTEM, "code": "confirm-identity"}]
    for coding in (codes, [{"system": TASK_SYSTEM, "code": "x"}, *codes]):
        task = {"resourceType": "Task", "status": "requested", "intent": "order",
                "code": {"coding": coding}}  # fmt: skip
        answer = city.running.post("/fhir/Task", task, headers=city.sender)
        assert rule_of(answer) == (403, "link-governed")
        many = city.running.post("/fhir", bundle(("POST", "Task", task)), headers=city.sender)
        assert rule_of(many) == (403, "link-governed")


def test_no_institution_says_who_confirmed_a_link(city, records):
    one, other = records.proposed("forge")
    provenance = {
        "resourceType": "Provenance", "recorded": "2026-11-01T00:00:00Z",
        "target": [{"reference": f"Patient/{one}"},
                   {"reference": f"Linkage/{records.question(one, other)}/_history/1"}],
        "agent": [{"who": {"display": "钱审核"}}],
    }  # fmt: skip
    answer = city.running.post("/fhir/Provenance", provenance, headers=city.sender)
    assert rule_of(answer) == (403, "link-governed")
    provenance["target"] = provenance["target"][:1]
    assert city.running.post("/fhir/Provenance", provenance, headers=city.sender).status_code == 201


def test_a_record_does_not_replace_the_one_that_it_is_replaced_by(records):
    records.put("both-1", name=[{"text": "王测试"}])
    link = [{"other": {"reference": "Patient/both-1"}, "type": type}
            for type in ("replaced-by", "replaces")]  # fmt: skip
    answer = records.put("both-2", name=[{"text": "王测试"}], link=link)
    assert rule_of(answer) == (422, "merge-circle")


# -- what a narrowed caller must not learn ---------------------------------------------------------


def told(city: City, id: str, *, narrowed: bool) -> tuple[bool, str]:
    """Whether a search says that the identity is in doubt, and what $prior-results says of it."""
    owners = frozenset({key64("Organization/sender")}) if narrowed else None
    actor, gateway, run = (
        Actor("institution", "sender", "sender", Access(owners=owners)), city.gateway,
        city.running.run,
    )  # fmt: skip
    pairs = [("patient", id)]
    page = run(search_type(gateway, actor, type="Observation", pairs=pairs, base="http://a/fhir"))
    prior = run(prior_results(gateway, actor, PriorQuestion(id, "sender")))
    return b"identity-doubtful" in page, prior_told._identity(prior)


def test_an_open_question_about_a_hidden_record_is_not_told(city, records):
    one, _ = records.proposed("hidden")
    assert told(city, one, narrowed=False) == (True, "doubtful")
    assert told(city, one, narrowed=True) == (False, "undocumented")


def test_a_decision_tells_a_narrowed_caller_no_homes_of_hidden_records(city, records):
    one, other = records.proposed("homes")
    assert records.confirm(one, other).status_code == 200

    def homes(owners: frozenset[int] | None) -> int:
        actor = Actor("institution", "sender", "sender", Access(owners=owners))
        items = (OrderedItem("L001", "L001"),)
        question = Question(one, items, "sender", frozenset(), Occasion("$recognize"))
        return len(city.running.run(ask(city.gateway, actor, question)).query.homes)

    assert homes(None) == 2
    assert homes(frozenset({key64("Organization/sender")})) == 0


# -- questions -------------------------------------------------------------------------------------


def test_questions_are_found_by_the_index_in_the_order_in_which_they_were_asked(city, records):
    asked = [records.question(*records.proposed(f"order-{number}")) for number in range(3)]

    async def found(running: Any) -> list[str]:
        return [one.id async for one in questions(running)]

    listed = city.running.run(found(city.gateway))
    assert [one for one in listed if one in asked] == asked
    assert len(listed) == len(set(listed))


def test_a_link_that_its_records_do_not_bear_out_any_more_is_asked_about_again(city, records):
    one, other = records.proposed("turned")
    assert records.confirm(one, other).status_code == 200
    name = city.running.get(f"/fhir/Patient/{one}", headers=city.sender).json()["name"]

    def stands(**members: Any) -> tuple[str, str, bool]:
        """The question after this record was stored as it is now: code, status, and the link."""
        assert records.put(other, "receiver", **SOMEONE | members).status_code == 200
        records.compare()
        id = records.question(one, other)
        task, link = (
            city.running.get(f"/fhir/{type}/{id}", headers=city.sender).json()
            for type in ("Task", "Linkage")
        )
        return task["code"]["coding"][0]["code"], task["status"], link["active"]

    assert stands(name=name, gender="female") == ("confirm-identity", "completed", True)
    wrong = {"name": [{"text": "欧阳长弓"}], "gender": "male"}
    assert stands(**wrong) == ("settle-identity", "requested", True)
    assert stands(name=name) == ("confirm-identity", "completed", True)
    assert stands(**wrong) == ("settle-identity", "requested", True)
    assert records.confirm(one, other).status_code == 200
    assert stands(**wrong, active=True) == ("settle-identity", "completed", True)
