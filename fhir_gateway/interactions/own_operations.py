"""What the operations on an institution's own affairs share: who may ask, the record of it, and
the shape of the answer."""

from __future__ import annotations

from typing import Any

from fhir_gateway.audit.events import search_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden
from fhir_gateway.interactions.audit import call_of, disclose, entry
from fhir_gateway.interactions.operation_definitions import Call
from fhir_gateway.security.actor import Actor

Json = dict[str, Any]


def check_own(actor: Actor, institution: str | None, what: str) -> None:
    """Raises Forbidden for an institution that asks about another one's ("codes")."""
    if actor.bound and actor.institution != institution:
        raise Forbidden(
            f"An institution asks for its own {what}", expression="Organization", rule="owner"
        )


async def audit_asked(gateway: Gateway, actor: Actor, call: Call) -> None:
    """Puts on record what is told of an institution, before it is answered."""
    query = f"Organization/{call.id}/{call.name}"
    event = search_event(call_of(gateway, actor), query=query, interaction="operation")
    if gateway.audit:
        await disclose(gateway, [entry(gateway, event)])


def parameters(members: list[Json]) -> Json:
    """An answer of these members; FHIR has no empty list."""
    return {"resourceType": "Parameters"} | ({"parameter": members} if members else {})


def part(name: str, parts: list[Json]) -> Json:
    """A member that has parts."""
    return {"name": name, "part": parts}
