"""The assertion by which a client proves itself at the token endpoint: read and judged. Pure.

SMART Backend Services 2.2, "Obtaining access tokens"; RFC 7523 3. Signed by RS384 or ES384 with a
key of the client's own, meant for this very endpoint, good for five minutes at most and once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from fhir_gateway.security.jwt import (
    MOST_ID,
    SKEW,
    Unverified,
    check_begun,
    check_signed,
    names_audience,
    read,
    refused,
    seconds,
)
from fhir_gateway.security.jwt_access import purpose_in

ALGORITHMS = ("RS384", "ES384")
#: Seconds that an assertion may hold from now on, the clocks' difference aside.
LIFETIME = 300


class Proved(NamedTuple):
    """What a judged assertion says: its id, and the purpose of use where it names one."""

    jti: str
    purpose: str


def present(assertion: str) -> Unverified:
    """Header and claims, before any key is known. Raises Login for what must not be verified."""
    said = read(assertion, ALGORITHMS)
    if said.typ.upper() not in ("", "JWT", "CLIENT-AUTHENTICATION+JWT"):
        raise refused("must have the typ JWT")
    if said.claims.get("sub") != said.issuer:
        raise refused("must name the client by iss and sub alike")
    return said


def prove(
    said: Unverified, keys: Iterable[Mapping[str, Any]], endpoints: frozenset[str], now: int
) -> Proved:
    """What an assertion says when it is signed by one of the client's keys and meant for one of
    these addresses. `now` is in microseconds. Raises Login."""
    check_signed(said, keys)
    claims, at = said.claims, now // 1_000_000
    if not names_audience(claims, endpoints):
        raise refused("is meant for another address: aud must be this token endpoint")
    expires = seconds(claims, "exp")
    if expires is None:
        raise refused("must say by exp until when it holds")
    if expires <= at - SKEW:
        raise refused("has expired")
    if expires > at + LIFETIME + SKEW:
        raise refused(f"must not hold longer than {LIFETIME} seconds from now")
    check_begun(claims, at)
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti) <= MOST_ID:
        raise refused("must have an id of its own (jti)")
    extensions = claims.get("extensions")
    iua = extensions.get("ihe_iua") if isinstance(extensions, dict) else None
    return Proved(jti, purpose_in(iua.get("purpose_of_use")) if isinstance(iua, dict) else "")
