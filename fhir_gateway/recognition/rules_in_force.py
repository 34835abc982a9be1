"""`PlanDefinition/$in-force` and `PlanDefinition/$lint`: which rules hold, and what is odd in them.

A moment in the past is answered by what was stored then, so that it tells by which rules a question
was decided; one in the future by what is stored now. Both tell what is published and nothing about
anybody, so they leave no AuditEvent, as the operations on terminology do not. docs/rules.md
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Invalid, Issue, NotFound
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.given import local_id
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.interactions.operation_definitions import MANY, Call, Definition
from fhir_gateway.interactions.operation_definitions import Parameter as P
from fhir_gateway.recognition.known import (
    InForce,
    area_depth,
    levels_in_force,
    resolved,
    stored_rule_sets,
)
from fhir_gateway.recognition.lint import lint
from fhir_gateway.recognition.lists import Views
from fhir_gateway.recognition.past import active_among, rule_sets_at, status_of, unreadable
from fhir_gateway.recognition.rules import RuleSet, load_rule_set
from fhir_gateway.recognition.situation import ENDLESS, period
from fhir_gateway.recognition.vocabulary import areas_within, catalogue_of, vocabulary_of
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.store import Reader, Stored

_RULE = (
    P("rule", "code", "Criterion and version", 1),
    P("severity", "code", "What it does when it is not met: decides, lowers or informs", 1),
    P("title", "string", "What it says, in Chinese"),
    P("title-en", "string", "What it says, in English"),
    P("explanation", "string", "Why, in Chinese"),
    P("explanation-en", "string", "Why, in English"),
    P("clause", "string", "What it rests on; article numbers only where they were verified", 1),
    P("layer", "canonical", "The rule set that states it", 1),
)
_LAYER = (
    P("rule-set", "canonical", "The rule set", 1),
    P("resource", "Reference", "The version of its PlanDefinition", 1),
    P("level", "string", "nation, area CODE or institution ID", 1),
    P("digest", "string", "SHA-256 of its rules", 1),
    P("since", "instant", "Since when it is in force", 1),
    P("until", "instant", "Until when, where its period ends"),
)
_GAP = (
    P("text", "string", "What is missing", 1),
    P("until", "instant", "When a rule set that is active now begins"),
)

IN_FORCE = Definition(
    code="in-force",
    title="The rules in force",
    says=(
        "The rule set by which a question is decided at a moment, of an area or an institution "
        "with all levels resolved; where none is in force, the gap."
    ),
    types=("PlanDefinition",),
    levels=("type",),
    takes=(
        P("asOf", "dateTime", "The moment; now when left out"),
        P("area", "code", "Code of the area where the question is asked"),
        P("institution", "id Reference", "The institution that asks; its area counts"),
    ),
    gives=(
        P("as-of", "instant", "The moment that the answer is about", 1),
        P("in-force", "boolean", "Whether any rule set is in force", 1),
        P("rule-set", "canonical", "The rule set; of several levels the nation's"),
        P("digest", "string", "SHA-256 of the resolved rules, as decisions record it"),
        P("since", "instant", "Since when the rules are these"),
        P("experimental", "boolean", "Whether any level is not for use with patients"),
        P("layer", "", "A level, the nation's first", 0, MANY, parts=_LAYER),
        P("rule", "", "A rule as it counts", 0, MANY, parts=_RULE),
        P(
            "left-out",
            "canonical",
            "A rule set of one institution of the area, which narrows these when that one asks",
            0,
            MANY,
        ),
        P("gap", "", "Why nothing can be decided", parts=_GAP),
    ),
)

LINT = Definition(
    code="lint",
    title="What is wrong or odd in a rule set",
    says=(
        "Contradictions, gaps between periods, items without a window, unreachable rules, overlays "
        "that widen: each with its element. An error stops activation."
    ),
    types=("PlanDefinition",),
    levels=("type", "instance"),
    takes=(P("resource", "PlanDefinition", "The rule set; type level only"),),
    gives=(P("return", "OperationOutcome", "The findings", 1),),
    body="resource",
)

Part = dict[str, Any]


class _Asked(NamedTuple):
    as_of: int
    now: int
    within: Sequence[str]
    institution: str
    area: str


async def in_force(gateway: Gateway, actor: Actor, call: Call) -> Part:
    """The rules in force as Parameters. Raises Invalid for an area or an institution that is not
    known here."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        asked = await _asked(gateway, reader, call)
        versions = await _versions_at(reader, asked)
        active = list(active_among(versions))
        zone = gateway.settings.zone
        levels, broken = None, unreadable(versions, active)
        if not broken:
            levels = levels_in_force(active, asked.within, asked.institution, asked.as_of, zone)
        parts: list[Part] = [_instant("as-of", asked.as_of), _boolean("in-force", bool(levels))]
        if levels is None:
            parts.append(_gap(active, broken, asked, zone))
            return {"resourceType": "Parameters", "parameter": parts}
        rules = resolved(gateway, levels)
        by_version = {one.version: one for one in levels}
        ordered = [by_version[version] for version in rules.version.split()]
        since = [await _since(reader, one, zone) for one in ordered]
        left_out = await _left_out(gateway, reader, active, asked)
    parts += [
        {"name": "rule-set", "valueCanonical": rules.rule_set.canonical},
        {"name": "digest", "valueString": rules.rule_set.digest},
        _instant("since", max(since)),
        _boolean("experimental", rules.rule_set.experimental),
    ]
    parts += [_layer(one, begun, zone) for one, begun in zip(ordered, since, strict=True)]
    parts += [{"name": "rule", "part": list(_rule(rule))} for rule in rules.rule_set.rules]
    parts += [{"name": "left-out", "valueCanonical": canonical} for canonical in left_out]
    return {"resourceType": "Parameters", "parameter": parts}


