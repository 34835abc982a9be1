"""The check of the tree itself: every node from the leaves up, every head, every statement, and
the heads that a witness has kept (RFC 9162 2.1, C2SP tlog-tiles, tlog-checkpoint).

The tree is built anew from its leaves and asked for its root at the size of every head: so all
heads are consistent with each other, without a single proof being believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from fhir_gateway.audit.tree import root
from fhir_gateway.audit.tree_entry import HASH
from fhir_gateway.audit.tree_tiles import WIDTH, Frontier, split
from fhir_gateway.transparency.note import (
    Checkpoint,
    Malformed,
    holds,
    is_signed,
    read_checkpoint,
    read_note,
    read_signature,
    time_of,
    timed_by,
)
from fhir_gateway.transparency.statement import Statement, in_force
from fhir_gateway.transparency.verify_found import Finding
from fhir_gateway.transparency.verify_read import Reading, Row

#: Tiles that are read at once.
_READ = 256

Roots = Mapping[int, bytes]


class Signed(NamedTuple):
    """A head whose signatures were looked at: what it says, and when the log was heard of."""

    said: Checkpoint | None
    first: int
    last: int
    findings: list[Finding]


def check_nodes(
    reading: Reading, size: int, wanted: Sequence[int], told: Callable[[int], None]
) -> tuple[dict[int, bytes], int, list[Finding]]:
    """The roots at the wanted sizes, the number of nodes, and what is wrong with stored tiles."""
    wanted = sorted(set(wanted))
    roots: dict[int, bytes] = {}
    found: list[Finding] = []
    frontier, at = Frontier(), 0
    above: list[bytes] = []
    count = 0
    while at < len(wanted) and wanted[at] == 0:
        roots[0], at = frontier.root(), at + 1
    for number, leaves in _tiles(reading, 0, size, found):
        before = frontier.size
        if at < len(wanted) and wanted[at] <= before + len(leaves):
            for leaf in leaves:
                frontier.add(leaf)
                while at < len(wanted) and wanted[at] == frontier.size:
                    roots[wanted[at]], at = frontier.root(), at + 1
        elif len(leaves) == WIDTH:
            frontier.add(root(leaves), 8)
        if len(leaves) == WIDTH:
            above.append(root(leaves))
        count += len(leaves)
        told(number)
    level, below = 1, size // WIDTH
    while below:
        count += len(above)
        above = _check_level(reading, level, below, above, found)
        level, below = level + 1, below // WIDTH
    return roots, count, [*found, *_strange(reading, size)]


def _check_level(
    reading: Reading, level: int, size: int, reckoned: list[bytes], found: list[Finding]
) -> list[bytes]:
    """Compares the stored tiles of a level with what they must hold; the roots of its tiles."""
    above = []
    for number, hashes in _tiles(reading, level, size, found):
        right = reckoned[number * WIDTH : number * WIDTH + len(hashes)]
        if hashes != right:
            found.append(
                Finding("changed", f"tile {level}/{number}", "it is not what lies below it gives")
            )
        right = reckoned[number * WIDTH : (number + 1) * WIDTH]
        if len(right) == WIDTH:
            above.append(root(right))
    return above


def _tiles(
    reading: Reading, level: int, size: int, found: list[Finding]
) -> Iterator[tuple[int, list[bytes]]]:
    """The tiles of a level in order, as far as the level is filled."""
    for begin in range(0, -(-size // WIDTH), _READ):
        stored = {
            number: bytes(hashes)
            for number, hashes in reading.rows(
                "SELECT number, hashes FROM log_tile WHERE level = ? AND number >= ?"
                " AND number < ?",
                (level, begin, begin + _READ),
            )
        }
        for number in range(begin, min(begin + _READ, -(-size // WIDTH))):
            width = min(WIDTH, size - number * WIDTH)
            hashes = stored.get(number, b"")
            if len(hashes) != width * HASH:
                what = "it is missing" if not hashes else "it is not as long as it must be"
                found.append(Finding("changed", f"tile {level}/{number}", what))
            yield number, split(hashes[: width * HASH])


def _strange(reading: Reading, size: int) -> list[Finding]:
    """Tiles that no tree of that size has, and places where there is none to tell."""
    found = []
    for number, level, t, n, i in reading.rows("SELECT number, level, t, n, i FROM log_tile"):
        in_tree = 0 <= level < 8 and 0 <= number < -(-(size >> (8 * level)) // WIDTH)
        if not in_tree or (level and (t, n, i) != (0, 0, 0)):
            what = "the tree has no such tile" if not in_tree else "it names a place"
            found.append(Finding("added", f"tile {level}/{number}", what))
    return found


def check_head(head: Row, chain: Sequence[Statement]) -> Signed:
    """Checks the signatures of one stored head (size, t, n, i, signed, note, beat)."""
    size, signed, text, beat = head[0], head[4], head[5], head[6]
    where = f"head {size}"
    statement = in_force(chain, size)
    if statement is None:
        return Signed(None, 0, 0, [Finding("signature", where, "no statement goes before it")])
    try:
        note = read_note(text)
        said = read_checkpoint(note.text)
        later = read_signature(beat) if beat else None
    except (Malformed, TypeError) as error:
        return Signed(None, 0, 0, [Finding("changed", where, f"it cannot be read: {error}")])
    found = []
    if str(said) != note.text or said.size != size or said.origin != statement.origin:
        found.append(Finding("changed", where, "it is not the head that its row says"))
    times = timed_by(note, [statement.key])
    if not is_signed(note, statement.key) or [time for _, time in times] != [signed]:
        found.append(Finding("signature", where, "it is not signed by the log's key, at its time"))
    if len(note.signatures) != 2:
        found.append(Finding("signature", where, "it bears other signatures than it was given"))
    last = signed
    if later is not None:
        last = time_of(later)
        if not holds(note.text, later, statement.key.timed()) or last < signed:
            found.append(Finding("signature", where, "its later signature is not the log's"))
    return Signed(said, signed, last, found)


def check_order(heads: Sequence[tuple[int, Signed]]) -> list[Finding]:
    """Checks that the heads' times never go back."""
    found, before = [], 0
    for size, signed in heads:
        if signed.said is None:
            continue
        if signed.first < before:
            found.append(Finding("consistency", f"head {size}", "it is older than the one before"))
        before = signed.last
    return found


