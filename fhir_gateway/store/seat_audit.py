"""Whether seats, quotas and bookings agree: by SQL alone, past the machine that made them.

Each question finds rows that must not be. It reads whole tables: it is for a check by an operator
and for tests, and not for a request. docs/adr/0049-seats-and-quotas.md
"""

from __future__ import annotations

from typing import NamedTuple

from fhir_gateway.store.query import Query, Steps


class Fault(NamedTuple):
    """What does not agree: a name of the invariant, in words, how often, and a few examples."""

    name: str
    what: str
    rows: int
    examples: list[tuple[object, ...]]


_QUESTIONS = {
    "seat-beyond": (
        "a seat beyond the capacity of its Slot, or of a Slot that is not there or not open",
        """SELECT e.home, e.slot, e.seat FROM seat e
        LEFT JOIN slot_row s ON s.home = e.home AND s.slot = e.slot
        WHERE s.slot IS NULL OR s.open = 0 OR e.seat > s.capacity""",
    ),
    "seat-elsewhere": (
        "a seat that is counted in another bucket or kind than its Slot's",
        """SELECT e.home, e.slot, e.seat FROM seat e
        JOIN slot_row s ON s.home = e.home AND s.slot = e.slot
        WHERE e.bucket <> s.bucket OR e.kind <> s.kind""",
    ),
    "too-many": (
        "a Slot with more seats taken than it has",
        """SELECT s.home, s.slot, s.capacity, count(*) FROM slot_row s
        JOIN seat e ON e.home = s.home AND e.slot = s.slot
        GROUP BY s.home, s.slot, s.capacity HAVING count(*) > s.capacity""",
    ),
    "two-seats": (
        "an appointment with several seats",
        """SELECT person, appointment, count(*), 0 FROM seat
        GROUP BY person, appointment HAVING count(*) > 1""",
    ),
    "seat-without-booking": (
        "a seat that its person knows nothing of",
        """SELECT e.home, e.slot, e.seat FROM seat e
        LEFT JOIN booking b ON b.home = e.person AND b.appointment = e.appointment
          AND b.slot_home = e.home AND b.slot = e.slot
        WHERE b.state IS NULL
          OR (e.state = 'held' AND (b.state <> 'held' OR b."until" <> e."until"))
          OR (e.state = 'booked' AND b.state NOT IN (
            'booked', 'fulfilled', 'noshow', 'excused'))""",
    ),
    "booking-without-seat": (
        "a booking that has no seat",
        """SELECT b.home, b.appointment, b.slot FROM booking b
        LEFT JOIN seat e ON e.person = b.home AND e.appointment = b.appointment
          AND e.home = b.slot_home AND e.slot = b.slot
        WHERE b.state IN ('held', 'booked', 'fulfilled', 'noshow', 'excused')
          AND e.seat IS NULL""",
    ),
    "booking-otherwise": (
        "a booking at another time than its Slot",
        """SELECT b.home, b.appointment, b.slot FROM booking b
        JOIN slot_row s ON s.home = b.slot_home AND s.slot = b.slot
        WHERE b.state IN ('held', 'booked') AND (b."start" <> s."start" OR b."end" <> s."end")""",
    ),
    "overlap": (
        "two live bookings of one home at a time",
        """SELECT a.home, a.appointment, b.appointment FROM booking a
        JOIN booking b ON b.home = a.home AND b.appointment > a.appointment
          AND a."start" < b."end" AND b."start" < a."end"
        WHERE a.state = 'booked' AND b.state = 'booked'""",
    ),
    "used": (
        "a quota whose count is not that of its seats",
        """SELECT q.home, q.bucket, q.kind, q.channel, q.used FROM quota q
        WHERE q.used <> (SELECT count(*) FROM seat e WHERE e.home = q.home
          AND e.bucket = q.bucket AND e.kind = q.kind AND e.channel = q.channel)""",
    ),
    "over-cap": (
        "a quota with more used than it may have",
        "SELECT home, bucket, kind, channel, used FROM quota WHERE used > cap OR used < 0",
    ),
    "seat-without-quota": (
        "a seat of a bucket that has no quota for its channel",
        """SELECT e.home, e.slot, e.seat FROM seat e
        LEFT JOIN quota q ON q.home = e.home AND q.bucket = e.bucket AND q.kind = e.kind
          AND q.channel = e.channel
        WHERE e.bucket <> '' AND q.channel IS NULL""",
    ),
    "capacity": (
        "quotas that do not add up to the capacity of the open Slots of their bucket and kind",
        """SELECT q.home, q.bucket, q.kind, q.cap, coalesce(s.capacity, 0) FROM (
          SELECT home, bucket, kind, sum(cap) AS cap FROM quota GROUP BY home, bucket, kind) q
        LEFT JOIN (SELECT home, bucket, kind, sum(capacity) AS capacity FROM slot_row
          WHERE open = 1 GROUP BY home, bucket, kind) s
          ON s.home = q.home AND s.bucket = q.bucket AND s.kind = q.kind
        WHERE q.cap <> coalesce(s.capacity, 0)""",
    ),
    "busy": (
        "a Slot whose status does not say whether all its seats are booked",
        """SELECT s.home, s.slot, s.busy FROM slot_row s
        JOIN (SELECT home, slot, count(*) AS booked FROM seat WHERE state = 'booked'
          GROUP BY home, slot) e ON e.home = s.home AND e.slot = s.slot
        WHERE (e.booked >= s.capacity) <> (s.busy = 1)""",
    ),
    "full-until": (
        "a Slot that is found although it is full, or not found although it has a seat",
        """SELECT s.home, s.slot, s.full_until FROM slot_row s
        LEFT JOIN (SELECT home, slot, count(*) AS taken,
            min(CASE WHEN "until" > 0 THEN "until" ELSE 9223372036854775807 END) AS first
          FROM seat GROUP BY home, slot) e ON e.home = s.home AND e.slot = s.slot
        WHERE s.full_until <> CASE WHEN coalesce(e.taken, 0) < s.capacity THEN 0
          ELSE coalesce(e.first, 9223372036854775807) END""",
    ),
    "unlisted": (
        "an open Slot that no search finds, or a closed one that one finds",
        """SELECT s.home, s.slot, s.open FROM slot_row s
        LEFT JOIN slot_item i ON i.item = '' AND i."start" = s."start" AND i.home = s.home
          AND i.slot = s.slot AND i.full_until = s.full_until AND i.schedule = s.schedule
        WHERE (s.open = 1 AND s.busy = 0 AND s.full_until < 9223372036854775807) <>
          (i.slot IS NOT NULL)""",
    ),
    "listed-alone": (
        "a place in the list of Slots with no Slot behind it, or another one",
        """SELECT i.home, i.slot, i.item FROM slot_item i
        LEFT JOIN slot_row s ON s.home = i.home AND s.slot = i.slot AND s."start" = i."start"
          AND s.full_until = i.full_until AND s.kind = i.kind AND s.open = 1
        WHERE s.slot IS NULL""",
    ),
}  # fmt: skip

_EXAMPLES = 5


def audit() -> Steps[list[Fault]]:
    """All that does not agree; empty when everything does."""
    found = []
    for name, (what, sql) in _QUESTIONS.items():
        rows = yield Query(f"SELECT count(*) FROM ({sql}) x")  # noqa: S608 - constants
        if rows[0][0]:
            some = yield Query(f"SELECT * FROM ({sql}) x LIMIT {_EXAMPLES}")  # noqa: S608
            found.append(Fault(name, what, rows[0][0], [tuple(row) for row in some]))
    return found
