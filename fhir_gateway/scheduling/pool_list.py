"""A hospital's own list of slots and bookings, and how it differs from ours. Pure.

Rows (CSV with a header, or a JSON object a line) have `schedule`, `start`, `end`, `status` and, for
a booking, `booking` (the id of the Appointment here, or the hospital's own number) and `person` (an
identity or record number). Persons are compared by keyed hashes and are never told.
docs/pools-operation.md
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fhir_gateway.errors import Invalid, Issue, Unprocessable
from fhir_gateway.fhir.datatypes import date_range

#: status of a row -> whether it is a booking
STATUSES: Mapping[str, bool] = {
    "free": False, "busy": False, "unavailable": False, "booked": True, "cancelled": True,
}  # fmt: skip
COLUMNS = ("schedule", "start", "end", "status", "booking", "person")

#: Rows of one list, and faults that are told of it.
MOST, TOLD = 200_000, 50

#: Kinds of differences. Those of bookings need a person each; those of slots a person each day.
SLOT_KINDS = ("slot-missing-here", "slot-missing-there", "slot-end", "slot-closed-there")
BOOKING_KINDS = (
    "booking-missing-here", "booking-missing-there", "booking-time", "booking-person",
    "booking-cancelled-there",
)  # fmt: skip

Hash = Callable[[str], bytes]


class Row(NamedTuple):
    """One row of the list; `person` is a hash, b"" where none is named. Times are µs."""

    line: int
    schedule: str
    start: int
    end: int
    status: str
    booking: str
    person: bytes


class OurSlot(NamedTuple):
    """A Slot here."""

    id: str
    schedule: str
    start: int
    end: int
    open: bool


class OurBooking(NamedTuple):
    """A booking here: its numbers (our id, and those of the hospital) and hashes of the person's.
    A hold is not told to hospitals and not compared. One that waits for confirmation (`pending`)
    may be missing there, and one that was carried out or missed (`over`) missing or cancelled."""

    id: str
    schedule: str
    start: int
    numbers: frozenset[str]
    persons: frozenset[bytes]
    pending: bool = False
    over: bool = False


class Difference(NamedTuple):
    """`about` is "Slot/id", "Appointment/id" or, for what is missing here, "Schedule/id"; `line`
    is the row of the list, 0 for none; `mark` keeps several of one kind and place apart."""

    kind: str
    schedule: str
    start: int
    about: str
    line: int = 0
    mark: str = ""


def read_list(content: bytes, zone: str, hashed: Hash) -> list[Row]:
    """The rows of a list. Raises Unprocessable with the faults by row, Invalid for no list."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Invalid("The list must be UTF-8 text", rule="list-encoding") from None
    found: list[Row] = []
    faults: list[Issue] = []
    for line, record in _records(text):
        if len(found) >= MOST:
            raise Invalid(f"The list has more than {MOST} rows; send it by day", rule="list-size")
        try:
            found.append(_row(line, record, zone, hashed))
        except Invalid as error:
            faults += [
                Issue(one.code, f"Row {line}: {one.diagnostics}", f"row {line}", one.rule)
                for one in error.issues
            ]
    if faults:
        raise Unprocessable(issues=tuple(faults[:TOLD]))
    return found


def _records(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if text.lstrip().startswith("{"):
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError):
                    record = None
                if not isinstance(record, dict):
                    raise Invalid(f"Row {number} is no JSON object", rule="list-row")
                yield number, record
        return
    reader = csv.DictReader(io.StringIO(text))
    missing = [one for one in COLUMNS[:4] if one not in (_header(reader) or ())]
    if missing:
        raise Invalid(
            f"The list lacks the columns {', '.join(missing)}; it has to begin with "
            f"{','.join(COLUMNS)}",
            rule="list-columns",
        )
    try:
        for record in reader:
            yield reader.line_num, record
    except csv.Error as error:
        raise Invalid(f"Row {reader.line_num} is no CSV: {error}", rule="list-row") from None


def _header(reader: csv.DictReader[str]) -> Sequence[str] | None:
    """The names of the columns. Raises Invalid for what is no CSV."""
    try:
        return reader.fieldnames
    except csv.Error as error:
        raise Invalid(f"The first row is no CSV: {error}", rule="list-row") from None


