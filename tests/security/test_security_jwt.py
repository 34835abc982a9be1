"""Signed tokens before any key is looked at, and the keys that may verify one."""

from __future__ import annotations

from typing import Any

import pytest
from joserfc import jwk
from provider import new_key, part, public, sign

from fhir_gateway.errors import Login
from fhir_gateway.security.jwt import (
    ALGORITHMS,
    MOST_CHARACTERS,
    check_signed,
    has_key,
    is_signed,
    is_signed_by,
    key_fault,
    read,
)

KEY = new_key("k")
RSA = jwk.RSAKey.generate_key(2048, parameters={"kid": "k"})
CLAIMS = {"iss": "https://login.example", "sub": "s"}


def test_a_token_is_read_and_its_signature_checked() -> None:
    said = read(sign(KEY, CLAIMS), ALGORITHMS)
    assert (said.alg, said.kid, said.typ, said.issuer) == ("ES384", "k", "at+jwt", CLAIMS["iss"])
    assert is_signed(said.token)
    assert is_signed_by(said, [public(new_key("other")), public(KEY)])
    check_signed(said, [public(KEY)])
    for keys in ([], [public(new_key("k"))], [public(new_key("k", "P-256"))], [{"kid": "k"}]):
        with pytest.raises(Login):
            check_signed(said, keys)


@pytest.mark.parametrize(
    ("alg", "key"),
    [("RS256", "rsa"), ("PS384", "rsa"), ("RS512", "rsa"), ("ES256", "P-256"), ("ES512", "P-521")],
)
def test_every_algorithm_of_the_list_verifies(alg: str, key: str) -> None:
    made: Any = RSA if key == "rsa" else new_key("k", key)
    said = read(sign(made, CLAIMS, alg=alg), ALGORITHMS)
    assert is_signed_by(said, [public(made)])
    assert not has_key(said, [{**public(made), "use": "enc"}])
    assert not has_key(said, [{**public(made), "alg": "ES384"}])


@pytest.mark.parametrize(
    "header",
    [{"crit": ["exp"]}, {"crit": []}, {"b64": True}, {"zip": "DEF"}, {"enc": "A128GCM"},
     {"jwk": {}}, {"x5c": []}, {"x5u": ""}, {"alg": "none"}, {"alg": "HS256"}, {"alg": ["ES384"]},
     {"alg": None}, {"kid": None}, {"kid": ""}, {"kid": 5}, {"kid": "k" * 257}, {"typ": 5},
     {"jku": 5}],
)  # fmt: skip
def test_031_032_what_a_header_must_not_say_refuses_it_unread(header: dict[str, Any]) -> None:
    head = {"alg": "ES384", "kid": "k", "typ": "at+jwt", **header}
    with pytest.raises(Login):
        read(f"{part(head)}.{part(CLAIMS)}.{part(bytes(96))}", ALGORITHMS)


@pytest.mark.parametrize(
    "token",
    ["", "a", "a.b", "a.b.c.d", "é.b.c", f"{part([1])}.{part(CLAIMS)}.x", "ey.ey.ey",
     f"{part({'alg': 'ES384', 'kid': 'k'})}.{part({'iss': 5})}.x",
     f"{part({'alg': 'ES384', 'kid': 'k'})}.{part({})}.x",
     f"{part(b'[' * 4_000)}.{part(CLAIMS)}.x", "ey" + "A" * MOST_CHARACTERS + ".a.b"],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(token: str) -> None:
    with pytest.raises(Login):
        read(token, ALGORITHMS)


def test_only_good_public_keys_may_verify() -> None:
    assert key_fault(public(KEY)) is None
    for key in (
        5, {}, {"kty": "oct", "kid": "k", "k": "x"}, {**public(KEY), "kid": ""},
        {**public(KEY), "d": "x"}, {**public(KEY), "x": "AA"}, {**public(KEY), "crv": "odd"},
        {"kty": "RSA", "kid": "k", "n": "AQAB", "e": "AQAB"}, {"kty": "RSA", "kid": "k"},
    ):  # fmt: skip
        assert key_fault(key)
