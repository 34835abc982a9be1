"""Receiving a CDA document: from its bytes to what its sender is told. docs/cda.md

Stored whole or not at all, in one commit with its bytes, its AuditEvent and its answer. The same
document (id and version of one institution) sent again gets the same answer and stores nothing. A
version that comes after a newer one changes nothing; one that replaces another corrects the report
as a correction by v2 does, and what it leaves out is withdrawn.
"""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import (
    Conflict,
    Duplicate,
    Forbidden,
    GatewayError,
    Internal,
    Issue,
    PreconditionFailed,
)
from fhir_gateway.interactions.audit import refused
from fhir_gateway.interactions.conditional import condition
from fhir_gateway.interactions.institutions import institutions
from fhir_gateway.interactions.intake import ATTEMPTS, entries_of
from fhir_gateway.interactions.intake_cda_versions import (
    Answers,
    Place,
    Successors,
    place_of,
    plan_document,
    plan_late,
)
from fhir_gateway.interactions.intake_merge import assigned_by_others
from fhir_gateway.interactions.letters import Letter, received, repeated, under_way
from fhir_gateway.interactions.outcome import TransactionOutcome
from fhir_gateway.interactions.permits import permit_door
from fhir_gateway.interactions.reconcile import Planned, reconcile
from fhir_gateway.interactions.transaction import transaction
from fhir_gateway.mapping.cda import Read, Taken, custodian_of, map_cda, read_cda
from fhir_gateway.mapping.cda_header import Id
from fhir_gateway.mapping.cda_parse import parse_document
from fhir_gateway.mapping.v2_time import micros_of
from fhir_gateway.security.actor import Actor
from fhir_gateway.security.institution import Institution
from fhir_gateway.store.blobs import pack
from fhir_gateway.store.changes import Once, Received
from fhir_gateway.store.store import Reader

LOG = logging.getLogger("fhir_gateway.intake")

DOOR = "cda"
CDA_MEDIA = "application/cda+xml"
ONCE_KIND = "cda"
_DIGEST = 32

#: What separates values of a search parameter, as it stands in a value.
_LITERAL = str.maketrans({one: f"\\{one}" for one in "\\|,$"})

#: Bytes from which a document is read in a thread, so that other requests are answered meanwhile.
_LARGE = 100_000


class Answered(NamedTuple):
    """What the sender is told: "DocumentReference/id", whether it is new, the reports, warnings."""

    document: str
    stored: bool
    reports: tuple[str, ...]
    issues: tuple[Issue, ...]
    name: str
    repeated: bool = False
    outcome: TransactionOutcome | None = None


async def receive_cda(gateway: Gateway, actor: Actor, raw: bytes) -> Answered:
    """Takes in one document. Raises what is wrong with it, on record, or Internal."""
    letter = Letter(DOOR, raw, CDA_MEDIA, kind="CDA", institution=actor.institution or "",
                    code="stored")  # fmt: skip
    with received(letter):
        try:
            return await _receive(gateway, actor, raw)
        except GatewayError as error:
            if not getattr(error, "audited", False):
                await refused(gateway, actor, error, interaction="transaction")
                vars(error)["audited"] = True
            raise
        except Exception as error:  # a fault of ours: the sender keeps the document
            _log_fault(error)
            raise Internal("The gateway failed; the document was not stored",
                           rule="internal") from None  # fmt: skip


async def refuse_cda(gateway: Gateway, actor: Actor, raw: bytes, error: GatewayError) -> None:
    """Puts on record what a door refuses before there is a document."""
    letter = Letter(DOOR, raw, CDA_MEDIA, kind="CDA", institution=actor.institution or "")
    with received(letter):
        await refused(gateway, actor, error, interaction="transaction")


