"""The one middleware: request ids, limits, the headers of every answer, the log line, the figures,
the last resort.

Pure ASGI. The log is for operators: one JSON line a request with the template of its route, never
its path or query; an unexpected exception is logged by its class and place in the code, because
its message may quote what somebody sent.
"""

from __future__ import annotations

import json
import logging
import os
import re
import traceback
from collections.abc import Awaitable, Callable
from functools import lru_cache
from time import perf_counter
from typing import Any

from fhir_gateway.errors import GatewayError, TooLong
from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.fhir.xml_write import xml_of
from fhir_gateway.interactions.audit import ORIGIN, Origin
from fhir_gateway.rest.errors import fault, refusal
from fhir_gateway.rest.exchange import Answer, Scope
from fhir_gateway.rest.headers import guarding
from fhir_gateway.rest.limits import check_head
from fhir_gateway.rest.metrics import Metrics
from fhir_gateway.rest.strangers import Strangers
from fhir_gateway.settings import Settings

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOG = logging.getLogger("fhir_gateway.requests")
#: A hexadecimal id or uuid, or a clean one without a long run of digits: that might be a person's
#: number, and ids are logged.
_REQUEST_ID = re.compile(
    rb"[0-9A-Fa-f]{32}|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
    rb"|(?!.*[0-9]{8})[A-Za-z0-9._\-]{1,64}"
)


class Trace:
    """Wraps the application. Adds X-Request-Id and the guarding headers to every answer.

    `strangers` counts credentials that were none, by the address they come from.
    """

    def __init__(
        self, app: App, *, metrics: Metrics, settings: Settings, strangers: Strangers
    ) -> None:
        self.app, self.metrics, self.settings = app, metrics, settings
        self.body_limit, self.strangers = settings.body_limit, strangers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the lifespan of the server."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        client = scope.get("client")
        ORIGIN.set(Origin(request_id, client[0] if client else ""))
        started = perf_counter()
        reply = _Reply(send, request_id, scope, self)
        try:
            check_head(scope)
            await self.app(scope, self._limited(scope, receive), reply.send)
        except GatewayError as error:
            await reply.refuse(refusal(error), xml=_in_xml(scope))
        except Exception as error:
            _log_fault(request_id, error)
            await reply.refuse(Answer(500, operation_outcome((fault(),))), xml=_in_xml(scope))
        seconds = perf_counter() - started
        route = _route(scope)
        self.metrics.request(scope["method"], route, reply.status, seconds)
        _log_request(scope, request_id, route, reply, seconds)

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """`receive` that raises TooLong as soon as the body is over the limit."""
        limit = self.body_limit
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value[:18]) > limit:
                return _refusing(limit)
        size = 0

        async def limited() -> Any:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > limit:
                raise _too_long(limit)
            return message

        return limited


class _Reply:
    """What was sent so far."""

    def __init__(self, send: Send, request_id: str, scope: Scope, trace: Trace) -> None:
        self._send, self._header = send, (b"x-request-id", request_id.encode())
        self._scope, self._trace = scope, trace
        self.status, self.size = 0, 0

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            if message["status"] == 401:
                self._trace.strangers.count(self._scope)
            self.status = message["status"]
            given = message.get("headers", ())
            message["headers"] = guarding(self._scope, self._trace.settings, given)
            message["headers"].append(self._header)
        else:
            self.size += len(message.get("body", b""))
        await self._send(message)

    async def refuse(self, answer: Answer, *, xml: bool) -> None:
        """Answers for a door that raised; one that began to answer can only be cut off."""
        if self.status:
            return
        body = xml_of(answer.body) if xml else answer.body
        headers = [
            *answer.headers,
            (b"content-type", b"application/fhir+%b; charset=utf-8" % (b"xml" if xml else b"json")),
            (b"content-length", b"%d" % len(body)),
        ]
        await self.send(
            {"type": "http.response.start", "status": answer.status, "headers": headers}
        )
        await self.send({"type": "http.response.body", "body": body})


def _refusing(limit: int) -> Receive:
    async def refuse() -> Any:
        raise _too_long(limit)

    return refuse


def _too_long(limit: int) -> TooLong:
    return TooLong(f"A body may have {limit} bytes here", rule="body-limit")


def _request_id(scope: Scope) -> str:
    """The client's own id when it is a clean one, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value.decode())
    return os.urandom(12).hex()


def _in_xml(scope: Scope) -> bool:
    """True when the FHIR door has settled that the answer is XML."""
    return scope.get("xml") is True


def _route(scope: Scope) -> str:
    """The template of the route that answered."""
    template = scope.get("template")
    if template is None:
        template = getattr(scope.get("route"), "path", "{unknown}")
    return str(template)


#: Methods and names of actors as JSON; there are few of them.
_quoted = lru_cache(maxsize=1_024)(json.dumps)


def _log_request(scope: Scope, request_id: str, route: str, reply: _Reply, seconds: float) -> None:
    if LOG.isEnabledFor(logging.INFO):
        line = (
            f'{{"event":"request","id":"{request_id}","method":{_quoted(scope["method"])},'
            f'"route":"{route}","status":{reply.status},"ms":{seconds * 1000:.2f},'
            f'"bytes":{reply.size},"actor":{_quoted(scope.get("actor", ""))}}}'
        )
        LOG.info(line)


def _log_fault(request_id: str, error: BaseException) -> None:
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]]
    LOG.error(
        json.dumps(
            {"event": "fault", "id": request_id, "error": type(error).__name__, "at": places}
        )
    )
