"""Openings that no resource stands for: begun, extended and closed by the commit that says so.

A row that still holds is extended in its place, because at every earlier moment it held already;
one that has lapsed stays as it was and a new one begins, so that a question that is asked again
about an earlier moment gets the same answer (docs/adr/0036-sight-in-the-store.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from fhir_gateway.store.changes import Opening
from fhir_gateway.store.lookups import Lookups
from fhir_gateway.store.rows import Rows


def open_homes(
    lookups: Lookups, rows: Rows, openings: Sequence[Opening], *, t: int, now: int
) -> None:
    """Gathers what these openings begin, extend and close at commit `t`, which is at `now`.

    What concerns no person's home is left out. Each is taken by the lookups before the next is
    looked at, so that one change set may name an opening twice; the last one by the caller.
    """
    for place, one in enumerate(one for one in openings if one.home > 0):
        if place:
            lookups.take(rows)
        _open(lookups, rows, one, t, now)


def _open(lookups: Lookups, rows: Rows, one: Opening, t: int, now: int) -> None:
    key = (one.home, one.party, one.kind, one.source)
    held = lookups.opened(key)
    if one.until <= one.since:
        if held is not None:
            rows.opening_ended.append((t, *key, 0, held.t_from))
        return
    since, until = one.since, one.until
    if held is not None:
        if held.until > now and held.grade == one.grade and held.since <= since:
            if until > held.until:
                rows.opening_extended.append((until, *key, 0, held.t_from))
            return
        rows.opening_ended.append((t, *key, 0, held.t_from))
        if held.until >= since:
            since, until = min(since, held.since), max(until, held.until)
    rows.opening.append((*key, 0, t, 0, one.grade, since, until))
