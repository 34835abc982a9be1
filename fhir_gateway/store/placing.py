"""Where each new version goes: its home, the Patient it names, and the version it supersedes.

A person's home is given once, when a Patient is first stored, and never changes: the same identity
document and name lead to the same home. Everything is looked up before anything is written, so a
change set that is refused has left no trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fhir_gateway.errors import Unprocessable
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.store import blobs
from fhir_gateway.store.changes import ChangeSet, Put
from fhir_gateway.store.lookups import Current, Lookups

#: After so many lookups the event loop gets a turn.
PIECE = 100


class Placed(NamedTuple):
    """A Put with its place. `outcome` is created, updated, unchanged or deleted."""

    put: Put
    home: int
    patient: str | None
    current: Current | None
    outcome: str


class Homes:
    """Gives person homes; the highest one given is kept on the clock row."""

    def __init__(self, last: int) -> None:
        self.last = last

    def new(self) -> int:
        """The next person home."""
        self.last += 1
        return self.last


class Placing:
    """The placing of one change set. Knows what the set itself puts, whatever its order."""

    def __init__(self, lookups: Lookups, homes: Homes) -> None:
        self._lookups = lookups
        self._homes = homes
        self._current: dict[tuple[str, str], Current | None] = {}
        self._patients: dict[str, int] = {}
        self._identities: dict[bytes, int] = {}
        self._followed: dict[str, tuple[int, str | None]] = {}
        self._numbers: dict[str, int] = {}

    def place(self, change_set: ChangeSet) -> Iterator[Placed | None]:
        """Every Put with its place, None now and then. Raises Unprocessable when one has none."""
        puts = change_set.puts
        for number, put in enumerate(puts):
            if (put.type, put.id) in self._current:
                raise Unprocessable(
                    f"{put.type}/{put.id} is named twice in one request", rule="named-twice"
                )
            self._current[put.type, put.id] = self._lookups.current(type_key(put.type), put.id)
            self._numbers[f"{put.type}/{put.id}"] = number
            if put.type == "Patient" and put.op != "delete":
                self._patients[put.id] = self._home_of_patient(put)
            if number % PIECE == PIECE - 1:
                yield None
        placed: dict[int, Placed] = {}
        for index, put in enumerate(puts):
            if put.op == "delete" or put.follow is None:
                placed[index] = self._place(put)
        for index in range(len(puts)):
            if index not in placed:
                self._place_followers(puts, index, placed)
            yield placed[index]

    def _place_followers(self, puts: list[Put], index: int, placed: dict[int, Placed]) -> None:
        """Places what is followed before what follows it, however the request orders them."""
        chain = [index]
        while True:
            followed = self._numbers.get(puts[chain[-1]].follow or "")
            if followed is None or followed in placed or followed in chain:
                break
            chain.append(followed)
        for number in reversed(chain):
            placed[number] = self._place(puts[number])

    def _place(self, put: Put) -> Placed:
        current = self._current[put.type, put.id]
        if put.op == "delete":
            home = current.home if current else 0
            return Placed(put, home, current.patient if current else None, current, "deleted")
        home, patient = self._home(put, current)
        if current and current.home != home:
            raise Unprocessable(
                "The subject of a stored resource may not become another person or institution: "
                "store a new one and set this one to entered-in-error",
                expression=put.type,
                rule="subject-changed",
            )
        self._followed[f"{put.type}/{put.id}"] = (home, patient)
        if current is None or current.deleted:
            return Placed(put, home, patient, current, "created")
        if put.only_if_changed and self._is_unchanged(put):
            return Placed(put, home, patient, current, "unchanged")
        return Placed(put, home, patient, current, "updated")

    def _home(self, put: Put, current: Current | None) -> tuple[int, str | None]:
        if put.type == "Patient":
            return self._patients[put.id], put.id
        if put.patient is not None:
            return self._home_of_subject(put, put.patient), put.patient
        if put.follow is not None:
            return self._home_of_followed(put.follow, current)
        return put.home, None

    def _home_of_subject(self, put: Put, patient: str) -> int:
        if patient not in self._patients:
            home = self._lookups.home(type_key("Patient"), patient)
            if home is None:
                raise Unprocessable(
                    f"The subject of {put.type}/{put.id} is a Patient that is not stored here; "
                    "send it first, or in the same Bundle",
                    expression=put.type,
                    rule="subject-unknown",
                )
            self._patients[patient] = home
        return self._patients[patient]

    def _home_of_patient(self, put: Put) -> int:
        current = self._current["Patient", put.id]
        keys = [key for key, kind in put.derived.identity if kind == 1]
        home = current.home if current else self._home_of_keys(keys)
        for key in keys:
            self._identities.setdefault(key, home)
        return home

    def _home_of_keys(self, keys: list[bytes]) -> int:
        for key in keys:
            stored = self._lookups.home_of_identity(key)
            home = stored if stored is not None else self._identities.get(key)
            if home is not None:
                return home
        return self._homes.new()

    def _home_of_followed(self, reference: str, current: Current | None) -> tuple[int, str | None]:
        """The other's home; what was stored before the other came keeps its own."""
        found = self._followed.get(reference) or self._stored_home(reference)
        if current and (found is None or current.home == 0):
            return current.home, current.patient
        return found or (0, None)

    def _stored_home(self, reference: str) -> tuple[int, str | None] | None:
        type, _, id = reference.partition("/")
        other = self._lookups.current(type_key(type), id)
        return (other.home, other.patient) if other else None

    def _is_unchanged(self, put: Put) -> bool:
        enc, body = self._lookups.body(type_key(put.type), put.id)
        if (enc, body) == (put.enc, put.body):
            return True
        return enc != blobs.IN_JOURNAL and (
            blobs.unpack(enc, body) == blobs.unpack(put.enc, put.body)
        )