def _log_fault(error: Exception) -> None:
    """Class and places in the code; the text of an exception may quote the document."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]]
    LOG.error(json.dumps({"event": "fault", "error": type(error).__name__, "at": places}))


async def _receive(gateway: Gateway, actor: Actor, raw: bytes) -> Answered:
    await permit_door(gateway, actor, DOOR)
    read = await _on_the_side(_read, gateway, raw)
    sender = await _sender(gateway, actor, read)
    if actor.institution != sender.id:
        actor = Actor("institution", sender.name, institution=sender.id, access=actor.access)
    key, digest = once_key(sender, read), sha256(raw).digest()
    _attribute(sender, read, key)
    async with gateway.store.snapshot(actor.access) as reader:
        earlier = await reader.once(ONCE_KIND, key)
    if earlier is not None:
        return await _repeat(gateway, earlier, digest)
    others = assigned_by_others(sender, await institutions(gateway))
    taken = await _on_the_side(_map, gateway, raw, read, sender, others)
    return await _store(gateway, actor, taken, sender, Once(ONCE_KIND, key, digest))


def _read(gateway: Gateway, raw: bytes) -> Read:
    return read_cda(parse_document(raw), mappings=gateway.settings.mappings)


def _map(
    gateway: Gateway, _: bytes, read: Read, sender: Institution, others: frozenset[str]
) -> Taken:
    return map_cda(read, sender, mappings=gateway.settings.mappings, others=others)


async def _on_the_side(work: Any, gateway: Gateway, raw: bytes, *rest: Any) -> Any:
    """Does what takes long for a long document in a thread."""
    if len(raw) > _LARGE:
        return await asyncio.to_thread(work, gateway, raw, *rest)
    return work(gateway, raw, *rest)


async def _sender(gateway: Gateway, actor: Actor, read: Read) -> Institution:
    """The credential's institution, else (open access) the custodian.

    Raises Forbidden where the custodian is another registered institution than the credential's.
    """
    registered = await institutions(gateway)
    found = named = custodian_of(read.header, registered)
    place = "ClinicalDocument/custodian"
    if actor.institution is not None:
        found = registered.get(actor.institution)
        if found is not None and named not in (None, found):
            raise Forbidden(
                "The custodian is another institution than the credential's: each sends its own "
                "documents",
                expression=place,
                rule="sender",
            )
    if found is None:
        raise Forbidden(
            "No registered institution sends this document", expression=place, rule="sender"
        )
    return found


def once_key(sender: Institution, read: Read) -> bytes:
    """What makes a document the same one: institution, id, version."""
    id = read.header.id
    return key_of(sender, id.root, id.extension, read.header.version)


def key_of(sender: Institution, root: str, extension: str, version: int) -> bytes:
    """The once key of a document of an institution."""
    parts = (ONCE_KIND, sender.id, root, extension, str(version))
    return sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).digest()


def _attribute(sender: Institution, read: Read, key: bytes) -> None:
    """Tells the register whose document is under way, and by what it is known."""
    if (letter := under_way()) is not None:
        header = read.header
        letter.institution, letter.key = sender.id, key
        letter.name = header.id.extension or header.id.root
        letter.kind = f"CDA {header.template.code}".strip()
        letter.stated = micros_of(header.time, sender.zone)


async def _repeat(gateway: Gateway, stored: bytes, digest: bytes) -> Answered:
    """The answer given before. Raises Duplicate when the content was another."""
    if stored[:_DIGEST] != digest:
        raise Duplicate(
            "This document id and version were used before for another content; a correction has "
            "a version or an id of its own",
            expression="ClinicalDocument/id",
            rule="cda-document-id",
        )
    if (letter := under_way()) is not None:
        await repeated(gateway, letter)
    return read_answer(stored[_DIGEST:])._replace(repeated=True)


async def _store(
    gateway: Gateway, actor: Actor, taken: Taken, sender: Institution, once: Once
) -> Answered:
    """Plans and commits, again where others change the same meanwhile."""
    raw = taken.read.document.raw
    enc, body = pack(raw)
    kept = Received(once.response, CDA_MEDIA, enc, body)
    for _ in range(ATTEMPTS):
        async with gateway.store.snapshot(actor.access) as reader:
            answered = _answers(reader, sender)
            successor = _successors(gateway, reader, sender)
            place = await place_of(reader, taken.read.header, sender, answered, successor)
            plan = await _planned(gateway, reader, taken, sender, place)
            if place.older:
                late = await plan_late(reader, taken.read.header, place, answered)
                plan = plan._replace(resources=late)
        answer = _answered(taken, place, plan.warnings)
        if (letter := under_way()) is not None:
            letter.warnings = answer.issues
        try:
            outcome = await transaction(
                gateway,
                actor,
                entries_of(plan, DOOR),
                received=kept,
                once=Once(once.kind, once.key, once.response + written(answer)),
                only_if_changed=True,
            )
        except PreconditionFailed:
            continue
        if outcome.committed is not None and outcome.committed.repeated:
            return await _repeat(gateway, outcome.committed.response, once.response)
        return answer._replace(outcome=outcome)
    raise Conflict("Other documents change the same report; send it again", rule="overtaken")


def _answers(reader: Reader, sender: Institution) -> Answers:
    """The answers that this sender was given: a document that is replaced and names no set is
    looked for by them."""

    async def answered(root: str, extension: str, version: int) -> str:
        stored = await reader.once(ONCE_KIND, key_of(sender, root, extension, version))
        found = read_answer(stored[_DIGEST:]).document if stored is not None else ""
        return found.partition("/")[2]

    return answered


def _successors(gateway: Gateway, reader: Reader, sender: Institution) -> Successors:
    """Which document of this sender says that it replaces one, for one that names no set and comes
    when that which came in between told of it."""

    async def successor(id: Id) -> str:
        named = "|".join(text.translate(_LITERAL) for text in (id.system, id.value))
        asked = [("relatesto:identifier", named), ("status", "current"),
                 ("custodian", f"Organization/{sender.id}")]  # fmt: skip
        page = await reader.search(condition(gateway, "DocumentReference", asked).plan)
        return page.matches[0].id if page.matches else ""

    return successor


async def _planned(
    gateway: Gateway, reader: Reader, taken: Taken, sender: Institution, place: Place
) -> Planned:
    """What the document changes: nothing where a newer version is stored."""
    if place.older:
        return Planned([], [*taken.mapped.warnings, _older()])
    folder = f"{gateway.settings.mappings}/v2"
    naming = gateway.extractor.naming
    plan = await reconcile(reader, taken.mapped, sender, folder=folder, naming=naming)
    own = await plan_document(reader, taken, sender, place, now=gateway.clock.now())
    return Planned([*plan.resources, *own], plan.warnings)


def _older() -> Issue:
    return Issue(
        "informational",
        "A newer version of this document is stored; it stands, and nothing was changed",
        "ClinicalDocument/versionNumber",
        "cda-older-version",
        "warning",
    )


# -- the answer ------------------------------------------------------------------------------------


def _answered(taken: Taken, place: Place, warnings: Sequence[Issue]) -> Answered:
    reports = () if place.older else tuple(one["reference"] for one in taken.told.reports)
    id = taken.read.header.id
    return Answered(
        f"DocumentReference/{place.head}",
        not place.older,
        reports,
        tuple(warnings),
        id.extension or id.root,
    )


def written(answer: Answered) -> bytes:
    """An answer as it is kept for repeats."""
    return msgspec.json.encode({
        "document": answer.document, "stored": answer.stored, "reports": answer.reports,
        "name": answer.name,
        "issues": [[one.code, one.diagnostics, one.expression, one.rule, one.severity]
                   for one in answer.issues],
    })  # fmt: skip


def read_answer(kept: bytes) -> Answered:
    """An answer that was kept."""
    said = msgspec.json.decode(kept)
    issues = tuple(Issue(*one) for one in said["issues"])
    return Answered(said["document"], said["stored"], tuple(said["reports"]), issues, said["name"])
