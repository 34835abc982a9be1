"""Requests that are answered later: accepted now as a job, looked at, cancelled, handed out.

Bulk Data Access (hl7.org/fhir/uv/bulkdata/STU2/export.html) and the asynchronous pattern of FHIR
(hl7.org/fhir/R4/async.html) share this. A job is its owner's alone: to everybody else it does not
exist. The commit that audits the request gives the instant `t` as of which it is answered.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from fhir_gateway.audit.events import search_event
from fhir_gateway.audit.query import masked
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden, GatewayError, Internal, Login, NotFound
from fhir_gateway.interactions.audit import (
    ORIGIN,
    Origin,
    audited,
    call_of,
    entry,
)
from fhir_gateway.interactions.callers import Caller as Credential
from fhir_gateway.interactions.callers import actor_of
from fhir_gateway.interactions.clients import client_at
from fhir_gateway.interactions.export_files import remove
from fhir_gateway.security.actor import SYSTEM_ACCESS, Access, Actor, Role
from fhir_gateway.store import jobs
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.jobs import Job
from fhir_gateway.store.refusals import Refusal, error_of

#: Kinds of jobs that callers of the REST door start.
EXPORT, REQUEST = "export", "request"

#: More jobs of one owner that are not finished are refused.
MOST_OPEN = 10

#: The sixteen digits as letters, see `job_id`.
_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")

_HOUR = 3_600_000_000
_T = TypeVar("_T")


class Caller(msgspec.Struct, frozen=True):
    """Who asked, by which credential and for what, and what that caller might see then."""

    role: Role
    name: str
    institution: str | None
    access: Access
    user: str = ""
    client: str = ""
    purpose: str = ""
    token: str = ""
    patient: str = ""
    scopes: tuple[str, ...] | None = None
    asserts_consent: bool = False

    def is_(self, actor: Actor) -> bool:
        """Whether an actor is this caller: not another person or client of the institution."""
        return (self.role, self.institution, self.user, self.client, self.patient) == (
            actor.role, actor.institution, actor.user, actor.client, actor.patient
        )  # fmt: skip


class Asked(msgspec.Struct, frozen=True):
    """What every asynchronous request keeps until it is done.

    `request` is the address as it was called, `base` the FHIR base in it; `t` and `updated` are
    the commit as of which it is answered, and its time.
    """

    request: str
    base: str
    caller: Caller
    request_id: str
    address: str
    t: int
    updated: int


class _Payload(msgspec.Struct, frozen=True):
    asked: Asked
    wanted: msgspec.Raw


_payload = msgspec.json.Decoder(_Payload)
_refusal = msgspec.json.Decoder(Refusal)


async def start(
    gateway: Gateway, actor: Actor, *, kind: str, path: str, base: str, wanted: msgspec.Struct
) -> Job:
    """The job that answers `path` (below the base) later; `wanted` is for whoever works on it.

    Raises Throttled when the caller has too many unfinished ones.
    """
    id, origin = job_id(gateway.random(16)), ORIGIN.get()
    committed = await gateway.store.commit(
        ChangeSet(
            id=gateway.random(16),
            journal=[event_of(gateway, actor, f"{path}#{id}")] if gateway.audit else [],
            urgent=True,
        )
    )
    asked = Asked(
        request=f"{base}/{path}",
        base=base,
        caller=Caller(
            actor.role,
            actor.name,
            actor.institution,
            replace(actor.access, narrow=None),  # follows from the scopes again
            actor.user,
            actor.client,
            actor.purpose,
            actor.token,
            actor.patient,
            actor.scopes,
            actor.asserts_consent,
        ),
        request_id=origin.request_id,
        address=origin.address,
        t=committed.t,
        updated=committed.updated,
    )
    payload = msgspec.json.encode({"asked": asked, "wanted": wanted}).decode()
    return await jobs.enqueue(
        gateway.store, id=id, kind=kind, payload=payload, owner=_owner(actor), most=MOST_OPEN
    )


def job_id(random: bytes) -> str:
    """The id of a job; of 128 bits, which nobody guesses. All letters: among digits one id in
    some 240 looks like the number of a person, and would be masked in the log (audit.query)."""
    return random.hex().translate(_LETTERS)


def _owner(actor: Actor) -> str:
    """Whose job it is: an institution's, or of one who acts for none."""
    return actor.institution or actor.user or actor.client


