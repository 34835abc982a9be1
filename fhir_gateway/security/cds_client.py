"""The CDS clients that are trusted: who signs for which institution, and which servers are theirs.

One TOML file that the operator keeps (docs/cds-hooks.md); CDS Hooks 2.0, "Trusting CDS Clients".
An issuer speaks for one institution, or for one each of its tenants; its keys are in the file or
at an address that the file lists. Pure: the text comes in, a frozen value comes out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any, NamedTuple

from fhir_gateway.errors import GatewayError, Invalid, Issue
from fhir_gateway.security.outbound import check_listed

#: Most characters of an issuer or a tenant.
_MOST = 1_024
_KINDS: dict[str, type] = {
    "institution": str,
    "issuer": str,
    "jwks_urls": list,
    "keys": list,
    "tenants": dict,
    "fhir_servers": list,
    "proposes": bool,
}


class Client(NamedTuple):
    """One client. `institution` is a logical id; `tenants` names others by the claim `tenant`.

    `keys` are public JWKs; `jwks_urls` are where keys may be fetched, the first by default.
    `proposes`: its cards may suggest to create a proposed Appointment.
    """

    institution: str
    issuer: str = ""
    jwks_urls: tuple[str, ...] = ()
    keys: tuple[Mapping[str, Any], ...] = ()
    tenants: Mapping[str, str] = {}
    fhir_servers: tuple[str, ...] = ()
    proposes: bool = False


class Clients(NamedTuple):
    """All clients: those that sign by their issuer, the FHIR servers of each institution, and the
    institutions whose cards may suggest proposed Appointments."""

    by_issuer: Mapping[str, Client] = {}
    servers: Mapping[str, frozenset[str]] = {}
    proposing: frozenset[str] = frozenset()

    def may_ask(self, institution: str | None, server: str) -> bool:
        """Whether this FHIR base may be asked for what a call of the institution did not send."""
        return server.rstrip("/") in self.servers.get(institution or "", frozenset())


def read_clients(text: str) -> Clients:
    """The clients in a TOML file. Raises Invalid with every fault of it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"The file of CDS clients is not TOML: {error}", rule="cds-clients") from None
    entries = document.get("client", [])
    if set(document) - {"client"} or not isinstance(entries, list):
        raise Invalid("The file of CDS clients has [[client]] tables only", rule="cds-clients")
    issues: list[Issue] = []
    clients: list[Client] = []
    for number, entry in enumerate(entries):
        client = _client(entry, f"client[{number}]", issues)
        if any(client.issuer and client.issuer == other.issuer for other in clients):
            _fault(issues, f"client[{number}].issuer", "stands there twice")
        clients.append(client)
    if issues:
        raise Invalid(issues=tuple(issues))
    servers: dict[str, frozenset[str]] = {}
    proposing: set[str] = set()
    for client in clients:
        for institution in {client.institution, *client.tenants.values()} - {""}:
            proposing |= {institution} if client.proposes else set()
            servers[institution] = servers.get(institution, frozenset()).union(client.fhir_servers)
    by_issuer = {one.issuer: one for one in clients if one.issuer}
    return Clients(by_issuer, servers, frozenset(proposing))


def _client(entry: Any, at: str, issues: list[Issue]) -> Client:
    if not isinstance(entry, dict):
        _fault(issues, at, "must be a table")
        return Client("")
    for name in entry:
        if name not in _KINDS:
            _fault(issues, f"{at}.{name}", f"is none of {', '.join(_KINDS)}")
        elif not isinstance(entry[name], _KINDS[name]):
            _fault(issues, f"{at}.{name}", "has the wrong type")
    given = {name: kind() for name, kind in _KINDS.items()}
    given |= {name: entry[name] for name in _KINDS if isinstance(entry.get(name), _KINDS[name])}
    _check_signing(given, at, issues)
    return Client(
        given["institution"],
        given["issuer"],
        _addresses(given["jwks_urls"], f"{at}.jwks_urls", issues),
        tuple(_key(key, f"{at}.keys[{n}]", issues) for n, key in enumerate(given["keys"])),
        _tenants(given["tenants"], f"{at}.tenants", issues),
        tuple(
            one.rstrip("/")
            for one in _addresses(given["fhir_servers"], f"{at}.fhir_servers", issues)
        ),
        given["proposes"],
    )


def _check_signing(given: dict[str, Any], at: str, issues: list[Issue]) -> None:
    if not given["institution"] and not given["tenants"]:
        _fault(issues, f"{at}.institution", "is required: the id of the Organization")
    if len(given["issuer"]) > _MOST:
        _fault(issues, f"{at}.issuer", "is too long")
    has_keys = bool(given["jwks_urls"] or given["keys"])
    if given["issuer"] and not has_keys:
        _fault(issues, at, "needs jwks_urls or keys, because it has an issuer")
    if (has_keys or given["tenants"]) and not given["issuer"]:
        _fault(issues, at, "needs an issuer, because it has keys or tenants")


def _addresses(given: list[Any], at: str, issues: list[Issue]) -> tuple[str, ...]:
    for number, url in enumerate(given):
        try:
            check_listed(url if isinstance(url, str) else "")
        except GatewayError as error:
            _fault(issues, f"{at}[{number}]", f"cannot be called: {error.issues[0].diagnostics}")
    return tuple(map(str, given))


def _key(key: Any, at: str, issues: list[Issue]) -> Mapping[str, Any]:
    if not isinstance(key, dict) or key.get("kty") not in ("RSA", "EC") or not key.get("kid"):
        _fault(issues, at, "must be a JWK of kty RSA or EC with a kid")
        return {}
    if "d" in key:
        _fault(issues, at, "is a private key, which only its owner may have")
    return key


def _tenants(given: dict[str, Any], at: str, issues: list[Issue]) -> Mapping[str, str]:
    for tenant, institution in given.items():
        if not isinstance(institution, str) or not institution or len(tenant) > _MOST:
            _fault(issues, f"{at}.{tenant[:64]}", "must be the id of an Organization")
    return {tenant: str(institution) for tenant, institution in given.items()}


def _fault(issues: list[Issue], at: str, what: str) -> None:
    issues.append(Issue("invalid", f"{at} {what}", at, "cds-clients"))
