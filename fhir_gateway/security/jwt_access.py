"""The access token of an outside OpenID provider: judged, and read as who it speaks for. Pure.

RFC 9068 (JWT access tokens), RFC 8705 (bound to a certificate), SMART App Launch 2.2 (scope,
patient, fhirUser), IHE ITI-72. An ID token says who signed in, not what may be done: it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from fhir_gateway.errors import Login
from fhir_gateway.security.issuers import ROLES, Issuer
from fhir_gateway.security.jwt import (
    MOST_ID,
    SKEW,
    Unverified,
    check_begun,
    names_audience,
    refused,
    seconds,
)

#: Claims that only ID tokens have (OpenID Connect Core 3.1.3.6, 3.3.2.11).
_OF_ID_TOKENS = ("nonce", "at_hash", "c_hash")
#: How providers mark what a token is, beside its typ: claim -> values of access tokens.
_MARKS = {"typ": ("bearer", "at+jwt"), "token_use": ("access",)}

_PERSON = re.compile(r"(?:.*/)?((?:Practitioner|PractitionerRole|Patient|RelatedPerson|Person)/"
                     r"[A-Za-z0-9\-.]{1,64})")  # fmt: skip
_PURPOSE = re.compile(r"[A-Z]{1,16}")


class Said(NamedTuple):
    """Whom a verified token speaks for. `until` is in microseconds; `thumbprint` is of the
    certificate that the token is bound to (base64url of SHA-256), "" for none."""

    issuer: str
    role: str
    institution: str
    subject: str
    user: str
    patient: str
    client: str
    scopes: tuple[str, ...] | None
    purpose: str
    jti: str
    thumbprint: str
    until: int


def judge(token: Unverified, issuer: Issuer, base_url: str, now: int) -> Said:
    """What a token says whose signature holds. `now` is in microseconds.

    `base_url` is the FHIR base as clients see it: persons of another server are not ours.
    Raises Login with what does not fit.
    """
    claims, at = token.claims, now // 1_000_000
    _check_kind(token, issuer)
    if not names_audience(claims, issuer.audience):
        raise refused("is meant for another server: aud must be one that the operator listed")
    expires, issued = seconds(claims, "exp"), seconds(claims, "iat")
    if expires is None:
        raise refused("must say by exp until when it holds")
    if expires <= at - SKEW:
        raise refused("has expired")
    if expires - (at + SKEW if issued is None else issued) > issuer.lifetime:
        raise refused(f"must not hold longer than {issuer.lifetime} seconds")
    check_begun(claims, at)
    institution = _institution(claims, issuer)
    user, patient = _people(claims, issuer, base_url)
    return Said(
        issuer=issuer.issuer,
        role=_role(claims, issuer),
        institution=institution,
        subject=_text(claims, "sub"),
        user=user or _text(claims, "sub"),
        patient=patient,
        client=_client(claims, issuer),
        scopes=_scopes(claims, issuer),
        purpose=purpose_in(_claim(claims, issuer.claims["purpose"])) or issuer.purpose,
        jti=str(claims.get("jti", ""))[:MOST_ID],
        thumbprint=thumbprint_in(claims),
        until=int(expires * 1_000_000),
    )


def purpose_in(value: Any) -> str:
    """The code of a purpose of use: a text, a coding, or the first of several; "" for none."""
    while isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, dict):
        value = value.get("code")
    return value if isinstance(value, str) and _PURPOSE.fullmatch(value) else ""


def thumbprint_in(claims: Mapping[str, Any]) -> str:
    """The certificate that a token is bound to (RFC 8705 3.1).

    Raises Login for a token that is bound to what cannot be checked here.
    """
    bound = claims.get("cnf")
    if bound is None:
        return ""
    found = bound.get("x5t#S256") if isinstance(bound, dict) and len(bound) == 1 else None
    if not isinstance(found, str) or not found:
        raise refused("is bound to something else than a certificate (cnf), which is not checked")
    return found


def _check_kind(token: Unverified, issuer: Issuer) -> None:
    """An access token, and no other kind of the same issuer."""
    claims = token.claims
    if token.typ.lower() not in issuer.types:
        raise refused(f"must have the typ {' or '.join(issuer.types)}")
    if any(name in claims for name in _OF_ID_TOKENS):
        raise refused("is an ID token: send the access token")
    for name, values in _MARKS.items():
        if name in claims and str(claims[name]).lower() not in values:
            raise refused("is no access token")
    client = _client(claims, issuer)
    if client and names_audience(claims, (client,)):
        raise refused("is an ID token, meant for the client itself: send the access token")


def _role(claims: Mapping[str, Any], issuer: Issuer) -> str:
    said = _claim(claims, issuer.claims["role"])
    named = [said] if isinstance(said, str) else said if isinstance(said, list) else []
    known = issuer.roles or {role: role for role in ROLES}
    found = {known[one] for one in named if isinstance(one, str) and one in known}
    if not found and issuer.role:
        return issuer.role
    if len(found) != 1:
        count = "no role" if not found else "several roles"
        raise Login(
            f"The token names {count} that this gateway knows: its claim "
            f"{issuer.claims['role']} must be mapped to one in [issuer.roles] of the file of "
            "issuers",
            rule="client-token",
        )
    return found.pop()


def _institution(claims: Mapping[str, Any], issuer: Issuer) -> str:
    """The logical id that a claim stands for, of a tenant where the issuer has tenants."""
    if issuer.tenants:
        tenant = _claim(claims, issuer.claims["tenant"])
        if not isinstance(tenant, str) or tenant not in issuer.tenants:
            raise Login(
                f"The token is of no known tenant: add its claim {issuer.claims['tenant']} to "
                "[issuer.tenants] of the file of issuers",
                rule="client-token",
            )
        return issuer.tenants[tenant]
    said = _claim(claims, issuer.claims["institution"])
    if said is None:
        return issuer.institution
    if isinstance(said, str) and not issuer.institutions:
        return said.removeprefix("Organization/")
    if not isinstance(said, str) or said not in issuer.institutions:
        raise Login(
            f"The token names an institution that is not known: add its claim "
            f"{issuer.claims['institution']} to [issuer.institutions] of the file of issuers",
            rule="client-token",
        )
    return issuer.institutions[said]


def _people(claims: Mapping[str, Any], issuer: Issuer, base_url: str) -> tuple[str, str]:
    """The person behind the token as a reference, and the Patient that it is bound to."""
    user, patient = (_claim(claims, issuer.claims[name]) for name in ("user", "patient"))
    reference = ""
    if isinstance(user, str) and (match := _PERSON.fullmatch(user)):
        base = user.removesuffix(match[1]).rstrip("/")
        reference = match[1] if base in ("", base_url.rstrip("/")) else user[:MOST_ID]
    bound = patient.removeprefix("Patient/") if isinstance(patient, str) else ""
    if not bound and reference.startswith("Patient/"):
        bound = reference.removeprefix("Patient/")
    return reference, bound


def _client(claims: Mapping[str, Any], issuer: Issuer) -> str:
    said = _claim(claims, issuer.claims["client"]) or claims.get("azp")
    return said[:MOST_ID] if isinstance(said, str) else ""


def _scopes(claims: Mapping[str, Any], issuer: Issuer) -> tuple[str, ...] | None:
    """The scopes as granted; None where tokens of the issuer have none."""
    said = _claim(claims, issuer.claims["scope"])
    if said is None:
        return None
    named = said.split() if isinstance(said, str) else said
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        raise refused("must give its scopes as a text or a list of texts")
    return tuple(named)


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= MOST_ID:
        raise refused(f"must have a {name}")
    return value


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by its name, or by the path that the name spells."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
