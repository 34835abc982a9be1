"""What a table of evaluations changes in the register: put, delete, leave. Pure.

A round that was imported before is brought up to date: items that the table says anew move to
another resource, items that it does not mention stay, and what was suspended since stays
suspended. Rounds that contradict each other are told; those of one body with the same first day
are refused, because nobody could say which of them counts. docs/evaluations.md
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fhir_gateway.fhir.wire import parse
from fhir_gateway.recognition.register import (
    Entry,
    entries_of,
    resource_id,
    verification_result,
)
from fhir_gateway.recognition.register_import import Reading
from fhir_gateway.store.store import Stored

#: Ids of what was imported; other evaluations were written by bodies themselves.
IMPORTED = "evaluation-"
_MOST_NOTICES = 50


class Held(NamedTuple):
    """A stored VerificationResult and what it says."""

    stored: Stored
    resource: dict[str, Any]
    entries: list[Entry]


class Change(NamedTuple):
    """One resource to write: its version so far (0: none), None as resource to delete it."""

    id: str
    version: int
    resource: dict[str, Any] | None


class Plan(NamedTuple):
    """What an import would do. The counts are of entries: institution × item × area."""

    changes: tuple[Change, ...]
    added: int
    changed: int
    unchanged: int


def held(stored: Iterable[Stored]) -> list[Held]:
    """What the register holds, resource by resource."""
    found = []
    for one in stored:
        resource = parse(one.whole())
        found.append(Held(one, resource, entries_of(resource)))
    return found


def plan_import(reading: Reading, register: Sequence[Held]) -> Plan:
    """The changes that make the register say what the table says.

    Raises Unprocessable with every row that contradicts another round of the same body.
    """
    _check_rounds(reading, register)
    families = {one.family for one in reading.entries}
    ours = [
        one for one in register
        if one.stored.id.startswith(IMPORTED) and any(e.family in families for e in one.entries)
    ]  # fmt: skip
    now: dict[tuple[str, ...], Entry] = {}
    for one in ours:
        now |= {(*entry.family, entry.item): entry for entry in one.entries}
    added = changed = 0
    wanted = dict(now)
    for key, stated in reading.stated.items():
        before = now.get(key)
        entry = stated.entry
        if before is None:
            added += 1
        else:
            entry = entry._replace(suspensions=before.suspensions)
            changed += before.said != entry.said
        wanted[key] = entry
    changes = tuple(_changes(ours, wanted.values(), register))
    return Plan(changes, added, changed, len(reading.stated) - added - changed)


def _changes(
    ours: Sequence[Held], wanted: Iterable[Entry], register: Sequence[Held]
) -> Iterator[Change]:
    """Groups of entries, each under the id of the resource that said the same before."""
    groups: dict[tuple[Any, ...], dict[str, Entry]] = {}
    for entry in wanted:
        same = (*entry.family, entry.round, entry.start, entry.end, entry.passed, entry.city_wide)
        groups.setdefault(same, {})[entry.item] = entry
    before = {_group(one.entries[0]): one for one in ours}
    taken = {one.stored.id for one in register}
    for group, entries in groups.items():
        former = before.pop(group, None)
        ordered = [entries[item] for item in sorted(entries)]
        if former is None:
            id = _new_id(ordered[0].family, taken)
            yield Change(id, 0, verification_result(id, ordered))
            continue
        resource = verification_result(former.stored.id, ordered)
        if _bare(resource) != _bare(former.resource):
            yield Change(former.stored.id, former.stored.version, resource)
    for gone in before.values():
        yield Change(gone.stored.id, gone.stored.version, None)


def _group(entry: Entry) -> tuple[Any, ...]:
    return (*entry.family, entry.round, entry.start, entry.end, entry.passed, entry.city_wide)


def _new_id(family: Sequence[str], taken: set[str]) -> str:
    number = 1
    while (id := resource_id(family, number)) in taken:
        number += 1
    taken.add(id)
    return id


def _bare(resource: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in resource.items() if name != "meta"}


# -- rounds beside each other ------------------------------------------------------------------


def _check_rounds(reading: Reading, register: Sequence[Held]) -> None:
    """Faults for rounds of one body that contradict each other; notices for all that overlap."""
    restated = reading.stated.keys()
    others: dict[tuple[str, str], list[tuple[str, Entry]]] = {}
    for one in register:
        for entry in one.entries:
            if (*entry.family, entry.item) not in restated:
                name = f"VerificationResult/{one.stored.id}"
                others.setdefault((entry.institution, entry.item), []).append((name, entry))
    for row, entry in reading.stated.values():
        others.setdefault((entry.institution, entry.item), []).append((f"row {row}", entry))
    told: dict[str, int] = {}
    for row, entry in reading.stated.values():
        for name, other in others[entry.institution, entry.item]:
            if other is entry or other.area != entry.area or not _overlap(entry, other):
                continue
            _judge(reading, row, entry, name, other, told)
    for text, number in list(told.items())[:_MOST_NOTICES]:
        reading.notices.append(text + (f" ({number} items)" if number > 1 else ""))
    if len(told) > _MOST_NOTICES:
        reading.notices.append(f"and {len(told) - _MOST_NOTICES} more of this kind")
    reading.check()


def _judge(
    reading: Reading, row: int, entry: Entry, name: str, other: Entry, told: dict[str, int]
) -> None:
    """What is to be said of two rounds that overlap, seen from a row of the table."""
    if entry.passed == other.passed:
        return
    same_body = (entry.body or entry.evaluator) == (other.body or other.evaluator)
    if same_body and entry.start == other.start:
        reading.fault(
            row,
            "passed",
            f"{name} says the opposite of {entry.item} from the same day on: correct that round, "
            "or say the day from which this one counts",
            "evaluation-contradicts",
        )
        return
    if same_body:
        text = f"row {row} and {name} disagree where they overlap: the later one counts"
    else:
        text = (
            f"row {row} and {name} ({other.evaluator}) contradict each other in {entry.area}: "
            "results of those days cannot be decided"
        )
    told[text] = told.get(text, 0) + 1


def _overlap(one: Entry, other: Entry) -> bool:
    return (not one.end or other.start <= one.end) and (not other.end or one.start <= other.end)
