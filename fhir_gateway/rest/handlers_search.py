"""The handlers of the searches: of a type, in a compartment, across types; by GET and by form."""

from __future__ import annotations

from fhir_gateway.context import Gateway
from fhir_gateway.interactions.search_compartment import search_compartment
from fhir_gateway.interactions.search_system import search_system, search_whole_compartment
from fhir_gateway.interactions.search_type import search_type
from fhir_gateway.rest.exchange import Answer, Exchange, query_pairs, read_body
from fhir_gateway.rest.negotiation import check_form, prefer


async def search(gateway: Gateway, exchange: Exchange) -> Answer:
    """GET Type?… and POST Type/_search"""
    await _read_form(exchange)
    body = await search_type(
        gateway,
        exchange.actor,
        type=exchange.type,
        pairs=exchange.pairs,
        base=exchange.base,
        lenient=prefer(exchange.headers.get("prefer")).lenient,
    )
    return Answer(200, body)


async def search_types(gateway: Gateway, exchange: Exchange) -> Answer:
    """GET ?_type=… and POST _search"""
    await _read_form(exchange)
    body = await search_system(
        gateway,
        exchange.actor,
        pairs=exchange.pairs,
        base=exchange.base,
        lenient=prefer(exchange.headers.get("prefer")).lenient,
    )
    return Answer(200, body)


async def search_members(gateway: Gateway, exchange: Exchange) -> Answer:
    """GET Patient/id/Type?…, Patient/id/*?… and POST …/_search"""
    await _read_form(exchange)
    lenient = prefer(exchange.headers.get("prefer")).lenient
    if exchange.member == "*":
        body = await search_whole_compartment(
            gateway,
            exchange.actor,
            compartment=exchange.type,
            owner=exchange.id,
            pairs=exchange.pairs,
            base=exchange.base,
            lenient=lenient,
        )
    else:
        body = await search_compartment(
            gateway,
            exchange.actor,
            compartment=exchange.type,
            owner=exchange.id,
            type=exchange.member,
            pairs=exchange.pairs,
            base=exchange.base,
            lenient=lenient,
        )
    return Answer(200, body)


async def _read_form(exchange: Exchange) -> None:
    """The form of a POST joins the parameters of its URL."""
    if exchange.method != "POST":
        return
    check_form(exchange.headers.get("content-type"))
    form = await read_body(exchange)
    exchange.steer(exchange.pairs + query_pairs(form.decode("latin-1")))
    exchange.negotiate()


HANDLERS = {
    ("GET", ""): search_types,
    ("POST", "_search"): search_types,
    ("GET", "{type}"): search,
    ("POST", "{type}/_search"): search,
    ("GET", "{type}/{id}/{member}"): search_members,
    ("POST", "{type}/{id}/{member}/_search"): search_members,
}
