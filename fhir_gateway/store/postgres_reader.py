"""The PostgreSQL Reader: one snapshot of the store under one Access.

A snapshot is a read-only transaction of isolation level REPEATABLE READ; `(t, epoch)` is its first
statement, so that everything is read as of that commit. Searches and histories are the generators
that SQLite's Reader runs too (see query.py). The server cuts off what takes too long.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar, cast

import asyncpg

from fhir_gateway.errors import TooCostly, Unavailable
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.search.plan import SearchPlan
from fhir_gateway.security.actor import Access
from fhir_gateway.store import blobs, history_sql, jobs, listing_sql, record_sql, visible
from fhir_gateway.store import postgres_sql as sql
from fhir_gateway.store.changes import Evaluation
from fhir_gateway.store.dialect import POSTGRES
from fhir_gateway.store.draining import JOURNALED
from fhir_gateway.store.extent import may_meet
from fhir_gateway.store.history_sql import Seen
from fhir_gateway.store.index_version import Index, check_current, rests_on_index
from fhir_gateway.store.lookups import Place
from fhir_gateway.store.person_sql import whole
from fhir_gateway.store.postgres_person import evaluations, facts
from fhir_gateway.store.postgres_pool import (
    DEADLINE_SECONDS,
    PLACES,
    PostgresPool,
    Session,
    is_slow,
    refusal_of_read,
    slow,
    too_long,
)
from fhir_gateway.store.postgres_sql import numbered, visible_to
from fhir_gateway.store.query import Query, Steps
from fhir_gateway.store.reader import COUNT_SECONDS, SCAN_SECONDS
from fhir_gateway.store.scan_sql import scan
from fhir_gateway.store.search_record import PLACE
from fhir_gateway.store.search_sql import search
from fhir_gateway.store.second_sight import SecondSight
from fhir_gateway.store.sight_sql import Statement, moment_of, values_of
from fhir_gateway.store.statements import IS_UNDRAINED
from fhir_gateway.store.store import Change, Dates, Listed, Page, Person, Stored, StoredFact
from fhir_gateway.store.walk_sql import owned, walk

_T = TypeVar("_T")
_FAILED = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)
Late = Callable[[], TooCostly | Unavailable]


class PostgresReader(SecondSight):
    """A snapshot; entered and left with `async with`."""

    t: int
    epoch: int
    at: int
    index: Index

    def __init__(
        self,
        pool: PostgresPool,
        access: Access,
        *,
        drain: Callable[[], Awaitable[None]],
        search_budget: int,
        now: Callable[[], int],
    ) -> None:
        self._pool = pool
        self._access = access
        self._drain = drain
        self._budget = search_budget
        self._now = now
        self._see, self._see_acts = visible_to(access)
        self._session: Session
        self._connection: asyncpg.Connection

    async def __aenter__(self) -> PostgresReader:
        self._session, self.t, self.epoch = await self._pool.snapshot()
        self._connection = self._session.connection
        try:
            self._begun()
        except BaseException:
            self._pool.give(self._session)
            raise
        return self

    def _begun(self) -> None:
        self.index = self._session.index
        self._moment = moment_of(self._access, self.index, self.t, self._session.updated, self._now)
        self.at = self._moment.at
        self._values = values_of(self._access, POSTGRES, self._moment)

    def _seen(self) -> Seen:
        return Seen(POSTGRES, self._access, self._moment)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.give(self._session)

    # -- statements ----------------------------------------------------------------------------

    async def _fetch(self, statement: str, *values: Any) -> list[Any]:
        try:
            return list(await self._connection.fetch(statement, *values))
        except _FAILED as error:
            raise refusal_of_read(self._connection, error) from None

    async def _set(self, *settings: str) -> None:
        """Settings for the statements of this snapshot, in one round trip."""
        try:
            await self._connection.execute("; ".join(f"SET LOCAL {one}" for one in settings))
        except _FAILED as error:
            raise refusal_of_read(self._connection, error) from None

    async def _row(self, statement: str, *values: Any) -> Any:
        return rows[0] if (rows := await self._fetch(statement, *values)) else None

    async def _value(self, statement: str, *values: Any) -> Any:
        return row[0] if (row := await self._row(statement, *values)) else None

    async def _walk(self, steps: Steps[_T], *, seconds: float = DEADLINE_SECONDS) -> _T:
        """As `_drive`, for statements that follow an index until they have a page."""
        await self._set(f"statement_timeout = {round(seconds * 1000)}", *sql.WALK)
        return await self._drive(steps, seconds=seconds)

    async def _drive(
        self, steps: Steps[_T], *, seconds: float = DEADLINE_SECONDS, late: Late = too_long
    ) -> _T:
        """What the generator returns. Raises `late` when it takes longer than that."""
        deadline = time.monotonic() + seconds
        try:
            query = next(steps)
            while True:
                rows = await self._answer(query)
                if time.monotonic() > deadline:
                    raise late()
                query = steps.send(rows)
        except StopIteration as end:
            return cast(_T, end.value)
        except Unavailable as error:
            raise (late() if is_slow(error) else error) from None

    async def _answer(self, query: Query) -> list[Any]:
        if query.sql == PLACE:
            place = await self._place(*query.values)
            return [place] if place else []
        return await self._fetch(numbered(query.sql), *query.values)

    async def _see_journal(self, type: str) -> None:
        """Makes sure that the journal has its index rows, on a newer snapshot if need be."""
        if type in JOURNALED and (await self._row(IS_UNDRAINED))[0]:
            await self._drain()
            try:
                self.t, self.epoch = await self._pool.begin(self._session)
                self._begun()
            except _FAILED as error:
                raise refusal_of_read(self._connection, error) from None

    # -- one resource ------------------------------------------------------------------------

    async def _place(self, type: int, id: str) -> tuple[int, int] | None:
        """Home and number of a resource that was ever stored."""
        places = self._pool.places
        place = places.get((type, id))
        if place is None:
            row = await self._row(sql.PLACE, type, id)
            if row is None:
                return None
            if len(places) >= PLACES:
                places.clear()
            place = places[type, id] = (row[0], row[1])
        return place

    async def _judged(self, statement: Statement, *own: Any) -> list[Any]:
        """The rows of a statement that are seen."""
        return await self._fetch(statement.sql, *own, *statement.bound(self._values))

    async def _at(self, statement: Statement, type: str, id: str) -> Any:
        """The row of a resource that is found by its place; None when there is none to be seen."""
        key = type_key(type)
        place = await self._place(key, id)
        if place is None:
            return None
        home, rid = place
        return next(iter(await self._judged(statement, home, key, rid, id)), None)

    async def read(self, type: str, id: str) -> Stored | None:
        """The current version, also a deletion; None when never stored or not visible."""
        if type in JOURNALED:
            await self._see_journal(type)
        row = await self._at((self._see_acts if type in JOURNALED else self._see).read, type, id)
        return await self._stored(type, id, row) if row else None

    async def vread(self, type: str, id: str, version: int) -> Stored | None:
        """One version; None when there is none or the resource is not visible."""
        current = await self.read(type, id)
        if current is None or current.version == version:
            return current
        place = current.home, current.rid, type_key(type)
        rows = await self._judged(self._see.version, *place, version)
        return await self._stored(type, id, rows[0]) if rows else None

    async def history(self, type: str, id: str) -> list[Stored]:
        """All versions that are visible, newest first."""
        current = await self.read(type, id)
        if current is None:
            return []
        rows = await self._judged(self._see.history, current.home, current.rid, type_key(type))
        return [current, *[await self._stored(type, id, row) for row in rows]]

    async def home(self, type: str, id: str) -> int | None:
        """The home of a stored resource."""
        return found.home if (found := await self.read(type, id)) else None

    async def _stored(self, type: str, id: str, row: Sequence[Any]) -> Stored:
        """The Stored of a row with the columns of `visible.STORED`."""
        version, updated, deleted, home, rid, owner, enc, body, t, n = row
        if enc == blobs.IN_JOURNAL:
            enc, body = await self._row(sql.JOURNAL_BODY, t, n, id)
        tail = b"" if deleted else blobs.unpack(enc, body)
        return Stored(type, id, version, updated, bool(deleted), home, rid, owner, tail)

    # -- what changed, and what was ------------------------------------------------------------

    async def changes(
        self,
        *,
        type: str | None = None,
        id: str | None = None,
        since: int | None = None,
        until_t: int | None = None,
        at: tuple[int, int] | None = None,
        before: tuple[int, int, int] | None = None,
        limit: int,
    ) -> list[Change]:
        """Versions in the order of commits, newest first, deletions too: those that are visible.

        Raises TooCostly when it would take too long.
        """
        await self._see_journal(type or JOURNALED[0])
        steps = history_sql.changes(
            self._seen(),
            type=type, id=id, since=since,
            until_t=self.t if until_t is None else min(until_t, self.t),
            at=at, before=before, limit=limit,
        )  # fmt: skip
        return await self._walk(steps)

    async def scan(
        self,
        type: str,
        *,
        until_t: int,
        after_rid: int = 0,
        limit: int,
        updated_from: int | None = None,
        patients: Sequence[str] | None = None,
        deleted: bool = False,
    ) -> list[Stored]:
        """Resources of a type in the order of `rid`, each as it was current at commit `until_t`."""
        await self._see_journal(type)
        steps = scan(
            self._seen(),
            type=type, until_t=until_t, after_rid=after_rid, limit=limit,
            updated_from=updated_from, patients=patients, deleted=deleted,
        )  # fmt: skip
        return await self._walk(steps, seconds=SCAN_SECONDS)

    async def given(self) -> tuple[int, int]:
        """The last resource number and the last person's home that were given."""
        rid, home = await self._row(visible.GIVEN)
        return rid, home

    async def walk(self, after: Place, *, until_home: int, limit: int) -> list[Stored]:
        """Current resources in the order of their places, behind one, in homes up to that one."""
        steps = walk(self._seen(), after, until_home=until_home, limit=limit)
        return await self._walk(steps, seconds=SCAN_SECONDS)

    async def owned(self, type: str, owner: int, **piece: int) -> tuple[list[Stored], int]:
        """What an institution owns among the next of a type, and the number to go on behind."""
        steps = owned(self._seen(), type, owner, **piece)
        return await self._walk(steps, seconds=SCAN_SECONDS)

    async def listed(self, type: str, row: tuple[int, int], **page: Any) -> list[Listed]:
        """What the global index lists under (parameter, v1), grouped by v2, behind a value."""
        steps = listing_sql.listed(self._seen(), type, row, **page)
        return await self._walk(steps, seconds=SCAN_SECONDS)

    # -- a patient's record --------------------------------------------------------------------

    async def record(
        self, home: int, patient: str, *, dates: Dates | None = None, **page: Any
    ) -> list[Stored]:
        """Current resources of a home that name this Patient, after a place of (type, rid)."""
        if dates is not None:
            check_current(self.index)
        where: dict[str, Any] = {"home": home, "patient": patient, "dates": dates}
        return await self.steps(lambda seen: record_sql.record(seen, **where, **page))

    async def steps(self, make: Callable[[Seen], Steps[_T]], *, seconds: float | None = None) -> _T:
        """What statements return that are written once for every store (query.py)."""
        return await self._drive(make(self._seen()), seconds=seconds or DEADLINE_SECONDS, late=slow)

    async def shared(self, names: Sequence[tuple[str, str]]) -> list[Stored]:
        """Those of these ("Type", id) that are current and in no person's home."""
        return await self.steps(lambda seen: record_sql.shared(seen, names))

    # -- search ------------------------------------------------------------------------------

    async def search(self, plan: SearchPlan) -> Page:
        """One page. Raises TooCostly before it runs when the plan's estimate is over budget,
        Unavailable when it could miss something because the index is of an older version."""
        if not self.index.is_current and rests_on_index(plan):
            check_current(self.index)
        for type in JOURNALED:
            if may_meet(plan, type):
                await self._see_journal(type)
        under: Any = {"dialect": POSTGRES, "moment": self._moment, "budget": self._budget}
        return await self._drive(search(plan, self._access, **under))

    # -- one person --------------------------------------------------------------------------

    async def person(self, patient: str, as_of: int | None = None) -> Person | None:
        """The identity behind a Patient's logical id; None when deleted or not visible."""
        if (row := await self._at(self._see.person, "Patient", patient)) is None:
            return None
        home, documented, contested, connected = row
        person = Person(home, documented, contested, (home,))
        if not connected:
            return person
        t = self.t if as_of is None else as_of
        return await self.steps(lambda _: whole(POSTGRES, person, t))

    async def person_records(self, homes: Sequence[int]) -> list[str]:
        """Logical ids of the Patients of these homes that are current and visible."""
        return await self.steps(lambda seen: record_sql.patients(seen, homes))

    async def facts(
        self, homes: int | Sequence[int], items: Sequence[str], as_of: int
    ) -> list[StoredFact]:
        """Facts of a person for these items that were valid at commit `as_of`, newest first."""
        values = {**self._values, "t": as_of}
        return await facts(self._fetch, self._see, homes, items, as_of, values)

    async def evaluations(self, pairs: Sequence[tuple[str, str]], as_of: int) -> list[Evaluation]:
        """Rows of the register for (institution, item) pairs, valid at commit `as_of`."""
        return await evaluations(self._fetch, pairs, as_of)

    # -- the rest ----------------------------------------------------------------------------

    async def once(self, kind: str, key: bytes) -> bytes | None:
        """The stored answer of an earlier request with this key."""
        return cast(bytes | None, await self._value(sql.ONCE, kind, key))

    async def credential(self, hash: bytes) -> str | None:
        """The institution that an active token belongs to."""
        return cast(str | None, await self._value(sql.CREDENTIAL, hash))

    async def has_credential(self, institution: str) -> bool:
        """Whether an institution has an active token."""
        return bool(await self._value(sql.HAS_CREDENTIAL, institution))

    async def received(self, hash: bytes) -> tuple[str, bytes] | None:
        """Media type and bytes that a door once received."""
        row = await self._row(sql.RECEIVED, hash)
        return (row[0], blobs.unpack(row[1], row[2])) if row else None

    async def last_received(self) -> dict[str, int]:
        """For every institution that ever sent something: time of its newest commit, in µs."""
        return {institution: updated for institution, updated in await self._fetch(sql.SEEN)}

    async def counts(self) -> dict[str, int]:
        """Current resources by type."""
        await self._set(f"statement_timeout = {round(COUNT_SECONDS * 1000)}", "enable_seqscan = on")
        rows = await self._judged(self._see_acts.counts)
        names = {type_key(name): name for name in definitions().resource_types}
        return dict(sorted((names[type], count) for type, count in rows))

    async def index_key(self) -> bytes:
        """The secret of the keyed hashes of search values."""
        return cast(bytes, await self._value(sql.INDEX_KEY))

    async def job(self, id: str) -> jobs.Job | None:
        """A job as it stands."""
        row = await self._row(numbered(jobs.FIND), id)
        return jobs.Job(*row) if row else None
