"""A witness: another institution or the regulator keeps the log's heads, so that the log cannot
show one tree to one and another to the next, nor go back (C2SP tlog-witness, tlog-cosignature).

A witness trusts nothing but the key that the log began with. It asks for the newest head, has it
proved that it contains the last one that it keeps, signs it with its own key and the time, and puts
it behind the others in a file that only grows. What does not follow is refused and never signed;
`fhir-gateway audit verify --witness FILE` holds the file against the database.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.audit.tree import EMPTY, extends
from fhir_gateway.errors import Conflict, Invalid, Unavailable
from fhir_gateway.interactions.outbound import Fetched
from fhir_gateway.transparency.note import (
    LONGEST,
    Checkpoint,
    Malformed,
    Note,
    Signer,
    Verifier,
    decoded,
    is_signed,
    read_checkpoint,
    read_note,
    timed_by,
)
from fhir_gateway.transparency.sequencer import LATE_SECONDS
from fhir_gateway.transparency.statement import Statement, check_chain, in_force
from fhir_gateway.transparency.verify_heads import read_witness

#: Hashes of the longest proof that a tree of 2^63 leaves can need, and bytes of the longest answer.
_MOST_HASHES, _MOST_BYTES = 130, 4_000_000

#: Asks the log for a path below /audit-log.
Ask = Callable[[str], Awaitable[Fetched]]


class Witnessed(NamedTuple):
    """What was seen: the head with the witness's signature, whether it was new, how many seconds
    ago the log signed it, and whether that is too long."""

    note: str
    said: Checkpoint
    new: bool
    age: int
    late: bool


async def witness(
    ask: Ask,
    file: Path,
    signer: Signer,
    *,
    now: int,
    key: Verifier | None = None,
    accept_recovery: bool = False,
) -> Witnessed:
    """Keeps the newest head in the file. `now` is seconds; `key` what the log must begin with.

    Raises Conflict when the log went back, shows another tree, or was recovered and
    `accept_recovery` was not said; Invalid for a file that is none; Unavailable when the log
    answers with what is no head or no proof.
    """
    kept = _kept(file)
    chain = await _chain(ask, key, kept)
    text = await _asked(ask, "/checkpoint", LONGEST)
    note, said = _head(text, chain)
    age = _age(note, chain, now)
    if kept:
        await _check_follows(ask, kept, said, chain, accept_recovery)
    signed = str(Note(note.text, (*note.signatures, signer.cosign(note.text, now))))
    new = not kept or kept[-1][1] != said
    if new:
        _append(file, signed)
    return Witnessed(signed, said, new, age, age > LATE_SECONDS)


def _kept(file: Path) -> list[tuple[str, Checkpoint]]:
    try:
        return read_witness(file.read_text("utf-8")) if file.exists() else []
    except (Malformed, UnicodeDecodeError, OSError) as error:
        raise Invalid(
            f"The witness file {file} is not as it was written ({error}); put back a copy of it",
            rule="witness-file",
        ) from None


async def _chain(
    ask: Ask, key: Verifier | None, kept: list[tuple[str, Checkpoint]]
) -> list[Statement]:
    """The log's statements, which must lead from the key that is trusted."""
    try:
        told = msgspec.json.decode(await _asked(ask, "/statements", _MOST_BYTES))
        chain = check_chain([str(each["note"]) for each in told])
    except (Malformed, msgspec.DecodeError, TypeError, KeyError) as error:
        raise _refused(f"its statements do not hold ({error})") from None
    if not chain:
        raise _refused("it has not begun")
    if key is not None and chain[0].key != key:
        raise _refused("it did not begin with the key that is trusted")
    for text, said in kept:
        if not any(is_signed(read_note(text), each.key) for each in chain):
            raise _refused(f"it denies the key of the head of size {said.size} that is kept")
    return chain


