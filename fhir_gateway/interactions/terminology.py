"""The terminology that is in force: what is stored, beside what the gateway comes with.

Made once per epoch of the store, which every commit to a CodeSystem, ValueSet or ConceptMap
raises, so that each process answers by what is stored. Only what changed since the last epoch is
read again, and large resources are read in a thread, so that other requests go on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary
from zoneinfo import ZoneInfo

from msgspec.json import decode

from fhir_gateway.context import Gateway
from fhir_gateway.errors import NotFound, TooCostly
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.store import Reader, Store, Stored
from fhir_gateway.terminology.builtin import (
    builtin_concept_maps,
    builtin_systems,
    builtin_value_sets,
)
from fhir_gateway.terminology.local_map_reading import about
from fhir_gateway.terminology.resource_system import ResourceSystem
from fhir_gateway.terminology.service import Terminology
from fhir_gateway.terminology.system import System
from fhir_gateway.terminology.value_set import load_vocabulary

TYPES = ("CodeSystem", "ValueSet", "ConceptMap")

#: Resources that are read at a time, and changes that are asked for before all is read again.
_PAGE, _MOST_CHANGES = 50, 500

Key = tuple[str, str]


class _Read(NamedTuple):
    """One stored resource, ready to be asked."""

    resource: Mapping[str, Any]
    system: ResourceSystem | None


class _Kept(NamedTuple):
    """What is in force as of an epoch, and what it was made of. `updated` is the time of the
    newest resource in it, `day` the date on which its editions hold."""

    epoch: int
    t: int
    updated: int
    day: str
    read: Mapping[Key, _Read]
    terminology: Terminology


class _Builtin(NamedTuple):
    """What comes with a terminology folder."""

    systems: Sequence[System]
    concept_maps: Sequence[Mapping[str, Any]]


_NOTHING = _Kept(-1, -1, 0, "", {}, Terminology())
_kept: WeakKeyDictionary[Store, _Kept] = WeakKeyDictionary()
_making: WeakKeyDictionary[Store, asyncio.Lock] = WeakKeyDictionary()


async def terminology(gateway: Gateway) -> Terminology:
    """The terminology in force now. Not to be asked for while a snapshot is held: the first
    question of an epoch opens others."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        known = _current(gateway, reader)
        epoch = reader.epoch
    return (known or await _made(gateway, epoch)).terminology


async def stored_resource(gateway: Gateway, type: str, id: str) -> Mapping[str, Any]:
    """A stored CodeSystem, ValueSet or ConceptMap. Raises NotFound."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        known = _current(gateway, reader)
        epoch = reader.epoch
    found = (known or await _made(gateway, epoch)).read.get((type, id))
    if found is None:
        raise NotFound("There is no such resource", rule="unknown-id")
    return found.resource


def _current(gateway: Gateway, reader: Reader) -> _Kept | None:
    kept = _kept.get(gateway.store)
    if kept is None or kept.epoch < reader.epoch or kept.day != _today(gateway):
        return None
    return kept


def _today(gateway: Gateway) -> str:
    now = datetime.fromtimestamp(gateway.clock.now() / 1_000_000, UTC)
    return now.astimezone(ZoneInfo(gateway.settings.zone)).date().isoformat()


async def _made(gateway: Gateway, epoch: int) -> _Kept:
    """Makes what is in force at this epoch or later, once for all who wait for it."""
    lock = _making.setdefault(gateway.store, asyncio.Lock())
    async with lock:
        day = _today(gateway)
        kept = _kept.get(gateway.store, _NOTHING)
        if kept.epoch >= epoch and kept.day == day:
            return kept
        made = await _next(gateway, kept, day)
        _kept[gateway.store] = made
        return made


async def _next(gateway: Gateway, kept: _Kept, day: str) -> _Kept:
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        epoch, t = reader.epoch, reader.t
    read = dict(kept.read)
    updated = kept.updated
    changes = await _changed(gateway, kept, t) if kept.t >= 0 else None
    if changes is None:
        read.clear()
        async for page in _all(gateway, t):
            read |= await asyncio.to_thread(_read, page)
            updated = max([updated, *(one.updated for one in page)])
    else:
        for one in changes:
            read.pop((one.type, one.id), None)
            updated = max(updated, one.updated)
        read |= await asyncio.to_thread(_read, [one for one in changes if not one.deleted])
    made = await asyncio.to_thread(_assembled, read, gateway.settings.terminology, day)
    return _Kept(epoch, t, updated, day, read, made)


async def _changed(gateway: Gateway, kept: _Kept, t: int) -> list[Stored] | None:
    """The newest version of what was stored since, deletions too; None when that is too much."""
    found: dict[Key, Stored] = {}
    for type in TYPES:
        before = None
        while True:
            try:
                async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                    page = await reader.changes(
                        type=type, since=kept.updated, until_t=t, before=before, limit=_PAGE
                    )
            except TooCostly:
                return None
            new = [one for one in page if one.t > kept.t]
            for change in new:
                found.setdefault((type, change.stored.id), change.stored)
            if len(page) < _PAGE or len(new) < len(page):
                break
            if len(found) > _MOST_CHANGES:
                return None
            before = (page[-1].t, page[-1].n, page[-1].i)
    return list(found.values())


async def _all(gateway: Gateway, t: int) -> AsyncIterator[list[Stored]]:
    """Every resource of the three types as of a commit, page by page, each on its own snapshot."""
    for type in TYPES:
        after = 0
        while True:
            async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                page = await reader.scan(type, until_t=t, after_rid=after, limit=_PAGE)
            if page:
                yield page
            if len(page) < _PAGE:
                break
            after = page[-1].rid


def _read(page: Sequence[Stored]) -> dict[Key, _Read]:
    found: dict[Key, _Read] = {}
    for stored in page:
        resource = decode(stored.whole())
        system = None
        if stored.type == "CodeSystem" and resource.get("content") != "supplement":
            system = ResourceSystem(resource)
            system.index()
        found[stored.type, stored.id] = _Read(resource, system)
    return found


def _assembled(read: Mapping[Key, _Read], folder: str, day: str) -> Terminology:
    """What is stored goes before what the gateway comes with, of the same url and version."""
    of: dict[str, list[Mapping[str, Any]]] = {type: [] for type in TYPES}
    for (type, _), one in read.items():
        of[type].append(one.resource)
    stored: list[System] = [one.system for one in read.values() if one.system is not None]
    made = Terminology(
        [*_builtin(folder).systems, *stored],
        [*builtin_value_sets(), *of["ValueSet"]],
        list(_maps(_builtin(folder).concept_maps, of["ConceptMap"])),
        day,
    )
    made.library.systems()  # makes the library here, in the thread
    return made


def _maps(
    builtin: Sequence[Mapping[str, Any]], stored: Sequence[Mapping[str, Any]]
) -> Iterator[Mapping[str, Any]]:
    """The concept maps. An institution's map of its own codes never stands at the address of
    another map: that would answer everybody's questions in its place."""
    local = [one for one in stored if about(one) is not None]
    ours = [*builtin, *(one for one in stored if about(one) is None)]
    taken = {one.get("url") for one in ours}
    yield from (one for one in local if one.get("url") not in taken)
    yield from ours


@lru_cache(maxsize=4)
def _builtin(folder: str) -> _Builtin:
    """What nobody has to store, made once for each terminology folder."""
    vocabulary = load_vocabulary(folder)
    return _Builtin(builtin_systems(vocabulary), builtin_concept_maps(vocabulary))
