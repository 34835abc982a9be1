"""The HTTP side of CDS Hooks 2.0: discovery, services, feedback, CORS; plain ASGI, ready bytes.

No order waits for us: whatever goes wrong on our side, and whatever takes longer than the
deadline, is answered 200 with a card that says that nothing was decided, and logged. Feedback is
the other way round: what is not on record is never answered as if it were.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
from starlette.routing import BaseRoute, Route

from fhir_gateway.cds_hooks.booking_link import opened
from fhir_gateway.cds_hooks.call import answer_call
from fhir_gateway.cds_hooks.cards import undecided_card
from fhir_gateway.cds_hooks.feedback import take_feedback
from fhir_gateway.cds_hooks.services import BY_ID, DISCOVERY, Service
from fhir_gateway.cds_hooks.trust import caller, check_trust
from fhir_gateway.context import Gateway
from fhir_gateway.errors import (
    GatewayError,
    MethodNotAllowed,
    NotFound,
    TooCostly,
    Unavailable,
    UnsupportedMedia,
)
from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.interactions.audit import ORIGIN, refused
from fhir_gateway.interactions.authenticate import authenticate
from fhir_gateway.interactions.body import read_bounded
from fhir_gateway.interactions.narrowing import scoped
from fhir_gateway.interactions.permits import Asked, permit_door
from fhir_gateway.interactions.quota import spend
from fhir_gateway.recognition.model import CONTEXTS
from fhir_gateway.security.actor import Actor
from fhir_gateway.security.origin import base_of, preflight, root_of, shared_with
from fhir_gateway.security.tokens import challenge
from fhir_gateway.settings import Settings
from fhir_gateway.terminology.context_table import load_contexts

_log = logging.getLogger("fhir_gateway.cds_hooks")

#: Bytes of a call: hundreds of orders and diagnoses. More would hold up the others.
MOST_BYTES = 4_000_000
#: Seconds for feedback: no doctor waits for it, but no connection stays for ever.
FEEDBACK_SECONDS = 30.0

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = dict[str, str]
Handler = Callable[[Gateway, Actor, Service, str, bytes], Awaitable[bytes]]
Guard = Callable[[Gateway, Awaitable[bytes]], Awaitable[bytes]]
Pairs = tuple[tuple[bytes, bytes], ...]

_JSON = (b"content-type", b"application/json; charset=utf-8")
_FHIR_JSON = (b"content-type", b"application/fhir+json; charset=utf-8")
_NO_STORE = (b"cache-control", b"no-store")

#: What the scopes of a token must grant for a call (profiles/access/scopes.csv).
_HOOK = Asked("operation", "ServiceRequest", operation="cds-services")
_FEEDBACK = Asked("operation", "GuidanceResponse", operation="$answer")

#: The answer of a call that nothing was decided on.
UNDECIDED = orjson.dumps({"cards": [undecided_card()]})


def check_door(settings: Settings) -> None:
    """Raises Invalid and Unprocessable for settings, clients and tables that cannot be meant."""
    check_trust(settings)
    load_contexts(settings.terminology, CONTEXTS)


def routes(gateway: Gateway) -> list[BaseRoute]:
    """The routes of this door, for the application."""
    call = _Endpoint(gateway, "", answer_call, _hurried)
    feedback = _Endpoint(gateway, "/feedback", _feedback, _stored)
    return [
        Route("/cds-services", _Discovery()),
        Route("/cds-services/booking/{sealed}", _Booking(gateway)),
        Route("/cds-services/{id}", call),
        Route("/cds-services/{id}/feedback", feedback),
    ]


def deadline_of(gateway: Gateway) -> float:
    """Seconds after which a call is answered without a decision. A doctor must not wait."""
    return gateway.settings.hook_deadline_ms / 1000


class _Discovery:
    """GET /cds-services. Open to every page: it says what exists, not whom it is about."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, shared = scope["method"], shared_with("", "", everyone=True)
        if method in ("GET", "HEAD"):
            await _send(send, 200, DISCOVERY, (_JSON, *shared), head=method == "HEAD")
        elif method == "OPTIONS":
            await _send(send, 204, b"", (*shared, *preflight("GET, HEAD, OPTIONS")))
        else:
            refusal = MethodNotAllowed("Discovery is a GET", rule="method")
            await _refuse(send, refusal, (*shared, (b"allow", b"GET, HEAD, OPTIONS")))


