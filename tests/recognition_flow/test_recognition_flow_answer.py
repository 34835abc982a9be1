"""The doctor's answer: one Task for each order line, found by whatever it says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest
from city import COMPILED, POTASSIUM, SODIUM, City, Json, day, reason_system, said

from fhir_gateway.fhir.validate import issues
from fhir_gateway.fhir.wire import parse, render
from fhir_gateway.recognition.answer import Reply, answered_lines, answers_of, record_answers
from fhir_gateway.recognition.answer_model import ANSWER_SYSTEM, LINE_SYSTEM, TASK_SYSTEM
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.terminology.catalogue import LAB_SYSTEM

Asked = tuple[str, str, str]


@pytest.fixture
def asked(city: City) -> Iterator[Asked]:
    """A patient, a usable result and the decision about it."""
    patient = city.patient()
    observation = city.result(patient)
    decision = said(city.recognize(patient, POTASSIUM), "decision")["reference"]
    yield patient, observation, decision


def value(name: str, **given: Any) -> Json:
    return {"name": name, **given}


def outcome(code: str) -> Json:
    return value("outcome", valueCode=code)


ACCEPTED, REPEATED, REVOKED = outcome("accepted"), outcome("repeated"), outcome("revoked")
CITED, VIEWED, COMPLETED = outcome("cited"), outcome("viewed"), outcome("completed")
ELSEWHERE = value("result", valueReference={"reference": "Observation/else"})
N1 = value("reason", valueCode="N1")


def told(city: City, decision: str, *parameters: Json) -> Json:
    """The Parameters of an answer."""
    answer = city.operate(f"{decision}/$answer", parameters)
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


def answered(city: City, decision: str, *parameters: Json) -> Json:
    """The stored Task."""
    reference = said(told(city, decision, *parameters), "answer")["reference"]
    stored: Json = city.running.get(f"/fhir/{reference}", headers=city.receiver).json()
    return stored


def states(task: Json) -> list[str]:
    """What the business status says, in our own codes."""
    codings = task["businessStatus"]["coding"]
    return [one["code"] for one in codings if one["system"] == ANSWER_SYSTEM]


def tasks(city: City, query: str) -> list[Json]:
    return [one for one in city.search(f"Task?{query}") if one["resourceType"] == "Task"]


def part(task: Json, member: str, code: str) -> Any:
    """The value of an input or output."""
    for one in task.get(member, ()):
        if one["type"]["coding"][0]["code"] == code:
            return next(value for name, value in one.items() if name.startswith("value"))
    return None


def refused(city: City, decision: str, *parameters: Json) -> tuple[int, str]:
    """Status and rule of a refusal."""
    answer = city.operate(f"{decision}/$answer", parameters)
    return answer.status_code, answer.json()["issue"][0]["details"]["text"]


# -- what is stored ------------------------------------------------------------------------------


def test_accepting_stores_the_result_that_is_used(city: City, asked: Asked) -> None:
    patient, observation, decision = asked
    stored = answered(city, decision, ACCEPTED)
    assert issues(stored) == []
    assert stored["for"] == {"reference": f"Patient/{patient}"}
    assert stored["focus"] == {"reference": decision}
    assert stored["owner"] == {"reference": "Organization/receiver"}
    assert (stored["status"], states(stored)) == ("completed", ["accepted"])
    assert part(stored, "input", "result") == {"reference": f"{observation}/_history/1"}
    assert part(stored, "input", "report")["reference"].startswith("DiagnosticReport/")
    assert part(stored, "input", "order-line") == POTASSIUM


def test_a_repeat_keeps_its_ground_text_and_that_the_patient_was_told(
    city: City, asked: Asked
) -> None:
    stored = answered(
        city,
        asked[2],
        REPEATED,
        value("reason", valueCoding={"system": reason_system(), "code": "N6"}),
        value("text", valueString="结果与本次表现不符"),
        value("informedAt", valueDateTime=day(0, 1)),
        value("practitioner", valueReference={"reference": "Practitioner/b"}),
        value("encounter", valueReference={"reference": "Encounter/visit-7"}),
        value("answered", valueDateTime=day(0, 0)),
    )
    assert issues(stored) == []
    (coding,) = stored["statusReason"]["coding"]
    assert (coding["code"], coding["display"]) == ("N6", "其他情形确需复查的")
    assert states(stored) == ["repeated"]
    assert stored["note"] == [{"text": "结果与本次表现不符"}]
    assert stored["authoredOn"] == day(0, 0)
    assert part(stored, "output", "patient-informed") is True
    assert part(stored, "output", "patient-informed-at") == day(0, 1)
    assert stored["requester"]["identifier"]["value"] == "Practitioner/b"
    assert "reference" not in stored["requester"]  # nobody here is Practitioner/b
    assert stored["encounter"]["identifier"]["value"] == "Encounter/visit-7"


def test_a_person_who_is_stored_here_is_referred_to(city: City, asked: Asked) -> None:
    doctor = city.create({"resourceType": "Practitioner", "name": [{"text": "示例医师"}]})
    who = value("practitioner", valueReference={"reference": f"Practitioner/{doctor}"})
    stored = answered(city, asked[2], ACCEPTED, who)
    assert stored["requester"]["reference"] == f"Practitioner/{doctor}"
    assert tasks(city, f"requester=Practitioner/{doctor}&code=recognition-answer") == [stored]


def test_answers_are_found_by_all_that_they_say(city: City, asked: Asked) -> None:
    patient, _, decision = asked
    who = value("practitioner", valueReference={"reference": "Practitioner/c"})
    stored = answered(city, decision, REPEATED, N1, who)
    name = stored["requester"]["identifier"]
    for query in (
        f"patient={patient}",
        f"patient={patient}&focus={decision}",
        f"patient={patient}&owner=Organization/receiver&business-status=repeated",
        f"patient={patient}&code={TASK_SYSTEM}|recognition-answer",
        f"patient={patient}&code={LAB_SYSTEM}|{POTASSIUM}",
        f"patient={patient}&business-status={reason_system()}|N1",
        f"patient={patient}&requester:identifier={name['system']}|{name['value']}",
        f"patient={patient}&authored-on=ge{day(1)[:10]}",
        f"identifier={LINE_SYSTEM}|{decision.partition('/')[2]}%230",
    ):
        assert [one["id"] for one in tasks(city, query)] == [stored["id"]], query
    found = tasks(city, f"owner=Organization/receiver&business-status={reason_system()}|N1")
    assert stored["id"] in [one["id"] for one in found]
    for query in (
        "business-status=accepted",
        f"code={LAB_SYSTEM}|{SODIUM}",
        "owner=Organization/x",
    ):
        assert tasks(city, f"patient={patient}&{query}") == []


# -- a missing ground never delays ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "flags"),
    [
        ([], ["repeated", "reason-missing"]),
        ([value("text", valueString="因为")], ["repeated"]),
        ([value("reason", valueCode="N6")], ["repeated", "text-missing"]),
        ([value("reason", valueCode="N2")], ["repeated"]),
        ([value("reason", valueCode="P8")], ["repeated"]),
        ([value("reason", valueCoding={"system": "urn:his", "code": "x"})], ["repeated"]),
    ],
)
def test_a_missing_ground_or_text_is_flagged_and_never_refused(
    city: City, asked: Asked, parameters: list[Json], flags: list[str]
) -> None:
    stored = answered(city, asked[2], REPEATED, *parameters)
    assert issues(stored) == []
    assert states(stored) == flags


@pytest.mark.parametrize("ground", ["N1", "N4", "P9"])
def test_every_ground_may_be_given(city: City, asked: Asked, ground: str) -> None:
    stored = answered(city, asked[2], REPEATED, value("reason", valueCode=ground))
    assert stored["statusReason"]["coding"][0]["code"] == ground
    assert states(stored) == ["repeated"]


def test_what_was_missing_is_completed_later_by_whoever_knows(city: City, asked: Asked) -> None:
    first = answered(city, asked[2], REPEATED, value("answered", valueDateTime=day(0, 0)))
    who = value("practitioner", valueReference={"display": "质控科"})
    text = value("text", valueString="术前")
    given = (COMPLETED, value("reason", valueCode="N3"), text, who)
    second = answered(city, asked[2], *given)
    assert issues(second) == []
    assert (second["id"], second["meta"]["versionId"]) == (first["id"], "2")
    assert states(second) == ["repeated"]
    assert second["authoredOn"] == first["authoredOn"]
    assert second.get("requester") == first.get("requester")
    assert second["note"] == [{"text": "术前"}]
    assert part(second, "output", "completed-by") == "质控科"
    assert answered(city, asked[2], *given)["meta"]["versionId"] == "2"
    # the first feedback, come again late, does not undo it
    late = answered(city, asked[2], REPEATED, value("answered", valueDateTime=day(0, 0)))
    assert (late["meta"]["versionId"], states(late)) == ("2", ["repeated"])


def test_a_text_completes_the_ground_that_asks_for_one(city: City, asked: Asked) -> None:
    answered(city, asked[2], REPEATED, value("reason", valueCode="N6"))
    stored = answered(city, asked[2], COMPLETED, value("text", valueString="复查"))
    assert states(stored) == ["repeated"]
    assert stored["statusReason"]["coding"][0]["code"] == "N6"


# -- idempotence, history, revocation ------------------------------------------------------------


def test_the_same_answer_is_one_version_and_another_is_the_next(city: City, asked: Asked) -> None:
    patient, _, decision = asked
    at = value("answered", valueDateTime=day(1, 1))
    first = answered(city, decision, REPEATED, at)
    again = answered(city, decision, REPEATED, at)
    assert again == first
    other = answered(city, decision, ACCEPTED)
    assert (other["id"], other["meta"]["versionId"]) == (first["id"], "2")
    assert states(other) == ["accepted"]
    assert len(tasks(city, f"patient={patient}")) == 1
    bundle = city.running.get(f"/fhir/Task/{first['id']}/_history", headers=city.receiver).json()
    assert [states(one["resource"])[0] for one in bundle["entry"]] == ["accepted", "repeated"]
    late = answered(city, decision, REPEATED, at)  # the first post, come again after the second
    assert states(late) == ["accepted"]


def test_an_answer_of_the_future_is_refused(city: City, asked: Asked) -> None:
    patient, _, decision = asked
    given = [REPEATED, N1, value("answered", valueDateTime=day(-1))]
    answer = city.operate(f"{decision}/$answer", given)
    assert answer.status_code == 400
    (issue,) = answer.json()["issue"]
    assert issue["expression"] == ["Parameters.parameter[2].valueDateTime"]
    assert issue["details"]["text"] == "time-ahead"
    assert city.search(f"Task?patient={patient}&code=recognition-answer") == []


def test_revoking_leaves_the_line_unanswered_and_open_to_a_new_answer(
    city: City, asked: Asked
) -> None:
    patient, _, decision = asked
    answered(city, decision, ACCEPTED)
    why = value("text", valueString="点错")
    stored = answered(city, decision, REVOKED, why)
    assert issues(stored) == []
    assert (stored["status"], states(stored)) == ("cancelled", ["revoked"])
    assert part(stored, "output", "revoked") == "accepted"
    assert stored["statusReason"] == {"text": "点错"}
    assert answered(city, decision, REVOKED, why)["meta"]["versionId"] == "2"
    assert tasks(city, f"patient={patient}&business-status=accepted") == []
    assert states(answered(city, decision, ACCEPTED)) == ["accepted"]


def test_citations_and_views_stand_beside_the_choice(city: City, asked: Asked) -> None:
    patient, observation, decision = asked
    viewed = answered(city, decision, VIEWED)
    cited = answered(city, decision, CITED)
    chosen = answered(city, decision, REPEATED, N1)
    assert len({viewed["id"], cited["id"], chosen["id"]}) == 3
    assert answered(city, decision, VIEWED)["meta"]["versionId"] == "1"
    newer = value("result", valueReference={"reference": f"{observation}/_history/1"})
    assert answered(city, decision, VIEWED, newer)["id"] == viewed["id"]
    back = value("answer", valueReference={"reference": f"Task/{cited['id']}"})
    assert states(answered(city, decision, REVOKED, back)) == ["revoked"]
    assert states(answered(city, decision, CITED)) == ["cited"]
    back = value("answer", valueReference={"reference": f"Task/{viewed['id']}"})
    assert refused(city, decision, REVOKED, back) == (422, "answer-state")
    assert len(tasks(city, f"patient={patient}&status=completed")) == 3


def test_of_many_posts_at_once_one_is_stored(city: City, asked: Asked) -> None:
    patient, _, decision = asked
    actor = Actor("institution", "receiver", "receiver")
    id = decision.partition("/")[2]
    verbs = ["accepted"] * 6 + ["repeated"] * 6

    async def post(verb: str, second: int) -> str:
        reply = Reply("x", id, None, verb, answered=f"2026-11-22T08:00:{second:02d}Z")  # type: ignore[arg-type]  # one of the verbs
        (kept,) = await record_answers(city.gateway, actor, [reply], operation="$answer")
        return kept.answer.state

    async def all_at_once() -> list[str]:
        return list(await asyncio.gather(*(post(verb, len(verb)) for verb in verbs)))

    assert set(city.running.run(all_at_once())) <= {"accepted", "repeated"}
    (stored,) = tasks(city, f"patient={patient}")
    assert stored["meta"]["versionId"] == "2"  # accepted or repeated, then the other; no more


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "status", "rule"),
    [
        ([], 400, "outcome"),
        ([outcome("perhaps")], 400, "outcome"),
        ([REPEATED, value("reason", valueCode="N7")], 422, "ground"),
        ([ACCEPTED, ELSEWHERE], 422, "result"),
        ([VIEWED, ELSEWHERE], 422, "result"),
        ([ACCEPTED, value("line", valueString="ServiceRequest/else")], 422, "order-line"),
        ([REVOKED], 422, "answer-state"),
        ([COMPLETED, N1], 422, "answer-state"),
        ([COMPLETED], 422, "completion"),
        ([REVOKED, value("answer", valueReference={"reference": "Task/none"})], 422, "answer"),
    ],
)  # fmt: skip
def test_an_answer_that_does_not_fit_the_decision_is_refused(
    city: City, asked: Asked, parameters: list[Json], status: int, rule: str
) -> None:
    assert refused(city, asked[2], *parameters) == (status, rule)
    assert tasks(city, f"patient={asked[0]}") == []


def test_accepting_without_a_usable_result_is_refused(city: City) -> None:
    decision = said(city.recognize(city.patient(), POTASSIUM), "decision")["reference"]
    assert refused(city, decision, ACCEPTED) == (422, "result")


def test_a_patient_nobody_knows_may_be_examined_all_the_same(city: City) -> None:
    decision = said(city.recognize("nobody", POTASSIUM), "decision")["reference"]
    stored = answered(city, decision, REPEATED, N1)
    assert "for" not in stored
    assert issues(stored) == []


def test_the_order_line_must_be_named_when_there_are_several(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    answer = city.recognize(patient, POTASSIUM, COMPILED)
    decision = said(answer, "decision")["reference"]
    assert refused(city, decision, ACCEPTED) == (422, "order-line")
    line = value("line", valueString=POTASSIUM)
    assert states(answered(city, decision, ACCEPTED, line)) == ["accepted"]


def test_another_institution_neither_answers_nor_fetches_nor_replays(
    city: City, asked: Asked
) -> None:
    body = {"resourceType": "Parameters", "parameter": [REPEATED]}
    for operation in ("$answer", "$replay"):
        answer = city.running.post(f"/fhir/{asked[2]}/{operation}", body, headers=city.sender)
        assert answer.status_code in (400, 404)
    answer = city.running.post(f"/fhir/{asked[2]}/$answer", body, headers=city.sender)
    assert answer.status_code == 404
    stored = answered(city, asked[2], ACCEPTED)
    path = f"/fhir/Task/{stored['id']}/$document"
    assert city.running.get(path, headers=city.sender).status_code == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "POST"])
def test_answers_are_written_by_the_gateway_alone(city: City, asked: Asked, method: str) -> None:
    stored = answered(city, asked[2], ACCEPTED)
    path, body = f"/fhir/Task/{stored['id']}", {**stored, "status": "failed"}
    headers = {**city.receiver, "content-type": "application/fhir+json"}
    if method == "PATCH":
        headers["content-type"] = "application/json-patch+json"
        body = [{"op": "replace", "path": "/status", "value": "failed"}]
    if method == "POST":
        path = "/fhir/Task"
    content = b"" if method == "DELETE" else render(body)
    answer = city.running.request(method, path, content=content, headers=headers)
    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (403, "forbidden")
    assert "$answer" in answer.json()["issue"][0]["diagnostics"]
    now = city.running.get(f"/fhir/Task/{stored['id']}", headers=city.receiver).json()
    assert now == stored


def test_answers_of_the_first_release_are_written_by_nobody(city: City, asked: Asked) -> None:
    former = {
        "resourceType": "Communication",
        "status": "completed",
        "identifier": [{"system": LINE_SYSTEM, "value": f"{asked[2].partition('/')[2]}#0"}],
        "category": [{"coding": [{"system": ANSWER_SYSTEM, "code": "accepted"}]}],
        "subject": {"reference": f"Patient/{asked[0]}"},
    }
    answer = city.running.post("/fhir/Communication", former, headers=city.receiver)
    assert answer.status_code == 403
    other = {**former, "identifier": [{"system": "urn:other", "value": "1"}]}
    answer = city.running.post("/fhir/Communication", other, headers=city.receiver)
    assert answer.status_code == 201


def test_each_answer_is_audited_with_its_codes_only(city: City, asked: Asked) -> None:
    answered(
        city, asked[2], REPEATED, value("reason", valueCode="N3"), value("text", valueString="秘")
    )
    events = city.search(f"AuditEvent?entity={asked[2]}")
    assert [one["outcomeDesc"] for one in events if "repeated" in one.get("outcomeDesc", "")] == [
        "repeated N3"
    ]


# -- the document --------------------------------------------------------------------------------


def test_what_was_recognised_comes_as_a_document_to_file(city: City, asked: Asked) -> None:
    patient, observation, decision = asked
    answer = city.operate(f"{decision}/$answer", [ACCEPTED])
    body = answer.json()
    bundle = next(one["resource"] for one in body["parameter"] if one["name"] == "document")
    assert issues(bundle) == []
    digest = said(body, "sha256")
    task = said(body, "answer")["reference"].partition("/_history/")[0]
    fetched = city.running.get(f"/fhir/{task}/$document", headers=city.receiver)
    assert fetched.status_code == 200
    assert sha256(fetched.content).hexdigest() == digest
    assert parse(fetched.content) == parse(render(bundle))
    resources = [entry["resource"] for entry in bundle["entry"]]
    assert bundle["type"] == "document"
    kinds = [one["resourceType"] for one in resources]
    assert kinds[:3] == ["Composition", "Observation", "DiagnosticReport"]
    assert {"Patient", "Organization"} <= set(kinds)
    assert f"{observation}" == f"Observation/{resources[1]['id']}"
    assert resources[1]["meta"]["versionId"] == "1"
    urls = {entry["fullUrl"] for entry in bundle["entry"]}
    base = bundle["entry"][0]["fullUrl"].partition("/Composition/")[0]
    section = resources[0]["section"][0]
    for reference in (resources[0]["subject"], resources[0]["author"][0], *section["entry"]):
        assert f"{base}/{reference['reference']}" in urls
    stored = city.running.get(f"/fhir/{task}", headers=city.receiver).json()
    assert part(stored, "output", "document") == f"urn:sha256:{digest}"
    assert resources[0]["subject"] == {"reference": f"Patient/{patient}"}


def test_the_document_stays_what_it_was_when_the_result_is_corrected(
    city: City, asked: Asked
) -> None:
    _, observation, decision = asked
    task = answered(city, decision, ACCEPTED)
    path = f"/fhir/Task/{task['id']}/$document"
    before = city.running.get(path, headers=city.receiver)
    result = city.running.get(f"/fhir/{observation}", headers=city.sender).json()
    result |= {"status": "corrected", "valueQuantity": {**result["valueQuantity"], "value": 5.1}}
    assert city.running.put(f"/fhir/{observation}", result, headers=city.sender).status_code == 200
    assert city.running.get(path, headers=city.receiver).content == before.content
    assert b"3.95" in before.content


def test_handing_out_the_document_is_audited_as_a_disclosure(city: City, asked: Asked) -> None:
    _, observation, decision = asked
    task = answered(city, decision, ACCEPTED)
    city.running.get(f"/fhir/Task/{task['id']}/$document", headers=city.receiver)
    events = city.search(f"AuditEvent?patient={asked[0]}&entity=Task/{task['id']}")
    found = [one["subtype"][1]["display"] for one in events if len(one.get("subtype", ())) > 1]
    assert sorted(found) == ["$answer", "$document"]
    entities = [
        what["what"]["reference"] for what in events[0]["entity"] if "reference" in what["what"]
    ]
    assert f"{observation}/_history/1" in entities  # fmt: skip


def test_nothing_is_filed_with_a_repeat(city: City, asked: Asked) -> None:
    task = answered(city, asked[2], REPEATED, N1)
    answer = city.running.get(f"/fhir/Task/{task['id']}/$document", headers=city.receiver)
    assert answer.status_code == 422
    assert city.running.get("/fhir/Task/none/$document", headers=city.receiver).status_code == 404


# -- how other rooms read them -------------------------------------------------------------------


def test_answers_are_read_by_decision_and_by_item(city: City, asked: Asked) -> None:
    patient, _, decision = asked
    gateway, id = city.gateway, decision.partition("/")[2]

    async def read() -> tuple[list[Any], Any, Any]:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            person = await reader.person(patient)
            assert person is not None
            lately = await answered_lines(reader, (person.home,), [POTASSIUM, SODIUM], 0)
            future = await answered_lines(reader, person.home, [POTASSIUM], 1 << 60)
            return await answers_of(reader, id), lately, future

    assert city.running.run(read()) == ([], {}, {})
    answered(city, decision, VIEWED)
    assert city.running.run(read())[1] == {}
    answered(city, decision, ACCEPTED)
    answers, lately, future = city.running.run(read())
    assert [one.state for one in answers] == ["accepted", "viewed"]
    assert {item: (one.state, one.institution, one.decision) for item, one in lately.items()} == {
        POTASSIUM: ("accepted", "receiver", id)
    }
    assert future == {}
    answered(city, decision, REVOKED)
    assert city.running.run(read())[1] == {}


def test_answers_of_the_first_release_are_read_on(city: City, asked: Asked) -> None:
    patient, observation, decision = asked
    city.put({
        "resourceType": "Communication",
        "id": f"former-{patient}",
        "identifier": [{"system": LINE_SYSTEM, "value": f"{decision.partition('/')[2]}#0"}],
        "basedOn": [{"reference": decision}],
        "status": "completed",
        "category": [
            {"coding": [{"system": ANSWER_SYSTEM, "code": code}]}
            for code in ("repeated", "patient-informed")
        ],
        "subject": {"reference": f"Patient/{patient}"},
        "topic": {"coding": [{"system": LAB_SYSTEM, "code": POTASSIUM}]},
        "about": [{"reference": observation}],
        "sent": day(0, 1),
        "sender": {"reference": "Organization/receiver", "display": "示例医师"},
        "reasonCode": [{"coding": [{"system": reason_system(), "code": "N2"}]}],
    })  # fmt: skip

    async def read() -> list[Any]:
        async with city.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            return await answers_of(reader, decision.partition("/")[2])

    (former,) = city.running.run(read())
    assert (former.former, former.state, former.ground["code"]) == (True, "repeated", "N2")
    assert (former.institution, former.user, former.informed) == ("receiver", "示例医师", True)
    assert former.items == (POTASSIUM,)
