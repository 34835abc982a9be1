"""Through which channel a caller takes a seat: what is known of both, and what stands in the way.

The rules are in channel.py and the sentences in channel_reasons.py; here they are asked about a
Slot as a snapshot shows it. Under the write lock the store judges anew (store/claims.py).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, Issue
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.scheduling import channel_reasons as reasons
from fhir_gateway.scheduling.booking_person import (
    Order,
    Person,
    is_in_consultation,
    orders_seen,
    referrals_of,
)
from fhir_gateway.scheduling.booking_rules import booking_rules
from fhir_gateway.scheduling.calendar import day_at
from fhir_gateway.scheduling.channel import (
    Caller,
    Referral,
    Verdict,
    Wanted,
    channels_of,
    open_channels,
)
from fhir_gateway.scheduling.membership import memberships_at
from fhir_gateway.scheduling.quota_plan import Row
from fhir_gateway.security.actor import Actor
from fhir_gateway.security.institution import Level, level_of
from fhir_gateway.store.claim_person import barred_until, day_of, reasons_of_person
from fhir_gateway.store.claim_rows import NOSHOW
from fhir_gateway.store.claim_state import BookingState
from fhir_gateway.store.slot_view_sql import Other, SlotView
from fhir_gateway.store.store import Reader, Store

ORDINARY, GREEN, CONSULTATION = "ordinary", "green-channel", "in-consultation"
_NO_AREA = "110000"

#: Verdicts that rest on institutions, memberships and files alone, of an epoch; dropped when there
#: are more kinds of callers than these.
_MOST_JUDGED = 128
_judged: WeakKeyDictionary[Store, dict[Hashable, dict[str, Sequence[Verdict]]]] = (
    WeakKeyDictionary()
)


class NoChannel(Conflict):
    """Nothing of this Slot is to be had by this caller now; each reason is an issue."""


class Site(NamedTuple):
    """What is asked for of one hospital."""

    hospital: str
    kind: str  # visit or exam
    items: tuple[str, ...]
    channels: frozenset[str] = frozenset()  # those that have a part; empty: not known


def site_of(view: SlotView) -> Site:
    """What a Slot is for."""
    parts = frozenset(row.channel for row in view.quotas)
    return Site(view.hospital, view.schedule.kind, view.items, parts)


def modality_of(gateway: Gateway, items: Sequence[str]) -> str:
    """The modality of the first item of the catalogue that has one."""
    codes = gateway.local_codes
    known = codes.catalogue.items if codes is not None else {}
    return next((known[one].modality for one in items if one in known and known[one].modality), "")


class Asker:
    """A caller with what is known of the patient; what costs a look-up is looked up once."""

    def __init__(
        self,
        gateway: Gateway,
        actor: Actor,
        own: Reader,
        whole: Reader,
        *,
        person: Person | None = None,
        orders: Sequence[Order] = (),
        institution: str = "",
        residence: str = "",
    ) -> None:
        self.gateway, self._own, self._whole = gateway, own, whole
        self.institution = institution or actor.institution or ""
        self.role = "patient" if actor.role == "patient" else "institution"
        self.person, self.residence = person, residence or (person.residence if person else "")
        self._orders, self._seen = orders, bool(orders)
        self._encounter: bool | None = None
        self._level: Level | None = None
        self._is_graded = False
        self._today = day_at(gateway.clock.now(), booking_rules(gateway).zone)
        self._referrals: tuple[Referral, ...] | None = None
        self._rules = booking_rules(gateway).channels
        self._common: dict[tuple[str, tuple[str, ...]], dict[str, Sequence[Verdict]]] = {}

    async def verdicts(self, site: Site) -> Sequence[Verdict]:
        """Every channel in order of preference, open to this caller or not."""
        gateway, reader = self.gateway, self._whole
        known = await institutions_at(gateway, reader)
        if not self._is_graded:
            mine = known.get(self.institution)
            self._level, self._is_graded = level_of(mine.level) if mine else None, True
        encounter, referrals = await self._in_consultation(site), await self._referring(site)
        memberships = await memberships_at(gateway, reader)
        of_patient = bool(encounter or referrals)
        judged = {} if of_patient else self._judged(site, reader.epoch)
        if site.hospital not in judged:
            wanted = Wanted(
                site.hospital,
                site.kind,
                self._today,
                modality_of(gateway, site.items),
                site.items,
                (known[site.hospital].area if site.hospital in known else "") or _NO_AREA,
            )
            judged[site.hospital] = channels_of(
                wanted, self._caller(encounter, referrals), memberships, self._rules
            )  # fmt: skip
        return judged[site.hospital]

    def _caller(self, encounter: bool, referrals: tuple[Referral, ...]) -> Caller:
        return Caller(
            "patient" if self.role == "patient" else "institution",
            self.institution,
            self._level.rank if self._level is not None else None,
            encounter,
            self.residence,
            referrals,
        )

    def _judged(self, site: Site, epoch: int) -> dict[str, Sequence[Verdict]]:
        """What was found by hospital for callers as this one is without a patient's visits and
        orders, which alone ask for more than the modality of the items."""
        group = site.kind, site.items
        if group not in self._common:
            modality = modality_of(self.gateway, site.items)
            key = (epoch, self._rules, self._today, site.kind, modality, self._caller(False, ()))
            kept = _judged.setdefault(self.gateway.store, {})
            if len(kept) >= _MOST_JUDGED and key not in kept:
                kept.clear()
            self._common[group] = kept.setdefault(key, {})
        return self._common[group]

    async def _in_consultation(self, site: Site) -> bool:
        if self.role == "patient" or self.person is None or site.hospital != self.institution:
            return False
        if site.channels and CONSULTATION not in site.channels:
            return False
        if self._encounter is None:
            self._encounter = await is_in_consultation(
                self._whole, self.person, self.institution
            )  # fmt: skip
        return self._encounter

    async def _referring(self, site: Site) -> tuple[Referral, ...]:
        """What may open the green channel: the orders that are named, else those seen."""
        if site.kind != "exam" or (site.channels and GREEN not in site.channels):
            return ()
        if not self._seen and self.person is not None:
            self._orders, self._seen = await orders_seen(self._own, self.person), True
        if self._referrals is None:
            found = await referrals_of(self.gateway, self._whole, self._orders)
            self._referrals = tuple(found)
        return self._referrals


def candidates(view: SlotView, verdicts: Sequence[Verdict], now: int) -> list[str]:
    """The channels to try, in order: those with a part left before those that may get one."""
    rows = {row.channel: row for row in view.quotas}
    if not rows:
        return open_channels(verdicts) or [ORDINARY]
    due = [
        rows[one]
        for one in open_channels(verdicts)
        if one in rows and rows[one].opens <= now and not rows[one].is_closed(now)
    ]
    return [row.channel for row in sorted(due, key=lambda row: row.left <= 0)]


def because(verdicts: Sequence[Verdict], channel: str) -> str:
    """Why a channel is open to the caller, in both languages."""
    for one in verdicts:
        if one.channel == channel and one.open:
            found = reasons.reason(one.rule, one.channel, dict(one.facts))
            return f"{found.zh} ({found.en})"
    return ""


def explained(
    gateway: Gateway,
    view: SlotView,
    verdicts: Sequence[Verdict],
    bookings: Sequence[BookingState] = (),
    *,
    person: int = 0,
    documented: bool = True,
) -> reasons.Answer:
    """What stands between a caller and a Slot, all of it; `person` is the person's home, who has
    an identity document or not."""
    rules, now = booking_rules(gateway), gateway.clock.now()
    slot, taken = view.slot, view.taken(now)
    free = 0 if slot.busy else max(slot.capacity - len(taken), 0)
    held = min((seat.until for seat in taken if seat.until), default=0)
    state = reasons.SlotState(slot.start, view.open, free, held)
    rows = {
        row.channel: (Row(row.kind, row.channel, row.cap, row.opens, row.closes, row.falls_to),
                      row.used)
        for row in view.quotas
    }  # fmt: skip
    against = reasons.PersonState()
    if person:
        wanted = BookingState(
            person, 0, "", "booked", 0, *slot.key, slot.start, slot.end,
            day_of(slot.start, rules.claims.zone), view.schedule.department, "",
        )  # fmt: skip
        missed = (one.start for one in bookings if one.state == NOSHOW)
        unproved = ("person-unproved",) if rules.claims.documented and not documented else ()
        against = reasons.PersonState(
            (*unproved, *reasons_of_person(bookings, wanted, rules.claims, now)),
            barred_until(missed, rules.claims),
        )
    return reasons.why(state, rows, verdicts, against, now, rules.zone)


def no_channel(answer: reasons.Answer) -> NoChannel:
    """The refusal that names every reason."""
    issues = tuple(
        Issue("conflict", f"{one.en} / {one.zh}", "slot", one.rule) for one in answer.reasons
    )
    return NoChannel(issues=issues or (Issue("conflict", "Nothing is sold here now", "slot",
                                             "channel-closed"),))  # fmt: skip


def bookings_in(others: Sequence[Other]) -> list[BookingState]:
    """The bookings alone."""
    return [one.booking for one in others]
