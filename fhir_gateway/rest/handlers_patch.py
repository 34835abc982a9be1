"""Handlers of patch, and of delete by condition (hl7.org/fhir/R4/http.html#patch, #delete)."""

from __future__ import annotations

from fhir_gateway.context import Gateway
from fhir_gateway.errors import UnsupportedMedia
from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.interactions.delete import delete, delete_conditional
from fhir_gateway.interactions.etag import version_in
from fhir_gateway.interactions.outcome import Outcome
from fhir_gateway.interactions.patch import (
    XML_PATCH,
    Format,
    fhirpath_patch,
    json_patch,
    patch,
    patch_conditional,
)
from fhir_gateway.rest.exchange import Answer, Exchange, read_body
from fhir_gateway.rest.formats import resource_body
from fhir_gateway.rest.negotiation import (
    check_conditions,
    is_json_patch,
    is_xml_patch,
    prefer,
)
from fhir_gateway.rest.written import etag, written


async def patch_one(gateway: Gateway, exchange: Exchange) -> Answer:
    """PATCH Type/id"""
    exchange.refuse_parameters()
    format, body = await _asked(gateway, exchange)
    outcome = await patch(
        gateway,
        exchange.actor,
        type=exchange.type,
        id=exchange.id,
        format=format,
        body=body,
        if_match=version_in(exchange.headers.get("if-match")),
        base=exchange.base,
    )
    return written(exchange, outcome)


async def patch_by_condition(gateway: Gateway, exchange: Exchange) -> Answer:
    """PATCH Type?…"""
    format, body = await _asked(gateway, exchange)
    outcome = await patch_conditional(
        gateway,
        exchange.actor,
        type=exchange.type,
        pairs=exchange.pairs,
        format=format,
        body=body,
        if_match=version_in(exchange.headers.get("if-match")),
        base=exchange.base,
    )
    return written(exchange, outcome)


async def _asked(gateway: Gateway, exchange: Exchange) -> tuple[Format, bytes]:
    """How to read the body, by its media type, and the body. Raises UnsupportedMedia."""
    check_conditions(exchange.headers, "PATCH")
    media = exchange.headers.get("content-type")
    if is_json_patch(media):
        return json_patch, await read_body(exchange)
    if is_xml_patch(media):
        raise UnsupportedMedia(XML_PATCH, rule="content-type")
    return fhirpath_patch, await resource_body(gateway, exchange)


async def delete_one(gateway: Gateway, exchange: Exchange) -> Answer:
    """DELETE Type/id"""
    exchange.refuse_parameters()
    check_conditions(exchange.headers, "DELETE")
    outcome = await delete(
        gateway,
        exchange.actor,
        type=exchange.type,
        id=exchange.id,
        if_match=version_in(exchange.headers.get("if-match")),
    )
    return _deleted(exchange, outcome)


async def delete_by_condition(gateway: Gateway, exchange: Exchange) -> Answer:
    """DELETE Type?…"""
    check_conditions(exchange.headers, "DELETE")
    outcome = await delete_conditional(
        gateway,
        exchange.actor,
        type=exchange.type,
        pairs=exchange.pairs,
        if_match=version_in(exchange.headers.get("if-match")),
    )
    return _deleted(exchange, outcome)


def _deleted(exchange: Exchange, outcome: Outcome) -> Answer:
    """204, or 200 with the OperationOutcome that Prefer asks for."""
    headers = (etag(outcome.version),) if outcome.version else ()
    if prefer(exchange.headers.get("prefer")).returns == "OperationOutcome":
        return Answer(200, operation_outcome(()), headers)
    return Answer(204, b"", headers)


#: Joined to the handlers of the other interactions.
HANDLERS = {
    ("PATCH", "{type}"): patch_by_condition,
    ("PATCH", "{type}/{id}"): patch_one,
    ("DELETE", "{type}"): delete_by_condition,
    ("DELETE", "{type}/{id}"): delete_one,
}
