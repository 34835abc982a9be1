"""The watermark: up to where the audit log is numbered and signed, and how far it is behind."""

from __future__ import annotations

from typing import NamedTuple

from fhir_gateway.context import Clock
from fhir_gateway.store import log
from fhir_gateway.store.log import NOWHERE, Logged
from fhir_gateway.transparency.note import read_signature, time_of
from fhir_gateway.transparency.sequencer import LATE_SECONDS

#: An entry that waits longer than this for its number is late.
WAIT_SECONDS = 60


class Watermark(NamedTuple):
    """The newest head, and what is behind it.

    `signed` and `heard` are seconds: when the head was signed, and when it was last signed again.
    `waiting` are entries that have no number yet (at most 100,000 are counted), `behind` for how
    many seconds the first of them has waited. `alarm` says why nothing is signed.
    """

    size: int
    signed: int
    heard: int
    waiting: int
    behind: int
    silent: int
    alarm: str

    @property
    def late(self) -> bool:
        """Whether somebody has to look: nothing is signed, or not in time."""
        return bool(self.alarm) or self.behind > WAIT_SECONDS or self.silent > LATE_SECONDS


async def watermark(store: Logged, clock: Clock) -> Watermark:
    """How it stands now."""
    head = await log.last_head(store)
    seat = await log.seat(store)
    now = clock.now()
    waiting, first = await log.waiting(store, head.place if head is not None else NOWHERE)
    behind = max(0, now - first) // 1_000_000 if waiting else 0
    if head is None:
        return Watermark(0, 0, 0, waiting, behind, behind, seat.alarm)
    heard = time_of(read_signature(head.beat)) if head.beat else head.signed
    silent = max(0, now // 1_000_000 - heard)
    return Watermark(head.size, head.signed, heard, waiting, behind, silent, seat.alarm)
