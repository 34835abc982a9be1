"""One batch of change sets, applied inside one write transaction.

`begin` opens it and moves the clock, `apply` judges and writes one change set, `finish` puts the
clock row back; the commit itself is the writer's. `t` numbers the batch, `(t, n)` orders the
change sets in it. A change set is judged whole before its first row is written, so that one that
is refused leaves nothing behind but its refusal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import apsw
import msgspec

from fhir_gateway.errors import GatewayError, Internal
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.store import statements as sql
from fhir_gateway.store.changes import ChangeSet, Committed, Entry, PutResult
from fhir_gateway.store.guards import judge, keep
from fhir_gateway.store.placing import Homes, Placed, Placing
from fhir_gateway.store.refusals import Refusal, refusal_of
from fhir_gateway.store.rows import Rows, resource_row, retire

Outcome = Committed | Refusal

#: After so many new versions (about 2 ms of rows) the event loop gets a turn.
PIECE = 25


@dataclass(slots=True)
class Batch:
    """A write transaction that is open. `n` is the number of the next change set."""

    connection: apsw.Connection
    t: int
    epoch: int
    updated: int
    rid: int
    homes: Homes
    changes: int  # rows that the connection had changed before
    n: int = 0
    raises_epoch: bool = False
    rows: Rows = field(default_factory=Rows)
    journal: list[tuple[Any, ...]] = field(default_factory=list)
    journal_home: list[tuple[int, int, int, int]] = field(default_factory=list)


def begin(connection: apsw.Connection, *, now: int) -> Batch:
    """Opens the transaction. Its time is never before that of the batch before it."""
    connection.execute("BEGIN IMMEDIATE")
    t, epoch, updated, rid, home = connection.execute(sql.CLOCK).get
    changes = connection.total_changes()
    return Batch(connection, t + 1, epoch, max(updated, now), rid, Homes(home), changes)


def finish(batch: Batch) -> bool:
    """Writes the clock row; what remains is to commit. False when there is nothing to commit.

    Housework alone does not move the clock: `t` numbers batches of change sets.
    """
    if batch.journal:
        batch.connection.executemany(sql.ADD_JOURNAL, batch.journal)
        batch.connection.executemany(sql.ADD_JOURNAL_HOME, sorted(batch.journal_home))
    if batch.n == 0 and batch.connection.total_changes() == batch.changes:
        return False
    t = batch.t if batch.n else batch.t - 1
    epoch = batch.epoch + batch.raises_epoch
    batch.connection.execute(sql.ADVANCE, (t, epoch, batch.updated, batch.rid, batch.homes.last))
    return True


def apply(batch: Batch, change_set: ChangeSet) -> Iterator[Outcome | None]:
    """Applies one change set in pieces: None after each, last its outcome.

    Anything but a GatewayError that is raised here leaves the transaction unfit to commit.
    """
    if not change_set.id:
        yield _disclose(batch, change_set)
        return
    earlier = _earlier(batch, change_set)
    if earlier is not None:
        yield earlier
        return
    n, batch.n = batch.n, batch.n + 1
    placed: list[Placed] = []
    try:
        counters = judge(batch.connection, change_set)
        for place in Placing(batch.connection, batch.homes).place(change_set):
            if place is None:
                yield None
            else:
                placed.append(place)
    except GatewayError as error:
        outcome: Outcome = refusal_of(error)
        if change_set.refusal is not None:
            _write_journal(batch, n, [change_set.refusal])
    else:
        keep(batch.connection, change_set, counters, at=(batch.t, n, batch.updated))
        results = []
        for index, item in enumerate(placed):
            results.append(_write(batch, n, index, item))
            if index % PIECE == PIECE - 1:
                batch.rows.flush(batch.connection)
                yield None
        batch.rows.flush(batch.connection)
        _write_rest(batch, n, change_set)
        outcome = Committed(batch.t, n, batch.updated, results)
    _remember(batch, n, change_set.id, outcome)
    yield outcome


def _disclose(batch: Batch, change_set: ChangeSet) -> Outcome:
    """Journal entries alone, without an id: told twice they would stand twice, and harm nobody."""
    if change_set.guards or change_set.puts or change_set.once or change_set.credentials:
        return refusal_of(Internal("A change set that does more than record needs an id"))
    n, batch.n = batch.n, batch.n + 1
    _write_rest(batch, n, change_set)
    return Committed(batch.t, n, batch.updated)


def _earlier(batch: Batch, change_set: ChangeSet) -> Outcome | None:
    """The outcome of the same change set, or of another with the same Once key, if there is one."""
    stored = batch.connection.execute(sql.CHANGE_SET, (change_set.id,)).get
    if stored is not None:
        outcome = decode_outcome(stored)
        if isinstance(outcome, Refusal):
            return outcome
        response = change_set.once.response if change_set.once else b""
        return msgspec.structs.replace(outcome, repeated=True, response=response)
    if change_set.once is None:
        return None
    row = batch.connection.execute(sql.ONCE, (change_set.once.kind, change_set.once.key)).get
    if row is None:
        return None
    t, n, updated, response = row
    return Committed(t, n, updated, repeated=True, response=response)


def _write(batch: Batch, n: int, index: int, placed: Placed) -> PutResult:
    put, current = placed.put, placed.current
    if placed.outcome == "unchanged" or (put.op == "delete" and _is_gone(placed)):
        version = current.version if current else 0
        return PutResult(put.type, put.id, version, placed.outcome, placed.home)
    if current is None:
        batch.rid += 1
        rid, version = batch.rid, 1
        batch.rows.locator.append((type_key(put.type), put.id, placed.home, rid))
    else:
        rid, version = current.rid, current.version + 1
        retire(batch.connection, put, current, batch.t)
    batch.rows.resource.append(resource_row(placed, rid, version, (batch.t, n, batch.updated)))
    if put.op != "delete":
        batch.rows.add_derived(placed, rid, version, batch.t)
    batch.rows.change.append(
        (batch.t, n, index, placed.home, type_key(put.type), rid, version, _OPS[placed.outcome])
    )
    batch.raises_epoch |= put.raises_epoch
    return PutResult(put.type, put.id, version, placed.outcome, placed.home)


_OPS = {"created": "create", "updated": "update", "deleted": "delete"}


def _is_gone(placed: Placed) -> bool:
    return placed.current is None or bool(placed.current.deleted)


def _write_rest(batch: Batch, n: int, change_set: ChangeSet) -> None:
    connection, at = batch.connection, (batch.t, n, batch.updated)
    _write_journal(batch, n, change_set.journal)
    if change_set.once is not None:
        once = change_set.once
        connection.execute(sql.ADD_ONCE, (once.kind, once.key, *at, once.response))
    for item in change_set.received:
        connection.execute(
            sql.ADD_RECEIVED, (item.hash, item.media, batch.updated, item.enc, item.body)
        )
    for credential in change_set.credentials:
        connection.execute(
            sql.SET_CREDENTIAL, (credential.hash, credential.institution, int(credential.active))
        )
        batch.raises_epoch = True
    if change_set.institution:
        connection.execute(sql.SET_SEEN, (change_set.institution, batch.updated))


def _write_journal(batch: Batch, n: int, entries: list[Entry]) -> None:
    """Gathers journal rows; `finish` writes those of the whole batch at once."""
    t = batch.t
    for i, entry in enumerate(entries):
        home = entry.home
        if not home and entry.patient is not None:
            patient = (type_key("Patient"), entry.patient)
            home = batch.connection.execute(sql.HOME, patient).get or 0
        batch.journal.append((
            t, n, i, type_key(entry.type), entry.id, home, batch.updated, entry.patient,
            entry.owner, entry.nonce, entry.leaf, entry.enc, entry.body,
        ))  # fmt: skip
        if home > 0:
            batch.journal_home.append((home, t, n, i))


def _remember(batch: Batch, n: int, id: bytes, outcome: Outcome) -> None:
    batch.connection.execute(
        sql.ADD_CHANGE_SET, (batch.t, n, id, batch.updated, encode_outcome(outcome))
    )


def encode_outcome(outcome: Outcome) -> bytes:
    """The outcome as kept with the change set's id, and as sent to another process."""
    kind = b"C" if isinstance(outcome, Committed) else b"R"
    return kind + _encoder.encode(outcome)


def decode_outcome(stored: bytes) -> Outcome:
    """The inverse of `encode_outcome`."""
    return (_committed if stored[:1] == b"C" else _refusal).decode(memoryview(stored)[1:])


_encoder = msgspec.msgpack.Encoder()
_committed = msgspec.msgpack.Decoder(Committed)
_refusal = msgspec.msgpack.Decoder(Refusal)
