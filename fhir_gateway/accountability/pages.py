"""The journal page by page, for reports that go over a time: oldest first, in constant memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from fhir_gateway.accountability.journal import Place, Recorded, since, start_of
from fhir_gateway.context import Gateway
from fhir_gateway.security.actor import SYSTEM_ACCESS

#: Records of a page: a snapshot outlives no page.
PAGE = 2_000


async def pages_between(
    gateway: Gateway, start: int, end: int, *, needles: Sequence[bytes] = ()
) -> AsyncIterator[list[Recorded]]:
    """AuditEvents recorded at or after `start` and before `end` (µs), page by page.

    `needles` leave only records whose bytes hold all of them: what is told apart by its bytes need
    not be read.
    """
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        place = await start_of(reader, start)
    while True:
        rows = await _page(gateway, place, end)
        if needles:
            yield [row for row in rows if all(needle in row.tail for needle in needles)]
        else:
            yield rows
        if len(rows) < PAGE:
            return
        place = rows[-1].place


async def _page(gateway: Gateway, place: Place, end: int) -> list[Recorded]:
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return await reader.steps(lambda seen: since(seen, place, until=end, limit=PAGE))
