"""A registered client: a system that proves itself by its own key and is given tokens. Pure.

SMART Backend Services 2.2, RFC 7523. The operator registers it (docs/auth.md): for which
institution it speaks, or in which role of the operator's own; its keys, or the address of them; the
scopes that it may ask for at the most. What a client is given is never more than that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from fhir_gateway.errors import GatewayError, Invalid, Issue
from fhir_gateway.security.certificate import read_thumbprint
from fhir_gateway.security.jwt import key_fault
from fhir_gateway.security.outbound import Policy, allowed_target, check_listed
from fhir_gateway.security.scopes import LAUNCH, Scope, parse, unknown

#: The roles that a system may come in; a person's are given by an OpenID provider.
CLIENT_ROLES = ("institution", "evaluator", "regulator", "administrator")
_OF_INSTITUTIONS = ("institution", "evaluator")

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~\-]{0,63}")
_PURPOSE = re.compile(r"[A-Z]{1,16}")
MOST_KEYS = 64


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """One client. `institution` is the logical id of its Organization; a regulator's and an
    administrator's may be none. `certificate` is the SHA-256 (base64url) of the only certificate
    that it may come with, "" for any or none. `asserts_consent` says that its institution answers
    for having the patient's consent at each encounter (docs/consent.md)."""

    id: str
    name: str = ""
    role: str = "institution"
    institution: str = ""
    jwks: tuple[dict[str, Any], ...] = ()
    jwks_url: str = ""
    scopes: tuple[str, ...] = ()
    purpose: str = ""
    certificate: str = ""
    asserts_consent: bool = False
    active: bool = True


_encoder, _decoder = msgspec.json.Encoder(order="sorted"), msgspec.json.Decoder(Client)


def body_of(client: Client) -> bytes:
    """What is stored of a client."""
    return _encoder.encode(client)


def client_of(body: bytes) -> Client:
    """The inverse of `body_of`."""
    return _decoder.decode(body)


def check_client(client: Client, policy: Policy) -> None:
    """Raises Invalid with everything that is wrong with a client. `policy` is what the gateway may
    call: keys are fetched from nowhere else."""
    issues = [*_who(client), *_keys(client, policy), *_what(client)]
    if issues:
        raise Invalid(issues=tuple(issues))


def keys_in(document: Any) -> tuple[dict[str, Any], ...]:
    """The keys of a JWK Set, or one key. Raises Invalid."""
    found = document.get("keys", [document]) if isinstance(document, Mapping) else None
    if not isinstance(found, list) or not all(isinstance(key, dict) for key in found):
        raise Invalid("A JWK Set is an object with an array of keys", rule="client-keys")
    return tuple(found)


def over_granted(client: Client, scopes: Iterable[str]) -> list[str]:
    """Those of these scopes that mean nothing, or are more than the client may have."""
    wanted = list(dict.fromkeys(scopes))
    bad = [one.text for one in unknown(wanted)]
    may = [one for one in map(parse, client.scopes) if isinstance(one, Scope)]
    for text in wanted:
        scope = parse(text)
        # a system is launched by nobody, and no person signs in to it
        if text in LAUNCH or (isinstance(scope, Scope) and not _is_within(scope, may)):
            bad.append(text)
    return bad


def _is_within(scope: Scope, may: Iterable[Scope]) -> bool:
    """Whether every letter of a scope is within one that is allowed: of the same level, of its
    type, and with no condition that the scope does not have itself."""
    near = [
        one
        for one in may
        if one.level == scope.level
        and one.type in ("*", scope.type)
        and set(one.query) <= set(scope.query)
    ]
    return all(any(letter in one.letters for one in near) for letter in scope.letters)


def _who(client: Client) -> Iterable[Issue]:
    if not _ID.fullmatch(client.id):
        yield _issue("id", "must be 1 to 64 letters, digits and ._~- of ASCII")
    if client.role not in CLIENT_ROLES:
        yield _issue("role", f"is one of {', '.join(CLIENT_ROLES)}")
    elif client.role in _OF_INSTITUTIONS and not client.institution:
        yield _issue("institution", "is required: the id of the Organization that it speaks for")


def _keys(client: Client, policy: Policy) -> Iterable[Issue]:
    if bool(client.jwks) == bool(client.jwks_url):
        yield _issue("jwks", "or jwks-url is required, and not both: the client's public keys")
    if len(client.jwks) > MOST_KEYS:
        yield _issue("jwks", f"has more than {MOST_KEYS} keys")
    for number, key in enumerate(client.jwks[:MOST_KEYS]):
        if fault := key_fault(key):
            yield _issue(f"jwks.keys[{number}]", fault)
    if client.jwks_url:
        try:
            check_listed(client.jwks_url)
            allowed_target(client.jwks_url, policy)
        except GatewayError as error:
            yield _issue(
                "jwks-url",
                f"cannot be called: {error.issues[0].diagnostics}; list its origin in "
                "FHIR_GATEWAY_OUTBOUND_ORIGINS",
            )


def _what(client: Client) -> Iterable[Issue]:
    if not client.scopes:
        yield _issue("scope", "is required, such as system/*.rs: without one it may do nothing")
    for one in unknown(client.scopes):
        yield _issue("scope", f"{one.text} means nothing: {one.why}")
    for text in client.scopes:
        scope = parse(text)
        if text in LAUNCH or (isinstance(scope, Scope) and scope.level != "system"):
            yield _issue("scope", f"{text} is for persons; a system has system/… scopes")
    if client.purpose and not _PURPOSE.fullmatch(client.purpose):
        yield _issue("purpose", "is a code of v3 PurposeOfUse, such as TREAT")
    if client.certificate:
        try:
            read_thumbprint(client.certificate)
        except Invalid as error:
            yield _issue("certificate", error.issues[0].diagnostics)


def _issue(what: str, why: str) -> Issue:
    return Issue("invalid", f"{what} {why}", what, "client")