class _Endpoint:
    """POST below a service. `path` is what follows the service's own address, `guard` says what
    becomes of faults of ours and of too much time."""

    def __init__(self, gateway: Gateway, path: str, handler: Handler, guard: Guard) -> None:
        self._gateway, self._path, self._handler, self._guard = gateway, path, handler, guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        shared = self._shared(headers)
        if scope["method"] == "OPTIONS":
            allow = (b"allow", b"POST, OPTIONS")
            await _send(send, 204, b"", (*shared, *preflight("POST, OPTIONS"), allow))
            return
        try:
            answer = await self._guard(self._gateway, self._run(scope, headers, receive))
        except GatewayError as error:
            await _refuse(send, error, shared)
            return
        await _send(send, 200, answer, (_JSON, _NO_STORE, *shared))

    def _shared(self, headers: Headers) -> Pairs:
        """What lets a page of a listed origin read the answer; no cookies are ever read."""
        if "origin" not in headers:
            return ()
        return shared_with(headers["origin"], self._gateway.settings.allowed_origins)

    async def _run(self, scope: Scope, headers: Headers, receive: Receive) -> bytes:
        """The handler's answer to a caller who is known; refusals of it are on record."""
        if scope["method"] != "POST":
            raise MethodNotAllowed("A hook is called with POST", rule="method")
        gateway, service = self._gateway, _service(scope)
        base = base_of(scope, headers, gateway.settings)
        root = root_of(scope, headers, gateway.settings)
        address = f"{root}/cds-services/{service.id}{self._path}"
        actor = await caller(gateway, headers, address)
        scope["actor"] = actor.name
        await permit_door(gateway, actor, "feedback" if self._path else "hooks")
        actor = await scoped(gateway, actor, _FEEDBACK if self._path else _HOOK)
        spend(gateway, actor, "feedback" if self._path else "hook")
        try:
            _check_media(headers)
            body = await read_bounded(receive, MOST_BYTES, "A hook call")
            return await self._handler(gateway, actor, service, base, body)
        except GatewayError as error:
            if error.status < 500:
                await refused(gateway, actor, error, interaction="operation")
            raise


class _Booking:
    """GET of the reference in a card's link: what was ordered, for a booking page."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, gateway = _headers(scope), self._gateway
        shared: Pairs = ()
        if "origin" in headers:
            shared = shared_with(headers["origin"], gateway.settings.allowed_origins)
        if scope["method"] == "OPTIONS":
            allow = (b"allow", b"GET, OPTIONS")
            await _send(send, 204, b"", (*shared, *preflight("GET, OPTIONS"), allow))
            return
        try:
            answer = await self._run(scope, headers)
        except GatewayError as error:
            await _refuse(send, error, shared)
            return
        await _send(send, 200, answer, (_FHIR_JSON, _NO_STORE, *shared))

    async def _run(self, scope: Scope, headers: Headers) -> bytes:
        """What the reference names, to a caller who is known; refusals of it are on record."""
        if scope["method"] != "GET":
            raise MethodNotAllowed("A reference to an order is read with GET", rule="method")
        gateway = self._gateway
        actor = await authenticate(gateway, headers)
        scope["actor"] = actor.name
        await permit_door(gateway, actor, "hooks")
        actor = await scoped(gateway, actor, _HOOK)
        spend(gateway, actor, "hook")
        try:
            return await opened(gateway, actor, scope["path_params"]["sealed"])
        except GatewayError as error:
            if error.status < 500:
                await refused(gateway, actor, error, interaction="operation")
            raise


async def _hurried(gateway: Gateway, work: Awaitable[bytes]) -> bytes:
    """A hook call in time. A fault of ours may not hold up an order: it becomes a card."""
    try:
        async with asyncio.timeout(deadline_of(gateway)):
            return await work
    except GatewayError as error:
        if error.status < 500 and not isinstance(error, TooCostly):
            raise
        why = error.issues[0].rule or error.issues[0].code
    except TimeoutError:
        why = "deadline"
    except Exception as error:
        why = type(error).__name__
    gateway.count("hooks_undecided", 1)
    _log.error(json.dumps({"event": "undecided", "id": ORIGIN.get().request_id, "why": why}))
    return UNDECIDED


async def _stored(gateway: Gateway, work: Awaitable[bytes]) -> bytes:
    """Feedback. What could not be stored is said, so that it comes again."""
    try:
        async with asyncio.timeout(FEEDBACK_SECONDS):
            return await work
    except TimeoutError:
        text = "The feedback could not be stored in time: send it again"
        raise Unavailable(text, rule="deadline") from None


async def _feedback(
    gateway: Gateway, actor: Actor, service: Service, base: str, body: bytes
) -> bytes:
    """An empty object: the answers are on record."""
    await take_feedback(gateway, actor, body)
    return b"{}"


def _service(scope: Scope) -> Service:
    service = BY_ID.get(scope["path_params"]["id"])
    if service is None:
        raise NotFound("There is no such service; see /cds-services", rule="service")
    return service


def _headers(scope: Scope) -> Headers:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _check_media(headers: Headers) -> None:
    kind, _, parameters = headers.get("content-type", "application/json").lower().partition(";")
    charset = _CHARSET.search(parameters)
    is_json = kind.strip() in ("application/json", "application/fhir+json")
    if not is_json or (charset and charset[1] not in ("utf-8", "utf8")):
        raise UnsupportedMedia("A hook call is application/json in UTF-8", rule="content-type")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("Send the body without Content-Encoding", rule="content-encoding")


_CHARSET = re.compile(r"""\bcharset\s*=\s*["']?([^"';\s]*)""")


async def _refuse(send: Send, error: GatewayError, more: Pairs) -> None:
    headers = [_FHIR_JSON, _NO_STORE, *more]
    if error.status == 401:
        headers.append((b"www-authenticate", challenge(error)))
    if error.status == 503:
        headers.append((b"retry-after", b"1"))
    if error.status == 405 and not any(name == b"allow" for name, _ in headers):
        headers.append((b"allow", b"POST, OPTIONS"))
    await _send(send, error.status, operation_outcome(error.issues), tuple(headers))


async def _send(
    send: Send, status: int, body: bytes, headers: Pairs, *, head: bool = False
) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": b"" if head else body})
