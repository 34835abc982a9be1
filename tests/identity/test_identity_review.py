"""Proposals, the review queue, and what a named person's answer does, on both stores."""

from __future__ import annotations

from typing import Any

import pytest
from identity_people import with_check
from review_cases import Hospitals

from fhir_gateway.identity.link import pair, pair_id


@pytest.fixture(scope="module")
def hospitals(client):
    return Hospitals(client)


def code_of(task: dict[str, Any], element: str) -> str:
    return task[element]["coding"][0]["code"] if task else ""


def value_of(task: dict[str, Any], name: str) -> Any:
    for one in task["input"]:
        if one["type"]["coding"][0]["code"] == name:
            return next(value for key, value in one.items() if key.startswith("value"))
    raise AssertionError(name)


# -- proposals -------------------------------------------------------------------------------------


def test_068_likely_records_of_two_hospitals_become_a_question_and_nothing_more(hospitals):
    one, other = hospitals.pair("likely")
    task = hospitals.question(one, other)
    assert (task["status"], code_of(task, "code")) == ("requested", "confirm-identity")
    assert code_of(task, "businessStatus") == "probable"
    assert value_of(task, "score") >= 0.9
    assert "birth=same" in value_of(task, "levels").split()
    assert len(value_of(task, "edition")) == 12
    link = hospitals.running.get(f"/fhir/{task['focus']['reference']}").json()
    assert (link["active"], [item["type"] for item in link["item"]]) == (
        False, ["source", "alternate"]
    )  # fmt: skip
    recipients = [one["reference"] for one in task["restriction"]["recipient"]]
    assert sorted(recipients) == ["Organization/north", "Organization/south"]
    assert hospitals.homes(one) == 1


def test_the_queue_is_a_search(hospitals):
    one, other = hospitals.pair("queued")
    found = hospitals.running.get(
        "/fhir/Task?code=confirm-identity&status=requested&_count=200"
    ).json()
    assert hospitals.question(one, other)["id"] in {
        entry["resource"]["id"] for entry in found["entry"]
    }
    by_record = hospitals.running.get(f"/fhir/Linkage?item=Patient/{other}").json()
    assert [entry["resource"]["id"] for entry in by_record["entry"]] == [pair_id(pair(one, other))]


def test_a_job_that_runs_again_asks_nothing_twice(hospitals):
    one, other = hospitals.pair("again")
    before = hospitals.question(one, other)
    assert hospitals.compare() == 0
    hospitals.store(other, hospitals.running.get(f"/fhir/Patient/{other}").json(), "south",
                    active=True)  # fmt: skip
    assert hospitals.compare() == 1
    assert hospitals.question(one, other)["meta"]["versionId"] == before["meta"]["versionId"]


TWIN_CARD, MOTHER_CARD, SHARED = (
    with_check(f"9901031990{month}06123") for month in ("05", "06", "07")
)


def test_068_twins_are_no_question(hospitals):
    twin = hospitals.someone() | {"multipleBirthInteger": 1}
    name = twin["name"][0]["text"]
    hospitals.store("twin-1", twin)
    hospitals.store(
        "twin-2", twin | {"name": [{"text": name[:-1] + "慧"}], "multipleBirthInteger": 2}, "south"
    )
    hospitals.compare()
    assert hospitals.question("twin-1", "twin-2") == {}
    assert hospitals.homes("twin-1") == 1


def test_068_a_newborn_on_its_mothers_card_is_neither_linked_nor_proposed(hospitals):
    mother = hospitals.someone() | {"birthDate": "1990-06-06"}
    child = mother | {
        "name": [{"text": mother["name"][0]["text"] + "之女"}], "birthDate": "2026-10-01"
    }  # fmt: skip
    hospitals.store("mother", mother, card=MOTHER_CARD)
    hospitals.store("child", child, "south", card=MOTHER_CARD)
    hospitals.compare()
    assert hospitals.question("mother", "child") == {}
    assert (hospitals.homes("mother"), hospitals.homes("child")) == (1, 1)


def test_068_one_number_under_two_names_is_a_question_of_its_own_and_never_a_link(hospitals):
    one, other = hospitals.someone(), hospitals.someone()
    day = {"birthDate": "1990-07-06"}
    hospitals.store("number-1", one | day, card=SHARED)
    hospitals.store(
        "number-2", other | day | {"name": [{"text": "欧阳长弓"}]}, "south", card=SHARED
    )
    hospitals.compare()
    task = hospitals.question("number-1", "number-2")
    assert (code_of(task, "code"), code_of(task, "businessStatus")) == (
        "settle-identity", "possible"
    )  # fmt: skip
    assert hospitals.homes("number-1") == 1


