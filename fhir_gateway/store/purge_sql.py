"""What was kept long enough is removed: statements for the writer's transaction (see log.py).

Of an AuditEvent its bytes, its nonce and its index rows go; its row in the journal stays with the
commitment, so that the leaf, the tree and every proof hold. Nothing is removed before the law lets
it go, whatever it was told. docs/accountability.md
"""

from __future__ import annotations

from collections.abc import Sequence

from fhir_gateway.errors import Conflict
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.store.blobs import PURGED, unpack
from fhir_gateway.store.log import Purge, PurgeReceived
from fhir_gateway.store.query import Query, Row, Steps

_DAY = 86_400_000_000

#: Days that the law wants the record of disclosures kept (网络数据安全管理条例: three years), and
#: the logs of a network (网络安全法: six months). No setting goes below.
LEAST_AUDIT_DAYS, LEAST_RECEIVED_DAYS = 1_096, 184

#: What a record holds that tells what was removed: it is kept for ever, to account for the gap.
ACCOUNTS = b'{"display":"retention"}'

_AUDIT = type_key("AuditEvent")


def purge(command: Purge, now: int) -> Steps[int]:
    """Removes the AuditEvents of a range of the journal; how many. Raises Conflict for too new."""
    _check_age(command.until, now, LEAST_AUDIT_DAYS)
    rows = yield Query(_RANGE, (*command.after, *command.upto, _AUDIT, command.until, PURGED))
    gone = [row[:5] for row in rows if ACCOUNTS not in unpack(row[5], bytes(row[6]))]
    for row in gone:
        yield from _remove(row)
    return len(gone)


def purge_received(command: PurgeReceived, now: int) -> Steps[int]:
    """Removes bytes that doors received; how many. Raises Conflict for too new."""
    _check_age(command.until, now, LEAST_RECEIVED_DAYS)
    removed = 0
    for media in command.media:
        rows = yield Query(_OLD_RECEIVED, (command.until, media, command.limit - removed))
        for row in rows:
            yield Query("DELETE FROM received WHERE hash = ?", (row[0],))
        removed += len(rows)
    return removed


def _check_age(until: int, now: int, days: int) -> None:
    if until > now - days * _DAY:
        raise Conflict(
            f"Nothing younger than {days} days is removed, whatever the retention table says",
            rule="retention-floor",
        )


def _remove(row: Row) -> Steps[None]:
    t, n, i, id, home = row
    yield Query(_BLANK, (PURGED, b"", b"", t, n, i))
    yield Query("DELETE FROM journal_home WHERE home = ? AND t = ? AND n = ? AND i = ?",
                (home, t, n, i))  # fmt: skip
    places = yield Query("SELECT home, rid FROM locator WHERE type = ? AND id = ?", (_AUDIT, id))
    for place in places:
        yield from _unindex(place)


def _unindex(place: Sequence[int]) -> Steps[None]:
    home, rid = place
    shared = " AND home <= 0" if home <= 0 else ""
    yield Query(
        "UPDATE resource SET deleted = 1, patient = NULL WHERE home = ? AND type = ? AND rid = ?",
        (home, _AUDIT, rid),
    )
    ints = yield Query(f"{_INTS}{shared}", (home, rid))
    for row in ints:
        yield Query(_DROP_GLOBAL, (*row, home, rid))
    texts = yield Query(f"{_TEXTS}{shared}", (home, rid))
    for row in texts:
        yield Query(_DROP_GLOBAL_TEXT, (*row, home, rid))
    yield Query(f"DELETE FROM px WHERE home = ? AND rid = ?{shared}", (home, rid))  # noqa: S608
    yield Query(f"DELETE FROM px_text WHERE home = ? AND rid = ?{shared}", (home, rid))  # noqa: S608


_RANGE = """
SELECT t, n, i, id, home, enc, body FROM journal
WHERE (t, n, i) > (?, ?, ?) AND (t, n, i) <= (?, ?, ?) AND type = ? AND updated < ? AND enc <> ?
ORDER BY t, n, i"""
_BLANK = "UPDATE journal SET enc = ?, body = ?, nonce = ? WHERE t = ? AND n = ? AND i = ?"
_OLD_RECEIVED = """
SELECT hash FROM received WHERE at < ? AND media = ? ORDER BY at, hash LIMIT ?"""
_INTS = "SELECT parameter, v1, v2 FROM px WHERE home = ? AND rid = ?"
_TEXTS = "SELECT parameter, text FROM px_text WHERE home = ? AND rid = ?"
_DROP_GLOBAL = """
DELETE FROM gx WHERE parameter = ? AND v1 = ? AND v2 = ? AND home = ? AND rid = ?"""
_DROP_GLOBAL_TEXT = """
DELETE FROM gx_text WHERE parameter = ? AND text = ? AND home = ? AND rid = ?"""
