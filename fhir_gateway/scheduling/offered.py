"""Offers as they are told: the Slot with the seats left in it, and the Appointment it would make.

Both are put together from what is stored without being read: of a Slot only its extensions are
looked at (and its labels, where a patient is named), all else goes out as the bytes that came in.
Schedules are the same for many Slots: what is read of one is remembered by its very bytes, so
that no change of it can be missed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.errors import Issue
from fhir_gateway.fhir.wire import parse, render, reread
from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.store.slot_sql import FreeSlot

Json = Mapping[str, Any]

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Offered(NamedTuple):
    """A seat that the caller may take now. `body` is the Slot with the seats left in it, `proposal`
    the Appointment that would be made, with the id that it is told by ("" for none)."""

    free: FreeSlot
    hospital: str
    channel: str
    left: int
    body: bytes
    proposal: bytes
    proposed_as: str
    stored_schedule: bytes
    issues: tuple[Issue, ...] = ()

    @property
    def id(self) -> str:
        """The logical id of the Slot."""
        return self.free.id

    @property
    def slot(self) -> dict[str, Any]:
        """The Slot with the seats left in it."""
        return parse(self.body)

    @property
    def schedule(self) -> dict[str, Any]:
        """The Schedule of the Slot."""
        return parse(self.stored_schedule)


def slot_members(whole: bytes, *also: str) -> dict[str, Any]:
    """A stored Slot of which id, extensions, labels and members to be read `also` are read; its
    other members are JSON."""
    members: dict[str, Any] = _members.decode(whole)
    return members | _read(members, "id", "extension", "meta", *also)


@lru_cache(maxsize=512)
def schedule_members(whole: bytes, *also: str) -> Json:
    """The same of a stored Schedule, with its actors; never to be changed."""
    members: dict[str, Any] = _members.decode(whole)
    return members | _read(members, "id", "extension", "meta", "actor", *also)


def _read(members: Mapping[str, Any], *names: str) -> dict[str, Any]:
    said = [f'"{name}":'.encode() + bytes(members[name]) for name in names if name in members]
    return reread(b"{" + b",".join(said) + b"}")


def with_left(slot: Json, capacity: int, left: int) -> bytes:
    """The Slot as it is, with the seats that are left now."""
    parts = [
        {"url": "total", "valuePositiveInt": capacity},
        {"url": "free", "valueUnsignedInt": left},
    ]
    others = [one for one in slot.get("extension") or () if one.get("url") != ext.CAPACITY]
    return render({**slot, "extension": [{"url": ext.CAPACITY, "extension": parts}, *others]})
