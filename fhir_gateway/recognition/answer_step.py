"""From a reply to the answer that it makes of the one before. Pure: one step of the state machine.

A reply that says again what stands changes nothing, whenever it comes. A missing ground never
refuses an answer: it is flagged, counted, and completed later (docs/adr/0030).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fhir_gateway.errors import Issue
from fhir_gateway.recognition.answer_model import (
    KINDS,
    REASON_MISSING,
    STATES,
    TEXT_MISSING,
    WHY_NOT,
    DoctorAnswer,
    Kind,
    Verb,
    answer_id,
)
from fhir_gateway.recognition.recorded import Recorded, RecordedLine
from fhir_gateway.recognition.vocabulary import coding_of
from fhir_gateway.terminology.reason import REASON_SYSTEM, Reason


class Reply(NamedTuple):
    """What a doctor says to one order line of one decision.

    `line` is the number of the line, or its key, or None for the only one. `expression` is where
    the reply stands in the request. `reason` is a Coding; of another system than ours it is kept
    as it is. `answered` and `informed_at` are FHIR dateTimes, "" for now and for not said.
    `answer` is the logical id of the Task that is to be revoked, "" for the choice of the line.
    """

    expression: str
    decision: str
    line: int | str | None
    outcome: Verb
    result: str = ""
    reason: Mapping[str, str] | None = None
    text: str = ""
    informed: bool | None = None
    user: str = ""
    answered: str = ""
    informed_at: str = ""
    encounter: str = ""
    answer: str = ""


class Given(NamedTuple):
    """A reply with the order line that it is about, found to be in order."""

    reply: Reply
    recorded: Recorded
    line: RecordedLine
    number: int
    results: tuple[str, ...]
    ground: Reason | None

    @property
    def kind(self) -> Kind:
        """The kind of answer that it makes or changes; of a revocation the choice."""
        return KINDS.get(self.reply.outcome, "choice")

    @property
    def user(self) -> str:
        """The person, as the workstation names them."""
        return self.reply.user or self.recorded.user

    @property
    def id(self) -> str:
        """The logical id of the answer that it makes or changes."""
        if self.reply.answer:
            return self.reply.answer
        result = self.results[0] if self.results else ""
        return answer_id(self.reply.decision, self.number, self.kind, result, self.user)


def check(
    reply: Reply, recorded: Recorded, grounds: Mapping[str, Reason], issues: list[Issue]
) -> Given | None:
    """The reply with its order line; adds every fault to `issues`."""
    found = _line(reply, recorded)
    if found is None:
        text = "The decision has no such order line; name one of its keys"
        issues.append(Issue("not-found", text, reply.expression, "order-line"))
        return None
    number, line = found
    ground = None
    if reply.reason and reply.reason.get("system", REASON_SYSTEM) == REASON_SYSTEM:
        ground = grounds.get(reply.reason.get("code", ""))
        if ground is None:
            text = f"The ground must be one of {', '.join(grounds)}"
            issues.append(Issue("code-invalid", text, reply.expression, "ground"))
    results = _results(reply, line)
    if reply.outcome in ("accepted", "cited", "viewed") and not results:
        text = f"{reply.outcome} names a result that the decision weighed for this order line"
        issues.append(Issue("business-rule", text, reply.expression, "result"))
    if reply.outcome == "completed" and not _says_something(reply):
        text = "completed says what was missing: reason, text or patientInformed"
        issues.append(Issue("required", text, reply.expression, "completion"))
    return Given(reply, recorded, line, number, results, ground)


def _says_something(reply: Reply) -> bool:
    said = (reply.reason, reply.text, reply.informed_at)
    return any(said) or reply.informed is not None


def _line(reply: Reply, recorded: Recorded) -> tuple[int, RecordedLine] | None:
    lines = recorded.lines
    if reply.line is None:
        return (0, lines[0]) if len(lines) == 1 else None
    if isinstance(reply.line, int):
        return (reply.line, lines[reply.line]) if reply.line < len(lines) else None
    keys = [line.key for line in lines]
    if reply.line not in keys:
        return None
    number = keys.index(reply.line)
    return number, lines[number]


def _results(reply: Reply, line: RecordedLine) -> tuple[str, ...]:
    """The results a reply is about: the one it names, else those that the card proposed."""
    if reply.result:
        known = any(reply.result in item.named for item in line.items)
        return (reply.result,) if known else ()
    return tuple(dict.fromkeys(item.result for item in line.items if item.result))


def refusal(given: Given, before: DoctorAnswer | None) -> Issue | None:
    """Why the table of states does not let this reply follow what stands; None when it does."""
    state = before.state if before else ""
    kind = before.kind if before else given.kind
    verb = given.reply.outcome
    if (state, verb) in STATES[kind]:
        return None
    text = WHY_NOT.get((verb, state), f"{verb} cannot follow {state or 'nothing'}")
    return Issue("business-rule", text, given.reply.expression, "answer-state")


class Now(NamedTuple):
    """What a step takes from its surroundings: the institution, the time, what is stored here,
    and the versions of results and reports as they were when it was decided."""

    institution: str
    instant: str
    practitioner: str
    encounter_here: bool
    versions: Mapping[str, str]


def step(given: Given, before: DoctorAnswer | None, now: Now) -> DoctorAnswer:
    """The answer after a reply that `refusal` lets pass; `before` itself when nothing changes."""
    verb = given.reply.outcome
    if verb == "revoked":
        assert before is not None
        return _revoked(given, before, now)
    if verb == "completed":
        assert before is not None
        return _completed(given, before, now)
    after = _new(given, now)
    if before is None:
        return after
    return before if _same(before, after) else after._replace(version=before.version)


def _new(given: Given, now: Now) -> DoctorAnswer:
    reply, line = given.reply, given.line
    state = STATES[given.kind]["", reply.outcome]
    reports = () if state == "repeated" else _reports(given)
    repeated = state == "repeated"
    ground = dict(_ground(given) or {}) if repeated else None
    informed = True if reply.informed_at and reply.informed is None else reply.informed
    return DoctorAnswer(
        id=given.id,
        decision=reply.decision,
        line=given.number,
        key=line.key,
        kind=given.kind,
        state=state,
        patient=given.recorded.inputs.query.patient,
        institution=now.institution,
        items=tuple(dict.fromkeys(item.code for item in line.items if item.code)),
        results=tuple(now.versions.get(one, one) for one in given.results),
        reports=tuple(now.versions.get(one, one) for one in reports),
        authored=reply.answered or now.instant,
        user=given.user,
        practitioner=now.practitioner,
        encounter=reply.encounter or given.recorded.encounter,
        encounter_here=now.encounter_here,
        ground=ground or None,
        flags=_flags(ground, given.ground, reply.text) if repeated else (),
        text=reply.text,
        informed=informed,
        informed_at=reply.informed_at,
    )


def _reports(given: Given) -> list[str]:
    """The reports that carry the results."""
    found = (
        item.report
        for item in given.line.items
        if item.report and item.result in given.results and item.report not in given.results
    )
    return list(dict.fromkeys(found))


def _ground(given: Given) -> Mapping[str, str] | None:
    return coding_of(given.ground) if given.ground is not None else given.reply.reason


def _flags(ground: Mapping[str, str] | None, known: Reason | None, text: str) -> tuple[str, ...]:
    """What a repeat still lacks: its ground, or the words that its ground asks for."""
    if not ground and not text:
        return (REASON_MISSING,)
    return (TEXT_MISSING,) if known is not None and known.text_required and not text else ()


def _completed(given: Given, before: DoctorAnswer, now: Now) -> DoctorAnswer:
    """The repeat with what it lacked; its time and its doctor stay."""
    reply = given.reply
    ground = _ground(given) or before.ground
    text = reply.text or before.text
    known = given.ground
    if known is None and before.ground and not reply.reason:
        lacks: Sequence[str] = before.flags
        flags = tuple(flag for flag in lacks if not (flag == TEXT_MISSING and text))
    else:
        flags = _flags(ground, known, text)
    informed = True if reply.informed_at and reply.informed is None else reply.informed
    after = before._replace(
        ground=dict(ground) if ground else None,
        text=text,
        flags=flags,
        informed=before.informed if informed is None else informed,
        informed_at=reply.informed_at or before.informed_at,
    )
    if after == before:
        return before
    return after._replace(completed_by=given.user, completed_at=reply.answered or now.instant)


def _revoked(given: Given, before: DoctorAnswer, now: Now) -> DoctorAnswer:
    if before.state == "revoked":
        return before
    return before._replace(
        state="revoked",
        was=before.state,
        ground=None,
        flags=(),
        text=given.reply.text,
        authored=given.reply.answered or now.instant,
        user=given.user,
        practitioner=now.practitioner,
        completed_by="",
        completed_at="",
        digest="",
        base="",
    )


def _same(one: DoctorAnswer, other: DoctorAnswer) -> bool:
    """Whether two answers say the same; when they were given does not matter.

    What was completed since is still the answer that it was completed of.
    """
    if one.completed_at and other.flags:
        other = other._replace(
            ground=one.ground, flags=one.flags, text=one.text, informed=one.informed,
            informed_at=one.informed_at,
        )  # fmt: skip
    return _bare(one) == _bare(other)


def _bare(answer: DoctorAnswer) -> DoctorAnswer:
    return answer._replace(
        authored="", version=0, digest="", base="", completed_at="", completed_by=""
    )


def is_said_before(versions: Sequence[DoctorAnswer], after: DoctorAnswer) -> bool:
    """Whether an earlier version said this very thing at this very time: a reply come again."""
    return any(one.authored == after.authored and _same(one, after) for one in versions)
