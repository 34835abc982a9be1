"""The signed token of a CDS client: what is believed, and every way to forge, bend or reuse one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from joserfc import jwk, jws

from fhir_gateway.errors import Login
from fhir_gateway.security.client_jwt import (
    LIFETIME,
    SKEW,
    Accepted,
    has_key,
    is_signed,
    present,
    verify,
)

NOW = 1_800_000_000
HERE = "https://gw.example/cds-services/recognition-order-sign"
ISSUER = "https://his.example"

EC384 = jwk.ECKey.generate_key("P-384", parameters={"kid": "e1"})
EC256 = jwk.ECKey.generate_key("P-256", parameters={"kid": "e2"})
RSA = jwk.RSAKey.generate_key(2048, parameters={"kid": "r1"})
KEYS = [key.as_dict(private=False) for key in (EC384, EC256, RSA)]
CLAIMS = {"iss": ISSUER, "aud": HERE, "iat": NOW - 10, "exp": NOW + 200, "jti": "one"}


def signed(
    key: Any = EC384, alg: str = "ES384", header: dict[str, Any] | None = None, **claims: Any
) -> str:
    """A token; `...` takes a claim out."""
    said = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not ...}
    protected = {"alg": alg, "kid": key.kid, "typ": "JWT", **(header or {})}
    protected = {name: value for name, value in protected.items() if value is not ...}
    registry = jws.JWSRegistry(algorithms=[alg], strict_check_header=False)
    return jws.serialize_compact(protected, json.dumps(said), key, registry=registry)


def accepted(token: str, keys: Any = KEYS, now: int = NOW) -> Accepted:
    return verify(present(token), keys, HERE, now * 1_000_000)


def part(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


@pytest.mark.parametrize(
    ("key", "alg"), [(EC384, "ES384"), (RSA, "RS384"), (EC256, "ES256"), (RSA, "RS256")]
)
def test_a_token_of_a_known_key_is_believed(key: Any, alg: str) -> None:
    token = signed(key, alg, tenant="north")
    assert is_signed(token)
    assert has_key(present(token), KEYS)
    assert accepted(token) == ("one", "north")


def test_one_of_several_audiences_may_be_this_address() -> None:
    assert accepted(signed(aud=["https://other.example", HERE])).jti == "one"


def test_a_static_token_is_not_taken_for_a_signed_one() -> None:
    for token in ("fgw_abc", "a.b.c", "ey.x", "eyJ.a.b.c", ""):
        assert not is_signed(token)


def test_an_unsigned_token_is_refused() -> None:
    for alg in ("none", "None", "NONE", "", None, ["ES384"]):
        forged = f"{part({'alg': alg, 'kid': 'e1', 'typ': 'JWT'})}.{part(CLAIMS)}."
        with pytest.raises(Login):
            accepted(forged)


def test_a_public_key_is_no_secret_of_hmac() -> None:
    """The classic: HS256 with the text of the public key as its secret."""
    for alg, spelled in (("HS256", RSA.as_pem(private=False)), ("HS384", EC384.as_pem())):
        head = f"{part({'alg': alg, 'kid': 'r1', 'typ': 'JWT'})}.{part(CLAIMS)}"
        mac = hmac.new(spelled, head.encode(), hashlib.sha256).digest()
        with pytest.raises(Login):
            accepted(f"{head}.{part(mac)}")


def test_other_algorithms_are_refused_before_a_key_is_looked_at() -> None:
    for alg in ("ES512", "PS256", "RS512", "EdDSA", "ES256K"):
        with pytest.raises(Login):
            present(f"{part({'alg': alg, 'kid': 'e1'})}.{part(CLAIMS)}.{part(b'x')}")


def test_a_key_of_another_curve_or_family_does_not_sign() -> None:
    for key, alg in ((EC256, "ES384"), (EC384, "ES256")):
        head = {"alg": alg, "kid": key.kid, "typ": "JWT"}
        token = signed(key, "ES256" if key is EC256 else "ES384")
        swapped = ".".join([part(head), *token.split(".")[1:]])
        with pytest.raises(Login):
            accepted(swapped)


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [{"kty": "oct", "kid": "e1", "k": "c2VjcmV0"}],
        [{"kty": "EC", "kid": "e1"}],
        [{"kty": "EC", "kid": "e1", "crv": "P-384", "x": "AA", "y": "AA"}],
        [{"kty": "EC", "kid": "e1", "crv": "odd", "x": 5, "y": None}],
        [{**KEYS[0], "kid": "other"}],
        [{**KEYS[0], "use": "enc"}],
        [{**KEYS[0], "alg": "ES256"}],
        [{**KEYS[1], "kid": "e1"}],
        [{}],
    ],
)
def test_other_keys_do_not_verify_it(keys: Any) -> None:
    with pytest.raises(Login):
        accepted(signed(), keys)


def test_of_two_keys_with_one_id_either_may_have_signed() -> None:
    twin = {**jwk.ECKey.generate_key("P-384").as_dict(private=False), "kid": "e1"}
    assert accepted(signed(), [twin, *KEYS]).jti == "one"


def test_a_small_key_is_no_key() -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.hashes import SHA256

    small = rsa.generate_private_key(65537, 1024)
    pem = small.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert pem
    numbers = small.public_key().public_numbers()
    size = (numbers.n.bit_length() + 7) // 8
    key = {"kty": "RSA", "kid": "s", "n": part(numbers.n.to_bytes(size, "big")), "e": "AQAB"}
    head = f"{part({'alg': 'RS256', 'kid': 's', 'typ': 'JWT'})}.{part(CLAIMS)}"
    signature = small.sign(head.encode(), padding.PKCS1v15(), SHA256())
    with pytest.raises(Login):
        accepted(f"{head}.{part(signature)}", [key])


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": ...},
        {"iss": 5},
        {"aud": ...},
        {"aud": "https://gw.example/cds-services"},
        {"aud": f"{HERE}/"},
        {"aud": f"{HERE}/feedback"},
        {"aud": [HERE + "x"]},
        {"aud": {"x": HERE}},
        {"iat": ...},
        {"exp": ...},
        {"exp": "soon"},
        {"exp": True},
        {"exp": float("inf")},
        {"iat": NOW - LIFETIME - SKEW - 10, "exp": NOW - SKEW},
        {"exp": NOW + LIFETIME + 1, "iat": NOW},
        {"exp": NOW - 20, "iat": NOW - 10},
        {"iat": NOW + SKEW + 1, "exp": NOW + SKEW + 100},
        {"nbf": NOW + SKEW + 1},
        {"jti": ...},
        {"jti": ""},
        {"jti": 7},
        {"jti": "x" * 257},
        {"tenant": ["north"]},
    ],
)
def test_a_claim_that_is_missing_or_wrong_refuses_it(claims: dict[str, Any]) -> None:
    with pytest.raises(Login):
        accepted(signed(**claims))


def test_clocks_may_be_apart_a_little() -> None:
    assert accepted(signed(), now=CLAIMS["exp"] + SKEW - 1)  # type: ignore[operator]
    assert accepted(signed(iat=NOW + SKEW, exp=NOW + SKEW + LIFETIME))
    with pytest.raises(Login):
        accepted(signed(), now=CLAIMS["exp"] + SKEW)  # type: ignore[operator]


@pytest.mark.parametrize(
    "header",
    [{"kid": ...}, {"kid": 5}, {"kid": "k" * 300}, {"typ": "at+jwt"}, {"jku": 5}],
)
def test_a_header_that_is_missing_or_wrong_refuses_it(header: dict[str, Any]) -> None:
    protected = {"alg": "ES384", "kid": "e1", "typ": "JWT", **header}
    protected = {name: value for name, value in protected.items() if value is not ...}
    with pytest.raises(Login):
        present(f"{part(protected)}.{part(CLAIMS)}.{part(bytes(96))}")


def test_a_critical_header_that_is_not_understood_refuses_it() -> None:
    protected = {"alg": "ES384", "kid": "e1", "typ": "JWT", "crit": ["x"], "x": 1}
    head = f"{part(protected)}.{part(CLAIMS)}"
    with pytest.raises(Login):
        accepted(f"{head}.{signed().rpartition('.')[2]}")


def test_a_token_that_was_touched_is_refused() -> None:
    head, claims, signature = signed().split(".")
    other = part({**CLAIMS, "jti": "two"})
    for token in (
        f"{head}.{other}.{signature}",
        f"{head}.{claims}.{signature[:-4]}AAAA",
        f"{head}.{claims}.",
        f"{head}.{claims}.{part(bytes(96))}",
    ):
        with pytest.raises(Login):
            accepted(token)


@pytest.mark.parametrize(
    "token",
    ["ey..", "ey.ey.ey", "eyé.a.b", f"{part([1])}.{part(CLAIMS)}.x", "ey" + "A" * 9_000 + ".a.b"],
)
def test_what_cannot_be_read_is_refused(token: str) -> None:
    with pytest.raises(Login):
        present(token)
