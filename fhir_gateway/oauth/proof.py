"""Who calls an endpoint of this door: a client by an assertion that it signed, or by its token.

SMART Backend Services 2.2, RFC 7521 4.2, RFC 7523 2.2. An assertion is good once: here, or for a
token. Its keys are those that the operator registered, or are fetched from the one address that
was registered; what a token says of its own keys is never followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from starlette.requests import Request

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, Login, Unavailable
from fhir_gateway.interactions.authenticate import authenticate, check_certificate
from fhir_gateway.interactions.clients import client_named
from fhir_gateway.interactions.key_sets import keys_at
from fhir_gateway.interactions.tokens import use_once
from fhir_gateway.security.clients import Client
from fhir_gateway.security.jwt import Unverified, has_key
from fhir_gateway.security.jwt_assertion import Proved, present, prove
from fhir_gateway.security.origin import is_loopback, root_of

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TOKEN_PATH = "/oauth/token"  # noqa: S105 - an address


class Asking(NamedTuple):
    """Who asks: the id of a registered client, "" for an administrator without one."""

    client: str
    is_administrator: bool


def root(gateway: Gateway, request: Request) -> str:
    """The address of this server. Raises Unavailable where it would be the caller's word: what a
    client signs must be meant for us, and nobody else may choose what that means."""
    settings = gateway.settings
    if not settings.base_url and not is_loopback(settings.host):
        raise Unavailable(
            "Tokens cannot be given out yet: the operator has to set FHIR_GATEWAY_BASE_URL",
            rule="setting-value",
        )
    return root_of(request.scope, request.headers, settings)


async def prove_client(
    gateway: Gateway, request: Request, form: Mapping[str, str]
) -> tuple[Client, Proved]:
    """The client that signed the assertion of a form, which is not used up yet.

    Raises Invalid for a form without one, Login for one that proves nothing, Unavailable when the
    client's keys cannot be had.
    """
    if form.get("client_assertion_type", ASSERTION_TYPE) != ASSERTION_TYPE:
        raise Invalid(f"client_assertion_type must be {ASSERTION_TYPE}", rule="invalid_request")
    assertion = form.get("client_assertion", "")
    if not assertion or "client_assertion_type" not in form:
        raise Login(
            "Prove the client by client_assertion and client_assertion_type (private_key_jwt)",
            rule="credential",
        )
    said = present(assertion)
    client = await client_named(gateway, said.issuer)
    if client is None or not client.active or form.get("client_id", client.id) != client.id:
        raise Login("No such client is registered, or it was disabled", rule="client")
    if said.jku and said.jku != client.jwks_url:
        raise Login("jku is not the address of keys that was registered", rule="client-token")
    here = root(gateway, request)
    endpoints = frozenset({f"{here}{TOKEN_PATH}", f"{here}{request.url.path}"})
    proved = prove(said, await _keys(gateway, client, said), endpoints, gateway.clock.now())
    if client.certificate:
        check_certificate(gateway, request.headers, client.certificate)
    return client, proved


async def asking(gateway: Gateway, request: Request, form: Mapping[str, str]) -> Asking:
    """Who may ask about tokens: a registered client, or an administrator. Raises Login."""
    if "client_assertion" in form:
        client, proved = await prove_client(gateway, request, form)
        await use_once(gateway, client, proved)
        return Asking(client.id, client.role == "administrator")
    actor = await authenticate(gateway, request.headers)
    registered = bool(actor.client) and await client_named(gateway, actor.client) is not None
    if not registered and actor.role not in ("administrator", "open"):
        raise Login("Only registered clients and administrators may ask here", rule="client")
    return Asking(actor.client if registered else "", actor.role in ("administrator", "open"))


async def _keys(
    gateway: Gateway, client: Client, said: Unverified
) -> tuple[Mapping[str, Any], ...]:
    if client.jwks:
        return client.jwks
    found = await keys_at(gateway, client.jwks_url, lambda keys: has_key(said, keys), listed=False)
    return tuple(found)
