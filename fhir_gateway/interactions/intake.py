"""Receiving an HL7 v2 message: from its bytes to its acknowledgement. Architecture section 4.1.

The message is stored whole or not at all, in one commit with its bytes, its AuditEvent and its
acknowledgement; the AA is handed out when that commit is durable. The same message (MSH-3, MSH-10
of one institution) sent again gets the same bytes back and stores nothing. docs/adr/0010.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from fhir_gateway.context import Gateway, new_id
from fhir_gateway.errors import (
    Conflict,
    Duplicate,
    Forbidden,
    GatewayError,
    Internal,
    Issue,
    PreconditionFailed,
)
from fhir_gateway.fhir.validate import BundleEntry
from fhir_gateway.fhir.wire import render
from fhir_gateway.interactions.audit import refused
from fhir_gateway.interactions.institutions import at_facility, institutions, institutions_at
from fhir_gateway.interactions.intake_merge import (
    Sender,
    assigned_by_others,
    plan_statement,
)
from fhir_gateway.interactions.letters import Letter, received, repeated, under_way
from fhir_gateway.interactions.outcome import TransactionOutcome
from fhir_gateway.interactions.pace import breath
from fhir_gateway.interactions.permits import permit_door
from fhir_gateway.interactions.reconcile import Planned, reconcile
from fhir_gateway.interactions.transaction import transaction
from fhir_gateway.mapping.doors import through
from fhir_gateway.mapping.v2 import Message, parse
from fhir_gateway.mapping.v2_ack import Header, acknowledge, read_header, refuse
from fhir_gateway.mapping.v2_adt import Statement
from fhir_gateway.mapping.v2_messages import REQUESTS, is_taken, map_message
from fhir_gateway.mapping.v2_oru import Mapped
from fhir_gateway.mapping.v2_time import micros_of
from fhir_gateway.security.actor import Actor
from fhir_gateway.security.institution import Institution
from fhir_gateway.store.blobs import pack
from fhir_gateway.store.changes import Once, Received
from fhir_gateway.store.store import Reader

LOG = logging.getLogger("fhir_gateway.intake")

V2_MEDIA = "x-application/hl7-v2+er7"

#: How often a message whose patient or report is changed meanwhile is planned anew.
ATTEMPTS = 6

#: Under which the answer to a message is kept, behind the digest of its bytes.
ONCE_KIND = "v2"
_DIGEST = 32


class Acknowledged(NamedTuple):
    """The answer to a message. `error` is None when it is stored, now or before."""

    body: bytes
    error: GatewayError | None
    repeated: bool = False
    outcome: TransactionOutcome | None = None
    warnings: tuple[Issue, ...] = ()

    @property
    def status(self) -> int:
        """The HTTP status that says the same."""
        return self.error.status if self.error else 200

    @property
    def code(self) -> str:
        """The code of table 0008 in original mode."""
        return self.error.acknowledgement if self.error else "AA"


class Sent(NamedTuple):
    """A message that asks for something to be done, for who does it (Gateway.requests): whose it
    is, what was read of it, and the key by which it is known."""

    sender: Institution
    message: Message
    header: Header
    raw: bytes
    key: bytes

    @property
    def digest(self) -> bytes:
        """What tells another message under the same control id."""
        return sha256(self.raw).digest()


async def receive_v2(
    gateway: Gateway, actor: Actor, raw: bytes, *, charset: str = "", who: str = ""
) -> Acknowledged:
    """Takes in one message. Never raises: what is wrong stands in the acknowledgement.

    `charset` is what the transport says of the bytes; MSH-18 comes first. `who` names the person
    who has a message that was refused tried again.
    """
    header = read_header(raw)
    with received(_letter(gateway, actor, header, raw)) as letter:
        letter.who = who
        try:
            return await _audited(gateway, actor, header, raw, charset)
        except GatewayError as error:
            refusal = error
        except Exception as error:  # a fault of ours: the sender gets an AE and keeps the message
            _log_fault(error)
            refusal = Internal("The gateway failed; the message was not stored", rule="internal")
        if letter.told and letter.ack:
            return Acknowledged(letter.ack, refusal)
    return _refused(gateway, header, refusal)


def _letter(gateway: Gateway, actor: Actor, header: Header, raw: bytes) -> Letter:
    """What the register is told of the message, whatever becomes of it."""
    known = is_taken(header.kind, header.event)  # else the sender could name any number
    kind = f"{header.kind}^{header.event or 'R01'}" if known else "other"
    return Letter(
        "hl7v2", raw, V2_MEDIA, name=header.control_id, kind=kind, code="AA",
        institution=actor.institution or "",
        answer=lambda error: _refused(gateway, header, error).body,
    )  # fmt: skip


async def _audited(
    gateway: Gateway, actor: Actor, header: Header, raw: bytes, charset: str
) -> Acknowledged:
    """The acknowledgement of what is stored. What is refused is on record when it is raised."""
    try:
        await permit_door(gateway, actor, "hl7v2")
        sender = await _sender(gateway, actor, header)
        _attribute(sender, header, once_key(sender, header))
        actor = _acting(actor, sender)
        return await _receive(gateway, actor, sender, raw, charset)
    except GatewayError as error:
        if not getattr(error, "audited", False):
            await refused(gateway, actor, error, interaction="transaction")
        raise


def _log_fault(error: Exception) -> None:
    """Class and places in the code; the text of an exception may quote the message."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]]
    LOG.error(json.dumps({"event": "fault", "error": type(error).__name__, "at": places}))


