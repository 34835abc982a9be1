"""Receiving FHIR resources from files: Bundles of any type, and resources by themselves.

A file is loaded any number of times and stored once, so every resource needs an id that is the
same each time:

- a PUT, or a POST with If-None-Exist, is done as it says;
- a POST of a transaction or batch gets an id made of institution, type and fullUrl (or, without
  fullUrl, of the content): the server chooses ids for POST, and this is how it chooses;
- any other resource keeps its own id, or gets one made of institution, type and content.

A transaction is stored whole or not at all. Of every other Bundle the good entries are stored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Issue, Structure, Unprocessable
from fhir_gateway.fhir.validate import BundleEntry, read_bundle, read_resource
from fhir_gateway.interactions.audit import ORIGIN, refused
from fhir_gateway.interactions.intake_references import unstored
from fhir_gateway.interactions.letters import Letter, received, settle_parts
from fhir_gateway.interactions.outcome import Outcome, TransactionOutcome
from fhir_gateway.interactions.transaction import transaction
from fhir_gateway.mapping.ids import business_id
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.blobs import pack
from fhir_gateway.store.changes import Received

FHIR_MEDIA = "application/fhir+json"

#: What is kept as received with the entries at these places.
ReceivedOf = Callable[[Sequence[int]], Received]

#: Entries of one commit where the Bundle does not ask for one.
CHUNK = 500

_PLACE = re.compile(r"Bundle\.entry\[(\d+)\]")


class Refused(NamedTuple):
    """What was not stored, and why. `entry` is the place in the Bundle, None for all of it."""

    entry: int | None
    error: GatewayError


class Stored(NamedTuple):
    """What became of a Bundle or of a handful of resources."""

    outcomes: list[Outcome]
    refused: list[Refused]
    unmapped: int = 0


class _Head(msgspec.Struct):
    """The two members that say what a JSON document is; the rest is not read for it."""

    resourceType: str = ""
    id: str = ""


_head = msgspec.json.Decoder(_Head)


def is_bundle(raw: bytes) -> bool:
    """Whether a JSON document says that it is a Bundle."""
    return _read_head(raw).resourceType == "Bundle"


def _read_head(raw: bytes) -> _Head:
    try:
        return _head.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Head()


async def receive_bundle(gateway: Gateway, actor: Actor, raw: bytes) -> Stored:
    """Stores a Bundle. Raises Structure or Unprocessable for one that cannot be read."""
    bundle = read_bundle(raw)
    entries = plan_entries(actor, bundle.entries, ids=bundle.type not in ("transaction", "batch"))
    kept = _kept(raw)
    letter = _letter(actor, raw, bundle.type or "bundle")
    if bundle.type == "transaction":
        with received(letter):
            outcome = await _whole(gateway, actor, entries, kept)
        return Stored(_written(outcome.results), [], outcome.unmapped)
    return await _in_parts(gateway, actor, letter, entries, lambda places: kept)


def _letter(actor: Actor, raw: bytes, kind: str) -> Letter:
    """What the register is told of a file, or of a piece of one."""
    return Letter("fhir", raw, FHIR_MEDIA, kind=f"file {kind}", name=ORIGIN.get().request_id,
                  institution=actor.institution or "")  # fmt: skip


async def _whole(
    gateway: Gateway, actor: Actor, entries: Sequence[BundleEntry | GatewayError], kept: Received
) -> TransactionOutcome:
    """A transaction, all or nothing. Raises the issues of all its entries."""
    try:
        good = _all_good(entries)
    except GatewayError as error:
        await refused(gateway, actor, error, interaction="transaction")
        raise
    return await transaction(gateway, actor, good, received=kept, only_if_changed=True)


async def _in_parts(
    gateway: Gateway,
    actor: Actor,
    letter: Letter,
    entries: Sequence[BundleEntry | GatewayError],
    kept: ReceivedOf,
) -> Stored:
    """Entries that stand by themselves, registered together once they are stored."""
    letter.part = True
    with received(letter):
        stored = await store_entries(gateway, actor, entries, kept)
    errors = [one.error for one in stored.refused]
    await settle_parts(gateway, letter, stored=letter.stored, refused=errors)
    return stored


def _all_good(entries: Sequence[BundleEntry | GatewayError]) -> list[BundleEntry]:
    """The entries of a transaction. Raises the issues of all that are none."""
    issues = [
        Issue(issue.code, issue.diagnostics, f"Bundle.entry[{place}].resource", issue.rule)
        for place, entry in enumerate(entries)
        if isinstance(entry, GatewayError)
        for issue in entry.issues
    ]
    if issues:
        raise Unprocessable(issues=tuple(issues))
    return [entry for entry in entries if isinstance(entry, BundleEntry)]


async def receive_resources(gateway: Gateway, actor: Actor, documents: Sequence[bytes]) -> Stored:
    """Stores resources that came by themselves; `Refused.entry` counts them from 0.

    What is kept as received are those that are stored.
    """
    entries = plan_entries(
        actor, [BundleEntry(None, None, None, document) for document in documents], ids=True
    )

    def kept(places: Sequence[int]) -> Received:
        return _kept(b"\n".join([documents[place] for place in places]))

    letter = _letter(actor, b"\n".join(documents), "resources")
    return await _in_parts(gateway, actor, letter, entries, kept)


async def is_received(gateway: Gateway, documents: Sequence[bytes]) -> bool:
    """Whether these very resources, or this Bundle, were stored before, all of them at once."""
    digest = sha256(b"\n".join(documents)).digest()
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return await reader.received(digest) is not None


def plan_entries(
    actor: Actor, entries: Sequence[BundleEntry], *, ids: bool
) -> list[BundleEntry | GatewayError]:
    """Each entry as a request that does the same when it is made again; or why there is none."""
    return [_plan(actor, entry, ids=ids) for entry in entries]


def _plan(actor: Actor, entry: BundleEntry, *, ids: bool) -> BundleEntry | GatewayError:
    raw = entry.resource_raw
    if entry.method is not None and not (entry.method == "POST" and entry.if_none_exist is None):
        return entry
    if raw is None:
        return Unprocessable("The entry holds no resource", rule="entry-resource")
    head = _read_head(raw)
    if not head.resourceType:
        return Unprocessable("This is no FHIR resource", expression="resourceType", rule="type")
    if ids and head.id:
        id = head.id
    else:
        id = business_id(actor.institution or "", head.resourceType, _name(entry, raw))
        try:
            raw = _with_id(raw, id)
        except GatewayError as error:
            return error
    return entry._replace(method="PUT", url=f"{head.resourceType}/{id}", resource_raw=raw)


def _name(entry: BundleEntry, raw: bytes) -> str:
    return entry.full_url or sha256(raw).hexdigest()


def _with_id(raw: bytes, id: str) -> bytes:
    """The resource with this id, its other members as they were spelled. Raises Structure."""
    try:
        plain = msgspec.json.format(raw, indent=-1)
        members = msgspec.json.decode(plain, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Structure("This is no JSON", rule="json") from None
    if len(msgspec.json.encode(members)) != len(plain):
        raise Structure("A member of the resource stands twice", rule="duplicate-key")
    members["id"] = msgspec.Raw(msgspec.json.encode(id))
    return msgspec.json.encode(members)


async def store_entries(
    gateway: Gateway,
    actor: Actor,
    entries: Sequence[BundleEntry | GatewayError],
    received: ReceivedOf,
) -> Stored:
    """Stores independent entries in commits of CHUNK, leaving out those that are refused."""
    outcomes: list[Outcome] = []
    wrong = [
        Refused(place, entry) for place, entry in enumerate(entries) if isinstance(entry, Exception)
    ]
    unmapped = 0
    good = [(n, entry) for n, entry in enumerate(entries) if isinstance(entry, BundleEntry)]
    for start in range(0, len(good), CHUNK):
        stored = await _store_chunk(gateway, actor, good[start : start + CHUNK], received)
        outcomes += stored.outcomes
        wrong += stored.refused
        unmapped += stored.unmapped
    return Stored(outcomes, wrong, unmapped)


async def _store_chunk(
    gateway: Gateway,
    actor: Actor,
    chunk: list[tuple[int, BundleEntry]],
    received: ReceivedOf,
) -> Stored:
    """One commit; when entries are refused, those are left out and the rest tried again.

    The store names one reference that leads nowhere at a time, so then all are looked for.
    """
    wrong: list[Refused] = []
    while chunk:
        try:
            outcome = await transaction(
                gateway,
                actor,
                [entry for _, entry in chunk],
                received=received([place for place, _ in chunk]),
                only_if_changed=True,
            )
        except GatewayError as error:
            bad = dict(_blamed(error, len(chunk)))
            if any(issue.rule == "reference-unknown" for issue in error.issues):
                bad |= await unstored(gateway, [entry for _, entry in chunk])
            if error.status >= 500 or not bad:
                return Stored([], [*wrong, Refused(None, error)])
            wrong += [Refused(chunk[index][0], found) for index, found in bad.items()]
            chunk = [pair for index, pair in enumerate(chunk) if index not in bad]
        else:
            return Stored(_written(outcome.results), wrong, outcome.unmapped)
    return Stored([], wrong)


def _blamed(error: GatewayError, size: int) -> Iterator[tuple[int, GatewayError]]:
    """The entries that a refused transaction names, each with its own issues."""
    by_entry: dict[int, list[Issue]] = {}
    for issue in error.issues:
        found = _PLACE.match(issue.expression or "")
        if found and int(found[1]) < size:
            by_entry.setdefault(int(found[1]), []).append(issue)
    if not by_entry and size == 1:
        yield 0, error
    for place, issues in by_entry.items():
        yield place, type(error)(issues=tuple(issues))


def check_entries(actor: Actor, raw: bytes) -> tuple[list[dict[str, Any]], list[Refused]]:
    """What `receive_bundle` would validate, without storing: (resources, refusals)."""
    if is_bundle(raw):
        bundle = read_bundle(raw)
        given, ids = bundle.entries, bundle.type not in ("transaction", "batch")
    else:
        given, ids = [BundleEntry(None, None, None, raw)], True
    resources: list[dict[str, Any]] = []
    wrong: list[Refused] = []
    for place, entry in enumerate(plan_entries(actor, given, ids=ids)):
        if isinstance(entry, GatewayError):
            wrong.append(Refused(place, entry))
        elif entry.resource_raw is not None:
            try:
                resources.append(read_resource(entry.resource_raw))
            except GatewayError as error:
                wrong.append(Refused(place, error))
    return resources, wrong


def _kept(raw: bytes) -> Received:
    enc, body = pack(raw)
    return Received(sha256(raw).digest(), FHIR_MEDIA, enc, body)


def _written(results: Sequence[Outcome | bytes]) -> list[Outcome]:
    return [result for result in results if isinstance(result, Outcome)]
