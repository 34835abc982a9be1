"""The outside OpenID providers whose access tokens are believed: one TOML file of the operator.

People sign in elsewhere; this file says where, and what a token of each place means here: its
keys, for whom it must be meant, and which claim names the role, the institution, the person and
the purpose (docs/auth.md). OpenID Connect Core, RFC 9068, IHE ITI-71 (IUA). Pure: the text comes
in, a frozen value comes out, or every fault of the text.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

from fhir_gateway.errors import GatewayError, Invalid, Issue
from fhir_gateway.security.actor import Role
from fhir_gateway.security.jwt import ALGORITHMS, key_fault
from fhir_gateway.security.outbound import check_listed

#: Who may come with a token: the gateway itself and nobody do not.
ROLES = tuple(role for role in get_args(Role) if role not in ("system", "open"))
#: What is believed of an issuer that says nothing else.
USUAL_ALGORITHMS = ("RS256", "RS384", "ES256", "ES384", "PS256", "PS384")
USUAL_TYPES = ("at+jwt", "application/at+jwt")
#: Seconds that an access token may hold at the most, when the file does not say, and at all.
USUAL_LIFETIME, MOST_LIFETIME = 3_600, 86_400

#: claim of ours -> where it stands in a token, when the file does not say. A name with dots is
#: looked for as it is, then as a path.
USUAL_CLAIMS: Mapping[str, str] = {
    "role": "role",
    "institution": "institution",
    "tenant": "tenant",
    "user": "fhirUser",
    "patient": "patient",
    "scope": "scope",
    "purpose": "extensions.ihe_iua.purpose_of_use",
    "client": "client_id",
}

_KINDS: dict[str, type] = {
    "issuer": str, "audience": list, "algorithms": list, "types": list, "jwks_url": str,
    "keys": list, "lifetime": int, "claims": dict, "roles": dict, "institutions": dict,
    "tenants": dict, "role": str, "institution": str, "purpose": str,
    "authorization_endpoint": str, "token_endpoint": str,
}  # fmt: skip
_MOST = 1_024


class Issuer(NamedTuple):
    """One provider. `roles`, `institutions` and `tenants` say what values of its claims mean here;
    without `roles` a claim must be one of our own words, without `institutions` a logical id.
    `role`, `institution` and `purpose` hold where a token says none."""

    issuer: str
    audience: frozenset[str] = frozenset()
    algorithms: tuple[str, ...] = USUAL_ALGORITHMS
    types: tuple[str, ...] = USUAL_TYPES
    jwks_url: str = ""
    keys: tuple[Mapping[str, Any], ...] = ()
    lifetime: int = USUAL_LIFETIME
    claims: Mapping[str, str] = USUAL_CLAIMS
    roles: Mapping[str, str] = {}
    institutions: Mapping[str, str] = {}
    tenants: Mapping[str, str] = {}
    role: str = ""
    institution: str = ""
    purpose: str = ""
    authorization_endpoint: str = ""
    token_endpoint: str = ""


def read_issuers(text: str) -> Mapping[str, Issuer]:
    """The providers in a TOML file, by their `iss`. Raises Invalid with every fault of it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"The file of issuers is not TOML: {error}", rule="issuers") from None
    entries = document.get("issuer", [])
    if set(document) - {"issuer"} or not isinstance(entries, list):
        raise Invalid("The file of issuers has [[issuer]] tables only", rule="issuers")
    issues: list[Issue] = []
    found: dict[str, Issuer] = {}
    for number, entry in enumerate(entries):
        at = f"issuer[{number}]"
        issuer = _issuer(entry, at, issues)
        if issuer.issuer in found:
            _fault(issues, f"{at}.issuer", "stands there twice")
        found[issuer.issuer] = issuer
    if issues:
        raise Invalid(issues=tuple(issues))
    return found


