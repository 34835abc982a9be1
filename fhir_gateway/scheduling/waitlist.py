"""Waiting for a seat: joining the list, taking what is offered, and declining it.

One entry for each person, service and items, in the channel that is open to who asks. Leaving is
`$cancel`; taking an offer is `$book` of the entry, which `book` hands on to `accept`.
docs/pools-operation.md, docs/adr/0053-jobs-of-the-pools.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, Invalid, NotFound, Unprocessable
from fhir_gateway.fhir.datatypes import Reference, parse_reference
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.wire import parse
from fhir_gateway.mapping.ids import business_id
from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.scheduling.appointment import Marks, Offer, appointment_of
from fhir_gateway.scheduling.booking_parties import Stands, around_of, stands, step
from fhir_gateway.scheduling.booking_person import (
    Order,
    Person,
    check_orders,
    orders_named,
    person_of,
)
from fhir_gateway.scheduling.booking_rules import booking_rules
from fhir_gateway.scheduling.channel import open_channels
from fhir_gateway.scheduling.limits import confirm_by
from fhir_gateway.scheduling.notice import put_of_notice
from fhir_gateway.scheduling.rows import EXAM, VISIT
from fhir_gateway.scheduling.seat_channels import Asker, Site
from fhir_gateway.scheduling.seat_choice import BY_HOSPITAL, turned
from fhir_gateway.scheduling.seat_commit import Asked, Done, Planned, Sources, Told, carry_out
from fhir_gateway.scheduling.waitlist_entry import (
    URGENCY,
    Waiting,
    Wanted,
    after_offer,
    entry_of,
    notice_of,
    waiting_of,
)
from fhir_gateway.scheduling.waitlist_offers import suits
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.changes import VersionIs
from fhir_gateway.store.claim_refusals import refused
from fhir_gateway.store.claim_rows import BOOKED, CANCELLED, HELD, Give, Keep
from fhir_gateway.store.store import Reader

Json = Mapping[str, Any]

_WAIT, _ACCEPT, _DECLINE = Asked("$waitlist"), Asked("$book"), Asked("$decline")

#: The longest time (µs) that somebody may wait for: half a year.
_LONGEST = 184 * 24 * 3_600_000_000


class WaitRequest(NamedTuple):
    """What somebody waits for. `service` and `patient` are logical ids, `items` codes of the
    catalogue; times are µs. Without a channel the first that is open to the caller is taken."""

    patient: str
    service: str
    items: Sequence[str]
    start: int
    end: int
    based_on: Sequence[str] = ()
    channel: str = ""


async def wait(gateway: Gateway, actor: Actor, request: WaitRequest, asked: Asked = _WAIT) -> Done:
    """Puts a person on the waiting list: an Appointment with status waitlist.

    Raises NotFound, Invalid, Unprocessable, and Conflict for who waits for the same already.
    """

    async def plan(sources: Sources) -> Planned:
        return await _plan_wait(gateway, actor, request, sources)

    return await carry_out(gateway, actor, asked, f"Patient/{request.patient}", plan)


async def _plan_wait(
    gateway: Gateway, actor: Actor, request: WaitRequest, sources: Sources
) -> Planned:
    now, rules = gateway.clock.now(), booking_rules(gateway)
    _check_days(request, now)
    person = await person_of(sources.own, request.patient)
    orders = await orders_named(sources.own, request.based_on)
    check_orders(orders, person, request.items)
    service = await _service(sources.whole, request.service)
    hospital = _provider(service)
    channel = await _channel(gateway, actor, request, sources, person, orders, service)
    id = await _free_id(sources, gateway, person, request)
    marks = Marks(channel, "" if actor.role == "patient" else actor.institution or "")
    resource = entry_of(Wanted(
        id, request.patient, request.service, _concepts(gateway, request, service),
        max(request.start, now), request.end, marks, _urgency(orders), request.based_on, service,
    ), now, rules.zone)  # fmt: skip
    return Planned(
        id, resource, 0, key64(f"Organization/{hospital}"), request.patient, [], Told(channel),
        summary=f"waitlist {channel}", counts="waitlist_joined",
        guards=[VersionIs("Appointment", id, 0)],
    )  # fmt: skip


def _check_days(request: WaitRequest, now: int) -> None:
    if request.end <= max(request.start, now):
        raise Invalid(
            "end must be after start and after now: say the days on which the patient can come",
            expression="end",
            rule="waitlist-days",
        )
    if request.end - max(request.start, now) > _LONGEST:
        raise Invalid(
            "A wait may be for half a year at most; name an earlier end",
            expression="end",
            rule="waitlist-days",
        )


async def _service(whole: Reader, id: str) -> Json:
    stored = await whole.read("HealthcareService", id)
    if stored is None or stored.deleted:
        raise NotFound(
            "There is no such HealthcareService; search HealthcareService?organization=… for it",
            expression="service",
            rule="service-unknown",
        )
    return parse(stored.whole())


def _provider(service: Json) -> str:
    found = parse_reference(str((service.get("providedBy") or {}).get("reference", "")))
    if not isinstance(found, Reference):
        raise Unprocessable(
            "This HealthcareService does not say whose it is, so nothing of it is booked here",
            expression="service",
            rule="service-unowned",
        )
    return found.id


async def _channel(
    gateway: Gateway, actor: Actor, request: WaitRequest, sources: Sources, person: Person,
    orders: Sequence[Order], service: Json,
) -> str:  # fmt: skip
    """The channel through which a seat will be taken. Raises Unprocessable for a closed one."""
    asker = Asker(gateway, actor, sources.own, sources.whole, person=person, orders=orders)
    kind = ext.coded(service.get("category"), ext.BOOKING_KIND) or (
        EXAM if request.items else VISIT
    )  # fmt: skip
    site = Site(_provider(service), kind, tuple(request.items))
    able = open_channels(await asker.verdicts(site))
    if request.channel and request.channel not in able:
        raise Unprocessable(
            f"The channel {request.channel} is not open to you for this; open are "
            f"{', '.join(able)}",
            expression="channel",
            rule="channel-closed",
        )
    return request.channel or able[0]


async def _free_id(
    sources: Sources, gateway: Gateway, person: Person, request: WaitRequest
) -> str:  # fmt: skip
    """The id of a new entry: of person, service and items, numbered. Raises Conflict for who waits
    already."""
    who = str(min(person.homes))
    for number in range(1_000):
        key = (who, request.service, *sorted(set(request.items)), str(number))
        id = business_id("", "Appointment", "waitlist", *key)
        stored = await sources.whole.read("Appointment", id)
        if stored is None:
            return id
        if not stored.deleted and waiting_of(parse(stored.whole()), gateway.settings.zone):
            raise await _waits_already(sources, id, request)
    raise Conflict("The person has waited for this too often", rule="waitlist-often")


async def _waits_already(sources: Sources, id: str, request: WaitRequest) -> Conflict:
    """The refusal of a second entry, which names the first one to whoever sees it."""
    seen = await sources.own.read("Appointment", id) is not None
    error = Conflict(
        f"The person waits for this already: Appointment/{id}. Cancel that entry to ask for other "
        "days" if seen else "The person waits for this already; ask the patient, who sees the "
        "entry and may cancel it",
        rule="waitlist-twice",
    )  # fmt: skip
    vars(error)["patient"] = request.patient
    return error


def _concepts(gateway: Gateway, request: WaitRequest, service: Json) -> list[Json]:
    codes = gateway.local_codes
    known = codes.catalogue.items if codes is not None else {}
    unknown = [one for one in request.items if one not in known]
    if unknown:
        raise Unprocessable(
            f"The catalogue has no item {', '.join(unknown)}", expression="item",
            rule="item-unknown",
        )  # fmt: skip
    if request.items:
        return [{"coding": [known[one].coding()]} for one in request.items]
    return list(service.get("type") or ()) or [{"text": str(service.get("name") or "预约")}]


def _urgency(orders: Sequence[Order]) -> str:
    """The most urgent of the orders; routine where none says."""
    said = {str(one.resource.get("priority") or "routine") for one in orders}
    return next((one for one in URGENCY if one in said), "routine")


# -- what is offered ------------------------------------------------------------------------------


async def is_waiting(gateway: Gateway, actor: Actor, id: str) -> bool:
    """Whether an Appointment that the caller sees is an entry of a waiting list."""
    async with gateway.store.snapshot(actor.access) as own:
        stored = await own.read("Appointment", id)
    if stored is None or stored.deleted:
        return False
    return waiting_of(parse(stored.whole()), gateway.settings.zone) is not None


async def accept(gateway: Gateway, actor: Actor, id: str, asked: Asked = _ACCEPT) -> Done:
    """Books what is offered to an entry, which becomes the booking; where the hospital sells
    itself it is pending until `$confirm`. Raises NotFound, Forbidden, and Conflict when nothing
    is offered, or no longer."""

    async def plan(sources: Sources) -> Planned:
        one, waiting = await _entry(gateway, sources, id, asked)
        return await _plan_accept(gateway, actor, one, waiting, sources)

    return await carry_out(gateway, actor, asked, f"Appointment/{id}", plan)


async def _entry(
    gateway: Gateway, sources: Sources, id: str, asked: Asked
) -> tuple[Stands, Waiting]:
    zone = gateway.settings.zone
    one = await stands(sources.own, sources.whole, id, zone=zone, if_match=asked.if_match)
    waiting = waiting_of(one.resource, zone)
    if waiting is None or not waiting.offered:
        raise Conflict(
            "Nothing is offered to this entry now: wait for an offer, or find a seat by $find",
            rule="waitlist-nothing-offered",
        )
    return await offered_to_entry(sources.whole, one, waiting), waiting


async def offered_to_entry(whole: Reader, one: Stands, waiting: Waiting) -> Stands:
    """The entry with the Slot that is offered to it, where one is."""
    if not waiting.offered:
        return one
    return one._replace(around=await around_of(whole, waiting.offered, waiting.patient))


async def _plan_accept(
    gateway: Gateway, actor: Actor, one: Stands, waiting: Waiting, sources: Sources
) -> Planned:
    status, now, rules = step(actor, one, "accept"), gateway.clock.now(), booking_rules(gateway)
    slot, schedule = one.slot, one.around.schedule
    if one.view is None or one.booking is None or slot is None:
        raise refused("hold-unknown")
    if schedule is None:
        raise refused("slot-unknown")
    if not one.booking.is_live(now):
        raise refused("hold-expired")
    await _check_fits(gateway, sources, one, waiting)
    asks = one.view.schedule.master == BY_HOSPITAL
    until = confirm_by(rules.limits, now, one.view.slot.start) if asks else 0
    channel = one.booking.channel
    resource = appointment_of(
        Offer(parse(slot.whole()), parse(schedule.whole()), waiting.patient), id=waiting.id,
        status=status, marks=Marks(channel, waiting.marks.booked_by, confirm_by=until),
        created=now, zone=rules.zone, before=one.resource,
    )  # fmt: skip
    told = notice_of(waiting, waiting.offered, waiting.until, now, "completed")
    return Planned(
        waiting.id, resource, one.stored.version, one.stored.owner, waiting.patient,
        [Keep(f"Appointment/{waiting.id}", HELD if until else BOOKED, until, waiting.patient)],
        Told(channel),
        turned(one.view, slot, until, 1), [put_of_notice(gateway, told)],
        summary=f"{status} Slot/{waiting.offered} {channel}",
        counts="bookings_asked" if asks else "bookings_made",
    )  # fmt: skip


async def _check_fits(gateway: Gateway, sources: Sources, one: Stands, waiting: Waiting) -> None:
    """Raises Unprocessable where the patient is of another sex or age than the Slot is for, or is
    registered as deceased by now."""
    if not await suits(gateway, sources.whole, waiting, one.around):
        raise Unprocessable(
            "What is offered is not for this patient as he is registered now (sex, age, deceased): "
            "decline it, or correct the Patient",
            rule="waitlist-unfit",
        )


async def decline(gateway: Gateway, actor: Actor, id: str, asked: Asked = _DECLINE) -> Done:
    """Declines what is offered to an entry: it waits on, and the seat goes to who is next. Raises
    as `accept`."""

    async def plan(sources: Sources) -> Planned:
        one, waiting = await _entry(gateway, sources, id, asked)
        step(actor, one, "decline")
        resource, told = after_offer(gateway, one.resource, "decline")
        claims = [Give(f"Appointment/{id}", CANCELLED)] if one.booking is not None else []
        return Planned(
            id, resource, one.stored.version, one.stored.owner, waiting.patient, claims,
            Told(waiting.marks.channel), puts=[put_of_notice(gateway, told)],
            summary=f"declined Slot/{waiting.offered}", counts="waitlist_declined", freed=one,
        )  # fmt: skip

    return await carry_out(gateway, actor, asked, f"Appointment/{id}", plan)