def refuse_v2(gateway: Gateway, raw: bytes, error: GatewayError) -> Acknowledged:
    """The acknowledgement of a message that a door refuses before it is looked at."""
    return _refused(gateway, read_header(raw), error)


def _refused(gateway: Gateway, header: Header, error: GatewayError) -> Acknowledged:
    time, control_id = _stamp(gateway, gateway.settings.zone)
    return Acknowledged(refuse(header, error, time=time, control_id=control_id), error)


async def _sender(gateway: Gateway, actor: Actor, header: Header) -> Institution:
    """The institution that sends: the credential's, else (open access) the one that MSH-4 names.

    Raises Forbidden for a credential whose message says that another institution sends it.
    """
    known = await institutions(gateway)
    found = named = at_facility(known, header.facility)
    if actor.institution is not None:
        found = known.get(actor.institution)
        if found is not None and named not in (None, found):
            raise Forbidden(
                "MSH-4 names another institution than the credential: each sends its own results",
                expression="MSH[1]-4",
                rule="sender",
            )
    if found is None:
        raise Forbidden(
            "No registered institution sends this message", expression="MSH[1]-4", rule="sender"
        )
    return found


def _attribute(sender: Institution, header: Header, key: bytes) -> None:
    """Says whose message it is that is under way, and by which key it is known."""
    if (letter := under_way()) is not None:
        letter.institution, letter.key = sender.id, key
        letter.name = header.control_id
        letter.stated = micros_of(header.stated, sender.zone)


def _acting(actor: Actor, sender: Institution) -> Actor:
    """The actor on behalf of the sender, so that the sender owns what is stored."""
    if actor.institution == sender.id:
        return actor
    return Actor("institution", sender.name, institution=sender.id, access=actor.access)


async def _receive(
    gateway: Gateway, actor: Actor, sender: Institution, raw: bytes, charset: str
) -> Acknowledged:
    digest = sha256(raw).digest()
    folder = f"{gateway.settings.mappings}/v2"
    message = parse(raw, default_charset=charset or sender.charset, folder=folder)
    header = read_header(raw, message.decoded.codec)
    key = once_key(sender, header)
    _attribute(sender, header, key)
    async with gateway.store.snapshot(actor.access) as reader:
        stored = await reader.once(ONCE_KIND, key)
        known = await institutions_at(gateway, reader)
    if stored is not None:
        earlier = _repeat(stored, digest)
        await _count(gateway)
        return earlier
    if header.kind in (*REQUESTS, "SIU") and gateway.requests is not None:
        sent = Sent(sender, message, header, raw, key)
        if (done := await gateway.requests(gateway, actor, sent)) is not None:
            return Acknowledged(done, None)
    others = assigned_by_others(sender, known)
    mapped = map_message(message, sender, folder=folder, others=others)
    await breath()
    orders = mapped.orders if isinstance(mapped, Mapped) else ()
    for _ in range(ATTEMPTS):
        async with gateway.store.snapshot(actor.access) as reader:
            plan = await planned(gateway, reader, mapped, sender, folder)
        answer = _answer(gateway, sender, header, plan.warnings, orders)
        _doubt(plan.warnings)
        await breath()
        try:
            outcome = await transaction(
                gateway,
                actor,
                entries_of(plan, "v2"),
                received=_kept(raw, digest),
                once=Once(ONCE_KIND, key, digest + answer),
                only_if_changed=True,
            )
        except PreconditionFailed:
            continue
        if outcome.committed is not None and outcome.committed.repeated:
            await _count(gateway)
            return _repeat(outcome.committed.response, digest)
        return Acknowledged(answer, None, False, outcome, tuple(plan.warnings))
    raise Conflict("Other messages change the same report; send it again", rule="overtaken")


