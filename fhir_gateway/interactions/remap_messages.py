"""What changed tables would change of the messages that an institution has sent. Nothing is stored.

Each kept message is mapped twice: by the tables of today, and by those of another folder. What
differs is counted by element and value, so that a row of a table shows as one line. docs/trace.md
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError
from fhir_gateway.interactions.institutions import institutions
from fhir_gateway.interactions.intake_merge import assigned_by_others
from fhir_gateway.interactions.message_trace import read_again
from fhir_gateway.mapping.origins_diff import differing, leaves, shown
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.security.institution import Institution
from fhir_gateway.store.messages import Asked, Message, Place, messages, received_bytes

_PAGE = 100

#: Doors whose bytes are read by tables.
DOORS = ("hl7v2", "table", "cda")


@dataclass(slots=True)
class Foreseen:
    """What would change: messages looked at, those that would become something else, and how
    often which value; `examples` are ids of messages for each line. `gone` have no bytes."""

    messages: int = 0
    changed: int = 0
    gone: int = 0
    lines: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def note(self, lines: set[str], id: str) -> None:
        """Counts a message by what would change of it."""
        self.changed += bool(lines)
        for line in lines:
            self.lines[line] += 1
            self.examples.setdefault(line, id)


async def foresee_remap(
    gateway: Gateway, own: Institution, mappings: str, asked: Asked,
    progress: Callable[[int], None] = lambda done: None,
) -> Foreseen:  # fmt: skip
    """What would become of the messages of an institution by the tables of another folder."""
    found = Foreseen()
    others = assigned_by_others(own, await institutions(gateway))
    async for one in _all(gateway, own.id, asked):
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            kept = await received_bytes(reader, one.hash)
        if kept is None:
            found.gone += 1
            continue
        raw = kept[1]
        before = await asyncio.to_thread(_read, one, raw, own, others, gateway.settings.mappings)
        after = await asyncio.to_thread(_read, one, raw, own, others, mappings)
        found.messages += 1
        found.note(_lines(before, after), one.id)
        progress(found.messages)
    return found


async def _all(gateway: Gateway, own: str, asked: Asked) -> AsyncIterator[Message]:
    after: Place | None = None
    while True:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            page = await messages(reader, own, asked, after=after, limit=_PAGE)
        for one in page:
            if one.door in DOORS:
                yield one
        if len(page) < _PAGE:
            return
        after = page[-1].place


def _read(
    one: Message, raw: bytes, own: Institution, others: frozenset[str], mappings: str
) -> list[dict[str, Any]] | GatewayError:
    """The resources by the tables of a folder, or why the message is refused."""
    try:
        conversions = read_again(one, raw, own, others, mappings=mappings)
        return [resource for each in conversions for resource in each.source.map(None, "")]
    except GatewayError as error:
        return error


def _lines(
    before: list[dict[str, Any]] | GatewayError, after: list[dict[str, Any]] | GatewayError
) -> set[str]:
    """What differs, each as `element: value -> value`."""
    if isinstance(before, GatewayError) or isinstance(after, GatewayError):
        was, is_now = _said(before), _said(after)
        return set() if was == is_now else {f"{was} -> {is_now}"}
    lines = {
        f"{_element(before, n, path)}: {_value(before[n], path)} -> {_short(value)}"
        for (n, path), value in differing(before, after).items()
    }
    for (n, path), value in differing(after, before).items():
        if value is None:
            lines.add(f"{_element(after, n, path)}: nothing -> {_value(after[n], path)}")
    return lines


def _said(read: list[dict[str, Any]] | GatewayError) -> str:
    return f"refused ({read.issues[0].rule})" if isinstance(read, GatewayError) else "accepted"


def _element(resources: list[dict[str, Any]], n: int, path: str) -> str:
    return f"{resources[n]['resourceType']}.{path}"


def _value(resource: dict[str, Any], path: str) -> str:
    return _short(next(shown(value) for name, value in leaves(resource) if name == path))


#: A free text is no value that a table gives.
_MOST = 60


def _short(value: str | None) -> str:
    if value is None:
        return "nothing"
    return value if len(value) <= _MOST else f"{value[: _MOST - 1]}…"
