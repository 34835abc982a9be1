"""Access tokens of registered clients: given out, looked up, ended.

SMART Backend Services 2.2: opaque, 256 random bits, good for five minutes at most. Only the SHA-256
is kept. One commit says that the assertion was used, keeps the token and tells the audit log, so
that of any number of requests with the same assertion, at whatever process, one is answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple

import msgspec

from fhir_gateway.audit.events import administration_event, login_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Login
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS, Access, Actor
from fhir_gateway.security.clients import Client
from fhir_gateway.security.jwt_assertion import Proved
from fhir_gateway.security.tokens import ISSUED, hash_token, name_of, new_token
from fhir_gateway.store import client_sql
from fhir_gateway.store.changes import ChangeSet, Committed, Once, TokenRow
from fhir_gateway.store.client_sql import KeptToken
from fhir_gateway.store.store import Reader

#: Seconds that a token holds.
LIFETIME = 300
#: Kind of the mark that an assertion was used.
_SEEN = "client-assertion-jti"
#: Tokens that ended so long ago (µs) are forgotten, so many with each new one.
_FORGOTTEN_AFTER, _FORGOTTEN_AT_ONCE = 60_000_000, 20
_MOST_LISTED = 1_000


class _Body(msgspec.Struct, frozen=True):
    scopes: tuple[str, ...] = ()
    purpose: str = ""
    thumbprint: str = ""


class Granted(NamedTuple):
    """A token that holds. Times are in microseconds; `name` is what the audit log calls it."""

    name: str
    client: str
    scopes: tuple[str, ...]
    purpose: str
    thumbprint: str
    issued: int
    until: int


_encoder, _decoder = msgspec.json.Encoder(), msgspec.json.Decoder(_Body)


async def issue(
    gateway: Gateway, client: Client, proved: Proved, scopes: Sequence[str]
) -> tuple[str, int]:
    """A new token of a client that has proved itself, and the seconds that it holds.

    Raises Login when its assertion was used before.
    """
    token = new_token(gateway.random(32), ISSUED)
    now, hashed, nonce = gateway.clock.now(), hash_token(token), gateway.random(16)
    body = _Body(tuple(scopes), proved.purpose, client.certificate)
    row = TokenRow(hashed, client.id, now, now + LIFETIME * 1_000_000, _encoder.encode(body))
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        old = await reader.steps(
            lambda seen: client_sql.expired(now - _FORGOTTEN_AFTER, _FORGOTTEN_AT_ONCE)
        )
    actor = replace(actor_for(client, proved), token=name_of(hashed))
    done = await gateway.store.commit(
        ChangeSet(
            id=gateway.random(16),
            once=Once(_SEEN, _key(client.id, proved.jti), nonce),
            tokens=[row],
            forgotten=old,
            journal=[entry(gateway, login_event(call_of(gateway, actor), said=" ".join(scopes)))],
            urgent=True,
        )
    )
    _check_first(done, nonce)
    return token, LIFETIME


def actor_for(client: Client, proved: Proved | None = None) -> Actor:
    """A client as the audit log names it; it sees nothing by this."""
    return Actor(
        role="institution",
        name=client.name or client.id,
        institution=client.institution or None,
        access=Access(max_class=-1, owners=frozenset()),
        client=client.id,
        purpose=(proved.purpose if proved is not None else "") or client.purpose,
    )


async def use_once(gateway: Gateway, client: Client, proved: Proved) -> None:
    """Makes it durable that an assertion was used. Raises Login when it was before."""
    nonce = gateway.random(16)
    once = Once(_SEEN, _key(client.id, proved.jti), nonce)
    done = await gateway.store.commit(ChangeSet(id=gateway.random(16), once=once, urgent=True))
    _check_first(done, nonce)


def _check_first(done: Committed, nonce: bytes) -> None:
    """The nonce tells a repeat by somebody else from the same commit that was sent again."""
    if done.repeated and done.response != nonce:
        raise Login("This assertion was used before: sign one for each request", rule="replayed")


def _key(client: str, jti: str) -> bytes:
    return sha256(f"{len(client)}:{client}{jti}".encode()).digest()


async def granted_at(reader: Reader, hashed: bytes, now: int) -> Granted | None:
    """The token with this hash; None for one that is not known, has ended or was revoked."""
    kept = await reader.steps(lambda seen: client_sql.token(hashed))
    return _granted(kept) if kept is not None and kept.active and now < kept.until else None


async def granted(gateway: Gateway, token: str) -> Granted | None:
    """As `granted_at`, for the token itself."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return await granted_at(reader, hash_token(token), gateway.clock.now())


async def tokens_of(gateway: Gateway, client: str) -> list[Granted]:
    """The tokens of a client that hold."""
    return [_granted(one) for one in await _kept(gateway, client)]


async def revoke(gateway: Gateway, token: str, actor: Actor) -> None:
    """Ends a token of ours; nothing is done with one that is not known (RFC 7009 2.2)."""
    hashed = hash_token(token)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        kept = await reader.steps(lambda seen: client_sql.token(hashed))
    gateway.tokens.pop(hashed, None)
    if kept is not None and kept.active:
        await _end(gateway, kept.client, [kept], actor)


async def revoke_all(gateway: Gateway, client: str, name: str = "") -> int:
    """Ends all tokens of a client, or the one of this name; returns how many there were."""
    kept = [one for one in await _kept(gateway, client) if name in ("", name_of(one.hash))]
    if kept:
        await _end(gateway, client, kept, GATEWAY)
    return len(kept)


async def _kept(gateway: Gateway, client: str) -> list[KeptToken]:
    now = gateway.clock.now()
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return await reader.steps(
            lambda seen: client_sql.tokens_of(client, now=now, limit=_MOST_LISTED)
        )


async def _end(gateway: Gateway, client: str, kept: Sequence[KeptToken], actor: Actor) -> None:
    event = administration_event(
        call_of(gateway, actor),
        act="token",
        summary=f"{len(kept)} tokens revoked",
        details=[("client", client), *(("token", name_of(one.hash)) for one in kept)],
    )
    await gateway.store.commit(
        ChangeSet(
            id=gateway.random(16),
            tokens=[
                TokenRow(one.hash, one.client, one.issued, one.until, one.body, active=False)
                for one in kept
            ],
            journal=[entry(gateway, event)],
            urgent=True,
        )
    )
    for one in kept:
        gateway.tokens.pop(one.hash, None)


def _granted(kept: KeptToken) -> Granted:
    body = _decoder.decode(kept.body)
    return Granted(
        name_of(kept.hash), kept.client, body.scopes, body.purpose, body.thumbprint,
        kept.issued, kept.until,
    )  # fmt: skip
