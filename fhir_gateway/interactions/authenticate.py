"""Who asks: a static bearer token of an institution, by its hash (RFC 6750).

A token that was found is remembered for a few seconds, so a revoked one is dead within that time,
also when the clock steps back; one that was not found is asked for again each time.
"""

from __future__ import annotations

from collections.abc import Mapping

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Login
from fhir_gateway.fhir.keys import key64
from fhir_gateway.interactions.evaluations import bodies_at
from fhir_gateway.interactions.institutions import institution
from fhir_gateway.security.actor import OPEN, SYSTEM_ACCESS, Access, Actor
from fhir_gateway.security.tokens import bearer, hash_token

REMEMBERED_US = 5_000_000
_MOST = 10_000


async def authenticate(gateway: Gateway, headers: Mapping[str, str]) -> Actor:
    """The caller. Without a credential that is nobody's (open access) or Login is raised."""
    token = bearer(headers.get("authorization"))
    if token is None:
        if gateway.settings.open_access:
            return OPEN
        raise Login("Send the institution's token as Authorization: Bearer …", rule="credential")
    hashed = hash_token(token)
    now = gateway.clock.now()
    remembered = gateway.tokens.get(hashed)
    if remembered is not None and 0 < remembered[1] - now <= REMEMBERED_US:
        return remembered[0]
    actor = await _look_up(gateway, hashed)
    if len(gateway.tokens) >= _MOST:
        gateway.tokens.clear()
    gateway.tokens[hashed] = (actor, now + REMEMBERED_US)
    return actor


async def _look_up(gateway: Gateway, hashed: bytes) -> Actor:
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        owner = await reader.credential(hashed)
        body = (await bodies_at(gateway, reader)).get(owner) if owner is not None else None
    if owner is None:
        gateway.tokens.pop(hashed, None)
        raise Login("This token is not known or was revoked", rule="credential")
    if body is not None and body.active:  # sees its own evaluations, and no patient's rows
        own = frozenset({key64(f"Organization/{body.id}")})
        return Actor("institution", body.name, body.id, Access(owners=own))
    known = await institution(gateway, owner)
    if known is None:
        raise Login("The institution of this token has left the registry", rule="credential")
    return Actor(role="institution", name=known.name, institution=owner)
