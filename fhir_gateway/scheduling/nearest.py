"""The earliest seats near a caller, for a card: what `$find` would offer first, told in one read.

Its own institution comes first, then its district, then everywhere. Channels are judged as they are
everywhere (seat_channels.py), of those hospitals alone whose Slots came up, and so is what a Slot
asks of its patient. Where the window of the store (slot_near_sql.py) is too small to be sure,
`$find` itself is asked. docs/booking.md, docs/adr/0057
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import NotFound
from fhir_gateway.fhir.home import institution_home
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.scheduling.appointment import Marks, Offer, appointment_of
from fhir_gateway.scheduling.booking_person import Person, person_of, unfit
from fhir_gateway.scheduling.booking_rules import booking_rules
from fhir_gateway.scheduling.calendar import day_at
from fhir_gateway.scheduling.channel import PREFERENCE
from fhir_gateway.scheduling.find import FindRequest, find
from fhir_gateway.scheduling.seat_channels import CONSULTATION, GREEN, Asker, Site
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.security.institution import Institution
from fhir_gateway.store.slot_near_sql import Near, NearSlot, Reach, near_slots, sells_itself
from fhir_gateway.store.store import Reader

Json = Mapping[str, Any]

#: Channels for which something of the patient has to be looked up.
_OF_PATIENT = frozenset({GREEN, CONSULTATION, "out-of-town"})

#: Pages of `$find` that are looked at where Slots are for persons of another sex or age.
_PAGES = 4


class Wanted(NamedTuple):
    """What is looked for: for each line its catalogue codes, for a Patient (a logical id, "" for
    nobody here), until a moment (µs), so many seats of each line. `traits` is what the caller says
    of the patient's sex and age."""

    lines: Sequence[Sequence[str]]
    patient: str
    end: int
    most: int
    traits: Json | None = None


class NearSeat(NamedTuple):
    """A seat that the caller may take now. `slot` and `schedule` are the resources."""

    id: str
    begins: int  # µs
    hospital: str
    kind: str
    channel: str
    left: int
    slot: Json
    schedule: Json

    @property
    def start(self) -> str:
        """The begin, as the Slot says it."""
        return str(self.slot["start"])

    @property
    def end(self) -> str:
        """The end, as the Slot says it."""
        return str(self.slot["end"])


async def nearest(gateway: Gateway, actor: Actor, wanted: Wanted) -> list[list[NearSeat]]:
    """The seats of each line, in order of what is near and then of time."""
    items = sorted(set(chain.from_iterable(wanted.lines)))
    now = gateway.clock.now()
    async with gateway.store.snapshot(SYSTEM_ACCESS) as whole:
        mine = (await institutions_at(gateway, whole)).get(actor.institution or "")
        reaches = _reaches(mine)
        near = await whole.steps(
            lambda seen: near_slots(seen.dialect, items, reaches, now=now, end=wanted.end)
        )
        sells = await whole.steps(lambda _: sells_itself(reaches[0].home))
        judge = _Judge(gateway, actor, whole, wanted)
        found = [await judge.line(tuple(line), [near[item] for item in line])
                 for line in wanted.lines]  # fmt: skip
    for number, line in enumerate(wanted.lines):
        if not any(near[item].is_cut for item in line):
            continue
        own = sum(seat.hospital == actor.institution for seat in found[number])
        if len(found[number]) < wanted.most or (sells and own < wanted.most):
            found[number] = await _searched(gateway, actor, wanted, line, mine)
    return found


def _reaches(mine: Institution | None) -> list[Reach]:
    """Where is looked, the nearest first."""
    near = []
    if mine is not None:
        near.append(Reach(home=institution_home(mine.id)))
    if mine is not None and mine.area:
        near.append(Reach(district=mine.area))
    return [*near, Reach()]


