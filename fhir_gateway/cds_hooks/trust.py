"""Who calls: as at every other door, or by a token that the caller's system signed itself.

CDS Hooks 2.0, "Trusting CDS Clients". A signed token is believed when its issuer is listed, its
key is one of that issuer's, it is meant for the very address that was called, fresh, and was not
seen before, by any process of the gateway. Whoever cannot be told apart from a stranger gets 401;
keys that cannot be fetched just now are no fault of the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, Login
from fhir_gateway.interactions.authenticate import authenticate
from fhir_gateway.interactions.callers import Caller, actor_of
from fhir_gateway.interactions.institutions import institutions
from fhir_gateway.interactions.key_sets import keys_at
from fhir_gateway.interactions.outbound import trusted_certificates
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.security.cds_client import Client, Clients, read_clients
from fhir_gateway.security.client_jwt import Presented, has_key, is_signed, present, verify
from fhir_gateway.security.jwt import ALGORITHMS as ALL_ALGORITHMS
from fhir_gateway.security.jwt import read
from fhir_gateway.security.outbound import read_policy
from fhir_gateway.security.tokens import bearer
from fhir_gateway.settings import Settings
from fhir_gateway.store.changes import ChangeSet, Once

_SEEN = "cds-client-jti"


@lru_cache(maxsize=8)
def clients_of(file: str) -> Clients:
    """The clients in the settings' file, read once for each process; none without a file.

    Raises Invalid with every fault of the file.
    """
    if not file:
        return Clients()
    try:
        return read_clients(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise Invalid(
            "FHIR_GATEWAY_CDS_CLIENTS must be a file of TOML in UTF-8", rule="setting-value"
        ) from None


def may_propose(gateway: Gateway, actor: Actor) -> bool:
    """Whether it is agreed with the caller's institution that cards suggest to create proposed
    Appointments (`proposes` in the file of CDS clients)."""
    return actor.institution in clients_of(gateway.settings.cds_clients).proposing


def check_trust(settings: Settings) -> None:
    """Raises Invalid for settings by which nobody could be trusted, or anybody.

    Signed tokens need a base of their own: what they are meant for would be the word of the
    caller (the Host header) otherwise.
    """
    read_policy(settings.outbound_origins, settings.outbound_networks)
    if settings.outbound_ca:
        trusted_certificates(settings.outbound_ca)
    if clients_of(settings.cds_clients).by_issuer and not settings.base_url:
        raise Invalid(
            "FHIR_GATEWAY_BASE_URL is needed where CDS clients sign their calls",
            rule="setting-value",
        )


async def caller(gateway: Gateway, headers: Mapping[str, str], address: str) -> Actor:
    """The caller of this address. Raises Login, and Unavailable when keys cannot be had."""
    token = bearer(headers.get("authorization"))
    client = _client_of(gateway, token) if token is not None and is_signed(token) else None
    if token is None or client is None:  # as at every other door
        return await authenticate(gateway, headers)
    presented = present(token)
    keys = await _keys(gateway, client, presented)
    accepted = verify(presented, keys, address, gateway.clock.now())
    owner = client.tenants.get(accepted.tenant, "") if client.tenants else client.institution
    if owner not in await institutions(gateway):
        raise Login(
            "This token speaks for no institution of the registry: check its tenant",
            rule="client-token",
        )
    said = Caller("institution", owner, client=presented.issuer, token=accepted.jti)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        actor = await actor_of(gateway, reader, said)
    await _use_once(gateway, presented.issuer, accepted.jti)
    return actor


def _client_of(gateway: Gateway, token: str) -> Client | None:
    """The CDS client that a token says it is of. Raises Login for what cannot be read."""
    by_issuer = clients_of(gateway.settings.cds_clients).by_issuer
    return by_issuer.get(read(token, ALL_ALGORITHMS).issuer) if by_issuer else None


async def _keys(
    gateway: Gateway, client: Client, presented: Presented
) -> tuple[Mapping[str, object], ...]:
    """The keys of a client that may have signed: those of the file, or of an address in it."""
    if client.keys and (not presented.jku or has_key(presented, client.keys)):
        return client.keys
    url = presented.jku or next(iter(client.jwks_urls), "")
    if url not in client.jwks_urls:
        raise Login("The jku of this token is not one of its issuer's here", rule="client-token")
    return tuple(await keys_at(gateway, url, lambda keys: has_key(presented, keys)))


async def _use_once(gateway: Gateway, issuer: str, jti: str) -> None:
    """Makes it durable that this token was used. Raises Login when it was before.

    The nonce tells a repeat by somebody else from the same commit that was sent again.
    """
    nonce = gateway.random(16)
    key = sha256(f"{len(issuer)}:{issuer}{jti}".encode()).digest()
    change_set = ChangeSet(id=gateway.random(16), once=Once(_SEEN, key, nonce), urgent=True)
    done = await gateway.store.commit(change_set)
    if done.repeated and done.response != nonce:
        raise Login("This token was used before: sign one for each call", rule="client-token")
