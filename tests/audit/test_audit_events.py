"""AuditEvents are valid R4, say what BALP asks, and never carry what identifies a person."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from effort import examples
from fhir.resources.R4B.auditevent import AuditEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.audit import events
from fhir_gateway.audit.query import masked
from fhir_gateway.fhir.validate import issues
from fhir_gateway.fhir.wire import splice, tail

CALL = events.Call(
    recorded_us=1_763_762_062_123_000,
    actor_name='示范市第二医院 "LIS"',
    institution="demo-second",
    request_id="req-1",
    purpose="TREAT",
    address="192.0.2.7",
)
BARE = events.Call(1_763_762_062_123_000, "gateway")
PERSON = CALL._replace(user="Practitioner/d1")
TOKEN = PERSON._replace(client="his-2", token="jti 7f1", basis="opt-in-per-encounter")
BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."

ALL = {
    "read": events.read_event(CALL, type="Observation", id="o1", version=2, patient="p1"),
    "read of nobody": events.read_event(BARE, type="CodeSystem", id="c1"),
    "vread": events.read_event(PERSON, type="Patient", id="p1", version=1, interaction="vread"),
    "history": events.read_event(CALL, type="Patient", id="p1", interaction="history-instance"),
    "search": events.search_event(CALL, query="Observation?code=1", patient="p1", count=3),
    "search of nobody": events.search_event(BARE, query="Organization?name=~1"),
    "create": events.create_event(CALL, type="Observation", id="o1", patient="p1"),
    "update": events.update_event(PERSON, type="Observation", id="o1", version=2, patient="p1"),
    "patch": events.update_event(CALL, type="Basic", id="b", version=2, interaction="patch"),
    "delete": events.delete_event(CALL, type="Observation", id="o1", patient="p1"),
    "transaction": events.transaction_event(
        CALL, resources=["Observation/o1/_history/1"], patients=["p1"], summary="1 created"
    ),
    "empty batch": events.transaction_event(BARE, resources=[], interaction="batch"),
    "refusal": events.refusal_event(
        CALL, interaction="update", status=412, code="conflict", target="Observation/o1"
    ),
    "refusal of ours": events.refusal_event(
        BARE, interaction="search-type", status=500, code="exception", query="Observation?x=1"
    ),
    "receive": events.receive_event(
        CALL, media="application/hl7-v2", digest=bytes(32), message="S2-1", patients=["p1"],
        resources=["Observation/o1/_history/1"], summary="Observation 1",
    ),
    "receive refused": events.receive_event(
        BARE, media="application/dicom", digest=bytes(32), outcome="4", summary="no-patient"
    ),
    "decision": events.decision_event(
        PERSON, id="g1", patient="p1", operation="order-sign", summary="recognize 3",
        resources=["Observation/o1/_history/1"],
    ),
    "answer": events.answer_event(
        PERSON, id="g1", patient="p1", operation="$answer", summary="repeated N1"
    ),
    "document": events.document_event(
        PERSON, id="t1", patient="p1", operation="$document", resources=["Observation/o1"]
    ),
    "disclosure": events.disclosure_event(
        CALL, operation="$export", file="j1/0000-Patient.ndjson", details=[("lines", "3")],
        query="Patient/$export", summary="3 persons",
    ),
    "disclosure of one": events.disclosure_event(
        TOKEN, operation="$export", file="j1/1", patient="p1", resources=["Observation/o1"]
    ),
    "login": events.login_event(TOKEN, said="system/*.rs"),
    "login refused": events.login_event(BARE, outcome="4", said="invalid_client"),
    "break-glass": events.emergency_event(
        TOKEN, patient="p1", reason="unconscious", until="2025-11-21T22:54:22Z",
        resources=["Encounter/e1"],
    ),
    "policy": events.administration_event(
        BARE._replace(user="示例操作员"), act="policy", summary="1 changed",
        details=[("basis", "opt-out")], resources=["Organization/demo-second"],
    ),
    "credential": events.credential_event(BARE, institution="demo-second", issued=True),
}  # fmt: skip


def whole(tail: bytes) -> dict[str, Any]:
    return json.loads(splice("AuditEvent", "a1", 1, CALL.recorded_us, tail))


@pytest.mark.parametrize("name", ALL)
def test_every_event_is_a_valid_r4_audit_event(name: str) -> None:
    event = whole(ALL[name])
    assert issues(event) == []
    AuditEvent.model_validate(event)


@pytest.mark.parametrize("name", ALL)
def test_an_event_is_already_in_the_form_that_the_store_keeps(name: str) -> None:
    assert tail(whole(ALL[name])) == ALL[name]


@pytest.mark.parametrize("name", ALL)
def test_every_event_has_one_initiator_and_an_observer(name: str) -> None:
    event = whole(ALL[name])
    assert [agent["requestor"] for agent in event["agent"]].count(True) == 1
    assert event["source"]["observer"] == {"display": "fhir-gateway"}
    assert event["recorded"] == "2025-11-21T21:54:22.123Z"


def test_a_read_is_written_as_in_the_pattern() -> None:
    expected = json.loads((Path(__file__).parent / "balp-patient-read.json").read_text("utf-8"))
    event = whole(ALL["read"])
    del event["meta"]["versionId"], event["meta"]["lastUpdated"], event["id"]
    assert event == expected


@pytest.mark.parametrize(
    ("name", "profiles"),
    [
        ("read", ["PatientRead"]),
        ("vread", ["Read"]),
        ("search", ["PatientQuery"]),
        ("create", ["PatientCreate"]),
        ("update", ["PatientUpdate"]),
        ("patch", ["Update"]),
        ("delete", ["PatientDelete"]),
        ("read of nobody", []),  # the client's address is not known
        ("document", ["PrivacyDisclosure.Source"]),
        ("disclosure of one", ["PrivacyDisclosure.Source"]),
        ("disclosure", []),  # of more than one patient, whom the ledger names
        ("transaction", []),  # no such pattern
        ("refusal", []),  # the patterns are for successes
    ],
)
def test_a_profile_is_claimed_only_where_it_is_met(name: str, profiles: list[str]) -> None:
    claimed = whole(ALL[name])["meta"].get("profile", [])
    assert claimed == [BALP + profile for profile in profiles]


@pytest.mark.parametrize(
    ("name", "action", "outcome"),
    [
        ("read", "R", "0"),
        ("history", "R", "0"),
        ("search", "E", "0"),
        ("create", "C", "0"),
        ("patch", "U", "0"),
        ("delete", "D", "0"),
        ("refusal", "U", "4"),
        ("refusal of ours", "E", "8"),
        ("receive", "C", "0"),
        ("receive refused", "C", "4"),
        ("decision", "E", "0"),
        ("document", "R", "0"),
        ("disclosure", "R", "0"),
        ("login", "E", "0"),
        ("login refused", "E", "4"),
        ("break-glass", "E", "0"),
        ("policy", "E", "0"),
    ],
)
def test_action_and_outcome_follow_the_act(name: str, action: str, outcome: str) -> None:
    event = whole(ALL[name])
    assert (event["action"], event["outcome"]) == (action, outcome)


def test_a_search_keeps_its_query_in_base64_and_its_count() -> None:
    event = whole(ALL["search"])
    query = next(entity for entity in event["entity"] if "query" in entity)
    assert base64.b64decode(query["query"]) == b"Observation?code=1"
    assert query["role"]["code"] == "24"
    assert event["outcomeDesc"] == "3 resources in the answer"


def test_the_person_at_the_workstation_is_the_initiator() -> None:
    agents = whole(ALL["decision"])["agent"]
    assert [(a["who"].get("reference"), a["requestor"]) for a in agents] == [
        ("Organization/demo-second", False),
        ("Practitioner/d1", True),
        (None, False),
    ]


def test_the_credential_is_named_with_who_used_it() -> None:
    event = whole(ALL["break-glass"])
    client, person, _ = event["agent"]
    assert client["who"]["identifier"] == {"value": "his-2"}
    assert client["altId"] == "his-2"
    assert person["policy"] == ["jti_7f1"]
    assert person["purposeOfUse"][0]["coding"][0]["code"] == "TREAT"
    assert [one["coding"][0]["code"] for one in event["purposeOfEvent"]] == [
        "TREAT", "opt-in-per-encounter",
    ]  # fmt: skip


def test_an_event_belongs_to_the_institution_that_acted() -> None:
    assert ALL["read"].institution == "demo-second"
    assert ALL["read of nobody"].institution == ""


def test_an_answer_that_names_results_is_a_disclosure() -> None:
    kinds = [one.get("code") for one in whole(ALL["decision"])["subtype"]]
    assert kinds == ["operation", None, "disclose"]
    silent = events.decision_event(CALL, id="g", patient="p", operation="order-sign")
    assert [one.get("code") for one in whole(silent)["subtype"]] == ["operation", None]


@settings(max_examples=examples(80), deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",))), st.text(max_size=20))
def test_no_name_or_id_breaks_out_of_its_string(name: str, id: str) -> None:
    hostile = id.encode("utf-8", "ignore").decode()
    call = CALL._replace(
        actor_name=name, request_id=hostile, user=name, purpose=hostile, client=hostile,
        token=hostile, basis=hostile,
    )  # fmt: skip
    event = whole(events.search_event(call, query=name, patient=hostile or None))
    plain = "".join(" " if one < " " or one == "\x7f" else one for one in name)
    assert event["agent"][0]["who"]["display"] == plain


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("Observation?patient=p1&code=http://loinc.org|2823-3", True),
        ("Patient?identifier=urn:oid:1.2|119900195803120010", False),
        ("Patient?name:exact=张示一", False),
        ("Observation?subject:Patient.identifier=119900195803120010", False),
        ("Observation?patient.name=zhang&status=final", False),
        ("phone=13900000000", False),
        ("Patient?_id=p1&_count=5", True),
        ("Patient?nonsense=12345678901234567890", True),  # longer than any number of a person
        ("Patient?nonsense=110101199003078515", False),
        ("Patient?x=13900000000", False),
        ("Observation?value-quantity=gt7.77", False),
        ("Observation?code-value-quantity=2823-3$7.77", False),
    ],
)
def test_a_masked_query_hides_whom_it_names_and_nothing_else(query: str, kept: bool) -> None:
    shown = masked(query, b"key")
    assert (shown == query) is kept
    for secret in ("119900195803120010", "张示一", "zhang", "13900000000"):
        assert secret not in shown
    assert shown.partition("=")[0] == query.partition("=")[0]


def test_the_same_value_has_the_same_pseudonym_under_one_key_only() -> None:
    first, again = masked("Patient?name=a", b"k"), masked("Observation?patient.name=a", b"k")
    assert first.partition("~")[2] == again.partition("~")[2]
    assert masked("Patient?name=a", b"other") != first
