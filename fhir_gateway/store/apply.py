"""One batch of change sets, judged and turned into rows.

`apply` judges one change set and gathers what it writes; the transaction around it, and the
writing, are the driver's. `t` numbers the batch, `(t, n)` orders the change sets in it. A change
set is judged whole before its first row is gathered, so that one that is refused leaves nothing
behind but its refusal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from fhir_gateway.errors import GatewayError, Internal, Unavailable
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.store.changes import (
    Absent,
    ChangeSet,
    Committed,
    Entry,
    PutResult,
    Settled,
)
from fhir_gateway.store.guards import judge, keep
from fhir_gateway.store.index_version import Index, check_current, check_ours
from fhir_gateway.store.linking import link
from fhir_gateway.store.lookups import Lookups
from fhir_gateway.store.message_rows import add_messages
from fhir_gateway.store.opened import open_homes
from fhir_gateway.store.placing import Homes, Placed, Placing
from fhir_gateway.store.refusals import Refusal, refusal_of
from fhir_gateway.store.reindexing import reindex
from fhir_gateway.store.rows import Rows, resource_row
from fhir_gateway.store.seating import reseat, seat

Outcome = Committed | Refusal

#: After so many new versions (about 2 ms of rows) the event loop gets a turn.
PIECE = 25


@dataclass(slots=True)
class Batch:
    """A batch whose transaction is open. `n` is the number of the next change set."""

    lookups: Lookups
    t: int
    epoch: int
    updated: int
    rid: int
    homes: Homes
    index: Index
    n: int = 0
    raises_epoch: bool = False
    rows: Rows = field(default_factory=Rows)


def apply(batch: Batch, change_set: ChangeSet) -> Iterator[Outcome | None]:
    """Applies one change set in pieces: None after each, last its outcome.

    Anything but a GatewayError that is raised here leaves the transaction unfit to commit.
    """
    if not change_set.id:
        yield from _unnamed(batch, change_set)
        return
    earlier = _earlier(batch, change_set) or _not_now(batch.index, change_set)
    if earlier is not None:
        yield earlier
        return
    n, batch.n = batch.n, batch.n + 1
    placed: list[Placed] = []
    batch.lookups.foresee(change_set)
    try:
        counters = judge(batch.lookups, change_set)
        for place in Placing(batch.lookups, batch.homes).place(change_set):
            if place is None:
                yield None
            else:
                placed.append(place)
        gather = seat(batch.lookups, change_set, placed, now=batch.updated)
        link(batch.lookups, batch.rows, placed, batch.t)
    except GatewayError as error:
        outcome: Outcome = refusal_of(error)
        if change_set.refusal is not None:
            _add_journal(batch, n, [change_set.refusal])
    else:
        keep(batch.rows, change_set, counters, at=(batch.t, n, batch.updated))
        gather(batch.rows)
        results = []
        for index, item in enumerate(placed):
            results.append(_write(batch, n, index, item))
            if index % PIECE == PIECE - 1:
                batch.lookups.take(batch.rows)
                yield None
        batch.lookups.take(batch.rows)
        yield from _reindex(batch, change_set)
        _add_rest(batch, n, change_set)
        outcome = Committed(batch.t, n, batch.updated, results)
    stored = encode_outcome(outcome)
    batch.rows.change_set.append((batch.t, n, change_set.id, batch.updated, stored))
    batch.lookups.take(batch.rows)
    yield outcome


def _unnamed(batch: Batch, change_set: ChangeSet) -> Iterator[Outcome | None]:
    """Journal entries alone, without an id: told twice they would stand twice, and harm nobody.
    Rows that are derived twice are the same, as long as what they were derived by is.
    """
    more = change_set.puts or change_set.once or change_set.credentials
    issued = change_set.clients or change_set.tokens or change_set.forgotten
    if (
        more
        or issued
        or change_set.claims
        or not all(isinstance(guard, Settled) for guard in change_set.guards)
    ):
        yield refusal_of(Internal("A change set that does more than record needs an id"))
        return
    try:
        if change_set.reindex:
            check_ours(batch.index)
        judge(batch.lookups, change_set)
    except GatewayError as error:
        yield refusal_of(error)
        return
    n, batch.n = batch.n, batch.n + 1
    yield from _reindex(batch, change_set)
    _add_rest(batch, n, change_set)
    batch.lookups.take(batch.rows)
    yield Committed(batch.t, n, batch.updated)


def _reindex(batch: Batch, change_set: ChangeSet) -> Iterator[None]:
    """Other rows for what stays as it is; what the change set puts has its rows already."""
    if not (change_set.reindex or change_set.indexed):
        return
    put = {(put.type, put.id) for put in change_set.puts}
    wanted = [item for item in change_set.reindex if (item.type, item.id) not in put]
    for turned in reindex(batch.lookups, batch.rows, wanted, batch.t):
        if turned is None:
            yield None
        else:
            batch.raises_epoch |= turned
    reseat(batch.lookups, batch.rows, wanted, now=batch.updated)
    if change_set.indexed:
        batch.index = batch.index._replace(indexed=change_set.indexed)
    batch.lookups.take(batch.rows)


def _not_now(index: Index, change_set: ChangeSet) -> Refusal | None:
    """The refusal where rows would be of an older version than what is searched for, or a guard
    would look where the rows of all resources are not yet. It is not kept: a repeat may pass."""
    if index.is_current or not (change_set.puts or change_set.guards):
        return None
    try:
        if change_set.puts:
            check_ours(index)
        if any(isinstance(guard, Absent) for guard in change_set.guards):
            check_current(index)
    except Unavailable as error:
        return refusal_of(error)
    return None


def _earlier(batch: Batch, change_set: ChangeSet) -> Outcome | None:
    """The outcome of the same change set, or of another with the same Once key, if there is one."""
    stored = batch.lookups.outcome(change_set.id)
    if stored is not None:
        outcome = decode_outcome(stored)
        if isinstance(outcome, Refusal):
            return outcome
        response = change_set.once.response if change_set.once else b""
        return msgspec.structs.replace(outcome, repeated=True, response=response)
    if change_set.once is None:
        return None
    row = batch.lookups.once(change_set.once.kind, change_set.once.key)
    if row is None:
        return None
    t, n, updated, response = row
    return Committed(t, n, updated, repeated=True, response=response)


def _write(batch: Batch, n: int, index: int, placed: Placed) -> PutResult:
    put, current, rows = placed.put, placed.current, batch.rows
    type = type_key(put.type)
    if placed.outcome == "unchanged" or (put.op == "delete" and _is_gone(placed)):
        version = current.version if current else 0
        return PutResult(put.type, put.id, version, placed.outcome, placed.home)
    if current is None:
        batch.rid += 1
        rid, version = batch.rid, 1
        rows.locator.append((type, put.id, placed.home, rid))
    else:
        rid, version = current.rid, current.version + 1
        rows.retired.append((type, current.home, rid, batch.t))
    rows.resource.append(resource_row(placed, rid, version, (batch.t, n, batch.updated)))
    if put.op != "delete":
        rows.add_derived(placed, rid, version, batch.t)
    rows.change.append((batch.t, n, index, placed.home, type, rid, version, _OPS[placed.outcome]))
    batch.raises_epoch |= put.raises_epoch
    return PutResult(put.type, put.id, version, placed.outcome, placed.home)


_OPS = {"created": "create", "updated": "update", "deleted": "delete"}


def _is_gone(placed: Placed) -> bool:
    return placed.current is None or bool(placed.current.deleted)


def _add_rest(batch: Batch, n: int, change_set: ChangeSet) -> None:
    rows, updated = batch.rows, batch.updated
    _add_journal(batch, n, change_set.journal)
    if change_set.openings:
        open_homes(batch.lookups, rows, change_set.openings, t=batch.t, now=updated)
    if change_set.once is not None:
        once = change_set.once
        rows.once.append((once.kind, once.key, batch.t, n, updated, once.response))
    for item in change_set.received:
        rows.received.append((item.hash, item.media, updated, item.enc, item.body))
    for credential in change_set.credentials:
        rows.credential.append((credential.hash, credential.institution, int(credential.active)))
        batch.raises_epoch = True
    for client in change_set.clients:
        rows.client.append((client.id, int(client.active), updated, client.body))
        batch.raises_epoch = True
    for one in change_set.tokens:
        rows.client_token.append(
            (one.hash, one.client, int(one.active), one.issued, one.until, one.body)
        )
    rows.client_token_gone += [(hash,) for hash in change_set.forgotten]
    if change_set.messages or change_set.settled or change_set.dropped:
        add_messages(rows, change_set, at=(batch.t, n, updated))
    if change_set.institution:
        rows.seen.append((change_set.institution, updated))


def _add_journal(batch: Batch, n: int, entries: list[Entry]) -> None:
    t = batch.t
    for i, entry in enumerate(entries):
        home = entry.home
        if not home and entry.patient is not None:
            home = batch.lookups.home(type_key("Patient"), entry.patient) or 0
        batch.rows.journal.append((
            t, n, i, type_key(entry.type), entry.id, home, batch.updated, entry.patient,
            entry.owner, entry.nonce, entry.leaf, entry.enc, entry.body,
        ))  # fmt: skip
        if home > 0:
            batch.rows.journal_home.append((home, t, n, i))
        if entry.homes:
            others = dict.fromkeys(entry.homes)
            batch.rows.journal_home += [(one, t, n, i) for one in others if one not in (0, home)]


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
