"""What the log states of itself, signed: that it began, changed its key, or was recovered.

A statement is a signed note (note.py) whose text is lines `WORD VALUE`. It names the tree as it
was, the key that signs from then on, and the origin of the heads to come. A change of key bears the
signatures of the old and the new one; a recovery names the head that was lost and gives the log a
new origin, for two heads of one size and one origin must never be.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import NamedTuple

from fhir_gateway.transparency.note import (
    Checkpoint,
    Malformed,
    Note,
    Verifier,
    decoded,
    is_signed,
    read_note,
    read_verifier,
)

BEGIN, KEY, RECOVERY = "begin", "key", "recovery"

_TITLE = "fhir-gateway audit log statement"
_WORDS = ("origin", "number", "kind", "tree", "time", "key", "lost", "reason")
_LONGEST_REASON = 500


class Statement(NamedTuple):
    """One statement. `lost` is the head that a recovery gives up, None otherwise."""

    origin: str
    number: int
    kind: str
    size: int
    root: bytes
    seconds: int
    key: Verifier
    lost: Checkpoint | None = None
    reason: str = ""

    def __str__(self) -> str:
        lost = "-" if self.lost is None else _tree(self.lost.size, self.lost.root)
        values = (
            self.origin, self.number, self.kind, _tree(self.size, self.root), self.seconds,
            self.key, lost, self.reason or "-",
        )  # fmt: skip
        lines = [f"{word} {value}" for word, value in zip(_WORDS, values, strict=True)]
        return "\n".join([_TITLE, *lines, ""])


def plain_reason(text: str) -> str:
    """A reason as a statement can hold it: one line, not too long."""
    return " ".join(text.split())[:_LONGEST_REASON]


def read_statement(text: str) -> tuple[Statement, Note]:
    """A statement and the note that bears it. Raises Malformed."""
    note = read_note(text)
    lines = note.text.split("\n")
    if lines[0] != _TITLE or len(lines) != len(_WORDS) + 2:
        raise Malformed("the note is no statement of an audit log")
    values = []
    for word, line in zip(_WORDS, lines[1:], strict=False):
        name, _, value = line.partition(" ")
        if name != word or not value:
            raise Malformed(f"the statement does not say its {word}")
        values.append(value)
    statement = _statement(values)
    if str(statement) != note.text:
        raise Malformed("the statement is not spelled as it is signed")
    return statement, note


def check_chain(texts: Sequence[str]) -> list[Statement]:
    """The statements of a log from its first on, each signed as it must be.

    Raises Malformed, with the number of the one that is not.
    """
    chain: list[Statement] = []
    for number, text in enumerate(texts, 1):
        try:
            statement, note = read_statement(text)
            _check_next(chain[-1] if chain else None, statement, note)
        except Malformed as error:
            raise Malformed(f"statement {number}: {error}") from None
        chain.append(statement)
    return chain


def in_force(chain: Sequence[Statement], size: int) -> Statement | None:
    """The statement that a head of that size is signed by."""
    found = None
    for statement in chain:
        if statement.size < size:
            found = statement
    return found


def _check_next(before: Statement | None, statement: Statement, note: Note) -> None:
    if statement.kind not in (BEGIN, KEY, RECOVERY):
        raise Malformed("its kind is not known")
    if (statement.kind == BEGIN) != (before is None):
        raise Malformed("a log begins once")
    if statement.number != (before.number + 1 if before else 1):
        raise Malformed("its number is not the next one")
    if before is not None and statement.size < before.size:
        raise Malformed("it goes back behind the one before it")
    if (statement.kind == RECOVERY) != (before is not None and before.origin != statement.origin):
        raise Malformed("a recovery, and nothing else, changes the origin")
    if statement.kind == RECOVERY and before is not None and before.key != statement.key:
        raise Malformed("a recovery keeps the key")
    for signed_by in {statement.key, before.key if before else statement.key}:
        if not is_signed(note, signed_by):
            raise Malformed(f"the signature of {signed_by.name} ({signed_by.id.hex()}) is missing")


def _statement(values: Sequence[str]) -> Statement:
    origin, number, kind, tree, seconds, key, lost, reason = values
    size, root = _read_tree(tree)
    gone = None if lost == "-" else Checkpoint(origin, *_read_tree(lost))
    return Statement(
        origin, _number(number), kind, size, root, _number(seconds), read_verifier(key), gone,
        "" if reason == "-" else reason,
    )  # fmt: skip


def _tree(size: int, root: bytes) -> str:
    return f"{size} {b64encode(root).decode()}"


def _read_tree(text: str) -> tuple[int, bytes]:
    size, _, root = text.partition(" ")
    return _number(size), decoded(root)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Malformed("a number is none")
    return int(text)
