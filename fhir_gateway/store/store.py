"""The Store protocol: the only seam of the gateway. Two drivers, the same tests.

`snapshot(access)` gives a Reader on one instant `t`; `commit(change_set)` returns when the change
set is durable, or raises what its guards say. Section 5 of docs/architecture.md explains why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from fhir_gateway.fhir.wire import splice
from fhir_gateway.security.actor import Access
from fhir_gateway.store.changes import ChangeSet, Committed, Evaluation, Fact
from fhir_gateway.store.index_version import Index
from fhir_gateway.store.lookups import Place

if TYPE_CHECKING:
    from fhir_gateway.search.plan import SearchPlan
    from fhir_gateway.store.history_sql import Seen
    from fhir_gateway.store.jobs import Command, Job
    from fhir_gateway.store.log import LogCommand
    from fhir_gateway.store.query import Query, Steps
    from fhir_gateway.store.search_explain import Explanation

_T = TypeVar("_T")


class Stored(NamedTuple):
    """One version of one resource, as kept. `tail` is decoded; a deleted version has none."""

    type: str
    id: str
    version: int
    updated: int
    deleted: bool
    home: int
    rid: int
    owner: int
    tail: bytes

    def whole(self) -> bytes:
        """The whole resource as JSON, ready to send."""
        return splice(self.type, self.id, self.version, self.updated, self.tail)


class Change(NamedTuple):
    """One version as it came about: its place in the order of commits, and what was done.

    `op` is create, update or delete. A place is unique; it is larger for what came later.
    """

    t: int
    n: int
    i: int
    op: str
    stored: Stored


class Page(NamedTuple):
    """One page of a search: matches in order, then what was included.

    `next` are the keyset values after the last match, None on the last page; `total` is exact or
    None when it was not asked for, or an estimate was and counting is costly. `explanation` is how
    the search would run, in place of matches, when the plan asks for it.
    """

    matches: list[Stored]
    included: list[Stored]
    next: tuple[int | str, ...] | None
    total: int | None
    explanation: Explanation | None = None


class Listed(NamedTuple):
    """A group of the global index: its value, how many rows it has, and some of the resources by
    their number; the first and the last that came are among them."""

    value: int
    rows: int
    examples: dict[int, Stored]


class StoredFact(NamedTuple):
    """A fact with the home's own bookkeeping: resource number, version of the evidence, commit."""

    fact: Fact
    rid: int
    version: int
    t_from: int
    patient: str  # logical id of the Patient the row names
    report_status: str  # status of the report that carries the result, "" when there is none
    report_source: str  # "DiagnosticReport/id" or ""
    report_more: str = ""  # ReportLink.more of that report


class Person(NamedTuple):
    """The identity a Patient belongs to.

    `contested` is true when the same identity document is used under another name elsewhere;
    `documented` is false when the Patient carries no identity document that could be checked.
    `homes` are all homes of the person, in rising order; `doubtful` is true when a proposal of
    grade probable is open, by which the records of `rivals` (homes) may be this person's too.
    """

    home: int
    documented: bool
    contested: bool
    homes: tuple[int, ...] = ()
    doubtful: bool = False
    rivals: tuple[int, ...] = ()


class Dates(NamedTuple):
    """A range of clinical dates (µs, inclusive; None: open): parameters of the index whose rows
    tell when what a resource is about began and ended."""

    begins: Sequence[int]
    ends: Sequence[int]
    low: int | None = None
    high: int | None = None


