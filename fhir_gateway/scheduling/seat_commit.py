"""One booking operation as one commit: planned on a snapshot, and again when others were faster.

The Appointment, its Slot where its status turns, the claims, the AuditEvent and the answer to a
repeat go into one change set (docs/adr/0049, 0052). Whoever is overtaken waits for his turn, so
that a Slot that many want serves all of them as long as it has seats.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b, sha256
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.audit.events import booking_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, GatewayError, Issue, NotFound, Unprocessable
from fhir_gateway.fhir.home import home_of
from fhir_gateway.fhir.wire import parse, splice, tail
from fhir_gateway.interactions.audit import call_of, disclose, entry
from fhir_gateway.interactions.prepare import put_of
from fhir_gateway.interactions.turns import Turn
from fhir_gateway.scheduling.booking_parties import Stands
from fhir_gateway.scheduling.booking_scopes import check_scopes
from fhir_gateway.scheduling.freed import Freed, follows
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.changes import ChangeSet, Committed, Entry, Guard, Once, Put, VersionIs
from fhir_gateway.store.claim_refusals import ClaimLost, ClaimRefused
from fhir_gateway.store.claim_rows import Claim
from fhir_gateway.store.store import Reader, Stored

#: A request overtaken so often by others is answered 409 and may be sent again.
ATTEMPTS = 16

_KIND = "booking"
#: Whoever gives a seat back offers it to who is next, the same for many.
_WAITING = "waiting list"
_NOTHING = sha256(b"").digest()
_DIGEST = len(_NOTHING)
_NEXT_CHANNEL = frozenset({"quota-full", "channel-closed", "channel-not-open"})


class Asked(NamedTuple):
    """How an operation was asked for: its name, the key of a request that may come again, the
    digest of what it says, and the version that its If-Match insists on. `shared`: the key is one
    of the institution, by whichever of its clients the request comes."""

    operation: str
    key: str = ""
    digest: bytes = _NOTHING
    if_match: int | None = None
    shared: bool = False


class Told(NamedTuple):
    """What is told of a booking beside the Appointment: its channel, why this one, warnings."""

    channel: str = ""
    because: str = ""
    issues: tuple[Issue, ...] = ()


class Turned(NamedTuple):
    """A Slot whose status turns with the commit."""

    stored: Stored
    busy: bool


class Planned(NamedTuple):
    """What one attempt would store. `version` is what is stored of the Appointment, 0 for none;
    `resource` None leaves it as it is. `freed` is whose seat is given back."""

    id: str
    resource: dict[str, Any] | None
    version: int
    owner: int
    patient: str
    claims: Sequence[Claim]
    told: Told = Told()
    slots: Sequence[Turned] = ()
    puts: Sequence[Put] = ()
    summary: str = ""
    counts: str = ""
    others: bool = False  # other channels may be tried
    guards: Sequence[Guard] = ()
    along: Sequence[tuple[str, int, str]] = ()  # others that change with it: id, version, summary
    freed: Stands | None = None


class Done(NamedTuple):
    """An Appointment as an operation left it. `body` is the whole resource."""

    id: str
    version: int
    body: bytes
    told: Told = Told()
    repeated: bool = False

    @property
    def resource(self) -> dict[str, Any]:
        """The Appointment."""
        return parse(self.body)

    @property
    def status(self) -> str:
        """Its status."""
        return str(self.resource.get("status", ""))


class Sources(NamedTuple):
    """What an attempt reads: what the caller sees, what there is, and the channels that were
    tried in vain."""

    own: Reader
    whole: Reader
    tried: frozenset[str]


Plan = Callable[[Sources], Awaitable[Planned]]


async def carry_out(
    gateway: Gateway, actor: Actor, asked: Asked, line: str, plan: Plan
) -> Done:  # fmt: skip
    """Stores what `plan` makes of a fresh snapshot. Returns when durable. `line` names what many
    may want at once.

    Raises what the plan and the claims say, Forbidden for what the scopes of a token do not let
    through, Unprocessable for another request under the same key, Conflict (overtaken again and
    again).
    """
    once = _once(actor, asked)
    tried: set[str] = set()
    passed: set[str] = set()
    async with Turn() as turn:
        await turn.join([(id(gateway), line)])
        for attempt in range(ATTEMPTS):
            async with gateway.store.snapshot(SYSTEM_ACCESS) as whole:
                own = whole.under(actor.access)
                if once and (kept := await whole.once(_KIND, once)) is not None:
                    done = await _again(whole, asked, kept)
                    return await _told_again(gateway, actor, asked, done)
                planned = await plan(Sources(own, whole, frozenset(tried)))
                freed = await _freed(gateway, whole, planned, frozenset(passed), attempt)
            await check_scopes(gateway, actor, planned)
            change_set = _change_set(gateway, actor, asked, planned, once)
            _add_freed(change_set, freed)
            try:
                committed = await gateway.store.commit(change_set)
            except GatewayError as error:
                vars(error)["patient"] = planned.patient
                if freed.offering is not None and _is_of_offer(error, planned):
                    passed.add(freed.offering.entry)
                    continue
                if _is_of_channel(error, planned):
                    tried.add(planned.told.channel)
                    continue
                if not _is_overtaken(error):
                    raise
                await turn.take((id(gateway), _line_of(error, change_set, freed, line)))
                continue
            done = await _done(gateway, asked, planned, committed)
            if done.repeated:
                return await _told_again(gateway, actor, asked, done)
            if freed.offering is not None:
                gateway.count("waitlist_offers", 1)
            return done
    raise Conflict("Others book here at the same moment; send it again", rule="overtaken")


async def _freed(
    gateway: Gateway, whole: Reader, planned: Planned, passed: frozenset[str], attempt: int
) -> Freed:
    """What follows where the plan gives a seat back. That comes first: whoever is overtaken again
    and again by other offers leaves this one to the job."""
    if planned.freed is None or attempt > ATTEMPTS // 2:
        return Freed()
    return await follows(gateway, whole, planned.freed, passed)


def _line_of(error: GatewayError, change_set: ChangeSet, freed: Freed, line: str) -> str:
    """Where to wait for one's turn: with those who offer to the same entry, where that one was
    offered something else meanwhile."""
    last = getattr(error, "guard", -1) == len(change_set.guards) - 1
    return _WAITING if freed.offering is not None and last else line


def _add_freed(change_set: ChangeSet, freed: Freed) -> None:
    """Puts what follows behind what the plan stores."""
    if freed.task is not None and freed.guard is not None:
        change_set.puts.append(freed.task)
        change_set.guards.append(freed.guard)
    if (offer := freed.offering) is not None:
        change_set.puts += offer.puts
        change_set.guards.append(offer.guard)
        change_set.claims.append(offer.claim)
        if change_set.journal:
            change_set.journal.append(offer.journal)


def _is_of_offer(error: GatewayError, planned: Planned) -> bool:
    """Whether the claim of the offer was refused, which stands behind those of the plan."""
    is_claim = isinstance(error, ClaimLost | ClaimRefused)
    return is_claim and getattr(error, "guard", -1) == len(planned.claims)


def _is_of_channel(error: GatewayError, planned: Planned) -> bool:
    return planned.others and isinstance(error, ClaimLost) and error.issues[0].rule in _NEXT_CHANNEL


def _is_overtaken(error: GatewayError) -> bool:
    """Whether a new snapshot may lead further."""
    if isinstance(error, ClaimLost | ClaimRefused):
        return error.issues[0].rule == "slot-changed"
    return getattr(error, "guard", -1) >= 0


def _once(actor: Actor, asked: Asked) -> bytes:
    """The key under which an answer is kept: each caller has keys of its own."""
    if not asked.key:
        return b""
    client = "" if asked.shared else actor.client
    who = "\n".join((actor.role, actor.institution or "", client, actor.patient, asked.key))
    return blake2b(who.encode(), digest_size=32, person=b"booking-once").digest()


class Pieces(NamedTuple):
    """What a plan stores, beside its claims. `version` is what the Appointment has then."""

    puts: list[Put]
    guards: list[Guard]
    journal: list[Entry]
    version: int


def pieces_of(gateway: Gateway, actor: Actor, asked: Asked, planned: Planned) -> Pieces:
    """The resources of a plan, what they rest on, and their AuditEvents."""
    puts, guards = list(planned.puts), list[Guard](planned.guards)
    version = planned.version
    if planned.resource is not None:
        op = "update" if version else "create"
        puts.append(put_of(gateway, planned.resource, op=op, owner=planned.owner))
        version += 1
    if planned.version:
        guards.append(VersionIs("Appointment", planned.id, planned.version))
    for stored, busy in planned.slots:
        slot = parse(stored.whole()) | {"status": "busy" if busy else "free"}
        puts.append(put_of(gateway, slot, op="update", owner=stored.owner))
        guards.append(VersionIs("Slot", stored.id, stored.version))
    journal = _journal(gateway, actor, asked, planned, version) if gateway.audit else []
    return Pieces(puts, guards, journal, version)


def _change_set(
    gateway: Gateway, actor: Actor, asked: Asked, planned: Planned, once: bytes
) -> ChangeSet:
    puts, guards, journal, version = pieces_of(gateway, actor, asked, planned)
    kept = Once(_KIND, once, asked.digest + _kept(planned, version)) if once else None
    return ChangeSet(
        id=gateway.random(16),
        guards=guards,
        puts=puts,
        claims=list(planned.claims),
        journal=journal,
        once=kept,
        institution=actor.institution or "",
    )


def _journal(
    gateway: Gateway, actor: Actor, asked: Asked, planned: Planned, version: int
) -> list[Entry]:
    return [
        entry(
            gateway,
            booking_event(
                call_of(gateway, actor), id=id, version=its, patient=planned.patient,
                operation=asked.operation, summary=summary,
            ),
            patient=planned.patient,
        )
        for id, its, summary in ((planned.id, version, planned.summary), *planned.along)
    ]  # fmt: skip


async def _done(gateway: Gateway, asked: Asked, planned: Planned, committed: Committed) -> Done:
    if committed.repeated and committed.response:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as whole:
            return await _again(whole, asked, committed.response)
    if planned.counts:
        gateway.count(planned.counts, 1)
    if planned.resource is None:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as whole:
            return await _read(whole, planned.id, planned.version, planned.told)
    version = planned.version + 1
    body = splice(
        "Appointment", planned.id, version, committed.updated, tail(planned.resource)
    )  # fmt: skip
    return Done(planned.id, version, body, planned.told)


async def answered(gateway: Gateway, actor: Actor, asked: Asked) -> Done | None:
    """What the same request was answered before; None for a new one. Raises Unprocessable for
    another request under the same key."""
    once = _once(actor, asked)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as whole:
        kept = await whole.once(_KIND, once) if once else None
        done = await _again(whole, asked, kept) if kept is not None else None
    return await _told_again(gateway, actor, asked, done) if done is not None else None


# -- the same request again -----------------------------------------------------------------------


def _kept(planned: Planned, version: int) -> bytes:
    told = planned.told
    issues = [
        (one.code, one.diagnostics, one.expression, one.rule, one.severity) for one in told.issues
    ]
    return msgspec.json.encode((planned.id, version, told.channel, told.because, issues))


async def _again(whole: Reader, asked: Asked, kept: bytes) -> Done:
    """The answer of the first time, from the very version that it told."""
    if kept[:_DIGEST] != asked.digest:
        raise Unprocessable(
            "This Idempotency-Key was used for another request; take a new key for a new request, "
            "and the same body for one that is sent again",
            expression="idempotency-key",
            rule="idempotency-key",
        )
    id, version, channel, because, issues = msgspec.json.decode(kept[_DIGEST:])
    told = Told(channel, because, tuple(Issue(*one) for one in issues))
    return (await _read(whole, id, version, told))._replace(repeated=True)


async def _told_again(gateway: Gateway, actor: Actor, asked: Asked, done: Done) -> Done:
    """The answer once more, which is a disclosure once more."""
    patient = home_of(done.resource).patient
    event = booking_event(
        call_of(gateway, actor), id=done.id, version=done.version, patient=patient,
        operation=asked.operation, summary="repeated",
    )  # fmt: skip
    await disclose(gateway, [entry(gateway, event, patient=patient)])
    return done


async def _read(whole: Reader, id: str, version: int, told: Told) -> Done:
    stored = await whole.vread("Appointment", id, version)
    if stored is None or stored.deleted:
        raise NotFound("This appointment is not kept any more", rule="unknown-id")
    return Done(id, version, stored.whole(), told)
