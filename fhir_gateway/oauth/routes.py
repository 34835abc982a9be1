"""The OAuth endpoints: token, introspection, revocation.

SMART Backend Services 2.2 (client_credentials with private_key_jwt), RFC 7662, RFC 7009. Refusals
are OAuth's JSON; nothing of this door may be kept by anybody on the way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from fhir_gateway.audit.events import login_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden, GatewayError, Invalid, Login, NotSupported
from fhir_gateway.interactions.audit import call_of, disclose, entry
from fhir_gateway.interactions.authenticate import known_of
from fhir_gateway.interactions.clients import client_named
from fhir_gateway.interactions.issuers import said_by
from fhir_gateway.interactions.quota import spend
from fhir_gateway.interactions.tokens import actor_for, granted, issue, revoke
from fhir_gateway.oauth.forms import answer, read_form, refusal, wanted
from fhir_gateway.oauth.proof import TOKEN_PATH, Asking, asking, prove_client, root
from fhir_gateway.security.actor import GATEWAY, Actor
from fhir_gateway.security.clients import Client, over_granted
from fhir_gateway.security.jwt import is_signed
from fhir_gateway.security.origin import base_of
from fhir_gateway.security.tokens import ISSUED

INTROSPECT_PATH, REVOKE_PATH = "/oauth/introspect", "/oauth/revoke"

_Form = Mapping[str, str]
_Handler = Callable[[Gateway, Request, _Form], Awaitable[Response]]


def routes(gateway: Gateway) -> list[BaseRoute]:
    """The routes of this door."""
    return [
        Route(path, _endpoint(gateway, path, handler), methods=["POST"])
        for path, handler in (
            (TOKEN_PATH, _token), (INTROSPECT_PATH, _introspect), (REVOKE_PATH, _revoke),
        )
    ]  # fmt: skip


def _endpoint(
    gateway: Gateway, path: str, handler: _Handler
) -> Callable[[Request], Awaitable[Response]]:
    async def post(request: Request) -> Response:
        request.scope["template"] = path
        try:
            return await handler(gateway, request, await read_form(request))
        except GatewayError as error:
            if isinstance(error, Login):
                gateway.count("logins_refused", 1)
            return refusal(error)

    return post


async def _token(gateway: Gateway, request: Request, form: _Form) -> Response:
    """A token for a client that proves itself and asks for no more than it may."""
    if wanted(form, "grant_type") != "client_credentials":
        raise NotSupported("grant_type must be client_credentials", rule="unsupported_grant_type")
    client, proved = await prove_client(gateway, request, form)
    request.scope["actor"] = client.id
    spend(gateway, actor_for(client), "operation")
    scopes = list(dict.fromkeys(form.get("scope", "").split()))
    try:
        _check_scopes(client, scopes)
        _check_purpose(gateway, client, proved.purpose)
    except Invalid as error:
        said = error.issues[0].rule or ""
        event = login_event(call_of(gateway, actor_for(client)), outcome="4", said=said)
        await disclose(gateway, [entry(gateway, event)])
        raise
    token, seconds = await issue(gateway, client, proved, scopes)
    return answer({
        "access_token": token, "token_type": "Bearer", "expires_in": seconds,
        "scope": " ".join(scopes),
    })  # fmt: skip


def _check_scopes(client: Client, scopes: list[str]) -> None:
    """Raises Invalid when a client asks for nothing, for what means nothing, or for too much."""
    if not scopes:
        raise Invalid(
            f"Ask for scopes: this client may have {' '.join(client.scopes)}", rule="invalid_scope"
        )
    if beyond := over_granted(client, scopes):
        raise Invalid(
            f"This client may not have {' '.join(beyond)}: it may have {' '.join(client.scopes)}",
            rule="invalid_scope",
        )


def _check_purpose(gateway: Gateway, client: Client, purpose: str) -> None:
    """Raises Invalid for a purpose of use that the site lets no such client state."""
    if purpose and not gateway.policy.purposes.allows(client.role, purpose):
        raise Invalid(
            f"A client in the role {client.role} may not state the purpose {purpose}",
            rule="invalid_request",
        )


async def _introspect(gateway: Gateway, request: Request, form: _Form) -> Response:
    """What a token stands for; of one that does not hold nothing but that (RFC 7662 2.2)."""
    await asking(gateway, request, form)
    token = wanted(form, "token")
    try:
        found = await _of_issued(gateway, request, token) if token.startswith(ISSUED) else None
        if is_signed(token):
            found = await _of_signed(gateway, token)
    except Login:
        found = None
    return answer({"active": True, **found} if found else {"active": False})


async def _of_issued(gateway: Gateway, request: Request, token: str) -> dict[str, Any] | None:
    found = await granted(gateway, token)
    client = await client_named(gateway, found.client) if found is not None else None
    if found is None or client is None or not client.active:
        return None
    bound = found.thumbprint or client.certificate
    return _told({
        "scope": " ".join(found.scopes), "client_id": client.id, "sub": client.id,
        "token_type": "Bearer", "exp": found.until // 1_000_000, "iat": found.issued // 1_000_000,
        "iss": root(gateway, request), "jti": found.name,
        "aud": base_of(request.scope, request.headers, gateway.settings),
        "cnf": {"x5t#S256": bound} if bound else None,
        "extensions": _iua(client.role, client.institution, found.purpose or client.purpose),
    })  # fmt: skip


async def _of_signed(gateway: Gateway, token: str) -> dict[str, Any]:
    actor, said = (await known_of(gateway, token)).actor, await said_by(gateway, token)
    return _told({
        "scope": " ".join(said.scopes or ()), "client_id": said.client, "sub": said.subject,
        "token_type": "Bearer", "exp": said.until // 1_000_000, "iss": said.issuer,
        "jti": said.jti, "patient": said.patient,
        "fhirUser": said.user if "/" in said.user else None,
        "cnf": {"x5t#S256": said.thumbprint} if said.thumbprint else None,
        "extensions": _iua(actor.role, actor.institution or "", said.purpose),
    })  # fmt: skip


def _iua(role: str, institution: str, purpose: str) -> dict[str, Any]:
    """The claims of IHE ITI-71 that say in which role, for whom and what for."""
    organization = f"Organization/{institution}" if institution else None
    said = {
        "subject_role": role,
        "subject_organization_id": organization,
        "purpose_of_use": purpose,
    }
    return {"ihe_iua": _told(said)}


def _told(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value not in (None, "")}


async def _revoke(gateway: Gateway, request: Request, form: _Form) -> Response:
    """Ends a token; that it is not known is no fault (RFC 7009 2.2)."""
    caller: Asking = await asking(gateway, request, form)
    token = wanted(form, "token")
    if not token.startswith(ISSUED):
        raise Invalid(
            "Only tokens that this server gave out are ended here", rule="unsupported_token_type"
        )
    found = await granted(gateway, token)
    if found is not None:
        if found.client != caller.client and not caller.is_administrator:
            raise Forbidden("The token is another client's", rule="unauthorized_client")
        actor = Actor("institution", caller.client, client=caller.client)
        await revoke(gateway, token, actor if caller.client else GATEWAY)
    return answer({})
