"""Signed tokens: what is refused before a key is looked at, and which key signed. Pure.

RFC 7515 (JWS compact serialization), RFC 7519, RFC 8725. A token never says how it is to be
verified: its algorithm must be one of a list, its key one that is known of its issuer, and what it
brings along for that (keys, certificates, addresses, extensions) refuses it unread.
"""

from __future__ import annotations

import json
from binascii import Error as Base64Error
from collections.abc import Collection, Iterable, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

from joserfc import jwk, jws
from joserfc.errors import JoseError
from joserfc.util import urlsafe_b64decode

from fhir_gateway.errors import Login

#: All that are ever allowed: asymmetric, so that whoever verifies cannot sign.
ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512",
)  # fmt: skip
#: Seconds that clocks may be apart.
SKEW = 30
#: Longer tokens, and longer ids in them, are nobody's.
MOST_CHARACTERS, MOST_ID = 8_192, 256
#: Smaller RSA keys can be factored.
LEAST_RSA_BITS = 2_048

#: Header parameters that would change how a token is verified, or by what.
_DANGEROUS = ("crit", "b64", "zip", "enc", "jwk", "x5c", "x5u")
#: Members of a public JWK that are of use here; `d` and its kin are never read.
_PUBLIC = frozenset({"kty", "crv", "x", "y", "n", "e"})
_FAR = 1e12


class Unverified(NamedTuple):
    """What a token says of itself: only good for finding its keys until `is_signed_by` says so."""

    token: str
    alg: str
    kid: str
    typ: str
    jku: str
    issuer: str
    claims: Mapping[str, Any]


def is_signed(token: str) -> bool:
    """Whether a bearer token has the form of a signed one (RFC 7515 compact serialization)."""
    return token.count(".") == 2 and token.startswith("ey")


def read(token: str, algorithms: Collection[str]) -> Unverified:
    """Header and claims of a token. Raises Login for what must not even be verified."""
    if len(token) > MOST_CHARACTERS:
        raise refused("is too long")
    parts = token.split(".")
    if len(parts) != 3:
        raise refused("cannot be read")
    header, claims = _json(parts[0]), _json(parts[1])
    if header.get("alg") not in algorithms:
        raise refused(f"must be signed by one of {', '.join(algorithms)}")
    for name in _DANGEROUS:
        if name in header:
            raise refused(f"must not say {name} in its header")
    kid, issuer = header.get("kid"), claims.get("iss")
    typ, jku = header.get("typ", ""), header.get("jku", "")
    if not isinstance(kid, str) or not 0 < len(kid) <= MOST_ID:
        raise refused("must name its key by kid")
    if not isinstance(issuer, str) or not issuer:
        raise refused("must name its issuer")
    if not isinstance(typ, str) or not isinstance(jku, str):
        raise refused("cannot be read")
    return Unverified(token, header["alg"], kid, typ, jku, issuer, claims)


def has_key(said: Unverified, keys: Iterable[Mapping[str, Any]]) -> bool:
    """Whether one of these keys may be the one that signed."""
    return any(_may_have_signed(said, key) for key in keys)


def is_signed_by(said: Unverified, keys: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the token is signed by one of the keys."""
    return any(_may_have_signed(said, key) and _holds(said, key) for key in keys)


def check_signed(said: Unverified, keys: Iterable[Mapping[str, Any]]) -> None:
    """Raises Login when none of the keys signed the token."""
    if not is_signed_by(said, keys):
        raise refused("is signed by no key that is known of its issuer")


def key_fault(key: Any) -> str | None:
    """Why something is no public JWK that a token may be verified by; None when it is one."""
    if not isinstance(key, Mapping) or key.get("kty") not in ("RSA", "EC") or not key.get("kid"):
        return "must be a JWK of kty RSA or EC with a kid"
    if "d" in key:
        return "is a private key, which only its owner may have"
    try:
        if key["kty"] == "RSA" and _bits(key["n"]) < LEAST_RSA_BITS:
            return f"has fewer than {LEAST_RSA_BITS} bits"
        jwk.import_key({name: value for name, value in key.items() if name in _PUBLIC})
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        return "cannot be read as a key"
    return None


def seconds(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate; None when it is not there. Raises Login for what is none."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_FAR < value < _FAR:
        raise refused(f"must give {name} in seconds")
    return float(value)


def check_begun(claims: Mapping[str, Any], now: float) -> None:
    """Raises Login for a token that was issued, or holds, only from later on."""
    if max(seconds(claims, "iat") or 0, seconds(claims, "nbf") or 0) > now + SKEW:
        raise refused("does not hold yet")


def names_audience(claims: Mapping[str, Any], audiences: Collection[str]) -> bool:
    """Whether one of these, to the letter, is among those that the token is meant for."""
    said = claims.get("aud")
    named = said if isinstance(said, list) else [said]
    return any(isinstance(one, str) and one in audiences for one in named)


def refused(what: str) -> Login:
    """The refusal of a signed token."""
    return Login(f"The signed token {what}", rule="client-token")


def _may_have_signed(said: Unverified, key: Mapping[str, Any]) -> bool:
    family = "EC" if said.alg.startswith("ES") else "RSA"
    return (
        key.get("kid") == said.kid
        and key.get("kty") == family
        and key.get("use", "sig") == "sig"
        and key.get("alg", said.alg) == said.alg
    )


#: Signatures that held, by the hash of token, algorithm and key: what held once holds for ever. The
#: keys are looked for each time, so one that was withdrawn is not asked for any more.
_held: dict[bytes, None] = {}
_MOST_HELD = 10_000


def _holds(said: Unverified, key: Mapping[str, Any]) -> bool:
    """Whether the signature holds. Curve and algorithm must fit each other."""
    public = {name: value for name, value in key.items() if name in _PUBLIC}
    named = json.dumps([said.token, said.alg, sorted(public.items())], default=str)
    name = sha256(named.encode()).digest()
    if name in _held:
        return True
    if not _verifies(said, public):
        return False
    if len(_held) >= _MOST_HELD:
        _held.clear()
    _held[name] = None
    return True


def _verifies(said: Unverified, public: Mapping[str, Any]) -> bool:
    registry = jws.JWSRegistry(algorithms=[said.alg], strict_check_header=False)
    registry.max_header_length = MOST_CHARACTERS
    try:
        if public["kty"] == "RSA" and _bits(public["n"]) < LEAST_RSA_BITS:
            return False
        jws.deserialize_compact(said.token, jwk.import_key(dict(public)), registry=registry)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        return False
    return True


def _bits(modulus: str) -> int:
    """The size of an RSA key, known before it is imported: the library warns of small ones."""
    return int.from_bytes(urlsafe_b64decode(modulus.encode("ascii")), "big").bit_length()


def _json(part: str) -> dict[str, Any]:
    try:
        value = json.loads(urlsafe_b64decode(part.encode("ascii")))
    except (Base64Error, ValueError, RecursionError):
        raise refused("cannot be read") from None
    return value if isinstance(value, dict) else {}
