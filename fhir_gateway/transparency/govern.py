"""What an operator does to the log: a new key, and a recovery after an older state was restored.

Both are statements (statement.py), told in the log itself, and both take the seat: the process that
signs goes on by the new statement.
"""

from __future__ import annotations

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.store import log
from fhir_gateway.transparency import keys, place
from fhir_gateway.transparency.note import (
    Checkpoint,
    Malformed,
    Note,
    Signer,
    read_checkpoint,
    read_note,
)
from fhir_gateway.transparency.sequencer import Sequencer
from fhir_gateway.transparency.statement import KEY, RECOVERY, Statement, plain_reason
from fhir_gateway.transparency.told import tell_statement


async def rotate(gateway: Gateway, reason: str) -> Statement:
    """A new key signs from now on; the old one stays in the file, for its heads stay good.

    The statement bears the signatures of both. A rotation that was cut short is finished by the
    next one. Raises Invalid without a usable key, Stopped when nothing may be signed.
    """
    sequencer = Sequencer(gateway)
    try:
        await sequencer.all(force=True)
        await sequencer.sit(force=True)
        tree = await sequencer.tree()
        held = place.signers(gateway.settings, begun=True)
        old = place.signer_of(held, tree.chain[-1].key)
        new = held[-1]
        if new.verifier == old.verifier:
            new = _with_new_key(gateway, held)
        statement = tree.chain[-1]._replace(
            number=len(tree.chain) + 1,
            kind=KEY,
            size=tree.size,
            root=tree.edge.root(),
            seconds=gateway.clock.now() // 1_000_000,
            key=new.verifier,
            lost=None,
            reason=plain_reason(reason),
        )
        await _state(gateway, sequencer, statement, [old, new])
    finally:
        await sequencer.vacate()
    return statement


def _with_new_key(gateway: Gateway, held: list[Signer]) -> Signer:
    """A new key of the same name, behind the others in the file."""
    signer = keys.new_signer(held[-1].verifier.name)
    keys.add_key(place.key_file(gateway.settings), [*held, signer])
    return signer


async def recover(gateway: Gateway, reason: str, lost: str | None = None) -> Statement:
    """The log goes on from an older state that was restored, under a new origin.

    `lost` is the newest head that was signed before, as a note; by default the one beside the keys.
    Raises Invalid when nothing was lost, or the head is none of this log's.
    """
    path = place.key_file(gateway.settings)
    noted = lost if lost is not None else keys.last_signed(path)
    sequencer = Sequencer(gateway)
    try:
        await sequencer.sit(force=True)
        tree = await sequencer.tree(recovering=True)
        gone = _lost(noted)
        head = await log.head_of(gateway.store, gone.size)
        if head is not None and read_checkpoint(read_note(head.note).text).root == gone.root:
            raise Invalid("The log still holds that head; there is nothing to recover from",
                          rule="log-whole")  # fmt: skip
        first = tree.chain[0].origin
        recoveries = sum(each.kind == RECOVERY for each in tree.chain)
        held = place.signers(gateway.settings, begun=True)
        signer = place.signer_of(held, tree.chain[-1].key)
        statement = tree.chain[-1]._replace(
            origin=f"{first}/recovery-{_next(recoveries, gone.origin, first)}",
            number=len(tree.chain) + 1,
            kind=RECOVERY,
            size=tree.size,
            root=tree.edge.root(),
            seconds=gateway.clock.now() // 1_000_000,
            lost=gone,
            reason=plain_reason(reason),
        )
        keys.forget_last(path)
        await _state(gateway, sequencer, statement, [signer])
    finally:
        await sequencer.vacate()
    return statement


def _next(recoveries: int, lost: str, first: str) -> int:
    """The number of a recovery: no origin comes twice, also when an earlier recovery was lost."""
    number = lost.removeprefix(f"{first}/recovery-")
    return max(recoveries, int(number) if number.isdigit() else 0) + 1


def _lost(noted: str | None) -> Checkpoint:
    if noted is None:
        raise Invalid(
            "There is no head beside the keys; name the newest that a witness holds, with --lost",
            rule="log-lost",
        )
    try:
        return read_checkpoint(read_note(noted).text)
    except Malformed as error:
        raise Invalid(f"The lost head cannot be read: {error}", rule="log-lost") from None


async def _state(
    gateway: Gateway, sequencer: Sequencer, statement: Statement, signers: list[Signer]
) -> None:
    """Records a statement: in the log itself, then as the one that heads are signed by."""
    text = str(statement)
    note = str(Note(text, tuple(signer.sign(text) for signer in signers)))
    event = await tell_statement(gateway, statement.kind, note)
    await sequencer.turn(statement, note, event)
    await sequencer.all()
