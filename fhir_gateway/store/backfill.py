"""What a new column says of the rows that were there before it: filled in pieces.

A whole store in one transaction would need its size again in the write-ahead log. A piece is a
transaction of its own, and a fill that was killed goes on where rows are still without a value.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import apsw

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.keys import key64, type_key

PIECE = 10_000

_NEXT = """
SELECT home, type, rid, id FROM resource
WHERE (home, type, rid) > (?, ?, ?) AND key = 0 ORDER BY home, type, rid LIMIT ?"""
_SET = "UPDATE resource SET key = ? WHERE home = ? AND type = ? AND rid = ?"

_log = logging.getLogger(__name__)


def resource_keys(connection: apsw.Connection, *, piece: int = PIECE) -> int:
    """Gives every resource its key, says how many were without one."""
    names = {type_key(name): name for name in definitions().resource_types}
    after: tuple[int, int, int] = (-(1 << 63), 0, 0)
    filled = 0
    while True:
        rows: list[Any] = connection.execute(_NEXT, (*after, piece)).fetchall()
        if not rows:
            return filled
        with connection:
            connection.executemany(
                _SET,
                [(key64(f"{names[type]}/{id}"), home, type, rid) for home, type, rid, id in rows],
            )
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        after = rows[-1][:3]
        filled += len(rows)
        _log.info("upgrading the database: %d resources have their key", filled)


#: What to fill before the migration of that number, outside of its transaction.
BEFORE: Mapping[int, Callable[[apsw.Connection], int]] = {3: resource_keys}
