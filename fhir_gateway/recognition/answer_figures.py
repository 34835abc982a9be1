"""How often institutions were reminded, recognised, repeated and on what ground: plain counts.

Rates are for reporting: with no reminder there is none, and never 0 %. A repeat whose ground does
not count as a refusal (images not supplied, serial monitoring) is counted apart; one without a
ground counts as *not given*. The same items of the same patient, asked for by the same person on
one day, are one reminder: a line that order-select has shown is not shown again to be signed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from fhir_gateway.context import Gateway
from fhir_gateway.fhir.wire import parse
from fhir_gateway.recognition.answer_model import REASON_MISSING, DoctorAnswer
from fhir_gateway.recognition.answer_rows import moment
from fhir_gateway.recognition.answer_task import answer_of
from fhir_gateway.recognition.model import Decision
from fhir_gateway.recognition.recorded import Recorded, recorded_of
from fhir_gateway.recognition.vocabulary import vocabulary_of
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.store import Stored
from fhir_gateway.terminology.reason import REASON_SYSTEM, Reason

#: Grounds that are no code of ours are counted under this name.
OTHER = "other"

#: Outcomes that show an earlier result.
REMINDING = frozenset({"recognize", "view-only"})

_PAGE = 500
_DAY = 86_400_000_000
_TYPES = ("Task", "Communication")


@dataclass(slots=True)
class Figures:
    """The counts of one institution. `reminded` are order lines for which there was an earlier
    result to look at, `recognizable` those of them where it could be used; `repeated` is by
    ground, `refused` those of them that count as a refusal."""

    reminded: int = 0
    recognizable: int = 0
    recognised: int = 0
    repeated: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    not_given: int = 0
    text_missing: int = 0
    cited: int = 0
    viewed: int = 0
    revoked: int = 0

    @property
    def unanswered(self) -> int:
        """Reminders that nobody answered: a class of their own."""
        return max(0, self.reminded - self.recognised - self.repeated.total())


def counted_as(answer: DoctorAnswer) -> str:
    """The name under which /metrics counts an answer (rest/metrics.py): no patient, no person."""
    return f"answers|{answer.institution}|{answer.state}|{ground_of(answer)}"


def reminders_as(institution: str) -> str:
    """The name under which /metrics counts order lines with an earlier result."""
    return f"reminders|{institution}"


def reminded(decision: Decision) -> int:
    """The order lines of a decision for which there is an earlier result to look at."""
    return len({item.key for item in decision.items if item.outcome in REMINDING})


def ground_of(answer: DoctorAnswer) -> str:
    """The code of a repeat's ground, `reason-missing` without one, "" for other answers."""
    if answer.state != "repeated":
        return ""
    if REASON_MISSING in answer.flags:
        return REASON_MISSING
    ground = answer.ground or {}
    return str(ground["code"]) if ground.get("system") == REASON_SYSTEM else OTHER


async def figures(
    gateway: Gateway, *, start: int, end: int, institution: str = ""
) -> dict[str, Figures]:
    """The counts of each institution, or of one, for answers and decisions of a period (µs).

    An answer counts as it stands now, on the day on which it was given. Raises TooCostly when
    the store is too slow to read.
    """
    found: dict[str, Figures] = {}
    reasons = vocabulary_of(gateway).reasons
    async for answer in answers_since(gateway, start):
        at = moment(answer.authored)
        if start <= at < end and answer.institution and institution in ("", answer.institution):
            add(found.setdefault(answer.institution, Figures()), answer, reasons)
    asked: set[tuple[str, ...]] = set()
    async for recorded in _decisions(gateway, start):
        query = recorded.inputs.query
        if start <= query.as_of_us < end and institution in ("", query.receiver):
            _remind(found.setdefault(query.receiver, Figures()), recorded, asked)
    return dict(sorted(found.items()))


def add(into: Figures, answer: DoctorAnswer, reasons: Mapping[str, Reason]) -> None:
    """Counts one answer."""
    if answer.state == "accepted":
        into.recognised += 1
    elif answer.state == "repeated":
        ground = ground_of(answer)
        into.repeated[ground] += 1
        known = reasons.get(ground)
        into.refused += known is None or known.counts_as_refusal
        into.not_given += ground == REASON_MISSING
        into.text_missing += "text-missing" in answer.flags
    elif answer.state == "cited":
        into.cited += 1
    elif answer.state == "viewed":
        into.viewed += 1
    elif answer.state == "revoked":
        into.revoked += 1


def _remind(into: Figures, recorded: Recorded, asked: set[tuple[str, ...]]) -> None:
    query = recorded.inputs.query
    for line in recorded.lines:
        outcomes = {item.outcome for item in line.items}
        if outcomes.isdisjoint(REMINDING):
            continue
        items = sorted(item.code for item in line.items)
        day = str(query.as_of_us // _DAY)
        key = (query.receiver, query.patient, recorded.user, day, *items)
        if key not in asked:
            asked.add(key)
            into.reminded += 1
            into.recognizable += "recognize" in outcomes


async def answers_since(gateway: Gateway, start: int) -> AsyncIterator[DoctorAnswer]:
    """The answers that were stored or changed since a moment (µs), each as it stands, those that
    changed last first."""
    seen: set[tuple[str, str]] = set()
    for type in _TYPES:
        async for stored in _changed(gateway, type, start):
            if (type, stored.id) not in seen and not stored.deleted:
                seen.add((type, stored.id))
                answer = answer_of(parse(stored.whole()))
                if answer is not None:
                    yield answer


async def _decisions(gateway: Gateway, start: int) -> AsyncIterator[Recorded]:
    async for stored in _changed(gateway, "GuidanceResponse", start):
        recorded = recorded_of(stored)
        if recorded is not None:
            yield recorded


async def _changed(gateway: Gateway, type: str, since: int) -> AsyncIterator[Stored]:
    """Versions of a type since a moment, the newest first; a page on each snapshot."""
    before: tuple[int, int, int] | None = None
    while True:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            page = await reader.changes(type=type, since=since, before=before, limit=_PAGE)
        for one in page:
            yield one.stored
        if len(page) < _PAGE:
            return
        before = (page[-1].t, page[-1].n, page[-1].i)
