"""Follows maps of local codes that have changed: other rows and facts, the resources as they are.

A job walks what an institution owns and what has codes, type by type, passes over what bears none
of the codes that mean something else by now, and derives the rest again by today's map
(deriving.py). The store writes what differs: facts end and begin with that commit, so that a
decision is replayed from what it had read. What is stored while the job runs is coded by the new
map already. Many workers may do jobs at once, one has a job at a time; a job that was killed goes
on at its checkpoint. remap_plan.py says when there are jobs; docs/adr/0021.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Internal, TooCostly, Unavailable
from fhir_gateway.interactions.deriving import CODED_TYPES, Deriver, owner_key
from fhir_gateway.interactions.jobs import Done, Held
from fhir_gateway.interactions.remap_plan import KIND, Order, order_of, rows_of, table_of
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.store import Stored
from fhir_gateway.terminology.catalogue import SYSTEMS
from fhir_gateway.terminology.coder import Coder
from fhir_gateway.terminology.local_map import USES, local_map
from fhir_gateway.terminology.remapping import Changed, keys_of, read_changed

__all__ = ["KIND", "Counts", "State", "counted", "rehearse", "told", "work"]

#: Resources of a type that one page visits, whosever they are.
VISIT = 2_000

#: Seconds between two checkpoints.
STEP_SECONDS = 1.0


class Counts(msgspec.Struct):
    """What a job has seen: of `looked`, resources of the institution, `derived` bear a code of
    which the map says something else; so many of them have an item now, none any more, another."""

    looked: int = 0
    derived: int = 0
    mapped: int = 0
    unmapped: int = 0
    other: int = 0


class State(msgspec.Struct):
    """How far a job is: the type, the number of the last resource visited, and the last number
    that was given when the job began. What came later is coded by the new map."""

    type: int = 0
    rid: int = 0
    last: int = -1
    counts: Counts = msgspec.field(default_factory=Counts)

    @property
    def part(self) -> float:
        """How much of the way is behind, 0 to 1."""
        return min(1.0, (self.type + min(1.0, self.rid / max(self.last, 1))) / len(CODED_TYPES))


class _Coded(msgspec.Struct):
    """The elements of a resource that are mapped, without the rest."""

    code: dict[str, Any] = {}
    procedureCode: list[dict[str, Any]] = []
    orderDetail: list[dict[str, Any]] = []


_coded = msgspec.json.Decoder(_Coded)


async def work(held: Held) -> Done:
    """Does a job. Raises Lost and Stopped as `Held.step` does, Internal for a resource of which no
    rows can be made."""
    order = order_of(held.job)
    if order is None:
        raise Internal("It is not known what this job was to do", rule="remap")
    state = State()
    if held.job.checkpoint:
        state = msgspec.json.decode(held.job.checkpoint, type=State)
    walk = _Walk(held.gateway, order, state)
    deriver = Deriver(held.gateway, walk.look)
    loop = asyncio.get_running_loop()
    stepped = loop.time()
    try:
        await walk.begin()
        while (page := await walk.page()) is not None:
            await deriver.add(page)
            if loop.time() - stepped >= STEP_SECONDS:
                await deriver.settle()
                await held.step(told(order, state), msgspec.json.encode(state).decode())
                stepped = loop.time()
        await deriver.settle()
    finally:
        await deriver.leave()
    return Done(told(order, state), msgspec.json.encode(state).decode(), forever=True)


async def rehearse(gateway: Gateway, order: Order) -> Counts:
    """What a job would do, without doing it."""
    state = State()
    walk = _Walk(gateway, order, state)
    deriver = Deriver(gateway)
    await walk.begin()
    while (page := await walk.page()) is not None:
        await deriver.follow({stored.owner for stored in page})
        for number, stored in enumerate(page, 1):
            deriver.recoded(stored, walk.look)
            if not number % 50:
                await asyncio.sleep(0)
    return state.counts


def told(order: Order, state: State) -> str:
    """How far a job is, for people."""
    return f"{order.institution}: {state.part:.0%}, {counted(state.counts)}"


def counted(counts: Counts) -> str:
    """The figures of a job, for people."""
    return (
        f"{counts.looked} looked at, {counts.derived} derived again: {counts.mapped} became "
        f"mapped, {counts.unmapped} became unmapped, {counts.other} have another item"
    )


class _Walk:
    """The pages of a job: what of them has to be derived again."""

    def __init__(self, gateway: Gateway, order: Order, state: State) -> None:
        self._gateway, self._order, self._state = gateway, order, state
        self._changed: Changed = read_changed(order.changed)
        self._owner = owner_key(order.institution)
        self._before: Coder | None = None

    async def begin(self) -> None:
        """Notes where the walk ends, and what codes meant before."""
        async with self._gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            if self._state.last < 0:
                self._state.last, _ = await reader.given()
        if not self._changed:
            self._state.type = len(CODED_TYPES)
        self._before = await _coder_before(self._gateway, self._order)

    async def page(self) -> list[Stored] | None:
        """The next that bear a changed code, often none of a page; None at the end."""
        state = self._state
        if state.type >= len(CODED_TYPES):
            return None
        async with self._gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            try:
                found, state.rid = await reader.owned(
                    CODED_TYPES[state.type], self._owner, after_rid=state.rid, visit=VISIT
                )
            except TooCostly:
                raise Unavailable("The database is too slow to read", rule="deadline") from None
        if not state.rid or state.rid >= state.last:
            state.type, state.rid = state.type + 1, 0
        state.counts.looked += len(found)
        wanted = [stored for stored in found if self._touches(stored)]
        state.counts.derived += len(wanted)
        return wanted

    def _touches(self, stored: Stored) -> bool:
        if self._changed.everything:
            return True
        coded = _coded.decode(stored.whole())
        concepts = (coded.code, *coded.procedureCode, *coded.orderDetail)
        return any(self._changed.touches(keys_of(concept)) for concept in concepts)

    def look(self, resource: dict[str, Any], copy: dict[str, Any]) -> None:
        """Counts what becomes of a resource. Where it is not known what was believed before, what
        the resource itself says counts, as the map of its day coded it."""
        before = resource
        if self._before is not None:
            before, _, _ = self._before.recode(resource, self._order.institution)
        old, new, counts = set(_items(before)), set(_items(copy)), self._state.counts
        counts.mapped += bool(new and not old)
        counts.unmapped += bool(old and not new)
        counts.other += bool(old and new and old != new)


def _items(resource: Mapping[str, Any]) -> Iterator[str]:
    concepts = [resource.get("code"), *resource.get("procedureCode", ()),
                *resource.get("orderDetail", ())]  # fmt: skip
    for concept in concepts:
        for coding in (concept or {}).get("coding", ()):
            if coding.get("system") in SYSTEMS:
                yield f"{coding['system']}|{coding.get('code')}"


async def _coder_before(gateway: Gateway, order: Order) -> Coder | None:
    """What coded by the maps of the situation before; None when not all of it is known."""
    codes, before = gateway.local_codes, order.before
    if codes is None or before is None or before.catalogue != order.now.catalogue:
        return None
    rows = []
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        for use in USES:
            table = await table_of(
                reader, codes, order.institution, use, before.tables.get(use, "")
            )
            if table is None:
                return None
            rows += table
        for id, version in before.maps:
            stored = await reader.vread("ConceptMap", id, version)
            rows += rows_of(stored, codes, order.institution)
    return Coder(codes.catalogue, {order.institution: local_map(order.institution, rows)})
