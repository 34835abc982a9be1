"""Calls: discovery, every fault at once, credentials, CORS, and that no order ever waits."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest
from city import DOCUMENT, POTASSIUM, UUID, City, Json, order
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.cds_hooks import routes
from fhir_gateway.errors import Unavailable
from fhir_gateway.store.changes import ChangeSet

SIGN, SELECT = "recognition-order-sign", "recognition-order-select"


def body_of(patient: str, **changes: Any) -> Json:
    context = {
        "userId": "Practitioner/example",
        "patientId": patient,
        "draftOrders": {"resourceType": "Bundle", "entry": [{"resource": order(patient)}]},
    }
    return {"hook": "order-sign", "hookInstance": UUID, "context": context, **changes}


def test_discovery_lists_the_services_without_a_credential(city: City) -> None:
    answer = city.running.get("/cds-services")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")
    services = {one["id"]: one for one in answer.json()["services"]}
    assert {id: one["hook"] for id, one in services.items()} == {
        SELECT: "order-select",
        SIGN: "order-sign",
        "recognition-patient-view": "patient-view",
        "recognition-appointment-book": "appointment-book",
    }
    head = city.running.request("HEAD", "/cds-services")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(answer.content))
    refused = city.running.request("DELETE", "/cds-services")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


#: What every client of CDS Hooks 2.0 must be able to fill in ("Prefetch Template").
LEGAL = re.compile(
    r"[A-Z][A-Za-z]+/\{\{context\.(patientId|encounterId)\}\}"
    r"|[A-Z][A-Za-z]+\?patient=\{\{context\.patientId\}\}(&[a-z\-]+=[a-z]+)*(&_count=[0-9]+)?"
)


def test_discovery_has_the_shape_of_the_standard(city: City) -> None:
    (document,) = [city.running.get("/cds-services").json()]
    assert set(document) == {"services"}
    for service in document["services"]:
        assert set(service) <= {
            "hook", "id", "title", "description", "prefetch", "usageRequirements"
        }  # fmt: skip
        assert all(
            isinstance(service[name], str) and service[name]
            for name in service.keys() - {"prefetch"}
        )
        assert re.fullmatch(r"[A-Za-z0-9\-.]{1,64}", service["id"])
        assert "patient" in service["prefetch"]
        for key, template in service["prefetch"].items():
            assert LEGAL.fullmatch(template), (key, template)


def test_pages_of_listed_origins_may_call(start: Callable[..., Any]) -> None:
    one = start(allowed_origins="https://his.example.org")
    asked = {"access-control-request-method": "POST"}
    for origin, may in (("https://his.example.org", True), ("https://evil.example", False)):
        headers = {"origin": origin, **asked}
        preflight = one.request("OPTIONS", f"/cds-services/{SIGN}", headers=headers)
        assert preflight.status_code == 204
        assert "authorization" in preflight.headers["access-control-allow-headers"]
        assert "POST" in preflight.headers["access-control-allow-methods"]
        refused = one.request("POST", f"/cds-services/{SIGN}", headers={"origin": origin})
        assert refused.status_code == 401
        for answer in (preflight, refused):
            expected = origin if may else None
            assert answer.headers.get("access-control-allow-origin") == expected
            assert "access-control-allow-credentials" not in answer.headers
            assert answer.headers["vary"] == "origin"
    found = one.get("/cds-services", headers={"origin": "https://evil.example"})
    assert found.headers["access-control-allow-origin"] == "*"  # says only what exists


def test_links_lead_where_a_trusted_proxy_says(start: Callable[..., Any]) -> None:
    forwarded = {"x-forwarded-host": "gw.example", "x-forwarded-proto": "https"}
    for proxies, base in (("127.0.0.1/32", "https://gw.example"), ("", "http://127.0.0.1")):
        one = start(name=f"proxy{len(proxies)}", trusted_proxies=proxies, open_access=True)
        town = City(one)
        patient = town.patient()
        town.result(patient)
        (card,) = town.hook(patient, order(patient), headers={**town.receiver, **forwarded}).json()[
            "cards"
        ]
        assert card["links"][0]["url"].startswith(f"{base}/fhir/DiagnosticReport/")


def test_every_call_needs_a_credential(city: City) -> None:
    for path in (SIGN, f"{SIGN}/feedback"):
        answer = city.send(path, {}, headers={"authorization": "Bearer nobody"})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_an_unknown_service_is_not_found(city: City) -> None:
    answer = city.send("no-such-service", body_of("x"))
    assert answer.status_code == 404
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_a_hook_is_called_with_post_and_json(city: City) -> None:
    assert city.running.get(f"/cds-services/{SIGN}", headers=city.receiver).status_code == 405
    headers = {**city.receiver, "content-type": "text/plain"}
    answer = city.running.request("POST", f"/cds-services/{SIGN}", content=b"{}", headers=headers)
    assert answer.status_code == 415


def issues_of(answer: Any) -> list[str]:
    assert answer.status_code == 400, answer.text
    return [issue["expression"][0] for issue in answer.json()["issue"]]


def test_all_faults_of_a_call_are_told_at_once(city: City) -> None:
    answer = city.send(
        SIGN,
        {
            "hook": "patient-view",
            "hookInstance": "1",
            "fhirAuthorization": {"access_token": "secret\r\nhost: x", "token_type": "Basic"},
            "prefetch": {"patient": {"resourceType": "Person"}, "conditions": []},
            "context": {
                "userId": "a person",
                "patientId": "",
                "draftOrders": {
                    "resourceType": "Bundle",
                    "entry": [
                        {},
                        {"resource": {"resourceType": "ServiceRequest"}},
                        {"resource": {"id": "b"}},
                        {"resource": order("other", id="a")},
                        {"resource": order("other", id="a")},
                        5,
                    ],
                },
            },
        },
    )
    assert issues_of(answer) == [
        "hook",
        "hookInstance",
        "fhirServer",
        "fhirAuthorization.access_token",
        "fhirAuthorization.token_type",
        "context.userId",
        "context.patientId",
        "context.draftOrders.entry[0].resource",
        "context.draftOrders.entry[1].resource.id",
        "context.draftOrders.entry[2].resource.resourceType",
        "context.draftOrders.entry[4]",
        "context.draftOrders.entry[5]",
        "context.draftOrders.entry[3].resource.subject.reference",
        "context.draftOrders.entry[4].resource.subject.reference",
        "prefetch.patient",
        "prefetch.conditions",
    ]
    assert "secret" not in answer.text


def test_what_is_missing_is_named(city: City) -> None:
    assert issues_of(city.send(SIGN, {})) == ["hook", "hookInstance", "context"]
    body = {"hook": "order-sign", "hookInstance": UUID, "context": {"x": 1}}
    assert issues_of(city.send(SIGN, body)) == [
        "context.userId",
        "context.patientId",
        "context.draftOrders",
    ]


def test_selections_must_name_draft_orders(city: City) -> None:
    body = body_of("x", hook="order-select")
    assert issues_of(city.send(SELECT, body)) == ["context.selections"]
    body["context"]["selections"] = ["ServiceRequest/other", 5]
    assert issues_of(city.send(SELECT, body)) == [
        "context.selections[0]",
        "context.selections[1]",
    ]


def test_wrong_types_inside_an_order_are_told_by_element(city: City) -> None:
    patient = city.patient()
    broken = order(patient, code={"coding": {"code": "K"}}, priority=None)
    answer = city.hook(patient, broken, order(patient, id="b", reasonCode="x"))
    assert issues_of(answer) == [
        "context.draftOrders.entry[0].resource.code.coding",
        "context.draftOrders.entry[1].resource.reasonCode",
    ]


def test_too_many_orders_are_refused(city: City) -> None:
    orders = [order("x", id=f"o{number}") for number in range(201)]
    assert city.hook("x", *orders).status_code == 413


def test_a_call_that_is_too_long_is_refused(city: City) -> None:
    body = b'{"hook": "order-sign", "x": "' + b"x" * routes.MOST_BYTES + b'"}'
    answer = city.send(SIGN, body)
    assert answer.status_code == 413
    assert answer.json()["issue"][0]["code"] == "too-long"


def test_an_unknown_id_without_prefetch_is_a_failed_precondition(city: City) -> None:
    for more in ({}, {"fhirServer": "https://his.example.org/fhir"}):
        answer = city.send(SIGN, body_of("nobody", **more))
        assert answer.status_code == 412
        (issue,) = answer.json()["issue"]
        assert issue["expression"] == ["prefetch.patient"]


def test_in_a_demonstration_the_caller_stands_in_the_gateways_own_area(
    start: Callable[..., Any],
) -> None:
    one = start(open_access=True)
    town = City(one)
    patient = town.patient()
    town.result(patient)
    headers = {"content-type": "application/json"}
    body = json.dumps(body_of(patient)).encode()
    answer = one.request("POST", f"/cds-services/{SIGN}", content=body, headers=headers)
    (card,) = answer.json()["cards"]
    assert card["summary"].startswith("可互认：钾")
    entry = {"card": card["uuid"], "outcome": "overridden"}
    feedback = {"feedback": [{**entry, "outcomeTimestamp": "2024-11-20T08:00:00Z"}]}
    path = f"/cds-services/{SIGN}/feedback"
    content = json.dumps(feedback).encode()
    assert one.request("POST", path, content=content, headers=headers).status_code == 200


# -- what is kept, and what is never done ------------------------------------------------------


def test_the_kept_call_has_context_orders_and_situation_but_no_token_and_no_name(
    city: City,
) -> None:
    patient = city.patient()
    visit = {"resourceType": "Encounter", "status": "in-progress", "class": {"code": "AMB"}}
    body = body_of(
        patient,
        fhirServer="http://127.0.0.1/fhir",
        fhirAuthorization={"access_token": "secret-token", "token_type": "Bearer"},
        prefetch={
            "patient": {"resourceType": "Patient", "name": [{"text": "不留存"}]},
            "encounter": visit,
        },
    )
    assert city.send(SIGN, body).status_code == 200
    (recorded,) = city.search(f"GuidanceResponse?patient={patient}")
    parameters = {one["name"]: one for one in recorded["contained"][0]["parameter"]}
    digest = bytes.fromhex(parameters["received"]["valueString"].removeprefix("urn:sha256:"))

    async def stored() -> Any:
        from fhir_gateway.security.actor import SYSTEM_ACCESS

        async with city.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            return await reader.received(digest)

    _, kept = city.running.run(stored())
    said = {name: body[name] for name in ("hook", "hookInstance", "context")}
    assert json.loads(kept) == {**said, "prefetch": {"encounter": visit}}


def test_no_address_in_a_call_is_ever_followed(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    patient = city.patient()
    server = "http://169.254.169.254/fhir"
    person = {
        "resourceType": "Patient",
        "identifier": [{"system": "urn:x", "value": "1", "assigner": {"reference": server}}],
        "link": [{"other": {"reference": f"{server}/Patient/1"}}],
    }
    authorization = {"access_token": "t", "token_type": "Bearer"}
    body = body_of(patient, fhirServer=server, fhirAuthorization=authorization)
    body["prefetch"] = {"patient": person}
    assert city.send(SIGN, body).status_code == 200


# -- no order waits ----------------------------------------------------------------------------


def undecided(answer: Any) -> None:
    assert answer.status_code == 200
    (card,) = answer.json()["cards"]
    assert card["summary"] == "本次未能及时判断有无可互认结果，申请不受影响"
    assert "uuid" not in card


@pytest.mark.parametrize("fault", [Unavailable("The disk is full"), ZeroDivisionError("我们的错")])
def test_a_fault_of_ours_becomes_a_card(
    city: City, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    patient = city.patient()
    city.result(patient)

    async def broken(self: Any, change_set: ChangeSet) -> Any:
        raise fault

    monkeypatch.setattr(type(city.gateway.store), "commit", broken)
    undecided(city.hook(patient, order(patient)))


def test_after_the_deadline_the_doctor_is_answered_without_a_decision(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = city.patient()

    async def slow(self: Any, change_set: ChangeSet) -> Any:
        await asyncio.sleep(60)

    monkeypatch.setattr(type(city.gateway.store), "commit", slow)
    monkeypatch.setattr(routes, "deadline_of", lambda gateway: 0.02)
    undecided(city.hook(patient, order(patient)))


# -- hostile bodies ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"hook":NaN}',
        b'{"hook":"order-sign","hook":"order-sign"}',
        b'{"context":' * 200 + b"1" + b"}" * 200,
        b'{"hook":' + b"9" * 5_000 + b"}",
    ],
)
def test_a_body_that_is_no_clean_json_object_is_refused(city: City, body: bytes) -> None:
    answer = city.send(SIGN, body)
    assert answer.status_code == 400
    assert answer.json()["resourceType"] == "OperationOutcome"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def hostile_bodies() -> list[tuple[str, Json]]:
    """A call of each hook with everything in it that is read somewhere."""
    draft = order("patient-1") | {
        "bodySite": [{"coding": [{"code": "R"}], "text": "右"}],
        "specimen": [{"reference": "#s", "display": "血清"}],
        "contained": [{"resourceType": "Specimen", "id": "s", "type": {"text": "血清"}}],
        "category": [{"coding": [{"system": "http://snomed.info/sct", "code": "387713003"}]}],
        "meta": {"tag": [{"system": "urn:x", "code": "y"}]},
        "reasonCode": [{"text": "术前检查"}],
        "orderDetail": [{"coding": [{"system": "urn:x", "code": POTASSIUM}]}],
    }
    booked = {
        "resourceType": "Appointment",
        "id": "a-1",
        "status": "proposed",
        "basedOn": [{"reference": "ServiceRequest/draft-1"}, {"reference": "#s"}],
        "contained": [{**order("patient-1"), "id": "s"}],
        "serviceType": [{"coding": [{"code": "K"}], "text": "血钾"}],
        "participant": [{"actor": {"reference": "Patient/patient-1"}}],
    }
    role = {"system": "http://terminology.hl7.org/CodeSystem/v3-RoleCode", "code": "ICU"}
    visit = {
        "resourceType": "Encounter",
        "class": {"code": "IMP"},
        "period": {"start": "2026-11-20"},
        "contained": [{"resourceType": "Location", "id": "w", "type": [{"coding": [role]}]}],
        "location": [{"location": {"reference": "#w"}, "status": "active"}],
    }
    icd = {"system": "http://hl7.org/fhir/sid/icd-10", "code": "Z33"}
    condition = {"resourceType": "Condition", "code": {"coding": [icd]}, "clinicalStatus": {}}
    bundle = {"resourceType": "Bundle", "entry": [{"resource": condition}, {"resource": draft}]}
    person = {
        "resourceType": "Patient",
        "birthDate": "2026-11-20",
        "identifier": [{"system": DOCUMENT, "value": "1"}],
    }
    prefetch = {"patient": person, "encounter": visit, "conditions": bundle, "requests": bundle}
    context = {"userId": "Practitioner/1", "patientId": "patient-1", "encounterId": "e-1"}
    drafts = {"resourceType": "Bundle", "entry": [{"resource": draft}]}
    appointments = {"resourceType": "Bundle", "entry": [{"resource": booked}]}
    authorization = {"access_token": "t", "token_type": "Bearer", "scope": "x"}
    shared = {"fhirServer": "https://x.example", "fhirAuthorization": authorization}
    of_hook: dict[str, Json] = {
        "order-sign": {"draftOrders": drafts},
        "order-select": {"draftOrders": drafts, "selections": ["ServiceRequest/draft-1"]},
        "appointment-book": {"appointments": appointments},
        "patient-view": {},
    }
    return [
        (
            f"recognition-{hook}",
            {"hook": hook, "hookInstance": UUID, "context": {**context, **more}, **shared,
             "prefetch": prefetch},
        )
        for hook, more in of_hook.items()
    ]  # fmt: skip


@pytest.mark.drivers("sqlite")
@settings(max_examples=examples(150), deadline=None)
@given(data=st.data())
def test_no_mutated_call_is_ever_a_fault_of_ours(city: City, data: st.DataObject) -> None:
    bodies = hostile_bodies()
    service, body = bodies[data.draw(st.integers(0, len(bodies) - 1))]
    for _ in range(data.draw(st.integers(1, 2))):
        places = list(_places(body))
        holder, key = places[data.draw(st.integers(0, len(places) - 1))]
        holder[key] = data.draw(JSON)
    answer = city.send(service, json.dumps(body).encode("utf-8", "surrogatepass"))
    assert answer.status_code in (200, 400, 412, 413)
    if answer.status_code == 200:
        for card in answer.json()["cards"]:
            assert not card["summary"].startswith("本次未能及时判断")


def _places(value: Any) -> Any:
    """Every (object or array, key) in a document."""
    if isinstance(value, dict):
        pairs: Any = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    else:
        return
    for key, inner in pairs:
        yield value, key
        yield from _places(inner)
