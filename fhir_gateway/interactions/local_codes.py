"""Maps of local codes in the store: read once an epoch, checked when they are written.

A map counts from its commit on: whoever is about to code compares the epoch of its snapshot with
that of what it knows (one comparison of integers), and reads what has changed before it goes on.
docs/adr/0018.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden, Issue, Unprocessable
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.interactions.lists import list_maps
from fhir_gateway.interactions.steps import Guards, Step
from fhir_gateway.search.planner import plan_search
from fhir_gateway.security.actor import SYSTEM_ACCESS, Access, Actor
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import Settled
from fhir_gateway.store.store import Reader, Stored
from fhir_gateway.terminology.catalogue import Catalogue
from fhir_gateway.terminology.catalogue_join import ListCodes, list_codes
from fhir_gateway.terminology.local_codes import LocalCodes
from fhir_gateway.terminology.local_map import LocalMap, Row
from fhir_gateway.terminology.local_map_check import clash, key_of
from fhir_gateway.terminology.local_map_reading import About, Rejected, about, misnamed, read_map
from fhir_gateway.terminology.local_map_resource import addresses

LOG = logging.getLogger("fhir_gateway")
_PAGE = 100


class _Head(msgspec.Struct):
    """What tells whose map a ConceptMap is, without its elements."""

    status: str = ""
    useContext: list[dict[str, Any]] = []


_head = msgspec.json.Decoder(_Head)


def is_behind(gateway: Gateway, reader: Reader, institution: str | None) -> bool:
    """Whether the maps of an institution may have changed since they were read. Hot."""
    codes = gateway.local_codes
    return codes is not None and not codes.holds(institution or "", reader.epoch)


async def catch_up(gateway: Gateway, institution: str | None) -> None:
    """Returns when the maps of an institution are known as they stand in the store now."""
    codes, id = gateway.local_codes, institution or ""
    while codes is not None:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            if codes.holds(id, reader.epoch):
                return
            if codes.epoch < reader.epoch:
                before = codes.t
                changed = await _changed(reader, codes)
                lists = await _lists(reader, codes, changed)
                if codes.t == before:  # else another task was faster
                    codes.turn(epoch=reader.epoch, t=reader.t, changed=changed, lists=lists)
            mine = sorted(map for map, whose in codes.known.items() if whose == id)
            rows = [row for map in mine for row in await _rows(reader, codes, map, id)]
            if codes.epoch == reader.epoch and codes.t <= reader.t:
                codes.put(id, rows)
                return


async def follow(gateway: Gateway, institution: str | None) -> None:
    """`catch_up` for what codes outside of a write: one look at the store when all is known."""
    if gateway.local_codes is None:
        return
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        behind = is_behind(gateway, reader, institution)
    if behind:
        await catch_up(gateway, institution)


async def map_at(gateway: Gateway, institution: str) -> LocalMap | None:
    """The map of an institution as it stands now, of both layers; None when it has none."""
    await follow(gateway, institution)
    return gateway.local_codes.map_of(institution) if gateway.local_codes is not None else None


async def stored_rows(reader: Reader, catalogue: Catalogue) -> dict[str, list[Row]]:
    """The rows of all active maps in the store, by institution: for those who have no Gateway that
    knows them."""
    found: dict[str, list[Row]] = {}
    after = 0
    while page := await reader.scan("ConceptMap", until_t=reader.t, after_rid=after, limit=_PAGE):
        for stored in page:
            if whose := _whose(stored):
                found.setdefault(whose, []).extend(read_map(parse(stored.whole()), catalogue).rows)
        after = page[-1].rid
    return found


async def rejections(gateway: Gateway, institution: str, access: Access) -> list[Rejected]:
    """Items that a person looked at for a code of the institution, and found not to be meant."""
    await follow(gateway, institution)
    codes = gateway.local_codes
    if codes is None:
        return []
    found: list[Rejected] = []
    async with gateway.store.snapshot(access) as reader:
        for id in sorted(id for id, whose in codes.known.items() if whose == institution):
            stored = await reader.read("ConceptMap", id)
            if stored is not None and not stored.deleted:
                found += read_map(parse(stored.whole()), codes.catalogue).rejected
    return found


async def _changed(reader: Reader, codes: LocalCodes) -> dict[str, str | None]:
    """Maps of local codes that are not as they were: whose they are, None for no map any more."""
    changed: dict[str, str | None] = {}
    if codes.t < 0:
        after = 0
        while page := await reader.scan(
            "ConceptMap", until_t=reader.t, after_rid=after, limit=_PAGE
        ):
            changed |= {one.id: whose for one in page if (whose := _whose(one)) is not None}
            after = page[-1].rid
        return changed
    before: tuple[int, int, int] | None = None
    while True:
        versions = await reader.changes(type="ConceptMap", before=before, limit=_PAGE)
        for one in versions:
            if one.t <= codes.t:
                return changed
            changed.setdefault(one.stored.id, _whose(one.stored))
        if len(versions) < _PAGE:
            return changed
        before = (versions[-1].t, versions[-1].n, versions[-1].i)


async def _lists(
    reader: Reader, codes: LocalCodes, changed: Mapping[str, str | None]
) -> ListCodes | None:
    """The codes of imported lists, when a map was changed that is no institution's."""
    others = [id for id, whose in changed.items() if whose is None and id not in codes.known]
    if codes.t >= 0 and not others:
        return None
    return list_codes(await list_maps(reader), codes.catalogue)


