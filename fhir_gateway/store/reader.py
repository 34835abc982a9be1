"""The SQLite Reader: one snapshot of the store under one Access.

A snapshot is a read transaction on a connection of the pool; `(t, epoch)` is read first. What
touches one home runs in the event loop, it takes microseconds; what may take longer runs in a
thread under a deadline. A Reader is used by one task at a time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

import apsw

from fhir_gateway.errors import Unavailable
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.search.plan import SearchPlan
from fhir_gateway.security.actor import Access
from fhir_gateway.store import blobs, history_sql, listing_sql, record_sql, visible
from fhir_gateway.store.changes import Evaluation
from fhir_gateway.store.dialect import SQLITE
from fhir_gateway.store.draining import JOURNALED
from fhir_gateway.store.extent import is_quick, may_meet
from fhir_gateway.store.index_version import (
    Index,
    check_current,
    index_of,
    rests_on_index,
)
from fhir_gateway.store.lookups import Place
from fhir_gateway.store.person_sql import whole
from fhir_gateway.store.pool import Pool
from fhir_gateway.store.query import Steps, run
from fhir_gateway.store.scan_sql import scan
from fhir_gateway.store.search_sql import search
from fhir_gateway.store.second_sight import SecondSight
from fhir_gateway.store.sight_sql import Moment, Statement, moment_of, values_of
from fhir_gateway.store.sqlite_person import facts
from fhir_gateway.store.statements import IS_UNDRAINED
from fhir_gateway.store.store import Change, Dates, Listed, Page, Person, Stored, StoredFact
from fhir_gateway.store.visible import visible_to
from fhir_gateway.store.walk_sql import owned, walk

_T = TypeVar("_T")

#: Counting every resource reads whole tables; it is asked for by operators only.
COUNT_SECONDS = 30.0

#: One page of an export: bounded pieces, but of cold data.
SCAN_SECONDS = 10.0


class SqliteReader(SecondSight):
    """A snapshot; entered and left with `async with`."""

    t: int
    epoch: int
    at: int
    index: Index

    def __init__(
        self,
        pool: Pool,
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
        self._moment = Moment()
        self._values: dict[str, Any] = {}
        self._clock: Sequence[int] = ()  # the row of the snapshot
        self._connection: apsw.Connection

    async def __aenter__(self) -> SqliteReader:
        self._connection = await self._pool.take()
        try:
            self._begin()
        except BaseException:
            self._pool.give(self._connection)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.give(self._connection)

    def _begin(self) -> None:
        try:
            self._connection.execute("BEGIN")
            self._clock = self._connection.execute(visible.CLOCK).get
            self._begun()
        except apsw.BusyError:
            raise Unavailable("The database is being recovered", rule="database-locked") from None

    def _begun(self) -> None:
        self.t, self.epoch, *index, updated = self._clock
        self.index = index_of(index, self._pool.index)
        self._moment = moment_of(self._access, self.index, self.t, updated, self._now)
        self.at = self._moment.at
        self._values = values_of(self._access, SQLITE, self._moment)

    def _judged(self, statement: Statement, *own: Any, behind: Sequence[Any] = ()) -> apsw.Cursor:
        """The rows of a statement that are seen: its own values, the Access's, and others."""
        return self._connection.execute(
            statement.sql, (*own, *statement.bound(self._values), *behind)
        )

    def _seen(self) -> history_sql.Seen:
        return history_sql.Seen(SQLITE, self._access, self._moment)

    async def _see_journal(self, type: str) -> None:
        """Makes sure that the journal has its index rows, on a newer snapshot if need be."""
        if type in JOURNALED and self._connection.execute(IS_UNDRAINED).get:
            await self._drain()
            self._connection.execute("ROLLBACK")
            self._begin()

    # -- one resource ------------------------------------------------------------------------

    async def read(self, type: str, id: str) -> Stored | None:
        """The current version, also a deletion; None when never stored or not visible."""
        see = self._see
        if type in JOURNALED:
            see = self._see_acts
            await self._see_journal(type)
        row = self._judged(see.read, type_key(type), id).fetchone()
        return stored(self._connection, type, id, row) if row else None

    async def vread(self, type: str, id: str, version: int) -> Stored | None:
        """One version; None when there is none or the resource is not visible."""
        current = await self.read(type, id)
        if current is None or current.version == version:
            return current
        row = self._judged(self._see.version, type_key(type), id, behind=[version]).fetchone()
        return stored(self._connection, type, id, row) if row else None

    async def history(self, type: str, id: str) -> list[Stored]:
        """All versions that are visible, newest first."""
        current = await self.read(type, id)
        if current is None:
            return []
        rows = self._judged(self._see.history, type_key(type), id)
        return [current, *(stored(self._connection, type, id, row) for row in rows)]

    async def home(self, type: str, id: str) -> int | None:
        """The home of a stored resource."""
        found = await self.read(type, id)
        return found.home if found else None

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

        def page() -> list[Change]:
            steps = history_sql.changes(
                self._seen(),
                type=type, id=id, since=since,
                until_t=self.t if until_t is None else min(until_t, self.t),
                at=at, before=before, limit=limit,
            )  # fmt: skip
            return run(steps, self._connection)

        if id is not None:
            return page()
        return await self._pool.in_thread(self._connection, page)

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

        def page() -> list[Stored]:
            steps = scan(
                self._seen(),
                type=type, until_t=until_t, after_rid=after_rid, limit=limit,
                updated_from=updated_from, patients=patients, deleted=deleted,
            )  # fmt: skip
            return run(steps, self._connection)

        return await self._pool.in_thread(self._connection, page, seconds=SCAN_SECONDS)

    async def given(self) -> tuple[int, int]:
        """The last resource number and the last person's home that were given."""
        rid, home = self._connection.execute(visible.GIVEN).get
        return rid, home

    async def walk(self, after: Place, *, until_home: int, limit: int) -> list[Stored]:
        """Current resources in the order of their places, behind one, in homes up to that one."""

        def page() -> list[Stored]:
            steps = walk(self._seen(), after, until_home=until_home, limit=limit)
            return run(steps, self._connection)

        return await self._pool.in_thread(self._connection, page, seconds=SCAN_SECONDS)

    async def owned(
        self, type: str, owner: int, *, after_rid: int, visit: int
    ) -> tuple[list[Stored], int]:
        """What an institution owns among the next of a type, and the number to go on behind."""

        def page() -> tuple[list[Stored], int]:
            seen = self._seen()
            steps = owned(seen, type, owner, after_rid=after_rid, visit=visit)
            return run(steps, self._connection)

        return await self._pool.in_thread(self._connection, page, seconds=SCAN_SECONDS)

    # -- a patient's record --------------------------------------------------------------------

    async def record(
        self, home: int, patient: str, *, dates: Dates | None = None, **page: Any
    ) -> list[Stored]:
        """Current resources of a home that name this Patient, after a place of (type, rid)."""
        if dates is not None:
            check_current(self.index)
        return await self.steps(
            lambda seen: record_sql.record(seen, home=home, patient=patient, dates=dates, **page)
        )

    async def steps(
        self, make: Callable[[history_sql.Seen], Steps[_T]], *, seconds: float | None = None
    ) -> _T:
        """What statements return that are written once for every store (query.py).

        They run in the event loop and must stay within a few homes; with `seconds` in a thread.
        """
        steps = make(self._seen())
        if seconds is None:
            return run(steps, self._connection)
        return await self._pool.in_thread(
            self._connection, lambda: run(steps, self._connection), seconds=seconds
        )

    async def shared(self, names: Sequence[tuple[str, str]]) -> list[Stored]:
        """Those of these ("Type", id) that are current and in no person's home."""
        steps = record_sql.shared(self._seen(), names)
        return run(steps, self._connection)

    # -- search ------------------------------------------------------------------------------

    async def search(self, plan: SearchPlan) -> Page:
        """One page. Raises TooCostly before it runs when the plan's estimate is over budget,
        Unavailable when it could miss something because the index is of an older version."""
        if not self.index.is_current and rests_on_index(plan):
            check_current(self.index)
        for type in JOURNALED:
            if may_meet(plan, type):
                await self._see_journal(type)

        def page() -> Page:
            under: Any = {"dialect": SQLITE, "moment": self._moment, "budget": self._budget}
            return run(search(plan, self._access, **under), self._connection)

        if is_quick(plan):
            return page()
        return await self._pool.in_thread(self._connection, page)

    async def listed(
        self, type: str, row: tuple[int, int], *, after: int | None, limit: int, examples: int
    ) -> list[Listed]:
        """What the global index lists under (parameter, v1), grouped by v2, behind a value."""

        def page() -> list[Listed]:
            steps = listing_sql.listed(
                self._seen(), type, row,
                after=after, limit=limit, examples=examples,
            )  # fmt: skip
            return run(steps, self._connection)

        return await self._pool.in_thread(self._connection, page, seconds=SCAN_SECONDS)

    # -- one person --------------------------------------------------------------------------

    async def person(self, patient: str, as_of: int | None = None) -> Person | None:
        """The identity behind a Patient's logical id; None when deleted or not visible."""
        row = self._judged(self._see.person, type_key("Patient"), patient).fetchone()
        if row is None:
            return None
        home, documented, contested, connected = row
        person = Person(home, bool(documented), bool(contested), (home,))
        if not connected:
            return person
        t = self.t if as_of is None else as_of
        return run(whole(SQLITE, person, t), self._connection)

    async def person_records(self, homes: Sequence[int]) -> list[str]:
        """Logical ids of the Patients of these homes that are current and visible."""
        steps = record_sql.patients(self._seen(), homes)
        return run(steps, self._connection)

    async def facts(
        self, homes: int | Sequence[int], items: Sequence[str], as_of: int
    ) -> list[StoredFact]:
        """Facts of a person for these items that were valid at commit `as_of`, newest first.

        Of several reports that carry a result, the one that was issued last gives the status.
        """
        wanted = (homes,) if isinstance(homes, int) else homes
        values = {**self._values, "t": as_of}
        return facts(self._connection, self._see.facts, wanted, items, as_of, values)

    async def evaluations(self, pairs: Sequence[tuple[str, str]], as_of: int) -> list[Evaluation]:
        """Rows of the register for (institution, item) pairs, valid at commit `as_of`."""
        found: list[Any] = []
        for pair in dict.fromkeys(pairs):
            found += self._connection.execute(visible.EVALUATIONS, (*pair, as_of))
        return [
            Evaluation(institution, item, area, start, end, bool(passed), evaluator, round)
            for institution, item, area, start, end, passed, evaluator, round in found
        ]

    # -- the rest ----------------------------------------------------------------------------

    async def once(self, kind: str, key: bytes) -> bytes | None:
        """The stored answer of an earlier request with this key."""
        response: bytes | None = self._connection.execute(visible.ONCE, (kind, key)).get
        return response

    async def credential(self, hash: bytes) -> str | None:
        """The institution that an active token belongs to."""
        institution: str | None = self._connection.execute(visible.CREDENTIAL, (hash,)).get
        return institution

    async def has_credential(self, institution: str) -> bool:
        """Whether an institution has an active token."""
        return bool(self._connection.execute(visible.HAS_CREDENTIAL, (institution,)).get)

    async def received(self, hash: bytes) -> tuple[str, bytes] | None:
        """Media type and bytes that a door once received."""
        row = self._connection.execute(visible.RECEIVED, (hash,)).fetchone()
        return (row[0], blobs.unpack(row[1], row[2])) if row else None

    async def last_received(self) -> dict[str, int]:
        """For every institution that ever sent something: time of its newest commit, in µs."""
        seen: list[Any] = self._connection.execute(visible.SEEN).fetchall()
        return dict(seen)

    async def counts(self) -> dict[str, int]:
        """Current resources by type."""

        def run() -> list[Any]:
            return self._judged(self._see_acts.counts).fetchall()

        rows = await self._pool.in_thread(self._connection, run, seconds=COUNT_SECONDS)
        names = {type_key(name): name for name in definitions().resource_types}
        return dict(sorted((names[type], count) for type, count in rows))

    def index_key(self) -> bytes:
        """The secret of the keyed hashes of search values."""
        key: bytes = self._connection.execute(visible.INDEX_KEY).get
        return key


def stored(connection: apsw.Connection, type: str, id: str, row: Sequence[Any]) -> Stored:
    """The Stored of a row with the columns of `visible.STORED`; its body is fetched and decoded."""
    version, updated, deleted, home, rid, owner, enc, body, t, n = row
    if enc == blobs.IN_JOURNAL:
        enc, body = connection.execute(visible.JOURNAL_BODY, (t, n, id)).get
    tail = b"" if deleted else blobs.unpack(enc, body)
    return Stored(type, id, version, updated, bool(deleted), home, rid, owner, tail)
