"""The sequencer: numbers the journal's entries after their commit, and signs tree heads.

An entry's index is its rank in the order (t, n, i), and commits become visible in the order of `t`
(one writer on SQLite, one clock row on PostgreSQL), so what stands behind the last numbered entry
is all that will ever stand there up to its end. Every step reads back what is stored: the right
edge of the tree must give the root that was signed last, and each new record must still give the
commitment that was stored with it. What does not is never signed over: the log stops and says so,
until an operator has looked (`fhir-gateway audit verify`).

Any number of processes may run one. The seat in the store lets one of them sign; what one does that
slept for longer than its lease is refused by the store (store/log_sql.py).
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from contextlib import suppress
from typing import NamedTuple

from fhir_gateway.audit.tree import leaf
from fhir_gateway.audit.tree_entry import row_hash
from fhir_gateway.audit.tree_tiles import Edge, Frontier, Spot, edge_spots
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, GatewayError, Unavailable
from fhir_gateway.store import log
from fhir_gateway.store.blobs import unpack
from fhir_gateway.store.log import NOWHERE, Head, JournalRow, Place, Seal, Tile, Turn
from fhir_gateway.transparency import keys, place
from fhir_gateway.transparency.note import (
    Checkpoint,
    Note,
    Signer,
    read_checkpoint,
    read_note,
    read_signature,
    time_of,
)
from fhir_gateway.transparency.purged import is_purged
from fhir_gateway.transparency.statement import BEGIN, Statement, check_chain
from fhir_gateway.transparency.told import tell_gap

#: Entries of one step: 16 tiles, about 100 ms.
BATCH = 4_096

#: A process that was not heard of for so many µs loses the seat.
LEASE = 10_000_000

#: Seconds between two looks for new entries; after so many without any the last head is signed
#: again; after so many without a signature the log was late.
POLL_SECONDS, BEAT_SECONDS, LATE_SECONDS = 0.4, 60, 300

LOG = logging.getLogger("fhir_gateway.audit_log")


class Stopped(Unavailable):
    """Nothing is signed until an operator has looked; the text says why."""


class _Tree(NamedTuple):
    """The tree as it is stored and was signed last."""

    head: Head | None
    edge: Edge
    chain: list[Statement]

    @property
    def size(self) -> int:
        return self.edge.size

    @property
    def place(self) -> Place:
        return self.head.place if self.head is not None else NOWHERE


class Sequencer:
    """One process's sequencer. `step` does what there is to do, `run` does so until it is told
    to stop."""

    def __init__(self, gateway: Gateway, *, holder: str = "", lease: int = LEASE) -> None:
        self._gateway = gateway
        self._store = gateway.store
        self._holder = holder or secrets.token_hex(8)
        self._lease = lease
        self._fence = 0
        self._told = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Numbers and signs until `stop` is set; faults are told and tried again."""
        while not stop.is_set():
            full = False
            try:
                full = await self.step() == BATCH
                self._told = ""
            except GatewayError as error:
                self._tell(error)
            except Exception as error:
                self._tell(Unavailable(error.__class__.__name__, rule="log-fault"))
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.001 if full else POLL_SECONDS)
        with suppress(GatewayError):
            await self.vacate()

    async def step(self, *, force: bool = False) -> int:
        """Numbers what is new, up to BATCH entries, and signs the head; says how many.

        0 when nothing is new or another process does it; `force` takes the seat from that one.
        Raises Stopped when something was changed, Invalid without a usable key.
        """
        head = await log.last_head(self._store)
        rows = await log.entries(
            self._store, head.place if head is not None else NOWHERE, limit=BATCH
        )
        due = head is not None and self._now() - heard(head) >= BEAT_SECONDS
        if not (rows or due) or not await self.sit(force=force):
            return 0
        try:
            done = await self._sign(await self.tree(), rows)
            if head is not None and self._now() - heard(head) >= LATE_SECONDS:
                await tell_gap(self._gateway, heard(head), self._now())
            return done
        except Stopped as error:
            await self._store.log(log.Alarm(self._fence, error.issues[0].diagnostics))
            raise
        except Conflict as error:
            if error.issues[0].rule not in ("log-seat", "log-moved"):
                raise
            self._fence = 0
            return 0

    async def all(self, *, force: bool = False) -> int:
        """Steps until nothing is new; says how many entries were numbered."""
        done = 0
        while count := await self.step(force=force):
            done += count
        return done

    async def sit(self, *, force: bool = False) -> bool:
        """Whether this process has the seat, now."""
        seat = await log.seat(self._store)
        if self._fence and seat.fence == self._fence and seat.holder == self._holder:
            return True
        if not force and seat.until > self._gateway.clock.now() and seat.holder != self._holder:
            return False
        try:
            self._fence = await self._store.log(log.Claim(self._holder, self._lease, force))
        except Conflict:
            return False
        return True

    async def vacate(self) -> None:
        """Lets another process sit down at once."""
        if self._fence:
            await self._store.log(log.Vacate(self._fence))
            self._fence = 0

    # -- the tree as it is stored ---------------------------------------------------------------

    async def tree(self, *, recovering: bool = False) -> _Tree:
        """The tree, read back and checked against the head that was signed last.

        A log that has not begun begins. `recovering` does not ask whether a later head was signed.
        Raises Stopped when they do not agree.
        """
        chain = await self._chain()
        head = await log.last_head(self._store)
        size = head.size if head is not None else 0
        tiles = {}
        for level, number in edge_spots(size):
            stored = await log.tile(self._store, level, number)
            filled = (size >> (8 * level)) % 256 * 32
            tiles[level] = (number, stored.hashes[:filled] if stored is not None else b"")
        tree = _Tree(head, Edge(size, tiles), chain)
        if head is not None and said(head).root != self._root(tree.edge):
            raise Stopped(
                f"The stored tree does not give the root of its head of size {size}: something was"
                " changed",
                rule="log-changed",
            )
        if not recovering:
            await self._check_last(tree)
        return tree

    def _root(self, edge: Edge) -> bytes | None:
        try:
            return edge.root()
        except (IndexError, KeyError):
            return None

    async def _check_last(self, tree: _Tree) -> None:
        """Raises Stopped when the database is older than the head that was signed last."""
        noted = keys.last_signed(place.key_file(self._gateway.settings))
        if noted is None:
            return
        last = read_checkpoint(read_note(noted).text)
        statement = tree.chain[-1]
        if last.origin != statement.origin:
            if any(each.origin == last.origin for each in tree.chain):
                return  # a recovery was recorded since
            raise Stopped(
                f"The key file last signed for the log {last.origin}, and this is"
                f" {statement.origin}: it belongs to another database",
                rule="log-other",
            )
        head = await log.head_of(self._store, last.size)
        if head is None or said(head).root != last.root:
            raise Stopped(
                f"The database does not hold the head of size {last.size} that was signed last: it"
                " was set back to an earlier state, or is another one. Nothing is signed; see"
                " `fhir-gateway audit recover`",
                rule="log-rolled-back",
            )

    async def _chain(self) -> list[Statement]:
        """The statements of the log; the first is made here."""
        stored = await log.turns(self._store)
        if not stored:
            stored = [await self._begin()]
        try:
            return check_chain([turn.note for turn in stored])
        except ValueError as error:
            raise Stopped(f"A statement of the log was changed: {error}",
                          rule="log-changed") from None  # fmt: skip

    async def _begin(self) -> log.StoredTurn:
        signer = place.signers(self._gateway.settings, begun=False)[-1]
        statement = Statement(
            signer.verifier.name, 1, BEGIN, 0, Edge().root(), self._now(), signer.verifier
        )
        note = str(Note(str(statement), (signer.sign(str(statement)),)))
        await self._store.log(Turn(self._fence, 1, 0, BEGIN, note, ""))
        return log.StoredTurn(1, 0, BEGIN, note, "")

    async def turn(self, statement: Statement, note: str, event: str) -> None:
        """Records a statement; heads behind this size are signed by it."""
        await self._store.log(
            Turn(self._fence, statement.number, statement.size, statement.kind, note, event)
        )

    # -- new leaves and heads -------------------------------------------------------------------

    async def _sign(self, tree: _Tree, rows: list[JournalRow]) -> int:
        if rows:
            return await self._seal(tree, rows)
        await self._beat(tree)
        return 0

    async def _seal(self, tree: _Tree, rows: list[JournalRow]) -> int:
        good = _sound(rows)
        if not good:
            raise Stopped(
                f"The journal entry at {rows[0].place} does not give its commitment: it was"
                " changed after its commit. Nothing is signed; see `fhir-gateway audit verify`",
                rule="log-changed",
            )
        before = dict(tree.edge.tiles)
        hashes = list(map(row_hash, good))
        changed = tree.edge.append(hashes)
        root = _agreed(tree.edge, before, good)
        tiles = [
            Tile(*spot, _place_of(spot, tree, good, before), hashes)
            for spot, hashes in sorted(changed.items())
        ]
        note, signed = self._signed(tree, root)
        await self._store.log(
            Seal(
                self._fence,
                len(tree.chain),
                tree.size - len(good),
                tree.size,
                good[-1].place,
                tiles,
                signed,
                note,
                self._lease,
            )
        )
        keys.keep_last(place.key_file(self._gateway.settings), note)
        self._gateway.count("log_leaves", len(good))
        return len(good)

    def _signed(self, tree: _Tree, root: bytes) -> tuple[str, int]:
        """The checkpoint, and when it was signed: never before the one before it."""
        statement = tree.chain[-1]
        signer = self._signer(statement)
        seconds = max(self._now(), heard(tree.head) if tree.head is not None else 0)
        text = str(Checkpoint(statement.origin, tree.size, root))
        return str(Note(text, (signer.sign(text), signer.cosign(text, seconds)))), seconds

    async def _beat(self, tree: _Tree) -> None:
        """Signs the last head again, with the key that signed it."""
        assert tree.head is not None
        statement = [each for each in tree.chain if each.size < tree.size][-1]
        text = read_note(tree.head.note).text
        seconds = max(self._now(), heard(tree.head))
        beat = str(self._signer(statement).cosign(text, seconds))
        await self._store.log(log.Beat(self._fence, tree.size, beat, self._lease))

    def _signer(self, statement: Statement) -> Signer:
        held = place.signers(self._gateway.settings, begun=True)
        return place.signer_of(held, statement.key)

    def _now(self) -> int:
        return self._gateway.clock.now() // 1_000_000

    def _tell(self, error: GatewayError) -> None:
        """Once for each reason, until it is over; a reason to act on is counted for an alarm."""
        issue = error.issues[0]
        self._gateway.count("log_stopped", 1)
        if self._told != issue.diagnostics:
            self._told = issue.diagnostics
            told = {"event": "audit-log-stopped", "rule": issue.rule, "why": issue.diagnostics}
            LOG.critical(json.dumps(told, ensure_ascii=False))