def _row(line: int, record: Mapping[str, Any], zone: str, hashed: Hash) -> Row:
    said = {name: str(record.get(name) or "").strip() for name in COLUMNS}
    if not said["schedule"]:
        raise Invalid("schedule must be the id of a Schedule here", rule="list-row")
    if said["status"] not in STATUSES:
        raise Invalid(f"status must be one of {', '.join(STATUSES)}", rule="list-row")
    start, end = (_moment(said, name, zone) for name in ("start", "end"))
    if STATUSES[said["status"]] and not (said["booking"] or said["person"]):
        raise Invalid("A booking needs booking or person, or nobody knows whose it is",
                      rule="list-row")  # fmt: skip
    if not start < end:
        raise Invalid("start must be before end", rule="list-row")
    person = hashed(said["person"]) if said["person"] else b""
    schedule = said["schedule"].removeprefix("Schedule/")
    booking = said["booking"].removeprefix("Appointment/")
    return Row(line, schedule, start, end, said["status"], booking, person)


def _moment(said: Mapping[str, str], name: str, zone: str) -> int:
    try:
        return date_range(said[name].replace(" ", "T"), zone)[0]
    except Invalid:
        raise Invalid(f"{name} must be a time, as 2026-12-07T08:00:00", rule="list-row") from None


def compare(
    rows: Sequence[Row], slots: Iterable[OurSlot], bookings: Iterable[OurBooking]
) -> list[Difference]:
    """All differences, in the order of time; both sides of the same Schedules and days."""
    ours = {(one.schedule, one.start): one for one in slots}
    theirs = {(one.schedule, one.start): one for one in rows}
    found = list(_slots(ours, theirs, [one for one in rows if not STATUSES[one.status]]))
    found += _bookings([one for one in rows if STATUSES[one.status]], list(bookings))
    return sorted(found, key=lambda one: (one.start, one.schedule, one.kind, one.about, one.mark))


def _slots(
    ours: Mapping[tuple[str, int], OurSlot], theirs: Mapping[tuple[str, int], Row],
    rows: Sequence[Row],
) -> Iterator[Difference]:  # fmt: skip
    for key, slot in ours.items():
        if slot.open and key not in theirs:
            yield Difference("slot-missing-there", *key, f"Slot/{slot.id}")
    for row in rows:
        known = ours.get((row.schedule, row.start))
        if known is None:
            if row.status != "unavailable":
                yield _here("slot-missing-here", row)
        elif known.end != row.end:
            yield _of_slot("slot-end", known, row)
        elif known.open and row.status == "unavailable":
            yield _of_slot("slot-closed-there", known, row)


def _bookings(rows: Sequence[Row], ours: list[OurBooking]) -> Iterator[Difference]:
    """Each row is met with one booking: by number, else by person and time, else by the time."""
    left = {one.id: one for one in ours}
    by_number = {number: one for one in ours for number in one.numbers}
    later = []
    for row in rows:
        known = by_number.get(row.booking) if row.booking else None
        if known is None or known.id not in left:
            later.append(row)
            continue
        del left[known.id]
        yield from _of_pair(row, known)
    at: dict[tuple[str, int], list[OurBooking]] = {}
    for one in left.values():
        at.setdefault((one.schedule, one.start), []).append(one)
    for row in sorted(later, key=lambda one: one.status == "cancelled"):
        there = at.get((row.schedule, row.start), [])
        known = _alike(row, there)
        if known is not None:
            there.remove(known)
            del left[known.id]
            yield from _of_pair(row, known)
        elif row.status == "booked":
            yield _here("booking-missing-here", row)
    for one in left.values():
        if not (one.pending or one.over):
            yield Difference(
                "booking-missing-there", one.schedule, one.start, f"Appointment/{one.id}"
            )


def _alike(row: Row, there: Sequence[OurBooking]) -> OurBooking | None:
    """Of the bookings at the time of a row its own, of its person if it names one that is known."""
    same = [one for one in there if row.person and row.person in one.persons]
    if same or row.status == "cancelled" or row.booking:
        return next(iter(same), None)
    return there[0] if len(there) == 1 else None


def _of_pair(row: Row, known: OurBooking) -> Iterator[Difference]:
    about = f"Appointment/{known.id}"
    if row.status == "cancelled":
        if not known.over:
            yield Difference(
                "booking-cancelled-there", known.schedule, known.start, about, row.line
            )
        return
    if (row.schedule, row.start) != (known.schedule, known.start):
        yield Difference("booking-time", known.schedule, known.start, about, row.line)
    if row.person and known.persons and row.person not in known.persons:
        yield Difference("booking-person", known.schedule, known.start, about, row.line)


def _of_slot(kind: str, slot: OurSlot, row: Row) -> Difference:
    return Difference(kind, slot.schedule, slot.start, f"Slot/{slot.id}", row.line)


def _here(kind: str, row: Row) -> Difference:
    mark = row.booking or row.person.hex()[:16]
    return Difference(kind, row.schedule, row.start, f"Schedule/{row.schedule}", row.line, mark)
