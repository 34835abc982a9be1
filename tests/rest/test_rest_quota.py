"""Quotas at the doors: what is told, what is refused, and that no order waits for them."""

from __future__ import annotations

import logging
import re

import pytest
from rest_samples import patient

from fhir_gateway.rest.exchange import Exchange
from fhir_gateway.rest.quota import kind_of
from fhir_gateway.rest.routes import TABLE, route
from fhir_gateway.security.quotas import KINDS, load_quotas

TOML = """
[costs]
{costs}
"$everything" = 4
[budgets.institution]
burst = {burst}
per_second = 0.001
misses = {misses}
misses_per_second = 0.001
[budgets.address]
burst = 10
per_second = 1
misses = 3
misses_per_second = 0.001
"""


@pytest.fixture
def limited(start, tmp_path):
    """Starts a gateway with small budgets; its institution's headers beside it."""

    def started(*, burst: int = 1_000, misses: int = 1_000, **chosen):
        file = tmp_path / "quotas.toml"
        costs = "\n".join(f"{kind} = 1" for kind in KINDS)
        file.write_text(TOML.format(costs=costs, burst=burst, misses=misses), "utf-8")
        server = start(quotas=str(file), **chosen)
        return server, server.institution("h1")

    return started


def rule_of(answer) -> str:
    return answer.json()["issue"][0]["details"]["text"]


@pytest.mark.drivers("sqlite")
def test_what_is_left_is_told_and_what_is_over_is_refused(limited) -> None:
    server, headers = limited(burst=5)
    left = []
    for _ in range(5):
        answer = server.get("/fhir/Patient?name=x", headers=headers)
        left.append(re.fullmatch(r'"points";r=(\d+);t=(\d+)', answer.headers["ratelimit"])[1])
        assert answer.headers["ratelimit-policy"] == '"points";q=5;w=5000'
    assert left == ["4", "3", "2", "1", "0"]
    answer = server.get("/fhir/Patient?name=x", headers=headers)
    assert (answer.status_code, rule_of(answer)) == (429, "quota")
    assert 900 < int(answer.headers["retry-after"]) <= 1_000
    other = server.institution("h2")
    assert server.get("/fhir/Patient?name=x", headers=other).status_code == 200
    assert server.get("/fhir/metadata", headers=headers).status_code == 200
    figures = server.gateway.count.__self__.page().decode()
    assert 'fhir_gateway_events_total{event="quota_refusals"} 1.0' in figures
    assert 'fhir_gateway_events_total{event="quota_alarms"} 1.0' in figures


@pytest.mark.drivers("sqlite")
def test_a_hook_is_never_refused_by_a_quota(limited, caplog) -> None:
    server, headers = limited(burst=1)
    orders = {"resourceType": "Bundle", "type": "collection"}
    call = {
        "hook": "order-sign",
        "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {"userId": "Practitioner/1", "patientId": "p", "draftOrders": orders},
    }
    service = server.get("/cds-services").json()["services"]
    signing = next(one["id"] for one in service if one["hook"] == "order-sign")
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            answer = server.request(
                "POST", f"/cds-services/{signing}", json=call,
                headers={**headers, "content-type": "application/json"},
            )  # fmt: skip
            assert answer.status_code in (200, 400, 422), answer.text
        for _ in range(3):
            answer = server.post("/fhir/ServiceRequest/$recognize", {}, headers=headers)
            assert answer.status_code != 429
    alarms = [one.getMessage() for one in caplog.records if '"event": "alarm"' in one.getMessage()]
    assert len(alarms) == 1
    assert '"rule": "quota"' in alarms[0]
    answer = server.get("/fhir/Patient?name=x", headers=headers)
    assert (answer.status_code, rule_of(answer)) == (429, "quota")


@pytest.mark.drivers("sqlite")
def test_059_guessing_numbers_of_persons_ends_and_is_an_alarm(limited, caplog) -> None:
    server, headers = limited(misses=10)
    known = patient(identifier=[{"system": "urn:x", "value": "CANARY-1"}])
    assert server.post("/fhir/Patient", known, headers=headers).status_code == 201
    asked = [
        "/fhir/Patient?identifier=urn:x|CANARY-{0}",
        "/fhir/Patient/guess-{0}",
        "/fhir/Patient?name=nobody{0}",
        "/fhir/Patient/guess-{0}/_history",
    ]
    statuses = []
    with caplog.at_level(logging.WARNING):
        for number in range(2, 16):
            found = server.get("/fhir/Patient?identifier=urn:x|CANARY-1", headers=headers)
            answer = server.get(asked[number % 4].format(number), headers=headers)
            statuses.append((found.status_code, answer.status_code))
    assert {first for first, _ in statuses[:10]} == {200}  # what is there costs no miss
    assert set(statuses[10:]) == {(429, 429)}
    alarms = [one.getMessage() for one in caplog.records if '"event": "alarm"' in one.getMessage()]
    assert len(alarms) == 1
    assert "quota-misses" in alarms[0]
    assert "CANARY" not in alarms[0]
    assert server.post("/fhir/Patient", patient(), headers=headers).status_code == 201


@pytest.mark.drivers("sqlite")
def test_044_unknown_credentials_lock_out_nobody_who_has_one(limited) -> None:
    server, headers = limited()
    bad = {"authorization": "Bearer fgw_nonsense"}
    statuses = [server.get("/fhir/Patient?name=x", headers=bad).status_code for _ in range(6)]
    assert statuses == [401, 401, 429, 429, 429, 429]
    refused = server.get("/fhir/Patient?name=x", headers=bad)
    assert rule_of(refused) == "quota-credentials"
    assert int(refused.headers["retry-after"]) > 100
    assert server.get("/fhir/Patient?name=x", headers=headers).status_code == 200
    answer = server.request("POST", "/cds-services/none", headers=bad, content=b"{}")
    assert answer.status_code in (401, 404)


@pytest.mark.drivers("sqlite")
def test_a_large_bundle_costs_more(limited) -> None:
    server, headers = limited(burst=100)
    entry = {"resource": patient(), "request": {"method": "POST", "url": "Patient"}}
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": [entry] * 30}
    size = len(server.http.build_request("POST", "/fhir", json=bundle).content)
    answer = server.post("/fhir", bundle, headers=headers)
    assert answer.status_code == 200
    assert f"r={99 - size // 100};" in answer.headers["ratelimit"]


def test_every_route_has_a_kind_with_a_price() -> None:
    from pathlib import Path

    tariff = load_quotas(Path(__file__).parents[2] / "profiles" / "access" / "quotas.toml")
    for path, methods in TABLE.items():
        for method in methods:
            exchange = Exchange({}, None, method, {})
            route(exchange, path.replace("{operation}", "$everything"))
            kind = kind_of(exchange)
            assert kind in tariff.costs, (method, path)
            if method != "GET" and "_search" not in path and not exchange.operation:
                assert kind in ("create", "update", "patch", "delete", "bundle", "job"), path