def test_a_hint_of_a_hospital_is_compared_though_the_index_does_not_lead_there(hospitals):
    someone = hospitals.someone()
    hospitals.store("hint-1", someone | {"birthDate": "1971-01-02"})
    link = [{"other": {"reference": "Patient/hint-1"}, "type": "seealso"}]
    answer = hospitals.store("hint-2", someone | {"birthDate": "1971-01-02"}, "south", link=link)
    assert answer.status_code == 201
    hospitals.compare()
    assert hospitals.question("hint-1", "hint-2")["status"] == "requested"
    assert hospitals.homes("hint-2") == 1


def test_a_question_is_withdrawn_when_nothing_speaks_for_it_any_more(hospitals):
    one, other = hospitals.pair("corrected")
    stored = hospitals.running.get(f"/fhir/Patient/{other}").json()
    assert hospitals.store(other, stored, "south", gender="male").status_code == 200
    hospitals.compare()
    assert hospitals.question(one, other)["status"] == "cancelled"


def test_a_question_about_a_deleted_record_is_withdrawn(hospitals):
    one, other = hospitals.pair("deleted")
    gone = hospitals.running.delete(f"/fhir/Patient/{one}", headers=hospitals.tokens["north"])
    assert gone.status_code in (200, 204)
    assert hospitals.answer("confirm-identity", one, other, at="south").status_code == 409
    hospitals.compare()
    assert hospitals.question(one, other)["status"] == "cancelled"


# -- answers ---------------------------------------------------------------------------------------


def test_a_named_person_confirms_and_the_records_are_one_persons(hospitals):
    one, other = hospitals.pair("confirmed")
    answer = hospitals.answer("confirm-identity", one, other, by="赵审核", comment="电话核实")
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "completed"
    id = pair_id(pair(one, other))
    link = hospitals.running.get(f"/fhir/Linkage/{id}").json()
    assert (link["active"], link["author"]) == (True, {"display": "赵审核"})
    proof = hospitals.running.get(f"/fhir/Provenance?target=Linkage/{id}").json()["entry"]
    [said] = [entry["resource"] for entry in proof]
    for name in (f"Task/{id}", f"Linkage/{id}", f"Provenance/{said['id']}"):
        issues = hospitals.running.get(f"/fhir/{name}/$validate").json()["issue"]
        assert {issue["severity"] for issue in issues} <= {"information", "warning"}, issues
    assert said["activity"]["coding"][0]["code"] == "confirm"
    assert said["agent"][0]["who"] == {"display": "赵审核"}
    assert said["agent"][0]["onBehalfOf"] == {"reference": "Organization/north"}
    assert said["reason"] == [{"text": "电话核实"}]
    assert (hospitals.homes(one), hospitals.homes(other)) == (2, 2)


def test_a_rejected_pair_is_asked_again_only_when_its_levels_change(hospitals):
    one, other = hospitals.pair("rejected")
    answer = hospitals.answer("reject-identity", one, other, at="south")
    assert (answer.status_code, answer.json()["status"]) == (200, "rejected")
    stored = hospitals.running.get(f"/fhir/Patient/{other}").json()
    del stored["meta"]
    hospitals.store(other, stored, "south", active=True)
    hospitals.compare()
    assert hospitals.question(one, other)["status"] == "rejected"
    hospitals.store(other, stored, "south", telecom=[{"system": "phone", "value": "13900000000"}])
    hospitals.compare()
    again = hospitals.question(one, other)
    assert again["status"] in ("requested", "rejected")
    assert (again["status"] == "requested") == (code_of(again, "businessStatus") == "probable")
    assert hospitals.homes(one) == 1


def test_a_link_that_is_taken_back_parts_the_records_and_is_not_asked_again(hospitals):
    one, other = hospitals.pair("unlinked")
    hospitals.answer("confirm-identity", one, other)
    answer = hospitals.answer("unlink", one, other, by="钱审核", comment="同名同姓")
    assert (answer.status_code, answer.json()["active"]) == (200, False)
    assert hospitals.homes(one) == 1
    stored = hospitals.running.get(f"/fhir/Patient/{other}").json()
    hospitals.store(other, stored, "south", active=True)
    hospitals.compare()
    assert hospitals.question(one, other)["status"] == "rejected"
    history = hospitals.running.get(f"/fhir/Linkage/{pair_id(pair(one, other))}/_history").json()
    assert [entry["resource"]["active"] for entry in history["entry"]] == [False, True, False]
    again = hospitals.answer("unlink", one, other)
    assert again.status_code == 409
    assert "not active" in again.json()["issue"][0]["diagnostics"]