def heard(head: Head) -> int:
    """When the log was last heard of, seconds."""
    if not head.beat:
        return head.signed
    return time_of(read_signature(head.beat))


def said(head: Head) -> Checkpoint:
    """What a head says. Raises Stopped when it cannot be read."""
    try:
        return read_checkpoint(read_note(head.note).text)
    except ValueError as error:
        raise Stopped(f"The head of size {head.size} was changed: {error}",
                      rule="log-changed") from None  # fmt: skip


def _sound(rows: list[JournalRow]) -> list[JournalRow]:
    """The entries up to the first whose stored bytes do not give the commitment beside them."""
    for at, row in enumerate(rows):
        try:
            if not is_purged(row) and leaf(row.nonce, unpack(row.enc, row.body)) != row.leaf:
                return rows[:at]
        except Exception:  # bytes that cannot even be unpacked
            return rows[:at]
    return rows


def _agreed(edge: Edge, before: dict[int, tuple[int, bytes]], rows: list[JournalRow]) -> bytes:
    """The root of the grown tree, reckoned a second time and in another way.

    A bit that flips in memory between hash and signature would otherwise be signed for ever.
    """
    frontier = Frontier()
    for level in sorted(before, reverse=True):
        hashes = before[level][1]
        for at in range(0, len(hashes), 32):
            frontier.add(hashes[at : at + 32], 8 * level)
    for row in rows:
        frontier.add(row_hash(row))
    root = edge.root()
    if root != frontier.root():
        raise Unavailable("Two ways to the same root disagree; once more", rule="log-memory")
    return root


def _place_of(
    spot: Spot, tree: _Tree, rows: list[JournalRow], before: dict[int, tuple[int, bytes]]
) -> Place:
    """The place of a tile's first leaf, where that leaf is new; the store keeps what it has."""
    level, number = spot
    if level:
        return (0, 0, 0)
    at = number * 256 - (tree.size - len(rows))
    return rows[at].place if at >= 0 else (0, 0, 0)
