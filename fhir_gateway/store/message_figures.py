"""Figures of the register of messages: how late they come, and what waits. docs/messages.md

None of it reads more than the last few hundred rows of an institution, or the rows that are open:
an index stands for each.
"""

from __future__ import annotations

from typing import NamedTuple

from fhir_gateway.store.query import Query, Steps

#: Messages by which lag and rates are judged: the newest.
RECENT = 500


class Recent(NamedTuple):
    """One of the newest messages: when it came, what it says of itself, what became of it."""

    received: int
    stated: int
    issued: int
    door: str
    kind: str
    outcome: str


class Waiting(NamedTuple):
    """Dead letters of one rule at one institution: how many, and since when the oldest (µs)."""

    institution: str
    rule: str
    letters: int
    since: int


def recent_steps(institution: str, limit: int = RECENT) -> Steps[list[Recent]]:
    """The newest messages of an institution, the newest first."""
    rows = yield Query(
        "SELECT received, stated, issued, door, kind, outcome FROM message"
        " WHERE institution = ? ORDER BY received DESC, id DESC LIMIT ?",
        (institution, limit),
    )
    return [Recent(*row) for row in rows]


def waiting_steps(institution: str | None = None) -> Steps[list[Waiting]]:
    """What waits, by institution and rule."""
    where, values = ("", ()) if institution is None else (" AND institution = ?", (institution,))
    rows = yield Query(
        "SELECT institution, rule, count(*), min(received) FROM message"  # noqa: S608 - constants
        f" WHERE state = 'open'{where} GROUP BY institution, rule ORDER BY institution, rule",
        values,
    )
    return [Waiting(*row) for row in rows]
