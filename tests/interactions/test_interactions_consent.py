"""Who sees what under the shipped policy: relation, consent, class, and what nobody is told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import consent_made
import pytest
from city import POTASSIUM, Json
from consented import HIV, SHIPPED, Town, ago
from databases import Databases
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from running import BASE

from fhir_gateway.interactions.jobs import work_once
from fhir_gateway.interactions.relations import CONSENT_OBTAINED
from fhir_gateway.recognition.replay import replay_decision
from fhir_gateway.rest.later import WORKS
from fhir_gateway.security.actor import GATEWAY


@pytest.fixture(scope="module")
def town(shared_database: Databases) -> Iterator[Town]:
    running = shared_database.running("town", policy=SHIPPED)
    yield Town(running)
    running.close()


#: A result in words, as a qualitative item has it.
SAID: Any = {"valueQuantity": ..., "valueString": "阴性"}


def found(town: Town, query: str) -> list[str]:
    """What a search of the receiver finds."""
    answer = town.running.get(f"/fhir/{query}", headers=town.receiver)
    assert answer.status_code == 200, answer.text
    entries = answer.json().get("entry", [])
    return [f"{one['resource']['resourceType']}/{one['resource']['id']}" for one in entries
            if one["search"]["mode"] == "match"]  # fmt: skip


# -- relation and consent --------------------------------------------------------------------------


def test_a_relation_and_a_consent_are_both_asked_for(town: Town) -> None:
    patient = town.patient()
    result = town.result(patient)
    own = town.own(patient)
    assert town.sees(result, f"Patient/{own}") == [False, True]
    visit = town.visit(own)
    assert town.sees(result) == [False]
    consent = town.permit(own, visit)
    assert town.sees(result, f"Patient/{patient}") == [True, True]
    assert found(town, f"Observation?patient=Patient/{own}") == [result]
    town.withdraw(consent)
    assert town.sees(result, f"Patient/{patient}") == [False, False]
    assert found(town, f"Observation?patient=Patient/{own}") == []


@pytest.mark.drivers("sqlite")
def test_an_encounter_that_says_that_the_patient_agreed_is_enough(town: Town) -> None:
    patient = town.patient()
    result = town.result(patient)
    own = town.own(patient)
    town.visit(own, asked=True)
    assert town.sees(result) == [True]
    town.consented(own, {"type": "deny", "to": ["receiver"]})
    assert town.sees(result) == [False]


@pytest.mark.drivers("sqlite")
@pytest.mark.parametrize(
    ("changes", "sees"),
    [
        ({"status": "arrived"}, True),
        ({"status": "onleave"}, True),
        ({"status": "planned"}, False),
        ({"status": "cancelled"}, False),
        ({"status": "finished", "period": {"start": ago(days=2), "end": ago(days=1)}}, True),
        ({"status": "finished", "period": {"start": ago(days=9), "end": ago(days=8)}}, False),
        ({"status": "finished", "period": {"start": ago(days=1)}}, False),
        ({"status": "in-progress", "period": {"start": ago(days=400)}}, False),
        ({"status": "in-progress", "period": ...}, False),
    ],
)
def test_an_encounter_opens_as_long_as_it_says(town: Town, changes: Json, sees: bool) -> None:
    patient = town.patient()
    result = town.result(patient)
    given = {"type": "permit", "to": ["receiver"], "from": ago(days=20), "until": ago(days=-9)}
    own = town.own(patient)
    town.consented(own, given)
    resource = {"resourceType": "Encounter", "class": {"code": "AMB"},
                "subject": {"reference": f"Patient/{own}"},
                "period": {"start": ago(minutes=5)}, **changes}  # fmt: skip
    town.mine({name: value for name, value in resource.items() if value is not ...})
    assert town.sees(result) == [sees]


@pytest.mark.drivers("sqlite")
@pytest.mark.parametrize(
    ("resource", "sees"),
    [
        ({"resourceType": "ServiceRequest", "status": "active", "authoredOn": ago(hours=1)}, True),
        ({"resourceType": "ServiceRequest", "status": "draft", "authoredOn": ago(hours=1)}, False),
        ({"resourceType": "ServiceRequest", "status": "active", "authoredOn": ago(days=40)}, False),
        ({"resourceType": "ServiceRequest", "status": "active"}, False),
        ({"resourceType": "EpisodeOfCare", "status": "active", "period": {"start": ago(days=300)}},
         True),
        ({"resourceType": "EpisodeOfCare", "status": "finished",
          "period": {"start": ago(days=300)}}, False),
        ({"resourceType": "Appointment", "status": "booked", "start": ago(days=-2),
          "end": ago(days=-2)}, True),
        ({"resourceType": "Appointment", "status": "booked", "start": ago(days=-20),
          "end": ago(days=-20)}, False),
        ({"resourceType": "Appointment", "status": "cancelled", "start": ago(days=-2),
          "end": ago(days=-2)}, False),
    ],
)  # fmt: skip
def test_orders_appointments_and_episodes_are_relations(
    town: Town, resource: Json, sees: bool
) -> None:
    patient = town.patient()
    result = town.result(patient)
    given = {"type": "permit", "to": ["receiver"], "from": ago(days=20), "until": ago(days=-9)}
    own = town.own(patient)
    town.consented(own, given)
    person = {"reference": f"Patient/{own}"}
    rest = {
        "ServiceRequest": {"intent": "order", "subject": person, "code": {"text": "x"}},
        "EpisodeOfCare": {"patient": person},
        "Appointment": {"participant": [{"actor": person, "status": "accepted"}]},
    }
    town.mine(resource | rest[resource["resourceType"]])
    assert town.sees(result) == [sees]


@pytest.mark.drivers("sqlite")
def test_a_referral_opens_the_record_to_whom_it_is_for(town: Town) -> None:
    patient = town.patient()
    result = town.result(patient)
    town.consented(town.own(patient), {
        "type": "permit", "to": ["receiver"], "from": ago(days=2), "until": ago(days=-9),
    })  # fmt: skip
    assert town.sees(result) == [False]
    town.create({
        "resourceType": "ServiceRequest", "status": "active", "intent": "order",
        "authoredOn": ago(hours=1), "code": {"text": "referral"},
        "subject": {"reference": f"Patient/{patient}"},
        "performer": [{"reference": "Organization/receiver"}],
    })  # fmt: skip
    assert town.sees(result) == [True]


# -- who consents, and who records it --------------------------------------------------------------


def refusal(town: Town, resource: Json) -> tuple[int, list[tuple[str, str]]]:
    answer = town.running.post("/fhir/Consent", resource, headers=town.receiver)
    issues = answer.json()["issue"] if answer.status_code >= 400 else []
    return answer.status_code, [
        (one["details"]["text"], one.get("expression", [""])[0]) for one in issues
    ]


@pytest.mark.drivers("sqlite")
@pytest.mark.parametrize(
    ("years", "performer", "status"),
    [
        (13.99, None, 422),
        (13.99, "patient", 422),
        (13.99, "guardian", 201),
        (14.01, None, 201),
        (14.01, "patient", 201),
        (14.01, "guardian", 422),
        (None, None, 422),
        (None, "patient", 201),
        (None, "guardian", 201),
        (40, "stranger", 422),
    ],
)
def test_a_guardian_consents_for_a_child_and_everybody_else_for_themselves(
    town: Town, years: float | None, performer: str | None, status: int
) -> None:
    person: Json = {"resourceType": "Patient", "name": [{"text": "测试童"}]}
    if years is not None:
        person["birthDate"] = ago(days=years * 365.2425)[:10]
    patient = town.mine(person)
    related = {"resourceType": "RelatedPerson", "patient": {"reference": f"Patient/{patient}"}}
    other = {"resourceType": "Practitioner", "name": [{"text": "测试医生"}]}
    named = {
        "patient": lambda: f"Patient/{patient}",
        "guardian": lambda: f"RelatedPerson/{town.mine(related)}",
        "stranger": lambda: f"Practitioner/{town.mine(other)}",
    }
    resource = consent_made.consent(
        {"type": "deny", "to": ["receiver"]}, patient, when=ago(minutes=1)
    )
    if performer:
        resource["performer"] = [{"reference": named[performer]()}]
    found = refusal(town, resource)
    assert found[0] == status
    assert {rule for rule, _ in found[1]} <= {"guardian"}


@pytest.mark.drivers("sqlite")
def test_an_institution_records_what_concerns_itself_alone(town: Town) -> None:
    patient = town.own(town.patient())
    town.running.put(
        f"/fhir/Patient/{patient}",
        {"resourceType": "Patient", "id": patient, "birthDate": "1980-01-01"},
        headers=town.receiver,
    )

    def said(words: Json) -> tuple[int, list[tuple[str, str]]]:
        return refusal(town, consent_made.consent(words, patient, when=ago(minutes=1)))

    assert said({"type": "deny", "to": ["sender"]})[0] == 403
    assert said({"type": "deny", "of": ["sender"]})[0] == 403
    assert said({"type": "deny"})[0] == 403
    assert said({"type": "deny", "of": ["receiver"]})[0] == 201
    assert said({"type": "deny", "to": ["receiver"]})[0] == 201


@pytest.mark.drivers("sqlite")
def test_what_cannot_be_kept_is_refused_with_its_element(town: Town) -> None:
    patient = town.own(town.patient())
    resource = consent_made.consent({"type": "permit", "to": ["receiver"]}, patient)
    resource["provision"]["dataPeriod"] = {"start": "2026-01-01"}
    status, issues = refusal(town, resource)
    assert status == 422
    assert ("consent", "Consent.provision.dataPeriod") in issues
    standing = consent_made.consent({"type": "permit", "to": ["receiver"]}, patient)
    assert ("consent-basis", "Consent.provision") in refusal(town, standing)[1]
    ahead = consent_made.consent({"type": "deny", "to": ["receiver"]}, patient, when=ago(days=-2))
    assert ("consent", "Consent.dateTime") in refusal(town, ahead)[1]
    foreign = town.visit(town.own(town.patient()))
    words = {"type": "permit", "to": ["receiver"], "encounter": foreign}
    issues = refusal(town, consent_made.consent(words, patient))[1]
    assert ("consent", "Consent.provision.data[0].reference") in issues


# -- withdrawal ------------------------------------------------------------------------------------


def bound(town: Town, results: int = 1, item: str = POTASSIUM) -> tuple[str, str, list[str], Json]:
    """A person in a visit with consent: (patient, own, results, Consent)."""
    patient = town.patient()
    observations = [town.result(patient, item, ago=2 + n, report="") for n in range(results)]
    own = town.own(patient)
    return patient, own, observations, town.permit(own, town.visit(own))


def test_062_a_consent_is_withdrawn_between_two_pages(town: Town) -> None:
    _, own, results, consent = bound(town, 3)
    address = f"/fhir/Observation?patient=Patient/{own}&_count=1&_sort=-date"
    page = town.running.get(address, headers=town.receiver).json()
    assert results[0].split("/")[1] in page["entry"][0]["fullUrl"]
    link = next(one["url"] for one in page["link"] if one["relation"] == "next")
    town.withdraw(consent)
    after = town.running.get(link.removeprefix(BASE), headers=town.receiver)
    assert not [name for name in results if name.split("/")[1] in after.text]


def work(town: Town) -> int:
    done = 0
    while town.running.run(work_once(town.gateway, WORKS)):
        done += 1
    return done


def test_062_a_consent_is_withdrawn_while_an_export_waits_or_lies_there(town: Town) -> None:
    _, own, (result,), consent = bound(town)
    later = {**town.receiver, "prefer": "respond-async"}
    place = town.running.get("/fhir/$export?_type=Observation", headers=later)
    assert place.status_code == 202, place.text
    job = place.headers["content-location"].removeprefix(BASE)
    assert work(town) == 1
    files = town.running.get(job, headers=town.receiver).json()["output"]
    addresses = [one["url"].removeprefix(BASE) for one in files]

    def lines() -> str:
        return "".join(town.running.get(one, headers=town.receiver).text for one in addresses)

    assert result.split("/")[1] in lines()
    town.withdraw(consent)
    assert result.split("/")[1] not in lines()
    # another request, that waits when the consent is given and withdrawn again
    again = town.permit(own, town.visit(own))
    place = town.running.get("/fhir/$export?_type=Observation", headers=later)
    town.withdraw(again)
    work(town)
    job = place.headers["content-location"].removeprefix(BASE)
    addresses = [
        one["url"].removeprefix(BASE)
        for one in town.running.get(job, headers=town.receiver).json()["output"]
    ]
    assert result.split("/")[1] not in lines()


@pytest.mark.drivers("sqlite")
def test_062_an_answer_that_was_kept_is_looked_at_again(town: Town) -> None:
    _, own, (result,), consent = bound(town)
    later = {**town.receiver, "prefer": "respond-async"}
    place = town.running.get(f"/fhir/Observation?patient=Patient/{own}", headers=later)
    job = place.headers["content-location"].removeprefix(BASE)
    work(town)
    assert result.split("/")[1] in town.running.get(job, headers=town.receiver).text
    town.withdraw(consent)
    refused = town.running.get(job, headers=town.receiver)
    assert (refused.status_code, refused.json()["issue"][0]["details"]["text"]) == (403, "consent")


@pytest.mark.drivers("sqlite")
def test_062_a_document_is_handed_out_as_long_as_the_consent_holds(town: Town) -> None:
    patient = town.patient()
    town.result(patient)
    own = town.own(patient)
    consent = town.permit(own, town.visit(own))
    answer = town.recognize(own, POTASSIUM)
    decision = next(one for one in answer["parameter"] if one["name"] == "decision")
    id = decision["valueReference"]["reference"].split("/")[1]
    accepted = town.operate(f"GuidanceResponse/{id}/$answer", [
        {"name": "outcome", "valueCode": "accepted"},
        {"name": "practitioner", "valueReference": {"display": "测试医生"}},
    ])  # fmt: skip
    assert accepted.status_code == 200, accepted.text
    task = re.search(r"Task/([A-Za-z0-9.\-]+)", accepted.text)
    assert task is not None
    address = f"/fhir/Task/{task[1]}/$document"
    assert town.running.get(address, headers=town.receiver).status_code == 200
    town.withdraw(consent)
    assert town.running.get(address, headers=town.receiver).status_code == 403


ACTS = ("permit", "deny", "withdraw", "visit", "leave", "delete")


@settings(max_examples=examples(4))
@given(st.lists(st.sampled_from(ACTS), min_size=1, max_size=7))
def test_062_whatever_is_said_in_whatever_order_the_next_read_follows(
    town: Town, acts: list[str]
) -> None:
    """A model of three lines beside the store: the last word, and whether there is a visit."""
    patient = town.patient()
    result = town.result(patient, report="")
    own = town.own(patient)
    visit, said = town.visit(own), list[tuple[bool, Json]]()
    visits = True
    for act in acts:
        if act == "permit":
            said.append((True, town.permit(own, visit)))
        elif act == "deny":
            said.append((False, town.consented(own, {"type": "deny", "to": ["receiver"]})))
        elif act == "withdraw" and said:
            town.withdraw(said.pop()[1])
        elif act == "delete" and said:
            address = f"/fhir/Consent/{said.pop()[1]['id']}"
            assert town.running.delete(address, headers=town.receiver).status_code in (200, 204)
        elif act in ("visit", "leave"):
            visits = act == "visit"
            town.running.put(f"/fhir/Encounter/{visit}", {
                "resourceType": "Encounter", "id": visit, "class": {"code": "AMB"},
                "status": "in-progress" if visits else "cancelled",
                "subject": {"reference": f"Patient/{own}"}, "period": {"start": ago(minutes=5)},
            }, headers=town.receiver)  # fmt: skip
        assert town.sees(result) == [visits and bool(said) and said[-1][0]], acts


# -- what is not told ------------------------------------------------------------------------------


def told(answer: Json) -> str:
    """An answer without ids and times."""
    text = json.dumps(answer, ensure_ascii=False, sort_keys=True)
    text = re.sub(r"[0-9a-hjkmnp-tv-z]{26}", "ID", text)
    return re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+(Z|\+08:00)", "TIME", text)


def test_nobody_nothing_hidden_and_denied_are_told_alike(town: Town) -> None:
    nothing = town.own(town.patient())
    hidden_of = town.patient()
    town.result(hidden_of)
    hidden = town.own(hidden_of)
    denied_of = town.patient()
    town.result(denied_of)
    denied = town.own(denied_of)
    town.visit(denied, asked=True)
    town.consented(denied, {"type": "deny", "to": ["receiver"]})
    sensitive_of = town.patient()
    town.result(sensitive_of, HIV, **SAID)
    sensitive = town.own(sensitive_of)
    town.permit(sensitive, town.visit(sensitive))
    people = [nothing, hidden, denied, sensitive, "01m80000000000000000000000"]
    answers = {told(town.recognize(one, POTASSIUM, HIV)) for one in people}
    assert len(answers) == 1, answers
    assert "none-available-to-you" in next(iter(answers))
    for query in ("$lastn?patient=Patient/{}", "?patient=Patient/{}"):
        searches = set()
        for one in people[:3]:
            answer = town.running.get(
                f"/fhir/Observation{query.format(one)}", headers=town.receiver
            )
            body = answer.json()
            assert not body.get("entry") or body["entry"][0]["search"]["mode"] != "match"
            searches.add(told(body))
        assert len(searches) == 1
    cards = {
        json.dumps(town.hook(one, town.observation(one, POTASSIUM)).json()) for one in people[:4]
    }
    assert len(cards) == 1


def test_063_a_sensitive_result_is_hidden_with_all_that_hints_at_it(town: Town) -> None:
    patient = town.patient()
    result = town.result(patient, HIV, **SAID)
    own = town.own(patient)
    visit = town.visit(own)
    town.permit(own, visit)
    asked = town.running.post("/fhir/ServiceRequest/$recognize", {
        "resourceType": "Parameters", "parameter": [
            {"name": "patient", "valueReference": {"reference": f"Patient/{patient}"}},
            {"name": "item", "valueCode": HIV}],
    }, headers=town.sender)  # fmt: skip
    assert asked.status_code == 200
    assert "none-available-to-you" in json.dumps(town.recognize(own, HIV))
    assert found(town, f"Observation?patient=Patient/{own}") == []
    assert found(town, f"DiagnosticReport?patient=Patient/{own}") == []
    assert found(town, f"Provenance?patient=Patient/{own}") == []
    theirs = next(one for one in asked.json()["parameter"] if one["name"] == "decision")
    decisions = found(town, f"GuidanceResponse?patient=Patient/{own}")
    assert theirs["valueReference"]["reference"] not in decisions
    assert len(decisions) == 1  # its own
    hidden = town.running.get(f"/fhir/Patient/{own}/$everything", headers=town.receiver).text
    assert result.split("/")[1] not in hidden
    assert HIV not in hidden
    town.permit(own, visit, classes=["hiv"])
    assert town.sees(result) == [True]
    assert found(town, f"DiagnosticReport?patient=Patient/{own}") != []


# -- orders ----------------------------------------------------------------------------------------


@pytest.mark.drivers("sqlite")
def test_an_order_is_a_relation_and_consent_counts_all_the_same(town: Town) -> None:
    patient = town.patient()
    result = town.result(patient)
    own = town.own(patient)
    order = town.observation(own, POTASSIUM)
    assert result not in town.hook(own, order).text
    agreed = {"extension": {CONSENT_OBTAINED: True}}
    assert town.hook(own, order, **agreed).json()["cards"]
    obtained = {"parameters": [{"name": "consentObtained", "valueBoolean": True}]}
    assert result in json.dumps(town.recognize(own, POTASSIUM, **obtained))
    assert town.sees(result) == [False]  # the order is a relation, and no Consent is on file
    given = {"type": "permit", "to": ["receiver"], "from": ago(days=2), "until": ago(days=-9)}
    town.consented(own, given)
    assert town.sees(result) == [True]  # without a visit: the decision opened the record
    town.consented(own, {"type": "deny", "to": ["receiver"]})
    assert result not in json.dumps(town.recognize(own, POTASSIUM, **obtained))


def test_a_decision_replays_whatever_was_withdrawn_since(town: Town) -> None:
    patient = town.patient()
    result = town.result(patient)
    own = town.own(patient)
    consent = town.permit(own, town.visit(own))
    before = town.recognize(own, POTASSIUM)
    assert result in json.dumps(before)
    town.withdraw(consent)
    after = town.recognize(own, POTASSIUM)
    assert result not in json.dumps(after)
    past = [{"name": "asOf", "valueDateTime": ago(seconds=-0.0)}]
    assert result not in json.dumps(town.recognize(own, POTASSIUM, parameters=past))
    for answer in (before, after):
        decision = next(one for one in answer["parameter"] if one["name"] == "decision")
        id = decision["valueReference"]["reference"].split("/")[1]
        replayed = town.running.run(replay_decision(town.gateway, GATEWAY, id))
        assert replayed.verdict == "agrees", replayed.differences


def audited(town: Town, patient: str) -> list[Any]:
    rows = town.running.run(_events(town, patient))
    return list(rows)


async def _events(town: Town, patient: str) -> list[Json]:
    async with town.gateway.store.snapshot(GATEWAY.access) as reader:
        stored = await reader.scan("AuditEvent", until_t=reader.t, limit=100_000)
    events = [json.loads(one.whole()) for one in stored]
    return [one for one in events if f"Patient/{patient}" in json.dumps(one)]


@pytest.mark.drivers("sqlite")
def test_the_legal_basis_stands_in_every_audit_event(town: Town) -> None:
    _, own, _, _ = bound(town)
    found(town, f"Observation?patient=Patient/{own}")
    reasons = [
        {coding["code"] for reason in one.get("purposeOfEvent", ()) for coding in reason["coding"]}
        for one in audited(town, own)
    ]
    assert reasons
    assert all({"TREAT", "opt-in-per-encounter"} <= one for one in reasons)
