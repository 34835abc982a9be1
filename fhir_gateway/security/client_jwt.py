"""The signed token of a CDS client: read, verified, judged. Pure.

CDS Hooks 2.0, "Trusting CDS Clients"; RFC 7519, RFC 8725. Signatures are asymmetric: ES384 and
RS384 as the standard recommends, ES256 and RS256 because many hospital systems know no others and
nobody can forge those either. Everything else is refused before a key is looked at, so that no
`none` and no HMAC over a public key is ever tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from fhir_gateway.security.jwt import (
    MOST_CHARACTERS,
    MOST_ID,
    SKEW,
    Unverified,
    check_begun,
    check_signed,
    has_key,
    is_signed,
    names_audience,
    read,
    refused,
    seconds,
)

ALGORITHMS = ("ES384", "RS384", "ES256", "RS256")
#: Seconds from iat to exp at the most.
LIFETIME = 300

Presented = Unverified

__all__ = [
    "ALGORITHMS", "LIFETIME", "MOST_CHARACTERS", "MOST_ID", "SKEW", "Accepted", "Presented",
    "has_key", "is_signed", "present", "verify",
]  # fmt: skip


class Accepted(NamedTuple):
    """What was verified and is of use: the token's id and the tenant that it speaks for."""

    jti: str
    tenant: str


def present(token: str) -> Presented:
    """Header and claims of a token. Raises Login for what is no token of ours to read."""
    presented = read(token, ALGORITHMS)
    if presented.typ.upper() not in ("", "JWT"):
        raise refused("must have the typ JWT")
    return presented


def verify(
    presented: Presented, keys: Iterable[Mapping[str, Any]], audience: str, now: int
) -> Accepted:
    """What a token says when it is signed by one of the keys, meant for this address, and fresh.

    `now` is in microseconds. Raises Login.
    """
    check_signed(presented, keys)
    claims, at = presented.claims, now // 1_000_000
    if not names_audience(claims, (audience,)):
        raise refused("is meant for another address: aud must be the address that is called")
    issued, expires = seconds(claims, "iat"), seconds(claims, "exp")
    if issued is None or expires is None:
        raise refused("must say by iat and exp when it holds")
    if not 0 < expires - issued <= LIFETIME:
        raise refused(f"must not hold longer than {LIFETIME} seconds")
    if expires <= at - SKEW:
        raise refused("has expired")
    check_begun(claims, at)
    jti, tenant = claims.get("jti"), claims.get("tenant", "")
    if not isinstance(jti, str) or not 0 < len(jti) <= MOST_ID:
        raise refused("must have an id of its own (jti)")
    if not isinstance(tenant, str):
        raise refused("must name its tenant by a text")
    return Accepted(jti, tenant)