def test_pix_tells_the_numbers_of_linked_records(hospitals):
    someone = hospitals.someone()
    for id, at in (("numbers-n", "north"), ("numbers-s", "south")):
        number = [{"system": f"urn:example:{at}", "value": f"{id}-7"}]
        hospitals.store(id, someone, at, identifier=number)
    hospitals.compare()
    path = "/fhir/Patient/$ihe-pix?sourceIdentifier=urn:example:north|numbers-n-7"

    def told() -> list[str]:
        answer = hospitals.running.get(path.replace("|", "%7C"))
        found = answer.json().get("parameter", [])
        return [one["valueIdentifier"]["value"] for one in found if "valueIdentifier" in one]

    before = told()
    hospitals.answer("confirm-identity", "numbers-n", "numbers-s")
    linked = told()
    hospitals.answer("unlink", "numbers-n", "numbers-s")
    assert (before, linked, told()) == ([], ["numbers-s-7"], [])


def test_a_ninth_home_is_refused_and_the_question_stays_open(hospitals):
    one, other = hospitals.pair("wide")
    ids = [one]
    for number in range(7):
        ids.append(f"wide-{number}")
        hospitals.store(ids[-1], hospitals.someone())
    link = {"resourceType": "Linkage", "id": "wide", "active": True, "item": [
        {"type": "source" if id == one else "alternate",
         "resource": {"reference": f"Patient/{id}"}} for id in ids]}  # fmt: skip
    assert hospitals.running.put("/fhir/Linkage/wide", link).status_code == 201  # the operator
    assert hospitals.homes(one) == 8
    refused = hospitals.answer("confirm-identity", one, other)
    assert (refused.status_code, "more than 8 homes" in refused.text) == (422, True)
    assert hospitals.question(one, other)["status"] == "requested"
    assert (hospitals.homes(one), hospitals.homes(other)) == (8, 1)


# -- who may -----------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["", "   ", "(Practitioner/1)"])
def test_nobody_is_no_reviewer(hospitals, by):
    one, other = "nobody-n", "nobody-s"
    if hospitals.question(one, other) == {}:
        hospitals.pair("nobody")
    answer = hospitals.answer("confirm-identity", one, other, by=by)
    assert answer.status_code in (400, 422)
    assert hospitals.question(one, other)["status"] == "requested"


def test_a_practitioner_that_is_not_stored_is_refused(hospitals):
    one, other = hospitals.pair("stranger")
    answer = hospitals.answer("confirm-identity", one, other, by="赵审核 (Practitioner/nobody)")
    assert answer.status_code == 422
    assert hospitals.homes(one) == 1


def test_a_third_hospital_may_not_answer(hospitals):
    one, other = hospitals.pair("third")
    for verb in ("confirm-identity", "reject-identity"):
        assert hospitals.answer(verb, one, other, at="east").status_code == 403
    hospitals.answer("confirm-identity", one, other)
    assert hospitals.answer("unlink", one, other, at="east").status_code == 403
    assert hospitals.homes(one) == 2


def test_a_question_is_answered_once(hospitals):
    one, other = hospitals.pair("once")
    assert hospitals.answer("confirm-identity", one, other).status_code == 200
    for verb in ("confirm-identity", "reject-identity"):
        assert hospitals.answer(verb, one, other).status_code == 409
    assert hospitals.homes(one) == 2


@pytest.mark.parametrize("type", ["Linkage", "Task"])
def test_an_institution_writes_no_links_and_no_answers_itself(hospitals, type):
    one, other = f"forged-{type}-n", f"forged-{type}-s"
    hospitals.pair(f"forged-{type}")
    path = f"/fhir/{type}/{pair_id(pair(one, other))}"
    stored = hospitals.running.get(path).json()
    changed = stored | ({"active": True} if type == "Linkage" else {"status": "completed"})
    for id in (stored["id"], f"forged-{type}"):
        answer = hospitals.running.put(
            f"/fhir/{type}/{id}", changed | {"id": id}, headers=hospitals.tokens["north"]
        )
        assert answer.status_code == 403, answer.text
    assert hospitals.homes(one) == 1


def test_other_tasks_have_no_answers_of_this_kind(hospitals):
    hospitals.store("plain", hospitals.someone())
    task = {"resourceType": "Task", "id": "plain", "status": "requested", "intent": "order",
            "for": {"reference": "Patient/plain"}}  # fmt: skip
    stored = hospitals.running.put("/fhir/Task/plain", task, headers=hospitals.tokens["north"])
    assert stored.status_code == 201
    parameters = {"resourceType": "Parameters", "parameter": [{"name": "by", "valueString": "赵"}]}
    for id in ("plain", "nothing"):
        answer = hospitals.running.post(f"/fhir/Task/{id}/$confirm-identity", parameters)
        assert answer.status_code == 404
