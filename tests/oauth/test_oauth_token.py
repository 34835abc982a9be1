"""Tokens for systems: what an assertion must be, what is granted, once and for how long."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from databases import Databases
from msgspec.structs import replace
from provider import Clock, System, new_key, part, public, sign
from running import Running

from fhir_gateway.app import Application, build
from fhir_gateway.errors import Conflict, Login
from fhir_gateway.interactions.authenticate import REMEMBERED_US, authenticate
from fhir_gateway.interactions.clients import change_client, read_client
from fhir_gateway.interactions.tokens import LIFETIME, revoke, revoke_all, tokens_of
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS
from fhir_gateway.settings import Settings

LIST = "/fhir/Organization/h-1"


@pytest.fixture(scope="module")
def town(shared_database: Databases) -> Iterator[Running]:
    one = shared_database.running("gateway")
    one.institution("h-1", "First hospital")
    yield one
    one.close()


@pytest.fixture(scope="module")
def system(town: Running) -> System:
    return System(institution="h-1", scopes=("system/*.rs", "system/Patient.cruds")).register(town)


def error_of(answer: Any, status: int = 400) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    assert answer.json().keys() == {"error", "error_description"}
    code: str = answer.json()["error"]
    return code


def test_a_system_is_given_a_token_that_opens_the_door(town: Running, system: System) -> None:
    answer = system.ask(town)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    given = answer.json()
    assert given.keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert (given["token_type"], given["expires_in"], given["scope"]) == (
        "Bearer", 300, "system/*.rs",
    )  # fmt: skip
    headers = {"authorization": f"Bearer {given['access_token']}"}
    assert town.get(LIST, headers=headers).status_code == 200


def test_only_the_hash_of_a_token_is_kept(town: Running, system: System) -> None:
    token = system.ask(town).json()["access_token"]
    (found, *_) = town.run(tokens_of(town.gateway, system.id))
    assert token.startswith("fgt_")
    assert len(token) > 40
    assert found.until - found.issued == LIFETIME * 1_000_000
    assert found.name not in token


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"grant_type": "authorization_code"}, "unsupported_grant_type"),
        ({"grant_type": ...}, "invalid_request"),
        ({"client_assertion_type": "saml"}, "invalid_request"),
        ({"scope": "system/*.cruds"}, "invalid_scope"),
        ({"scope": "system/Observation.c"}, "invalid_scope"),
        ({"scope": "user/*.rs"}, "invalid_scope"),
        ({"scope": "nonsense"}, "invalid_scope"),
        ({"scope": "system/Nonsense.rs"}, "invalid_scope"),
        ({"scope": "openid system/*.rs"}, "invalid_scope"),
        ({"scope": "system/*.rs system/Observation.cud"}, "invalid_scope"),
        ({"scope": ""}, "invalid_scope"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_in_oauths_words(
    town: Running, system: System, fields: dict[str, Any], error: str
) -> None:
    assert error_of(system.ask(town, **fields)) == error


@pytest.mark.parametrize(
    "scope",
    [
        "system/Patient.cruds", "system/Patient.cu", "system/Observation.r", "system/*.read",
        "system/Observation.rs?category=laboratory", "system/Patient.write system/*.s",
    ],
)  # fmt: skip
def test_what_lies_within_the_registered_scopes_is_granted(
    town: Running, system: System, scope: str
) -> None:
    assert system.ask(town, scope=scope).json()["scope"] == scope


@pytest.mark.parametrize("fields", [{"client_assertion": ...}, {"client_assertion_type": ...}])
def test_a_request_without_proof_is_refused(
    town: Running, system: System, fields: dict[str, Any]
) -> None:
    answer = system.ask(town, **fields)
    assert error_of(answer, 401) == "invalid_client"
    assert answer.headers["www-authenticate"].startswith('Bearer realm="fhir-gateway"')


def test_a_form_says_everything_once_and_is_a_form(town: Running, system: System) -> None:
    form = system.form()
    twice = "&".join(f"{name}={value}" for name, value in form.items())
    for body, kind in (
        (f"{twice}&scope=x", "application/x-www-form-urlencoded"),
        ("scope=%FF", "application/x-www-form-urlencoded"),
        ("a=" + "x" * 70_000, "application/x-www-form-urlencoded"),
        (json.dumps(form), "application/json"),
    ):
        answer = town.request("POST", "/oauth/token", content=body, headers={"content-type": kind})
        assert answer.status_code in (400, 413, 415)
        assert answer.json()["error"] == "invalid_request"
    assert town.get("/oauth/token").status_code == 405


#: What is bent in an assertion: claims, then header parameters.
BENT: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"aud": "https://other.example/oauth/token"}, {}),
    ({"aud": "http://127.0.0.1/fhir"}, {}),
    ({"aud": ...}, {}),
    ({"iss": "nobody", "sub": "nobody"}, {}),
    ({"sub": "his-2"}, {}),
    ({"sub": ...}, {}),
    ({"jti": ...}, {}),
    ({"jti": ""}, {}),
    ({"jti": 7}, {}),
    ({"jti": "x" * 300}, {}),
    ({}, {"kid": ...}),
    ({}, {"kid": "other"}),
    ({}, {"kid": "../../etc/passwd"}),
    ({}, {"kid": "' OR 1=1 --"}),
    ({}, {"typ": "at+jwt"}),
]


@pytest.mark.parametrize(("claims", "header"), BENT)
def test_034_an_assertion_for_another_or_by_another_is_refused(
    town: Running, system: System, claims: dict[str, Any], header: dict[str, Any]
) -> None:
    answer = system.ask(town, system.assertion(header, **claims))
    assert error_of(answer, 401) == "invalid_client"


@pytest.mark.parametrize("alg", ["ES256", "RS256", "PS384", "ES512"])
def test_031_other_algorithms_than_those_of_the_standard_are_refused(
    town: Running, system: System, alg: str
) -> None:
    _, claims, signature = system.assertion().split(".")
    bent = f"{part({'alg': alg, 'kid': system.key.kid, 'typ': 'JWT'})}.{claims}.{signature}"
    assert error_of(system.ask(town, bent), 401) == "invalid_client"


def test_036_times_outside_of_the_skew_are_refused(
    start: Callable[..., Running],
) -> None:
    one = start()
    one.institution("h-1")
    system = System(institution="h-1").register(one)
    now = one.gateway.clock.now() // 1_000_000
    for claims, fits in (
        ({"exp": now + 300}, True),
        ({"exp": now + 325}, True),
        ({"exp": now + 340}, False),
        ({"exp": now - 25}, True),
        ({"exp": now - 35}, False),
        ({"exp": ...}, False),
        ({"exp": "soon"}, False),
        ({"exp": True}, False),
        ({"iat": now + 25}, True),
        ({"iat": now + 300}, False),
        ({"nbf": now + 300}, False),
        ({"nbf": now - 300, "iat": now - 300}, True),
    ):
        answer = system.ask(one, system.assertion(**claims))
        assert (answer.status_code == 200) is fits, (claims, answer.text)


@pytest.mark.drivers("sqlite")
def test_a_purpose_that_the_site_does_not_allow_is_refused(start: Callable[..., Running]) -> None:
    one = start(policy=f"{Settings().profiles}/access/policy.toml")
    one.institution("h-1")
    system = System(institution="h-1", purpose="TREAT").register(one)
    with pytest.raises(Login, match="purpose"):
        System("his-2", institution="h-1", purpose="HLEGAL").register(one)
    for purpose, status in (("ETREAT", 200), ("HLEGAL", 400), ("", 200)):
        said = {"ihe_iua": {"purpose_of_use": purpose}}
        answer = system.ask(one, system.assertion(extensions=said))
        assert answer.status_code == status, purpose
        if status == 200:
            headers = {"authorization": f"Bearer {answer.json()['access_token']}"}
            actor = one.run(authenticate(one.gateway, headers))
            assert actor.purpose == (purpose or "TREAT")


def test_035_an_assertion_is_good_once(town: Running, system: System) -> None:
    assertion = system.assertion()
    assert system.ask(town, assertion).status_code == 200
    answer = system.ask(town, assertion)
    assert error_of(answer, 401) == "invalid_client"
    assert "before" in answer.json()["error_description"]


def test_a_jti_belongs_to_its_issuer(town: Running, system: System) -> None:
    other = System("his-9", institution="h-1").register(town)
    assert system.ask(town, system.assertion(jti="same")).status_code == 200
    assert other.ask(town, other.assertion(jti="same")).status_code == 200
    assert system.ask(town, system.assertion(jti="same")).status_code == 401


def test_a_disabled_client_and_its_tokens_are_dead(start: Callable[..., Running]) -> None:
    one = start()
    one.institution("h-1")
    system = System(institution="h-1").register(one)
    headers = system.headers(one)
    assert one.get(LIST, headers=headers).status_code == 200
    was, at = one.run(read_client(one.gateway, system.id))
    one.run(change_client(one.gateway, replace(was, active=False), was=was, at=at))
    one.gateway.tokens.clear()  # as after the five seconds
    assert one.get(LIST, headers=headers).status_code == 401
    assert error_of(system.ask(one), 401) == "invalid_client"
    assert REMEMBERED_US <= 5_000_000


@pytest.mark.drivers("postgresql")
def test_038_what_one_process_ends_is_dead_in_all_within_five_seconds(
    database: Databases,
) -> None:
    """Two processes on one database, each with a memory of its own; the clock is the test's."""
    clock = Clock()

    class Timed(Running):
        def build(self, settings: Settings) -> Awaitable[Application]:
            return build(settings, clock=clock)

    here = Timed(database.url("g"))
    there = Timed(database.url("g"), beside=here)
    here.institution("h-1")
    system = System(institution="h-1", now=lambda: clock.us / 1_000_000).register(here)
    first, second = system.headers(here), system.headers(here)
    for headers in (first, second):
        assert there.get(LIST, headers=headers).status_code == 200
    token = first["authorization"].removeprefix("Bearer ")
    here.run(revoke(here.gateway, token, GATEWAY))
    assert here.get(LIST, headers=first).status_code == 401
    clock.us += 5_000_001
    assert there.get(LIST, headers=first).status_code == 401
    assert there.get(LIST, headers=second).status_code == 200
    was, at = here.run(read_client(here.gateway, system.id))
    here.run(change_client(here.gateway, replace(was, active=False), was=was, at=at))
    clock.us += 5_000_001
    assert there.get(LIST, headers=second).status_code == 401
    assert system.ask(there).status_code == 401
    clock.us += 400_000_000
    here.run(change_client(here.gateway, was, was=replace(was, active=False),
                           at=here.run(read_client(here.gateway, was.id))[1]))  # fmt: skip
    assert system.ask(there).status_code == 200
    assert database.rows("SELECT count(*) FROM client_token", "g") == [(1,)]  # ended ones are gone
    there.close()
    here.close()