class _Judge:
    """What a caller may take for a patient: each hospital's channels are found out once."""

    def __init__(self, gateway: Gateway, actor: Actor, whole: Reader, wanted: Wanted) -> None:
        self._gateway, self._actor, self._whole, self._wanted = gateway, actor, whole, wanted
        self._zone = booking_rules(gateway).zone
        self._askers: dict[bool, Asker] = {}
        self._open: dict[Site, frozenset[str]] = {}
        self._person: Person | None = None
        self._is_known = not wanted.patient

    async def line(self, items: tuple[str, ...], near: Sequence[Near]) -> list[NearSeat]:
        """The first seats of a line that the caller may take and that are for this patient."""
        most = self._wanted.most
        slots = {
            slot.id: slot
            for reach in range(len(near[0].slots))
            for slot in sorted(slot for one in near for slot in one.slots[reach])
        }
        waiting, found = list(slots.values()), list[NearSeat]()
        while waiting and len(found) < most:
            able: list[tuple[NearSlot, str]] = []
            while waiting and len(able) < most - len(found):
                slot = waiting.pop(0)
                if channel := await self._channel(slot, items):
                    able.append((slot, channel))
            found += await self._fitting(able)
        return found

    async def _channel(self, slot: NearSlot, items: tuple[str, ...]) -> str:
        """Through which channel the caller may take a seat of a Slot now, "" for none."""
        hospital, channels = slot.bucket.partition("|")[0], frozenset(slot.channels)
        known = await institutions_at(self._gateway, self._whole)
        if hospital not in known or slot.left <= 0 or institution_home(hospital) != slot.place[1]:
            return ""
        site = Site(hospital, slot.sold_as, items, channels)
        if site not in self._open:
            asker = await self._asker(bool(channels & _OF_PATIENT))
            verdicts = await asker.verdicts(site)
            self._open[site] = frozenset(one.channel for one in verdicts if one.open)
        able = self._open[site] & channels
        return next((one for one in PREFERENCE if one in able), "")

    async def _asker(self, of_patient: bool) -> Asker:
        if of_patient not in self._askers:
            own = self._whole.under(self._actor.access) if of_patient else self._whole
            person = await self._patient(own) if of_patient else None
            self._askers[of_patient] = Asker(
                self._gateway, self._actor, own, self._whole, person=person
            )  # fmt: skip
        return self._askers[of_patient]

    async def _patient(self, own: Reader | None = None) -> Person | None:
        """Whose Patient the caller does not see gets what is sold to anybody."""
        if not self._is_known:
            self._is_known = True
            own = own or self._whole.under(self._actor.access)
            try:
                self._person = await person_of(own, self._wanted.patient)
            except NotFound:
                self._person = None
        return self._person

    async def _fitting(self, able: Sequence[tuple[NearSlot, str]]) -> list[NearSeat]:
        names = {("Slot", slot.id) for slot, _ in able}
        names |= {("Schedule", slot.schedule) for slot, _ in able}
        stored = await self._whole.shared(sorted(names)) if names else []
        resources = {(one.type, one.id): parse(one.whole()) for one in stored}
        found = []
        for one, channel in able:
            slot = resources.get(("Slot", one.id))
            schedule = resources.get(("Schedule", one.schedule))
            if slot is None or schedule is None or await self._is_unfit(one, slot, schedule):
                continue
            hospital = one.bucket.partition("|")[0]
            found.append(NearSeat(one.id, one.place[0], hospital, one.kind, channel, one.left,
                                  slot, schedule))  # fmt: skip
        return found

    async def _is_unfit(self, one: NearSlot, slot: Json, schedule: Json) -> bool:
        """Whether what is asked of a patient does not fit this one; most Slots ask for nothing."""
        if not any(
            True for each in (slot, schedule) for _ in ext.extensions(each, ext.REQUIREMENT)
        ):
            return False
        person = await self._patient()
        patient = person.resource if person is not None else self._wanted.traits
        if patient is None:
            return False
        issues = unfit(patient, day_at(one.place[0], self._zone), slot, schedule)
        return any(issue.severity == "error" for issue in issues)


# -- where the window is too small ---------------------------------------------------------------


async def _searched(
    gateway: Gateway, actor: Actor, wanted: Wanted, items: Sequence[str], mine: Institution | None
) -> list[NearSeat]:
    """The same by `$find`, exact however many Slots stand before the first that may be had."""
    found: dict[str, NearSeat] = {}
    for reach in _reaches(mine):
        narrower: dict[str, Any] = {}
        if reach.home and mine is not None:
            narrower["hospitals"] = (mine.id,)
        elif reach.district:
            narrower["districts"] = (reach.district,)
        if len(found) < wanted.most:
            for one in await _find(gateway, actor, wanted, items, narrower):
                found.setdefault(one.id, one)
    return list(found.values())[: wanted.most]


async def _find(
    gateway: Gateway, actor: Actor, wanted: Wanted, items: Sequence[str], narrower: Json
) -> list[NearSeat]:
    request = FindRequest(
        gateway.clock.now(), wanted.end, items=tuple(items), patient=wanted.patient,
        patient_resource=wanted.traits, limit=wanted.most, **narrower,
    )  # fmt: skip
    found: list[NearSeat] = []
    for _ in range(_PAGES):
        try:
            page = await find(gateway, actor, request)
        except NotFound:  # whose Patient the caller does not see: what is sold to anybody
            request = request._replace(patient="")
            page = await find(gateway, actor, request)
        found += [
            NearSeat(one.id, one.free.place[0], one.hospital, one.free.kind, one.channel, one.left,
                     one.slot, one.schedule)
            for one in page.offers
            if all(issue.severity != "error" for issue in one.issues)
        ]  # fmt: skip
        if len(found) >= wanted.most or page.next is None:
            break
        request = request._replace(after=page.next)
    return found


# -- by agreement --------------------------------------------------------------------------------


def proposal_of(
    gateway: Gateway, seat: NearSeat, patient: str, items: Sequence[str]
) -> dict[str, Any]:
    """The proposed Appointment of a seat for what is ordered, without an id."""
    offer = Offer(seat.slot, seat.schedule, patient, items=items)
    proposal = appointment_of(
        offer, id="-", status="proposed", marks=Marks(seat.channel), created=gateway.clock.now(),
        zone=booking_rules(gateway).zone,
    )  # fmt: skip
    del proposal["id"]
    if not patient:
        del proposal["meta"]  # the profile is that of a booking: for one patient
    return proposal
