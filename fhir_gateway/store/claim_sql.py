"""The SQL of bookable time in a batch on SQLite: slots, seats, quotas and bookings."""

# ruff: noqa: S608 - SQL is put together from names of the schema; values are always bound

from __future__ import annotations


def _set(table: str, columns: str, keys: int) -> str:
    """A row in the place of the one with the same key, if there is one."""
    names = columns.split()
    marks = ", ".join("?" * len(names))
    rest = ", ".join(f"{name} = excluded.{name}" for name in names[keys:])
    return (
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})"
        f" ON CONFLICT ({', '.join(names[:keys])}) DO UPDATE SET {rest}"
    )


#: Columns of each table in the order of its rows, and how many of them are its key.
COLUMNS = {
    "schedule_row": (
        "home schedule id master department kind items services district practitioner location"
        " active",
        2,
    ),
    "slot_row": (
        'home slot id schedule "start" "end" capacity open busy kind bucket items full_until',
        2,
    ),
    "seat": ('home slot seat state "until" bucket kind channel person appointment', 3),
    "quota": ("home bucket kind channel place cap used opens closes falls_to serial pool", 4),
    "booking": (
        'home appointment id state "until" slot_home slot "start" "end" "day" department channel',
        2,
    ),
}

SET_SCHEDULE = _set("schedule_row", *COLUMNS["schedule_row"])
SET_SLOT = _set("slot_row", *COLUMNS["slot_row"])
SET_SEAT = _set("seat", *COLUMNS["seat"])
SET_QUOTA = _set("quota", *COLUMNS["quota"])
SET_BOOKING = _set("booking", *COLUMNS["booking"])
ADD_SLOT_ITEM = """
INSERT INTO slot_item (item, "start", home, slot, pool, kind, schedule, full_until)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""

DROP_SCHEDULE = "DELETE FROM schedule_row WHERE home = ? AND schedule = ?"
DROP_SLOT = "DELETE FROM slot_row WHERE home = ? AND slot = ?"
DROP_SLOT_ITEM = 'DELETE FROM slot_item WHERE item = ? AND "start" = ? AND home = ? AND slot = ?'
DROP_SEAT = "DELETE FROM seat WHERE home = ? AND slot = ? AND seat = ?"
DROP_QUOTA = "DELETE FROM quota WHERE home = ? AND bucket = ? AND kind = ? AND channel = ?"


def _select(table: str, where: str) -> str:
    return f"SELECT {', '.join(COLUMNS[table][0].split())} FROM {table} WHERE {where}"


SLOT = _select("slot_row", "home = ? AND slot = ?")
SCHEDULE = "SELECT department, active FROM schedule_row WHERE home = ? AND schedule = ?"
SEATS = _select("seat", "home = ? AND slot = ?")
QUOTAS = _select("quota", "home = ? AND bucket = ? AND kind = ?")
#: Holds that are swept at once where a quota is full.
MOST_LAPSED = 1_000
LAPSED = _select(
    "seat",
    f'home = ? AND bucket = ? AND kind = ? AND "until" > 0 AND "until" <= ? LIMIT {MOST_LAPSED}',
)
CAPACITY = """
SELECT coalesce(sum(capacity), 0) FROM slot_row
WHERE home = ? AND bucket = ? AND kind = ? AND open = 1"""
BOOKING = _select("booking", "home = ? AND appointment = ?")
BOOKINGS = _select("booking", "home = ?")
HOMES_OF = """
SELECT us.home FROM person me CROSS JOIN person us ON us.person = me.person
  AND us.t_to = 9223372036854775807
WHERE me.home = ? AND me.t_to = 9223372036854775807"""
IS_DOCUMENTED = """
SELECT EXISTS (SELECT 1 FROM resource r JOIN identity i ON i.rid = r.rid AND i.kind = 1
  WHERE r.home = ? AND r.type = ?)"""
