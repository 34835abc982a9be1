"""Editions of lists in the store: read, added, joined; nothing is ever half there.

An edition is a CodeSystem, its ValueSet and, for an imported list, the ConceptMap that joins it to
the catalogue: one change set, with its audit event. The commit raises the epoch, so every process
that serves follows at its next question. docs/adr/0017-catalogue-editions.md
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from fhir_gateway.audit.events import transaction_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import (
    Conflict,
    Duplicate,
    Issue,
    NotFound,
    PreconditionFailed,
    Unprocessable,
)
from fhir_gateway.fhir.wire import parse, render, tail
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS
from fhir_gateway.store.changes import ChangeSet, Unique, VersionIs
from fhir_gateway.store.store import Reader, Stored
from fhir_gateway.terminology.catalogue import SYSTEMS, Catalogue
from fhir_gateway.terminology.catalogue_diff import told
from fhir_gateway.terminology.catalogue_join import Joins, join_map, joins_of, list_of
from fhir_gateway.terminology.catalogue_resource import LIST_KIND, PANEL_SYSTEM
from fhir_gateway.terminology.edition import (
    SYSTEM_ROOT,
    Edition,
    deciding_differences,
    edition_of,
    edition_resources,
    editions_of,
    reused,
    with_retired,
)

LOG = logging.getLogger("fhir_gateway")

_PAGE = 100
_MARKERS = tuple(text.encode() for text in (LIST_KIND, *SYSTEMS))

Resource = dict[str, Any]


class Plan(NamedTuple):
    """What an import would store: `outcome` is created, replaced or unchanged. `seen` are the
    versions of the editions and of the join that it was planned by."""

    edition: Edition
    former: Edition | None
    resources: tuple[Resource, ...]
    outcome: str
    seen: frozenset[str] = frozenset()


def today(gateway: Gateway) -> str:
    """The calendar day of now, in the zone of the settings."""
    now = datetime.fromtimestamp(gateway.clock.now() / 1_000_000, UTC)
    return now.astimezone(ZoneInfo(gateway.settings.zone)).date().isoformat()


# -- reading ---------------------------------------------------------------------------------------


async def stored_editions(reader: Reader) -> list[Edition]:
    """Every edition in the store, of the catalogue too, by name and first day.

    A CodeSystem that says it is a list and cannot be read as one is logged and left out.
    """
    found = []
    for stored in await _scan(reader, "CodeSystem"):
        if not any(marker in stored.tail for marker in _MARKERS):
            continue
        edition = _edition(stored)
        if edition is not None:
            found.append(edition)
    return sorted(found, key=lambda one: (one.name, one.effective, one.edition))


def _edition(stored: Stored) -> Edition | None:
    version = f"CodeSystem/{stored.id}/_history/{stored.version}"
    try:
        return edition_of(parse(stored.whole()), version)
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        LOG.error("%s is no list that can be read: %s", version, type(error).__name__)
        return None


async def _scan(reader: Reader, type: str, *, deleted: bool = False) -> list[Stored]:
    found: list[Stored] = []
    after = 0
    while True:
        page = await reader.scan(
            type, until_t=reader.t, after_rid=after, limit=_PAGE, deleted=deleted
        )
        found += page
        if len(page) < _PAGE:
            return found
        after = page[-1].rid


async def join_of(reader: Reader, edition: Edition) -> tuple[Joins, str]:
    """The joins of an imported edition and the version of the ConceptMap, "" without one."""
    stored = await reader.read("ConceptMap", edition.id)
    if stored is None or stored.deleted:
        return {}, ""
    joins = joins_of(parse(stored.whole()))
    return joins, f"ConceptMap/{stored.id}/_history/{stored.version}"


async def list_maps(reader: Reader) -> list[Resource]:
    """The ConceptMaps that join imported lists to the catalogue."""
    source = f'"source":"{SYSTEM_ROOT}'.encode()  # most maps are of institutions' own codes
    found = await _scan(reader, "ConceptMap")
    maps = [parse(stored.whole()) for stored in found if source in stored.tail]
    return [one for one in maps if list_of(one)]


async def list_resources(
    reader: Reader, editions: Sequence[Edition], *, everything: bool
) -> list[Resource]:
    """The CodeSystems, ValueSets and ConceptMaps of editions, without what a store adds to them.

    `everything` adds the panels of the catalogue.
    """
    ids = [one.stored.split("/")[1] for one in editions]
    if everything:
        ids.append(PANEL_SYSTEM.rpartition("/")[2])
    found = []
    for id in ids:
        for type in ("CodeSystem", "ValueSet", "ConceptMap"):
            stored = await reader.read(type, id)
            if stored is not None and not stored.deleted:
                resource = parse(stored.whole())
                del resource["meta"]
                found.append(resource)
    return found


def named(editions: Sequence[Edition], name: str, edition: str = "") -> list[Edition]:
    """The editions of a list, or the one of this name. Raises NotFound."""
    found = [one for one in editions if one.name == name]
    if not found:
        known = ", ".join(dict.fromkeys(one.name for one in editions)) or "none"
        raise NotFound(f"There is no list {name}; known: {known}", rule="list-unknown")
    chosen = [one for one in found if edition in ("", one.edition)]
    if not chosen:
        known = ", ".join(one.edition for one in found)
        raise NotFound(
            f"There is no edition {edition} of {name}; known: {known}", rule="list-unknown"
        )
    return chosen


# -- importing -------------------------------------------------------------------------------------


def plan_import(
    edition: Edition,
    joins: Joins,
    stored: Sequence[Edition],
    catalogue: Catalogue,
    *,
    day: str,
    replaces: bool = False,
    join: str = "",
) -> Plan:
    """What importing an edition would store. Pure.

    `join` is the version of the join that the edition has already, "" without one.
    An edition that is in force stays as it is; one whose first day is still to come may be
    replaced when `replaces` says so. Raises Conflict, with what to do.
    """
    others = [one for one in stored if one.name == edition.name]
    _check_place(edition, others)
    before = [one for one in others if one.effective < edition.effective]
    former = max(before, key=lambda one: one.effective, default=None)
    same = next((one for one in others if one.edition == edition.edition), None)
    edition = with_retired(edition, before)
    resources = (*edition_resources(edition, catalogue), join_map(edition, joins, catalogue))
    seen = frozenset([*(one.stored for one in others), *([join] if join else [])])
    if same is None:
        return Plan(edition, former, resources, "created", seen)
    if replace(same, stored="") == replace(edition, stored=""):
        return Plan(edition, former, resources, "unchanged")
    if same.effective <= day:
        raise Conflict(
            f"Edition {edition.edition} of {edition.name} is in force since {same.effective} and "
            "stays as it was decided by: import this one as a new edition",
            rule="list-in-force",
        )
    if not replaces:
        raise Conflict(
            f"Edition {edition.edition} of {edition.name} is there with other content: say "
            f"--replace, which is possible until {same.effective}",
            rule="list-exists",
        )
    return Plan(edition, former, resources, "replaced", seen)


def _check_place(edition: Edition, others: Iterable[Edition]) -> None:
    for one in others:
        if one.kind != edition.kind:
            raise Conflict(
                f"{edition.name} is a list of {one.kind} items: choose another name",
                rule="list-kind",
            )
        if one.edition != edition.edition and one.effective == edition.effective:
            raise Conflict(
                f"Edition {one.edition} of {edition.name} begins on {one.effective}, too: give "
                "another first day, so that it is clear which holds",
                rule="list-day",
            )


async def commit_plan(gateway: Gateway, plan: Plan) -> None:
    """Stores a plan, all of it or nothing.

    Raises Conflict when somebody else changed the list since it was planned.
    """
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        guards = await _guards(reader, plan)
    names = [f"{one['resourceType']}/{one['id']}" for one in plan.resources]
    summary = f"edition {plan.edition.edition} of {plan.edition.name}: {plan.outcome}"
    event = transaction_event(call_of(gateway, GATEWAY), resources=names, summary=summary)
    change_set = ChangeSet(
        id=gateway.random(16),
        guards=guards,
        puts=[
            prepare(gateway, one, op="create", institution=None, only_if_changed=True)
            for one in plan.resources
        ],
        journal=[entry(gateway, event)],
    )
    try:
        await gateway.store.commit(change_set)
    except (Duplicate, PreconditionFailed):
        raise _changed(plan.edition.name, "import") from None


async def _guards(reader: Reader, plan: Plan) -> list[Any]:
    """The list is as it was read: its resources, and the set of its editions."""
    seen = {one.stored for one in await stored_editions(reader) if one.name == plan.edition.name}
    _, join = await join_of(reader, plan.edition)
    if seen | ({join} if join else set()) != plan.seen:
        raise _changed(plan.edition.name, "import")
    guards: list[Any] = []
    for one in plan.resources:
        stored = await reader.read(one["resourceType"], one["id"])
        if stored is not None and not stored.deleted:
            _check_own(one, parse(stored.whole()))
        guards.append(VersionIs(one["resourceType"], one["id"], stored.version if stored else 0))
    # another edition that is imported at the same time has other ids, but begins from this state
    prefix = f"{plan.edition.name}-"
    state = []
    deleted = await _scan(reader, "CodeSystem", deleted=True)
    for stored in [*await _scan(reader, "CodeSystem"), *deleted]:
        if stored.id.startswith(prefix):
            state.append((stored.id, stored.version))
        elif f'"url":"{plan.edition.url}"'.encode() in stored.tail:
            raise _taken(plan.edition.name)
    state.sort()
    key = sha256(render([plan.edition.name, state])).digest()
    return [Unique("list-edition", key), *guards]


def _check_own(resource: Resource, stored: Resource) -> None:
    if stored.get("url") != resource["url"]:
        raise _taken(resource["id"])


def _changed(what: str, do: str) -> Conflict:
    text = f"{what} was changed by somebody else meanwhile: {do} again"
    return Conflict(text, rule="list-changed")


def _taken(name: str) -> Conflict:
    return Conflict(
        f"{name} is the name of something else in the store: choose another for the list",
        rule="list-name",
    )


async def commit_join(
    gateway: Gateway, edition: Edition, resource: Resource, *, seen: str | None = None
) -> bool:
    """Stores another join of an edition; False when it says what was there.

    `seen` is the version that it was made from, None for the one that is there now. Raises
    Conflict when somebody else changed it since.
    """
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        stored = await reader.read("ConceptMap", edition.id)
        if seen not in (None, (await join_of(reader, edition))[1]):
            raise _changed("The join", "do it")
    if stored is not None and not stored.deleted and stored.tail == tail(resource):
        return False
    version = stored.version if stored is not None else 0
    event = transaction_event(
        call_of(gateway, GATEWAY),
        resources=[f"ConceptMap/{edition.id}"],
        summary=f"join of edition {edition.edition} of {edition.name}",
    )
    change_set = ChangeSet(
        id=gateway.random(16),
        guards=[VersionIs("ConceptMap", edition.id, version)],
        puts=[prepare(gateway, resource, op="update", institution=None)],
        journal=[entry(gateway, event)],
    )
    try:
        await gateway.store.commit(change_set)
    except PreconditionFailed:
        raise _changed("The join", "do it") from None
    return True


# -- the catalogue that comes with the project -----------------------------------------------------


async def with_former(
    gateway: Gateway, resources: Sequence[Resource], catalogue: Catalogue
) -> list[Resource]:
    """The resources to seed, so that editions of the catalogue follow each other as they must.

    The edition that was served so far is kept beside the new one, and the codes that the new one
    leaves out are retired in it. Raises Unprocessable when the tables give a code another meaning
    than it was served with, or change what decides under the name of the same edition.
    """
    seeded = list(resources)
    for edition in editions_of(catalogue):
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            stored = await reader.read("CodeSystem", edition.name)
        place = next((n for n, one in enumerate(seeded) if one.get("url") == edition.url), None)
        if stored is None or stored.deleted or place is None:
            continue
        if stored.tail == tail(seeded[place]):  # as at nearly every start
            continue
        served = _edition(stored)
        if served is None:
            continue
        _check_served(served, edition)
        complete = with_retired(edition, [served])
        if len(complete.retired) > len(edition.retired):
            seeded[place] = _retiring(seeded[place], complete, catalogue)
        if served.edition != edition.edition:
            former = parse(stored.whole())
            del former["meta"]
            seeded.append({**former, "id": _former_id(served)})
    return seeded


def _former_id(edition: Edition) -> str:
    return re.sub(r"[^A-Za-z0-9.\-]", "-", edition.id)[:64]


def _check_served(served: Edition, edition: Edition) -> None:
    issues = [
        Issue(
            "invalid",
            f"{edition.name}: {one.code}: {'; '.join(map(told, one.differences))}. The code was "
            f"served in edition {one.edition} and keeps its meaning: give the new item another",
            rule="catalogue-meaning",
        )
        for one in reused(edition.all_items().values(), [served], edition.effective)
    ]
    if served.edition == edition.edition:
        issues += [
            Issue(
                "invalid",
                f"{edition.name}: {code} differs from what edition {edition.edition} was served "
                f"with ({told(one)}): name a new edition in catalogue.toml",
                rule="catalogue-edition",
            )
            for code, one in deciding_differences(served, edition)
        ]
    if issues:
        raise Unprocessable(issues=tuple(issues))


def _retiring(resource: Resource, complete: Edition, catalogue: Catalogue) -> Resource:
    """The CodeSystem of the new edition with the codes that only the former one has."""
    system = edition_resources(complete, catalogue)[0]
    return {**resource, "count": system["count"], "concept": system["concept"]}
