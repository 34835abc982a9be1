"""The HTTP side of CDS Hooks 2.0: discovery, services, feedback, CORS; plain ASGI, ready bytes.

No order waits for us: whatever goes wrong on our side, and whatever takes longer than the
deadline, is answered 200 with a card that says that nothing was decided, and logged.
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

from fhir_gateway.cds_hooks.call import answer_call
from fhir_gateway.cds_hooks.cards import undecided_card
from fhir_gateway.cds_hooks.feedback import take_feedback
from fhir_gateway.cds_hooks.services import BY_ID, DISCOVERY, Service
from fhir_gateway.context import Gateway
from fhir_gateway.errors import (
    GatewayError,
    Invalid,
    MethodNotAllowed,
    NotFound,
    Structure,
    UnsupportedMedia,
)
from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.interactions.audit import ORIGIN, refused
from fhir_gateway.interactions.authenticate import authenticate
from fhir_gateway.security.actor import Actor

_log = logging.getLogger("fhir_gateway.cds_hooks")

#: Seconds after which a call is answered without a decision. A doctor must not wait.
DEADLINE = 2.0

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = dict[str, str]
Handler = Callable[[Gateway, Actor, Scope, Headers, bytes], Awaitable[bytes]]

_HOST = re.compile(r"[A-Za-z0-9.\-_]{1,255}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")
_JSON = (b"content-type", b"application/json; charset=utf-8")
_FHIR_JSON = (b"content-type", b"application/fhir+json; charset=utf-8")
_NO_STORE = (b"cache-control", b"no-store")

#: Bearer tokens only, never cookies: any origin may call, no origin can borrow a session.
_CORS = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"x-request-id"),
)
_PREFLIGHT = (
    *_CORS,
    (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
    (b"access-control-allow-headers", b"authorization, content-type, x-request-id"),
    (b"access-control-max-age", b"86400"),
)

_UNDECIDED = orjson.dumps({"cards": [undecided_card()]})


def routes(gateway: Gateway) -> list[BaseRoute]:
    """The routes of this door, for the application."""
    return [
        Route("/cds-services", _Discovery()),
        Route("/cds-services/{id}", _Endpoint(gateway, _call, may_fail=False)),
        Route("/cds-services/{id}/feedback", _Endpoint(gateway, _feedback, may_fail=True)),
    ]


class _Discovery:
    """GET /cds-services. Open: it says what exists, not whom it is about."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in ("GET", "HEAD"):
            await _send(send, 200, DISCOVERY, _JSON)
        elif scope["method"] == "OPTIONS":
            await _send(send, 204, b"", *_PREFLIGHT)
        else:
            await _refuse(send, MethodNotAllowed("Discovery is a GET", rule="method"))


class _Endpoint:
    """POST to a service or to its feedback.

    Where a fault of ours may not be seen (`may_fail` false) it becomes the undecided card; else it
    is left to the application's last resort.
    """

    def __init__(self, gateway: Gateway, handler: Handler, *, may_fail: bool) -> None:
        self._gateway, self._handler, self._may_fail = gateway, handler, may_fail

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS":
            await _send(send, 204, b"", *_PREFLIGHT)
            return
        try:
            answer = await self._answer(scope, receive)
        except GatewayError as error:
            if error.status < 500 or self._may_fail:
                await _refuse(send, error)
                return
            answer = _undecided(self._gateway, error.issues[0].code)
        except TimeoutError:
            answer = _undecided(self._gateway, "deadline")
        except Exception as error:  # a fault of ours must not hold up an order
            if self._may_fail:
                raise
            answer = _undecided(self._gateway, type(error).__name__)
        await _send(send, 200, answer, _JSON, _NO_STORE)

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        if scope["method"] != "POST":
            raise MethodNotAllowed("A hook is called with POST", rule="method")
        headers = _headers(scope)
        actor = await authenticate(self._gateway, headers)
        scope["actor"] = actor.name
        try:
            _check_media(headers)
            body = await _body(receive)
            async with asyncio.timeout(DEADLINE):
                return await self._handler(self._gateway, actor, scope, headers, body)
        except GatewayError as error:
            if error.status < 500:
                await refused(self._gateway, actor, error, interaction="operation")
            raise


async def _call(
    gateway: Gateway, actor: Actor, scope: Scope, headers: Headers, body: bytes
) -> bytes:
    """The cards."""
    service = _service(scope)
    return await answer_call(gateway, actor, service, body, _base(gateway, scope, headers))


async def _feedback(
    gateway: Gateway, actor: Actor, scope: Scope, headers: Headers, body: bytes
) -> bytes:
    """An empty object: the answers are on record."""
    _service(scope)
    await take_feedback(gateway, actor, body)
    return b"{}"


def _service(scope: Scope) -> Service:
    service = BY_ID.get(scope["path_params"]["id"])
    if service is None:
        raise NotFound("There is no such service; see /cds-services", rule="service")
    return service


def _undecided(gateway: Gateway, why: str) -> bytes:
    gateway.count("hooks_undecided", 1)
    line = {"event": "undecided", "id": ORIGIN.get().request_id, "why": why}
    _log.error(json.dumps(line))
    return _UNDECIDED


def _headers(scope: Scope) -> Headers:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _check_media(headers: Headers) -> None:
    kind = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind not in ("application/json", "application/fhir+json"):
        raise UnsupportedMedia("A hook call is application/json", rule="content-type")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("Send the body without Content-Encoding", rule="content-encoding")


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Structure("The body was cut off", rule="body")
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _base(gateway: Gateway, scope: Scope, headers: Headers) -> str:
    """The FHIR base that links lead to."""
    if gateway.settings.base_url:
        return gateway.settings.base_url.rstrip("/")
    host = headers.get("host", "")
    if not _HOST.fullmatch(host):
        raise Invalid("The Host header is not a host name", rule="host")
    return f"{scope['scheme']}://{host}{scope.get('root_path', '')}/fhir"


async def _refuse(send: Send, error: GatewayError) -> None:
    headers = [_FHIR_JSON, _NO_STORE]
    if error.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="fhir-gateway"'))
    await _send(send, error.status, operation_outcome(error.issues), *headers)


async def _send(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", b"%d" % len(body))
    cors = () if status == 204 else _CORS
    await send(
        {"type": "http.response.start", "status": status, "headers": [*headers, length, *cors]}
    )
    await send({"type": "http.response.body", "body": body})
