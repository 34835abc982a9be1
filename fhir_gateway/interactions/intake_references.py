"""Which of many resources refer to what is not stored: all of them at once.

The guards of a commit name the first; leaving out one resource at a time would try a file of
thousands again and again.
"""

from __future__ import annotations

from collections.abc import Sequence

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Unprocessable
from fhir_gateway.fhir.validate import BundleEntry
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.entries import root
from fhir_gateway.interactions.references import JOURNAL_TYPES, expression, local, slots
from fhir_gateway.security.actor import SYSTEM_ACCESS

#: Names that are looked up on one snapshot.
_PIECE = 200


async def unstored(gateway: Gateway, entries: Sequence[BundleEntry]) -> dict[int, GatewayError]:
    """The entries with a reference to what is neither stored nor among the others, by place.

    One that refers to such an entry is one itself. Only plain references `Type/id` are judged.
    """
    named = [_named(gateway, entry) for entry in entries]
    own = {entry.url or "": place for place, entry in enumerate(entries) if entry.method == "PUT"}
    wanted = {name for names in named for name in names} - own.keys()
    missing = wanted - await _stored(gateway, sorted(wanted))
    bad: dict[int, GatewayError] = {}
    while missing:
        found = {
            place: _refusal(place, names[name])
            for place, names in enumerate(named)
            if place not in bad and (name := next(iter(missing & names.keys()), ""))
        }
        bad |= found
        missing = {name for name, place in own.items() if place in found}
    return bad


def _named(gateway: Gateway, entry: BundleEntry) -> dict[str, str]:
    """What an entry refers to, and the element that does."""
    if entry.resource_raw is None:
        return {}
    resource = parse(entry.resource_raw)
    found: dict[str, str] = {}
    for slot in slots(resource, entry.resource_raw):
        target = local(slot.text, gateway.settings.base_url)
        if target is not None and target.type not in JOURNAL_TYPES:
            found.setdefault(target.key, expression("resource", resource, slot))
    return found


async def _stored(gateway: Gateway, names: Sequence[str]) -> set[str]:
    """Those of the names that are stored and not deleted."""
    found: set[str] = set()
    for start in range(0, len(names), _PIECE):
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            for name in names[start : start + _PIECE]:
                stored = await reader.read(*name.split("/"))
                if stored is not None and not stored.deleted:
                    found.add(name)
    return found


def _refusal(place: int, element: str) -> GatewayError:
    return Unprocessable(
        "The reference names a resource that is not stored here",
        expression=f"{root(place)}.{element}",
        rule="reference-unknown",
    )