def check_roots(heads: Sequence[tuple[int, Signed]], roots: Roots) -> list[Finding]:
    """Compares the roots that were signed with those that the leaves give."""
    return [
        Finding("consistency", f"head {size}", "the leaves do not give its root")
        for size, signed in heads
        if signed.said is not None and signed.said.root != roots.get(size)
    ]


def check_statements(chain: Sequence[Statement], roots: Roots) -> list[Finding]:
    """Compares the trees that the statements name with those that the leaves give."""
    return [
        Finding("consistency", f"statement {each.number}", "the leaves do not give its tree")
        for each in chain
        if each.root != roots.get(each.size)
    ]


def read_witness(text: str) -> list[tuple[str, Checkpoint]]:
    """The heads of a witness file: notes, each behind the one before. Raises Malformed."""
    kept = []
    for part in split_notes(text):
        note = read_note(part)
        kept.append((part, read_checkpoint(note.text)))
    return kept


def split_notes(text: str) -> list[str]:
    """The notes of a file: each ends with its signatures and an empty line."""
    notes: list[str] = []
    current: list[str] = []
    signed = False
    for line in text.splitlines(keepends=True):
        if signed and not line.startswith("— "):
            notes.append("".join(current))
            current, signed = [], False
            if line == "\n":
                continue
        current.append(line)
        signed = line.startswith("— ")
    if "".join(current).strip():
        notes.append("".join(current))
    return notes


def check_witness(
    kept: Sequence[tuple[str, Checkpoint]],
    chain: Sequence[Statement],
    roots: Roots,
    size: int,
) -> list[Finding]:
    """Compares the heads that a witness has kept with the log as it is now.

    A head that the log does not hold any more is found also when the attacker has the log's key.
    """
    found = []
    origins = {statement.origin: statement for statement in chain}
    for text, said in kept:
        where = f"witnessed head {said.size} of {said.origin}"
        note = read_note(text)
        if not any(is_signed(note, statement.key) for statement in chain):
            found.append(Finding("witness", where, "it is not signed by a key of this log"))
        elif said.origin not in origins:
            found.append(Finding("witness", where, "the log knows nothing of this origin"))
        elif (gone := _given_up(said, chain)) is not None:
            found.append(Finding("witness", where, f"it was lost; statement {gone} gives it up"))
        elif said.size > size:
            found.append(
                Finding("witness", where, "the log is older than this head: it was set back")
            )
        elif roots.get(said.size) != said.root:
            found.append(Finding("witness", where, "the log shows another tree of this size"))
    return found


def _given_up(said: Checkpoint, chain: Sequence[Statement]) -> int | None:
    """The number of the recovery that gave up a head: it was signed, and restored without."""
    for before, statement in pairwise(chain):
        if statement.origin != before.origin == said.origin and said.size > statement.size:
            return statement.number
    return None
