"""Where what was ordered can be booked: the earliest slots in reach, on the card of the order.

An order for which no earlier result can stand in is answered with a few slots that the caller's
channels sell now: of its own institution first, then of its district, then the earliest of all.
Nothing is held. What is said is no part of the decision, is looked up after it is on record, and
within its own few milliseconds of the call's one deadline: when they are over the card goes out and
says so, and when nothing is found it says nothing. docs/cds-hooks.md, docs/adr/0054, 0057
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from fhir_gateway.cds_hooks.booking_link import find_parameters, link_of
from fhir_gateway.cds_hooks.cards import SOURCE, Card
from fhir_gateway.cds_hooks.markdown import escape, shorten
from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError
from fhir_gateway.recognition.ask import Answer
from fhir_gateway.recognition.order import Order
from fhir_gateway.recognition.vocabulary import catalogue_of
from fhir_gateway.scheduling.nearest import NearSeat, Wanted, nearest, proposal_of
from fhir_gateway.scheduling.rows import items_of
from fhir_gateway.security.actor import Actor

_log = logging.getLogger("fhir_gateway.cds_hooks")

#: The name of the extension of a card by which a workstation books by itself.
EXTENSION = "org.example.fhir-gateway.bookable-slots"

#: Order lines of one call that are looked up.
MOST_LINES = 5

#: Seconds that are left for writing the answer.
_MARGIN = 0.03

_DAY = 86_400_000_000
_TO_BOOK = frozenset({"not-recognizable", "cannot-decide"})
_KINDS = {"expert": "专家", "ordinary": "普通"}


class Lookup(NamedTuple):
    """A call whose orders are looked up: who asks, what was decided, the base of addresses, and
    the moment of the loop's clock by which to answer. `proposes`: by agreement the card offers to
    create a proposed Appointment. `person` is the Patient as the call sent it, None for none."""

    gateway: Gateway
    actor: Actor
    answer: Answer
    orders: Sequence[Order]
    base: str
    until: float
    proposes: bool = False
    person: Mapping[str, Any] | None = None


class Line(NamedTuple):
    """An order line that can only be carried out by a new examination."""

    number: int
    order: Order
    items: tuple[str, ...]


async def with_slots(look: Lookup, cards: Mapping[str, Card]) -> dict[str, Card]:
    """The cards with the slots of their order lines, in the order of the lines; a line that had
    no card gets one when there is a slot for it. Never raises for a fault of looking up."""
    shown = dict(cards)
    lines = [line for line in _lines(look) if line.items][:MOST_LINES]
    if not lines or not look.gateway.settings.hook_slots:
        return shown
    found: dict[str, list[NearSeat]] = {}
    late = False
    mine = asyncio.get_running_loop().time() + look.gateway.settings.hook_slots_ms / 1000
    try:
        async with asyncio.timeout_at(min(mine, look.until - _MARGIN)):
            for line, seats in zip(lines, await _looked_up(look, lines), strict=True):
                found[line.order.key] = seats
    except TimeoutError:
        late = True
    except GatewayError as error:
        late = True
        _log.warning(json.dumps({"event": "slots", "why": error.issues[0].rule}))
    except Exception as error:
        # an order is answered, whatever becomes of this
        late = True
        _log.exception(json.dumps({"event": "slots", "why": type(error).__name__}))
    if late:
        look.gateway.count("hook_slots_late", 1)
    for line in lines:
        offers = found.get(line.order.key)
        if offers:
            shown[line.order.key] = _told(look, line, offers, shown.get(line.order.key))
        elif late and offers is None and line.order.key in shown:
            shown[line.order.key] = _untold(shown[line.order.key])
    keys = [order.key for order in look.orders]
    return {key: shown[key] for key in ("", *keys) if key in shown}


def _lines(look: Lookup) -> list[Line]:
    """The order lines of which every item has to be examined. An emergency is not booked."""
    if "emergency" in look.answer.query.context:
        return []
    outcomes: dict[str, list[Any]] = {}
    for item in look.answer.decision.items:
        outcomes.setdefault(item.key, []).append(item)
    return [
        Line(number, order, tuple(item.item for item in outcomes[order.key] if item.item))
        for number, order in enumerate(look.orders)
        if order.key in outcomes
        and all(item.item and item.outcome in _TO_BOOK for item in outcomes[order.key])
    ]


async def _looked_up(look: Lookup, lines: Sequence[Line]) -> list[list[NearSeat]]:
    """A few slots for each line that this patient can be booked on, the nearest first."""
    settings, gateway = look.gateway.settings, look.gateway
    wanted = Wanted(
        [line.items for line in lines],
        look.answer.query.patient,
        gateway.clock.now() + settings.hook_slot_days * _DAY,
        settings.hook_slots,
        _traits(look.person),
    )
    return await nearest(gateway, look.actor, wanted)


def _traits(person: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What of a Patient decides whether a slot is for him."""
    known = {name: person[name] for name in ("gender", "birthDate") if person and name in person}
    return {"resourceType": "Patient", **known} if known else None


