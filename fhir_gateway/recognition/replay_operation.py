"""GuidanceResponse/[id]/$replay and GuidanceResponse/$replay: decide again, and say what differs.

At type level a page at a time, each audited before it is told; whole months are replayed by
`fhir-gateway replay`. An institution replays what it asked for itself. docs/api/recognize.md
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from fhir_gateway.audit.events import read_event, search_event
from fhir_gateway.audit.query import masked
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden, Invalid, Issue, NotFound
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.interactions.audit import call_of, disclose, entry
from fhir_gateway.interactions.operation_definitions import Call, Taken
from fhir_gateway.recognition.recorded import receiver_of
from fhir_gateway.recognition.replay import Replayed, Replayer, replay_decision
from fhir_gateway.recognition.replay_run import Scope, Tally, extent
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.store import Reader, Stored

PAGE, MOST = 100, 500

Part = dict[str, Any]
_Place = tuple[int, int, int]
_AFTER = re.compile(r"(\d{1,18})\.(\d{1,18})\.(\d{1,18})")


class _Page(NamedTuple):
    """The decisions of a page, and the place behind which the next one begins."""

    stored: list[Stored]
    next: _Place | None = None


async def replay(gateway: Gateway, actor: Actor, call: Call) -> Part:
    """What came of deciding again. A difference is an answer, not an error.

    Raises NotFound for a decision that is not there or another institution's, Invalid for the
    parameters, Forbidden when an institution asks for another's decisions.
    """
    if call.id:
        _refuse_on_instance(call)
        replayed = await replay_decision(gateway, actor, call.id)
        return {"resourceType": "Parameters", "parameter": list(_replayed(replayed))}
    institution = _institution(actor, call.one("institution"))
    async with gateway.store.snapshot(actor.access) as reader:
        if call.parameters["id"]:
            page = await _named(reader, call, institution)
        else:
            page = await _of_time(gateway, reader, call, institution)
    found = await Replayer(gateway).page(page.stored)
    await _audit(gateway, actor, page.stored, found)
    parts = list(_summary(found))
    parts += [{"name": "result", "part": list(_replayed(one))} for one in found if not one.agrees]
    if page.next is not None:
        after = ".".join(map(str, page.next))
        parts.append({"name": "next", "valueString": after})
    return {"resourceType": "Parameters", "parameter": parts}


def _refuse_on_instance(call: Call) -> None:
    issues = tuple(
        Issue("invalid", f"{name} is for many decisions", taken.expression, "parameter")
        for name, given in call.parameters.items()
        for taken in given
    )
    if issues:
        raise Invalid(issues=issues)


def _institution(actor: Actor, taken: Taken | None) -> str:
    """Whose decisions: an institution's own, whatever it names; others may name any."""
    if not actor.bound:
        return str(taken.value) if taken is not None else ""
    own = actor.institution or ""
    if taken is not None and taken.value != own:
        raise Forbidden(
            "An institution replays its own decisions only",
            expression=taken.expression,
            rule="institution",
        )
    return own


async def _named(reader: Reader, call: Call, institution: str) -> _Page:
    """Those that were named. Raises NotFound when one is not there, Invalid for too many."""
    given = call.parameters["id"]
    others = [one for name in ("since", "until", "after") for one in call.parameters[name]]
    if others:
        text = "Name decisions, or say since and until"
        raise Invalid(text, expression=others[0].expression, rule="parameter")
    if len(given) > MOST:
        raise Invalid(f"More than {MOST} ids", expression=given[MOST].expression, rule="too-many")
    stored = []
    for taken in given:
        one = await reader.read("GuidanceResponse", taken.value)
        if one is None or not _is_of(one, institution):
            text = "There is no such decision"
            raise NotFound(text, expression=taken.expression, rule="decision")
        stored.append(one)
    return _Page(stored)