class Reader(Protocol):
    """A snapshot of the store under one Access. Everything is of the same `t` and `epoch`."""

    t: int
    epoch: int
    at: int  # the moment (µs) by which openings and consents hold, 0 without a sight
    index: Index  # of which version the derived rows are

    def under(self, access: Access) -> Reader:
        """This very snapshot under another Access; it ends with this one. Not for the journal."""

    async def read(self, type: str, id: str) -> Stored | None:
        """The current version, also a deletion; None when never stored or not visible."""

    async def vread(self, type: str, id: str, version: int) -> Stored | None:
        """One version."""

    async def history(self, type: str, id: str) -> list[Stored]:
        """All versions, newest first."""

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

        Of one resource when `type` and `id` are given, of a type, or of all. `since` (µs) keeps
        what was stored at or after it; `at` (low, high, µs) what was current at some moment of
        that range; `until_t` what was there at that commit; `before` what came before that place.
        Journal entries are among them. Raises TooCostly when it would take too long.
        """

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
        """Resources of a type in the order of `rid`, each as it was current at commit `until_t`.

        That holds also when a newer version is there by now, or it is deleted by now. Fewer than
        `limit` say that there are no more; the next page goes on `after_rid` of the last.
        `updated_from` (µs) keeps what was stored at or after it, `patients` what names one of
        these Patients. `deleted` gives those that were deleted at `until_t`, and only those.
        """

    async def given(self) -> tuple[int, int]:
        """The last resource number and the last person's home that were given."""

    async def walk(self, after: Place, *, until_home: int, limit: int) -> list[Stored]:
        """Current resources of all types, journal entries too, in the order of their places.

        Behind the place `after`, in homes up to `until_home`. A place never changes, so that a
        walk in pieces misses nothing that is there from its beginning to its end.
        """

    async def owned(
        self, type: str, owner: int, *, after_rid: int, visit: int
    ) -> tuple[list[Stored], int]:
        """Current resources of a type that an institution owns, and the number to go on behind.

        They are those among the next `visit` of the type, so that no page is long however few
        they are; 0 says that there are no more. Not for types of the journal.
        """

    async def record(
        self,
        home: int,
        patient: str,
        *,
        after: tuple[str, int] | None = None,
        limit: int,
        types: Sequence[str] | None = None,
        since: int | None = None,
        dates: Dates | None = None,
    ) -> list[Stored]:
        """Current resources of a home that name this Patient, in an order of (type, rid) that is
        the store's own: the next page goes on `after` (type, rid) of the last.

        Journal entries are not among them. `since` (µs) keeps what was stored at or after it.
        `dates` leaves out what lies wholly outside of the range; what has no such date is kept.
        It rests on the index: Unavailable as for `search`.
        """

    async def steps(self, make: Callable[[Seen], Steps[_T]], *, seconds: float | None = None) -> _T:
        """What statements return that are written once for every store (query.py), in this
        snapshot and under its Access. They must stay within a few homes, unless they are given
        `seconds`: then they hold up nobody, and TooCostly or Unavailable is raised after them."""

    async def shared(self, names: Sequence[tuple[str, str]]) -> list[Stored]:
        """Those of these ("Type", id) that are current and in no person's home, by type and id."""

    async def search(self, plan: SearchPlan) -> Page:
        """One page. Raises TooCostly before it runs when the plan's estimate is over budget,
        Unavailable when it rests on the index and that is of an older version."""

    async def listed(
        self, type: str, row: tuple[int, int], *, after: int | None, limit: int, examples: int
    ) -> list[Listed]:
        """What the global index lists under (parameter, v1) for a type, grouped by v2 in its order.

        Behind the value `after`; of each group about so many examples are read.
        """

    async def home(self, type: str, id: str) -> int | None:
        """The home of a stored resource."""

    async def person(self, patient: str, as_of: int | None = None) -> Person | None:
        """The identity behind a Patient's logical id; `homes`, `doubtful` and `rivals` as they
        were at commit `as_of`, by default that of the snapshot."""

    async def person_records(self, homes: Sequence[int]) -> list[str]:
        """Logical ids of the Patients of these homes that are current and visible, in the order of
        the homes and within them of their numbers."""

    async def facts(
        self, homes: int | Sequence[int], items: Sequence[str], as_of: int
    ) -> list[StoredFact]:
        """Facts of a person, of one home or several, for these items that were valid at commit
        `as_of`, newest first."""

    async def evaluations(self, pairs: Sequence[tuple[str, str]], as_of: int) -> list[Evaluation]:
        """Rows of the register for (institution, item) pairs, valid at commit `as_of`."""

    async def once(self, kind: str, key: bytes) -> bytes | None:
        """The stored answer of an earlier request with this key."""

    async def credential(self, hash: bytes) -> str | None:
        """The institution that an active token belongs to."""

    async def has_credential(self, institution: str) -> bool:
        """Whether an institution has an active token."""

    async def received(self, hash: bytes) -> tuple[str, bytes] | None:
        """Media type and bytes that a door once received."""

    async def last_received(self) -> dict[str, int]:
        """For every institution that ever sent something: time of its newest commit, in µs."""

    async def counts(self) -> dict[str, int]:
        """Current resources by type."""


class Store(Protocol):
    """A database of versions. Opened by a driver's `open`, closed once."""

    index_key: bytes  # secret of the keyed hashes of search values; made with the store

    def snapshot(self, access: Access) -> AbstractAsyncContextManager[Reader]:
        """A Reader; it must not outlive one page or one second."""

    async def commit(self, change_set: ChangeSet) -> Committed:
        """Returns when durable. Raises PreconditionFailed, Duplicate, Unprocessable … by guard."""

    async def job(self, command: Command) -> Job | None:
        """The job after a command (see jobs.py); None when there is none that it concerns."""

    async def job_rows(self, query: Query) -> list[Any]:
        """The rows of a statement that reads the table of jobs."""

    async def log(self, command: LogCommand) -> int:
        """The answer to a command on the audit log (see log.py). Raises Conflict by the fence."""

    async def log_rows(self, query: Query) -> list[Any]:
        """The rows of a statement that reads the audit log or the journal."""

    async def close(self) -> None:
        """Finishes what was accepted, then lets go of the files."""
