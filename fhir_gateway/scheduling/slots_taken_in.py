"""Schedules and Slots that a hospital submits itself: taken in, counted, divided among channels.

A hospital stays master of what it submits (`hospital`), or hands it over (`allotment`); either way
it says so in its Schedule, and its Slots are counted in buckets of the quotas like those that the
gateway plans. What a Slot leaves out is filled in from its Schedule; what contradicts it is
refused. Runs in the governor, on the snapshot that the write is judged by. docs/scheduling-fhir.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden, Unprocessable
from fhir_gateway.fhir.datatypes import Reference, parse_reference
from fhir_gateway.fhir.home import institution_home
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.steps import Guards, Step
from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.scheduling.booking_parties import view_of
from fhir_gateway.scheduling.calendar import day_at
from fhir_gateway.scheduling.quotas_taken_in import Counted, first_day, settle, site_of
from fhir_gateway.scheduling.rows import capacity_of, schedule_row, slot_row, unknown_items
from fhir_gateway.scheduling.template import Site
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.changes import Settled
from fhir_gateway.store.claim_rows import ScheduleRow, SlotRow
from fhir_gateway.store.store import Reader

Json = Mapping[str, Any]

_POOL = (
    "the gateway itself sells these slots and makes them from templates: change a template, or add "
    "a closure, with fhir-gateway pools"
)


#: How long one slot lasts, until when there are any (2100-01-01), and how many seats one has.
_LONGEST, _LAST, _MOST_SEATS = 31 * 86_400_000_000, 4_102_444_800_000_000, 10_000


class Written:
    """Resources as a request leaves them: its own first, else what is stored."""

    def __init__(self, reader: Reader, steps: Mapping[str, Step]) -> None:
        self.reader = reader
        self._steps = steps

    async def resource(self, key: str) -> dict[str, Any] | None:
        """The resource "Type/id", None for one that is not there."""
        step = self._steps.get(key)
        if step is not None and (step.resource is not None or step.op == "delete"):
            return step.resource
        type, _, id = key.partition("/")
        stored = await self.reader.read(type, id)
        return None if stored is None or stored.deleted else parse(stored.whole())


class Supply(NamedTuple):
    """A Schedule with a master: what it says, and the institution whose it is; None where the
    gateway is the master."""

    schedule: Json
    row: ScheduleRow
    site: Site | None


class Intake:
    """What one request submits. `settle` divides the quotas of the buckets that it touched."""

    def __init__(self, gateway: Gateway, written: Written, actor: Actor) -> None:
        self._gateway, self._written, self._actor = gateway, written, actor
        self._zone = gateway.settings.zone
        codes = gateway.local_codes
        self._catalogue = codes.catalogue if codes is not None else None
        self._counted: dict[tuple[int, str], Counted] = {}
        self._sites: dict[str, Site] = {}

    # -- Schedules -------------------------------------------------------------------------

    async def schedule(self, step: Step, before: Json | None) -> None:
        """Judges a Schedule. Raises Forbidden, Unprocessable."""
        was = schedule_row(before) if before is not None else None
        now = schedule_row(step.resource) if step.resource is not None else None
        _check_master(step, was, now)
        if was is not None and now is None:
            text = "Its Slots are sold here: say active false, and nothing is sold of it any more"
            raise Unprocessable(text, expression=step.root, rule="schedule-kept")
        if now is None or step.resource is None:
            return
        if was is not None and (was.master, was.department, was.services) != (
            now.master, now.department, now.services,
        ):  # fmt: skip
            raise Unprocessable(
                "Master, department and service of a Schedule stay: its Slots are counted by "
                "them. Submit another Schedule",
                expression=step.root,
                rule="schedule-fixed",
            )
        await self._site(now, step.root)
        if not now.department:
            text = "A Schedule whose slots are sold here names its department (booking-department)"
            raise Unprocessable(text, expression=step.root, rule="sch-department")
        self._check_items(step.resource, step.root)

    async def _site(self, row: ScheduleRow, root: str) -> Site:
        """Whose Schedule it is, by its one HealthcareService. Raises Unprocessable, Forbidden."""
        services = row.services
        if len(services) != 1:
            raise Unprocessable(
                "A Schedule whose slots are sold here names one HealthcareService as an actor, "
                "which says whose it is",
                expression=f"{root}.actor",
                rule="sch-service",
            )
        service = await self._written.resource(f"HealthcareService/{services[0]}")
        provided = parse_reference(str((service or {}).get("providedBy", {}).get("reference", "")))
        if not isinstance(provided, Reference) or provided.type != "Organization":
            raise Unprocessable(
                f"HealthcareService/{services[0]} does not say by which Organization it is "
                "provided: store it with providedBy first",
                expression=f"{root}.actor",
                rule="sch-service",
            )
        if self._actor.bound and provided.id != self._actor.institution:
            raise Forbidden(
                "This is a service of another institution, which submits its own slots",
                expression=root,
                rule="owner",
            )
        if provided.id not in self._sites:
            reader = self._written.reader
            self._sites[provided.id] = await site_of(self._gateway, reader, provided.id)
        return self._sites[provided.id]

    # -- Slots -----------------------------------------------------------------------------

    async def slot(self, step: Step, before: Json | None) -> None:
        """Judges a Slot, and fills in what it leaves out. Raises Forbidden, Unprocessable."""
        was = await self._supply(before, step.root)
        now = await self._supply(step.resource, step.root)
        _check_master(step, was.row if was else None, now.row if now else None)
        if now is None:
            if step.resource is not None and ext.value_of(step.resource, ext.BUCKET):
                text = "Its Schedule does not say who sells its slots (schedule-master)"
                raise Unprocessable(text, expression=f"{step.root}.schedule", rule="slot-master")
        elif step.resource is not None and now.site is not None:
            self._take_in(step, now, now.site)
            await self._say_status(step, step.resource, before)
        self._count(before, was, -1)
        self._count(step.resource, now, 1)

    async def _supply(self, slot: Json | None, root: str) -> Supply | None:
        """The Schedule of a Slot, where its slots are sold here."""
        found = parse_reference(str((slot or {}).get("schedule", {}).get("reference", "")))
        if not isinstance(found, Reference):
            return None
        schedule = await self._written.resource(found.key)
        row = schedule_row(schedule) if schedule is not None else None
        if schedule is None or row is None:
            return None
        site = None if row.master == "gateway" else await self._site(row, f"{root}.schedule")
        return Supply(schedule, row, site)

    def _take_in(self, step: Step, supply: Supply, site: Site) -> None:
        slot = step.resource
        assert slot is not None
        if "serviceType" not in slot and supply.schedule.get("serviceType"):
            slot["serviceType"] = [dict(one) for one in supply.schedule["serviceType"]]
        self._check_items(slot, step.root)
        kept = [one for one in slot.get("extension", ()) if one.get("url") != ext.BUCKET]
        given = ext.value_of(slot, ext.BUCKET)
        slot["extension"] = [*kept, {"url": ext.BUCKET, "valueString": "?"}]
        row = slot_row(slot, self._zone, self._catalogue)
        if row is None:
            text = "A slot that is sold here begins before it ends"
            raise Unprocessable(text, expression=f"{step.root}.start", rule="slot-time")
        _check_reach(step, slot, row)
        bucket = self._bucket(row, supply.row, site)
        if given not in (None, bucket):
            text = f"This slot is counted in {bucket}: say so, or leave the extension out"
            raise Unprocessable(text, expression=f"{step.root}.extension", rule="slot-bucket")
        slot["extension"][-1]["valueString"] = bucket

    async def _say_status(self, step: Step, slot: dict[str, Any], before: Json | None) -> None:
        """Whether a Slot is full is the gateway's to say, by the seats that are booked; that
        nothing of it is sold, the hospital's. Raises Unprocessable for `busy` of its own."""
        if slot.get("status") not in ("free", "busy"):
            return
        view = await view_of(self._written.reader, step.id) if before is not None else None
        full = view is not None and view.booked >= capacity_of(slot)
        if slot["status"] == "busy" and not full and (before or {}).get("status") != "busy":
            raise Unprocessable(
                "Slot.status busy means that all of its seats are booked here; say "
                "busy-unavailable for what you have sold yourself, or are not going to sell",
                expression=f"{step.root}.status",
                rule="slot-status",
            )
        slot["status"] = "busy" if full else "free"

    def _bucket(self, row: SlotRow, schedule: ScheduleRow, site: Site) -> str:
        day = day_at(row.start, ZoneInfo(self._zone))
        first = first_day(self._gateway, site, schedule.kind, self._modality(row), day)
        return f"{site.id}|{schedule.department}|{first.isoformat()}"

    def _modality(self, row: SlotRow) -> str:
        """The modality of the first item, "" for none: tables of quotas may differ by it."""
        items = self._catalogue.items if self._catalogue is not None else {}
        return next((items[code].modality for code in row.items if code in items), "")

    def _check_items(self, resource: Json, root: str) -> None:
        unknown = list(unknown_items(resource, self._catalogue)) if self._catalogue else []
        if unknown:
            path, code = unknown[0]
            text = f"{code[:20]} is no item of the catalogue"
            raise Unprocessable(text, expression=f"{root}.{path}", rule="item-unknown")

    def _count(self, slot: Json | None, supply: Supply | None, sign: int) -> None:
        """Notes by how much the seats of a bucket change."""
        if slot is None or supply is None or supply.site is None:
            return
        row = slot_row(slot, self._zone, self._catalogue)
        if row is None or not row.open:
            return
        key = institution_home(supply.site.id), row.bucket
        counted = self._counted.setdefault(
            key, Counted(supply.site, supply.row.kind, self._modality(row), {})
        )
        counted.more[row.kind] = counted.more.get(row.kind, 0) + sign * row.capacity

    async def settle(self, guards: Guards) -> None:
        """Adds the claims that divide the buckets anew whose seats have changed."""
        changed = {key: one for key, one in self._counted.items() if any(one.more.values())}
        for home, bucket in sorted(changed):
            counted, reader = changed[home, bucket], self._written.reader
            guards.claims += await settle(self._gateway, reader, home, bucket, counted)
        for home in sorted({home for home, _ in changed}):
            guard = Settled(("Slot",), (home,), self._written.reader.t)
            guards.add(guard, ours=True)


