"""The Merkle tree kept in tiles of 256 hashes (C2SP tlog-tiles; RFC 9162 2.1): how it grows, and
its roots and proofs.

The tile (level 0, number N) holds the leaves 256 N to 256 N + 255; the one at (level L, N) the
roots of 256 whole tiles of the level below. A tile is as wide as it is filled. What reads is a
generator that asks for tiles by (level, number) and is sent their bytes, so that any store serves.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import TypeVar

from fhir_gateway.audit.tree import EMPTY, node, root
from fhir_gateway.audit.tree_entry import HASH

WIDTH, BITS = 256, 8

#: (level, number) of a tile.
Spot = tuple[int, int]

_T = TypeVar("_T")

#: Asks for tiles, is sent their bytes, and returns a value at the end.
Walk = Generator[Spot, bytes, _T]


def split(hashes: bytes) -> list[bytes]:
    """The hashes of a tile."""
    return [hashes[at : at + HASH] for at in range(0, len(hashes), HASH)]


class Edge:
    """The right edge of a tree: the last tile of each level, as far as it is filled.

    `tiles[level]` is (number, hashes); a level without a hash in its next tile is not there.
    """

    def __init__(self, size: int = 0, tiles: dict[int, tuple[int, bytes]] | None = None) -> None:
        self.size = size
        self.tiles = dict(tiles or {})

    def append(self, leaves: Sequence[bytes]) -> dict[Spot, bytes]:
        """The tree with more leaves; returns every tile that changed, whole as it is now."""
        changed: dict[Spot, bytes] = {}
        self._put(0, self.size, leaves, changed)
        self.size += len(leaves)
        return changed

    def _put(
        self, level: int, at: int, hashes: Sequence[bytes], changed: dict[Spot, bytes]
    ) -> None:
        """Adds hashes to a level from index `at` on, and whole tiles' roots to the one above."""
        done, above = 0, []
        first = at // WIDTH
        while done < len(hashes):
            number, filled = divmod(at + done, WIDTH)
            taken = hashes[done : done + WIDTH - filled]
            before = self.tiles[level][1] if filled else b""
            whole = before + b"".join(taken)
            changed[level, number] = whole
            done += len(taken)
            if len(whole) == WIDTH * HASH:
                above.append(root(split(whole)))
                self.tiles.pop(level, None)
            else:
                self.tiles[level] = (number, whole)
        if above:
            self._put(level + 1, first, above, changed)

    def root(self) -> bytes:
        """The root of the tree."""
        return run(root_of(self.size), {(level, n): h for level, (n, h) in self.tiles.items()})


def edge_spots(size: int) -> list[Spot]:
    """The tiles that the right edge of a tree of that size consists of."""
    spots, level = [], 0
    while size:
        number, filled = divmod(size, WIDTH)
        if filled:
            spots.append((level, number))
        size, level = number, level + 1
    return spots


def root_of(size: int) -> Walk[bytes]:
    """The root over the first `size` leaves."""
    return (yield from _range(0, size)) if size else EMPTY


def inclusion(index: int, size: int) -> Walk[list[bytes]]:
    """The inclusion proof of a leaf in the tree of that size (RFC 9162 2.1.3.1).

    Raises IndexError outside the tree.
    """
    if not 0 <= index < size:
        raise IndexError("no such leaf")
    proof: list[bytes] = []
    low, high = 0, size
    parts = []
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            parts.append((middle, high))
            high = middle
        else:
            parts.append((low, middle))
            low = middle
    for part in reversed(parts):
        proof.append((yield from _range(*part)))
    return proof


def consistency(earlier: int, size: int) -> Walk[list[bytes]]:
    """That the tree of `earlier` leaves is a prefix of that of `size` (RFC 9162 2.1.4.1).

    Empty for an earlier size of 0 or of the whole tree. Raises IndexError for a larger one.
    """
    if not 0 <= earlier <= size:
        raise IndexError("the earlier tree is larger than this one")
    if earlier in (0, size):
        return []
    parts, low, high = [], 0, size
    while earlier != high:
        middle = low + _split(high - low)
        if earlier <= middle:
            parts.append((middle, high))
            high = middle
        else:
            parts.append((low, middle))
            low = middle
    proof = [] if low == 0 else [(yield from _range(low, high))]
    for part in reversed(parts):
        proof.append((yield from _range(*part)))
    return proof


def run(walk: Walk[_T], tiles: dict[Spot, bytes]) -> _T:
    """What a walk returns over tiles in memory. Raises KeyError when one is not there."""
    try:
        spot = next(walk)
        while True:
            spot = walk.send(tiles[spot])
    except StopIteration as end:
        value: _T = end.value
        return value


class Frontier:
    """A tree that only grows: the roots of its whole subtrees, largest first."""

    def __init__(self) -> None:
        self.size = 0
        self._whole: list[tuple[int, bytes]] = []  # (height, root)

    def add(self, subtree: bytes, height: int = 0) -> None:
        """One more leaf, or a whole subtree of 2^height leaves where one fits."""
        self.size += 1 << height
        while self._whole and self._whole[-1][0] == height:
            subtree = node(self._whole.pop()[1], subtree)
            height += 1
        self._whole.append((height, subtree))

    def root(self, more: Iterable[bytes] = ()) -> bytes:
        """The root, or the one with these leaves behind, which are not kept."""
        whole = list(self._whole)
        for leaf in more:
            found, height = leaf, 0
            while whole and whole[-1][0] == height:
                found, height = node(whole.pop()[1], found), height + 1
            whole.append((height, found))
        if not whole:
            return EMPTY
        found = whole[-1][1]
        for _, left in reversed(whole[:-1]):
            found = node(left, found)
        return found


def _range(low: int, high: int) -> Walk[bytes]:
    """The root over the leaves low to high - 1; a whole subtree is read from one tile."""
    count = high - low
    if count & (count - 1) == 0:
        level, rest = divmod(count.bit_length() - 1, BITS)
        at = low >> (level * BITS)
        number, first = divmod(at, WIDTH)
        hashes = yield (level, number)
        part = hashes[first * HASH : (first + (1 << rest)) * HASH]
        if len(part) != HASH << rest:
            raise IndexError("the tile is not filled so far")
        return root(split(part))
    middle = low + _split(count)
    left = yield from _range(low, middle)
    right = yield from _range(middle, high)
    return node(left, right)


def _split(size: int) -> int:
    """The largest power of two smaller than `size`."""
    return 1 << ((size - 1).bit_length() - 1)
