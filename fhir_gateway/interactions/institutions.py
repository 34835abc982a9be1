"""The registry of institutions: the Organizations that send and receive results.

Read once per epoch of the store (any change to a registered Organization raises it), so that a
request finds its institution in memory. Registering is the operator's act: an Organization, the
hash of a token, and the AuditEvent that says so, in one commit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import NamedTuple
from weakref import WeakKeyDictionary

from msgspec.json import decode
from msgspec.structs import replace

from fhir_gateway.audit.events import create_event, credential_event, update_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import NotFound
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.interactions.evaluations import bodies_at
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.interactions.shared_reader import shared_reader
from fhir_gateway.search.planner import plan_search
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS
from fhir_gateway.security.institution import (
    REGISTRY_CODE,
    REGISTRY_SYSTEM,
    Institution,
    institution_of,
    organization_of,
)
from fhir_gateway.security.tokens import hash_token, new_token
from fhir_gateway.store.changes import ChangeSet, Credential, Once
from fhir_gateway.store.store import Reader, Store, Stored

_ISSUED = "credential-issued"  # kind of the mark that an institution was ever given a token
_PAGE = 500  # Organizations read at a time


class _Registry(NamedTuple):
    """The registry as of an epoch, and what was read of each version, to read it once."""

    epoch: int
    institutions: Mapping[str, Institution]
    versions: Mapping[tuple[str, int], Institution | None]


_NOTHING = _Registry(-1, {}, {})
_known: WeakKeyDictionary[Store, _Registry] = WeakKeyDictionary()


async def institutions(gateway: Gateway) -> Mapping[str, Institution]:
    """All registered institutions by logical id."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return await institutions_at(gateway, reader)


async def institutions_at(gateway: Gateway, reader: Reader) -> Mapping[str, Institution]:
    """All registered institutions by logical id, as this snapshot sees them."""
    known = _known.get(gateway.store, _NOTHING)
    if known.epoch != reader.epoch:
        async with shared_reader(gateway, reader) as whole:
            known = _known[gateway.store] = await _read(gateway, whole, known)
    return known.institutions


def epoch_known(gateway: Gateway) -> int:
    """The newest epoch at which this process has read the registry, -1 before the first."""
    return _known.get(gateway.store, _NOTHING).epoch


async def institution(gateway: Gateway, id: str) -> Institution | None:
    """The institution with this logical id."""
    return (await institutions(gateway)).get(id)


async def institution_of_facility(gateway: Gateway, facility: str) -> Institution | None:
    """The institution whose v2 messages name this sending facility (MSH-4), if it is one."""
    return at_facility(await institutions(gateway), facility)


def at_facility(known: Mapping[str, Institution], facility: str) -> Institution | None:
    """The same of those that are known."""
    found = [one for one in known.values() if facility in (one.id, *one.facilities)]
    return found[0] if len(found) == 1 else None


class Registered(NamedTuple):
    """`outcome` is created, updated or unchanged; `token` "" unless one was made."""

    outcome: str
    token: str


async def register(
    gateway: Gateway, registered: Institution, *, with_token: bool = False
) -> Registered:
    """Stores the institution, and a first token when it is new and one is wanted."""
    put = prepare(
        gateway, organization_of(registered), op="create", institution=None, only_if_changed=True
    )
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        current = await reader.read("Organization", registered.id)
    call, id = call_of(gateway, GATEWAY), registered.id
    change_set = ChangeSet(id=gateway.random(16), puts=[put], urgent=True)
    token = ""
    if current is None:
        event = create_event(call, type="Organization", id=id)
        if with_token:
            token = new_token(gateway.random(32))
            change_set.credentials = [Credential(hash_token(token), id)]
            change_set.once = Once(_ISSUED, id.encode(), b"")
    else:
        event = update_event(call, type="Organization", id=id, version=current.version + 1)
    change_set.journal = [entry(gateway, event)]
    committed = await gateway.store.commit(change_set)
    return Registered(committed.results[0].outcome, token)


async def issue_token(gateway: Gateway, id: str) -> str:
    """A new token of the institution; only its hash is kept. Raises NotFound."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        known = id in await institutions_at(gateway, reader)
        if not known and id not in await bodies_at(gateway, reader):
            raise NotFound(f"No institution {id} is registered", rule="institution")
        issued = await reader.once(_ISSUED, id.encode()) is not None
    token = new_token(gateway.random(32))
    await _commit_credential(gateway, id, token, active=True, first=not issued)
    return token


async def revoke_token(gateway: Gateway, token: str) -> str:
    """Ends a token and returns its institution. Raises NotFound for one nobody holds."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        id = await reader.credential(hash_token(token))
    if id is None:
        raise NotFound("This is not an active token", rule="token")
    await _commit_credential(gateway, id, token, active=False, first=False)
    return id


async def has_token(reader: Reader, id: str) -> bool:
    """Whether the institution has a token that was not revoked."""
    return await reader.has_credential(id)


async def _commit_credential(
    gateway: Gateway, id: str, token: str, *, active: bool, first: bool
) -> None:
    event = credential_event(call_of(gateway, GATEWAY), institution=id, issued=active)
    await gateway.store.commit(
        ChangeSet(
            id=gateway.random(16),
            journal=[entry(gateway, event)],
            credentials=[Credential(hash_token(token), id, active)],
            once=Once(_ISSUED, id.encode(), b"") if first else None,
            urgent=True,
        )
    )


async def _read(gateway: Gateway, reader: Reader, known: _Registry) -> _Registry:
    versions: dict[tuple[str, int], Institution | None] = {}
    async for stored in _organizations(gateway, reader):
        key = (stored.id, stored.version)
        if key in known.versions:
            versions[key] = known.versions[key]
        else:
            versions[key] = institution_of(decode(stored.whole()))
    found = {one.id: one for one in versions.values() if one is not None}
    return _Registry(reader.epoch, MappingProxyType(found), versions)


async def _organizations(gateway: Gateway, reader: Reader) -> AsyncIterator[Stored]:
    """Those of the registry; all there are while the index is of an older version, for nobody
    could be told from a stranger then."""
    if not reader.index.is_current:
        after = 0
        while page := await reader.scan(
            "Organization", until_t=reader.t, after_rid=after, limit=_PAGE
        ):
            for stored in page:
                yield stored
            after = page[-1].rid
        return
    plan = plan_search(
        "Organization",
        [("type", f"{REGISTRY_SYSTEM}|{REGISTRY_CODE}"), ("_count", str(_PAGE))],
        secret=gateway.store.index_key,
        base_url="",
        zone=gateway.settings.zone,
        lenient=False,
        page_limit=_PAGE,
        naming=gateway.extractor.naming,
    )
    while True:
        found = await reader.search(plan)
        for stored in found.matches:
            yield stored
        if found.next is None:
            return
        plan = replace(plan, after=found.next)