def _head(text: str, chain: list[Statement]) -> tuple[Note, Checkpoint]:
    try:
        note = read_note(text)
        said = read_checkpoint(note.text)
    except Malformed as error:
        raise _refused(f"its checkpoint cannot be read ({error})") from None
    statement = in_force(chain, said.size)
    if statement is None or said.origin != statement.origin or not is_signed(note, statement.key):
        raise _refused("its checkpoint is not signed as its statements say")
    return note, said


def _age(note: Note, chain: list[Statement], now: int) -> int:
    times = [time for _, time in timed_by(note, {each.key for each in chain})]
    return max(0, now - max(times)) if times else LATE_SECONDS + 1


async def _check_follows(
    ask: Ask,
    kept: list[tuple[str, Checkpoint]],
    said: Checkpoint,
    chain: list[Statement],
    accept_recovery: bool,
) -> None:
    """Raises Conflict unless the head contains the last one that is kept."""
    last = kept[-1][1]
    if said.origin != last.origin:
        last = _before_recovery(kept, said, chain, accept_recovery)
    if said.size < last.size:
        raise Conflict(
            f"The log went back from size {last.size} to {said.size}: it was set back to an earlier"
            " state, or shows others another tree. Nothing was signed",
            rule="witness-back",
        )
    path = await _proof(ask, last.size, said.size) if 0 < last.size < said.size else []
    if not extends(last.size, last.root, said.size, said.root, path):
        raise Conflict(
            f"The log does not contain its own head of size {last.size} any more: it shows two"
            " trees. Nothing was signed; keep this file and ask the log's operator",
            rule="witness-split",
        )


def _before_recovery(
    kept: list[tuple[str, Checkpoint]],
    said: Checkpoint,
    chain: list[Statement],
    accept_recovery: bool,
) -> Checkpoint:
    """The newest kept head that a recovery has left standing."""
    last = kept[-1][1]
    for before, after in pairwise(chain):
        if before.origin == last.origin != after.origin:
            if not accept_recovery:
                raise Conflict(
                    f"The log was recovered from size {after.size} ({after.reason}), and the kept"
                    f" head of size {last.size} was given up. Ask the operator why, then say"
                    " --accept-recovery",
                    rule="witness-recovery",
                )
            left = [one for _, one in kept if one.origin == last.origin and one.size <= after.size]
            return left[-1] if left else Checkpoint(said.origin, 0, EMPTY)
    raise Conflict(
        f"The log calls itself {said.origin} now, and no statement says why. Nothing was signed",
        rule="witness-origin",
    )


async def _proof(ask: Ask, first: int, second: int) -> list[bytes]:
    text = await _asked(ask, f"/proof/consistency?first={first}&second={second}", _MOST_BYTES)
    try:
        told: Any = msgspec.json.decode(text)
        path = [decoded(each) for each in told["path"]]
    except (Malformed, msgspec.DecodeError, TypeError, KeyError):
        raise _refused("its proof cannot be read") from None
    if len(path) > _MOST_HASHES or any(len(each) != 32 for each in path):
        raise _refused("its proof is none")
    return path


async def _asked(ask: Ask, path: str, most: int) -> str:
    answer = await ask(path)
    where = path.partition("?")[0]
    if answer.status in (401, 403):
        what = "show a bearer token that may read the audit log's heads and proofs"
        raise _refused(f"it answers {where} with status {answer.status}: {what}")
    if answer.status != 200:
        raise _refused(f"it answers {where} with status {answer.status}")
    if len(answer.body) > most:
        raise _refused(f"its answer to {where} is longer than any that is right")
    try:
        return answer.body.decode()
    except UnicodeDecodeError:
        raise _refused("it answers with what is no text") from None


def _append(file: Path, note: str) -> None:
    """Puts a note behind the others, on the disk when this returns."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, f"{note}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(what: str) -> Unavailable:
    return Unavailable(f"The log is not one to witness: {what}", rule="witness-log")
