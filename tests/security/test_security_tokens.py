"""Bearer tokens: made of randomness, kept as hashes, read from the header."""

from __future__ import annotations

from hashlib import sha256

import pytest

from fhir_gateway.errors import Login
from fhir_gateway.security.tokens import (
    ISSUED,
    NO_TOKEN,
    bearer,
    challenge,
    hash_token,
    name_of,
    new_token,
)


def test_a_token_says_what_it_opens_and_carries_all_its_randomness() -> None:
    token = new_token(bytes(range(32)))
    assert token == "fgw_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    assert new_token(bytes(32)) != token


def test_too_little_randomness_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16"):
        new_token(bytes(15))


def test_only_the_hash_of_a_token_is_kept() -> None:
    assert hash_token("fgw_x") == sha256(b"fgw_x").digest()


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer fgw_x", "fgw_x"),
        ("bearer  fgw_x ", "fgw_x"),
        ("Bearer ", None),
        ("Basic abc", None),
        ("Bearerfgw_x", None),
        ("", None),
        (None, None),
    ],
)
def test_the_token_is_read_from_the_header(header: str | None, token: str | None) -> None:
    assert bearer(header) == token


def test_a_token_is_named_by_what_opens_nothing() -> None:
    token = new_token(bytes(32), ISSUED)
    name = name_of(hash_token(token))
    assert token.startswith("fgt_")
    assert len(name) == 16
    assert name not in token


def test_the_challenge_says_what_was_wrong_in_plain_characters() -> None:
    assert challenge(Login("no token", rule=NO_TOKEN)) == b'Bearer realm="fhir-gateway"'
    said = challenge(Login('A "quoted"\r\nX: y 令牌 \\ …', rule="token")).decode("ascii")
    assert said.startswith('Bearer realm="fhir-gateway", error="invalid_token", error_description=')
    assert said.endswith('="A quotedX: y   "')
