"""Looking at a break-glass afterwards: `Task/[id]/$review`, and the list of those that wait.

The privacy office that the policy names, the regulator or the operator says whether it was
justified; where the policy names none, somebody else of the institution that opened the record.
Nobody reviews their own. docs/consent.md
"""

from __future__ import annotations

from typing import Any
from unicodedata import normalize

from fhir_gateway.audit.events import update_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, Forbidden, Invalid, NotFound, PreconditionFailed
from fhir_gateway.fhir.wire import instant, parse
from fhir_gateway.interactions.access_task import (
    BREAK_GLASS,
    JUSTIFIED,
    NOT_JUSTIFIED,
    OPEN_BREAK_GLASS,
    Opened,
    opened_of,
    put_of_access,
    task_of,
)
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.interactions.operation_definitions import Call, Definition
from fhir_gateway.interactions.operation_definitions import Parameter as P
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.changes import ChangeSet, VersionIs
from fhir_gateway.store.store import Reader, Stored

_ATTEMPTS = 16
#: Groups of a page of the list, and break-glasses of one and the same microsecond.
_PAGE, _MOST_AT_ONCE = 200, 50

REVIEW = Definition(
    code="review",
    title="Say whether a break-glass was justified",
    says=(
        "A named person, who is not the one who opened the record, says whether that was "
        "justified, and why. Sent again by the same person it changes nothing."
    ),
    types=("Task",),
    levels=("instance",),
    affects=True,
    takes=(
        P("outcome", "code", f"{JUSTIFIED} or {NOT_JUSTIFIED}", 1, missing="outcome"),
        P("note", "string", "Why; required with not-justified"),
        P("by", "string", "Who reviews; needed where the credential names no person"),
    ),
    gives=(P("return", "Task", "The break-glass, reviewed", 1),),
)


async def review_operation(gateway: Gateway, actor: Actor, call: Call) -> dict[str, Any]:
    """Task/[id]/$review. Raises as `review` does."""
    outcome, note = call.parameters["outcome"][0], (call.value("note") or "").strip()
    if outcome.value not in (JUSTIFIED, NOT_JUSTIFIED):
        raise Invalid(
            f"outcome is {JUSTIFIED} or {NOT_JUSTIFIED}",
            expression=outcome.expression,
            rule="outcome",
        )
    if outcome.value == NOT_JUSTIFIED and not note:
        raise Invalid(
            "note says why it was not justified", expression="Parameters.parameter", rule="note"
        )
    by = actor.user or (call.value("by") or "").strip()
    return await review(gateway, actor, call.id, outcome=str(outcome.value), note=note, by=by)


async def review(
    gateway: Gateway, actor: Actor, id: str, *, outcome: str, note: str, by: str
) -> dict[str, Any]:
    """The Task after the review, which is durable.

    Raises Invalid without a person, NotFound, Forbidden for who may not review it, Conflict for
    one that somebody else has reviewed.
    """
    if not by:
        raise Invalid("by names the person who reviews", expression="by", rule="reviewer")
    for _ in range(_ATTEMPTS):
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            stored = await _stored(reader, id)
        resource = parse(stored.whole())
        before = opened_of(resource)
        assert before is not None
        _check(gateway, actor, before, by)
        if not before.is_open:
            if (before.outcome, before.reviewed_by) == (outcome, by):
                return resource
            raise Conflict("This break-glass was reviewed already", rule="reviewed")
        after = _reviewed(gateway, resource, outcome, note, by)
        if await _commit(gateway, actor, stored, before, after):
            return after
    raise Conflict("Other requests change the same Task; send it again", rule="overtaken")


async def _stored(reader: Reader, id: str) -> Stored:
    stored = await reader.read("Task", id)
    one = opened_of(parse(stored.whole())) if stored is not None and not stored.deleted else None
    if stored is None or one is None or one.code != BREAK_GLASS:
        raise NotFound("There is no break-glass of this id", rule="break-glass-unknown")
    return stored


def _check(gateway: Gateway, actor: Actor, one: Opened, by: str) -> None:
    """Raises Forbidden for who may not judge this one."""
    if actor.bound:
        offices = gateway.policy.break_glass.privacy_office or (one.institution,)
        if actor.institution not in offices:
            raise NotFound("There is no break-glass of this id", rule="break-glass-unknown")
    if _name(by) == _name(one.user):
        raise Forbidden("Nobody reviews the own break-glass", rule="review-own")


def _name(user: str) -> str:
    """A person as names are compared: how a reference or a name is spelled makes nobody another."""
    text = normalize("NFKC", user)
    if text.startswith(("http://", "https://")):
        text = "/".join(text.split("/")[-2:])
    return "".join(text.partition("/_history")[0].split()).casefold()


def _reviewed(
    gateway: Gateway, resource: dict[str, Any], outcome: str, note: str, by: str
) -> dict[str, Any]:
    """The Task as it is from now on; what it said of the opening stays as it was."""
    said = opened_of(resource)
    assert said is not None
    now = instant(gateway.clock.now())
    task = task_of(said._replace(outcome=outcome, note=note, reviewed_by=by, reviewed_at=now))
    changed = ("status", "businessStatus", "note", "output")
    kept = {name: value for name, value in resource.items() if name not in (*changed, "meta")}
    return kept | {name: task[name] for name in changed if name in task}


async def _commit(
    gateway: Gateway, actor: Actor, stored: Stored, one: Opened, after: dict[str, Any]
) -> bool:
    """Stores a review; False when another request was faster."""
    put = put_of_access(gateway, dict(after), one.owner or one.institution, op="update")
    journal = []
    if gateway.audit:
        event = update_event(
            call_of(gateway, actor),
            type="Task",
            id=stored.id,
            version=stored.version + 1,
            patient=one.patient,
        )
        journal = [entry(gateway, event, home=stored.home)]
    change_set = ChangeSet(
        id=gateway.random(16),
        guards=[VersionIs("Task", stored.id, stored.version)],
        puts=[put],
        journal=journal,
    )
    try:
        await gateway.store.commit(change_set)
    except PreconditionFailed:
        return False
    gateway.count("break_glass_reviewed", 1)
    return True


async def waiting(gateway: Gateway) -> list[Opened]:
    """The break-glasses that nobody has reviewed, the oldest first."""
    found: list[Opened] = []
    after: int | None = None
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        while groups := await reader.listed(
            "Task", OPEN_BREAK_GLASS, after=after, limit=_PAGE, examples=_MOST_AT_ONCE
        ):
            for stored in (one for group in groups for one in group.examples.values()):
                one = opened_of(parse(stored.whole()))
                if one is not None and one.is_open:
                    found.append(one)
            after = groups[-1].value
    return found
