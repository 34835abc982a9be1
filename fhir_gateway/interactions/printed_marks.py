"""Printed marks compared with the register as a result comes in (docs/evaluations.md).

A mark that nobody gave is a data-quality event: a tag on the resource, by which it is searched and
counted, and a figure for the operator. It changes no outcome: the register makes the mark when a
decision is made. Only what carries a printed mark is looked at, so that others pay nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.interactions.evaluations import areas_of
from fhir_gateway.interactions.steps import Step
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import Derived, Evaluation, Fact
from fhir_gateway.store.store import Reader
from fhir_gateway.terminology.coder import DATA_QUALITY

UNREGISTERED = "printed-mark-unregistered"
_URL = f"{CANONICAL}/StructureDefinition/recognition-mark"


async def flag_marks(gateway: Gateway, steps: Sequence[Step]) -> None:
    """Tags what is written with a mark for which the register has no evaluation."""
    marked = [step for step in steps if step.resource is not None and _is_marked(step.resource)]
    if not marked:
        return
    found = 0
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        for step in marked:
            if step.resource is not None and not step.matched:
                found += await _flag(gateway, reader, step.resource)
    if found:
        gateway.count("marks_unregistered", found)


def _is_marked(resource: dict[str, Any]) -> bool:
    if "extension" not in resource:
        return False
    return any(one.get("url") == _URL for one in resource["extension"])


async def _flag(gateway: Gateway, reader: Reader, resource: dict[str, Any]) -> bool:
    derived = Derived([], [], [], [], [], [], [], [])
    for derive in gateway.derivers:
        derive(resource, derived)
    facts = [fact for fact in derived.facts if fact.mark and fact.item]
    pairs = [(fact.issuer, fact.item) for fact in facts if fact.issuer]
    rows = await reader.evaluations(pairs, reader.t)
    if all(_is_registered(gateway, fact, rows) for fact in facts):
        return False
    tags = resource.setdefault("meta", {}).setdefault("tag", [])
    if not any(one.get("code") == UNREGISTERED for one in tags):
        tags.append({"system": DATA_QUALITY, "code": UNREGISTERED})
    return True


def _is_registered(gateway: Gateway, fact: Fact, rows: Sequence[Evaluation]) -> bool:
    """Whether a passed evaluation of that time reaches as far as the mark says.

    Of a mark that names no known area it is enough that one was passed anywhere.
    """
    areas = areas_of(gateway)
    named = areas.within(areas.of_mark(fact.mark))
    own = [
        row
        for row in rows
        if (row.institution, row.item) == (fact.issuer, fact.item)
        and (not named or row.area in named)
        and _holds(row, fact, gateway.settings.zone)
    ]
    return any(row.passed and not any(_replaces(other, row) for other in own) for row in own)


def _holds(row: Evaluation, fact: Fact, zone: str) -> bool:
    low = date_range(row.start, zone)[0] if row.start else fact.time
    high = date_range(row.end, zone)[1] if row.end else fact.time_high
    return low <= fact.time_high and fact.time <= high


def _replaces(other: Evaluation, row: Evaluation) -> bool:
    """Whether a failed round of the same body and area stands against a passed one."""
    same = (other.evaluator, other.area) == (row.evaluator, row.area)
    return same and not other.passed and other.start >= row.start
