"""Answers as they are read: those of a decision, of a person's order lines, on a result.

Every function takes a Reader, so that what it says is of one instant.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from fhir_gateway.fhir.keys import key64, parameter_key
from fhir_gateway.fhir.wire import parse
from fhir_gateway.recognition.answer_model import DoctorAnswer
from fhir_gateway.recognition.answer_rows import CHOSEN_AT, RELIED, RELYING_AT, moment
from fhir_gateway.recognition.answer_task import answer_of
from fhir_gateway.search.plan import Condition, Range, Ref, SearchPlan
from fhir_gateway.store.listing_sql import having
from fhir_gateway.store.record_sql import holds
from fhir_gateway.store.store import Reader, Stored

_PAGE = 200

#: Answers of one institution that rely on one result: never near this.
_MOST = 10_000

_FOCUS = parameter_key("Task", "focus")
_BASED_ON = parameter_key("Communication", "based-on")


class AnsweredLine(NamedTuple):
    """An item that was answered: how, where, by whom, when (µs), and by which decision and line."""

    item: str
    state: str  # accepted, repeated
    institution: str
    user: str
    encounter: str
    decision: str
    line: int
    key: str
    at: int


async def answers_of(reader: Reader, decision_id: str) -> list[DoctorAnswer]:
    """All answers to a decision, by order line; empty when there are none, or no such decision.

    Those of an earlier release, kept as Communications, come first and have `former`.
    """
    stored = await reader.read("GuidanceResponse", decision_id)
    if stored is None:
        return []
    key = (key64(f"GuidanceResponse/{decision_id}"),)
    found = await _all(reader, "Communication", stored.home, Ref(_BASED_ON, key))
    found += await _all(reader, "Task", stored.home, Ref(_FOCUS, key))
    answers = [one for one in map(read_answer, found) if one is not None]
    mine = [one for one in answers if one.decision == decision_id]
    return sorted(mine, key=lambda one: (not one.former, one.line, one.kind, one.authored, one.id))


async def answered_lines(
    reader: Reader, homes: Sequence[int] | int, items: Collection[str], since: int
) -> Mapping[str, AnsweredLine]:
    """Which of these items of a person were recognised or repeated at or after `since` (µs).

    The newest answer of each item, whichever institution gave it; one that was revoked is none.
    None while the index is brought up to date: an order does not wait for it.
    """
    wanted, found = frozenset(items), dict[str, AnsweredLine]()
    among = [homes] if isinstance(homes, int) else homes
    if not reader.index.is_current or not await any_tasks(reader, among):
        return found
    for home in among:
        for answer in await _indexed(reader, home, CHOSEN_AT, since):
            at = moment(answer.authored)
            for item in wanted.intersection(answer.items):
                if item not in found or found[item].at <= at:
                    found[item] = _line(answer, item, at)
    return found


async def any_tasks(reader: Reader, homes: Sequence[int]) -> bool:
    """Whether these homes hold any Task: of most patients there is none, and nothing to search."""
    return await reader.steps(lambda seen: holds(seen, homes, "Task"))


def _line(answer: DoctorAnswer, item: str, at: int) -> AnsweredLine:
    return AnsweredLine(
        item,
        answer.state,
        answer.institution,
        answer.user,
        answer.encounter,
        answer.decision,
        answer.line,
        answer.key,
        at,
    )


async def _indexed(reader: Reader, home: int, parameter: int, since: int) -> list[DoctorAnswer]:
    """The answers that have a row of this parameter at or after a moment: answer_rows says which
    have one, and in which states."""
    found = await _all(reader, "Task", home, Range(parameter, (("ge", since, since),), 0))
    return [answer for one in found if (answer := read_answer(one)) is not None]


async def relying_on(reader: Reader, reference: str) -> list[tuple[Stored, DoctorAnswer]]:
    """The answers that rely on a result or report ("Observation/id"), whosever they are."""
    found: list[Stored] = []
    for type in ("Task", "Communication"):
        found += await _listed(reader, type, key64(reference))
    return [(one, answer) for one in found if (answer := read_answer(one)) is not None]


async def relied_on(reader: Reader, references: Sequence[str]) -> set[str]:
    """Those of these results and reports on which some answer may rely; of most nobody does, and
    that is found out for all of them at once."""
    keys = {key64(reference): reference for reference in references}
    found = await reader.steps(lambda seen: having(seen, RELIED, list(keys)))
    return {keys[key] for key in found}


async def answers_in(reader: Reader, home: int) -> list[DoctorAnswer]:
    """All answers in a home by which somebody relies on a result."""
    return await _indexed(reader, home, RELYING_AT, 0)


async def _listed(reader: Reader, type: str, key: int) -> list[Stored]:
    """The resources that the global index names, also while an older index is brought up to date:
    a correction is never stored without its alerts."""
    found: dict[int, Stored] = {}
    after: int | None = None
    while groups := await reader.listed(
        type, (RELIED, key), after=after, limit=_PAGE, examples=_MOST
    ):
        for group in groups:
            found |= group.examples
        after = groups[-1].value
    return list(found.values())


def read_answer(stored: Stored) -> DoctorAnswer | None:
    """The answer that a stored version keeps; None for a deletion, or what is none of ours."""
    return None if stored.deleted else answer_of(parse(stored.whole()))


async def _all(reader: Reader, type: str, home: int, condition: Condition) -> list[Stored]:
    """Every match of one condition in a home."""
    plan = SearchPlan(type, (condition,), home=home, count=_PAGE)
    found: list[Stored] = []
    while True:
        page = await reader.search(plan)
        found += page.matches
        if page.next is None:
            return found
        plan = replace(plan, after=page.next)
