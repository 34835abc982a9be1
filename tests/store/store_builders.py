"""Change sets for the tests of the store, short to write and valid to commit."""

from __future__ import annotations

import itertools
import os
from typing import Any, NamedTuple

from fhir_gateway.store.changes import ChangeSet, Derived, Entry, Fact, Put

_numbers = itertools.count(1)


class TestClock:
    """A clock that stands still until it is told otherwise."""

    __test__ = False

    def __init__(self, now: int = 1_790_000_000_000_000) -> None:
        self.time = now

    def now(self) -> int:
        return self.time


class Rows(NamedTuple):
    """Index rows of a journal entry, as the extractor of the search room gives them."""

    ints: list[tuple[int, int, int]]
    texts: list[tuple[int, str]]
    global_ints: list[tuple[int, int, int]]
    global_texts: list[tuple[int, str]]


def rows_of(type: str, resource: dict[str, Any]) -> Rows:
    """One number and one text from a resource's language."""
    language = resource.get("language", "")
    return Rows([(1, len(language), 0)], [(2, language)], [(3, len(language), 1)], [])


def change(*puts: Put, **members: Any) -> ChangeSet:
    """A change set with a fresh id."""
    return ChangeSet(os.urandom(16), puts=list(puts), **members)


def body(text: str = "") -> bytes:
    """A tail that holds a text."""
    return b'},"language":"%s"}' % text.encode()


def patient(id: str, *keys: tuple[bytes, int], text: str = "", **members: Any) -> Put:
    """A Patient with identity keys."""
    derived = Derived(identity=list(keys))
    return Put("Patient", id, "update", 0, body(text), patient=id, derived=derived, **members)


def observation(id: str, patient: str | None, text: str = "", **members: Any) -> Put:
    """An Observation of a Patient, or of nobody."""
    return Put("Observation", id, "update", 0, body(text), patient=patient, **members)


def fact(item: str, time: int, source: str, **members: Any) -> Fact:
    """A laboratory fact."""
    values = {
        "time_high": time, "issued": time, "kind": "lab", "status": "final", "issuer": "h1",
        "specimen": "", "unit": "", "method": "", "value": "", "laterality": "", "flags": 0,
        "mark": "",
    }  # fmt: skip
    return Fact(item=item, time=time, source=source, **{**values, **members})


def delete(type: str, id: str) -> Put:
    """A deletion."""
    return Put(type, id, "delete")


def event(id: str, *, type: str = "AuditEvent", text: str = "", **members: Any) -> Entry:
    """A journal entry."""
    members.setdefault("home", 0)
    return Entry(type, id, enc=0, body=body(text), nonce=b"n" * 16, leaf=b"l" * 32, **members)


def fresh(prefix: str = "x") -> str:
    """A logical id that no other test uses."""
    return f"{prefix}{next(_numbers)}"
