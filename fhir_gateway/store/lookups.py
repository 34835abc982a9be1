"""What judging and placing a change set has to know, whatever the database.

Both drivers judge with the same code. SQLite answers each question by a statement; PostgreSQL
fetches the answers to all questions of a batch at once. A batch sees what it has done itself: rows
that were handed to `take` count in every later answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from fhir_gateway.store.changes import Absent, ChangeSet, Settled
    from fhir_gateway.store.claim_state import (
        BookingState,
        Group,
        Key,
        QuotaState,
        SeatState,
        SlotState,
    )
    from fhir_gateway.store.rows import Rows


class Current(NamedTuple):
    """The current version of a resource, as far as judging and placing need it."""

    home: int
    rid: int
    version: int
    deleted: int
    patient: str | None
    owner: int = 0


class Place(NamedTuple):
    """Where the row of a resource stands."""

    home: int
    type: int
    rid: int


class Edge(NamedTuple):
    """What one resource says of two homes, in one direction: a row of `alias` (`why` is its cause)
    or of `proposal` (`why` is its grade). `source` is key64 of the resource, 0 of a shared key."""

    home: int
    other: int
    why: str
    source: int

    def turned(self) -> Edge:
        """The same in the other direction."""
        return self._replace(home=self.other, other=self.home)


#: What names an opening that no resource stands for: (home, party, kind, source).
OpeningKey = tuple[int, int, str, int]


class Opened(NamedTuple):
    """A live opening that no resource stands for; `t_from` is the commit at which it began."""

    t_from: int
    grade: int
    since: int
    until: int


class Held(NamedTuple):
    """What current versions have given rise to: rows of the index and of identities, and of facts,
    links, evaluations, openings and consents those that have not ended; and (owner, sensitivity)
    by rid.
    """

    rows: Rows
    acl: Mapping[int, tuple[int, int]]


class Lookups(Protocol):
    """The answers of one open batch. Types are numbers (fhir.keys.type_key)."""

    def foresee(self, change_set: ChangeSet) -> None:
        """Called before a change set is judged: what it is sure to ask may be looked up at once."""

    def current(self, type: int, id: str) -> Current | None:
        """The current version, also a deletion; None when never stored."""

    def home(self, type: int, id: str) -> int | None:
        """The home of a resource that was ever stored."""

    def home_of_identity(self, key: bytes) -> int | None:
        """The home of the person with this identity key of kind 1 (document and name)."""

    def homes_of_key(self, key: bytes) -> Mapping[int, int]:
        """The homes of those who bear an identity key of kind 1, by the Patient's number."""

    def keys_of_home(self, home: int) -> Sequence[tuple[bytes, int]]:
        """(key, number of the Patient) of the identity keys of kind 1 in a home."""

    def aliases(self, home: int) -> dict[Edge, int]:
        """The live aliases from a home, with the commit at which each began."""

    def aliases_of(self, source: int) -> dict[Edge, int]:
        """The live aliases that a resource (key64) has given rise to."""

    def proposals_of(self, source: int) -> dict[Edge, int]:
        """The live proposals that a resource (key64) has given rise to."""

    def person(self, home: int) -> tuple[int, int] | None:
        """(person, commit at which that began) of a home that is connected with others."""

    def opened(self, key: OpeningKey) -> Opened | None:
        """The live opening of that key which no resource stands for."""

    def body(self, type: int, id: str) -> tuple[int, bytes]:
        """Encoding and body of the current version of a resource that is there."""

    def outcome(self, id: bytes) -> bytes | None:
        """The encoded outcome of a change set that was judged before."""

    def once(self, kind: str, key: bytes) -> tuple[int, int, int, bytes] | None:
        """(t, n, updated, response) of an earlier use of the key."""

    def counter(self, key: bytes) -> int:
        """Where the counter stands."""

    def matches(self, guard: Absent) -> list[str]:
        """Ids of current resources with this token, at least two when there are several."""

    def changed(self, guard: Settled) -> bool:
        """Whether a version of these types and homes came after the guard's commit."""

    def held(self, places: Sequence[Place]) -> Held:
        """What the current versions in these places have given rise to."""

    # -- bookable time, see claims_draft.Seating -------------------------------------------------

    def slot(self, key: Key) -> SlotState | None:
        """A Slot that gives a row."""

    def schedule(self, home: int, schedule: int) -> tuple[str, int]:
        """The department of a Schedule, and 1 where it sells: ("", 1) when it is not stored."""

    def seats(self, key: Key) -> Sequence[SeatState]:
        """The seats of a Slot that somebody has, or held."""

    def quotas(self, group: Group) -> Sequence[QuotaState]:
        """The quotas of a bucket and kind."""

    def lapsed(self, group: Group, now: int) -> Sequence[SeatState]:
        """Holds of a bucket and kind that are over; the first of them when there are very many."""

    def capacity(self, group: Group) -> int:
        """The seats of the open Slots of a bucket and kind."""

    def booking(self, key: Key) -> BookingState | None:
        """What became of an appointment that once had a seat."""

    def bookings(self, home: int) -> Sequence[BookingState]:
        """All of a person's home."""

    def homes_of(self, home: int) -> Sequence[int]:
        """The homes of the person whose home this is."""

    def is_documented(self, home: int) -> bool:
        """Whether a Patient of this home bears an identity document with its name."""

    def take(self, rows: Rows) -> None:
        """Takes over what was gathered, and empties it."""
