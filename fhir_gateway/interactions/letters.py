"""What a door received, on its way into the register of messages. docs/messages.md

A door says what it holds with `received`; whatever is written meanwhile, or refused, tells the
register so in its own commit: the message with the resources that were made of it, or with the
AuditEvent of its refusal, and then with its bytes. No door writes the register by itself.

    with received(Letter("hl7v2", raw, V2_MEDIA, key=…, name=…, institution=sender.id)):
        outcome = await transaction(…)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Issue, PreconditionFailed, Unavailable
from fhir_gateway.interactions.pace import prepared
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.blobs import pack
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.message_changes import MessageRow, RefusedBody
from fhir_gateway.store.messages import expired_steps, kept_steps, oldest_steps
from fhir_gateway.store.store import Store

STORED, FLAGGED, REFUSED, REPEATED = "stored", "flagged", "refused", "repeated"

#: Doors whose refusals wait on the list of dead letters; who calls the others has the answer.
DEAD = frozenset({"hl7v2", "table", "cda"})

#: Issues that are kept of one message.
_MOST_ISSUES = 50

#: Bytes of refused messages that one commit lets go.
_PIECE = 200


#: Who has the message under way tried again, "" for its sender.
RETRIED_BY: ContextVar[str] = ContextVar("retried-by", default="")


@dataclass(slots=True)
class Letter:
    """A message as a door holds it. `key` is what makes it the same one, b"" for its content;
    `name` what a person asks for; `stated` the time that it says of itself (µs, 0 none); `who`
    names who has it tried again. `answer` makes what is answered to a refusal.

    `warnings`, `code` and `ack` are told by the door before it stores. `part` says that several
    commits come of one message: they keep its bytes, and the door settles it at the end. `each`
    says that every one that is stored is another, even with the same content.
    """

    door: str
    raw: bytes
    media: str
    key: bytes = b""
    name: str = ""
    kind: str = ""
    institution: str = ""
    stated: int = 0
    who: str = ""
    answer: Callable[[GatewayError], bytes] | None = None
    warnings: Sequence[Issue] = ()
    code: str = ""
    ack: bytes = b""
    part: bool = False
    each: bool = False
    told: bool = False
    stored: int = 0
    unmapped: list[str] = field(default_factory=list)
    hash: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.hash = sha256(self.raw).digest()
        self.who = self.who or RETRIED_BY.get()


LETTER: ContextVar[Letter | None] = ContextVar("letter", default=None)


@contextmanager
def received(letter: Letter) -> Iterator[Letter]:
    """What is written or refused meanwhile is of this message."""
    token = LETTER.set(letter)
    try:
        yield letter
    finally:
        LETTER.reset(token)


def under_way() -> Letter | None:
    """The message under way that is not registered yet."""
    letter = LETTER.get()
    return None if letter is None or letter.told else letter


# -- what is stored --------------------------------------------------------------------------------


def stored_row(
    letter: Letter, resources: Iterable[dict[str, Any]], unmapped: Sequence[str]
) -> MessageRow:
    """The row of a message of which these resources are stored. `unmapped` are FHIRPath
    expressions of what no code map knows."""
    reports = [one for one in resources if one["resourceType"] == "DiagnosticReport"]
    corrects = any(one.get("status") in _CORRECTIONS for one in reports)
    issued = [time for one in reports if (time := _micros(one.get("issued")))]
    told = [_told("warning", issue) for issue in letter.warnings]
    told += [{"severity": "information", "rule": "unmapped", "expression": one} for one in unmapped]
    key = letter.key or (letter.name.encode() if letter.each else letter.hash)
    return MessageRow(
        letter.institution, letter.door, key, letter.name, letter.hash,
        len(letter.raw), FLAGGED if told else STORED, letter.code, "", _issues(told), letter.ack,
        letter.stated, f"{letter.kind} {CORRECTION}" if corrects else letter.kind,
        max(issued, default=0), "", letter.who,
    )  # fmt: skip


#: What the kind of a message says besides, when it corrects a report.
CORRECTION = "correction"

_CORRECTIONS = frozenset({"corrected", "amended", "appended"})


def _micros(text: str | None) -> int:
    """An instant of FHIR in µs; 0 for none."""
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1_000_000) if text else 0
    except ValueError:
        return 0


def _issues(told: Sequence[dict[str, Any]]) -> bytes:
    return msgspec.json.encode(told[:_MOST_ISSUES]) if told else b""


def _told(severity: str, issue: Issue) -> dict[str, Any]:
    said = {
        "severity": severity,
        "code": issue.code,
        "rule": issue.rule,
        "diagnostics": issue.diagnostics,
        "expression": issue.expression,
    }
    return {name: value for name, value in said.items() if value}


async def settle_parts(
    gateway: Gateway, letter: Letter, *, stored: int, refused: Sequence[GatewayError]
) -> None:
    """Registers a message of which several commits came, once they are done: flagged where only
    some of it is stored, refused where nothing is."""
    letter.part = False
    if not letter.institution or not (stored or refused):
        return
    if stored:
        letter.warnings = [issue for error in refused for issue in error.issues]
        change_set = ChangeSet(id=b"", messages=[stored_row(letter, (), letter.unmapped)])
        letter.told = True
    else:
        with received(letter):
            rows, bodies, dropped = await refusal_rows(gateway, refused[0])
        change_set = ChangeSet(id=b"", messages=rows, refused=bodies, dropped=dropped)
    await gateway.store.commit(change_set)


async def repeated(gateway: Gateway, letter: Letter) -> None:
    """Counts a repeat. The answer was given before, so it does not depend on this."""
    try:
        row = msgspec.structs.replace(stored_row(letter, (), ()), outcome=REPEATED)
        letter.told = True
        prepared()
        await gateway.store.commit(ChangeSet(id=b"", messages=[row]))
    except Unavailable:
        gateway.count("messages_uncounted", 1)


# -- what is refused -------------------------------------------------------------------------------


async def refusal_rows(
    gateway: Gateway, error: GatewayError
) -> tuple[list[MessageRow], list[RefusedBody], list[bytes]]:
    """What the commit of a refusal says of the message under way: its row, its bytes, and the
    hashes of older bytes that have to go for them. Nothing where no institution is known, where
    the fault is ours, or where a version was overtaken (it is tried again)."""
    letter = under_way()
    if letter is None or letter.part or not letter.institution:
        return [], [], []
    if error.status >= 500 or isinstance(error, PreconditionFailed):
        return [], [], []
    letter.told = True
    if letter.answer is not None:
        letter.ack = letter.answer(error)
    row = MessageRow(
        letter.institution, letter.door, letter.key or letter.hash, letter.name, letter.hash,
        len(letter.raw), REFUSED, error.acknowledgement if letter.ack else str(error.status),
        error.issues[0].rule or error.issues[0].code,
        _issues([_told("error", issue) for issue in error.issues]), letter.ack, letter.stated,
        letter.kind, 0, "open" if letter.door in DEAD else "",
    )  # fmt: skip
    enc, body = pack(letter.raw)
    kept = RefusedBody(letter.hash, letter.institution, len(body), letter.media, enc, body)
    dropped, fits = await _room(gateway, letter.institution, len(body))
    return [row], [kept] if fits else [], dropped


class _Purse(NamedTuple):
    """Bytes of refusals that an institution has kept, and when they were counted (µs)."""

    total: int
    at: int


#: Counted anew when there seems to be no room, and every hour, so that old ones go.
_purses: WeakKeyDictionary[Store, dict[str, _Purse]] = WeakKeyDictionary()
_HOUR = 3_600_000_000


async def _room(gateway: Gateway, institution: str, size: int) -> tuple[list[bytes], bool]:
    """The hashes of the oldest bytes that go for new ones, and whether these are kept at all."""
    limit = gateway.settings.refused_bytes
    if size > limit:
        return [], False
    purses, now = _purses.setdefault(gateway.store, {}), gateway.clock.now()
    known = purses.get(institution)
    if known is not None and known.total + size <= limit and now - known.at < _HOUR:
        purses[institution] = known._replace(total=known.total + size)
        return [], True
    since = now - gateway.settings.refused_days * 24 * _HOUR
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        total = await reader.steps(lambda _: kept_steps(institution))
        oldest = await reader.steps(lambda _: oldest_steps(institution, _PIECE))
        expired = await reader.steps(lambda _: expired_steps(since, _PIECE))
    gone = dict.fromkeys(expired)
    for one in oldest:
        if one.at >= since and total + size <= limit:
            break
        gone[one.hash] = None
        total -= one.size
    fits = total + size <= limit
    purses[institution] = _Purse(total + size * fits, now)
    return list(gone), fits
