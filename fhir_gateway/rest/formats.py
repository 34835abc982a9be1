"""XML at the REST door: bodies become JSON when they come in, answers become XML when they go out.

All between reads and writes JSON, so that both formats have one law and one result, and requests
in JSON pay nothing (hl7.org/fhir/R4/http.html#mime-type, xml.html, ADR 0033).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import quote

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.xml_read import json_of, located
from fhir_gateway.fhir.xml_write import xml_of
from fhir_gateway.interactions.audit import ORIGIN, audited
from fhir_gateway.interactions.letters import LETTER, Letter
from fhir_gateway.rest.errors import refusal
from fhir_gateway.rest.exchange import Answer, Exchange, query_pairs, read_body
from fhir_gateway.rest.negotiation import check_body_type
from fhir_gateway.security.actor import Actor

#: Bytes from which the work goes to a thread, so that other requests are answered meanwhile.
_LARGE = 200_000


async def resource_body(gateway: Gateway, exchange: Exchange) -> bytes:
    """The resource of a body as JSON, in whichever format it came.

    Raises UnsupportedMedia before it is read, and what `read_body` and `json_of` raise.
    """
    is_xml = check_body_type(exchange.headers.get("content-type"))
    body = await read_body(exchange)
    if exchange.method != "PATCH":  # a patch is no resource: it says what changes of one
        LETTER.set(_letter(exchange, body, is_xml=is_xml))
    return await _as_json(gateway, exchange, body) if is_xml else body


def _letter(exchange: Exchange, body: bytes, *, is_xml: bool) -> Letter:
    """What the register is told of a write; each request that is stored is a message of its own."""
    return Letter(
        "fhir", body, f"application/fhir+{'xml' if is_xml else 'json'}",
        name=ORIGIN.get().request_id, each=True, institution=exchange.actor.institution or "",
        kind=_kind(exchange),
    )  # fmt: skip


def _kind(exchange: Exchange) -> str:
    """What is written: "create Observation"; what is no type is counted under one name."""
    if not exchange.type:
        return "bundle"
    known = exchange.type in definitions().resource_types
    return f"{_WRITES[exchange.method]} {exchange.type if known else 'other'}"


async def parameters_body(gateway: Gateway, exchange: Exchange) -> bytes:
    """The same for an operation, which may come without a body and then has no media type."""
    body = await read_body(exchange)
    if not body:
        return b""
    is_xml = check_body_type(exchange.headers.get("content-type"))
    return await _as_json(gateway, exchange, body) if is_xml else body


async def _as_json(gateway: Gateway, exchange: Exchange, body: bytes) -> bytes:
    """The JSON of an XML body; what cannot be read is audited where unreadable JSON is."""
    exchange.sent = body
    interaction = "operation"
    if not exchange.operation:
        interaction = _WRITES.get(exchange.method, "") if exchange.type else "batch"
    names = {"type": exchange.type, "id": exchange.id, "pairs": exchange.pairs}
    return await audited(interaction)(_read)(gateway, exchange.actor, body=body, **names)


_WRITES = {"POST": "create", "PUT": "update", "PATCH": "patch"}


async def _read(_: Gateway, __: Actor, /, *, body: bytes, **names: object) -> bytes:
    if len(body) > _LARGE:
        return await asyncio.to_thread(json_of, body)
    return json_of(body)


async def in_xml(exchange: Exchange, answer: Answer) -> Answer:
    """An answer as XML; what is sent in pieces stays as it is."""
    if not answer.body:
        return answer
    try:
        return answer._replace(body=await _xml(answer.body, pretty=exchange.pretty))
    except GatewayError as error:
        refused = refusal(error)
        return refused._replace(body=xml_of(refused.body))


async def _xml(body: bytes, *, pretty: bool) -> bytes:
    if len(body) > _LARGE:
        return await asyncio.to_thread(xml_of, body, pretty=pretty)
    return xml_of(body, pretty=pretty)


def settle(exchange: Exchange, error: GatewayError) -> None:
    """Makes a refusal ready: in XML where that is wanted, even if the request was refused before
    anybody asked for its format, and with the lines of a body that came as XML."""
    if exchange.sent:
        located(error, exchange.sent)
    if exchange.xml or not _mentions_xml(exchange):
        return
    with suppress(GatewayError):
        exchange.steer(query_pairs(exchange.scope["query_string"].decode("latin-1")))
    with suppress(GatewayError):  # then the refusal is in JSON
        exchange.negotiate()


def _mentions_xml(exchange: Exchange) -> bool:
    return (
        "xml" in exchange.headers.get("accept", "").lower()
        or b"xml" in exchange.scope["query_string"].lower()
    )


#: The head of a searchset or history that was made for this request: what is stored has a meta.
_OURS = re.compile(rb'\{"resourceType":"Bundle",(?:"id":"[^"]*",)?"type":"(?:searchset|history)"')
_LINK = re.compile(rb'("relation":"[^"]*","url":"[^"]*)"')


def in_format(format: str, answer: Answer) -> Answer:
    """An answer whose links ask for the format that this request asked for by _format."""
    body = answer.body
    if _OURS.match(body) is None:
        return answer
    entries = body.find(b'"entry":[')
    end = entries if entries >= 0 else len(body)
    wanted = f"_format={quote(format, safe='')}".encode()
    return answer._replace(body=_LINK.sub(_longer(wanted), body[:end]) + body[end:])


def _longer(parameter: bytes) -> Callable[[re.Match[bytes]], bytes]:
    def longer(link: re.Match[bytes]) -> bytes:
        return link[1] + (b"&" if b"?" in link[1] else b"?") + parameter + b'"'

    return longer
