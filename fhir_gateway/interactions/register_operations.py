"""The operations on an institution's messages: figures, dead letters, a retry, setting aside.

Organization/[id]/$message-status, $dead-letters, $retry-messages and $set-aside-messages. Dead
letters hold patient data and are the sender's alone; figures are the operator's too.
docs/messages.md
"""

from __future__ import annotations

from typing import Any

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.dead_letters import Attempt, dead, one, retry, set_aside
from fhir_gateway.interactions.local_codes_work import check_institution
from fhir_gateway.interactions.message_figures import Lag, figures
from fhir_gateway.interactions.operation_definitions import MANY, Call, Definition
from fhir_gateway.interactions.operation_definitions import Parameter as P
from fhir_gateway.interactions.own_operations import audit_asked, check_own, parameters, part
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.messages import Message

#: Letters of one answer, and of one retry: each is a commit, and somebody waits.
LETTERS, MOST_LETTERS = 100, 200

_COUNTERS = (
    P("received", "integer", "Messages that came, also those repeated and refused", 1),
    P("stored", "integer", "… that were stored without doubt", 1),
    P("flagged", "integer", "… that were stored with doubts, or codes that no map knows", 1),
    P("refused", "integer", "… that were refused", 1),
    P("repeated", "integer", "… that had been stored before", 1),
    P("last", "instant", "When the last one came"),
)
_LAG = (
    P("behind", "code", "message: the time that it states; report: that of its report", 1),
    P("of", "integer", "Messages that state one, of the newest 500", 1),
    P("last", "decimal", "Seconds, of the last one", 1),
    P("median", "decimal", "Seconds", 1),
    P("p95", "decimal", "Seconds that 95 of 100 do not exceed", 1),
)
STATUS = Definition(
    code="message-status",
    title="What came from an institution, and what waits",
    says=(
        "Counters by door and kind, how late messages come, and dead letters by rule. No patient "
        "data. An institution asks for its own."
    ),
    types=("Organization",),
    levels=("instance",),
    gives=(
        P("total", "", "All together", 1, parts=_COUNTERS),
        P("kind", "", "One door and kind of message", 0, MANY, parts=(
            P("door", "code", "hl7v2, table, cda, fhir or dicom", 1),
            P("kind", "string", "Such as ORU^R01", 1), *_COUNTERS)),
        P("lag", "", "How late messages come", 0, 2, parts=_LAG),
        P("dead", "", "Letters that wait", 0, MANY, parts=(
            P("rule", "code", "Why they were refused", 1),
            P("letters", "integer", "How many", 1),
            P("since", "instant", "When the oldest came", 1))),
    ),
)  # fmt: skip

_LETTER = (
    P("id", "id", "By which it is retried and set aside", 1),
    P("door", "code", "The door by which it came", 1),
    P("kind", "string", "Such as ORU^R01", 1),
    P("name", "string", "The sender's own id of it, such as MSH-10"),
    P("received", "instant", "When it first came", 1),
    P("last", "instant", "… and last", 1),
    P("attempts", "integer", "How often it came, or was tried", 1),
    P("rule", "code", "Why it was refused", 1),
    P("issue", "string", "What is wrong, with its place", 0, MANY),
)
DEAD = Definition(
    code="dead-letters",
    title="Refused messages of an institution that wait",
    says=(
        "A refused message waits until it is retried with success, overtaken by the sender's own "
        "repeat, or set aside. The oldest first. They hold patient data: each institution sees "
        "its own alone."
    ),
    types=("Organization",),
    levels=("instance",),
    takes=(
        P("rule", "code", "Only what was refused by this rule"),
        P("limit", "positiveInt", f"Letters to answer, {LETTERS} when left out, {MOST_LETTERS} at "
          "most"),
    ),
    gives=(P("letter", "", "One that waits", 0, MANY, parts=_LETTER),),
)  # fmt: skip

_ATTEMPT = (
    P("id", "id", "The letter", 1),
    P("outcome", "code", "stored, flagged, refused, or skipped: it was not open any more", 1),
    P("issue", "string", "What is wrong or doubtful", 0, MANY),
)
RETRY = Definition(
    code="retry-messages",
    title="Try refused messages again",
    says=(
        "After a code map or an entry was mended: letters by id, or all of a rule, the oldest "
        f"first, {MOST_LETTERS} at most. What a later message has said since stands. Sent again it "
        "goes on: what was stored is open no more."
    ),
    types=("Organization",),
    levels=("instance",),
    takes=(
        P("person", "string", "Who has them tried again", 1),
        P("letter", "id", "A letter", 0, MANY),
        P("rule", "code", "All that were refused by this rule"),
        P("dryRun", "boolean", "Only say what would become of each"),
    ),
    gives=(P("attempt", "", "What became of one", 0, MANY, parts=_ATTEMPT),),
    affects=True,
)
ASIDE = Definition(
    code="set-aside-messages",
    title="Take refused messages off the list",
    says="A person who is named says why they need not be stored. The rows stay, with the reason.",
    types=("Organization",),
    levels=("instance",),
    takes=(
        P("person", "string", "Who decides it", 1),
        P("reason", "string", "Why", 1),
        P("letter", "id", "A letter", 1, MANY),
    ),
    gives=(P("aside", "integer", "How many were set aside", 1),),
    affects=True,
)


