"""Which batch was the first at or after an instant: commits are in order of time, and no table
keeps the times of batches, so it is found by halving, with the times of what batches wrote.
"""

from __future__ import annotations

from fhir_gateway.store.query import Query, Steps

#: The first batch at or after `t` that wrote anything, and its time: by its versions, and by its
#: journal entries.
_NEXT = """
SELECT k.t, CASE WHEN v.version IS NULL THEN r.updated ELSE v.updated END
FROM (SELECT t, home, type, rid, version FROM change WHERE t >= ? ORDER BY t, n, i LIMIT 1) k
JOIN resource r ON r.home = k.home AND r.type = k.type AND r.rid = k.rid
LEFT JOIN version v ON r.version <> k.version
  AND v.home = k.home AND v.rid = k.rid AND v.version = k.version
UNION ALL
SELECT k.t, k.updated
FROM (SELECT t, updated FROM journal WHERE t >= ? ORDER BY t, n, i LIMIT 1) k"""


def first_batch(instant: int, newest: int) -> Steps[int]:
    """The first batch at or after an instant in µs; `newest` + 1 when there is none up to it.

    Tries near the newest first: most ask what is new.
    """
    low, high, step = 1, newest + 1, 16
    while high > low:  # steps back that double, until a batch before the instant is found
        place = max(low, newest + 1 - step)
        found = yield from _time_at(place)
        if found is not None and found[1] < instant:
            low = found[0] + 1
            break
        high = min(high, place)
        step *= 8
    while low < high:
        middle = (low + high) // 2
        found = yield from _time_at(middle)
        if found is None or found[1] >= instant:
            high = middle
        else:
            low = found[0] + 1
    return min(low, newest + 1)


def last_batch(instant: int, newest: int) -> Steps[int]:
    """The last batch at or before an instant in µs; 0 when the first came after it."""
    first = yield from first_batch(instant + 1, newest)
    return first - 1


def _time_at(t: int) -> Steps[tuple[int, int] | None]:
    rows = yield Query(_NEXT, (t, t))
    return min(((row[0], row[1]) for row in rows), default=None)