async def _left_out(
    gateway: Gateway, reader: Reader, active: Sequence[InForce], asked: _Asked
) -> list[str]:
    """The rule sets of single institutions that an answer for their area does not have."""
    if asked.institution:
        return []
    registered = await institutions_at(gateway, reader)
    found = []
    for one in active:
        scope, zone = one.rule_set.scope, gateway.settings.zone
        entry = registered.get(scope.institution) if scope.institution else None
        if entry is None or not one.rule_set.in_force(asked.as_of, zone):
            continue
        if not asked.area or asked.area in areas_within(gateway, entry.area):
            found.append(one.rule_set.canonical)
    return found


async def _asked(gateway: Gateway, reader: Reader, call: Call) -> _Asked:
    now = gateway.clock.now()
    moment, area, venue = call.one("asOf"), call.one("area"), call.one("institution")
    as_of = date_range(moment.value, gateway.settings.zone)[0] if moment else now
    institution, code = "", gateway.settings.area
    if venue is not None:
        reference = venue.element == "valueReference"
        institution = local_id(venue, "Organization") if reference else venue.value
        entry = (await institutions_at(gateway, reader)).get(institution)
        if entry is None:
            text = "No such institution is registered here"
            raise Invalid(text, expression=venue.expression, rule="institution")
        code = entry.area
    if area is not None:
        if not areas_within(gateway, area.value):
            text = "No such area is known here (CodeSystem/area)"
            raise Invalid(text, expression=area.expression, rule="area")
        code = area.value
    return _Asked(as_of, now, areas_within(gateway, code), institution, code)


async def _versions_at(reader: Reader, asked: _Asked) -> list[Stored]:
    """The rule sets as they were stored at the moment, or as they are when it is to come."""
    if asked.as_of >= asked.now:
        return [stored for stored, _ in await stored_rule_sets(reader)]
    return await rule_sets_at(reader, asked.as_of)


async def _since(reader: Reader, one: InForce, zone: str) -> int:
    """Since when it is in force: its activation, or the first day of its period."""
    type, id, _, number = one.version.split("/")
    activated = 0
    for stored in await reader.history(type, id):
        if stored.version <= int(number) and not stored.deleted:
            if status_of(stored) != "active":
                break
            activated = stored.updated
    return max(activated, period(one.rule_set.start, one.rule_set.end, zone)[0])


