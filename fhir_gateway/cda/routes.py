"""POST /cda: one document in, an OperationOutcome out. POST /cda/soap: the same in an envelope.

What the gateway stored, or why not, is told in the way that the sender asked: an OperationOutcome
as JSON or XML, a SOAP answer or a SOAP Fault. docs/cda.md
"""

from __future__ import annotations

from collections.abc import Sequence
from email.message import Message
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from fhir_gateway.context import Gateway
from fhir_gateway.errors import (
    GatewayError,
    Internal,
    Issue,
    NotSupported,
    UnsupportedMedia,
)
from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.fhir.xml_write import xml_of
from fhir_gateway.interactions.audit import ORIGIN
from fhir_gateway.interactions.authenticate import authenticate
from fhir_gateway.interactions.body import read_bounded
from fhir_gateway.interactions.intake_cda import Answered, receive_cda, refuse_cda
from fhir_gateway.interactions.quota import spend
from fhir_gateway.mapping.cda_soap import (
    MEDIA,
    Envelope,
    Said,
    Submission,
    fault,
    read_envelopes,
    read_request,
    response,
    soap_of,
)
from fhir_gateway.mapping.cda_tables import tables_of
from fhir_gateway.security.origin import FHIR_PATH
from fhir_gateway.security.tokens import challenge

PATH, SOAP_PATH = "/cda", "/cda/soap"

#: Media types under which senders post documents; without any the body decides.
MEDIA_TYPES = frozenset({
    "", "application/xml", "text/xml", "application/cda+xml", "application/hl7-cda+xml",
    "application/hl7-sda+xml", "text/plain", "application/octet-stream",
})  # fmt: skip
SOAP_TYPES = frozenset({"", "text/xml", "application/soap+xml", "application/xml"})


def routes(gateway: Gateway) -> list[BaseRoute]:
    """The routes of this door; where there is no mappings/cda they say so and take nothing.

    Raises Unprocessable for faults in mappings/cda.
    """
    folder = _folder(gateway)
    envelopes: Sequence[Envelope] = ()
    if folder.is_dir():
        tables_of(str(folder))
        envelopes = read_envelopes(folder / "soap.toml")

    async def post(request: Request) -> Response:
        request.scope["template"] = PATH
        try:
            answer = await _take(gateway, request, await _entered(gateway, request, MEDIA_TYPES))
        except GatewayError as error:
            return _outcome(request, error.status, _told(error), error)
        stored = "Stored" if answer.stored else "Kept, and nothing was changed"
        about = Issue("informational", f"{stored}: {_sentence(answer)}", severity="information")
        return _outcome(request, 200, [about, *answer.issues], place=answer.document)

    async def submit(request: Request) -> Response:
        request.scope["template"] = SOAP_PATH
        return await _submitted(gateway, request, envelopes)

    return [
        Route(PATH, post, methods=["POST"]),
        Route(SOAP_PATH, submit, methods=["POST"]),
    ]


async def _submitted(gateway: Gateway, request: Request, envelopes: Sequence[Envelope]) -> Response:
    """The answer to an envelope: what was stored, or a Fault."""
    raw, asked = b"", None
    try:
        raw = await _entered(gateway, request, SOAP_TYPES)
        asked = await _asked(gateway, request, raw, envelopes)
        answer = await _take(gateway, request, asked.document)
    except GatewayError as error:
        soap = asked.soap if asked is not None else soap_of(raw)
        status = (asked.envelope.fault_status if asked is not None else 0) or error.status
        body = fault(soap, error, _told(error))
        headers = _headers(error) | {"content-type": f"{MEDIA[soap]}; charset=utf-8"}
        return Response(body, status, headers)
    said = Said(_sentence(answer), answer.document, answer.reports, answer.issues)
    media = {"content-type": f"{MEDIA[asked.soap]}; charset=utf-8"}
    return Response(response(asked, said), 200, media)


async def _asked(
    gateway: Gateway, request: Request, raw: bytes, envelopes: Sequence[Envelope]
) -> Submission:
    """What an envelope holds. Raises what is wrong with it, on record."""
    try:
        return read_request(raw, envelopes)
    except GatewayError as error:
        await refuse_cda(gateway, request.state.actor, raw, error)
        raise


async def _entered(gateway: Gateway, request: Request, media: frozenset[str]) -> bytes:
    """The body of a caller who may come in. Raises what is wrong before it is looked at."""
    body = await read_bounded(request.receive, gateway.settings.body_limit, "A document")
    check_media(request.headers.get("content-type", ""), media)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("Send the body without Content-Encoding", rule="content-encoding")
    actor = await authenticate(gateway, request.headers)
    request.scope["actor"] = actor.name
    request.state.actor = actor
    if not _folder(gateway).is_dir():
        raise NotSupported(
            "This site takes in no CDA documents: its folder of mappings has no cda",
            rule="cda-none",
        )
    spend(gateway, actor, "message")
    return body


def _folder(gateway: Gateway) -> Path:
    return Path(gateway.settings.mappings, "cda")


async def _take(gateway: Gateway, request: Request, document: bytes) -> Answered:
    return await receive_cda(gateway, request.state.actor, document)


def check_media(content_type: str, known: frozenset[str]) -> None:
    """Raises UnsupportedMedia for what is no XML document in one part."""
    header = Message()
    header["content-type"] = content_type
    media = header.get_content_type() if content_type else ""
    charset = str(header.get_content_charset() or "")
    if media not in known:
        raise UnsupportedMedia(
            "Send one document as application/xml or text/xml, an envelope as text/xml or "
            "application/soap+xml; attachments (MTOM, multipart) are not read",
            rule="media-type",
        )
    if charset not in ("", "utf-8", "utf8", "us-ascii", "gb18030", "gbk", "gb2312"):
        raise UnsupportedMedia("Send UTF-8 or GB 18030", rule="media-type")


# -- the answer ------------------------------------------------------------------------------------


def _sentence(answer: Answered) -> str:
    return "; ".join((answer.document, *answer.reports))


def _told(error: GatewayError) -> Sequence[Issue]:
    """The issues; of a fault of ours the request id and no more."""
    if isinstance(error, Internal):
        said = f"Internal error. Request id: {ORIGIN.get().request_id}"
        return (Issue("exception", said, rule="internal"),)
    return error.issues


def _headers(error: GatewayError) -> dict[str, str]:
    headers: dict[str, str] = {}
    if error.status == 401:
        headers["www-authenticate"] = challenge(error).decode("ascii")
    if error.status in (429, 503):
        headers["retry-after"] = str(error.after)
    return headers


def _outcome(
    request: Request,
    status: int,
    issues: Sequence[Issue],
    error: GatewayError | None = None,
    *,
    place: str = "",
) -> Response:
    """An OperationOutcome in JSON, or in XML for a caller who asks for XML alone."""
    body, accept = operation_outcome(issues), request.headers.get("accept", "").lower()
    media = "application/fhir+json; charset=utf-8"
    if "xml" in accept and "json" not in accept:
        body, media = xml_of(body), "application/fhir+xml; charset=utf-8"
    headers = (_headers(error) if error is not None else {}) | {"content-type": media}
    if place:
        headers["location"] = f"{FHIR_PATH}/{place}"
    return Response(body, status, headers)
