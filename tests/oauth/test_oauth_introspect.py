"""Introspection, revocation, and where all of it is said: SMART configuration and metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databases import Databases
from provider import AUDIENCE, Provider, System, bearer
from running import Running

pytestmark = pytest.mark.drivers("sqlite")  # what rests on the store: test_oauth_token.py

ROOT = AUDIENCE.removesuffix("/fhir")
SMART = "/fhir/.well-known/smart-configuration"
LIST = "/fhir/Organization/h-1"


class Town:
    """A gateway with two systems and an outside provider."""

    def __init__(self, databases: Databases, folder: Path) -> None:
        endpoint = f'authorization_endpoint = "{ROOT}/authorize"\ntoken_endpoint = "{ROOT}/t"'
        self.provider = Provider(folder, more=endpoint)
        self.running = databases.running("gateway", **self.provider.settings())
        self.static = self.running.institution("h-1", "First hospital")
        self.mine = System(institution="h-1", root=ROOT, purpose="TREAT").register(self.running)
        self.other = System("his-2", institution="h-1", root=ROOT).register(self.running)

    def post(self, what: str, token: str, headers: dict[str, str], **more: str) -> Any:
        form = {"token": token, **more} if token else more
        return self.running.request("POST", f"/oauth/{what}", data=form, headers=headers)

    def introspect(self, token: str, headers: dict[str, str]) -> dict[str, Any]:
        answer = self.post("introspect", token, headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        said: dict[str, Any] = answer.json()
        return said


@pytest.fixture(scope="module")
def town(shared_database: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    one = Town(shared_database, tmp_path_factory.mktemp("issuers"))
    yield one
    one.running.close()


def test_a_token_of_ours_is_told(town: Town) -> None:
    token = town.mine.ask(town.running, scope="system/Patient.rs").json()["access_token"]
    said = town.introspect(token, town.other.headers(town.running))
    assert said.pop("exp") - said.pop("iat") == 300
    assert said.pop("jti")
    assert said == {
        "active": True,
        "scope": "system/Patient.rs",
        "client_id": "his-1",
        "sub": "his-1",
        "token_type": "Bearer",
        "iss": ROOT,
        "aud": AUDIENCE,
        "extensions": {
            "ihe_iua": {
                "subject_role": "institution",
                "subject_organization_id": "Organization/h-1",
                "purpose_of_use": "TREAT",
            }
        },
    }


def test_a_token_of_an_outside_provider_is_told(town: Town) -> None:
    token = town.provider.signed(
        institution="h-1", user="Practitioner/p-1", scopes="user/*.rs", purpose="ETREAT"
    )
    said = town.introspect(token, town.mine.headers(town.running))
    assert said["active"] is True
    assert (said["scope"], said["client_id"], said["iss"], said["fhirUser"]) == (
        "user/*.rs", "app-1", "https://login.example", "Practitioner/p-1",
    )  # fmt: skip
    assert said["extensions"]["ihe_iua"]["purpose_of_use"] == "ETREAT"


def test_of_a_token_that_does_not_hold_nothing_is_told(town: Town) -> None:
    headers = town.mine.headers(town.running)
    static = town.static["authorization"].removeprefix("Bearer ")
    expired = town.provider.signed(institution="h-1", seconds=-100)
    for token in ("fgt_nobody", "nonsense", "ey.ey.ey", static, expired, f"{expired}x"):
        assert town.introspect(token, headers) == {"active": False}


def test_only_clients_and_administrators_may_ask(town: Town) -> None:
    token = town.mine.ask(town.running).json()["access_token"]
    for headers, status in (
        ({}, 401),
        (bearer("nonsense"), 401),
        (town.static, 401),
        (town.provider.token(institution="h-1"), 401),
        (town.provider.token(role="regulator"), 401),
        (town.provider.token(role="administrator"), 200),
        (town.other.headers(town.running), 200),
    ):
        answer = town.post("introspect", token, headers)
        assert answer.status_code == status
        assert status == 200 or answer.json()["error"] == "invalid_client"


def test_a_client_may_prove_itself_by_an_assertion_once(town: Town) -> None:
    token = town.mine.ask(town.running).json()["access_token"]
    assertion = town.other.assertion(aud=f"{ROOT}/oauth/introspect")
    proof = {
        "client_assertion": assertion,
        "client_assertion_type": town.other.form()["client_assertion_type"],
    }
    assert town.post("introspect", token, {}, **proof).json()["active"] is True
    assert town.post("introspect", token, {}, **proof).status_code == 401
    assert town.post("introspect", "", {}, **proof).status_code == 401


def test_a_revoked_token_is_dead(town: Town) -> None:
    token = town.mine.ask(town.running).json()["access_token"]
    headers = town.mine.headers(town.running)
    assert town.running.get(LIST, headers=bearer(token)).status_code == 200
    for _ in range(2):  # that it is not known is no fault
        answer = town.post("revoke", token, headers, token_type_hint="access_token")
        assert (answer.status_code, answer.json()) == (200, {})
        assert town.running.get(LIST, headers=bearer(token)).status_code == 401
    assert town.introspect(token, headers) == {"active": False}


def test_a_client_ends_its_own_tokens_only(town: Town) -> None:
    token = town.mine.ask(town.running).json()["access_token"]
    answer = town.post("revoke", token, town.other.headers(town.running))
    assert (answer.status_code, answer.json()["error"]) == (403, "unauthorized_client")
    assert town.running.get(LIST, headers=bearer(token)).status_code == 200
    administrator = town.provider.token(role="administrator")
    assert town.post("revoke", token, administrator).status_code == 200
    assert town.running.get(LIST, headers=bearer(token)).status_code == 401
    outside = town.provider.signed(institution="h-1")
    answer = town.post("revoke", outside, town.mine.headers(town.running))
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_token_type")


def test_the_smart_configuration_is_for_everybody(town: Town) -> None:
    for accept in ("*/*", "application/fhir+xml", "text/html", "application/json"):
        answer = town.running.get(
            SMART, headers={"accept": accept, "origin": "https://any.example"}
        )
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["access-control-allow-origin"] == "*"
    said = answer.json()
    assert said["token_endpoint"] == f"{ROOT}/oauth/token"
    assert said["introspection_endpoint"] == f"{ROOT}/oauth/introspect"
    assert said["revocation_endpoint"] == f"{ROOT}/oauth/revoke"
    assert said["code_challenge_methods_supported"] == ["S256"]
    assert said["grant_types_supported"] == ["client_credentials"]
    assert said["token_endpoint_auth_methods_supported"] == ["private_key_jwt"]
    assert said["token_endpoint_auth_signing_alg_values_supported"] == ["RS384", "ES384"]
    assert {"permission-v1", "permission-v2", "client-confidential-asymmetric"} <= set(
        said["capabilities"]
    )
    assert "authorization_endpoint" not in said
    assert said["authorization_servers"] == ["https://login.example"]
    assert said["associated_issuers"] == [
        {
            "issuer": "https://login.example",
            "authorization_endpoint": f"{ROOT}/authorize",
            "token_endpoint": f"{ROOT}/t",
        }
    ]
    preflight = town.running.request("OPTIONS", SMART)
    assert preflight.status_code == 204
    assert "GET" in preflight.headers["access-control-allow-methods"]
    assert town.running.request("HEAD", SMART).content == b""
    assert town.running.request("POST", SMART).status_code == 405


def test_metadata_names_the_token_endpoint(town: Town) -> None:
    security = town.running.get("/fhir/metadata").json()["rest"][0]["security"]
    assert security["service"][0]["coding"][0]["code"] == "SMART-on-FHIR"
    (uris,) = security["extension"]
    addresses = {one["url"]: one["valueUri"] for one in uris["extension"]}
    assert addresses["token"] == f"{ROOT}/oauth/token"


def test_nobody_else_says_what_an_assertion_is_meant_for(start: Callable[..., Running]) -> None:
    """Beyond this machine, the address of a token endpoint is the operator's word."""
    one = start(host="10.1.2.3")
    one.institution("h-1")
    system = System(institution="h-1", root="https://victim.example").register(one)
    answer = system.ask(one, headers={"host": "victim.example"})
    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
    assert "FHIR_GATEWAY_BASE_URL" in answer.json()["error_description"]
