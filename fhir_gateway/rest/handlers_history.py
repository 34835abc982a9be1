"""The handlers of the histories: of one resource, of a type, of everything."""

from __future__ import annotations

from fhir_gateway.context import Gateway
from fhir_gateway.interactions.history import history, history_system, history_type
from fhir_gateway.rest.exchange import Answer, Exchange
from fhir_gateway.rest.negotiation import prefer


async def list_versions(gateway: Gateway, exchange: Exchange) -> Answer:
    """GET Type/id/_history"""
    body = await history(
        gateway,
        exchange.actor,
        type=exchange.type,
        id=exchange.id,
        base=exchange.base,
        pairs=exchange.pairs,
        lenient=prefer(exchange.headers.get("prefer")).lenient,
    )
    return Answer(200, body)


async def list_versions_of_type(gateway: Gateway, exchange: Exchange) -> Answer:
    """GET Type/_history"""
    body = await history_type(
        gateway,
        exchange.actor,
        type=exchange.type,
        base=exchange.base,
        pairs=exchange.pairs,
        lenient=prefer(exchange.headers.get("prefer")).lenient,
    )
    return Answer(200, body)


async def list_all_versions(gateway: Gateway, exchange: Exchange) -> Answer:
    """GET _history"""
    body = await history_system(
        gateway,
        exchange.actor,
        base=exchange.base,
        pairs=exchange.pairs,
        lenient=prefer(exchange.headers.get("prefer")).lenient,
    )
    return Answer(200, body)


HANDLERS = {
    ("GET", "_history"): list_all_versions,
    ("GET", "{type}/_history"): list_versions_of_type,
    ("GET", "{type}/{id}/_history"): list_versions,
}
