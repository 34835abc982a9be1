"""Looking again at what was written earlier, at the moment when it is handed out.

An export may be fetched hours after it was made, and a request that is answered later, too: by then
a consent may be withdrawn, or a treatment relation have ended. For callers who see others' rows
through a sight every line is looked up again before it goes out; what they may not see any more
is left out. Faults 56 and 62; docs/consent.md
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden
from fhir_gateway.fhir.home import PERSONAL_TYPES
from fhir_gateway.fhir.wire import parse
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.store import Reader

#: Lines that are looked up in one snapshot.
_AT_ONCE = 200
_NAMED = re.compile(r"([A-Za-z]{1,64})/([A-Za-z0-9\-.]{1,64})(?:/_history/|$)")
_HEAD = re.compile(rb'\{"resourceType":"([A-Za-z]{1,64})","id":"([A-Za-z0-9\-.]{1,64})"')


def is_looked_at_again(actor: Actor) -> bool:
    """Whether what a caller may see can change from one moment to the next."""
    return actor.access.sight is not None


async def permitted_lines(
    gateway: Gateway, actor: Actor, pieces: Iterator[bytes]
) -> AsyncIterator[bytes]:
    """Those lines of an NDJSON file that the caller may see now, as they stand in it."""
    rest, lines = b"", list[bytes]()
    while True:
        piece = await asyncio.to_thread(next, pieces, None)
        *whole, rest = (rest + (piece or b"")).split(b"\n")
        lines += whole
        while len(lines) >= _AT_ONCE or (piece is None and lines):
            now, lines = lines[:_AT_ONCE], lines[_AT_ONCE:]
            if seen := await _seen(gateway, actor, now):
                yield b"\n".join(seen) + b"\n"
        if piece is None:
            return


async def _seen(gateway: Gateway, actor: Actor, lines: Sequence[bytes]) -> list[bytes]:
    async with gateway.store.snapshot(actor.access) as reader:
        return [line for line in lines if await _is_seen(reader, line)]


async def _is_seen(reader: Reader, line: bytes) -> bool:
    """A Bundle of what was deleted names ids alone; it has no line of its own in the store."""
    match = _HEAD.match(line)
    if match is None:
        return line.startswith(b'{"resourceType":"Bundle"')
    return await reader.read(match[1].decode(), match[2].decode()) is not None


async def check_answer(gateway: Gateway, actor: Actor, pieces: Iterator[bytes]) -> None:
    """Raises Forbidden when an answer that was kept holds what the caller may not see any more."""
    body = await asyncio.to_thread(b"".join, pieces)
    async with gateway.store.snapshot(actor.access) as reader:
        for type, id in _resources(parse(body)):
            if await reader.read(type, id) is None:
                raise Forbidden(
                    "A consent or a treatment relation has ended since this was answered: ask "
                    "again for what you may see now",
                    rule="consent",
                )


def _resources(resource: object) -> Iterator[tuple[str, str]]:
    """The resources that an answer hands out, or tells of: Bundles within Bundles are opened, and
    of the answer of an operation all that it refers to in a person's record."""
    if not isinstance(resource, dict):
        return
    if resource.get("resourceType") == "Parameters":
        yield from _told(resource.get("parameter", ()))
    elif resource.get("resourceType") == "Bundle":
        for entry in resource.get("entry", ()):
            yield from _resources(entry.get("resource"))
    elif resource.get("id") and resource.get("meta", {}).get("versionId"):
        yield str(resource["resourceType"]), str(resource["id"])


def _told(parameters: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for one in parameters:
        yield from _resources(one.get("resource"))
        yield from _told(one.get("part", ()))
        matched = _NAMED.match(str(one.get("valueReference", {}).get("reference", "")))
        if matched is not None and matched[1] in PERSONAL_TYPES:
            yield matched[1], matched[2]