def _check_reach(step: Step, slot: Json, row: SlotRow) -> None:
    """Raises Unprocessable for what no pool has: slots without end, seats without number, and parts
    that a Slot claims for channels of its own."""

    def refused(element: str, rule: str, text: str) -> Unprocessable:
        return Unprocessable(text, expression=f"{step.root}.{element}", rule=rule)

    if row.end > _LAST:
        raise refused("end", "slot-time", "A slot that is sold here ends before the year 2100")
    if row.end - row.start > _LONGEST:
        raise refused("end", "slot-time", "A slot that is sold here lasts 31 days at most: submit "
                      "one for each time at which somebody comes")  # fmt: skip
    if row.capacity > _MOST_SEATS or len(list(ext.extensions(slot, ext.CAPACITY))) > 1:
        raise refused("extension", "slot-capacity", f"A slot says once how many seats it has, "
                      f"{_MOST_SEATS} at most")  # fmt: skip
    if any(ext.extensions(slot, ext.QUOTA)):
        raise refused("extension", "slot-quota", "Seats are divided among the channels by tables, "
                      "over the whole release period: leave slot-quota out")  # fmt: skip


def _check_master(step: Step, *rows: ScheduleRow | None) -> None:
    if any(row is not None and row.master == "gateway" for row in rows):
        raise Forbidden(
            f"Not by a plain write: {_POOL}", expression=step.root, rule="pool-governed"
        )
