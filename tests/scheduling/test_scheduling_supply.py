"""Storing a plan: quotas that add up; runs repeated, cut short, raced, and beside bookings."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import date, datetime, timedelta
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from city import DOCUMENT, id_number
from effort import TORTURE

from fhir_gateway.app import profile_resources
from fhir_gateway.cli.profiles_check import context_of, judged
from fhir_gateway.errors import GatewayError, Invalid
from fhir_gateway.fhir.home import institution_home
from fhir_gateway.fhir.profile_known import Known
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.scheduling.book import BookRequest, HoldRequest, book, cancel, hold
from fhir_gateway.scheduling.generate_fhir import schedules_of, services_of, slots_of
from fhir_gateway.scheduling.move import rebook
from fhir_gateway.scheduling.site_files import items_of, load_site
from fhir_gateway.scheduling.supply import (
    affected_of,
    compare,
    planned,
    store_plan,
    withdrawn,
)
from fhir_gateway.scheduling.supply_change import WITHDRAWN
from fhir_gateway.scheduling.template import Closure
from fhir_gateway.scheduling.template_file import load_supply
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS
from fhir_gateway.settings import load_settings
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.claim_rows import Give, Take
from fhir_gateway.store.seat_audit import audit
from fhir_gateway.store.slot_sql import capacities, quota_rows
from fhir_gateway.terminology.catalogue import load_catalogue

PROFILES = Path(__file__).resolve().parents[2] / "profiles"
ZONE = ZoneInfo("Asia/Shanghai")
SITE = load_site(PROFILES)
CATALOGUE = load_catalogue(load_settings({}).terminology)
FILE = PROFILES / "scheduling" / "templates" / "demo-first.toml"
WHOLE = load_supply(FILE, items_of(CATALOGUE), SITE.calendar)
#: Four slots of four seats, every day; booked in consultation from 14 days before.
CT = next(one for one in WHOLE.templates if one.id == "ct-day")._replace(
    end=600, days=("daily",)
)  # fmt: skip
TODAY = datetime.now(ZONE).date()
ONE_DAY, NEXT_DAY = TODAY + timedelta(days=4), TODAY + timedelta(days=5)
NUMBERS = count(1)
#: Of the storm of plans: clients, requests of each, and plans that are stored.
CLIENTS, TURNS, PLANS = (16, 150, 60) if TORTURE else (6, 6, 4)


class Pool:
    """One hospital with the CT of two days, each a bucket of its own."""

    def __init__(self, client: Any) -> None:
        self.client, self.gateway = client, client.gateway
        self.id = f"hospital-{next(NUMBERS)}"
        client.institution(self.id, "示范市第一医院")
        department = CT.department._replace(service=f"{self.id}-ct")
        self.template = CT._replace(department=department)
        self.supply = WHOLE._replace(
            site=WHOLE.site._replace(id=self.id), templates=(self.template,), closures=(),
            changes=(), departments={"radiology-ct": department},
        )  # fmt: skip

    def plan(self, *closures: Closure, **template: Any) -> Any:
        changed = self.template._replace(**template)
        found = self.supply._replace(templates=(changed,), closures=closures)
        return planned(SITE, found, ONE_DAY, NEXT_DAY, ZONE)

    async def store(self, plan: Any, site: Any = SITE) -> list[Any]:
        serial = self.gateway.clock.now()
        return [one async for one in store_plan(self.gateway, site, plan, serial)]

    async def difference(self, plan: Any, site: Any = SITE) -> Any:
        return await compare(self.gateway, site, plan)

    async def book(self, slot: str, channel: str = "in-consultation") -> str:
        number = next(NUMBERS)
        patient = {"resourceType": "Patient", "id": f"p{number}"}
        person = {"reference": f"Patient/p{number}"}
        booking = {
            "resourceType": "Appointment", "id": f"a{number}", "status": "booked",
            "participant": [{"actor": person, "status": "accepted"}],
        }  # fmt: skip
        claim = Take(f"Slot/{slot}", f"Appointment/a{number}", f"p{number}", channel)
        await self.commit([patient, booking], claim)
        return f"Appointment/a{number}"

    async def commit(self, resources: list[Any], *claims: Any) -> None:
        puts = [prepare(self.gateway, one, op="create", institution=self.id) for one in resources]
        change = ChangeSet(id=self.gateway.random(16), puts=puts, claims=list(claims))
        await self.gateway.store.commit(change)

    async def sums(self) -> dict[str, tuple[dict[str, int], dict[str, int]]]:
        """By bucket: seats of open slots, and caps, by class."""
        found = {}
        home = institution_home(self.id)
        async with self.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            for day in (ONE_DAY, NEXT_DAY):
                key = f"{self.id}|radiology-ct|{day}"
                rows = await reader.steps(lambda _, key=key: quota_rows(home, key))
                seats = await reader.steps(lambda _, key=key: capacities(home, key))
                caps: Counter[str] = Counter()
                for row in rows:
                    caps[row.kind] += row.cap
                found[str(day)] = (seats, {kind: cap for kind, cap in caps.items() if cap})
        return found

    async def stored(self, slot: str) -> bytes:
        async with self.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            return (await reader.read("Slot", slot)).whole()

    async def status(self, slot: str) -> str:
        return parse(await self.stored(slot))["status"]


@pytest.fixture
def pool(client):
    return Pool(client)


def closed(day):
    return Closure(1, "", "ct-1", day, day, 0, 1440, "repair")


def actions(compared):
    return Counter(one.action for one in compared.change.writes)


def test_a_plan_is_stored_once_and_its_quotas_add_up(pool):
    async def scenario():
        plan = pool.plan()
        first = await pool.store(plan)
        again = await pool.store(plan)
        return first, again, await pool.difference(plan), await pool.sums()

    first, again, left, sums = pool.client.run(scenario())
    assert ([one.slots for one in first], again) == ([4, 4], [])
    assert (left.pieces, left.change.writes, left.change.same) == ((), (), 8)
    assert sums == dict.fromkeys((str(ONE_DAY), str(NEXT_DAY)), ({"ordinary": 16},) * 2)
    found = pool.client.get(f"/fhir/Slot?schedule=Schedule/{left.plan.slots[0].schedule}").json()
    assert len(found["entry"]) == 8


def test_what_is_made_breaks_no_profile():
    plan = planned(SITE, WHOLE, date(2026, 12, 28), date(2026, 12, 28), ZONE)
    resources = list(profile_resources(PROFILES))
    known = Known([one for one in resources if one["resourceType"] == "StructureDefinition"])
    context = context_of(load_settings({}), resources, known)[1]
    made = [*services_of(WHOLE).values(), *schedules_of(plan, ZONE).values()]
    one_each = {one.template.id: one.id for one in plan.slots}
    made += [slots_of(plan, ZONE)[id] for id in one_each.values()]
    for resource in made:
        found = judged(resource, known, context)
        assert [one for one in found if one.severity != "information"] == []


def test_closing_a_day_keeps_bookings_and_says_whose_then_withdraws(pool):
    async def scenario():
        await pool.store(pool.plan())
        slot = pool.plan().slots[0].id
        booking = await pool.book(slot)
        plan = pool.plan(closed(ONE_DAY))
        told = affected_of(await pool.difference(plan))
        await pool.store(plan)
        kept = (await pool.difference(plan), await pool.sums(), await pool.status(slot))
        free = {**parse(await pool.stored(slot)), "status": "free"}
        await pool.commit([free], Give(booking))
        await pool.store(plan)
        gone = (await pool.difference(plan), await pool.sums(), await pool.status(slot))
        await pool.store(pool.plan())
        return slot, booking, told, kept, gone, await pool.sums()

    slot, booking, told, kept, gone, again = pool.client.run(scenario())
    assert told == ((slot, WITHDRAWN, (booking,)),)
    assert (kept[0].pieces, kept[2]) == ((), "busy")
    assert kept[1][str(ONE_DAY)] == ({"ordinary": 1}, {"ordinary": 1})
    assert (gone[0].change.affected, gone[1][str(ONE_DAY)]) == ((), ({}, {}))
    assert gone[2] == "busy-unavailable"
    assert again[str(ONE_DAY)] == ({"ordinary": 16}, {"ordinary": 16})


def test_who_books_while_a_day_is_being_closed_keeps_the_seat(pool):
    """The piece loses against the booking, is worked out anew, and keeps the slot back."""

    async def scenario():
        await pool.store(pool.plan())
        slot = next(one.id for one in pool.plan().slots if one.day == NEXT_DAY)
        plan, booking = pool.plan(closed(ONE_DAY), closed(NEXT_DAY)), ""
        async for _ in store_plan(pool.gateway, SITE, plan, pool.gateway.clock.now()):
            booking = booking or await pool.book(slot)
        return slot, booking, await pool.difference(plan), await pool.sums()

    slot, booking, compared, sums = pool.client.run(scenario())
    assert compared.pieces == ()
    assert compared.change.affected == ((slot, WITHDRAWN, (booking,)),)
    assert sums == {
        str(ONE_DAY): ({}, {}), str(NEXT_DAY): ({"ordinary": 1}, {"ordinary": 1}),
    }  # fmt: skip


def test_a_run_that_was_cut_short_goes_on_and_two_at_once_make_one(pool):
    async def scenario():
        plan = pool.plan()
        async for _ in store_plan(pool.gateway, SITE, plan, pool.gateway.clock.now()):
            break
        half = actions(await pool.difference(plan))
        await asyncio.gather(pool.store(plan), pool.store(plan))
        return half, await pool.difference(plan), await pool.sums()

    half, left, sums = pool.client.run(scenario())
    assert half == {"create": 4}
    assert left.pieces == ()
    assert all(seats == caps == {"ordinary": 16} for seats, caps in sums.values())


def test_another_capacity_while_people_have_booked_divides_what_is_there(pool):
    async def scenario():
        await pool.store(pool.plan())
        slot = pool.plan().slots[0].id
        bookings = [await pool.book(slot) for _ in range(3)]
        plan = pool.plan(capacity=2)
        told = affected_of(await pool.difference(plan))
        await pool.store(plan)
        return slot, bookings, told, await pool.difference(plan), await pool.sums()

    slot, bookings, told, left, sums = pool.client.run(scenario())
    assert [(one.slot, one.appointments) for one in told] == [(slot, (bookings[2],))]
    assert left.pieces == ()
    assert sums[str(ONE_DAY)] == ({"ordinary": 9}, {"ordinary": 9})


def test_a_new_table_of_quotas_is_settled_without_touching_a_slot(pool):
    share = SITE.tables[0].share_of("green-channel")
    half = share._replace(share=Fraction(1, 2), at_least=Fraction(1, 2))
    table = SITE.tables[0]._replace(shares=tuple(
        half if one.channel == "green-channel" else one for one in SITE.tables[0].shares
    ))  # fmt: skip
    site = SITE._replace(tables=(table, *SITE.tables[1:]))

    async def scenario():
        plan = pool.plan()
        await pool.store(plan)
        wanted = await pool.difference(plan, site)
        done = await pool.store(plan, site)
        home = institution_home(pool.id)
        async with pool.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            key = f"{pool.id}|radiology-ct|{ONE_DAY}"
            rows = await reader.steps(lambda _: quota_rows(home, key))
        return wanted, done, {row.channel: row.cap for row in rows}

    wanted, done, caps = pool.client.run(scenario())
    assert (wanted.change.writes, len(wanted.pieces)) == ((), 2)
    assert [one.slots for one in done] == [0, 0]
    assert caps == {"in-consultation": 5, "green-channel": 8, "ordinary": 3}


def test_another_release_period_leaves_booked_slots_in_their_bucket(pool):
    daily = next(one for one in SITE.tables if one.table == "exams-green-channel")
    monthly = SITE._replace(tables=tuple(
        one._replace(period="month") if one is daily else one for one in SITE.tables
    ))  # fmt: skip

    async def scenario():
        await pool.store(pool.plan())
        await pool.book(pool.plan().slots[0].id)
        plan = planned(monthly, pool.supply, ONE_DAY, NEXT_DAY, ZONE)
        await pool.store(plan, monthly)
        return await pool.difference(plan, monthly), await pool.sums()

    left, sums = pool.client.run(scenario())
    assert (left.pieces, left.change.affected) == ((), ())
    seats, caps = sums[str(ONE_DAY)]  # of the booked slot alone, but on the first of a month
    assert seats == caps and seats["ordinary"] >= 4


class Storm:
    """Persons who book, hold, move and cancel while templates, closures and tables change."""

    def __init__(self, pool: Pool, seed: int) -> None:
        self.pool, self.chance = pool, random.Random(seed)
        whole, day = pool.plan(), (closed(ONE_DAY), closed(NEXT_DAY))
        self.plans = [whole, pool.plan(capacity=2), pool.plan(*day[:1]), pool.plan(start=540),
                      pool.plan(duration=60), pool.plan(*day)]  # fmt: skip
        self.slots = sorted({slot.id for plan in self.plans for slot in plan.slots})
        self.told: Counter[str] = Counter()

    async def client(self) -> None:
        person, mine = f"p{(number := next(NUMBERS))}", list[str]()
        identifier = [{"system": DOCUMENT, "value": id_number(number)}]
        patient = {"resourceType": "Patient", "id": person, "name": [{"text": "示例"}]}
        await self.pool.commit([patient | {"identifier": identifier}])
        for _ in range(TURNS):
            try:
                await self.turn(person, mine)
                self.told[""] += 1
            except GatewayError as error:
                self.told[error.issues[0].rule or "?"] += 1

    async def turn(self, person: str, mine: list[str]) -> None:
        chance, gateway = self.chance, self.pool.gateway
        slot, what = chance.choice(self.slots), chance.random()
        if mine and what < 0.3:
            await cancel(gateway, GATEWAY, mine.pop())
        elif mine and what < 0.5:
            await rebook(gateway, GATEWAY, mine[-1], slot, channel="in-consultation")
        else:
            take = HoldRequest(slot, person, channel="in-consultation")
            wanted = hold(gateway, GATEWAY, take) if what > 0.8 else book(
                gateway, GATEWAY, BookRequest(take=take))  # fmt: skip
            mine.append((await wanted).id)

    async def planner(self, site: Any) -> None:
        for _ in range(PLANS // 2):
            try:
                await self.pool.store(self.chance.choice(self.plans), site)
            except GatewayError as error:
                assert error.issues[0].rule in ("quota-stale", "overtaken")


def test_plans_change_while_persons_book(pool):
    """Two who plan, each by another table of quotas: no seat is lost, and none is there twice."""
    storm = Storm(pool, 8)
    other = SITE._replace(tables=tuple(
        one._replace(shares=tuple(
            share._replace(share=None if share.share is None else share.share / 2)
            for share in one.shares
        )) for one in SITE.tables
    ))  # fmt: skip

    async def scenario():
        await pool.store(storm.plans[0])
        clients = (storm.client() for _ in range(CLIENTS))
        await asyncio.gather(storm.planner(SITE), storm.planner(other), *clients)
        await pool.store(storm.plans[0])
        async with pool.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            faults = await reader.steps(lambda _: audit())
        return faults, await pool.difference(storm.plans[0]), await pool.sums()

    faults, left, sums = pool.client.run(scenario())
    assert (faults, left.pieces) == ([], ())
    assert all(seats == caps for seats, caps in sums.values())
    assert storm.told[""] >= CLIENTS
    known = {"", "slot-unknown", "slot-closed", "slot-full", "quota-full", "person-limit",
             "person-overlap", "rebook-same", "overtaken"}  # fmt: skip
    assert storm.told.keys() <= known


def test_withdrawing_leaves_nothing_to_be_booked(pool):
    async def scenario():
        plan = pool.plan()
        await pool.store(plan)
        await pool.store(withdrawn(plan))
        return await pool.difference(withdrawn(plan)), await pool.sums()

    left, sums = pool.client.run(scenario())
    assert left.pieces == ()
    assert all(value == ({}, {}) for value in sums.values())


def test_who_is_not_registered_or_not_there_is_told(pool):
    stranger = pool.supply._replace(site=pool.supply.site._replace(id="nobody"))
    plan = planned(SITE, stranger, ONE_DAY, ONE_DAY, ZONE)
    with pytest.raises(Invalid) as caught:
        pool.client.run(pool.store(plan))
    assert caught.value.issues[0].rule == "institution-unknown"
    machine = pool.template.resource._replace(references=("Device/none",))
    with pytest.raises(GatewayError) as other:
        pool.client.run(pool.store(pool.plan(resource=machine)))
    assert other.value.issues[0].expression == "Schedule.actor[1]"
