"""What is remembered of the loads of a table: pieces that are done, and the loads themselves.

Both are rows of `once`, which is written once and never changed: a piece by the file, the map and
its number, a load by institution, map and its number. So a load that was killed goes on where it
was, with the figures and the refusals of the pieces before; and the watermark is that of the last
load.
"""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from typing import NamedTuple

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.mapping.tabular_map import TableMap
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.changes import ChangeSet, Once

_PIECE, _LOAD = "table-piece", "table-load"

#: The number that no piece has: the mark that all are done.
_END = 2**62


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """Why a row, or the group that it belongs to, is not stored; or a doubt about what is."""

    place: str  # "line 7, column 结果"
    rule: str
    reason: str


class Figures(msgspec.Struct):
    """What was read and what became of it; figures of pieces add up."""

    rows: int = 0
    groups: int = 0
    stored: int = 0
    unchanged: int = 0
    refused: int = 0
    resources: dict[str, int] = {}  # "Observation created" -> how many
    unmapped: dict[str, int] = {}  # code and name, by "\t" -> how many
    refusals: list[Refusal] = []
    warnings: list[Refusal] = []
    held: str = ""  # the lowest watermark of what was refused, "" where nothing was

    def add(self, other: Figures) -> None:
        """Adds up."""
        self.rows += other.rows
        self.groups += other.groups
        self.stored += other.stored
        self.unchanged += other.unchanged
        self.refused += other.refused
        self.resources = dict(Counter(self.resources) + Counter(other.resources))
        self.unmapped = dict(Counter(self.unmapped) + Counter(other.unmapped))
        self.refusals = self.refusals + other.refusals
        self.warnings = self.warnings + other.warnings
        self.held = min(filter(None, (self.held, other.held)), default="")


class Load(msgspec.Struct, frozen=True):
    """A load that is finished. `watermark` is where the next one begins, "" for the beginning."""

    number: int
    at: int  # µs since 1970
    file: str  # its name, without folder
    digest: str  # SHA-256 of the file, hex
    table: str  # digest of the map
    rows: int
    groups: int
    stored: int
    unchanged: int
    refused: int
    watermark: str


class Series(NamedTuple):
    """One reading of one file by one map: what its pieces are known by."""

    institution: str
    name: str
    key: bytes

    def piece(self, number: int) -> bytes:
        """The key of a piece."""
        return sha256(self.key + number.to_bytes(8, "big")).digest()


def series_of(table: TableMap, file: bytes, *, since: str, again: int | None) -> Series:
    """The series of a file (its SHA-256) from a watermark on. `again` is the number of loads
    before, where what was taken in already is read anew."""
    said = (table.institution, table.name, table.digest, file.hex(), since, str(again))
    return Series(table.institution, table.name, sha256("\x1f".join(said).encode()).digest())


async def done(gateway: Gateway, series: Series) -> list[Figures]:
    """The figures of the pieces that are done, from the first on."""
    found: list[Figures] = []
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        while stored := await reader.once(_PIECE, series.piece(len(found))):
            found.append(msgspec.json.decode(stored, type=Figures))
    return found


async def remember(gateway: Gateway, series: Series, number: int, figures: Figures) -> None:
    """Says that a piece is done; durable when this returns."""
    await _commit(gateway, series.institution, _PIECE, series.piece(number),
                  msgspec.json.encode(figures))  # fmt: skip


async def is_finished(gateway: Gateway, series: Series) -> bool:
    """Whether a load of this series came to its end."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return await reader.once(_PIECE, series.piece(_END)) is not None


async def _commit(
    gateway: Gateway, institution: str, kind: str, key: bytes, content: bytes
) -> bool:
    """Whether this commit, and none before, wrote the row."""
    once = Once(kind, key, content)
    change_set = ChangeSet(id=gateway.random(16), once=once, institution=institution)
    return not (await gateway.store.commit(change_set)).repeated


def _load_key(institution: str, name: str, number: int) -> bytes:
    return sha256("\x1f".join((institution, name, str(number))).encode()).digest()


async def last_load(gateway: Gateway, institution: str, name: str) -> Load | None:
    """The last finished load by a map; None before the first. Loads have numbers without gaps."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:

        async def load(number: int) -> Load | None:
            stored = await reader.once(_LOAD, _load_key(institution, name, number))
            return msgspec.json.decode(stored, type=Load) if stored else None

        found = await load(1)
        if found is None:
            return None
        low, high = 1, 2
        while (one := await load(high)) is not None:
            found, low, high = one, high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            one = await load(middle)
            found, low, high = (one, middle, high) if one else (found, low, middle)
        return found


async def loads(gateway: Gateway, institution: str, name: str, most: int) -> list[Load]:
    """The newest loads by a map, the last one first."""
    last = await last_load(gateway, institution, name)
    found: list[Load] = []
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        for number in range(last.number if last else 0, 0, -1):
            stored = await reader.once(_LOAD, _load_key(institution, name, number))
            if stored is None or len(found) == most:
                break
            found.append(msgspec.json.decode(stored, type=Load))
    return found


async def finish(gateway: Gateway, series: Series, load: Load) -> Load:
    """Appends a load to those of its map; the load with its number."""
    while True:
        content = msgspec.json.encode(load)
        key = _load_key(series.institution, series.name, load.number)
        if await _commit(gateway, series.institution, _LOAD, key, content):
            await _commit(gateway, series.institution, _PIECE, series.piece(_END), b"")
            return load
        load = msgspec.structs.replace(load, number=load.number + 1)
