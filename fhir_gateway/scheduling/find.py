"""Free seats for a caller: what his channels sell now, with the exact total (ITI-115).

The channels that are open to the caller are found out for each hospital; then the store is asked
once (store/slot_sql.py). Held and full Slots are never found. Where nothing is found, what would be
is told: another channel, a later day.
IHE Scheduling 1.0; docs/booking.md, docs/adr/0052
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Issue
from fhir_gateway.fhir.home import institution_home
from fhir_gateway.fhir.wire import render
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.scheduling.appointment import Marks, Offer, appointment_of
from fhir_gateway.scheduling.booking_person import (
    Order,
    Person,
    orders_named,
    person_of,
    residence_of,
    unfit,
)
from fhir_gateway.scheduling.booking_rules import BookingRules, booking_rules
from fhir_gateway.scheduling.calendar import day_at
from fhir_gateway.scheduling.channel import PREFERENCE, Verdict, open_channels
from fhir_gateway.scheduling.find_hints import HintsFor, hints
from fhir_gateway.scheduling.offered import Offered, schedule_members, slot_members, with_left
from fhir_gateway.scheduling.proposal import Numbers, id_of_proposal
from fhir_gateway.scheduling.seat_channels import Asker, Site
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.slot_sql import FreeSlot, FreeSlots, Place, Wish, find_slots, seconds_of
from fhir_gateway.store.slot_view_sql import seats_taken, selling_homes
from fhir_gateway.store.store import Reader, Store, Stored

Json = Mapping[str, Any]

#: (rank of preference, begin, home, key of the Slot): where a page ended.
After = tuple[int, int, int, int]


class FindRequest(NamedTuple):
    """What is looked for. Lists are alternatives in order of preference, () for any; different
    lists must all be met. Times are µs, `end` not included. Orders are references of
    ServiceRequests; without items theirs are looked for. `hospitals`, `services` and `schedules`
    are logical ids, `practitioners` references. `prefer` names the list by whose order offers are
    sorted before time: hospitals, practitioners or districts; "" for the earliest first."""

    start: int
    end: int
    items: tuple[str, ...] = ()
    patient: str = ""
    patient_resource: Json | None = None
    based_on: tuple[str, ...] = ()
    hospitals: tuple[str, ...] = ()
    practitioners: tuple[str, ...] = ()
    districts: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    schedules: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()  # expert, ordinary
    departments: tuple[str, ...] = ()
    reason: Json | None = None
    prefer: str = ""
    limit: int = 20
    after: After | None = None
    leave: str = ""  # a Slot that is not offered
    institution: str = ""  # for whom the gateway itself looks


class Found(NamedTuple):
    """A page of offers, how many seats there are to offer in all (Slots), and where it ended."""

    total: int
    offers: tuple[Offered, ...]
    next: After | None = None
    hints: tuple[Issue, ...] = ()


class Search(NamedTuple):
    """A search under way."""

    gateway: Gateway
    actor: Actor
    rules: BookingRules
    now: int
    own: Reader
    whole: Reader
    request: FindRequest
    person: Person | None
    orders: Sequence[Order]
    items: tuple[str, ...]
    hospitals: Mapping[int, str]  # home -> institution
    verdicts: Mapping[int, Sequence[Verdict]]
    channels: Mapping[int, Sequence[str]]  # open to the caller


async def find(gateway: Gateway, actor: Actor, request: FindRequest) -> Found:
    """A page of what the caller may book now. Raises NotFound and Unprocessable for a Patient or
    an order that he does not see."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as whole:
        own = whole.under(actor.access)
        search = await _search(gateway, actor, own, whole, request)
        total, free, following = await _page(search)
        offers = await _offers(search, free)
        told = [] if total else await _hints(search)
    return Found(total, tuple(offers), following, tuple(told))


async def _search(
    gateway: Gateway, actor: Actor, own: Reader, whole: Reader, request: FindRequest
) -> Search:
    person = await person_of(own, request.patient) if request.patient else None
    orders = await orders_named(own, request.based_on)
    items = request.items or tuple(dict.fromkeys(item for one in orders for item in one.items))
    residence = residence_of(request.patient_resource or {})
    asker = Asker(gateway, actor, own, whole, person=person, orders=orders, residence=residence,
                  institution="" if actor.bound else request.institution)  # fmt: skip
    hospitals = await _hospitals(gateway, whole, request)
    kind = "exam" if items else "visit"
    verdicts = {home: await asker.verdicts(Site(id, kind, items)) for home, id in hospitals.items()}
    channels = {home: able for home, of in verdicts.items() if (able := open_channels(of))}
    return Search(gateway, actor, booking_rules(gateway), gateway.clock.now(), own, whole, request,
                  person, orders, items, hospitals, verdicts, channels)  # fmt: skip


async def _hospitals(gateway: Gateway, whole: Reader, request: FindRequest) -> dict[int, str]:
    """The institutions that sell and are asked for, by home."""
    homes = await whole.steps(lambda _: selling_homes())
    known = await _homes_at(gateway, whole)
    return {
        home: known[home]
        for home in homes
        if home in known and (not request.hospitals or known[home] in request.hospitals)
    }


_homes: WeakKeyDictionary[Store, tuple[int, Mapping[int, str]]] = WeakKeyDictionary()


async def _homes_at(gateway: Gateway, whole: Reader) -> Mapping[int, str]:
    """All institutions by home, worked out once an epoch."""
    epoch, known = _homes.get(gateway.store, (-1, {}))
    if epoch != whole.epoch:
        known = {institution_home(id): id for id in await institutions_at(gateway, whole)}
        _homes[gateway.store] = whole.epoch, known
    return known


