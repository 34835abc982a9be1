"""The sources of an answer: every institution it could have come from, and how fresh each is.

"No earlier result" is only worth what its sources are worth, so every answer lists them.
"""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

from fhir_gateway.context import Gateway
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.store.store import Reader, Store

_DAY = 86_400_000_000
#: The list is the same for everybody and long; a second's age of "last received" harms nobody.
_KEPT = 1_000_000


class Source(NamedTuple):
    """One institution. `stale`: it sent nothing for Settings.stale_after_days, or never."""

    institution: str
    name: str
    last_received_us: int | None
    stale: bool


class _Kept(NamedTuple):
    epoch: int
    t: int
    at: int
    sources: list[Source]


_kept: WeakKeyDictionary[Store, _Kept] = WeakKeyDictionary()


async def sources(gateway: Gateway, reader: Reader) -> list[Source]:
    """All active institutions, by id. The list is shared: do not change it."""
    now = gateway.clock.now()
    kept = _kept.get(gateway.store)
    if kept is not None and kept.epoch == reader.epoch and _holds(kept, reader.t, now):
        return kept.sources
    registry = await institutions_at(gateway, reader)
    received = await reader.last_received()
    oldest = now - gateway.settings.stale_after_days * _DAY
    found = [
        Source(one.id, one.name, last, last is None or last < oldest)
        for one in sorted(registry.values(), key=lambda one: one.id)
        if one.active
        for last in (received.get(one.id),)
    ]
    _kept[gateway.store] = _Kept(reader.epoch, reader.t, now, found)
    return found


def _holds(kept: _Kept, t: int, now: int) -> bool:
    """Whether the list is less than a second old; a clock that stands tells no age."""
    age = now - kept.at
    return 0 <= age < _KEPT and (age > 0 or kept.t == t)
