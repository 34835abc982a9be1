"""Clients: what may be registered, and what lies within what was."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from provider import new_key, public

from fhir_gateway.errors import Invalid
from fhir_gateway.security.clients import (
    Client,
    body_of,
    check_client,
    client_of,
    keys_in,
    over_granted,
)
from fhir_gateway.security.outbound import read_policy

KEY = public(new_key("k"))
POLICY = read_policy("https://keys.example", "")
FINE = Client(id="his-1", institution="h-1", jwks=(KEY,), scopes=("system/*.rs",))


def test_a_client_is_stored_and_read_as_it_is() -> None:
    one = replace(FINE, name="系统", purpose="TREAT", asserts_consent=True, active=False)
    assert client_of(body_of(one)) == one


def test_a_client_may_be_the_operators_or_fetch_its_keys() -> None:
    check_client(FINE, POLICY)
    check_client(replace(FINE, role="regulator", institution=""), POLICY)
    check_client(replace(FINE, jwks=(), jwks_url="https://keys.example/jwks"), POLICY)


@pytest.mark.parametrize(
    ("change", "expression"),
    [
        ({"id": "a b"}, "id"),
        ({"id": ""}, "id"),
        ({"id": "x" * 65}, "id"),
        ({"role": "clinician"}, "role"),
        ({"role": "open"}, "role"),
        ({"institution": ""}, "institution"),
        ({"jwks": ()}, "jwks"),
        ({"jwks_url": "https://keys.example/jwks"}, "jwks"),
        ({"jwks": (KEY,) * 65}, "jwks"),
        ({"jwks": ({**KEY, "d": "x"},)}, "jwks.keys[0]"),
        ({"jwks": ({"kty": "oct", "kid": "k", "k": "x"},)}, "jwks.keys[0]"),
        ({"jwks": (), "jwks_url": "https://evil.example/jwks"}, "jwks-url"),
        ({"jwks": (), "jwks_url": "http://keys.example/jwks"}, "jwks-url"),
        ({"scopes": ()}, "scope"),
        ({"scopes": ("nonsense",)}, "scope"),
        ({"scopes": ("user/*.rs",)}, "scope"),
        ({"scopes": ("openid",)}, "scope"),
        ({"purpose": "no code"}, "purpose"),
        ({"certificate": "x"}, "certificate"),
    ],
)
def test_what_is_wrong_with_a_client_is_said(change: dict[str, Any], expression: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_client(replace(FINE, **change), POLICY)
    assert expression in [issue.expression for issue in caught.value.issues]


@pytest.mark.parametrize(
    ("may", "wanted", "fits"),
    [
        ("system/*.cruds", "system/Patient.r", True),
        ("system/*.rs", "system/*.read", True),
        ("system/*.read", "system/*.rs", True),
        ("system/*.write", "system/*.cud", True),
        ("system/*.rs", "system/Patient.c", False),
        ("system/Patient.rs", "system/*.rs", False),
        ("system/Patient.rs", "system/Observation.rs", False),
        ("system/*.rs", "user/*.rs", False),
        ("system/*.rs", "openid", False),
        ("system/*.rs", "nonsense", False),
        ("system/Patient.r system/Patient.s", "system/Patient.rs", True),
        ("system/*.r system/Patient.s", "system/Patient.rs", True),
        ("system/Observation.rs?category=laboratory", "system/Observation.rs", False),
        (
            "system/Observation.rs?category=laboratory",
            "system/Observation.rs?category=laboratory",
            True,
        ),
        (
            "system/Observation.rs?category=laboratory",
            "system/Observation.rs?category=laboratory&code=x",
            True,
        ),
        (
            "system/Observation.rs?category=laboratory&code=x",
            "system/Observation.rs?category=laboratory",
            False,
        ),
        ("system/Observation.rs", "system/Observation.rs?category=laboratory", True),
    ],
)
def test_no_more_is_granted_than_was_registered(may: str, wanted: str, fits: bool) -> None:
    client = replace(FINE, scopes=tuple(may.split()))
    assert (over_granted(client, wanted.split()) == []) is fits


def test_a_key_set_is_a_set_or_one_key() -> None:
    assert keys_in({"keys": [KEY]}) == (KEY,)
    assert keys_in(KEY) == (KEY,)
    for document in ([], "x", {"keys": "x"}, {"keys": [5]}, None):
        with pytest.raises(Invalid):
            keys_in(document)
