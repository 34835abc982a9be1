"""Other derived rows for versions that stay: what was, against what is derived now.

Only what differs is written. Index rows and identity keys are replaced; facts, links, evaluations,
aliases, openings and consents that are not derived any more are ended, new ones begin with this
commit, and one that is the same keeps its row, so that what a decision has read stays readable as
it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from fhir_gateway.fhir.keys import type_key
from fhir_gateway.store.changes import Put, Reindex
from fhir_gateway.store.linking import LINKING, Linking, Said
from fhir_gateway.store.lookups import Current, Held, Lookups, Place
from fhir_gateway.store.placing import Placed
from fhir_gateway.store.rows import Rows

#: After so many resources the event loop gets a turn.
PIECE = 25

_Found = tuple[Reindex, Current]


def reindex(
    lookups: Lookups, rows: Rows, wanted: Sequence[Reindex], t: int
) -> Iterator[bool | None]:
    """Gathers what differs for those whose version is current: None now and then, last whether the
    register of evaluations is another one now.
    """
    found = list(_current(lookups, wanted))
    places = [Place(current.home, type_key(item.type), current.rid) for item, current in found]
    if not places:
        yield False
        return
    held = lookups.held(places)
    made = Rows()
    for number, (item, current) in enumerate(found, 1):
        acl = held.acl.get(current.rid)
        if acl is not None:
            _derive(made, item, current, acl, t)
        if number % PIECE == 0:
            yield None
    _replace(rows, held, made, t)
    said = [
        Said(item.type, item.id, current.home, current.rid, item.derived)
        for item, current in found
        if item.type in LINKING
    ]
    if said:
        Linking(lookups, {}, strict=False).link(rows, said, t)
    yield bool(rows.evaluation or rows.evaluation_ended)


def _current(lookups: Lookups, wanted: Iterable[Reindex]) -> Iterator[_Found]:
    """Those whose version is the current one, each once."""
    seen = set()
    for item in wanted:
        current = lookups.current(type_key(item.type), item.id)
        if current is None or current.deleted or current.version != item.version:
            continue
        if current.rid not in seen:
            seen.add(current.rid)
            yield item, current


def _derive(made: Rows, item: Reindex, current: Current, acl: tuple[int, int], t: int) -> None:
    """The rows as a new version would have them."""
    owner, sensitivity = acl
    put = Put(item.type, item.id, "update", derived=item.derived, owner=owner,
              sensitivity=sensitivity)  # fmt: skip
    placed = Placed(put, current.home, current.patient, current, "unchanged")
    made.add_derived(placed, current.rid, current.version, t)


def _replace(rows: Rows, held: Held, made: Rows, t: int) -> None:
    old = held.rows
    for name in ("px", "px_text", "gx", "gx_text", "identity"):
        before, now = set(getattr(old, name)), set(getattr(made, name))
        getattr(rows, name).extend(now - before)
        getattr(rows, f"{name}_gone").extend(before - now)
    _turn_facts(rows, old, made, t)
    _turn_links(rows, old, made, t)
    _turn_evaluations(rows, old, made, t)
    _turn_numbered("opening", 4, 6, rows, old, made, t)
    _turn_numbered("consent", 5, 4, rows, old, made, t)


def _turn_facts(rows: Rows, old: Rows, made: Rows, t: int) -> None:
    """Facts are the same when all is the same but their number and when they began."""
    last = _last_numbers((row[3], row[5]) for row in old.fact)
    before = {(*row[:4], *row[6:]) for row in old.fact}
    now = {(*row[:4], *row[6:]) for row in made.fact}
    rows.fact_ended += [(t, *row[:6]) for row in old.fact if (*row[:4], *row[6:]) not in now]
    rows.fact += [
        (*row[:5], last.get(row[3], 0) + row[5], *row[6:])
        for row in made.fact
        if (*row[:4], *row[6:]) not in before
    ]


def _turn_links(rows: Rows, old: Rows, made: Rows, t: int) -> None:
    """Links are the same when all is the same but when they began; a report has one a result."""
    latest = {row[:3]: row for row in made.result_of}.values()
    before = {(*row[:3], *row[4:]) for row in old.result_of}
    now = {(*row[:3], *row[4:]) for row in latest}
    rows.result_of_ended += [
        (t, *row[:4]) for row in old.result_of if (*row[:3], *row[4:]) not in now
    ]
    rows.result_of += [row for row in latest if (*row[:3], *row[4:]) not in before]


def _turn_evaluations(rows: Rows, old: Rows, made: Rows, t: int) -> None:
    """As facts."""
    last = _last_numbers((row[2], row[3]) for row in old.evaluation)
    before = {(*row[:3], *row[5:]) for row in old.evaluation}
    now = {(*row[:3], *row[5:]) for row in made.evaluation}
    rows.evaluation_ended += [
        (t, *row[:5]) for row in old.evaluation if (*row[:3], *row[5:]) not in now
    ]
    rows.evaluation += [
        (*row[:3], last.get(row[2], 0) + row[3], *row[4:])
        for row in made.evaluation
        if (*row[:3], *row[5:]) not in before
    ]


def _turn_numbered(
    name: str, ordinal: int, rid: int, rows: Rows, old: Rows, made: Rows, t: int
) -> None:
    """As facts, for a table whose rows have their number at `ordinal`, then when they began."""
    held, new = getattr(old, name), getattr(made, name)
    last = _last_numbers((row[rid], row[ordinal]) for row in held)
    before = {(*row[:ordinal], *row[ordinal + 2 :]) for row in held}
    now = {(*row[:ordinal], *row[ordinal + 2 :]) for row in new}
    getattr(rows, f"{name}_ended").extend(
        (t, *row[: ordinal + 2]) for row in held if (*row[:ordinal], *row[ordinal + 2 :]) not in now
    )
    getattr(rows, name).extend(
        (*row[:ordinal], last.get(row[rid], 0) + row[ordinal], *row[ordinal + 1 :])
        for row in new
        if (*row[:ordinal], *row[ordinal + 2 :]) not in before
    )


def _last_numbers(numbered: Iterable[tuple[int, int]]) -> dict[int, int]:
    """By resource, the number that is free after those of its rows: no two valid at once agree."""
    last: dict[int, int] = {}
    for rid, ordinal in numbered:
        last[rid] = max(last.get(rid, 0), ordinal + 1)
    return last
