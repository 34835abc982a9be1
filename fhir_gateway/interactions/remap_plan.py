"""When maps of local codes have changed: the jobs that follow them; docs/adr/0021.

An institution's situation is the versions of its maps in the store, its installed tables, and the
catalogue. Where the last job was made for another situation, a new one is made, that looks at the
codes which any version said something else of since the last job that came to its end: what was
stored in between was coded by one of those. Jobs that it makes needless are cancelled.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.local_codes import follow
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store import jobs
from fhir_gateway.store.jobs import OPEN_STATES, Job
from fhir_gateway.store.store import Reader, Stored
from fhir_gateway.terminology.local_codes import LocalCodes
from fhir_gateway.terminology.local_map import USES, Row, Use
from fhir_gateway.terminology.local_map_reading import about, read_map
from fhir_gateway.terminology.local_map_resource import map_id
from fhir_gateway.terminology.remapping import (
    Changed,
    differing,
    digest_of_catalogue,
    digest_of_rows,
    digest_of_told,
)

KIND = "remap"

#: ConceptMaps that are read at a time; more jobs than there ever are.
_PAGE, _ALL = 100, 1_000_000


class Situation(msgspec.Struct, frozen=True):
    """What an institution's resources are coded by at a commit: (id, version) of the active maps
    in the store, digests of the tables by use, and of the catalogue."""

    t: int
    maps: tuple[tuple[str, int], ...]
    tables: dict[str, str]
    catalogue: str

    @property
    def digest(self) -> str:
        """The same when everything is coded the same."""
        return digest_of_told((self.maps, sorted(self.tables.items()), self.catalogue))


class Order(msgspec.Struct, frozen=True):
    """What a job is to do: follow these maps for the codes that `changed` names (terminology.
    remapping). `before` is the situation since which it looks, None when that is not known."""

    institution: str
    now: Situation
    changed: str
    before: Situation | None = None


def order_of(job: Job) -> Order | None:
    """What a job was made for; None when that was forgotten, as of one that was cancelled."""
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(job.payload, type=Order)
    return None


async def planned(gateway: Gateway, institution: str) -> list[Job]:
    """The jobs of an institution, newest first."""
    found = await jobs.find_all(gateway.store, kind=KIND, prefix=f"{KIND}_{institution}_")
    return sorted(found, key=_number, reverse=True)


def _number(job: Job) -> tuple[int, int, str]:
    return int(job.id.split("_")[2]), job.created, job.id


async def plan(
    gateway: Gateway, institution: str, *, everything: bool = False, again: bool = False
) -> Job | None:
    """Makes the job that follows the maps of an institution as they stand.

    None when the last one was made for just that, unless there is to be one `again`. `everything`
    has all looked at, whatever has changed.
    """
    order = await order_now(gateway, institution, everything=everything)
    known = await planned(gateway, institution)
    digest = order.now.digest
    if known and known[0].id.endswith(f"_{digest}") and not again:
        return None
    number = _number(known[0])[0] + 1 if known else 1
    job = await jobs.enqueue(
        gateway.store,
        id=f"{KIND}_{institution}_{number:05}_{digest}",
        kind=KIND,
        payload=msgspec.json.encode(order).decode(),
    )
    for other in known:
        if other.state in OPEN_STATES:
            await jobs.cancel(gateway.store, other.id)
    return job


async def order_now(gateway: Gateway, institution: str, *, everything: bool = False) -> Order:
    """What is to be done for an institution as its maps stand."""
    codes = gateway.local_codes
    assert codes is not None, "this gateway codes nothing"
    while True:
        await follow(gateway, institution)
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            if not codes.holds(institution, reader.epoch):
                continue
            now = await _situation(reader, codes, institution)
            before = await _last_done(gateway, institution)
            changed = Changed(everything=True)
            if before is not None and not everything:
                changed = await _changed(reader, codes, institution, before, now)
            return Order(institution, now, changed.spelled(), before)


async def _situation(reader: Reader, codes: LocalCodes, institution: str) -> Situation:
    maps = []
    for id, whose in sorted(codes.known.items()):
        if whose == institution and (stored := await reader.read("ConceptMap", id)) is not None:
            maps.append((id, stored.version))
    tables: dict[str, str] = {}
    for use in USES:
        if rows := _table(codes, institution, use):
            tables[use] = digest_of_rows(rows)
    return Situation(reader.t, tuple(maps), tables, digest_of_catalogue(codes.catalogue))


def _table(codes: LocalCodes, institution: str, use: Use) -> list[Row]:
    table = codes.tables.get(institution)
    return [row for row in table.rows if row.use == use] if table is not None else []


async def _last_done(gateway: Gateway, institution: str) -> Situation | None:
    """What everything was coded by at some time, or by what came later."""
    for job in await planned(gateway, institution):
        if job.state == "done":
            order = order_of(job)
            return order.now if order is not None else None
    return None


async def _changed(
    reader: Reader, codes: LocalCodes, institution: str, before: Situation, now: Situation
) -> Changed:
    """The codes of which some version said something else than the one before it."""
    if before.catalogue != now.catalogue:
        return Changed(everything=True)
    changed = Changed()
    async for one in _versions(reader, since=before.t):
        previous = None
        if one.version > 1:
            previous = await reader.vread("ConceptMap", one.id, one.version - 1)
        pair = [rows_of(stored, codes, institution) for stored in (previous, one)]
        changed.add(differing(*pair))
    for use in USES:
        if before.tables.get(use) == now.tables.get(use):
            continue
        older = await table_of(reader, codes, institution, use, before.tables.get(use, ""))
        if older is None:
            return Changed(everything=True)
        changed.add(differing(older, _table(codes, institution, use)))
    return changed


async def _versions(reader: Reader, *, since: int) -> AsyncIterator[Stored]:
    """The versions of ConceptMaps behind a commit, newest first."""
    place: tuple[int, int, int] | None = None
    while True:
        found = await reader.changes(type="ConceptMap", before=place, limit=_PAGE)
        for one in found:
            if one.t <= since:
                return
            yield one.stored
        if len(found) < _PAGE:
            return
        place = (found[-1].t, found[-1].n, found[-1].i)


def rows_of(stored: Stored | None, codes: LocalCodes, institution: str) -> list[Row]:
    """The rows of one version of a map, when it was in force for this institution."""
    if stored is None or stored.deleted or institution.encode() not in stored.tail:
        return []
    resource: dict[str, Any] = parse(stored.whole())
    told = about(resource)
    if told is None or (told.institution, told.status) != (institution, "active"):
        return []
    return read_map(resource, codes.catalogue).rows


async def table_of(
    reader: Reader, codes: LocalCodes, institution: str, use: Use, digest: str
) -> list[Row] | None:
    """The rows of an installed table of this digest ("" for none); None when nobody knows them.

    Each table that was ever installed is a version of the ConceptMap that shows it.
    """
    if not digest:
        return []
    current = _table(codes, institution, use)
    if digest_of_rows(current) == digest:
        return current
    for stored in await reader.history("ConceptMap", map_id(institution, use)):
        if not stored.deleted:
            rows = read_map(parse(stored.whole()), codes.catalogue).rows
            if digest_of_rows(rows) == digest:
                return rows
    return None


class Watch:
    """Sees that maps have changed, and plans. A worker has one."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._epoch = -1
        self._t = -1

    async def look(self) -> None:
        """Makes the jobs that are wanted. One look at the store when nothing has happened."""
        codes = self._gateway.local_codes
        if codes is None:
            return
        async with self._gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            t, epoch = reader.t, reader.epoch
            if epoch == self._epoch:
                return
            touched = set[str]()
            if self._t >= 0:
                touched = {one.id async for one in _versions(reader, since=self._t)}
        before = set(codes.known.items())
        await follow(self._gateway, None)
        for institution in sorted(await self._concerned(codes, touched, before)):
            await plan(self._gateway, institution)
        self._epoch, self._t = epoch, t

    async def _concerned(
        self, codes: LocalCodes, touched: set[str], before: set[tuple[str, str]]
    ) -> set[str]:
        """All that have a map or had one when this process begins, later those whose maps have
        changed: with other tables than another process has, each would follow the other for ever.
        """
        known = before | set(codes.known.items())
        if self._t >= 0:
            return {whose for id, whose in known if id in touched}
        found = {whose for _, whose in known} | set(codes.tables)
        for job in await jobs.find_all(self._gateway.store, kind=KIND, limit=_ALL):
            found.add(job.id.split("_")[1])
        return found
