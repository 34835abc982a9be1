"""$recognize with `slots`: the recorded answer, and where that can be booked which is not answered.

What a card of CDS Hooks tells beside a decision, for clients of the operation. The decision is on
record before anything is looked up, and does not know of it; what fails is said to be unknown and
never keeps the answer back. docs/api/recognize.md, docs/adr/0054, docs/adr/0058
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Invalid, NotSupported
from fhir_gateway.interactions.narrowing import insufficient, scopes_of
from fhir_gateway.interactions.operation_definitions import Call
from fhir_gateway.recognition.ask import Answer
from fhir_gateway.recognition.operation import recognize, recognized
from fhir_gateway.recognition.told import told
from fhir_gateway.recognition.vocabulary import vocabulary_of
from fhir_gateway.scheduling.nearest import NearSeat, Wanted, nearest
from fhir_gateway.security import scopes as smart
from fhir_gateway.security.actor import Actor

_log = logging.getLogger("fhir_gateway.rest")

#: Order lines that are looked up in one call.
_MOST_LINES = 20
_DAY = 86_400_000_000
_TO_BOOK = frozenset({"not-recognizable", "cannot-decide"})

Part = dict[str, Any]


class Line(NamedTuple):
    """An order line of which every item has to be examined, with its catalogue codes."""

    key: str
    items: tuple[str, ...]


async def recognize_with_slots(gateway: Gateway, actor: Actor, call: Call) -> dict[str, Any]:
    """The answer of $recognize; with `slots` also the seats. Raises as `recognize`, and for `slots`
    where it cannot be heeded."""
    if not call.value("slots"):
        return await recognize(gateway, actor, call)
    _check(gateway, actor, call)
    answer = await recognized(gateway, actor, call)
    whole = told(answer, vocabulary_of(gateway))
    lines = list(_lines(answer))
    looked = lines[:_MOST_LINES]
    found = await _found(gateway, actor, answer, looked)
    whole["parameter"] += [
        _seat(line, seat) for line, seats in zip(looked, found, strict=False) for seat in seats
    ]
    left = lines[len(found) :]
    whole["parameter"] += [{"name": "slots-not-looked-up", "valueString": one.key} for one in left]
    return whole


def _check(gateway: Gateway, actor: Actor, call: Call) -> None:
    """Raises Invalid, NotSupported and InsufficientScope: nothing that is asked for is ignored."""
    taken = call.one("slots")
    where = taken.expression if taken is not None else "slots"
    if call.one("asOf") is not None:
        raise Invalid("Slots are those of now: leave out slots, or asOf", expression=where,
                      rule="recognize-slots")  # fmt: skip
    if not gateway.settings.hook_slots:
        raise NotSupported("This site tells no slots beside decisions: use Appointment/$find",
                           expression=where, rule="recognize-slots")  # fmt: skip
    if actor.scopes is not None:
        grant = smart.allowed(scopes_of(gateway, actor), "Slot", "rs", smart.levels_of(actor))
        if isinstance(grant, smart.Refused):
            raise insufficient(grant.needs)


def _lines(answer: Answer) -> Iterator[Line]:
    """The order lines that no earlier result answers. An emergency is not booked."""
    if "emergency" in answer.query.context:
        return
    outcomes: dict[str, list[Any]] = {}
    for item in answer.decision.items:
        outcomes.setdefault(item.key, []).append(item)
    for key, items in outcomes.items():
        if all(one.item and one.outcome in _TO_BOOK for one in items):
            yield Line(key, tuple(dict.fromkeys(one.item for one in items)))


async def _found(
    gateway: Gateway, actor: Actor, answer: Answer, lines: Sequence[Line]
) -> list[list[NearSeat]]:
    """The seats of each line; none at all where looking them up fails."""
    settings = gateway.settings
    end = gateway.clock.now() + settings.hook_slot_days * _DAY
    codes = [line.items for line in lines]
    wanted = Wanted(lines=codes, end=end, most=settings.hook_slots, patient=answer.query.patient)
    try:
        return await nearest(gateway, actor, wanted) if lines else []
    except GatewayError as error:
        _log.warning(json.dumps({"event": "slots", "why": error.issues[0].rule}))
    except Exception as error:
        # an order is answered, whatever becomes of this
        _log.exception(json.dumps({"event": "slots", "why": type(error).__name__}))
    return []


def _seat(line: Line, seat: NearSeat) -> Part:
    return {
        "name": "bookable",
        "part": [
            {"name": "key", "valueString": line.key},
            {"name": "slot", "valueReference": {"reference": f"Slot/{seat.id}"}},
            {"name": "start", "valueInstant": seat.slot["start"]},
            {"name": "end", "valueInstant": seat.slot["end"]},
            {
                "name": "organization",
                "valueReference": {"reference": f"Organization/{seat.hospital}"},
            },
            {"name": "channel", "valueCode": seat.channel},
            {"name": "free", "valueInteger": seat.left},
        ],
    }
