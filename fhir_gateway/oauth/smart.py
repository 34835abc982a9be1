"""GET [base]/.well-known/smart-configuration: where and how tokens are had here.

SMART App Launch 2.2, "Conformance". Systems get their tokens from this server. People sign in with
the providers that the operator trusts: those are named, and no endpoint is that is not there, so
an app finds no `authorization_endpoint` beside our token endpoint, which would not know its code.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, MethodNotAllowed
from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.interactions.issuers import issuers_of
from fhir_gateway.oauth.proof import TOKEN_PATH
from fhir_gateway.oauth.routes import INTROSPECT_PATH, REVOKE_PATH
from fhir_gateway.security.issuers import Issuer
from fhir_gateway.security.jwt_assertion import ALGORITHMS
from fhir_gateway.security.origin import (
    FHIR_PATH,
    base_of,
    preflight,
    root_of,
    shared_with,
)
from fhir_gateway.settings import Settings

PATH = f"{FHIR_PATH}/.well-known/smart-configuration"

_METHODS = "GET, HEAD, OPTIONS"
_SYSTEM_SCOPES = ("system/*.cruds", "system/*.rs", "system/*.read", "system/*.write")
_PERSONAL_SCOPES = (
    "user/*.cruds", "user/*.rs", "user/*.read", "user/*.write", "patient/*.rs", "patient/*.read",
)  # fmt: skip

Scope = MutableMapping[str, Any]
_Asgi = Callable[[Scope, Any, Any], Awaitable[None]]


def smart_configuration(settings: Settings, root: str) -> dict[str, Any]:
    """The document; `root` is the address of this server, without a slash at the end."""
    issuers = issuers_of(settings.issuers).values()
    return {
        "token_endpoint": f"{root}{TOKEN_PATH}",
        "introspection_endpoint": f"{root}{INTROSPECT_PATH}",
        "revocation_endpoint": f"{root}{REVOKE_PATH}",
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "scopes_supported": [*_SYSTEM_SCOPES, *(_PERSONAL_SCOPES if issuers else ())],
        "code_challenge_methods_supported": ["S256"],
        "capabilities": [
            "client-confidential-asymmetric",
            "permission-v1",
            "permission-v2",
            *(("permission-patient", "permission-user") if issuers else ()),
        ],
        "tls_client_certificate_bound_access_tokens": bool(settings.client_certificate_header),
        **_elsewhere(list(issuers)),
    }


def _elsewhere(issuers: list[Issuer]) -> dict[str, Any]:
    """The providers whose tokens are taken here (`authorization_servers` is of RFC 9728)."""
    if not issuers:
        return {}
    told = [
        {
            "issuer": one.issuer,
            "authorization_endpoint": one.authorization_endpoint,
            "token_endpoint": one.token_endpoint,
            "jwks_uri": one.jwks_url,
        }
        for one in issuers
    ]
    return {
        "authorization_servers": [one.issuer for one in issuers],
        "associated_issuers": [
            {name: value for name, value in one.items() if value} for one in told
        ],
    }


def smart_door(gateway: Gateway) -> _Asgi:
    """The document at its address: for everybody, from every page, whatever media type is asked."""

    async def smart(scope: Scope, receive: Any, send: Any) -> None:
        scope["template"] = PATH
        headers = {name.decode("latin-1"): value.decode("latin-1")
                   for name, value in scope["headers"]}  # fmt: skip
        shared = shared_with("", "", everyone=True)
        method = scope["method"]
        if method == "OPTIONS":
            await _send(send, 204, b"", (*shared, *preflight(_METHODS)))
            return
        kind, status, more = b"application/json", 200, shared
        try:
            if method not in ("GET", "HEAD"):
                raise MethodNotAllowed("The SMART configuration is a GET", rule="method")
            base_of(scope, headers, gateway.settings)  # no clean host, no addresses
            root = root_of(scope, headers, gateway.settings)
            body = msgspec.json.encode(smart_configuration(gateway.settings, root))
        except GatewayError as error:
            kind, status = b"application/fhir+json; charset=utf-8", error.status
            body = operation_outcome(error.issues)
            more = (*shared, (b"allow", _METHODS.encode()))
        more = (*more, (b"content-type", kind))
        await _send(send, status, body, more, head=method == "HEAD")

    return smart


async def _send(
    send: Any, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...], *,
    head: bool = False,
) -> None:  # fmt: skip
    length = (b"content-length", b"%d" % len(body))
    kept = (b"cache-control", b"max-age=60")
    await send({
        "type": "http.response.start", "status": status, "headers": [*headers, kept, length],
    })  # fmt: skip
    await send({"type": "http.response.body", "body": b"" if head else body})
