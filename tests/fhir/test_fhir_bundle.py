"""Bundles out (joined bytes), envelopes in, and OperationOutcomes."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_gateway.errors import GatewayError, Issue, Unprocessable
from fhir_gateway.fhir.bundle import Answer, Change, Hit, history, response, searchset
from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.fhir.validate import BundleEntry, issues, read_bundle
from fhir_gateway.fhir.wire import parse, render

PATIENT = b'{"resourceType":"Patient","id":"p"}'
BASE = "http://gw.example.org/fhir"


def _bundle(*entries: Any, type: str = "transaction", **more: Any) -> bytes:
    return render({"resourceType": "Bundle", "type": type, **more, "entry": list(entries)})


def _post(url: str = "Patient", **more: Any) -> dict[str, Any]:
    return {"resource": parse(PATIENT), "request": {"method": "POST", "url": url}, **more}


def test_searchset_joins_matches_includes_and_links() -> None:
    found = parse(
        searchset(
            [Hit(f'{BASE}/Patient/"p', PATIENT), Hit("", operation_outcome([]), "outcome")],
            links=[("self", f"{BASE}/Patient?_count=1")],
            total=1,
            id="b",
            timestamp="2026-05-01T00:00:00.000Z",
        )
    )
    assert issues(found) == []
    assert (found["total"], found["link"][0]["relation"]) == (1, "self")
    assert found["entry"][0] == {
        "fullUrl": f'{BASE}/Patient/"p',
        "resource": parse(PATIENT),
        "search": {"mode": "match"},
    }
    assert found["entry"][1]["search"] == {"mode": "outcome"}


def test_empty_searchset_has_no_entry() -> None:
    assert searchset([], links=[], total=0) == (
        b'{"resourceType":"Bundle","type":"searchset","total":0}'
    )


def test_history_shows_changes_and_deletions() -> None:
    stamp = "2026-05-01T00:00:00.000Z"
    url = f"{BASE}/Patient/p"
    changes = [
        Change(url, None, "DELETE", "Patient/p", "204", 'W/"2"', stamp),
        Change(url, PATIENT, "POST", "Patient", "201", 'W/"1"', stamp),
    ]
    found = parse(history(changes, links=[("self", url)], total=2))
    assert issues(found) == []
    assert ["resource" in entry for entry in found["entry"]] == [False, True]
    assert found["entry"][1]["response"] == {
        "status": "201",
        "etag": 'W/"1"',
        "lastModified": stamp,
    }


def test_response_keeps_the_order_of_its_entries() -> None:
    outcome = operation_outcome([Issue("not-found", "No such Patient", "Patient")])
    answers = [
        Answer("201", location="Patient/p/_history/1"),
        Answer("404", outcome=outcome),
        Answer("200", resource=PATIENT),
    ]
    found = parse(response("batch-response", answers))
    assert issues(found) == []
    assert [entry["response"]["status"] for entry in found["entry"]] == ["201", "404", "200"]
    assert found["entry"][1]["response"]["outcome"]["issue"][0]["code"] == "not-found"


def test_operation_outcome_carries_rule_and_expression() -> None:
    found = parse(operation_outcome([Issue("value", "Say it", "Patient.birthDate", "date")]))
    assert issues(found) == []
    assert found["issue"] == [
        {
            "severity": "error",
            "code": "value",
            "details": {"text": "date"},
            "diagnostics": "Say it",
            "expression": ["Patient.birthDate"],
        }
    ]


def test_outcome_without_issues_says_that_all_is_well() -> None:
    assert issues(parse(operation_outcome([]))) == []


def test_envelope_leaves_resources_as_they_came() -> None:
    odd = b'{"resourceType":"Patient","x":7.10,"x":1e2}'
    raw = (
        b'{"resourceType":"Bundle","type":"transaction","entry":[{"fullUrl":"urn:uuid:0",'
        b'"resource":%b,"request":{"method":"PUT","url":"Patient/p","ifMatch":"W/\\"1\\""}}]}' % odd
    )
    assert read_bundle(raw).entries == [
        BundleEntry("urn:uuid:0", "PUT", "Patient/p", odd, if_match='W/"1"')
    ]


@pytest.mark.parametrize(
    "more",
    [
        {"link": [{"relation": "self", "url": BASE}]},
        {"meta": {"profile": ["http://example.org/profile"]}},
        {"id": "b", "timestamp": "2026-05-01T00:00:00Z"},
        {"identifier": {"value": "转诊"}},
    ],
)
def test_envelope_reads_the_same_with_more_elements(more: dict[str, Any]) -> None:
    entries = read_bundle(_bundle(_post(), **more)).entries
    assert entries == [BundleEntry(None, "POST", "Patient", PATIENT)]


def test_collection_needs_no_requests() -> None:
    raw = _bundle({"fullUrl": "urn:uuid:0", "resource": parse(PATIENT)}, type="collection")
    assert read_bundle(raw).entries == [BundleEntry("urn:uuid:0", None, None, PATIENT)]


def test_operation_in_a_batch_needs_no_resource() -> None:
    raw = _bundle(
        {"request": {"method": "POST", "url": "ServiceRequest/1/$recognize"}}, type="batch"
    )
    assert read_bundle(raw).entries[0].resource_raw is None


@pytest.mark.parametrize(
    ("raw", "expression", "rule"),
    [
        (_bundle({"resource": {"resourceType": "Patient"}}), "Bundle.entry[0].request", "bdl-3"),
        (_bundle({}), "Bundle.entry[0].request", "bdl-3"),
        (_bundle(None), "Bundle.entry[0]", "type"),
        (_bundle(), "Bundle.entry", "empty"),
        (_bundle(_post(), type="heap"), "Bundle.type", "required-binding"),
        (
            _bundle({"request": {"method": "POST", "url": "Patient"}}),
            "Bundle.entry[0].resource",
            "cardinality",
        ),
        (
            _bundle({"request": {"method": "STEAL", "url": "Patient"}}),
            "Bundle.entry[0].request.method",
            "required-binding",
        ),
        (
            _bundle(_post(fullUrl="urn:uuid:0"), _post(fullUrl="urn:uuid:0")),
            "Bundle.entry[1].fullUrl",
            "bdl-7",
        ),
        (_bundle(_post(colour=1)), "Bundle.entry[0].colour", "unknown-element"),
        (render({"resourceType": "Patient"}), "Bundle", "resource-type"),
        (
            b'{"resourceType":"Bundle","type":"batch","type":"transaction"}',
            None,
            "duplicate-key",
        ),
        (
            b'{"resourceType":"Bundle","type":"batch","entry":[{"request":'
            b'{"method":"GET","url":"Patient/1","url":"Patient/2"}}]}',
            None,
            "duplicate-key",
        ),
        (b'{"resourceType":"Bundle","type":"batch","entry":' + b"[" * 100_000, None, "depth"),
    ],
)
def test_broken_envelope_is_refused_with_path_and_rule(
    raw: bytes, expression: str | None, rule: str
) -> None:
    with pytest.raises(GatewayError) as refusal:
        read_bundle(raw)
    assert [(i.expression, i.rule) for i in refusal.value.issues] == [(expression, rule)]


def test_all_issues_of_an_envelope_are_listed() -> None:
    with pytest.raises(Unprocessable) as refusal:
        read_bundle(_bundle(*[{"resource": {"resourceType": "Patient"}}] * 150))
    assert len(refusal.value.issues) == 100