def _issuer(entry: Any, at: str, issues: list[Issue]) -> Issuer:
    if not isinstance(entry, dict):
        _fault(issues, at, "must be a table")
        return Issuer("")
    for name, value in entry.items():
        if name not in _KINDS:
            _fault(issues, f"{at}.{name}", f"is none of {', '.join(_KINDS)}")
        elif not isinstance(value, _KINDS[name]) or isinstance(value, bool):
            _fault(issues, f"{at}.{name}", "has the wrong type")
    given: dict[str, Any] = {
        name: value
        for name, value in entry.items()
        if name in _KINDS and isinstance(value, _KINDS[name])
    }
    _check_address(given.get("issuer", ""), f"{at}.issuer", issues)
    _check_keys(given, at, issues)
    _check_meaning(given, at, issues)
    texts = {
        name: _texts(given.pop(name), f"{at}.{name}", issues)
        for name in ("audience", "algorithms", "types")
        if name in given
    }
    if not texts.get("audience"):
        _fault(issues, f"{at}.audience", "is required: the FHIR base that tokens are meant for")
    for algorithm in texts.get("algorithms", ()):
        if algorithm not in ALGORITHMS:
            _fault(issues, f"{at}.algorithms", f"are some of {', '.join(ALGORITHMS)}")
    given["claims"] = {**USUAL_CLAIMS, **given.get("claims", {})}
    given["keys"] = tuple(key for key in given.get("keys", ()) if isinstance(key, dict))
    given["issuer"] = given.get("issuer", "")
    given["audience"] = frozenset(texts.get("audience", ()))
    given["algorithms"] = texts.get("algorithms", USUAL_ALGORITHMS)
    given["types"] = tuple(one.lower() for one in texts.get("types", USUAL_TYPES))
    return Issuer(**given)


def _check_keys(given: Mapping[str, Any], at: str, issues: list[Issue]) -> None:
    """What tokens are verified by: an address of keys, or keys."""
    if not given.get("jwks_url") and not given.get("keys"):
        _fault(issues, at, "needs jwks_url or keys")
    for name in ("jwks_url", "authorization_endpoint", "token_endpoint"):
        if given.get(name):
            _check_address(given[name], f"{at}.{name}", issues)
    for number, key in enumerate(given.get("keys", ())):
        if fault := key_fault(key):
            _fault(issues, f"{at}.keys[{number}]", fault)
    lifetime = given.get("lifetime", USUAL_LIFETIME)
    if not 0 < lifetime <= MOST_LIFETIME:
        _fault(issues, f"{at}.lifetime", f"must be from 1 to {MOST_LIFETIME} seconds")


def _check_meaning(given: Mapping[str, Any], at: str, issues: list[Issue]) -> None:
    """What claims mean here."""
    for name in ("claims", "roles", "institutions", "tenants"):
        for key, value in given.get(name, {}).items():
            if not isinstance(value, str) or not 0 < len(value) <= _MOST:
                _fault(issues, f"{at}.{name}.{key[:64]}", "must be a text")
    for key in given.get("claims", {}):
        if key not in USUAL_CLAIMS:
            _fault(issues, f"{at}.claims.{key[:64]}", f"is none of {', '.join(USUAL_CLAIMS)}")
    named = {"role": given.get("role", "")} if given.get("role") else {}
    for key, role in {**given.get("roles", {}), **named}.items():
        if isinstance(role, str) and role not in ROLES:
            _fault(issues, f"{at}.roles.{key[:64]}", f"is none of the roles {', '.join(ROLES)}")


def _texts(given: list[Any], at: str, issues: list[Issue]) -> tuple[str, ...]:
    if not given or not all(isinstance(one, str) and 0 < len(one) <= _MOST for one in given):
        _fault(issues, at, "must be texts")
    return tuple(one for one in given if isinstance(one, str))


def _check_address(url: str, at: str, issues: list[Issue]) -> None:
    try:
        check_listed(url)
    except GatewayError as error:
        _fault(issues, at, f"is no address that can be used: {error.issues[0].diagnostics}")


def _fault(issues: list[Issue], at: str, what: str) -> None:
    issues.append(Issue("invalid", f"{at} {what}", at, "issuers"))
