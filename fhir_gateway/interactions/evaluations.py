"""Evaluating bodies in the registry, and who may write what into the register of evaluations.

An institution may assert something of itself, which makes no mark. Who passed and who failed is
said by the operator, or by an evaluating body that is registered, in its own name, of others, and
for no wider area than its own. Judged on the one path of every write, so that no door, condition,
patch or transaction goes round it. docs/adr/0024
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import msgspec

from fhir_gateway.audit.events import create_event, update_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden, Issue, Unprocessable
from fhir_gateway.fhir.datatypes import Reference, parse_reference
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.interactions.shared_reader import shared_reader
from fhir_gateway.interactions.steps import Step
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS, Actor
from fhir_gateway.security.evaluating_body import EvaluatingBody, body_of, organization_of_body
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.store import Reader, Store, Stored
from fhir_gateway.terminology.area import Areas, load_areas
from fhir_gateway.terminology.evaluation import (
    AREA_URL,
    ASSERTED,
    CITY_WIDE_URL,
    OUTCOMES,
    PERIOD_URL,
    body_faults,
    is_day,
    read_suspensions,
    values,
    why_not,
)

_TYPE = "VerificationResult"
_PAGE = 200
_MARKER = f"{CANONICAL}/StructureDefinition/evaluating-body".encode()


class _Bodies(NamedTuple):
    epoch: int
    bodies: Mapping[str, EvaluatingBody]


_known: WeakKeyDictionary[Store, _Bodies] = WeakKeyDictionary()
_areas: dict[str, Areas] = {}


class _Status(msgspec.Struct):
    status: str = ""


_status = msgspec.json.Decoder(_Status)


def areas_of(gateway: Gateway) -> Areas:
    """The table of areas of this gateway, read once."""
    folder = gateway.settings.terminology
    if folder not in _areas:
        _areas[folder] = load_areas(folder)
    return _areas[folder]


async def bodies_at(gateway: Gateway, reader: Reader) -> Mapping[str, EvaluatingBody]:
    """All registered evaluating bodies by logical id, as this snapshot sees them."""
    known = _known.get(gateway.store)
    if known is None or known.epoch != reader.epoch:
        async with shared_reader(gateway, reader) as whole:  # nobody's rows: all see them all
            found = await _read(whole)
            known = _known[gateway.store] = _Bodies(whole.epoch, MappingProxyType(found))
    return known.bodies


async def _read(reader: Reader) -> dict[str, EvaluatingBody]:
    found: dict[str, EvaluatingBody] = {}
    after = 0
    while page := await reader.scan("Organization", until_t=reader.t, after_rid=after, limit=_PAGE):
        for stored in page:
            if _MARKER in stored.tail:
                body = body_of(msgspec.json.decode(stored.whole()))
                if body is not None:
                    found[body.id] = body
        after = page[-1].rid
    return found


async def register_bodies(gateway: Gateway, bodies: Sequence[EvaluatingBody]) -> dict[str, str]:
    """Stores all of these bodies or none; what became of each: created, updated or unchanged.

    Raises Unprocessable with the faults of all of them.
    """
    areas = areas_of(gateway)
    issues = [
        Issue("invalid", f"{body.id}: {fault}", rule="evaluating-body")
        for body in bodies
        for fault in body_faults(body, areas)
    ]
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        stored = {body.id: await reader.read("Organization", body.id) for body in bodies}
    for id, one in stored.items():
        if one is not None and not one.deleted and _MARKER not in one.tail:
            text = f"{id}: Organization/{id} is something else already; choose another id"
            issues.append(Issue("conflict", text, rule="evaluating-body"))
    if issues:
        raise Unprocessable(issues=tuple(issues))
    puts = [
        prepare(
            gateway, organization_of_body(body), op="create", institution=None,
            only_if_changed=True,
        )
        for body in bodies
    ]  # fmt: skip
    call, journal = call_of(gateway, GATEWAY), []
    for id, one in stored.items():
        if one is None:
            event = create_event(call, type="Organization", id=id)
        else:
            event = update_event(call, type="Organization", id=id, version=one.version + 1)
        journal.append(entry(gateway, event))
    change_set = ChangeSet(id=gateway.random(16), puts=puts, journal=journal, urgent=True)
    committed = await gateway.store.commit(change_set)
    results = (result.outcome for result in committed.results)
    return {body.id: outcome for body, outcome in zip(bodies, results, strict=True)}


# -- what may be written -----------------------------------------------------------------------


async def check_evaluations(
    gateway: Gateway, reader: Reader, actor: Actor, steps: Sequence[Step]
) -> None:
    """Judges the evaluations among the steps, and that a body writes nothing else.

    Raises Forbidden for what the actor may not say, Unprocessable with every fault of what an
    evaluation says of its body, areas and days, by element.
    """
    evaluations = [step for step in steps if step.type == _TYPE]
    if not evaluations and not _is_narrow(actor):
        return
    bodies = await bodies_at(gateway, reader)
    issues: list[Issue] = []
    for step in steps:
        if actor.bound:
            _check_actor(actor, bodies.get(actor.institution or ""), step)
        if step.type == _TYPE and step.resource is not None and not step.matched:
            faults = tuple(_faults(step.resource, bodies, areas_of(gateway)))
            issues += step.placed(Unprocessable(issues=faults)).issues if faults else ()
    if issues:
        raise Unprocessable(issues=tuple(issues))


def _is_narrow(actor: Actor) -> bool:
    """Whether the actor sees its own rows alone, as evaluating bodies do."""
    return actor.bound and actor.access.owners is not None


def _check_actor(actor: Actor, body: EvaluatingBody | None, step: Step) -> None:
    if body is not None and step.type != _TYPE:
        raise Forbidden(
            "An evaluating body writes evaluations (VerificationResult) and nothing else",
            expression=step.root,
            rule="governed",
        )
    if step.type != _TYPE:
        return
    current = step.current
    stands = _status.decode(current.whole()).status if current and not current.deleted else ""
    if body is None:
        if stands not in ("", ASSERTED):
            raise Forbidden(
                "This evaluation is not the institution's own assertion any more",
                expression=step.root,
                rule="governed",
            )
        if step.resource is not None:
            _check_assertion(actor, step, step.resource)
        return
    if not body.active:
        raise Forbidden(
            "This evaluating body is not active any more", expression=step.root, rule="governed"
        )
    if step.resource is not None:
        _check_own_name(actor, step, step.resource)


def _check_assertion(actor: Actor, step: Step, resource: Mapping[str, Any]) -> None:
    """An institution asserts, of itself; it passes nobody."""
    if resource.get("status") != ASSERTED:
        raise Forbidden(
            "Who passed an evaluation is said by the gateway's operator or a registered "
            f"evaluating body; of itself an institution asserts (status {ASSERTED})",
            expression=f"{step.root}.status",
            rule="governed",
        )
    told = _organizations(resource.get("target", ()))
    if told != [actor.institution]:
        raise Forbidden(
            "An institution asserts something of itself alone",
            expression=f"{step.root}.target",
            rule="owner",
        )


def _check_own_name(actor: Actor, step: Step, resource: Mapping[str, Any]) -> None:
    """A body judges in its own name, and never itself."""
    said_by = [one.get("organization", {}) for one in resource.get("validator", ())]
    if _organizations(said_by) != [actor.institution]:
        raise Forbidden(
            f"An evaluating body judges in its own name: Organization/{actor.institution}",
            expression=f"{step.root}.validator",
            rule="owner",
        )
    if actor.institution in _organizations(resource.get("target", ())):
        raise Forbidden("Nobody evaluates itself", expression=f"{step.root}.target", rule="owner")


def _organizations(references: Sequence[Mapping[str, Any]]) -> list[str]:
    """The ids of Organizations; "" for a reference to anything else."""
    parsed = (parse_reference(one.get("reference", "")) for one in references)
    return [
        one.id if isinstance(one, Reference) and one.type == "Organization" else ""
        for one in parsed
    ]


def _faults(
    resource: Mapping[str, Any], bodies: Mapping[str, EvaluatingBody], areas: Areas
) -> Iterator[Issue]:
    """What is wrong with an evaluation that has an outcome."""
    if resource.get("status") not in OUTCOMES:
        return
    body: EvaluatingBody | None = None
    for place, validator in enumerate(resource.get("validator", ())):
        reference = validator.get("organization", {}).get("reference")
        if reference is None:
            continue
        (id,) = _organizations([{"reference": reference}])
        body = bodies.get(id)
        if body is None:
            text = f"{reference} is no registered evaluating body (evaluations body add)"
            where = f"{_TYPE}.validator[{place}].organization"
            yield Issue("not-found", text, where, "evaluating-body")
    yield from _area_faults(resource, body, areas)
    yield from _day_faults(resource)


def _area_faults(
    resource: Mapping[str, Any], body: EvaluatingBody | None, areas: Areas
) -> Iterator[Issue]:
    extensions = resource.get("extension", ())
    city_wide = True in values(extensions, CITY_WIDE_URL, "valueBoolean")
    for place, one in enumerate(extensions):
        if one.get("url") != AREA_URL:
            continue
        code = one.get("valueCoding", {}).get("code", "")
        where = f"{_TYPE}.extension[{place}].valueCoding.code"
        if not areas.known(code):
            text = f"{code} is no area of the table of areas"
            yield Issue("code-invalid", text, where, "evaluation-area")
        elif body is not None and (why := why_not(body, code, areas, city_wide=city_wide)):
            yield Issue("business-rule", why, where, "evaluation-area")


def _day_faults(resource: Mapping[str, Any]) -> Iterator[Issue]:
    for place, one in enumerate(resource.get("extension", ())):
        where = f"{_TYPE}.extension[{place}]"
        if one.get("url") == PERIOD_URL:
            period = one.get("valuePeriod", {})
            start, end = period.get("start", "")[:10], period.get("end", "")[:10]
            if start and end and end < start:
                yield Issue("invalid", "The period ends before it starts", where, "evaluation-days")
        for suspension, _ in read_suspensions([one]):
            days = [suspension.since, *([suspension.until] if suspension.until else [])]
            if not all(map(is_day, days)) or not suspension.reason:
                text = "A suspension has a first day, YYYY-MM-DD, and a reason"
                yield Issue("invalid", text, where, "evaluation-days")


async def stored_evaluations(reader: Reader) -> list[Stored]:
    """Every VerificationResult that stands, in the order in which they came."""
    found: list[Stored] = []
    after = 0
    while page := await reader.scan(_TYPE, until_t=reader.t, after_rid=after, limit=_PAGE):
        found += page
        after = page[-1].rid
    return found
