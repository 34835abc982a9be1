"""The signed token of a CDS client: read, verified, judged. Pure.

CDS Hooks 2.0, "Trusting CDS Clients"; RFC 7515, RFC 7519, RFC 8725. Signatures are asymmetric:
ES384 and RS384 as the standard recommends, ES256 and RS256 because many hospital systems know no
others and nobody can forge those either. Everything else is refused before a key is looked at, so
that no `none` and no HMAC over a public key is ever tried.
"""

from __future__ import annotations

import json
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from joserfc import jwk, jws
from joserfc.errors import JoseError
from joserfc.util import urlsafe_b64decode

from fhir_gateway.errors import Login

ALGORITHMS = ("ES384", "RS384", "ES256", "RS256")
#: Seconds from iat to exp at the most, and how far clocks may be apart.
LIFETIME, SKEW = 300, 30
#: Longer tokens, and longer ids in them, are nobody's.
MOST_CHARACTERS, MOST_ID = 8_192, 256
#: Smaller RSA keys can be factored.
LEAST_RSA_BITS = 2_048


class Presented(NamedTuple):
    """What a token says of itself, before it is verified: only good for finding its keys."""

    issuer: str
    kid: str
    jku: str
    alg: str


class Accepted(NamedTuple):
    """What was verified and is of use: the token's id and the tenant that it speaks for."""

    jti: str
    tenant: str


def is_signed(token: str) -> bool:
    """Whether a bearer token has the form of a signed one (RFC 7515 compact serialization)."""
    return token.count(".") == 2 and token.startswith("ey")


def present(token: str) -> Presented:
    """Header and issuer of a token. Raises Login for what is no token of ours to read."""
    if len(token) > MOST_CHARACTERS:
        raise _refused("is too long")
    parts = token.split(".")
    header, claims = _json(parts[0]), _json(parts[1])
    if header.get("alg") not in ALGORITHMS:
        raise _refused(f"must be signed by one of {', '.join(ALGORITHMS)}")
    if str(header.get("typ", "JWT")).upper() != "JWT":
        raise _refused("must have the typ JWT")
    kid, jku, issuer = header.get("kid"), header.get("jku", ""), claims.get("iss")
    if not isinstance(kid, str) or not kid or len(kid) > MOST_ID or not isinstance(jku, str):
        raise _refused("must name its key by kid")
    if not isinstance(issuer, str):
        raise _refused("must name its issuer")
    return Presented(issuer, kid, jku, header["alg"])


def has_key(presented: Presented, keys: Iterable[Mapping[str, Any]]) -> bool:
    """Whether one of these keys may be the one that signed."""
    return any(_may_have_signed(presented, key) for key in keys)


def verify(
    token: str, presented: Presented, keys: Iterable[Mapping[str, Any]], audience: str, now: int
) -> Accepted:
    """What a token says when it is signed by one of the keys, meant for this address, and fresh.

    `now` is in microseconds. Raises Login.
    """
    for key in keys:
        if _may_have_signed(presented, key):
            claims = _signed_claims(token, presented, key)
            if claims is not None:
                return _judge(claims, presented, audience, now // 1_000_000)
    raise _refused("is signed by no key that is known of its issuer")


def _may_have_signed(presented: Presented, key: Mapping[str, Any]) -> bool:
    family = "EC" if presented.alg.startswith("ES") else "RSA"
    return (
        key.get("kid") == presented.kid
        and key.get("kty") == family
        and key.get("use", "sig") == "sig"
        and key.get("alg", presented.alg) == presented.alg
    )


def _signed_claims(
    token: str, presented: Presented, key: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The claims when the signature holds, else None. Curve and algorithm must fit each other."""
    registry = jws.JWSRegistry(algorithms=[presented.alg], strict_check_header=False)
    registry.max_header_length = MOST_CHARACTERS
    public = {name: value for name, value in key.items() if name in _PUBLIC}
    try:
        if public["kty"] == "RSA" and _bits(public["n"]) < LEAST_RSA_BITS:
            return None
        imported = jwk.import_key(public)
        found = jws.deserialize_compact(token, imported, registry=registry)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return _object(found.payload)


#: Members of a public JWK that are of use here; `d` and its kin are never read.
_PUBLIC = frozenset({"kty", "crv", "x", "y", "n", "e"})


def _bits(modulus: str) -> int:
    """The size of an RSA key, known before it is imported: the library warns of small ones."""
    return int.from_bytes(urlsafe_b64decode(modulus.encode("ascii")), "big").bit_length()


def _judge(claims: dict[str, Any], presented: Presented, audience: str, now: int) -> Accepted:
    if claims.get("iss") != presented.issuer:
        raise _refused("must name its issuer")
    said = claims.get("aud")
    if audience not in (said if isinstance(said, list) else [said]):
        raise _refused("is meant for another address: aud must be the address that is called")
    issued, expires, earliest = (_seconds(claims, name) for name in ("iat", "exp", "nbf"))
    if issued is None or expires is None:
        raise _refused("must say by iat and exp when it holds")
    if not 0 < expires - issued <= LIFETIME:
        raise _refused(f"must not hold longer than {LIFETIME} seconds")
    if expires <= now - SKEW:
        raise _refused("has expired")
    if max(issued, earliest or 0) > now + SKEW:
        raise _refused("does not hold yet")
    jti, tenant = claims.get("jti"), claims.get("tenant", "")
    if not isinstance(jti, str) or not 0 < len(jti) <= MOST_ID:
        raise _refused("must have an id of its own (jti)")
    if not isinstance(tenant, str):
        raise _refused("must name its tenant by a text")
    return Accepted(jti, tenant)


def _seconds(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_FAR < value < _FAR:
        raise _refused(f"must give {name} in seconds")
    return float(value)


_FAR = 1e12


def _json(part: str) -> dict[str, Any]:
    try:
        return _object(urlsafe_b64decode(part.encode("ascii"))) or {}
    except (Base64Error, ValueError):
        raise _refused("cannot be read") from None


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise _refused("cannot be read") from None
    return value if isinstance(value, dict) else None


def _refused(what: str) -> Login:
    return Login(f"The signed token {what}", rule="client-token")
