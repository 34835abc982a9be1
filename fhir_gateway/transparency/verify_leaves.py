"""The check of records against leaves: every stored byte is hashed again, in pieces that may run
side by side (RFC 9162 2.1.1).

A piece is a run of leaf tiles. The rows between the place of its first tile and that of the next
piece's must be exactly its leaves, in order: so a row that was removed, added, moved or changed
is found and named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fhir_gateway.audit.tree import leaf
from fhir_gateway.audit.tree_entry import entry_hash, entry_of
from fhir_gateway.audit.tree_tiles import WIDTH, split
from fhir_gateway.store.blobs import PURGED, unpack
from fhir_gateway.store.log import NOWHERE, Place
from fhir_gateway.transparency.purged import AUDIT_EVENT, Span, span_of
from fhir_gateway.transparency.verify_found import Finding
from fhir_gateway.transparency.verify_read import DAMAGE, Reading, Row

#: Tiles of one piece: 4,096 records.
TILES = 16

_END: Place = (1 << 62, 0, 0)


class Piece(NamedTuple):
    """A run of leaves: from the tile `first` on, up to `size` leaves of the log in all, standing
    from the place `begin` up to the place `end`, that one left out."""

    first: int
    size: int
    begin: Place
    end: Place


class Checked(NamedTuple):
    """What came of a piece."""

    leaves: int
    findings: list[Finding]
    events: list[tuple[str, bool]]  # of the AuditEvents that were asked for: do they say it
    gone: list[Place]  # of records that were removed
    spans: list[Span]  # that events of the gateway say were removed


def check_piece(
    reading: Reading, piece: Piece, events: Mapping[str, bytes], *, numbered: bool = True
) -> Checked:
    """Hashes the records of a piece again.

    `events` are AuditEvents that must hold a text. Without `numbered` the records have no leaves
    yet, and only their own commitments are checked.
    """
    try:
        rows = _rows(reading, piece)
    except DAMAGE as error:
        where = f"records from place {piece.begin} on"
        damage = Finding("damage", where, f"they cannot be read ({error.__class__.__name__})")
        return Checked(0, [damage], [], [], [])
    checked = Checked(len(rows), [], [], [], [])
    hashes = [_look(row, events, checked) for row in rows]
    if numbered:
        named = {each.where for each in checked.findings}
        checked.findings.extend(_against_tiles(reading, piece, rows, hashes, named))
    return checked


def _rows(reading: Reading, piece: Piece) -> list[Row]:
    id, patient = reading.as_bytes.format("j.id"), reading.as_bytes.format("j.patient")
    return reading.rows(
        f"SELECT j.t, j.n, j.i, j.type, {id}, j.home, j.updated, {patient}, j.owner, j.nonce,"  # noqa: S608 - constants
        " j.leaf, j.enc, j.body FROM journal j"
        " WHERE (j.t, j.n, j.i) >= (?, ?, ?) AND (j.t, j.n, j.i) < (?, ?, ?)"
        " ORDER BY j.t, j.n, j.i",
        (*piece.begin, *piece.end),
    )


def _look(row: Row, events: Mapping[str, bytes], checked: Checked) -> bytes:
    """The leaf of a row as it is stored; takes note of what is wrong with it and what it tells."""
    t, n, i, type, id, home, updated, patient, owner, nonce, commitment, enc, body = row
    try:
        tail = b""
        if enc == PURGED and not body and not nonce and type == AUDIT_EVENT:
            checked.gone.append((t, n, i))
        else:
            tail = unpack(enc, body)
            if leaf(nonce, tail) != commitment:
                what = "the record does not give its commitment"
                checked.findings.append(Finding("changed", _name(row), what))
            elif (span := span_of(type, owner, tail)) is not None:
                checked.spans.append(span)
        if events and (name := _text(id)) in events:
            checked.events.append((name, events[name] in tail))
        return entry_hash(entry_of((t, n, i), type, id, home, updated, patient, owner, commitment))
    except Exception as error:  # whatever was written there is no record any more
        why = f"it cannot be read ({error.__class__.__name__})"
        checked.findings.append(Finding("changed", _name(row), why))
        return b""


def _against_tiles(
    reading: Reading, piece: Piece, rows: Sequence[Row], hashes: Sequence[bytes], named: set[str]
) -> list[Finding]:
    tiles = reading.rows(
        "SELECT number, t, n, i, hashes FROM log_tile WHERE level = 0 AND number >= ?"
        " AND number < ? ORDER BY number",
        (piece.first, piece.first + TILES),
    )
    begin = piece.first * WIDTH
    leaves = split(b"".join(bytes(tile[4]) for tile in tiles))[: piece.size - begin]
    found = [
        Finding("changed", f"tile 0/{number}", "it does not begin where its first record stands")
        for number, t, n, i, _ in tiles
        if number * WIDTH - begin < len(rows)
        and (t, n, i) != tuple(rows[number * WIDTH - begin][:3])
    ]
    for size, *place in reading.rows(
        "SELECT size, t, n, i FROM log_head WHERE size > ? AND size <= ?", (begin, piece.size)
    ):
        if size - begin <= len(rows) and tuple(place) != tuple(rows[size - begin - 1][:3]):
            what = "it does not end where its last record stands"
            found.append(Finding("changed", f"head {size}", what))
    if list(hashes) != leaves:
        found += _differences(begin, leaves, rows, hashes, named)
    return found


def _differences(
    begin: int,
    leaves: Sequence[bytes],
    rows: Sequence[Row],
    hashes: Sequence[bytes],
    named: set[str],
) -> list[Finding]:
    """Names the records by which the journal and the tree differ."""
    known, there = set(leaves), set(hashes)
    lost = [index for index, hashed in enumerate(leaves) if hashed not in there]
    strange = [at for at, hashed in enumerate(hashes) if hashed not in known]
    found = []
    if len(rows) == len(leaves):
        found += [
            Finding("changed", _name(rows[at]), f"it does not give its leaf {begin + at}")
            for at in strange
            if _name(rows[at]) not in named
        ]
        if not strange:
            found += [
                Finding("reordered", _name(rows[at]), f"it does not stand at its leaf {begin + at}")
                for at, hashed in enumerate(hashes)
                if hashed != leaves[at]
            ][:8]
        return found
    found += [Finding("added", _name(rows[at]), "the tree has no leaf for it") for at in strange]
    found += [
        Finding("removed", f"leaf {begin + index}", "no record in the journal gives it")
        for index in lost
    ]
    if not found:
        found.append(Finding("added", _name(rows[0]) if rows else f"leaf {begin}",
                             "records stand more than once"))  # fmt: skip
    return found


def _name(row: Row) -> str:
    return f"record {_text(row[4])} at place ({row[0]}, {row[1]}, {row[2]})"


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else repr(value)


def pieces_of(reading: Reading, size: int, last: Place, *, start: int = 0) -> list[Piece]:
    """The pieces of a log of that size, whose last record stands at `last`; from a leaf on."""
    places = {
        number: (t, n, i)
        for number, t, n, i in reading.rows(
            "SELECT number, t, n, i FROM log_tile WHERE level = 0 ORDER BY number"
        )
    }
    firsts = list(range(0, -(-size // WIDTH), TILES))
    begins = [NOWHERE if not first else places.get(first, NOWHERE) for first in firsts]
    ends = [*begins[1:], (last[0], last[1], last[2] + 1)][: len(begins)]
    return [
        Piece(first, min(size, (first + TILES) * WIDTH), begin, end)
        for first, begin, end in zip(firsts, begins, ends, strict=True)
        if (first + TILES) * WIDTH > start
    ]


def behind(last: Place) -> Piece:
    """The records that have no leaves yet."""
    return Piece(0, 0, (last[0], last[1], last[2] + 1), _END)