async def _of_time(gateway: Gateway, reader: Reader, call: Call, institution: str) -> _Page:
    """The next ones of a time, newest first."""
    zone, now = gateway.settings.zone, gateway.clock.now()
    since, until = call.one("since"), call.one("until")
    if since is None:
        text = "since is required: replay many decisions from a day on, or name them by id"
        raise Invalid(text, expression=None, rule="required")
    scope = Scope(
        date_range(since.value, zone)[0],
        date_range(until.value, zone)[0] if until is not None else now + 1,
    )
    if scope.until <= scope.since:
        text = "until is not after since"
        raise Invalid(text, expression=(until or since).expression, rule="period")
    count, before = _count(call.one("count")), _place(call.one("after"))
    whole = await extent(gateway, scope)
    if whole.high < whole.low:
        return _Page([])
    versions = await reader.changes(
        type="GuidanceResponse", until_t=whole.high, before=before, limit=count
    )
    mine = [one for one in versions if one.t >= whole.low]
    more = len(versions) == count and len(mine) == count
    stored = [one.stored for one in mine if _is_of(one.stored, institution)]
    last = versions[-1] if more else None
    return _Page(stored, (last.t, last.n, last.i) if last is not None else None)


def _count(taken: Taken | None) -> int:
    if taken is None:
        return PAGE
    if not 1 <= taken.value <= MOST:
        text = f"count is a number from 1 to {MOST}"
        raise Invalid(text, expression=taken.expression, rule="count")
    return int(taken.value)


def _place(taken: Taken | None) -> _Place | None:
    if taken is None:
        return None
    match = _AFTER.fullmatch(taken.value)
    if match is None:
        text = "after is what next of the page before says"
        raise Invalid(text, expression=taken.expression, rule="after")
    return int(match[1]), int(match[2]), int(match[3])


def _is_of(stored: Stored, institution: str) -> bool:
    return not institution or receiver_of(stored) == institution


async def _audit(
    gateway: Gateway, actor: Actor, stored: Sequence[Stored], found: Sequence[Replayed]
) -> None:
    """One event for the page, and one for each decision that the answer names."""
    call, homes = call_of(gateway, actor), {one.id: one.home for one in stored}
    query = masked("GuidanceResponse/$replay", gateway.store.index_key)
    events = [
        entry(
            gateway,
            search_event(call, query=query, count=len(found), interaction="operation"),
        )
    ]
    for one in found:
        if not one.agrees:
            event = read_event(call, type="GuidanceResponse", id=one.id, interaction="operation")
            events.append(entry(gateway, event, home=max(homes[one.id], 0)))
    await disclose(gateway, events)


# -- what is told ----------------------------------------------------------------------------------


def _replayed(one: Replayed) -> Iterator[Part]:
    yield {"name": "agrees", "valueBoolean": one.agrees}
    yield {"name": "verdict", "valueCode": one.verdict}
    yield _decision(one.id)
    if one.rule_set:
        yield {"name": "rule-set", "valueCanonical": one.rule_set}
    yield from ({"name": "difference", "valueString": text} for text in one.differences)
    yield from ({"name": "erased", "valueString": source} for source in one.erased)


def _summary(found: Sequence[Replayed]) -> Iterator[Part]:
    tally = Tally()
    for one in found:
        tally.count(one)
    yield _number("decisions", tally.decisions)
    yield _number("agree", tally.agree)
    yield _number("differ", tally.differ)
    yield _number("erased-evidence", tally.erased)
    for name, row in sorted(tally.rule_sets.items()):
        parts = [{"name": "rule-set", "valueCanonical": name}] if name else []
        parts += [
            _number("decisions", row.decisions),
            _number("differ", row.differ),
            _number("erased", row.erased),
        ]
        yield {"name": "by-rule-set", "part": parts}
    for kind, having in tally.by_frequency():
        parts = [{"name": "text", "valueString": kind}, _number("count", having.count)]
        yield {"name": "by-difference", "part": [*parts, *map(_decision, having.decisions)]}


def _decision(id: str) -> Part:
    return {"name": "decision", "valueReference": {"reference": f"GuidanceResponse/{id}"}}


def _number(name: str, value: int) -> Part:
    return {"name": name, "valueInteger": value}
