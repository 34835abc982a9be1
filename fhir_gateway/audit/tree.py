"""The Merkle tree of the audit log: leaves, nodes, roots and proofs (RFC 6962 2.1, RFC 9162 2.1).

A leaf is SHA-256(0x00 ‖ nonce ‖ tail): the nonce, kept with its record, hides what a record says
from those who only see hashes. Numbering, signing and serving the tree is the transparency room's.
All functions are pure; trees are given as sequences of leaf hashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

EMPTY = sha256(b"").digest()


def leaf(nonce: bytes, tail: bytes) -> bytes:
    """The leaf hash of a record."""
    return sha256(b"\x00" + nonce + tail).digest()


def node(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The tree head over these leaf hashes; of an empty list SHA-256 of nothing."""
    if not leaves:
        return EMPTY
    level = list(leaves)
    while len(level) > 1:
        paired = [node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = paired + level[len(paired) * 2 :]  # an odd last node moves up unchanged
    return level[0]


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The sibling hashes from leaf `index` up to the root. Raises IndexError outside the tree."""
    if not 0 <= index < len(leaves):
        raise IndexError("no such leaf")
    proof = []
    level, at = list(leaves), index
    while len(level) > 1:
        sibling = at ^ 1
        if sibling < len(level):
            proof.append(level[sibling])
        paired = [node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = paired + level[len(paired) * 2 :]
        at >>= 1
    return proof


def consistency_proof(leaves: Sequence[bytes], earlier: int) -> list[bytes]:
    """That the tree over the first `earlier` leaves is a prefix of this one (RFC 9162 2.1.4.1).

    Empty for an earlier size of 0 or of the whole tree. Raises IndexError for a larger one.
    """
    if not 0 <= earlier <= len(leaves):
        raise IndexError("the earlier tree is larger than this one")
    if earlier in (0, len(leaves)):
        return []
    return _subproof(earlier, leaves, known=True)


def _subproof(earlier: int, leaves: Sequence[bytes], *, known: bool) -> list[bytes]:
    """SUBPROOF of the RFC; `known` says whether the verifier has this subtree's hash already."""
    if earlier == len(leaves):
        return [] if known else [root(leaves)]
    split = _split(len(leaves))
    left, right = leaves[:split], leaves[split:]
    if earlier <= split:
        return [*_subproof(earlier, left, known=known), root(right)]
    return [*_subproof(earlier - split, right, known=False), root(left)]


def _split(size: int) -> int:
    """The largest power of two smaller than `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def includes(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], head: bytes) -> bool:
    """Whether the proof leads from the leaf to the head (RFC 9162 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    at, last, found = index, size - 1, leaf_hash
    for sibling in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = node(sibling, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node(found, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and found == head


def extends(
    earlier: int, earlier_head: bytes, size: int, head: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the proof shows that the later tree begins with the earlier (RFC 9162 2.1.4.2)."""
    if not 0 <= earlier <= size:
        return False
    if earlier in (0, size):  # nothing to walk: an empty proof, and the head is known
        return not proof and earlier_head == (head if earlier else EMPTY)
    path = [earlier_head, *proof] if earlier & (earlier - 1) == 0 else list(proof)
    return bool(path) and _climb(path, earlier - 1, size - 1) == (earlier_head, head)


def _climb(path: Sequence[bytes], at: int, last: int) -> tuple[bytes, bytes] | None:
    """The two heads that the path leads to; None when it is too long or too short."""
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return None
        if at & 1 or at == last:
            old, new = node(sibling, old), node(sibling, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = node(new, sibling)
        at, last = at >> 1, last >> 1
    return (old, new) if last == 0 else None
