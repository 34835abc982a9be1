"""One request and its answer, on plain ASGI: read once, answered once (asgi.readthedocs.io)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec

from fhir_gateway.errors import Invalid, Structure, UnsupportedMedia
from fhir_gateway.rest.negotiation import XML_ANSWERS, answer_type
from fhir_gateway.security.actor import Actor

#: More parameters than any search takes; a form could hold millions.
MOST_PARAMETERS = 1_000

Scope = MutableMapping[str, Any]


class Answer(NamedTuple):
    """An answer: status, body, and headers beside those that every answer has."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    stream: AsyncIterator[bytes] | None = None  # instead of a body; its length is in the headers


#: Stands in for the caller until it is known.
NOBODY = Actor("open", "nobody")


@dataclass(slots=True)
class Exchange:
    """A request to the FHIR door. `headers` has lower-case names, `pairs` the query's parameters
    without those that steer the answer (_format, _pretty)."""

    scope: Scope
    receive: Any
    method: str
    headers: Mapping[str, str]
    base: str = ""
    pairs: list[tuple[str, str]] = field(default_factory=list)
    actor: Actor = NOBODY
    content_type: str = "application/fhir+json; charset=utf-8"
    xml: bool = False
    pretty: bool = False
    format: str | None = None
    sent: bytes = b""  # a body that came as XML
    allow: str = ""
    path: str = ""  # the template of the path, then what the path names
    type: str = ""
    id: str = ""
    version: str = ""
    operation: str = ""
    member: str = ""
    job: str = ""
    file: str = ""

    def negotiate(self) -> None:
        """Settles the media type of the answer. Raises NotAcceptable."""
        self.content_type = answer_type(self.headers.get("accept"), self.format)
        self.xml = self.scope["xml"] = self.content_type in XML_ANSWERS

    def steer(self, pairs: list[tuple[str, str]]) -> None:
        """Takes the parameters that steer the answer out of the pairs, keeps the rest."""
        self.pairs = [pair for pair in pairs if pair[0] not in ("_format", "_pretty")]
        if len(self.pairs) == len(pairs):
            return
        for name, value in pairs:
            if name == "_format":
                self.format = value
        for name, value in pairs:
            if name == "_pretty":
                if value not in ("true", "false"):
                    raise Invalid("_pretty is true or false", expression=name, rule="parameter")
                self.pretty = value == "true"

    def refuse_parameters(self) -> None:
        """Raises Invalid when a query says what this interaction does not read."""
        if self.pairs:
            raise Invalid(
                "This interaction takes no parameters but _format and _pretty", rule="parameter"
            )


def headers_of(scope: Scope) -> dict[str, str]:
    """The headers of a request by lower-case name; repeated ones are joined."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def query_pairs(text: str) -> list[tuple[str, str]]:
    """The parameters of a query or form, in order. Raises Structure when they are not UTF-8."""
    if not text:
        return []
    pairs: list[tuple[str, str]] = []
    for part in text.split("&"):
        name, _, value = part.partition("=")
        if "%" in part or "+" in part or not part.isascii():
            name, value = _decoded(name), _decoded(value)
        if part:
            pairs.append((name, value))
    if len(pairs) > MOST_PARAMETERS:
        raise Invalid("The query has too many parameters", rule="parameters")
    return pairs


def _decoded(text: str) -> str:
    """A name or value of a query. `text` holds its bytes as latin-1 characters."""
    try:
        plain = unquote_to_bytes(text.replace("+", " ").encode("latin-1")).decode("utf-8")
    except UnicodeError:
        raise Structure("The query is not UTF-8", rule="encoding") from None
    if "\x00" in plain:
        raise Invalid("The query holds a NUL character", rule="control-character")
    return plain


async def read_body(exchange: Exchange) -> bytes:
    """The whole body. Raises TooLong (see rest.trace), Structure when it was cut off."""
    if exchange.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("Send the body without Content-Encoding", rule="content-encoding")
    parts: list[bytes] = []
    while True:
        message = await exchange.receive()
        if message["type"] == "http.disconnect":
            raise Structure("The body was cut off", rule="body")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def send_answer(send: Any, exchange: Exchange, answer: Answer) -> None:
    """Sends the answer. HEAD gets the headers of GET without its body."""
    body = answer.body
    if exchange.pretty and body and not exchange.xml:
        body = msgspec.json.format(body, indent=2)
    headers = [
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"vary", b"accept, authorization"),
        *answer.headers,
    ]
    if body or answer.status not in (204, 304):
        headers.append((b"content-type", exchange.content_type.encode("latin-1")))
        if answer.stream is None:
            headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    shown = b"" if exchange.scope["method"] == "HEAD" else body
    if answer.stream is not None and exchange.scope["method"] != "HEAD":
        async for piece in answer.stream:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": shown})
