"""What was kept long enough is removed, provably: planned first, then carried out by name.

A plan counts and removes nothing. Carrying it out takes its number and the name of who answers for
it; each piece is announced in the audit log before it is removed, so that whoever was cut short
goes on by doing the same again, and every removed row has a record that says by what. Faults 157.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import blake2b
from typing import NamedTuple

from fhir_gateway.accountability.journal import AUDIT, Place
from fhir_gateway.accountability.pages import pages_between
from fhir_gateway.accountability.retention_file import PURGED, Kept, Retention
from fhir_gateway.audit.events import administration_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, Invalid
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.audit import call_of, disclose, entry
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS
from fhir_gateway.store import blobs
from fhir_gateway.store.log import Purge, PurgeReceived
from fhir_gateway.store.query import Query

DAY = 86_400_000_000

#: Records of one piece.
PIECE = 200

#: The word in the audit log for everything that is done here.
ACT = "retention"


class Due(NamedTuple):
    """A class with what is older than it is kept: recorded before `until` (µs)."""

    kept: Kept
    until: int
    records: int


class Plan(NamedTuple):
    """What would be removed; `number` names the plan, and changes with the day and the table."""

    number: str
    due: tuple[Due, ...]


class Removed(NamedTuple):
    """A piece that was removed."""

    name: str
    records: int


async def plan_of(gateway: Gateway, retention: Retention) -> Plan:
    """What is older than it is kept, class by class. Removes nothing."""
    today = gateway.clock.now() // DAY * DAY
    due = []
    for name in PURGED:
        kept = retention.classes[name]
        if kept.action == "purge" and kept.days is not None:
            until = today - kept.days * DAY
            due.append(Due(kept, until, await _count(gateway, kept, until)))
    said = repr([(one.kept, one.until) for one in due]).encode()
    return Plan(blake2b(said, digest_size=6).hexdigest(), tuple(due))


async def apply(
    gateway: Gateway, retention: Retention, *, plan: str, by: str
) -> AsyncIterator[Removed]:
    """Carries out a plan, piece by piece. Raises Conflict when the plan is another by now, Invalid
    when nobody answers for it.

    Done again after it was cut short it goes on where it was.
    """
    if not by.strip():
        raise Invalid("Say who answers for it: the name of a person", rule="operator")
    found = await plan_of(gateway, retention)
    if found.number != plan:
        raise Conflict(
            f"The plan is {found.number} by now, not {plan}: look at `retention plan` again",
            rule="retention-plan",
        )
    if any(due.records for due in found.due):
        await _drained(gateway)
    for due in found.due:
        steps = _audit(gateway, due, by) if due.kept.name == "audit" else _bytes(gateway, due, by)
        async for removed in steps:
            yield removed


async def unaccounted(gateway: Gateway) -> int:
    """Journal rows whose record is gone although no record of the log says that it was removed."""
    rows = await gateway.store.log_rows(Query(_GONE, (blobs.PURGED,)))
    if not rows:
        return 0
    spans = await _spans(gateway)
    return sum(not any(low < tuple(row) <= high for low, high in spans) for row in rows)


async def _spans(gateway: Gateway) -> list[tuple[Place, Place]]:
    """The ranges of the journal that the log itself says were removed."""
    spans: list[tuple[Place, Place]] = []
    async for page in pages_between(gateway, 0, 1 << 62, needles=(f'"{ACT}"'.encode(),)):
        for row in page:
            details = dict(row.act.details)
            if "purged-after" in details and "purged-upto" in details:
                spans.append((_place(details["purged-after"]), _place(details["purged-upto"])))
    return spans


async def _count(gateway: Gateway, kept: Kept, until: int) -> int:
    if kept.name == "audit":
        rows = await gateway.store.log_rows(Query(_AUDIT_COUNT, (AUDIT, until, blobs.PURGED)))
        return int(rows[0][0])
    total = 0
    for media in kept.media:
        rows = await gateway.store.log_rows(Query(_RECEIVED_COUNT, (until, media)))
        total += int(rows[0][0])
    return total


async def _audit(gateway: Gateway, due: Due, by: str) -> AsyncIterator[Removed]:
    after: Place = (-1, -1, -1)
    while True:
        rows = await gateway.store.log_rows(
            Query(_AUDIT_NEXT, (*after, AUDIT, due.until, blobs.PURGED, PIECE))
        )
        if not rows:
            return
        upto: Place = (rows[-1][0], rows[-1][1], rows[-1][2])
        details = [("purged-after", _text(after)), ("purged-upto", _text(upto))]
        await _announce(gateway, due, by, len(rows), details)
        count = await gateway.store.log(Purge(after, upto, due.until))
        yield Removed(due.kept.name, count)
        after = upto


async def _bytes(gateway: Gateway, due: Due, by: str) -> AsyncIterator[Removed]:
    left = due.records
    while left > 0:
        await _announce(gateway, due, by, min(left, PIECE), [])
        count = await gateway.store.log(PurgeReceived(due.kept.media, due.until, PIECE))
        if not count:
            return
        left -= count
        yield Removed(due.kept.name, count)


async def _announce(
    gateway: Gateway, due: Due, by: str, count: int, details: list[tuple[str, str]]
) -> None:
    """Puts on record what is about to be removed, by whom and by what."""
    event = administration_event(
        call_of(gateway, GATEWAY)._replace(user=by),
        act=ACT,
        summary=f"{count} of class {due.kept.name} removed",
        details=[
            ("class", due.kept.name),
            ("until", instant(due.until)),
            ("basis", due.kept.basis_en),
            *details,
        ],
    )
    await disclose(gateway, [entry(gateway, event)])


async def _drained(gateway: Gateway) -> None:
    """Sees to it that every record has its index rows, so that they can be removed with it."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        await reader.read("AuditEvent", "-")


def _text(place: Place) -> str:
    return " ".join(map(str, place))


def _place(text: str) -> Place:
    t, n, i = map(int, text.split())
    return (t, n, i)


_GONE = "SELECT t, n, i FROM journal WHERE enc = ? ORDER BY t, n, i"
_AUDIT_COUNT = "SELECT count(*) FROM journal WHERE type = ? AND updated < ? AND enc <> ?"
_AUDIT_NEXT = """
SELECT t, n, i FROM journal
WHERE (t, n, i) > (?, ?, ?) AND type = ? AND updated < ? AND enc <> ? ORDER BY t, n, i LIMIT ?"""
_RECEIVED_COUNT = "SELECT count(*) FROM received WHERE at < ? AND media = ?"
