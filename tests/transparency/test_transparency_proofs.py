"""Proofs from stored tiles, and both verifiers: they agree on what holds and on what does not."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
from audit_logs import SmallLog, standalone
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.audit import tree
from fhir_gateway.audit.tree_entry import entry_of, row_hash
from fhir_gateway.audit.tree_tiles import (
    Edge,
    Frontier,
    consistency,
    edge_spots,
    inclusion,
    root_of,
    run,
)
from fhir_gateway.cli.audit_prove import PROOF_FORMAT, _write
from fhir_gateway.errors import Invalid, NotFound
from fhir_gateway.store import log
from fhir_gateway.transparency import govern, keys, proofs
from fhir_gateway.transparency.entries import told_entry

VECTORS = json.loads((Path(__file__).parents[1] / "audit" / "rfc6962.json").read_text())
PUBLISHED = [tree.leaf(b"", bytes.fromhex(text)) for text in VECTORS["leaves"]]
MANY = [sha256(str(n).encode()).digest() for n in range(1_600)]
OTHER = standalone()


def tiles_of(leaves: list[bytes]) -> dict[tuple[int, int], bytes]:
    return Edge().append(leaves)


TILES = tiles_of(MANY)
WHOLE = OTHER.Tree(MANY)


@pytest.mark.parametrize("size", range(1, 9))
def test_tiles_and_both_verifiers_agree_with_the_published_vectors(size: int) -> None:
    tiles = tiles_of(PUBLISHED[:size])
    root = bytes.fromhex(VECTORS["roots"][size - 1])
    assert run(root_of(size), tiles) == OTHER.Tree(PUBLISHED[:size]).root(size) == root
    for case in (one for one in VECTORS["inclusion"] if one["size"] == size):
        proof = run(inclusion(case["index"], size), tiles)
        assert [step.hex() for step in proof] == case["proof"]
        assert OTHER.included(PUBLISHED[case["index"]], case["index"], size, proof, root)
    for case in (one for one in VECTORS["consistency"] if one["size"] == size):
        proof = run(consistency(case["earlier"], size), tiles)
        assert [step.hex() for step in proof] == case["proof"]


@settings(max_examples=examples(100))
@given(size=st.integers(1, 1_600), at=st.integers(0, 1_599), earlier=st.integers(0, 1_600))
def test_150_our_prover_satisfies_both_verifiers(size: int, at: int, earlier: int) -> None:
    at, earlier = at % size, earlier % (size + 1)
    root, early = run(root_of(size), TILES), run(root_of(earlier), TILES)
    assert root == WHOLE.root(size)
    path = run(inclusion(at, size), TILES)
    assert tree.includes(MANY[at], at, size, path, root)
    assert OTHER.included(MANY[at], at, size, path, root)
    path = run(consistency(earlier, size), TILES)
    assert tree.extends(earlier, early, size, root, path)
    assert OTHER.extends(earlier, early, size, root, path)


@settings(max_examples=examples(200))
@given(
    size=st.integers(0, 40),
    at=st.integers(-1, 41),
    claimed=st.integers(0, 41),
    change=st.sampled_from(
        ["none", "drop", "double", "swap", "flip", "empty", "long", "short", "root", "leaf"]
    ),
    where=st.integers(0, 10),
)
def test_150_both_verifiers_refuse_the_same_proofs(
    size: int, at: int, claimed: int, change: str, where: int
) -> None:
    root = run(root_of(size), TILES)
    good = run(inclusion(at, size), TILES) if 0 <= at < size else [MANY[5]]
    path = _changed(good, change, where)
    leaf = MANY[at + 1 if change == "leaf" else max(at, 0)]
    head = MANY[0] if change == "root" else root
    ours = tree.includes(leaf, at, claimed, path, head)
    assert OTHER.included(leaf, at, claimed, path, head) == ours
    if ours:
        assert (claimed == size or claimed > at) and head == root and 0 <= at < size
        assert change not in ("leaf", "root", "flip", "short") or path == good
    early = run(root_of(at), TILES) if 0 <= at <= size else MANY[1]
    good = run(consistency(at, size), TILES) if 0 <= at <= size else [MANY[5]]
    path = _changed(good, change, where)
    ours = tree.extends(at, early, claimed, head, path)
    assert OTHER.extends(at, early, claimed, head, path) == ours


def _changed(path: list[bytes], change: str, where: int) -> list[bytes]:
    path = list(path)
    if change == "empty":
        return []
    if change == "long":
        return path + [MANY[3]] * 500
    if not path:
        return [MANY[9]] if change == "double" else path
    at = where % len(path)
    if change == "drop":
        del path[at]
    elif change == "double":
        path.insert(at, path[at])
    elif change == "swap":
        path[at], path[0] = path[0], path[at]
    elif change == "flip":
        path[at] = bytes([path[at][0] ^ 1]) + path[at][1:]
    elif change == "short":
        path[at] = path[at][:31]
    return path


@settings(max_examples=examples(25))
@given(parts=st.lists(st.integers(1, 400), max_size=3))
def test_a_tree_that_grows_in_pieces_is_the_tree(parts: list[int]) -> None:
    edge, frontier, tiles, at = Edge(), Frontier(), {}, 0
    for part in parts:
        leaves = [MANY[n % 1_600] for n in range(at, at + part)]
        tiles.update(edge.append(leaves))
        for leaf in leaves:
            frontier.add(leaf)
        at += part
        assert edge.root() == frontier.root() == run(root_of(at), tiles)
        assert [(level, n) for level, (n, _) in sorted(edge.tiles.items())] == edge_spots(at)
    again = Edge(at, edge.tiles)
    assert again.append(MANY[:3]) == edge.append(MANY[:3])


@given(
    one=st.tuples(st.binary(max_size=6), st.none() | st.binary(max_size=6)),
    two=st.tuples(st.binary(max_size=6), st.none() | st.binary(max_size=6)),
)
def test_no_two_rows_have_one_entry(one: tuple, two: tuple) -> None:
    entries = [entry_of((1, 2, 3), 4, id, 5, 6, who, 7, bytes(32)) for id, who in (one, two)]
    assert (entries[0] == entries[1]) == (one == two)


def test_proofs_outside_the_tree_are_refused() -> None:
    for wrong in (inclusion(5, 5), inclusion(-1, 5), consistency(6, 5), inclusion(1_600, 2_000)):
        with pytest.raises((IndexError, KeyError)):
            run(wrong, TILES)


def test_records_are_proved_from_the_store(small: SmallLog) -> None:
    small.record(300)
    small.sign()
    small.record(220)
    small.sign()
    rows = small.rows()
    for at in (0, 1, 255, 256, 299, 300, 519):
        proven = small.run(proofs.prove_entry(small.gateway.store, rows[at]))
        assert (proven.number, proven.size, proven.leaf) == (at, 520, row_hash(rows[at]))
        assert tree.includes(proven.leaf, at, 520, proven.path, small.root())
        assert small.run(proofs.prove(small.gateway.store, at)) == proven
    early = small.run(proofs.prove_entry(small.gateway.store, rows[299], 300))
    assert OTHER.included(early.leaf, 299, 300, early.path, early.root)
    extended = small.run(proofs.extend(small.gateway.store, 300))
    assert tree.extends(300, extended.first_root, 520, extended.second_root, extended.path)
    assert extended.first_root == early.root
    with pytest.raises(NotFound):
        small.run(proofs.prove_entry(small.gateway.store, rows[300], 300))
    with pytest.raises(NotFound):
        small.run(proofs.prove(small.gateway.store, 1, 301))  # no head has that size
    with pytest.raises(Invalid):
        small.run(proofs.extend(small.gateway.store, 521))
    small.record(1)
    with pytest.raises(NotFound):
        small.run(proofs.prove_entry(small.gateway.store, small.rows()[-1]))


def exported(small: SmallLog, file: Path) -> Path:
    with file.open("w", encoding="utf-8") as out:
        small.run(_write(small.gateway.store, out))
    return file


def test_the_stand_alone_verifier_checks_what_was_exported(small: SmallLog, tmp_path: Path) -> None:
    small.record(30)
    small.sign()
    kept = small.head().note + "\n"
    small.run(govern.rotate(small.gateway, "a test"))
    small.record(230)
    small.clock.time += 61_000_000
    small.sign()
    small.clock.time += 61_000_000
    small.sign()
    file = exported(small, tmp_path / "log.jsonl")
    witness = tmp_path / "heads"
    witness.write_text(kept)
    key = OTHER.Key(str(keys.read_keys(small.key)[0].verifier))
    said = OTHER.check_log(str(file), key, str(witness))
    assert (said["records"], said["witnessed"]) == (261, 1)
    assert OTHER.main(["log", str(file), "--witness", str(witness)]) == 0
    witness.write_text(kept.replace("\n30\n", "\n31\n"))
    assert OTHER.main(["log", str(file), "--witness", str(witness)]) == 1
    with pytest.raises(OTHER.Wrong):
        OTHER.check_log(str(file), OTHER.Key(str(keys.read_keys(small.key)[1].verifier)))


@pytest.mark.drivers("sqlite")
def test_150_the_stand_alone_verifier_finds_what_was_changed(
    small: SmallLog, tmp_path: Path
) -> None:
    small.record(5)
    small.sign()
    small.record(4)
    small.run(govern.rotate(small.gateway, "a test"))
    file = exported(small, tmp_path / "log.jsonl")
    content = file.read_bytes()
    assert OTHER.main(["log", str(file)]) == 0
    spare = {line for line in content.split(b"\n") if b'"statement"' in line}
    for at in range(3, len(content) - 1, 41):
        changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        file.write_bytes(changed)
        line = content.count(b"\n", 0, at)
        if content.split(b"\n")[line] in spare and b'"note"' not in content.split(b"\n")[line]:
            continue
        code = OTHER.main(["log", str(file)])
        assert code in (1, 2) or _says_the_same(changed, content), at
    lines = content.split(b"\n")
    for wrong in (
        lines[:-2],
        lines[1:],
        [*lines[:-4], *lines[-3:]],
        [],
        [b"[]"],
        [b"{"],
        lines[:1],
    ):
        file.write_bytes(b"\n".join(wrong))
        assert OTHER.main(["log", str(file)]) in (1, 2)


def _says_the_same(one: bytes, two: bytes) -> bool:
    """Whether only what is told for convenience differs: not what is hashed or signed."""
    try:
        pairs = zip(one.splitlines(), two.splitlines(), strict=True)
        return all(_proven(json.loads(a)) == _proven(json.loads(b)) for a, b in pairs)
    except ValueError:
        return False


def _proven(line: dict) -> object:
    if "statement" in line:
        return line["statement"]["note"]
    if "head" in line:
        return [line["head"][name] for name in ("size", "note", "beat")]
    return line


def test_a_proof_in_a_file_holds_by_itself(small: SmallLog) -> None:
    small.record(9)
    small.sign()
    store, row = small.gateway.store, small.rows()[4]
    proven = small.run(proofs.prove_entry(store, row))
    told = {
        "format": PROOF_FORMAT,
        "statements": [turn.note for turn in small.run(log.turns(store))],
        "checkpoint": small.head().note,
        "index": proven.number,
        "path": [OTHER.base64.b64encode(each).decode() for each in proven.path],
        "entry": told_entry(row),
    }
    assert OTHER.check_proof(told)[:2] == (4, 9)
    for name, other in (("index", 5), ("path", told["path"][1:]), ("statements", []),
                        ("checkpoint", told["checkpoint"].replace("\n9\n", "\n8\n")),
                        ("path", told["path"] * 60), ("path", ["AA=="])):  # fmt: skip
        with pytest.raises(OTHER.Wrong):
            OTHER.check_proof({**told, name: other})
    for name in ("id", "patient", "tail"):
        with pytest.raises(OTHER.Wrong):
            OTHER.check_proof({**told, "entry": {**told["entry"], name: "other"}})
