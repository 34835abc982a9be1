"""POST /hl7v2: one ER7 message in, its acknowledgement out (HL7 over HTTP, docs/adr/0010).

Status 200 goes with AA alone. A refusal carries the status of its error beside AE or AR, so that
a sender which only looks at the status does not take a lost report for a stored one.
"""

from __future__ import annotations

from email.message import Message

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, UnsupportedMedia
from fhir_gateway.interactions.authenticate import authenticate
from fhir_gateway.interactions.body import read_bounded
from fhir_gateway.interactions.intake import V2_MEDIA, Acknowledged, receive_v2, refuse_v2
from fhir_gateway.interactions.quota import spend
from fhir_gateway.mapping.v2_ack import read_header
from fhir_gateway.security.tokens import challenge

PATH = "/hl7v2"

#: Media types under which senders post ER7; without any the body decides.
MEDIA_TYPES = frozenset({
    "", "application/hl7-v2", "x-application/hl7-v2+er7", "application/hl7-v2+er7",
    "application/x-hl7", "text/plain", "text/hl7v2", "application/octet-stream",
})  # fmt: skip

#: Codec -> the name that HTTP knows it by.
_CHARSETS = {"latin-1": "iso-8859-1", "ascii": "us-ascii"}


def routes(gateway: Gateway) -> list[BaseRoute]:
    """The routes of this door."""

    async def post(request: Request) -> Response:
        request.scope["template"] = PATH
        try:
            body = await read_bounded(request.receive, gateway.settings.body_limit, "A message")
        except GatewayError as error:
            return _answer(refuse_v2(gateway, b"", error), "utf-8")
        try:
            charset = check_media(request.headers.get("content-type", ""))
            actor = await authenticate(gateway, request.headers)
            request.scope["actor"] = actor.name
            spend(gateway, actor, "message")
        except GatewayError as error:
            answer = refuse_v2(gateway, body, error)
        else:
            answer = await receive_v2(gateway, actor, body, charset=charset)
        return _answer(answer, read_header(answer.body).codec)

    return [Route(PATH, post, methods=["POST"])]


def check_media(content_type: str) -> str:
    """The charset that a Content-Type names, "" for none. Raises UnsupportedMedia."""
    header = Message()
    header["content-type"] = content_type
    media = header.get_content_type() if content_type else ""
    if media not in MEDIA_TYPES:
        raise UnsupportedMedia(f"Send ER7 as {V2_MEDIA} or application/hl7-v2", rule="media-type")
    return str(header.get_content_charset() or "")


def _answer(answer: Acknowledged, codec: str) -> Response:
    charset = _CHARSETS.get(codec, codec)
    headers = {"Content-Type": f"{V2_MEDIA}; charset={charset}"}
    if answer.error is not None and answer.status == 401:
        headers["WWW-Authenticate"] = challenge(answer.error).decode("ascii")
    if answer.status in (429, 503):
        headers["Retry-After"] = "1"
    return Response(answer.body, answer.status, headers)