async def _count(gateway: Gateway) -> None:
    """Counts the message under way as a repeat."""
    if (letter := under_way()) is not None:
        await repeated(gateway, letter)


def _doubt(warnings: Sequence[Issue]) -> None:
    """Tells the register what was doubtful of the message under way."""
    if (letter := under_way()) is not None:
        letter.warnings = tuple(warnings)


async def planned(
    gateway: Gateway, reader: Reader, mapped: Mapped | Statement, sender: Institution, folder: str
) -> Planned:
    """What a message changes of what is stored: a report, or what is said of two numbers."""
    naming = gateway.extractor.naming
    if isinstance(mapped, Statement):
        known = await institutions_at(gateway, reader)
        return await plan_statement(reader, mapped, Sender(sender, known, folder, naming))
    return await reconcile(reader, mapped, sender, folder=folder, naming=naming)


def once_key(sender: Institution, header: Header) -> bytes:
    """What makes a message the same one: institution, sending application, control id."""
    parts = ("v2", sender.id, header.sending[0], header.control_id)
    return sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).digest()


def _repeat(stored: bytes, digest: bytes) -> Acknowledged:
    """The answer given before. Raises Duplicate when the content was another."""
    if stored[:_DIGEST] != digest:
        raise Duplicate(
            "This message control id was used before for a message with other content",
            expression="MSH[1]-10",
            rule="v2-control-id",
        )
    return Acknowledged(stored[_DIGEST:], None, repeated=True)


def entries_of(plan: Planned, door: str) -> list[BundleEntry]:
    """One PUT for each resource, bound to the version that was read when the plan was made, and
    saying by which door it came."""
    entries = []
    for planned, version in plan.resources:
        resource = _handed_on(through(door, planned))
        type, id = resource["resourceType"], resource["id"]
        entries.append(
            BundleEntry(
                full_url=None,
                method="PUT",
                url=f"{type}/{id}",
                resource_raw=render(resource),
                if_match=f'W/"{version}"' if version else None,
                if_none_match="*" if version == 0 else None,
                made=resource,
            )
        )
    return entries


def _handed_on(resource: dict[str, Any]) -> dict[str, Any]:
    """The resource for a write, which adds codings and tags: the lists that it adds to are its
    own, the rest is that of the plan, which may have to be carried out again."""
    own = dict(resource)
    if "meta" in own:
        meta = own["meta"] = dict(own["meta"])
        if "tag" in meta:
            meta["tag"] = [*meta["tag"]]
    if "code" in own:
        own["code"] = _concept(own["code"])
    for name in ("orderDetail", "procedureCode"):
        if name in own:
            own[name] = [_concept(one) for one in own[name]]
    return own


def _concept(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get("coding"), list):
        return {**value, "coding": [*value["coding"]]}
    return value


def _kept(raw: bytes, digest: bytes) -> Received:
    enc, body = pack(raw)
    return Received(digest, V2_MEDIA, enc, body)


def _answer(
    gateway: Gateway,
    sender: Institution,
    header: Header,
    warnings: Sequence[Issue],
    orders: Sequence[tuple[str, str]],
) -> bytes:
    time, control_id = _stamp(gateway, sender.zone)
    return acknowledge(header, time=time, control_id=control_id, warnings=warnings, orders=orders)


def _stamp(gateway: Gateway, zone: str) -> tuple[str, str]:
    """The acknowledgement's own time and control id (MSH-7, MSH-10: at most 20 characters)."""
    now = datetime.fromtimestamp(gateway.clock.now() // 1_000_000, ZoneInfo(zone))
    return now.strftime("%Y%m%d%H%M%S%z"), new_id(gateway)[-20:]
