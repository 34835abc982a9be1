"""The FHIR base as one plain ASGI route: the path is split once and looked up in a dictionary.

Routing by regular expression, request objects and response classes would cost more than the read
itself (docs/performance.md), and the templates are all the log and the metrics may show of a path.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, MethodNotAllowed, NotFound
from fhir_gateway.interactions.authenticate import authenticate
from fhir_gateway.interactions.letters import LETTER
from fhir_gateway.interactions.narrowing import scoped
from fhir_gateway.interactions.operation_definitions import stands_on
from fhir_gateway.interactions.permits import Asked, permit, permit_door
from fhir_gateway.interactions.table import INTERACTIONS
from fhir_gateway.rest.errors import refusal
from fhir_gateway.rest.exchange import (
    Answer,
    Exchange,
    Scope,
    headers_of,
    query_pairs,
    send_answer,
)
from fhir_gateway.rest.formats import in_format, in_xml, settle
from fhir_gateway.rest.handlers import HANDLERS, Handler
from fhir_gateway.rest.handlers_async import OWN_MEDIA, is_for_later, later
from fhir_gateway.rest.handlers_render import OWN_MEDIA_OPERATIONS
from fhir_gateway.rest.operations import METHODS, OPERATIONS
from fhir_gateway.rest.quota import charge, settle_quota
from fhir_gateway.security.origin import (
    FHIR_PATH,
    base_of,
    preflight,
    shared_with,
)

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

#: Where operations may stand.
_OPERATION_PATHS = ("{operation}", "{type}/{operation}", "{type}/{id}/{operation}")

#: path template -> method -> handler, for every row of the table of interactions.
TABLE: dict[str, dict[str, Handler]] = {}
for _row in INTERACTIONS:
    TABLE.setdefault(_row.path, {})[_row.method] = HANDLERS[_row.method, _row.path]
for _path in _OPERATION_PATHS:
    TABLE[_path] = {_method: HANDLERS[_method, _path] for _method in METHODS}

#: (method, path template) -> the code of the interaction.
CODES: dict[tuple[str, str], str] = {(row.method, row.path): row.code for row in INTERACTIONS}

_DEFAULT_TYPE = "application/fhir+json; charset=utf-8"


def fhir_door(gateway: Gateway) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """The FHIR base and everything below it, as one ASGI application."""

    async def fhir(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, scope["method"], headers_of(scope))
        LETTER.set(None)  # what came before on this connection is no part of it
        try:
            answer = await _answer(gateway, exchange)
        except GatewayError as error:
            settle(exchange, error)
            answer = refusal(error, allow=exchange.allow)
        answer = settle_quota(gateway, exchange, answer)
        if exchange.format is not None:
            answer = in_format(exchange.format, answer)
        if exchange.xml:
            answer = await in_xml(exchange, answer)
        origin = exchange.headers.get("origin")
        if origin is not None:
            answer = _shared(gateway, exchange, answer, origin)
        await send_answer(send, exchange, answer)

    return fhir


async def _answer(gateway: Gateway, exchange: Exchange) -> Answer:
    scope = exchange.scope
    if exchange.method == "HEAD":
        exchange.method = "GET"
    methods = route(exchange, scope["path"][len(FHIR_PATH) :].removeprefix("/").removesuffix("/"))
    if exchange.method == "OPTIONS" and methods is not None:
        exchange.allow = _allowed(methods)
        return Answer(204, b"", ((b"allow", exchange.allow.encode()),))
    if exchange.path != "metadata":
        exchange.actor = await authenticate(gateway, exchange.headers)
        scope["actor"] = exchange.actor.name
    exchange.base = base_of(scope, exchange.headers, gateway.settings)
    exchange.steer(query_pairs(scope["query_string"].decode("latin-1")))
    if exchange.path not in OWN_MEDIA and exchange.operation not in OWN_MEDIA_OPERATIONS:
        exchange.negotiate()
    if methods is None:
        raise NotFound("There is no such address below the FHIR base", rule="unknown-address")
    handler = methods.get(exchange.method)
    if handler is None:
        exchange.allow = _allowed(methods)
        raise MethodNotAllowed(f"{exchange.method} is not offered here", rule="method")
    await check_rights(gateway, exchange)
    charge(gateway, exchange)
    if "prefer" in exchange.headers and is_for_later(exchange):
        return await later(gateway, exchange)
    return await handler(gateway, exchange)


async def check_rights(gateway: Gateway, exchange: Exchange) -> None:
    """Raises Forbidden for what the table of rights keeps from the caller's role, and for what
    the scopes of its token do not grant; from here on the caller sees what they leave. The one
    place that every request passes, also one that was put off."""
    asked = asked_of(exchange)
    if asked is not None:
        await permit(gateway, exchange.actor, asked)
        exchange.actor = await scoped(gateway, exchange.actor, asked)
    elif exchange.path in OWN_MEDIA:
        await permit_door(gateway, exchange.actor, "jobs")


def asked_of(exchange: Exchange) -> Asked | None:
    """What a request asks for, as rights judge it; None for metadata, for what was put off, and
    for an operation that there is not."""
    if exchange.operation:
        found = OPERATIONS.get(exchange.operation)
        if found is None or not stands_on(found.definition, exchange.type, exchange.id):
            return None
        code = "operation"
    else:
        code = CODES[exchange.method, exchange.path]
        if code in ("capabilities", "operation"):
            return None
    return Asked(
        code, exchange.type, exchange.id, exchange.member, exchange.pairs, exchange.operation
    )


def _allowed(methods: dict[str, Handler]) -> str:
    """The methods of an address, as Allow tells them."""
    return ", ".join([*methods, *(["HEAD"] if "GET" in methods else ()), "OPTIONS"])


def _shared(gateway: Gateway, exchange: Exchange, answer: Answer, origin: str) -> Answer:
    """The answer as a page of another origin may read it, where it may."""
    headers = shared_with(
        origin, gateway.settings.allowed_origins, everyone=exchange.path == "metadata"
    )
    if exchange.method == "OPTIONS" and len(headers) > 1:
        headers += preflight(exchange.allow)
    return answer._replace(headers=(*answer.headers, *headers))


def route(exchange: Exchange, path: str) -> dict[str, Handler] | None:
    """The handlers of a path; what it names goes into the exchange, its template into the scope."""
    segments = path.split("/") if path else []
    is_async = segments[:1] == ["_async"]
    template = _ASYNC_PATHS.get(len(segments)) if is_async else _template(segments)
    exchange.path = template or ""
    methods = TABLE.get(template) if template is not None else None
    shown = template if methods is not None else "{unknown}"
    if methods is not None and template is not None:
        names = template.split("/")
        for name, value in zip(names, segments, strict=False):
            if name[0:1] == "{":
                setattr(exchange, name[1:-1], value)
        if exchange.operation in OPERATIONS:
            shown = template.replace("{operation}", exchange.operation)
    exchange.scope["template"] = f"{FHIR_PATH}/{shown}"
    return methods


def _template(segments: list[str]) -> str | None:
    """The template that a path has by its shape."""
    if not segments:
        return ""
    if "." in segments or ".." in segments:  # whoever resolves them would look elsewhere
        return None
    if segments[-1].startswith("$"):
        return ("{operation}", "{type}/{operation}", "{type}/{id}/{operation}", None)[
            min(len(segments), 4) - 1
        ]
    if len(segments) == 1:
        return segments[0] if segments[0] in _AT_BASE else "{type}"
    if len(segments) == 2:
        return f"{{type}}/{segments[1]}" if segments[1] in _AT_TYPE else "{type}/{id}"
    return _below_instance(segments[2:])


def _below_instance(segments: list[str]) -> str | None:
    """The template of what stands below Type/id: its history, or its compartment."""
    if len(segments) > 2:
        return None
    if segments[0] == "_history":
        return "{type}/{id}/_history" if len(segments) == 1 else "{type}/{id}/_history/{version}"
    if len(segments) == 1:
        return "{type}/{id}/{member}"
    return "{type}/{id}/{member}/_search" if segments[1] == "_search" else None


_ASYNC_PATHS = {2: "_async/{job}", 3: "_async/{job}/{file}"}

#: First and second segments that stand for themselves.
_AT_BASE = frozenset(path for path in TABLE if path and "/" not in path and path[0] != "{")
_AT_TYPE = frozenset(
    path.removeprefix("{type}/") for path in TABLE if re.fullmatch(r"\{type\}/_[a-z]+", path)
)
