"""What was read goes on record with one statement and one round trip.

Most batches of a busy day only tell what was read: their change sets have neither ids nor guards
nor new versions, so that nothing has to be judged. The statement that moves the clock also writes
their journal entries; it is a transaction by itself. What needs a look at the database first takes
the usual way (postgres_batch.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from fhir_gateway.fhir.keys import type_key
from fhir_gateway.store import points
from fhir_gateway.store.changes import ChangeSet, Committed, Entry
from fhir_gateway.store.postgres_durable import watched

#: So many Patients' homes are remembered: a home never changes.
HOMES = 100_000

_RECORD = """
WITH c AS (
  UPDATE clock SET t = t + 1, updated = greatest(updated, $1) RETURNING t, updated
), added AS (
  INSERT INTO journal (t, n, i, type, id, home, updated, patient, owner, nonce, leaf, enc, body)
  SELECT c.t, q.n, q.i, q.type, q.id, q.home, c.updated, q.patient, q.owner, q.nonce, q.leaf,
    q.enc, q.body
  FROM c, unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[], $7::text[],
    $8::bigint[], $9::bytea[], $10::bytea[], $11::bigint[], $12::bytea[])
    q (n, i, type, id, home, patient, owner, nonce, leaf, enc, body)
), placed AS (
  INSERT INTO journal_home (home, t, n, i)
  SELECT q.home, c.t, q.n, q.i
  FROM c, unnest($2::bigint[], $3::bigint[], $6::bigint[]) q (n, i, home) WHERE q.home > 0
) SELECT t, updated FROM c"""


def is_record(change_set: ChangeSet, homes: Mapping[str, int]) -> bool:
    """True when the change set only tells what was read, about people whose homes are known."""
    return (
        not change_set.id
        and not (change_set.guards or change_set.puts or change_set.once or change_set.received)
        and not (change_set.credentials or change_set.institution)
        and not (change_set.reindex or change_set.indexed or change_set.openings)
        and not change_set.claims
        and not (change_set.messages or change_set.settled or change_set.dropped)
        and bool(change_set.journal)
        and all(
            not entry.homes and (entry.home or entry.patient is None or entry.patient in homes)
            for entry in change_set.journal
        )
    )


async def record(
    connection: asyncpg.Connection,
    change_sets: Sequence[ChangeSet],
    homes: Mapping[str, int],
    *,
    now: int,
) -> list[Committed]:
    """The outcomes of change sets that only record, once they are durable."""
    rows = [
        _row(n, i, entry, homes)
        for n, change_set in enumerate(change_sets)
        for i, entry in enumerate(change_set.journal)
    ]
    points.reached("before-commit")
    with watched(connection) as doubt:
        t, updated = await connection.fetchrow(_RECORD, now, *zip(*rows, strict=True))
        await doubt.settle()
    points.reached("after-commit")
    return [Committed(t, n, updated) for n in range(len(change_sets))]


def _row(n: int, i: int, entry: Entry, homes: Mapping[str, int]) -> tuple[Any, ...]:
    home = entry.home
    if not home and entry.patient is not None:
        home = homes[entry.patient]
    return (n, i, type_key(entry.type), entry.id, home, entry.patient, entry.owner, entry.nonce,
            entry.leaf, entry.enc, entry.body)  # fmt: skip
