"""history of a resource, a type, and everything (hl7.org/fhir/R4/http.html#history).

Newest first, deletions too. A page goes on where the last one ended, in the order of commits:
versions that come meanwhile are newer than its first page and shift nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from fhir_gateway.context import Gateway
from fhir_gateway.errors import NotFound
from fhir_gateway.fhir import bundle
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.audit import audited, disclose_read, disclose_search
from fhir_gateway.interactions.history_page import Asked, links, read_history
from fhir_gateway.interactions.types import check_type
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.store import Change, Reader

Pairs = Sequence[tuple[str, str]]


@audited("history-instance")
async def history(
    gateway: Gateway,
    actor: Actor,
    *,
    type: str,
    id: str,
    base: str,
    pairs: Pairs = (),
    lenient: bool = False,
) -> bytes:
    """A Bundle of the versions of one resource.

    Raises NotFound, and Invalid or NotSupported for parameters that history does not take (dropped
    when `lenient`, as the self link shows).
    """
    check_type(type, "history-instance")
    asked = read_history(gateway, actor, f"{type}/{id}", pairs, lenient=lenient)
    async with gateway.store.snapshot(actor.access) as reader:
        changes = await _changes(reader, asked, type, id)
        known = changes[0].stored if changes else await reader.read(type, id)
    if known is None:
        raise NotFound("There is no such resource", rule="unknown-id")
    shown = next((one.stored for one in changes if not one.stored.deleted), known)
    await disclose_read(gateway, actor, shown, interaction="history-instance")
    return _bundle(gateway, actor, asked, changes, base)


@audited("history-type")
async def history_type(
    gateway: Gateway,
    actor: Actor,
    *,
    type: str,
    base: str,
    pairs: Pairs = (),
    lenient: bool = False,
) -> bytes:
    """A Bundle of the versions of one type. Raises as `history`, and TooCostly."""
    check_type(type, "history-type")
    return await _history_of_many(gateway, actor, type, base, pairs, lenient)


@audited("history-system")
async def history_system(
    gateway: Gateway, actor: Actor, *, base: str, pairs: Pairs = (), lenient: bool = False
) -> bytes:
    """A Bundle of the versions of all types. Raises as `history`, and TooCostly."""
    return await _history_of_many(gateway, actor, "", base, pairs, lenient)


async def _history_of_many(
    gateway: Gateway, actor: Actor, type: str, base: str, pairs: Pairs, lenient: bool
) -> bytes:
    asked = read_history(gateway, actor, type, pairs, lenient=lenient)
    async with gateway.store.snapshot(actor.access) as reader:
        changes = await _changes(reader, asked, type or None, None)
    shown = [one.stored for one in changes[: asked.count]]
    applied = links(gateway, actor, asked, changes, "")[0][1]
    await disclose_search(
        gateway,
        actor,
        asked=applied.removeprefix("/"),
        matches=shown,
        interaction="history-type" if type else "history-system",
    )
    return _bundle(gateway, actor, asked, changes, base)


async def _changes(reader: Reader, asked: Asked, type: str | None, id: str | None) -> list[Change]:
    """The page, and one more where there is a next one."""
    return await reader.changes(
        type=type,
        id=id,
        since=asked.since,
        at=asked.at,
        before=asked.before,
        limit=asked.count + 1,
    )


def _bundle(
    gateway: Gateway, actor: Actor, asked: Asked, changes: Sequence[Change], base: str
) -> bytes:
    """The page. The total is told where this page is all: anything else would have to be counted
    for every page anew."""
    whole = asked.before is None and len(changes) <= asked.count
    return bundle.history(
        [_entry(change, base) for change in changes[: asked.count]],
        links=links(gateway, actor, asked, changes, base),
        total=len(changes) if whole else None,
    )


def _entry(change: Change, base: str) -> bundle.Change:
    """One version with the request that made it: a create that is not the first version was an
    update of what had been deleted."""
    stored = change.stored
    name = f"{stored.type}/{stored.id}"
    posted = change.op == "create" and stored.version == 1
    return bundle.Change(
        full_url=f"{base}/{name}",
        resource=None if stored.deleted else stored.whole(),
        method="DELETE" if stored.deleted else "POST" if posted else "PUT",
        url=stored.type if posted else name,
        status=_STATUS[change.op],
        etag=f'W/"{stored.version}"',
        last_modified=instant(stored.updated),
    )


_STATUS = {"create": "201 Created", "update": "200 OK", "delete": "204 No Content"}
