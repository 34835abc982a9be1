"""Asking: who, what is known, what follows, what stands on record before the answer is given."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from city import (
    COMPILED,
    DOCUMENT,
    POTASSIUM,
    SODIUM,
    City,
    order,
    outcomes,
    parts,
    said,
)

from fhir_gateway.errors import Unavailable
from fhir_gateway.fhir.validate import issues
from fhir_gateway.interactions.delete import delete
from fhir_gateway.recognition import publish
from fhir_gateway.recognition.ask import Question, ask
from fhir_gateway.recognition.model import OrderedItem
from fhir_gateway.recognition.record import Occasion
from fhir_gateway.security.actor import GATEWAY, Actor
from fhir_gateway.store.blobs import pack
from fhir_gateway.store.changes import ChangeSet

RECEIVER = Actor("institution", "接诊医院", "receiver")


def question(patient: str, *items: str, **changes: Any) -> Question:
    ordered = tuple(OrderedItem(f"ServiceRequest/{item}", item) for item in items)
    given = Question(patient, ordered, "receiver", frozenset(), Occasion("order-sign"))
    return given._replace(**changes)


def test_a_usable_earlier_result_is_named_with_value_issuer_time_and_window_end(city: City) -> None:
    patient = city.patient()
    observation = city.result(patient, value="3.950", ago=2)
    (item,) = parts(city.recognize(patient, POTASSIUM), "item")
    assert (said(item, "outcome"), said(item, "reason")) == ("recognize", "usable")
    result = said(item, "result")
    assert said(result, "reference") == {"reference": f"{observation}/_history/1"}
    assert said(result, "value") == "3.950 mmol/L"
    assert said(result, "issuer") == {"reference": "Organization/sender", "display": "检验医院"}
    assert said(item, "window-days") == 7
    assert said(item, "window-end") > said(result, "time")[:10]
    assert said(item, "suggest") is True


def test_every_line_of_the_chosen_result_is_told_with_clause_and_evidence(city: City) -> None:
    patient = city.patient()
    observation = city.result(patient)
    (item,) = parts(city.recognize(patient, POTASSIUM), "item")
    lines = {said(line, "rule"): line for line in parts(item, "line")}
    mark = lines["quality-evaluation@2"]
    assert said(mark, "verdict") == "pass"
    assert said(mark, "evidence") == {"reference": f"{observation}/_history/1"}
    assert said(mark, "clause").startswith("国卫医发〔2022〕6号")
    assert "round-1" in said(mark, "text")


def test_sentences_have_names_and_parts_for_software_have_codes(city: City) -> None:
    patient = city.patient()
    city.result(patient, ago=30)
    city.result(patient, COMPILED)
    context = [{"name": "context", "valueCode": "emergency"}]
    answer = city.recognize(patient, POTASSIUM, COMPILED, parameters=context)
    late, compiled = parts(answer, "item")
    assert said(late, "text") == "仅供查阅：超出7天的互认时限（湖北省公布）。"
    assert said(late, "window-source") == "published:HUB"
    lines = {
        said(line, "rule"): said(line, "text")
        for item in (late, compiled)
        for line in parts(item, "line")
    }
    assert "范围北京市覆盖接诊机构" in lines["quality-evaluation@2"]
    told = "\n".join([*lines.values(), said(compiled, "text")])
    assert "（本目录编制）" in told
    assert "患者情形（急诊）" in told
    for code in ("published:", "compiled", "110000", "emergency"):
        assert code not in told
    prior = city.running.get(
        f"/fhir/Patient/{patient}/$prior-results?evaluate=true&item={POTASSIUM}",
        headers=city.receiver,
    ).json()
    (item,) = parts(prior, "item")
    assert said(item, "text") == said(late, "text")


def test_no_candidate_is_none_available_to_you_and_lists_the_sources(city: City) -> None:
    answer = city.recognize(city.patient(), POTASSIUM)
    assert outcomes(answer) == [("not-recognizable", "none-available-to-you")]
    sources = {
        said(one, "institution")["reference"]: said(one, "stale") for one in parts(answer, "source")
    }
    assert sources == {"Organization/receiver": True, "Organization/sender": False}


def test_an_order_that_no_map_knows_cannot_be_decided(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    unknown = order(patient, code={"text": "院内特殊项目"})
    answer = city.operate(
        "ServiceRequest/$recognize",
        [
            {"name": "patient", "valueReference": {"reference": f"Patient/{patient}"}},
            {"name": "order", "resource": unknown},
            {"name": "order", "resource": order(patient, id="draft-2")},
        ],
    ).json()
    assert outcomes(answer) == [("cannot-decide", "order-not-mapped"), ("recognize", "usable")]
    keys = [said(item, "key") for item in parts(answer, "item")]
    assert keys == ["ServiceRequest/draft-1", "ServiceRequest/draft-2"]


def test_a_stored_order_is_asked_about_by_its_id(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    stored = city.create({**order(patient), "status": "active"})
    answer = city.operate(f"ServiceRequest/{stored}/$recognize").json()
    assert outcomes(answer) == [("recognize", "usable")]


def test_an_emergency_priority_is_context_and_withholds_the_suggestion(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    answer = city.operate(
        "ServiceRequest/$recognize",
        [
            {"name": "patient", "valueReference": {"reference": f"Patient/{patient}"}},
            {"name": "order", "resource": order(patient, priority="stat")},
        ],
    ).json()
    (item,) = parts(answer, "item")
    assert said(item, "suggest") is None
    assert said(item, "ground") == "N4"


def test_the_patient_may_be_named_by_an_identifier_that_is_known_here(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    (stored,) = city.search(f"Patient?_id={patient}")
    document = next(one for one in stored["identifier"] if one["system"] == DOCUMENT)
    answer = city.operate(
        "ServiceRequest/$recognize",
        [
            {"name": "patient", "valueIdentifier": document},
            {"name": "item", "valueCode": POTASSIUM},
        ],
    ).json()
    assert outcomes(answer) == [("recognize", "usable")]


def test_somebody_unknown_is_cannot_decide_and_is_recorded_without_a_subject(city: City) -> None:
    answer = city.recognize("nobody-here", POTASSIUM)
    assert outcomes(answer) == [("cannot-decide", "patient-unknown")]
    reference = said(answer, "decision")["reference"]
    recorded = city.running.get(f"/fhir/{reference}", headers=city.receiver).json()
    assert recorded["status"] == "data-required"
    assert "subject" not in recorded


def test_without_a_rule_set_in_force_nothing_is_decided(start: Callable[..., Any]) -> None:
    bare = City(start(), rules=False)
    patient = bare.patient()
    bare.result(patient)
    answer = bare.recognize(patient, POTASSIUM)
    assert outcomes(answer) == [("cannot-decide", "no-rule-set-in-force")]
    assert said(answer, "rule-set") is None
    bare.running.run(publish.activate(bare.gateway, "1.0.0", demonstration=True))
    assert outcomes(bare.recognize(patient, POTASSIUM)) == [("recognize", "usable")]
    bare.running.run(publish.retire(bare.gateway, "1.0.0"))
    assert outcomes(bare.recognize(patient, POTASSIUM)) == [
        ("cannot-decide", "no-rule-set-in-force")
    ]


def test_a_later_evaluation_counts_from_the_next_question(start: Callable[..., Any]) -> None:
    town = City(start())
    patient = town.patient()
    town.result(patient)
    assert outcomes(town.recognize(patient, POTASSIUM)) == [("recognize", "usable")]
    town.evaluate("sender", [POTASSIUM], status="val-fail")
    assert outcomes(town.recognize(patient, POTASSIUM)) == [("view-only", "evaluation-failed")]


def test_an_evaluation_that_is_taken_back_no_longer_counts(start: Callable[..., Any]) -> None:
    town = City(start())
    patient = town.patient()
    town.result(patient)
    assert outcomes(town.recognize(patient, POTASSIUM)) == [("recognize", "usable")]
    town.evaluate("sender", [POTASSIUM], status="in-process")
    assert outcomes(town.recognize(patient, POTASSIUM)) == [("view-only", "not-evaluated")]


def test_an_evaluation_that_is_deleted_no_longer_counts(start: Callable[..., Any]) -> None:
    town = City(start())
    patient = town.patient()
    town.result(patient)
    assert outcomes(town.recognize(patient, POTASSIUM)) == [("recognize", "usable")]
    town.running.run(delete(town.gateway, GATEWAY, type="VerificationResult", id="round-sender"))
    assert outcomes(town.recognize(patient, POTASSIUM)) == [("view-only", "not-evaluated")]


def test_an_institution_asks_for_itself_only(city: City) -> None:
    answer = city.operate(
        "ServiceRequest/$recognize",
        [
            {"name": "patient", "valueReference": {"reference": "Patient/x"}},
            {"name": "item", "valueCode": POTASSIUM},
            {"name": "receiver", "valueReference": {"reference": "Organization/sender"}},
        ],
    )
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("parameters", "expressions"),
    [
        ([{"name": "item", "valueCode": "L001"}], ["Parameters.parameter"]),
        (
            [{"name": "patient", "valueReference": {"reference": "Patient/x"}}],
            ["Parameters.parameter"],
        ),
        (
            [
                {"name": "patient", "valueString": "x"},
                {"name": "itme", "valueCode": "L001"},
                {"name": "context", "valueString": "emergency"},
            ],
            [
                "Parameters.parameter[0]",
                "Parameters.parameter[1].name",
                "Parameters.parameter[2]",
            ],
        ),
        (
            [
                {"name": "patient", "valueReference": {"reference": "Organization/x"}},
                {"name": "item", "valueCode": "L001"},
            ],
            ["Parameters.parameter[0].valueReference"],
        ),
        (
            [
                {"name": "patient", "valueReference": {"reference": "Patient/x"}},
                {"name": "item", "valueCoding": {"system": "http://loinc.org", "code": "1-8"}},
            ],
            ["Parameters.parameter[1].valueCoding"],
        ),
        (
            [
                {"name": "patient", "valueReference": {"reference": "Patient/x"}},
                {"name": "order", "resource": {"resourceType": "Patient"}},
            ],
            ["Parameters.parameter[1].resource"],
        ),
    ],
)
def test_parameters_that_say_something_wrong_are_refused_by_element(
    city: City, parameters: list[dict[str, Any]], expressions: list[str]
) -> None:
    answer = city.operate("ServiceRequest/$recognize", parameters)
    assert answer.status_code == 400, answer.text
    assert [issue["expression"][0] for issue in answer.json()["issue"]] == expressions


# -- the record ------------------------------------------------------------------------------


def test_decision_and_audit_event_are_in_one_commit_before_the_answer(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = city.patient()
    city.result(patient)
    commits: list[ChangeSet] = []
    commit = city.gateway.store.commit

    async def watched(change_set: ChangeSet) -> Any:
        committed = await commit(change_set)
        commits.append(change_set)
        return committed

    monkeypatch.setattr(type(city.gateway.store), "commit", lambda self, one: watched(one))
    answer = city.running.run(ask(city.gateway, RECEIVER, question(patient, POTASSIUM)))
    (change_set,) = commits
    assert [entry.type for entry in change_set.journal] == ["GuidanceResponse", "AuditEvent"]
    assert change_set.journal[0].id == answer.id
    assert change_set.urgent


def test_an_answer_that_cannot_be_recorded_is_not_given(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = city.patient()

    async def full(self: Any, change_set: ChangeSet) -> Any:
        raise Unavailable("The disk is full")

    monkeypatch.setattr(type(city.gateway.store), "commit", full)
    with pytest.raises(Unavailable):
        city.running.run(ask(city.gateway, RECEIVER, question(patient, POTASSIUM)))


def test_the_record_is_a_valid_guidance_response_of_about_2_kb(city: City) -> None:
    patient = city.patient(name='"<b>\\名字')
    for item in (POTASSIUM, SODIUM):
        city.result(patient, item, ago=1)
        city.result(patient, item, ago=2)
    kept = json.dumps({"hook": "order-sign", "display": "李"}).encode()
    given = question(patient, POTASSIUM, SODIUM, "L003", "L016", "L027", kept=kept)
    given = given._replace(occasion=Occasion("order-sign", "an-instance", "Practitioner/a"))
    answer = city.running.run(ask(city.gateway, RECEIVER, given))
    recorded = city.running.get(f"/fhir/GuidanceResponse/{answer.id}", headers=city.receiver)
    resource = recorded.json()
    assert issues(resource) == []
    assert len(pack(recorded.content)[1]) < 2_100
    assert resource["requestIdentifier"] == {"value": "an-instance"}
    assert resource["moduleCanonical"].endswith("/PlanDefinition/recognition|1.0.0")
    names = [one["name"] for one in resource["contained"][0]["parameter"]]
    assert names[:3] == ["inputs", "operation", "catalogue"]
    assert names.count("item") == 5


def test_the_call_is_kept_by_hash(city: City) -> None:
    patient = city.patient()
    kept = b'{"hook":"order-sign"}'
    answer = city.running.run(ask(city.gateway, RECEIVER, question(patient, POTASSIUM, kept=kept)))
    (resource,) = city.search(f"GuidanceResponse?_id={answer.id}")
    (received,) = parts(resource["contained"][0], "received")
    digest = bytes.fromhex(received["valueString"].removeprefix("urn:sha256:"))

    async def stored() -> Any:
        async with city.gateway.store.snapshot(RECEIVER.access) as reader:
            return await reader.received(digest)

    assert city.running.run(stored()) == ("application/json", kept)


def test_the_audit_event_names_decision_patient_user_and_counts_by_outcome(city: City) -> None:
    patient = city.patient()
    observation = city.result(patient)
    given = question(patient, POTASSIUM, SODIUM)
    given = given._replace(occasion=Occasion("order-sign", "", "Practitioner/a"))
    answer = city.running.run(ask(city.gateway, RECEIVER, given))
    events = city.search(f"AuditEvent?entity=GuidanceResponse/{answer.id}")
    (event,) = [one for one in events if one.get("outcomeDesc")]
    assert event["outcomeDesc"] == "recognize 1, not-recognizable 1"
    named = [entity["what"].get("reference") for entity in event["entity"]]
    assert named[:3] == [
        f"Patient/{patient}",
        f"GuidanceResponse/{answer.id}",
        f"{observation}/_history/1",
    ]
    assert "Practitioner/a" in [agent["who"].get("reference") for agent in event["agent"]]
