"""Deciding local codes: accept, reject, or "nothing in the catalogue", by a person who is named.

All decisions of a call are one version of the institution's accepted map, with an AuditEvent, or
none is stored: a fault in one is told with its number. The map is the institution's own, so that it
can be read, corrected and exported like any map that it stores itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fhir_gateway.audit.events import create_event, update_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import (
    Conflict,
    GatewayError,
    Invalid,
    Issue,
    TooLong,
    Unavailable,
    Unprocessable,
)
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.wire import instant, parse, tail
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.interactions.local_codes import catch_up, contradictions_at
from fhir_gateway.interactions.local_codes_work import Line
from fhir_gateway.interactions.prepare import put_of
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.changes import ChangeSet, Entry, Settled, VersionIs
from fhir_gateway.terminology.local_codes import LocalCodes
from fhir_gateway.terminology.local_map import USES, Use, is_standard
from fhir_gateway.terminology.local_map_check import Cells, faults, row_of
from fhir_gateway.terminology.local_map_decide import PART, By, Decision, Kind, decided
from fhir_gateway.terminology.local_map_reading import read_map
from fhir_gateway.terminology.local_map_resource import map_id

#: Decisions of one call, and how often it is tried against others who decide at the same time.
MOST, ATTEMPTS = 5_000, 8

_LONGEST_NAME = 100


class Asked(NamedTuple):
    """A decision as it is asked for. `where` names it in messages: a row, a parameter."""

    kind: Kind
    cells: Cells
    score: float | None = None
    where: str = ""


class Decided(NamedTuple):
    """What was stored: the maps with their versions, and how many decisions each has taken."""

    maps: tuple[tuple[str, int], ...]
    decisions: int


async def decide(
    gateway: Gateway, actor: Actor, institution: str, asked: Sequence[Asked], *, person: str
) -> Decided:
    """Stores decisions. Raises Invalid without a person or with too many, Unprocessable with every
    fault, Conflict when others decide again and again, TooLong for a map that nobody could send."""
    codes = gateway.local_codes
    if codes is None:
        raise Unavailable("This command knows no local codes", rule="local-codes")
    person = _checked_person(person)
    if not asked or len(asked) > MOST:
        raise Invalid(f"Decide from 1 to {MOST} codes at a time", rule="decisions")
    decisions = _decisions(asked, codes)
    for _ in range(ATTEMPTS):
        await catch_up(gateway, institution)
        planned = await _planned(
            gateway, actor, codes, institution, decisions, By(person, _now(gateway))
        )
        if planned is None:
            continue
        change_set, maps = planned
        try:
            committed = await gateway.store.commit(change_set)
        except GatewayError as error:
            if getattr(error, "guard", -1) < 0:
                raise
            continue
        versions = [one.version for one in committed.results]
        return Decided(tuple(zip(maps, versions, strict=True)), len(asked))
    raise Conflict("Others decide codes of this institution; try again", rule="overtaken")


def accepted_above(lines: Iterable[Line], threshold: float) -> list[Asked]:
    """The decisions that take the first proposal of each line that is sure, and scores as much.

    What is not sure is left for a person to look at, whatever its score.
    """
    asked = []
    for line in lines:
        first = next(iter(line.proposals), None)
        if line.is_own and first is not None and first.sure and first.score >= threshold:
            asked.append(accepting(line, first.codes, first.score))
    return asked


def accepting(line: Line, codes: str, score: float | None = None) -> Asked:
    """The decision that a line of the work list means these items."""
    return Asked("accept", _cells(line, tuple(filter(None, codes.split(";")))), score)


def _cells(line: Line, items: tuple[str, ...]) -> Cells:
    local = line.local
    return Cells(
        kind=local.use,
        local_system=local.system,
        local_code=local.code,
        local_name=local.name,
        item=items,
        specimen=local.specimen,
        unit=local.unit,
        method=local.method,
    )


def _checked_person(person: str) -> str:
    text = person.strip()
    if not text or len(text) > _LONGEST_NAME or not text.isprintable():
        raise Invalid(
            f"Name the person who decides, in 1 to {_LONGEST_NAME} characters",
            expression="person",
            rule="person",
        )
    return text


def _decisions(asked: Sequence[Asked], codes: LocalCodes) -> list[Decision]:
    """The decisions as rows of the map. Raises Unprocessable with every fault."""
    issues: list[Issue] = []
    found = []
    for number, one in enumerate(asked, 1):
        where = one.where or f"decision {number}"
        wrong = [
            (each.column, each.sentence, each.rule) for each in faults(one.cells, codes.catalogue)
        ]
        if one.cells.local_system and is_standard(one.cells.local_system):
            text = "is a published code system: its codes are nobody's own"
            wrong.append(("local_system", text, "map-source"))
        if (one.kind == "nothing") != (not one.cells.item):
            text = "name no item" if one.kind == "nothing" else "name an item"
            wrong.append(("item", text, "map-item"))
        issues += [
            Issue("invalid", f"{where}: {c}: {text}", where, rule) for c, text, rule in wrong
        ]
        if not wrong:
            row = row_of(one.cells, codes.catalogue, source="", stored=True)
            found.append(Decision(one.kind, row, one.score))
    if issues:
        raise Unprocessable(issues=tuple(issues))
    return found


async def _planned(
    gateway: Gateway,
    actor: Actor,
    codes: LocalCodes,
    institution: str,
    decisions: Sequence[Decision],
    by: By,
) -> tuple[ChangeSet, list[str]] | None:
    """The change set and its maps; None when another map was stored while it was read."""
    change_set = ChangeSet(id=gateway.random(16), urgent=True)
    maps = []
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        if not codes.holds(institution, reader.epoch):
            return None
        for use in USES:
            mine = [one for one in decisions if one.row.use == use]
            if not mine:
                continue
            id = map_id(institution, use, PART)
            stored = await reader.read("ConceptMap", id)
            current = stored if stored is not None and not stored.deleted else None
            resource = decided(
                parse(current.whole()) if current is not None else None,
                institution, use, mine, by=by, catalogue=codes.catalogue,
            )  # fmt: skip
            read = read_map(resource, codes.catalogue)
            issues = list(read.issues)
            issues += await contradictions_at(reader, codes, institution, id, read.rows)
            if issues:
                raise Unprocessable(issues=tuple(issues))
            _check_size(gateway, resource)
            version = current.version if current is not None else 0
            _add(gateway, change_set, resource, institution, version)
            if gateway.audit:
                later = stored.version if stored is not None else 0
                change_set.journal.append(_event(gateway, actor, id, later))
            maps.append(id)
        change_set.guards.append(Settled(("ConceptMap",), (), reader.t))
    return change_set, maps


def _add(
    gateway: Gateway,
    change_set: ChangeSet,
    resource: dict[str, Any],
    institution: str,
    version: int,
) -> None:
    """Puts a map into the change set; `version` is the one that it follows, 0 for none."""
    owner, op = key64(f"Organization/{institution}"), "update" if version else "create"
    change_set.guards.append(VersionIs("ConceptMap", resource["id"], version))
    change_set.puts.append(put_of(gateway, resource, op=op, owner=owner))


def _event(gateway: Gateway, actor: Actor, id: str, before: int) -> Entry:
    """The audit entry; `before` is the version before, 0 for none."""
    call = call_of(gateway, actor)
    if before:
        event = update_event(call, type="ConceptMap", id=id, version=before + 1)
    else:
        event = create_event(call, type="ConceptMap", id=id)
    return entry(gateway, event)


def _check_size(gateway: Gateway, resource: dict[str, Any]) -> None:
    limit = gateway.settings.body_limit
    if len(tail(resource)) > limit:
        raise TooLong(
            f"A map may have {limit} bytes: export it into mappings/concepts, and begin anew",
            rule="body-limit",
        )


def _now(gateway: Gateway) -> str:
    return instant(gateway.clock.now())


def use_of(text: str) -> Use | None:
    """result or order, None for both. Raises Invalid for anything else."""
    if text not in ("", *USES):
        raise Invalid("use is result or order", expression="use", rule="map-kind")
    return "result" if text == "result" else "order" if text == "order" else None
