"""Which message becomes what: one table from MSH-9 to its mapper (docs/v2.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from fhir_gateway.errors import NotSupported
from fhir_gateway.mapping.v2 import Message
from fhir_gateway.mapping.v2_adt import Statement, map_adt
from fhir_gateway.mapping.v2_order import ORDER_EVENTS, map_order
from fhir_gateway.mapping.v2_oru import Mapped, check_header, map_oru
from fhir_gateway.mapping.v2_oul import map_oul
from fhir_gateway.mapping.v2_schedule import SCHEDULE_EVENTS, map_schedule
from fhir_gateway.mapping.v2_srm import REQUEST_EVENTS
from fhir_gateway.mapping.v2_visit import PERSON_EVENTS, VISIT_EVENTS, map_visit
from fhir_gateway.security.institution import Institution

Mapper = Callable[..., Mapped | Statement]

#: type -> event -> mapper.
MESSAGES: dict[str, dict[str, Mapper]] = {
    "ORU": {"R01": map_oru, "": map_oru},
    "OUL": {"R22": map_oul},
    "ADT": {
        **dict.fromkeys(("A40", "A37"), map_adt),
        **dict.fromkeys((*VISIT_EVENTS, *PERSON_EVENTS), map_visit),
    },
    **{kind: dict.fromkeys(events, map_order) for kind, events in ORDER_EVENTS.items()},
    "SIU": dict.fromkeys(SCHEDULE_EVENTS, map_schedule),
}

#: type -> events of messages that ask for something to be done, and are answered with what was
#: (scheduling/srm.py).
REQUESTS: dict[str, tuple[str, ...]] = {"SRM": REQUEST_EVENTS}

#: What the register calls an SIU beside its type that was a hospital's answer to a booking of ours.
OF_BOOKING = " booking"


def asks(kind: str) -> bool:
    """Whether a message of this kind (of the register) changed a booking and stored no more."""
    return kind.partition("^")[0] in REQUESTS or kind.endswith(OF_BOOKING)


def is_taken(kind: str, event: str) -> bool:
    """Whether messages of this type and event are taken in."""
    return event in MESSAGES.get(kind, ()) or event in REQUESTS.get(kind, ())


def map_message(
    message: Message,
    institution: Institution,
    *,
    folder: str,
    others: frozenset[str] = frozenset(),
) -> Mapped | Statement:
    """What a message says, by its type and event.

    `others` are the names and OIDs by which other registered institutions assign numbers.

    Raises NotSupported for what is not taken in, Forbidden or Unprocessable with the place that is
    wrong.
    """
    kind, event = message.header.text(9), message.header.text(9, 2)
    mapper = MESSAGES.get(kind, {}).get(event)
    if mapper is None:
        refuse(message, institution, kind)
    return mapper(message, institution, folder=folder, others=others)


def refuse(message: Message, institution: Institution, kind: str) -> NoReturn:
    """Raises what is wrong with a message that has no mapper: its type, or its event."""
    events = MESSAGES.get(kind, {})
    check_header(message, institution, kind=kind if events else "none", events=tuple(events))
    raise NotSupported("Messages of this kind are not taken in here", rule="v2-unsupported")
