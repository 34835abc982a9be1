"""$render over HTTP: the page of a document under its own media type and policy."""

from __future__ import annotations

from fhir_gateway.context import Gateway
from fhir_gateway.interactions.operation_definitions import Call
from fhir_gateway.interactions.render_document import RENDER, render_document
from fhir_gateway.rest.exchange import Answer
from fhir_gateway.security.actor import Actor

#: Operations whose answer has a media type of its own, whatever Accept says.
OWN_MEDIA_OPERATIONS = frozenset({f"${RENDER.code}"})


async def render_page(gateway: Gateway, actor: Actor, call: Call) -> Answer:
    """GET DocumentReference/id/$render"""
    page = await render_document(gateway, actor, call)
    headers = (
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", page.policy.encode("ascii")),
        (b"content-disposition", b"inline"),
    )
    return Answer(200, page.html, headers)