async def message_status(gateway: Gateway, actor: Actor, call: Call) -> dict[str, Any]:
    """Organization/[id]/$message-status. Raises Forbidden for another institution's, NotFound."""
    await _check(gateway, actor, call)
    found = await figures(gateway, call.id)
    parts = [part("total", _counters(found.total))]
    for row in found.counts:
        head = [{"name": "door", "valueCode": row.door}, {"name": "kind", "valueString": row.kind}]
        parts.append(part("kind", head + _counters(row)))
    parts += [part("lag", _lag(name, lag)) for name, lag in (
        ("message", found.message), ("report", found.report)) if lag is not None]  # fmt: skip
    parts += [
        part("dead", [
            {"name": "rule", "valueCode": row.rule},
            {"name": "letters", "valueInteger": row.letters},
            {"name": "since", "valueInstant": instant(row.since)},
        ])
        for row in found.waiting
    ]  # fmt: skip
    await audit_asked(gateway, actor, call)
    return parameters(parts)


async def dead_letters(gateway: Gateway, actor: Actor, call: Call) -> dict[str, Any]:
    """Organization/[id]/$dead-letters. Raises Forbidden for another institution's, NotFound,
    Invalid."""
    await _check(gateway, actor, call)
    limit = call.value("limit") or LETTERS
    if limit > MOST_LETTERS:
        raise Invalid(f"limit is {MOST_LETTERS} at most", expression="limit", rule="limit")
    found = await dead(gateway, call.id, rule=call.value("rule"), limit=limit)
    await audit_asked(gateway, actor, call)
    return parameters([part("letter", _letter(row)) for row in found])


async def retry_messages(gateway: Gateway, actor: Actor, call: Call) -> dict[str, Any]:
    """Organization/[id]/$retry-messages. Raises Forbidden for another institution's, NotFound for
    a letter that is none, Invalid."""
    await _check(gateway, actor, call)
    ids = [str(taken.value) for taken in call.parameters["letter"]]
    rule = call.value("rule")
    if bool(ids) == bool(rule):
        raise Invalid("Send letters, or a rule", expression="Parameters.parameter", rule="which")
    if len(ids) > MOST_LETTERS:
        raise Invalid(f"{MOST_LETTERS} letters at most", expression="letter", rule="limit")
    if ids:
        letters = [await one(gateway, id, institution=call.id) for id in dict.fromkeys(ids)]
    else:
        letters = await dead(gateway, call.id, rule=rule, limit=MOST_LETTERS)
    who, dry_run = call.value("person"), bool(call.value("dryRun"))
    tried = [await retry(gateway, found, who=who, dry_run=dry_run) for found in letters]
    await audit_asked(gateway, actor, call)
    return parameters([part("attempt", _attempt(each)) for each in tried])


async def set_aside_messages(gateway: Gateway, actor: Actor, call: Call) -> dict[str, Any]:
    """Organization/[id]/$set-aside-messages. Raises Forbidden for another institution's, NotFound,
    Invalid without a name or a reason, Conflict for one that is not open."""
    await _check(gateway, actor, call)
    who, reason = call.value("person"), call.value("reason")
    ids = dict.fromkeys(str(taken.value) for taken in call.parameters["letter"])
    letters = [await one(gateway, id, institution=call.id) for id in ids]
    for found in letters:
        await set_aside(gateway, actor, found, who=who, reason=reason)
    return parameters([{"name": "aside", "valueInteger": len(letters)}])


async def _check(gateway: Gateway, actor: Actor, call: Call) -> None:
    check_own(actor, call.id, "messages")
    await check_institution(gateway, call.id, actor.access)


# -- as Parameters -------------------------------------------------------------------------------


def _counters(row: Any) -> list[dict[str, Any]]:
    names = ("received", "stored", "flagged", "refused", "repeated")
    parts: list[dict[str, Any]] = [
        {"name": name, "valueInteger": getattr(row, name)} for name in names
    ]
    return parts + ([{"name": "last", "valueInstant": instant(row.last)}] if row.last else [])


def _lag(behind: str, lag: Lag) -> list[dict[str, Any]]:
    return [
        {"name": "behind", "valueCode": behind},
        {"name": "of", "valueInteger": lag.of},
        *(
            {"name": name, "valueDecimal": round(getattr(lag, name), 3)}
            for name in ("last", "median", "p95")
        ),
    ]


def _letter(row: Message) -> list[dict[str, Any]]:
    told = msgspec.json.decode(row.issues) if row.issues else []
    issues = [f"{one.get('expression', '')} {one.get('diagnostics', '')}".strip() for one in told]
    return [
        {"name": "id", "valueId": row.id},
        {"name": "door", "valueCode": row.door},
        {"name": "kind", "valueString": row.kind},
        *([{"name": "name", "valueString": row.name}] if row.name else []),
        {"name": "received", "valueInstant": instant(row.received)},
        {"name": "last", "valueInstant": instant(row.last)},
        {"name": "attempts", "valueInteger": row.attempts},
        {"name": "rule", "valueCode": row.rule},
        *({"name": "issue", "valueString": text} for text in issues if text),
    ]


def _attempt(found: Attempt) -> list[dict[str, Any]]:
    return [
        {"name": "id", "valueId": found.message.id},
        {"name": "outcome", "valueCode": found.outcome},
        *(
            {"name": "issue", "valueString": issue.diagnostics}
            for issue in found.issues
            if issue.diagnostics
        ),
    ]
