"""Rows of what is stored, derived again: by today's maps of local codes, while those stay.

A resource stays as it came, with the codings that the maps of its day gave it. Its rows and facts
come from a copy in memory that is coded anew (`Coder.recode`), or an index that is made again would
undo what a map has said since. What is derived is committed under the guard that no map of local
codes was stored since it was read; when one was, it is derived again. docs/adr/0021.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, Internal
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.local_codes import catch_up
from fhir_gateway.interactions.prepare import derived_of
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.changes import ChangeSet, Reindex, Settled
from fhir_gateway.store.draining import JOURNALED
from fhir_gateway.store.store import Stored

#: Types whose codes the gateway maps.
CODED_TYPES = ("Observation", "DiagnosticReport", "ImagingStudy", "ServiceRequest")

#: Resources in one change set (about 10 ms of the writer).
PIECE = 100

#: After so many derivations (about 2 ms) the event loop gets a turn.
TURN = 10

#: So many change sets wait to be committed while the next is derived.
AHEAD = 3

LOG = logging.getLogger("fhir_gateway.jobs")

#: Sees a resource as it is stored, and as it is coded now.
Look = Callable[[dict[str, Any], dict[str, Any]], None]


def maps_stay(since: int) -> Settled:
    """The guard that no map of local codes was stored since that commit."""
    return Settled(("ConceptMap",), (), since)


def owner_key(institution: str) -> int:
    """The owner key of what an institution stores."""
    return key64(f"Organization/{institution}")


class Deriver:
    """Derives rows again and commits them, a few change sets under way at a time.

    `look` is shown each resource once, as it is stored and as it is coded now.
    """

    def __init__(self, gateway: Gateway, look: Look | None = None) -> None:
        self._gateway = gateway
        self._look = look
        self._tasks: deque[asyncio.Task[None]] = deque()
        self._names: dict[int, str] = {}

    async def add(self, stored: Sequence[Stored]) -> None:
        """Derives these and commits, as soon as there is room for it.

        Raises Internal for a resource of which this version can make no rows.
        """
        for start in range(0, len(stored), PIECE):
            piece = stored[start : start + PIECE]
            change_set = await self._derive_all(piece, self._look)
            self._tasks.append(asyncio.create_task(self._commit(piece, change_set)))
            await asyncio.sleep(0)
            while len(self._tasks) > AHEAD:
                await self._tasks.popleft()

    async def settle(self) -> None:
        """Returns when all are durable. Raises GatewayError."""
        while self._tasks:
            await self._tasks.popleft()

    async def leave(self) -> None:
        """Waits for what is under way, whatever comes of it."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _commit(self, piece: Sequence[Stored], change_set: ChangeSet) -> None:
        while True:
            try:
                await self._gateway.store.commit(change_set)
            except Conflict as error:
                if getattr(error, "guard", -1) < 0:
                    raise
                change_set = await self._derive_all(piece)  # a map was stored meanwhile
            else:
                return

    async def _derive_all(self, piece: Sequence[Stored], look: Look | None = None) -> ChangeSet:
        coded = {stored.owner for stored in piece if stored.type in CODED_TYPES}
        guards = [maps_stay(await self.follow(coded))] if coded else []
        wanted = []
        for number, stored in enumerate(piece, 1):
            found = self._derive(stored, look)
            if found is not None:
                wanted.append(found)
            if number % TURN == 0:  # this process may be the writer
                await asyncio.sleep(0)
        return ChangeSet(id=b"", guards=[*guards], reindex=wanted)

    async def follow(self, owners: Iterable[int] | None = None) -> int:
        """Returns when the maps of those who own these, or of all, are known as they stand at a
        commit, which it says."""
        gateway, codes = self._gateway, self._gateway.local_codes
        while True:
            async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                t, epoch = reader.t, reader.epoch
            if codes is None:
                return t
            wanted = self._names if owners is None else owners
            names = {self._names.get(owner, "") for owner in wanted} | {""}
            behind = [name for name in names if not codes.holds(name, epoch)]
            for name in behind:
                await catch_up(gateway, name)
            known = {owner_key(id): id for id in (*codes.tables, *codes.known.values())}
            if not behind and known.keys() <= self._names.keys():
                return t
            self._names |= known

    def recoded(self, stored: Stored, look: Look | None = None) -> dict[str, Any]:
        """The resource; where it has codes, a copy that is coded by the maps as they are known."""
        resource: dict[str, Any] = parse(stored.whole())
        codes = self._gateway.local_codes
        if codes is None or stored.type not in CODED_TYPES:
            return resource
        institution = self._names.get(stored.owner, "")
        copy, _, _ = codes.coder.recode(resource, institution)
        if look is not None:
            look(resource, copy)
        return copy

    def _derive(self, stored: Stored, look: Look | None) -> Reindex | None:
        """The rows of this version of the gateway. A record of the journal that cannot be read
        keeps what it has, as when it was indexed first, and is logged."""
        try:
            derived = derived_of(self._gateway, self.recoded(stored, look), stored.owner)
        except Exception as error:
            name = f"{stored.type}/{stored.id}"
            kind = type(error).__name__
            LOG.error(json.dumps({"event": "reindex-fault", "resource": name, "error": kind}))
            if stored.type in JOURNALED:
                return None
            raise Internal(f"{name} has no rows in this version: {kind}", rule="reindex") from None
        return Reindex(stored.type, stored.id, stored.version, derived)
