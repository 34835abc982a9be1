"""The Merkle tree against published vectors, and its laws for every small size."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.audit import tree

VECTORS = json.loads((Path(__file__).parent / "rfc6962.json").read_text())
LEAVES = [tree.leaf(b"", bytes.fromhex(text)) for text in VECTORS["leaves"]]
MANY = [sha256(bytes([n])).digest() for n in range(70)]


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert tree.root([]) == sha256(b"").digest()


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_agree_with_the_published_vectors(size: int) -> None:
    assert tree.root(LEAVES[:size]).hex() == VECTORS["roots"][size - 1]


@pytest.mark.parametrize("case", VECTORS["inclusion"], ids=lambda c: f"{c['index']}of{c['size']}")
def test_inclusion_proofs_agree_with_the_published_vectors(case: dict) -> None:
    proof = tree.inclusion_proof(LEAVES[: case["size"]], case["index"])
    assert [step.hex() for step in proof] == case["proof"]


@pytest.mark.parametrize(
    "case", VECTORS["consistency"], ids=lambda c: f"{c['earlier']}to{c['size']}"
)
def test_consistency_proofs_agree_with_the_published_vectors(case: dict) -> None:
    proof = tree.consistency_proof(LEAVES[: case["size"]], case["earlier"])
    assert [step.hex() for step in proof] == case["proof"]


def test_the_nonce_is_part_of_the_leaf() -> None:
    assert tree.leaf(b"n" * 16, b"tail") == sha256(b"\x00" + b"n" * 16 + b"tail").digest()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 33, 64, 70])
def test_every_leaf_is_proved_and_no_other_place_or_head_is(size: int) -> None:
    leaves = MANY[:size]
    head = tree.root(leaves)
    for index, leaf in enumerate(leaves):
        proof = tree.inclusion_proof(leaves, index)
        assert tree.includes(leaf, index, size, proof, head)
        assert not tree.includes(leaf, index, size, proof, tree.EMPTY)
        assert not tree.includes(leaf, index, size, [*proof, leaf], head)
        assert not tree.includes(leaf, size, size, proof, head)
        if size > 1:
            assert not tree.includes(leaf, (index + 1) % size, size, proof, head)
            assert not tree.includes(leaf, index, size, proof[:-1], head)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 32, 70])
def test_every_prefix_is_proved_consistent_and_no_altered_one(size: int) -> None:
    leaves = MANY[:size]
    head = tree.root(leaves)
    for earlier in range(size + 1):
        proof = tree.consistency_proof(leaves, earlier)
        before = tree.root(leaves[:earlier])
        altered = tree.root([*leaves[: earlier - 1], tree.EMPTY]) if earlier else head
        assert tree.extends(earlier, before, size, head, proof)
        assert not tree.extends(earlier, altered, size, head, proof)
        assert not tree.extends(earlier, before, size, head, [*proof, head])


def test_a_leaf_outside_the_tree_and_a_larger_earlier_tree_are_refused() -> None:
    with pytest.raises(IndexError):
        tree.inclusion_proof(LEAVES, 8)
    with pytest.raises(IndexError):
        tree.consistency_proof(LEAVES, 9)
    assert not tree.extends(9, tree.EMPTY, 8, tree.root(LEAVES), [])


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(1, 64), st.integers(0, 63), st.lists(st.binary(min_size=32, max_size=32)))
def test_an_invented_proof_never_convinces(size: int, index: int, proof: list[bytes]) -> None:
    leaves = MANY[:size]
    head = tree.root(leaves)
    invented = bytes(32)
    assert not tree.includes(invented, index, size, proof, head)
    assert not tree.extends(min(index, size - 1), invented, size, head, proof)