# -- pages ----------------------------------------------------------------------------------------


async def _page(search: Search) -> tuple[int, list[FreeSlot], After | None]:
    """The exact total of all ranks, and the page behind the place where the last one ended."""
    request, total = search.request, 0
    found: list[tuple[int, FreeSlot]] = []
    begin = request.after or (0, 0, 0, 0)
    for rank, narrower in enumerate(_ranks(request)):
        is_over = rank < begin[0]
        room = request.limit + 1 - len(found)
        after = (begin[1], begin[2], begin[3]) if rank == begin[0] and request.after else None
        few = await _found(search, narrower, 0 if is_over else max(room, 0), after)
        total += few.total
        found += [(rank, slot) for slot in few.slots]
    page = found[: request.limit]
    following = None
    if len(found) > request.limit and page:
        rank, last = page[-1]
        following = (rank, *last.place)
    return total, [slot for _, slot in page], following


async def _found(
    search: Search, narrower: Mapping[str, Any], limit: int, after: Place | None
) -> FreeSlots:
    if not search.channels:
        return FreeSlots([], 0, False)
    wish = _wish(search, {**narrower, "sold_by": search.channels})
    return await search.whole.steps(
        lambda seen: find_slots(seen.dialect, wish, now=search.now, limit=limit, after=after),
        seconds=seconds_of(wish),
    )


def _ranks(request: FindRequest) -> Iterator[dict[str, Any]]:
    """The conditions of each rank of preference, disjoint; one without any where time decides."""
    if request.prefer == "hospitals" and request.hospitals:
        yield from ({"homes": {institution_home(one)}} for one in dict.fromkeys(request.hospitals))
    elif request.prefer == "practitioners" and request.practitioners:
        yield from ({"practitioners": (one,)} for one in dict.fromkeys(request.practitioners))
    elif request.prefer == "districts" and request.districts:
        yield from ({"districts": (one,)} for one in dict.fromkeys(request.districts))
    else:
        yield {}


def _wish(search: Search, narrower: Mapping[str, Any]) -> Wish:
    request = search.request
    wish = Wish(
        request.start, request.end, items=search.items, kinds=request.kinds,
        districts=request.districts, schedules=request.schedules, services=request.services,
        departments=request.departments, practitioners=request.practitioners,
        homes=tuple(search.hospitals) if request.hospitals else (),
    )  # fmt: skip
    return wish._replace(**narrower)


async def _hints(search: Search) -> list[Issue]:
    asked = HintsFor(
        search.gateway, _wish(search, {}), search.now, search.rules.zone, search.hospitals,
        search.verdicts,
    )  # fmt: skip
    return await hints(search.whole, asked)


# -- offers ---------------------------------------------------------------------------------------


async def _offers(search: Search, free: Sequence[FreeSlot]) -> list[Offered]:
    names = [("Slot", one.id) for one in free]
    names += [("Schedule", one.schedule) for one in free]
    stored = await search.whole.shared(sorted(set(names))) if names else []
    found = {(one.type, one.id): one for one in stored}
    several = [(one.place[1], one.place[2]) for one in free if one.capacity > 1]
    taken: Mapping[Any, int] = {}
    if several:
        taken = await search.whole.steps(
            lambda seen: seats_taken(seen.dialect, several, search.now)
        )
    offers = []
    for one in free:
        slot, schedule = found.get(("Slot", one.id)), found.get(("Schedule", one.schedule))
        if slot is not None and schedule is not None and one.id != search.request.leave:
            left = one.capacity - taken.get((one.place[1], one.place[2]), 0)
            offers.append(_offered(search, one, slot, schedule, left))
    return offers


def _proposed(search: Search, slot: str, number: int) -> str:
    """The id of a proposal: it names patient and orders too, where they are stored."""
    person, numbers = search.person, Numbers(number)
    if person is not None and all(one.home in person.homes for one in search.orders):
        numbers = Numbers(number, person.number, tuple(one.number for one in search.orders))
    return id_of_proposal(search.gateway.store.index_key, search.actor, slot, numbers)


def _offered(
    search: Search, free: FreeSlot, stored: Stored, of: Stored, left: int
) -> Offered:  # fmt: skip
    home, request, rules = free.place[1], search.request, search.rules
    body = of.whole()
    ordered = tuple(item for one in search.orders for item in one.items)
    also = ("serviceType",) if ordered else ()
    slot, schedule = slot_members(stored.whole(), *also), schedule_members(body, *also)
    able = search.channels.get(home, ())
    channel = next((one for one in PREFERENCE if one in free.channels and one in able), "")
    based_on = tuple(one.reference for one in search.orders)
    offer = Offer(slot, schedule, request.patient, based_on, request.reason, items=ordered)
    id = _proposed(search, free.id, stored.rid)
    proposal = appointment_of(
        offer, id=id, status="proposed", marks=Marks(channel), created=search.now, zone=rules.zone
    )
    if not request.patient:
        del proposal["meta"]  # the profile is that of a booking: for one patient
    patient = search.person.resource if search.person else request.patient_resource
    misfits = unfit(patient, day_at(free.place[0], rules.zone), slot, schedule) if patient else []
    return Offered(
        free, search.hospitals.get(home, ""), channel, left, with_left(slot, free.capacity, left),
        render(proposal), id, body, tuple(misfits),
    )  # fmt: skip