# -- on the card ----------------------------------------------------------------------------------


def _told(look: Lookup, line: Line, offers: Sequence[NearSeat], card: Card | None) -> Card:
    """The card with the slots, a new one where the order had none."""
    zone = ZoneInfo(look.gateway.settings.zone)
    section = "\n".join(
        [
            "**可预约时段**（尚未占用，以预约时为准）：",
            "",
            *(_row(look, line, one, zone) for one in offers),
        ]
    )
    first = _when(offers[0], zone)
    told: Card = dict(card) if card is not None else _card(look, line, first)
    told["detail"] = f"{card['detail']}\n\n{section}" if card is not None else section
    links = list(told.get("links", ()))
    if link := link_of(look.gateway, look.answer.number, line.number):
        links.append(link)
    if links:
        told["links"] = links
    told["extension"] = {EXTENSION: _machine(look, line, offers)}
    if look.proposes and card is None:  # a suggestion of a decision's card is an answer to it
        told["suggestions"] = [_proposal(look, line, offers[0], first)]
    return told


def _card(look: Lookup, line: Line, first: str) -> Card:
    """A card about slots alone. It has no uuid: there is nothing to answer."""
    items = catalogue_of(look.gateway).items
    names = "、".join(items[one].name_zh for one in line.items if one in items)
    return {
        "summary": shorten(f"可预约：{names or line.order.display}，最早 {first}"),
        "indicator": "info",
        "source": SOURCE,
    }


def _untold(card: Card) -> Card:
    return {**card, "detail": f"{card['detail']}\n\n本次未查询可预约时段。"}


def _row(look: Lookup, line: Line, offer: NearSeat, zone: ZoneInfo) -> str:
    known = look.answer.institutions.get(offer.hospital)
    name = escape(known.name if known else offer.hospital)
    kind = _KINDS.get(offer.kind, "")
    only = _only(look, line, offer)
    return f"- {_when(offer, zone)} {name}{f'（{kind}）' if kind else ''}，余 {offer.left}{only}"


def _only(look: Lookup, line: Line, offer: NearSeat) -> str:
    """Which of several ordered items a slot is for, where it is not for all of them."""
    served = set(items_of(offer.slot)) & set(line.items)
    if served >= set(line.items):
        return ""
    known = catalogue_of(look.gateway).items
    names = "、".join(known[one].name_zh for one in line.items if one in served and one in known)
    return f"，仅含{names}" if names else ""


def _when(offer: NearSeat, zone: ZoneInfo) -> str:
    start = datetime.fromtimestamp(offer.begins / 1_000_000, zone)
    return start.strftime("%Y-%m-%d %H:%M")


def _machine(look: Lookup, line: Line, offers: Sequence[NearSeat]) -> dict[str, Any]:
    """What a workstation needs to search on, and to hold a seat by itself."""
    return {
        "find": f"{look.base}/Appointment/$find",
        "hold": f"{look.base}/Appointment/$hold",
        "parameters": find_parameters(look.gateway, look.answer.query.patient, line.items),
        "slots": [
            {
                "slot": f"Slot/{one.id}",
                "start": one.start,
                "end": one.end,
                "organization": f"Organization/{one.hospital}",
                "channel": one.channel,
                "free": one.left,
            }
            for one in offers
        ],
    }


def _proposal(look: Lookup, line: Line, offer: NearSeat, first: str) -> dict[str, Any]:
    """By agreement alone: the workstation may put down a proposed Appointment. Nothing is held."""
    proposal = proposal_of(look.gateway, offer, look.answer.query.patient, line.items)
    return {
        "label": shorten(f"拟预约 {first}"),
        "actions": [
            {
                "type": "create",
                "description": "新建一条拟议预约（未占用号源）",
                "resource": proposal,
            }
        ],
    }
