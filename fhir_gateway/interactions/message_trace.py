"""A message from its received bytes to what stands in the store, and back. docs/trace.md

`trace` follows a message of the register: bytes, tree, Bundle as it is mapped now, what its commit
stored. `origin` goes the other way: from a version to the message it was made from, and with
`explained` to the fields. All is the sender's own: nobody else gets any of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden, GatewayError, NotFound
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.interactions.audit import owner_of
from fhir_gateway.interactions.conversion import (
    Conversion,
    cda_conversion,
    converted,
    finisher,
    table_conversions,
    v2_conversion,
)
from fhir_gateway.interactions.institutions import institution, institutions, institutions_at
from fhir_gateway.interactions.intake_merge import assigned_by_others
from fhir_gateway.interactions.local_codes import follow
from fhir_gateway.mapping.origins import Explained, explaining
from fhir_gateway.mapping.tabular_map import TableMap, read_map
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.security.institution import Institution
from fhir_gateway.store.messages import Message, message, received_bytes
from fhir_gateway.store.origin_sql import Wrote, made_steps, message_steps, written_steps
from fhir_gateway.store.store import Reader, Stored


class Written(NamedTuple):
    """A version that the message's commit stored."""

    type: str
    id: str
    version: int
    op: str

    @property
    def reference(self) -> str:
        """`Observation/x/_history/2`."""
        return f"{self.type}/{self.id}/_history/{self.version}"


class Trace(NamedTuple):
    """All that is known of a message. `raw` is None where its bytes are not kept (any more);
    `conversions` are what it is read as now, each with its resources; `refusal` why it is not
    read. `patients` are the Patients of the store that it names, `answer` is
    what was answered."""

    message: Message
    media: str
    raw: bytes | None
    conversions: list[tuple[Conversion, list[dict[str, Any]]]]
    refusal: GatewayError | None
    written: list[Written]
    patients: list[str]
    answer: bytes

    @property
    def issues(self) -> list[dict[str, Any]]:
        """What was told of it when it came."""
        found: list[dict[str, Any]] = (
            msgspec.json.decode(self.message.issues) if self.message.issues else []
        )
        return found


class Found(NamedTuple):
    """Where a version came from: the hash of the bytes, and the message; None where it is not of a
    message of the register."""

    stored: Stored
    hash: bytes
    trace: Trace | None


@cache
def _type_names() -> dict[int, str]:
    return {type_key(name): name for name in definitions().resource_types}


async def trace(gateway: Gateway, own: str, id: str) -> Trace:
    """A message of this institution. Raises NotFound for anybody else's, and for none."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        found = await message(reader, own, id)
    if found is None:
        raise NotFound("This institution has sent no such message", rule="unknown-message")
    return await _traced(gateway, found)


async def _traced(gateway: Gateway, found: Message) -> Trace:
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        kept = await received_bytes(reader, found.hash)
        rows: list[Wrote] = []
        if found.outcome != "refused":
            rows = await reader.steps(lambda _: written_steps(found.t, found.n))
        answer = found.ack or await _given(reader, found)
    media, raw = kept if kept is not None else ("", None)
    names = _type_names()
    written = [
        Written(names[row.type], row.id, row.version, row.op)
        for row in rows
        if row.source == found.hash
    ]
    conversions, refusal = await _read_again(gateway, found, raw)
    patients = await _patients(gateway, written, [one for _, one in conversions])
    return Trace(found, media, raw, conversions, refusal, written, patients, answer)


async def _given(reader: Reader, found: Message) -> bytes:
    """The answer that is kept for repeats, behind the digest of the message; b"" for none."""
    kept = await reader.once("v2", found.key) if found.door == "hl7v2" else None
    own = kept is not None and kept[: len(found.hash)] == found.hash
    return kept[len(found.hash) :] if kept is not None and own else b""


async def _patients(
    gateway: Gateway, written: Sequence[Written], read: Sequence[list[dict[str, Any]]]
) -> list[str]:
    """The Patients of the store that a message names, each once."""
    named = [one.id for one in written if one.type == "Patient"]
    mapped = [one["id"] for found in read for one in found if one["resourceType"] == "Patient"]
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        named += [id for id in mapped if await reader.read("Patient", id) is not None]
    return list(dict.fromkeys(named))


async def _read_again(
    gateway: Gateway, found: Message, raw: bytes | None
) -> tuple[list[tuple[Conversion, list[dict[str, Any]]]], GatewayError | None]:
    """What the kept bytes are read as by the tables of today, or why they are not."""
    own = await institution(gateway, found.institution)
    if raw is None or own is None:
        return [], None
    await follow(gateway, own.id)
    try:
        others = assigned_by_others(own, await institutions(gateway))
        conversions = await asyncio.to_thread(
            read_again, found, raw, own, others, mappings=gateway.settings.mappings
        )
        done = [(one, _converted(gateway, one, own)) for one in conversions]
    except GatewayError as error:
        return [], error
    return done, None


def _converted(gateway: Gateway, one: Conversion, own: Institution) -> list[dict[str, Any]]:
    return converted(one, finisher(one.door, own.id, gateway.coders))


def read_again(
    found: Message, raw: bytes, own: Institution, others: frozenset[str], *, mappings: str
) -> list[Conversion]:
    """Kept bytes as messages; none for doors whose bytes are FHIR or an image.

    Raises GatewayError where they are refused.
    """
    if found.door == "hl7v2":
        return [v2_conversion(raw, own, mappings=mappings, others=others)]
    if found.door == "cda":
        return [cda_conversion(raw, own, mappings=mappings, others=others)]
    if found.door == "table":
        name = found.name.partition(":")[0]
        table = read_map(Path(mappings, "tabular", f"{name}.toml"), mappings=mappings)
        return [*_rows(raw, table, own, mappings)]
    return []


def _rows(raw: bytes, table: TableMap, own: Institution, mappings: str) -> Iterator[Conversion]:
    """The rows of one report, by the map that they came by. Raises GatewayError."""
    whole = raw if raw.endswith(b"\n") else raw + b"\n"
    for one in table_conversions(whole, table, own, mappings=mappings):
        if not isinstance(one, Conversion):
            raise one
        yield one


async def explained(gateway: Gateway, one: Conversion, own: str) -> Explained:
    """The origins of all values of a conversion, with a turn for other requests after each field:
    a thread would hold them up. Raises GatewayError as the mapping does."""
    steps = explaining(one.source, finish=finisher(one.door, own, gateway.coders))
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: Explained = end.value
            return found
        await asyncio.sleep(0)


# -- from a version back to its message -----------------------------------------------------------


async def origin(gateway: Gateway, stored: Stored, own: str) -> Found:
    """The message that a version was made from. Raises Forbidden for what another institution
    owns: whose message it was is told to nobody else."""
    if stored.owner != owner_of(own):
        raise Forbidden(
            "Where a resource came from is told to the institution that sent it",
            expression=stored.type,
            rule="owner",
        )
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        made = await reader.steps(
            lambda _: made_steps(stored.home, type_key(stored.type), stored.rid, stored.version)
        )
        if made is None or not made.source:
            return Found(stored, b"", None)
        found = await reader.steps(lambda _: message_steps(own, made, stored.updated))
    followed = await _traced(gateway, found) if found is not None else None
    return Found(stored, made.source, followed)


async def sender_of(gateway: Gateway, owner: int) -> str:
    """The institution that owns rows by this key; "" for nobody of the registry."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        known = await institutions_at(gateway, reader)
    return next((id for id in known if owner_of(id) == owner), "")
