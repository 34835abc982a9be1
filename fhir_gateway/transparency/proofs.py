"""Heads, tiles and proofs of the audit log as it is stored (RFC 9162 2.1.3 and 2.1.4).

Everything is read from stored tiles: a proof takes as many reads as the tree has levels of tiles,
about three for ten million leaves.
"""

from __future__ import annotations

import re
from typing import NamedTuple, TypeVar

from fhir_gateway.audit.tree_entry import row_hash
from fhir_gateway.audit.tree_tiles import Walk, consistency, inclusion, root_of
from fhir_gateway.errors import Invalid, NotFound
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store import log
from fhir_gateway.store.draining import JOURNALED
from fhir_gateway.store.log import Head, JournalRow, Logged
from fhir_gateway.store.store import Store
from fhir_gateway.transparency.note import read_checkpoint, read_note

_T = TypeVar("_T")

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


class Proven(NamedTuple):
    """An entry's leaf, its number, and the way from it to the root of the tree of that size."""

    number: int
    leaf: bytes
    size: int
    root: bytes
    path: list[bytes]


class Extended(NamedTuple):
    """That the later tree begins with the earlier one."""

    first: int
    first_root: bytes
    second: int
    second_root: bytes
    path: list[bytes]


async def walked(store: Logged, walk: Walk[_T]) -> _T:
    """What a walk over tiles returns, each tile read once."""
    known: dict[tuple[int, int], bytes] = {}
    try:
        spot = next(walk)
        while True:
            if spot not in known:
                found = await log.tile(store, *spot)
                known[spot] = found.hashes if found is not None else b""
            spot = walk.send(known[spot])
    except StopIteration as end:
        value: _T = end.value
        return value


async def head_at(store: Logged, size: int | None) -> Head:
    """The head of a size, or the newest. Raises NotFound when there is none."""
    head = await (log.last_head(store) if size is None else log.head_of(store, size))
    if head is None:
        raise NotFound(
            "No head of the audit log was signed yet" if size is None
            else f"No head of size {size} was signed",
            rule="log-head",
        )  # fmt: skip
    return head


async def prove_entry(store: Logged, row: JournalRow, size: int | None = None) -> Proven:
    """The inclusion proof of an entry, in the newest head or that of a size.

    Raises NotFound while the entry is not numbered, or is not in the tree of that size.
    """
    tile = await log.tile_at(store, row.place)
    if tile is None:
        raise _unnumbered()
    index = tile.number * 256 + await log.rank(store, tile.place, row.place)
    return await prove(store, index, size, leaf=row_hash(row))


async def prove(
    store: Logged, index: int, size: int | None = None, *, leaf: bytes | None = None
) -> Proven:
    """The inclusion proof of the leaf at an index. Raises NotFound outside the tree."""
    head = await head_at(store, size)
    if not 0 <= index < head.size:
        raise _unnumbered()
    tile = await log.tile(store, 0, index // 256)
    stored = tile.hashes[index % 256 * 32 :][:32] if tile is not None else b""
    path = await walked(store, inclusion(index, head.size))
    root = read_checkpoint(read_note(head.note).text).root
    return Proven(index, stored if leaf is None else leaf, head.size, root, path)


async def extend(store: Logged, first: int, second: int | None = None) -> Extended:
    """The consistency proof between two sizes, the second by default the newest head's.

    Raises NotFound without a head of the second size, Invalid when the first is larger.
    """
    head = await head_at(store, second)
    if not 0 <= first <= head.size:
        raise Invalid(f"first must be from 0 to {head.size}", expression="first", rule="log-size")
    path = await walked(store, consistency(first, head.size))
    early = await walked(store, root_of(first))
    return Extended(first, early, head.size, read_checkpoint(read_note(head.note).text).root, path)


async def row_of(store: Store, id: str) -> JournalRow:
    """The journal entry of an AuditEvent or a GuidanceResponse ("Type/id", or an AuditEvent's id).

    Raises NotFound.
    """
    type, _, bare = id.rpartition("/")
    type = type or "AuditEvent"
    if type in JOURNALED and _ID.fullmatch(bare):
        async with store.snapshot(SYSTEM_ACCESS) as reader:  # which gives it its index rows
            stored = await reader.read(type, bare)
        row = await log.entry_of(store, type_key(type), bare) if stored is not None else None
        if row is not None:
            return row
    raise NotFound("There is no such record in the journal", rule="log-entry")


def _unnumbered() -> NotFound:
    return NotFound(
        "The tree of that size does not hold this entry; heads are signed about once a second",
        rule="log-index",
    )
