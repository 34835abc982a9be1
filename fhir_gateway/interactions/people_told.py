"""What an answer says of the records and sources that it is made of: an OperationOutcome entry.

An answer about a person names the records that it includes, the institutions that it could have
come from, those that have been silent for too long, and those that the caller may not see: nothing
found in the others is never "there is nothing" (docs/adr/0027; hl7.org/fhir/R4/bundle.html,
Bundle.entry.search.mode outcome). Which sources there are changes rarely, so that part is kept as
bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Issue, Severity
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.people import People
from fhir_gateway.interactions.sources import Source, sources
from fhir_gateway.security.actor import Access
from fhir_gateway.store.people_sql import PersonRecord
from fhir_gateway.store.store import Reader, Store

_DOUBTS: Mapping[str, tuple[str, str]] = {
    "contested": (
        "identity-contested",
        "The identity document of Patient/{id} is used under another name too: other records of "
        "this document are not included until that is settled",
    ),
    "doubtful": (
        "identity-doubtful",
        "Another record may be of the person of Patient/{id}; it is not included until somebody "
        "confirms it",
    ),
}


class Told(NamedTuple):
    """The sources as one caller may have them: names by owner, what is said of them, and the ids
    of those that the caller may not see."""

    all_sources: Sequence[Source]
    names: Mapping[int, str]
    issues: tuple[Issue, ...]
    hidden: frozenset[str]


_kept: WeakKeyDictionary[Store, dict[frozenset[int] | None, Told]] = WeakKeyDictionary()

#: Callers with a list of their own whose sources are kept.
_MOST = 1_000


async def outcome_of(
    gateway: Gateway, reader: Reader, access: Access, people: Iterable[People]
) -> bytes:
    """An OperationOutcome on the records of these persons and on all sources."""
    told = await told_sources(gateway, reader, access)
    issues = [issue for one in people for issue in _doubt(one)]
    records = {one.id: one for person in people for one in person.records}
    if records:
        issues.insert(0, _records(records.values(), told.names))
    return operation_outcome([*issues, *told.issues])


async def told_sources(gateway: Gateway, reader: Reader, access: Access) -> Told:
    """What is said of the sources; the value is shared."""
    found = await sources(gateway, reader)
    kept = _kept.setdefault(gateway.store, {})
    whose = _whose(access)
    told = kept.get(whose)
    if told is None or told.all_sources is not found:
        if len(kept) >= _MOST:
            kept.clear()
        told = kept[whose] = _told(gateway, found, whose)
    return told


def _whose(access: Access) -> frozenset[int] | None:
    """Whose rows may be seen at all: everybody's where others' open row by row."""
    return access.owners if access.sight is None else None


def _told(gateway: Gateway, found: Sequence[Source], whose: frozenset[int] | None) -> Told:
    seen, hidden = list[Source](), list[Source]()
    names = {}
    for source in found:
        owner = key64(f"Organization/{source.institution}")
        names[owner] = _name(source)
        is_seen = whose is None or owner in whose
        (seen if is_seen else hidden).append(source)
    stale = [one for one in seen if one.stale]
    fresh = [one for one in seen if not one.stale]
    days = gateway.settings.stale_after_days
    parts: tuple[tuple[str, str, str, list[Source], Severity], ...] = (
        ("informational", "sources-included", "Sources", fresh, "information"),
        ("incomplete", "sources-stale",
         f"These sources sent nothing for {days} days; what they know may be missing", stale,
         "warning"),
        ("incomplete", "sources-not-asked", "You may not see what these sources have", hidden,
         "warning"),
    )  # fmt: skip
    issues = tuple(
        Issue(code, f"{says}: {', '.join(_since(one) for one in some)}", None, rule, severity)
        for code, rule, says, some, severity in parts
        if some
    )
    return Told(found, names, issues, frozenset(one.institution for one in hidden))


def _name(source: Source) -> str:
    return f"Organization/{source.institution} ({source.name})"


def _since(source: Source) -> str:
    """A source, and when it last sent anything where that is too long ago."""
    if not source.stale:
        return _name(source)
    if source.last_received_us is None:
        return f"{_name(source)}, never"
    return f"{_name(source)}, last on {instant(source.last_received_us)[:10]}"


def _records(records: Iterable[PersonRecord], names: Mapping[int, str]) -> Issue:
    shown = []
    for one in records:
        of = names.get(one.owner)
        shown.append(f"Patient/{one.id} of {of}" if of else f"Patient/{one.id}")
    says = "Records of the person in this answer" if len(shown) > 1 else "Record in this answer"
    return Issue("informational", f"{says}: {', '.join(shown)}", None, "person-records",
                 "information")  # fmt: skip


def _doubt(person: People) -> Iterable[Issue]:
    if person.doubt:
        rule, text = _DOUBTS[person.doubt]
        yield Issue("incomplete", text.format(id=person.asked), None, rule, "warning")