def event_of(gateway: Gateway, actor: Actor, query: str) -> Any:
    """The audit entry of a request about a job; `query` names the job after a `#` or in a path."""
    asked = masked(query, gateway.store.index_key)
    return entry(
        gateway, search_event(call_of(gateway, actor), query=asked, interaction="operation")
    )


def asked_of(job: Job) -> Asked:
    """What a job was asked for, whatever its kind."""
    return _payload.decode(job.payload).asked


def wanted_of(job: Job, type: type[_T]) -> _T:
    """What the job's own kind keeps in it."""
    return msgspec.json.decode(_payload.decode(job.payload).wanted, type=type)


async def acting(gateway: Gateway, asked: Asked) -> Actor:
    """The caller again, with the rights that it has when the work is done, its scopes apart.

    Raises Forbidden when it has left the registry or its client was ended. Events that are made
    from here on name the request that asked.
    """
    caller = asked.caller
    ORIGIN.set(Origin(asked.request_id, asked.address))
    said = Credential(
        caller.role, caller.institution or "", caller.name, caller.user, caller.client,
        caller.purpose, caller.patient, caller.token, caller.scopes,
        asserts_consent=caller.asserts_consent,
    )  # fmt: skip
    if caller.role in ("open", "system"):
        return Actor(caller.role, caller.name, caller.institution, caller.access)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        client = await client_at(gateway, reader, caller.client) if caller.client else None
        if client is not None and not client.active:
            raise Forbidden("The client that asked was ended", rule="owner")
        try:
            return await actor_of(gateway, reader, said)
        except Login:
            raise Forbidden("Who asked has left the registry", rule="owner") from None


@audited("operation")
async def look(gateway: Gateway, actor: Actor, *, job: str) -> Job:
    """A job of the caller's. Raises NotFound for another's, and for what is cancelled or expired;
    Forbidden when the caller may see less by now than when it asked."""
    found = await jobs.find(gateway.store, job)
    if (
        found is None
        or found.kind not in (EXPORT, REQUEST)
        or found.owner != _owner(actor)
        or found.state in ("cancelled", "expired")
        or 0 < found.expires <= gateway.clock.now()
        or not asked_of(found).caller.is_(actor)
    ):
        raise NotFound(
            "There is no such request of yours; it may be cancelled or expired", rule="job"
        )
    _check_access(actor, asked_of(found).caller)
    return found


def _check_access(actor: Actor, caller: Caller) -> None:
    """What was asked for under a wider access than the caller has by now is not handed out."""
    if _sees_less(actor.access, caller.access) or _asks_less(actor.scopes, caller.scopes):
        raise Forbidden("You may see less than when you asked for this", rule="access")


def _sees_less(now: Access, then: Access) -> bool:
    """Whether an access leaves out anything that an earlier one let through."""
    return now != then and (
        now.max_class < then.max_class
        or _shrank(now.owners, then.owners)
        or _shrank(now.homes, then.homes)
        or _shrank(now.acts, then.acts)
        or not now.whole >= then.whole
        or not now.closed <= then.closed
        or now.sight != then.sight
    )


def _asks_less(now: tuple[str, ...] | None, then: tuple[str, ...] | None) -> bool:
    """Whether a token bears fewer scopes than the one that asked."""
    return now is not None and (then is None or not set(now) >= set(then))


def _shrank(now: frozenset[int] | None, then: frozenset[int] | None) -> bool:
    return now is not None and (then is None or not now >= then)


async def cancel(gateway: Gateway, actor: Actor, *, job: str) -> None:
    """Ends a job of the caller's and removes its files. Raises NotFound."""
    found = await look(gateway, actor, job=job)
    await forget(gateway, found.id)


async def forget(gateway: Gateway, job: str) -> Job | None:
    """Cancels a job, whoever's it is, and removes its files; None when there is none to cancel."""
    cancelled = await jobs.cancel(gateway.store, job)
    remove(gateway.settings, job)
    return cancelled


def failure_of(job: Job) -> GatewayError:
    """Why a job failed."""
    try:
        return error_of(_refusal.decode(job.checkpoint))
    except msgspec.DecodeError:  # set aside by the store: its workers ended again and again
        return Internal("The work could not be done", rule="job")


def kept(gateway: Gateway) -> int:
    """For how many µs a result is kept."""
    return gateway.settings.export_hours * _HOUR
