"""Bad input: a clear OperationOutcome that names the element, nothing stored, never a 5xx."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rest_samples import patient

CASES = json.loads(Path(__file__).with_name("bad-bodies.json").read_text())["cases"]


def _post(client, type, body):
    return client.request(
        "POST",
        f"/fhir/{type}",
        content=body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass"),
        headers={"content-type": "application/fhir+json"},
    )


async def _counts(gateway):
    from fhir_gateway.security.actor import SYSTEM_ACCESS

    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        counts = await reader.counts()
    return {type: count for type, count in counts.items() if type != "AuditEvent"}


@pytest.mark.parametrize(("name", "type", "body", "status", "rule", "expression"), CASES)
def test_bad_body(client, name, type, body, status, rule, expression):
    before = client.run(_counts(client.gateway))
    answer = _post(client, type, body)
    outcome = answer.json()
    assert (answer.status_code, outcome["resourceType"]) == (status, "OperationOutcome")
    issues = outcome["issue"]
    assert all(issue["severity"] == "error" and issue["diagnostics"] for issue in issues)
    if rule:
        assert rule in [issue["details"]["text"] for issue in issues]
    if expression:
        assert expression in [issue["expression"][0] for issue in issues]
    assert client.run(_counts(client.gateway)) == before


def test_all_faults_of_a_resource_are_told_at_once(client):
    answer = client.post(
        "/fhir/Patient", {"resourceType": "Patient", "gender": "x", "birthDate": "y", "zzz": 1}
    )
    told = {issue["expression"][0] for issue in answer.json()["issue"]}
    assert told == {"Patient.gender", "Patient.birthDate", "Patient.zzz"}


@pytest.mark.parametrize("depth", [65, 100, 5_000, 100_000])
def test_nesting_without_end_is_refused_and_the_process_lives(client, depth):
    body = '{"resourceType":"Patient","extension":' + "[" * depth + "]" * depth + "}"
    assert _post(client, "Patient", body).status_code == 400
    assert client.get("/healthz").status_code == 200


def test_a_number_of_5000_digits_is_refused(client):
    body = '{"resourceType":"Patient","multipleBirthInteger":' + "1" * 5_000 + "}"
    assert _post(client, "Patient", body).status_code == 400


@pytest.mark.parametrize(
    "raw",
    [
        b'{"resourceType":"Patient","name":[{"text":"\xff\xfe"}]}',
        '{"resourceType":"Patient","name":[{"text":"王"}]}'.encode("gb18030"),
        '{"resourceType":"Patient","name":[{"text":"王"}]}'.encode("utf-16"),
        b'{"resourceType":"Patient","name":[{"text":"\xc0\xaf"}]}',
        b'{"resourceType":"Patient","name":[{"text":"\\ud800"}]}',
    ],
    ids=["bytes", "gb18030", "utf-16", "overlong", "lone surrogate"],
)
def test_what_is_not_utf8_is_refused(client, raw):
    assert _post(client, "Patient", raw).status_code == 400


def test_a_byte_order_mark_is_tolerated(client):
    assert _post(client, "Patient", b"\xef\xbb\xbf" + json.dumps(patient()).encode()).is_success


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_the_body_limit_is_exact(start, over):
    server = start(open_access=True, body_limit=1_000)
    body = json.dumps(patient()).encode()
    body += b" " * (1_000 + over - len(body))
    answer = server.request(
        "POST",
        "/fhir/Patient",
        content=body,
        headers={"content-type": "application/fhir+json"},
    )
    assert answer.status_code == (413 if over > 0 else 201)


def test_a_streamed_body_over_the_limit_is_refused(start):
    server = start(open_access=True, body_limit=1_000)

    async def pieces():
        for _ in range(50):
            yield b" " * 100

    answer = server.request(
        "POST",
        "/fhir/Patient",
        content=pieces(),
        headers={"content-type": "application/fhir+json"},
    )
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("patinet=Patient/1", 400),
        ("name:wrong=x", 400),
        ("birthdate=2026-99", 400),
        ("birthdate=xx2026", 400),
        ("_sort=nonsense", 400),
        ("_count=-1", 400),
        ("_count=x", 400),
        ("_include=Nonsense:x", 400),
        ("_total=perhaps", 400),
        ("_summary=perhaps", 400),
        ("name=%00", 400),
        ("name=%ff", 400),
        ("_cursor=AAAA", 400),
        ("_page=zzzz", 400),
        ("=x", 400),
        ("_id=no_id", 400),
    ],
)
def test_bad_query(client, query, status):
    answer = client.get(f"/fhir/Patient?{query}")
    assert (answer.status_code, answer.json()["resourceType"]) == (status, "OperationOutcome")


def test_an_unknown_parameter_is_dropped_only_when_the_caller_is_lenient(client):
    answer = client.get("/fhir/Patient?patinet=1&_count=3", headers={"prefer": "handling=lenient"})
    assert answer.status_code == 200
    assert answer.json()["link"][0]["url"] == "http://127.0.0.1/fhir/Patient?_count=3"


def test_a_search_bomb_is_refused_before_it_runs(client):
    query = "code=" + ",".join(str(number) for number in range(10_000))
    answer = client.get(f"/fhir/Observation?{query}")
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["code"] == "too-costly"


def test_reads_refuse_parameters_that_they_would_ignore(client):
    assert client.get("/fhir/Patient/1?_count=1").status_code == 400


def test_an_unexpected_fault_tells_the_request_id_and_nothing_else(client, monkeypatch):
    async def fail(*_args, **_kwargs):
        raise RuntimeError("secret 王小明")

    monkeypatch.setattr("fhir_gateway.rest.handlers.read", fail)
    answer = client.get("/fhir/Patient/1", headers={"x-request-id": "abc"})
    assert answer.status_code == 500
    assert answer.json() == {
        "resourceType": "OperationOutcome",
        "issue": [
            {
                "severity": "error",
                "code": "exception",
                "diagnostics": "Internal error. Request id: abc",
            }
        ],
    }
