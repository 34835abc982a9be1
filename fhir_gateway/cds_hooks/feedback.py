"""Feedback: what the doctor did with a card becomes an answer on record.

CDS Hooks 2.0, "Feedback". The card's uuid names the decision and the order line, so nothing is kept
between the call and its feedback: who asked and about which order stands in the decision. Feedback
that comes again is the same answer; an override without a reason is accepted and flagged, and
completed later by $answer. docs/answers.md
"""

from __future__ import annotations

import re
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, Issue
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.wire import parse
from fhir_gateway.recognition.answer import Reply, record_answers
from fhir_gateway.recognition.answer_rows import AHEAD, is_ahead
from fhir_gateway.recognition.record import read_card_uuid
from fhir_gateway.security.actor import Actor

MOST = 200
_OUTCOMES = ("accepted", "overridden")
_TIME = re.compile(
    r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])T(?:[01][0-9]|2[0-3]):[0-5][0-9]:"
    r"(?:[0-5][0-9]|60)(?:\.[0-9]+)?(?:Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])"
)
_TEXT_LIMIT = 2_000


async def take_feedback(gateway: Gateway, actor: Actor, body: bytes) -> list[str]:
    """Stores the answers in a feedback body; returns the ids of their Tasks.

    Raises Structure and Invalid with every fault, NotFound for a card of another institution's
    decision, Unprocessable when an answer does not fit the decision.
    """
    replies = read_feedback(body, gateway.clock.now())
    kept = await record_answers(gateway, actor, replies, operation="feedback")
    return [one.answer.id for one in kept]


def read_feedback(body: bytes, now: int) -> list[Reply]:
    """The answers in a feedback body that came at `now` (µs). Raises Structure and Invalid with
    every fault."""
    document = parse(body)
    entries = document.get("feedback")
    if not isinstance(entries, list) or not 0 < len(entries) <= MOST:
        text = f"feedback must be an array of 1 to {MOST} entries"
        raise Invalid(text, expression="feedback", rule="feedback")
    issues: list[Issue] = []
    replies = [
        reply
        for number, entry in enumerate(entries)
        if (reply := _reply(entry, f"feedback[{number}]", now, issues)) is not None
    ]
    if issues:
        raise Invalid(issues=tuple(issues))
    return replies


def _reply(entry: Any, at: str, now: int, issues: list[Issue]) -> Reply | None:
    if not isinstance(entry, dict):
        issues.append(Issue("invalid", f"{at} must be an object", at, "type"))
        return None
    before = len(issues)
    decision, line = _card(entry.get("card"), f"{at}.card", issues)
    outcome = entry.get("outcome")
    if outcome not in _OUTCOMES:
        _fault(issues, f"{at}.outcome", "must be accepted or overridden", "outcome")
    time = _time(entry.get("outcomeTimestamp"), f"{at}.outcomeTimestamp", now, issues)
    if outcome == "accepted":
        _check_suggestions(entry, at, decision, line, issues)
    reason, text = _override(entry, at, issues)
    if len(issues) > before:
        return None
    return Reply(
        expression=at,
        decision=decision,
        line=line,
        outcome="accepted" if outcome == "accepted" else "repeated",
        reason=reason,
        text=text,
        answered=time,
    )


def _time(value: Any, at: str, now: int, issues: list[Issue]) -> str:
    if not isinstance(value, str) or not _is_time(value):
        _fault(issues, at, "must be a time with its offset", "time")
        return ""
    if is_ahead(value, now):
        _fault(issues, at, AHEAD, "time-ahead")
    return value


def _is_time(text: str) -> bool:
    try:
        return _TIME.fullmatch(text) is not None and date_range(text) is not None
    except Invalid:
        return False


def _card(value: Any, at: str, issues: list[Issue]) -> tuple[str, int]:
    if not isinstance(value, str):
        _fault(issues, at, "is required: the uuid of the card", "required")
        return "", 0
    try:
        card = read_card_uuid(value)
    except Invalid:
        _fault(issues, at, "must be the uuid of a card", "card-uuid")
        return "", 0
    if card.suggestion:
        _fault(issues, at, "is the uuid of a suggestion, not of its card", "card-uuid")
    return card.decision, card.line


def _check_suggestions(
    entry: dict[str, Any], at: str, decision: str, line: int, issues: list[Issue]
) -> None:
    """Accepting is accepting a suggestion: at least one, and of this very card."""
    path = f"{at}.acceptedSuggestions"
    accepted = entry.get("acceptedSuggestions")
    if not isinstance(accepted, list) or not accepted:
        _fault(issues, path, "is required for an accepted card", "required")
        return
    for number, suggestion in enumerate(accepted):
        where = f"{path}[{number}].id"
        id = suggestion.get("id") if isinstance(suggestion, dict) else None
        try:
            card = read_card_uuid(id) if isinstance(id, str) else None
        except Invalid:
            card = None
        if card is None or not card.suggestion or (card.decision, card.line) != (decision, line):
            _fault(issues, where, "must be the uuid of a suggestion of this card", "suggestion")


def _override(
    entry: dict[str, Any], at: str, issues: list[Issue]
) -> tuple[dict[str, str] | None, str]:
    """The reason's Coding and the comment; both may be missing, or null: what a doctor did is not
    refused because nobody says why."""
    if entry.get("outcome") != "overridden" or entry.get("overrideReason") is None:
        return None, ""
    given, path = entry["overrideReason"], f"{at}.overrideReason"
    if not isinstance(given, dict):
        _fault(issues, path, "must be an object", "type")
        return None, ""
    text = given.get("userComment")
    text = "" if text is None else text
    if not isinstance(text, str) or len(text) > _TEXT_LIMIT:
        _fault(issues, f"{path}.userComment", f"must be a text up to {_TEXT_LIMIT}", "type")
        text = ""
    reason = given.get("reason")
    if reason is None:
        return None, text.strip()
    return _coding(reason, f"{path}.reason", issues), text.strip()


def _coding(value: Any, at: str, issues: list[Issue]) -> dict[str, str] | None:
    names = ("system", "code", "display")
    if not isinstance(value, dict) or not isinstance(value.get("code"), str):
        _fault(issues, at, "must be a Coding with a code", "type")
        return None
    coding = {name: value[name] for name in names if value.get(name)}
    if not all(isinstance(text, str) for text in coding.values()) or not coding.get("code"):
        _fault(issues, at, "must be a Coding of texts with a code", "type")
        return None
    return coding


def _fault(issues: list[Issue], at: str, what: str, rule: str) -> None:
    issues.append(Issue("invalid", f"{at} {what}", at, rule))