def _whose(stored: Stored) -> str | None:
    """The institution whose codes an active map is about."""
    if stored.deleted:
        return None
    head = _head.decode(stored.whole())
    told = about({"status": head.status, "useContext": head.useContext})
    return told.institution if told is not None and told.status == "active" else None


async def _rows(reader: Reader, codes: LocalCodes, id: str, institution: str) -> list[Row]:
    """The rows of a stored map. Faults are logged: the catalogue has an item no more."""
    stored = await reader.read("ConceptMap", id)
    if stored is None or _whose(stored) != institution:
        return []
    read = read_map(parse(stored.whole()), codes.catalogue)
    if read.issues:
        event = {"event": "local-map", "map": f"ConceptMap/{id}", "faults": len(read.issues)}
        LOG.warning(json.dumps(event))
    return read.rows


# -- what may be written -----------------------------------------------------------------------


async def check_maps(
    gateway: Gateway, reader: Reader, actor: Actor, steps: Sequence[Step], guards: Guards
) -> None:
    """Judges the maps of local codes among the steps; `reader` is not ahead of what is known.

    Raises Forbidden when an institution would publish another map than one of its own codes,
    Unprocessable with every fault of a map, by element.
    """
    judged: list[tuple[str, str, list[Row]]] = []
    for step in steps:
        if step.type == "ConceptMap" and step.resource is not None and not step.matched:
            await _check_map(gateway, reader, actor, step, judged)
    if judged:  # another map of the same codes, stored meanwhile, may contradict
        guards.add(Settled(("ConceptMap",), (), reader.t), ours=True)


async def _check_map(
    gateway: Gateway,
    reader: Reader,
    actor: Actor,
    step: Step,
    judged: list[tuple[str, str, list[Row]]],
) -> None:
    resource = step.resource or {}
    told, codes = about(resource), gateway.local_codes
    if actor.bound:
        _check_own(actor, step, told)
    if told is None or codes is None:
        return
    read = read_map(resource, codes.catalogue)
    issues = [*read.issues, *misnamed(resource, codes.catalogue)]
    if await _is_anothers(gateway, reader, step, told):
        text = "Another map has this address: give the map one of your own"
        issues.append(Issue("duplicate", text, "ConceptMap.url", "map-url"))
    registered = await institutions_at(gateway, reader)
    if told.institution and told.institution not in registered:
        text = f"No institution {told.institution} is registered here"
        issues.append(Issue("not-found", text, "ConceptMap.useContext", "map-institution"))
    elif told.status == "active":
        others = [one for one in judged if one[0] == told.institution]
        issues += _contradictions(read.rows, others)
        issues += await contradictions_at(reader, codes, told.institution, step.id, read.rows)
        judged.append((told.institution, step.name, read.rows))
    if issues:
        raise step.placed(Unprocessable(issues=tuple(issues)))


async def _is_anothers(gateway: Gateway, reader: Reader, step: Step, told: About) -> bool:
    """Whether the address of a map is that of a map of others, who would be answered by it."""
    url = str((step.resource or {}).get("url", ""))
    if not url:
        return False
    if url.startswith(f"{CANONICAL}/") and url not in addresses(told.institution):
        return True
    plan = plan_search(
        "ConceptMap",
        [("url", url)],
        secret=gateway.store.index_key,
        naming=gateway.extractor.naming,
    )
    found = (await reader.search(plan)).matches
    return any(one.id != step.id and _owner(one) != told.institution for one in found)


def _owner(stored: Stored) -> str:
    """The institution whose codes a map is about, in force or not; "" for any other map."""
    told = about({"useContext": _head.decode(stored.whole()).useContext})
    return told.institution if told is not None else ""


def _check_own(actor: Actor, step: Step, told: About | None) -> None:
    if told is None:
        raise Forbidden(
            "ConceptMap is published by the gateway's operator; a map of your own codes names "
            "your institution in useContext",
            expression=step.root,
            rule="governed",
        )
    if told.institution != actor.institution:
        raise Forbidden(
            "An institution maps its own codes, not another's",
            expression=f"{step.root}.useContext",
            rule="owner",
        )


async def contradictions_at(
    reader: Reader, codes: LocalCodes, institution: str, id: str, rows: Sequence[Row]
) -> list[Issue]:
    """What other active maps of the institution say otherwise than these rows of the map `id`.

    `codes` must be as of this snapshot.
    """
    others = []
    for other, whose in sorted(codes.known.items()):
        if whose == institution and other != id:
            theirs = await _rows(reader, codes, other, whose)
            others.append((whose, f"ConceptMap/{other}", theirs))
    return list(_contradictions(rows, others))


def _contradictions(
    rows: Sequence[Row], others: Sequence[tuple[str, str, list[Row]]]
) -> Iterator[Issue]:
    """Rows that another active map of the institution answers otherwise."""
    known: dict[tuple[str, ...], list[tuple[str, Row]]] = {}
    for _, name, theirs in others:
        for row in theirs:
            known.setdefault(key_of(row), []).append((name, row))
    for row in rows:
        for name, other in known.get(key_of(row), ()):
            if other.items != row.items and clash(row, [other]):
                text = f"{row.code or row.name}: {name} says that it means something else"
                yield Issue("conflict", text, "ConceptMap.group", "map-contradicts")