def _gap(active: Sequence[InForce], broken: Sequence[str], asked: _Asked, zone: str) -> Part:
    mine = [one.rule_set for one in active if _reaches(one.rule_set, asked)]
    starts = [period(one.start, one.end, zone)[0] for one in mine]
    coming = sorted(start for start in starts if start > asked.as_of)
    holding = [one for one in mine if one.in_force(asked.as_of, zone)]
    if broken:
        text = f"{', '.join(broken)} is active and cannot be read"
    elif any(one.scope.is_overlay for one in holding):
        names = ", ".join(one.canonical for one in holding if one.scope.is_overlay)
        text = f"{names} narrows a rule set that is not in force"
    elif active:
        text = "No active rule set covers this day"
    else:
        text = "No rule set is active"
    parts: list[Part] = [{"name": "text", "valueString": f"{text}: nothing can be decided"}]
    if coming:
        parts.append(_instant("until", coming[0]))
    return {"name": "gap", "part": parts}


def _reaches(rule_set: RuleSet, asked: _Asked) -> bool:
    scope = rule_set.scope
    if not scope.is_overlay or scope.area in asked.within:
        return True
    return bool(scope.institution) and scope.institution == asked.institution


def _layer(one: InForce, since: int, zone: str) -> Part:
    rule_set = one.rule_set
    parts: list[Part] = [
        {"name": "rule-set", "valueCanonical": rule_set.canonical},
        {"name": "resource", "valueReference": {"reference": one.version}},
        {"name": "level", "valueString": rule_set.scope.said()},
        {"name": "digest", "valueString": rule_set.digest},
        _instant("since", since),
    ]
    end = period(rule_set.start, rule_set.end, zone)[1]
    if end != ENDLESS:
        parts.append(_instant("until", end))
    return {"name": "layer", "part": parts}


def _rule(rule: Any) -> Iterator[Part]:
    yield {"name": "rule", "valueCode": rule.name}
    yield {"name": "severity", "valueCode": rule.severity}
    texts = {
        "title": rule.title.zh,
        "title-en": rule.title.en,
        "explanation": rule.explanation.zh,
        "explanation-en": rule.explanation.en,
        "clause": rule.clause,
    }
    for name, text in texts.items():
        if text:
            yield {"name": name, "valueString": text}
    yield {"name": "layer", "valueCanonical": rule.layer}


def _instant(name: str, us: int) -> Part:
    return {"name": name, "valueInstant": instant(us)}


def _boolean(name: str, value: bool) -> Part:
    return {"name": name, "valueBoolean": value}


async def lint_operation(gateway: Gateway, actor: Actor, call: Call) -> bytes:
    """What lint says of a rule set, as an OperationOutcome.

    Raises Invalid when none is given, NotFound for one that is not stored.
    """
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        stored = await stored_rule_sets(reader)
        definition = _given(call, {one.id: found for one, found in stored})
        catalogue = catalogue_of(gateway)
        try:
            rule_set = load_rule_set(definition)
            view = await Views().view(gateway, reader, rule_set, gateway.clock.now())
            catalogue = view.catalogue if view else catalogue
        except GatewayError:
            pass  # its faults are what lint says of it
    others = [one for _, one in stored if one.get("id") != definition.get("id")]
    issues = lint(
        definition,
        catalogue,
        others,
        depth=partial(area_depth, gateway),
        contexts=vocabulary_of(gateway),
    )
    nothing = Issue("informational", "Nothing to say", None, "lint", "information")
    return operation_outcome(tuple(issues) or (nothing,))


def _given(call: Call, stored: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    taken = call.one("resource")
    if call.id:
        if taken is not None:
            text = "The rule set is known from the address"
            raise Invalid(text, expression=taken.expression, rule="parameter")
        if call.id not in stored:
            raise NotFound("There is no such rule set", rule="unknown-id")
        return stored[call.id]
    if taken is None:
        text = "resource is required: the PlanDefinition"
        raise Invalid(text, expression="Parameters.parameter", rule="required")
    definition: dict[str, Any] = taken.value
    return definition
