"""The registry of clients: who may ask for tokens, and what the operator does with them.

Every change is one commit with its AuditEvent and raises the epoch, so that every process hears of
it. A client is changed as it was read: of two changes at once the second one is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from fhir_gateway.audit.events import administration_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, Duplicate, NotFound
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.interactions.callers import Caller, actor_of
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS
from fhir_gateway.security.clients import Client, body_of, check_client, client_of
from fhir_gateway.security.outbound import read_policy
from fhir_gateway.store import client_sql
from fhir_gateway.store.changes import ChangeSet, ClientRow, Unique
from fhir_gateway.store.store import Reader, Store

_VERSION = "client-version"  # a change of a client as it was at that time

#: Clients by id as of an epoch; None for an id that is nobody's.
_known: WeakKeyDictionary[Store, tuple[int, dict[str, Client | None]]] = WeakKeyDictionary()
_MOST = 10_000


async def client_at(gateway: Gateway, reader: Reader, id: str) -> Client | None:
    """The client with this id as the snapshot sees it, also one that is not active."""
    epoch, known = _known.get(gateway.store, (-1, {}))
    if epoch != reader.epoch or len(known) >= _MOST:
        known = {}
        _known[gateway.store] = (reader.epoch, known)
    if id not in known:
        kept = await reader.steps(lambda seen: client_sql.client(id))
        known[id] = client_of(kept.body) if kept is not None else None
    return known[id]


async def client_named(gateway: Gateway, id: str) -> Client | None:
    """The client with this id, for whoever has an Actor of it and wants to know more of it."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return await client_at(gateway, reader, id)


async def clients(gateway: Gateway) -> list[tuple[Client, int]]:
    """All clients by id, each with the time (µs) of its last change."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        kept = await reader.steps(lambda seen: client_sql.clients())
    return [(client_of(one.body), one.updated) for one in kept]


async def read_client(gateway: Gateway, id: str) -> tuple[Client, int]:
    """A client, and the time (µs) of its last change. Raises NotFound."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        kept = await reader.steps(lambda seen: client_sql.client(id))
    if kept is None:
        raise NotFound(
            f"No client {id} is registered; see fhir-gateway clients list", rule="client"
        )
    return client_of(kept.body), kept.updated


async def add_client(gateway: Gateway, client: Client) -> None:
    """Registers a client. Raises Duplicate when the id is taken, Invalid for what is wrong."""
    await _check(gateway, client)
    await _commit(gateway, client, was=None, at=0)


async def change_client(gateway: Gateway, client: Client, *, was: Client, at: int) -> None:
    """Stores a client that was read as `was`, changed at `at`. Raises Conflict when somebody else
    changed it meanwhile, Invalid for what is wrong with it."""
    if client == was:
        return
    if client.active:
        await _check(gateway, client)
    await _commit(gateway, client, was=was, at=at)


async def _check(gateway: Gateway, client: Client) -> None:
    """What a client says of itself, that its Organization is there and its purpose allowed."""
    settings = gateway.settings
    check_client(client, read_policy(settings.outbound_origins, settings.outbound_networks))
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        said = Caller(client.role, client.institution, purpose=client.purpose)
        await actor_of(gateway, reader, said)


async def _commit(gateway: Gateway, client: Client, *, was: Client | None, at: int) -> None:
    event = administration_event(
        call_of(gateway, GATEWAY),
        act="client",
        summary=f"client {'added' if was is None else 'changed'}",
        resources=[f"Organization/{client.institution}"] if client.institution else [],
        details=_details(client, was),
    )
    change_set = ChangeSet(
        id=gateway.random(16),
        guards=[Unique(_VERSION, f"{client.id}/{at}".encode())],
        clients=[ClientRow(client.id, client.active, body_of(client))],
        journal=[entry(gateway, event)],
        urgent=True,
    )
    try:
        await gateway.store.commit(change_set)
    except Duplicate:
        if was is None:
            raise Duplicate(
                f"A client {client.id} is there already; see fhir-gateway clients change",
                rule="client",
            ) from None
        raise Conflict(
            f"Somebody else has just changed the client {client.id}; look at it again",
            rule="client",
        ) from None


def _details(client: Client, was: Client | None) -> Sequence[tuple[str, str]]:
    """What is new, by name; of keys only their ids, which are no secret."""
    pairs = [("id", client.id)]
    for name in client.__struct_fields__:
        value = getattr(client, name)
        if name != "id" and (was is None or value != getattr(was, name)):
            pairs.append((name, _told(value)))
    return pairs


def _told(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return " ".join(str(one.get("kid", "")) if isinstance(one, dict) else one for one in value)
    return str(value)
