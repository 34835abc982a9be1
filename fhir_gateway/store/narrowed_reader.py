"""A Reader of either driver under the scopes of a token (`Access.narrow`).

Statements of searches, histories and records have the scopes' terms in them (narrow_sql.py). The
few that read one resource by its name are made for speed, in fixed shapes; here what they find is
judged before it is handed on.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

from fhir_gateway.security.actor import Narrow
from fhir_gateway.store.narrow_sql import is_queried, passes
from fhir_gateway.store.store import Person, Stored


class NarrowedReader:
    """A snapshot; entered and left with `async with`. What it does not say is the Reader's own."""

    def __init__(self, reader: Any, narrow: Narrow) -> None:
        self._reader, self._narrow = reader, narrow

    async def __aenter__(self) -> NarrowedReader:
        await self._reader.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._reader.__aexit__(kind, error, traceback)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    async def read(self, type: str, id: str) -> Stored | None:
        """The current version; None when it is not visible or not within the scopes."""
        found: Stored | None = await self._reader.read(type, id)
        return found if found is not None and await self._passes(found) else None

    async def _passes(self, stored: Stored) -> bool:
        ways = self._narrow.ways(stored.type)
        if not ways:
            return ways is not None
        judged: bool = await self._reader.steps(
            lambda seen: passes(self._narrow, seen.dialect, stored)
        )
        return judged

    async def vread(self, type: str, id: str, version: int) -> Stored | None:
        """One version; of a type that is narrowed by a query the current one alone."""
        current = await self.read(type, id)
        if current is None or current.version == version:
            return current
        if is_queried(self._narrow.ways(type) or ()):
            return None
        found: Stored | None = await self._reader.vread(type, id, version)
        return found

    async def history(self, type: str, id: str) -> list[Stored]:
        """All versions, newest first; of a type that is narrowed by a query the current one."""
        current = await self.read(type, id)
        if current is None:
            return []
        if is_queried(self._narrow.ways(type) or ()):
            return [current]
        found: list[Stored] = await self._reader.history(type, id)
        return found

    async def home(self, type: str, id: str) -> int | None:
        """The home of a stored resource."""
        found = await self.read(type, id)
        return found.home if found else None

    async def person(self, patient: str, as_of: int | None = None) -> Person | None:
        """The identity behind a Patient; None when that is not within the scopes."""
        ways = self._narrow.ways("Patient")
        if ways is None or (ways and await self.read("Patient", patient) is None):
            return None
        found: Person | None = await self._reader.person(patient, as_of)
        return found
