"""Stores what a plan means: Schedules, then bucket by bucket its Slots and their quotas.

Every piece is one commit: the Slots of a bucket (of several, where a slot moves from one to
another) and the quotas of these buckets, judged under the write lock against the bookings of that
moment. A piece that loses against a booking is worked out anew; a run that was cut short goes on
where it was, because a piece that is stored makes no difference any more. docs/scheduling.md
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from fhir_gateway.audit.events import transaction_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, Invalid, PreconditionFailed, Unprocessable
from fhir_gateway.fhir.home import institution_home
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.interactions.prepare import add_codings, prepare
from fhir_gateway.scheduling.calendar import instant_at
from fhir_gateway.scheduling.generate import Finding, Plan, plan_supply
from fhir_gateway.scheduling.generate_fhir import schedules_of, services_of, slots_of
from fhir_gateway.scheduling.quota_plan import period_by, whole_periods
from fhir_gateway.scheduling.site_files import SiteFiles
from fhir_gateway.scheduling.supply_change import Affected, Existing, SupplyChange, changes_to
from fhir_gateway.scheduling.supply_pieces import Piece, pieces_of
from fhir_gateway.scheduling.template import Supply
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS
from fhir_gateway.store.changes import ChangeSet, Exists, VersionIs
from fhir_gateway.store.claim_rows import Settle
from fhir_gateway.store.claim_state import QuotaState
from fhir_gateway.store.slot_sql import quota_rows
from fhir_gateway.store.store import Reader
from fhir_gateway.store.supply_sql import slots_between

#: How often a piece is worked out anew that lost against bookings.
ROUNDS = 5


class Compared(NamedTuple):
    """A plan held against what is stored: what would be written, piece by piece."""

    plan: Plan
    change: SupplyChange
    pieces: tuple[Piece, ...]
    findings: tuple[Finding, ...]


class Progress(NamedTuple):
    """How far a run is: pieces stored in all, those of this round, slots of the last one."""

    done: int
    pieces: int
    slots: int
    keys: tuple[str, ...]


def planned(site: SiteFiles, supply: Supply, first: date, last: date, zone: ZoneInfo) -> Plan:
    """The plan of a horizon, widened to whole release periods."""
    since, until = whole_periods(site.tables, supply, first, last)
    return plan_supply(
        supply, site.calendar, lambda one, day: period_by(site.tables, supply.site, one, day),
        since, until, zone,
    )  # fmt: skip


def withdrawn(plan: Plan, days: tuple[date, date] | None = None) -> Plan:
    """The plan of the same horizon with nothing in it: everything is to be withdrawn that begins on
    these days, or at all. What else lies in their release periods stays as it is stored."""
    return plan._replace(slots=(), closed=(), only=days)


async def compare(gateway: Gateway, site: SiteFiles, plan: Plan) -> Compared:
    """What a plan would change now. Reads only."""
    zone = ZoneInfo(gateway.settings.zone)
    now = gateway.clock.now()
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        await _check_registered(gateway, reader, plan.supply)
        existing, buckets = await _existing(reader, plan, zone, now)
        wanted = slots_of(plan, zone)
        for slot in wanted.values():
            add_codings(gateway, slot, plan.supply.site.id)
        starts = {one.id: one.start for one in plan.slots}
        change = changes_to(wanted, existing, now, starts, _within(plan, zone))
        pieces, findings = pieces_of(site.tables, plan, change, buckets, zone, now)
        home = institution_home(plan.supply.site.id)
        kept = []
        for piece in pieces:
            stored = {key: await _quotas(reader, home, key) for key in piece.keys}
            needed = piece.needed(stored)
            if needed.writes or not needed.is_settled(stored):
                kept.append(needed)
    return Compared(plan, change, tuple(kept), (*plan.findings, *findings))


def _within(plan: Plan, zone: ZoneInfo) -> tuple[int, int] | None:
    """From when until when (µs) a plan speaks of Slots; None for all of its horizon."""
    if plan.only is None:
        return None
    first, last = plan.only
    return instant_at(first, 0, zone), instant_at(last + timedelta(days=1), 0, zone)


async def _quotas(reader: Reader, home: int, bucket: str) -> list[QuotaState]:
    return await reader.steps(lambda _: quota_rows(home, bucket))


async def _check_registered(gateway: Gateway, reader: Reader, supply: Supply) -> None:
    """Raises Invalid for an institution that is not in the registry."""
    if supply.site.id not in await institutions_at(gateway, reader):
        raise Invalid(
            f"{supply.site.id} is no registered institution: register it first, with "
            "`fhir-gateway institution add`",
            rule="institution-unknown",
        )


async def _existing(reader: Reader, plan: Plan, zone: ZoneInfo, now: int
                    ) -> tuple[list[Existing], dict[str, str]]:  # fmt: skip
    """The Slots of the horizon as they are stored, and the bucket of each by its id."""
    home = institution_home(plan.supply.site.id)
    since = instant_at(plan.first, 0, zone)
    until = instant_at(plan.last + timedelta(days=1), 0, zone)
    rows = await reader.steps(lambda _: slots_between(home, since, until, now))
    found: list[Existing] = []
    for row in rows:
        stored = await reader.read("Slot", row.id)
        if stored is not None and not stored.deleted:
            live = tuple(f"Appointment/{id}" for id in row.live)
            found.append(Existing(parse(stored.whole()), stored.version, row.start, live, row.held))
    return found, {row.id: row.bucket for row in rows}


async def store_plan(gateway: Gateway, site: SiteFiles, plan: Plan, serial: int
                     ) -> AsyncIterator[Progress]:  # fmt: skip
    """Stores a plan, piece by piece; `serial` is larger than that of any plan before it.

    Raises Conflict when pieces still lose against bookings after several rounds: what is stored
    stays, and running it again goes on.
    """
    await _store_frame(gateway, plan)
    done, said = 0, ""
    lost: list[Piece] = []
    for _ in range(ROUNDS):
        compared = await compare(gateway, site, plan)
        lost = []
        for piece in compared.pieces:
            try:
                await gateway.store.commit(_change_set(gateway, plan, piece, serial))
            except (Conflict, PreconditionFailed, Unprocessable) as error:
                if error.issues[0].rule == "quota-stale":
                    raise
                lost.append(piece)
                said = error.issues[0].rule or ""
                continue
            done += 1
            yield Progress(done, len(compared.pieces), len(piece.writes), piece.keys)
        if not lost:
            return
    keys = ", ".join(sorted(key for piece in lost for key in piece.keys))
    raise Conflict(
        f"Not stored: {keys} ({said}). Run it again, it goes on where it is", rule="overtaken"
    )


def affected_of(compared: Compared) -> tuple[Affected, ...]:
    """Whose bookings have to be made anew, in order of their slots."""
    starts = {one.id: one.start for one in compared.plan.slots}
    return tuple(sorted(compared.change.affected, key=lambda one: (starts.get(one.slot, 0), one)))


def _change_set(gateway: Gateway, plan: Plan, piece: Piece, serial: int) -> ChangeSet:
    home, institution = institution_home(plan.supply.site.id), plan.supply.site.id
    puts = [
        prepare(gateway, dict(one.slot), op="update" if one.version else "create",
                institution=institution)
        for one in piece.writes
    ]  # fmt: skip
    counts = ", ".join(f"{count} {action}" for action, count in piece.counts().items())
    event = transaction_event(
        call_of(gateway, GATEWAY),
        resources=[f"Slot/{one.slot['id']}" for one in piece.writes],
        summary=f"supply of {', '.join(piece.keys)}: {counts or 'quotas'}",
    )
    return ChangeSet(
        id=gateway.random(16),
        guards=[VersionIs("Slot", str(one.slot["id"]), one.version) for one in piece.writes],
        puts=puts,
        claims=[Settle(home, key, kind, rows, serial) for key, kind, rows in piece.quotas],
        journal=[entry(gateway, event)],
    )


async def _store_frame(gateway: Gateway, plan: Plan) -> None:
    """Stores HealthcareServices that are missing, and Schedules that say something new."""
    zone = ZoneInfo(gateway.settings.zone)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        await _check_registered(gateway, reader, plan.supply)
        services = await _versions(reader, "HealthcareService", services_of(plan.supply))
        schedules = await _versions(reader, "Schedule", schedules_of(plan, zone))
    new = [(one, version) for one, version, stored in services if stored is None]
    changed = []
    for schedule, version, stored in schedules:
        merged = _merged(schedule, stored)
        add_codings(gateway, merged, plan.supply.site.id)
        if stored is None or _said(merged) != _said(stored):
            changed.append((merged, version))
    if not new and not changed:
        return
    both = [*new, *changed]
    names = [f"{one['resourceType']}/{one['id']}" for one, _ in both]
    event = transaction_event(
        call_of(gateway, GATEWAY), resources=names,
        summary=f"schedules of {plan.supply.site.id}",
    )  # fmt: skip
    await gateway.store.commit(ChangeSet(
        id=gateway.random(16),
        guards=[
            *(VersionIs(one["resourceType"], one["id"], version) for one, version in both),
            *_references(one for one, _ in changed),
        ],
        puts=[
            prepare(gateway, one, op="update" if version else "create",
                    institution=plan.supply.site.id)
            for one, version in both
        ],
        journal=[entry(gateway, event)],
    ))  # fmt: skip


def _references(schedules: Iterable[Mapping[str, Any]]) -> list[Exists]:
    """Who and what a Schedule names has to be there."""
    return [
        Exists(actor["reference"], f"Schedule.actor[{number}]")
        for schedule in schedules
        for number, actor in enumerate(schedule["actor"])
    ]


async def _versions(reader: Reader, type: str, resources: Mapping[str, dict[str, Any]]
                    ) -> list[tuple[dict[str, Any], int, dict[str, Any] | None]]:  # fmt: skip
    """Each resource with the version and content that are stored; 0 and None for none."""
    found: list[tuple[dict[str, Any], int, dict[str, Any] | None]] = []
    for id, resource in resources.items():
        stored = await reader.read(type, id)
        if stored is None or stored.deleted:
            found.append((resource, stored.version if stored else 0, None))
        else:
            found.append((resource, stored.version, parse(stored.whole())))
    return found


def _merged(schedule: dict[str, Any], stored: Mapping[str, Any] | None) -> dict[str, Any]:
    """A Schedule whose horizon covers what it covered before, too."""
    if stored is None:
        return schedule
    horizon, before = schedule["planningHorizon"], stored.get("planningHorizon") or {}
    return {**schedule, "planningHorizon": {
        "start": min(horizon["start"], str(before.get("start") or horizon["start"])),
        "end": max(horizon["end"], str(before.get("end") or horizon["end"])),
    }}  # fmt: skip


def _said(schedule: Mapping[str, Any]) -> Sequence[tuple[str, Any]]:
    return sorted((key, value) for key, value in schedule.items() if key != "meta")
