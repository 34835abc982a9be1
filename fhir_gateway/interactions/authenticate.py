"""Who asks: the one door that every door of the gateway leads its callers through.

A bearer token (RFC 6750) is one of three: issued by this gateway to a registered client (SMART
Backend Services), signed by an OpenID provider that the operator trusts, or an institution's static
one, which is for this machine alone. What was found is remembered for a few seconds, so a token
that was ended is dead within that time, also when the clock steps back; what was not found is asked
for again each time. A token that is bound to a certificate (RFC 8705) is good beside that one only.
"""

from __future__ import annotations

from collections.abc import Mapping

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Login
from fhir_gateway.interactions.audit import ORIGIN
from fhir_gateway.interactions.callers import Caller, actor_of
from fhir_gateway.interactions.clients import client_at
from fhir_gateway.interactions.institutions import epoch_known
from fhir_gateway.interactions.issuers import said_by
from fhir_gateway.interactions.tokens import Granted, granted_at
from fhir_gateway.security.actor import OPEN, SYSTEM_ACCESS, Actor
from fhir_gateway.security.certificate import presented
from fhir_gateway.security.jwt import is_signed
from fhir_gateway.security.origin import is_direct
from fhir_gateway.security.tokens import ISSUED, NO_TOKEN, Known, bearer, hash_token, name_of
from fhir_gateway.store.store import Reader

REMEMBERED_US = 5_000_000
_MOST = 10_000


async def authenticate(gateway: Gateway, headers: Mapping[str, str]) -> Actor:
    """The caller. Without a credential that is nobody's (open access) or Login is raised.

    Raises Unavailable when the keys of a provider cannot be had just now.
    """
    token = bearer(headers.get("authorization"))
    if token is None:
        if gateway.settings.open_access:
            return OPEN
        raise Login("Send an access token as Authorization: Bearer …", rule=NO_TOKEN)
    known = await known_of(gateway, token)
    if known.kind == "static":
        check_static(gateway, headers)
    if known.thumbprint:
        check_certificate(gateway, headers, known.thumbprint)
    return known.actor


async def known_of(gateway: Gateway, token: str) -> Known:
    """What a token stands for, whoever sends it and with what. Raises Login for one of nobody."""
    hashed, now = hash_token(token), gateway.clock.now()
    known = gateway.tokens.get(hashed)
    if (
        known is not None
        and 0 < known.until - now <= REMEMBERED_US
        and epoch_known(gateway) <= known.epoch
    ):
        return known
    try:
        known = await _look_up(gateway, token, hashed, now)
    except Login:
        gateway.tokens.pop(hashed, None)
        gateway.count("logins_refused", 1)
        raise
    if len(gateway.tokens) >= _MOST:
        gateway.tokens.clear()
    gateway.tokens[hashed] = known
    return known


def check_static(gateway: Gateway, headers: Mapping[str, str]) -> None:
    """Raises Login for a static token from beyond this machine: it could be anybody's by now."""
    if gateway.settings.open_access or is_direct(headers, gateway.settings):
        return
    raise Login(
        "Static tokens of institutions are for this machine alone, without a proxy. Register the "
        "system with its public key (fhir-gateway clients add) and let it ask /oauth/token",
        rule="static-token",
    )


def check_certificate(gateway: Gateway, headers: Mapping[str, str], thumbprint: str) -> None:
    """Raises Login when a request does not come with this certificate."""
    if presented(headers, ORIGIN.get().address, gateway.settings) != thumbprint:
        raise Login(
            "This token is bound to a client certificate that the request did not come with",
            rule="certificate",
        )


async def _look_up(gateway: Gateway, token: str, hashed: bytes, now: int) -> Known:
    if is_signed(token):
        return await _signed(gateway, token, now)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        if token.startswith(ISSUED):
            return await _issued(gateway, reader, hashed, now)
        return await _static(gateway, reader, hashed, now)


async def _signed(gateway: Gateway, token: str, now: int) -> Known:
    """A token of an outside provider; its keys may have to be fetched, before a snapshot opens."""
    said = await said_by(gateway, token)
    caller = Caller(
        role=said.role,
        institution=said.institution,
        user=said.user,
        client=said.client,
        purpose=said.purpose,
        patient=said.patient,
        token=said.jti or name_of(hash_token(token)),
        scopes=said.scopes,
        until=said.until,
    )
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        actor = await actor_of(gateway, reader, caller)
        until = min(now + REMEMBERED_US, said.until)
        return Known(actor, until, reader.epoch, "signed", said.thumbprint)


async def _issued(gateway: Gateway, reader: Reader, hashed: bytes, now: int) -> Known:
    """A token of ours: it holds while it was not ended and its client is active."""
    found: Granted | None = await granted_at(reader, hashed, now)
    client = await client_at(gateway, reader, found.client) if found is not None else None
    if found is None or client is None or not client.active:
        raise Login("This token is not known, has ended or was revoked", rule="token")
    caller = Caller(
        role=client.role,
        institution=client.institution,
        name=client.name,
        client=client.id,
        purpose=found.purpose or client.purpose,
        token=name_of(hashed),
        scopes=found.scopes,
        until=found.until,
        asserts_consent=client.asserts_consent,
    )
    actor = await actor_of(gateway, reader, caller)
    until = min(now + REMEMBERED_US, found.until)
    return Known(actor, until, reader.epoch, "issued", found.thumbprint or client.certificate)


async def _static(gateway: Gateway, reader: Reader, hashed: bytes, now: int) -> Known:
    """An institution's own token, or that of a body that evaluates quality."""
    owner = await reader.credential(hashed)
    if owner is None:
        raise Login("This token is not known or was revoked", rule="token")
    caller = Caller(role="", institution=owner, token=name_of(hashed))
    actor = await actor_of(gateway, reader, caller)
    return Known(actor, now + REMEMBERED_US, reader.epoch, "static")