def test_of_two_changes_at_once_one_is_told_to_look_again(town: Running) -> None:
    system = System("his-8", institution="h-1").register(town)
    was, at = town.run(read_client(town.gateway, system.id))
    town.run(change_client(town.gateway, replace(was, name="one"), was=was, at=at))
    with pytest.raises(Conflict, match="look at it again"):
        town.run(change_client(town.gateway, replace(was, name="two"), was=was, at=at))
    assert town.run(read_client(town.gateway, system.id))[0].name == "one"


def test_all_tokens_of_a_client_end_at_once_here(town: Running, system: System) -> None:
    headers = system.headers(town)
    assert town.get(LIST, headers=headers).status_code == 200
    assert town.run(revoke_all(town.gateway, system.id)) > 0
    assert town.get(LIST, headers=headers).status_code == 401
    assert town.run(tokens_of(town.gateway, system.id)) == []


def test_keys_of_another_client_prove_nothing(town: Running, system: System) -> None:
    stranger = new_key(str(system.key.kid))
    now = town.gateway.clock.now() // 1_000_000
    claims = {
        "iss": system.id, "sub": system.id, "jti": "z", "exp": now + 100,
        "aud": "http://127.0.0.1/oauth/token",
    }  # fmt: skip
    answer = system.ask(town, sign(stranger, claims, typ="JWT"))
    assert error_of(answer, 401) == "invalid_client"
    assert public(stranger)["kid"] == system.key.kid


def test_giving_a_token_and_refusing_one_is_on_record(start: Callable[..., Running]) -> None:
    one = start()
    one.institution("h-1")
    system = System(institution="h-1").register(one)
    assert system.ask(one).status_code == 200
    assert system.ask(one, scope="user/*.rs").status_code == 400
    found = [json.loads(row) for row in _events(one)]
    told = [
        (event["outcome"], event.get("outcomeDesc"))
        for event in found
        if event.get("subtype", [{}])[0].get("code") == "ITI-71"
    ]
    assert sorted(told) == [("0", "system/*.rs"), ("4", "invalid_scope")]


def _events(one: Running) -> list[bytes]:
    async def read() -> list[bytes]:
        async with one.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            changes = await reader.changes(type="AuditEvent", limit=100)
            return [change.stored.whole() for change in changes]

    found: list[bytes] = one.run(read())
    return found
