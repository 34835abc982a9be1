"""Nothing is disclosed before it is audited: the entries of the audit log, and who writes them.

Reads, histories, searches and refusals append their AuditEvent here in a commit that is durable
before the answer's first byte; writes carry theirs in their own change set (interactions.write).
IHE BALP; architecture 5.7. A login that fails is logged and counted, not audited: nothing was
disclosed, and whoever has no credential must not be able to fill the disk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterable
from contextvars import ContextVar
from functools import lru_cache, wraps
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar
from urllib.parse import urlencode

from fhir_gateway.audit.events import Call, read_event, refusal_event
from fhir_gateway.audit.query import masked
from fhir_gateway.audit.tree import leaf
from fhir_gateway.context import Gateway, new_id
from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.home import HOME_RULES
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.blobs import pack
from fhir_gateway.store.changes import ChangeSet, Entry
from fhir_gateway.store.store import Stored

P = ParamSpec("P")
R = TypeVar("R")


class Origin(NamedTuple):
    """Where the request under way comes from: its id and the client's network address."""

    request_id: str = ""
    address: str = ""


#: Set by the outermost middleware of the doors, so that every event of a request names it.
ORIGIN: ContextVar[Origin] = ContextVar("origin", default=Origin())  # noqa: B039 - immutable

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


def call_of(gateway: Gateway, actor: Actor) -> Call:
    """The request under way, as audit events tell it."""
    origin = ORIGIN.get()
    return Call(
        gateway.clock.now(),
        actor.name,
        actor.institution,
        request_id=origin.request_id,
        address=origin.address,
    )


def entry(
    gateway: Gateway, tail: bytes, *, home: int = 0, patient: str | None = None, owner: int = 0
) -> Entry:
    """An AuditEvent for the journal: with its id, its nonce and its leaf hash."""
    nonce = gateway.random(16)
    enc, body = pack(tail)
    return Entry(
        type="AuditEvent",
        id=new_id(gateway),
        home=home,
        enc=enc,
        body=body,
        owner=owner,
        nonce=nonce,
        leaf=leaf(nonce, tail),
        patient=patient,
    )


async def disclose(gateway: Gateway, entries: Iterable[Entry]) -> None:
    """Makes audit entries durable. Whoever answers before this returns breaks the law of audit."""
    if not gateway.audit:
        return
    await gateway.store.commit(ChangeSet(id=b"", journal=list(entries), urgent=True))
    gateway.count("disclosures", 1)


async def disclose_read(
    gateway: Gateway, actor: Actor, stored: Stored, *, interaction: str, version: int = 0
) -> None:
    """Audits that one resource, or its history, is handed out."""
    if not gateway.audit:
        return
    patient = patient_of(stored)
    event = read_event(
        call_of(gateway, actor),
        type=stored.type,
        id=stored.id,
        version=version,
        patient=patient,
        interaction=interaction,
    )
    await disclose(gateway, [entry(gateway, event, home=max(stored.home, 0))])


def patient_of(stored: Stored) -> str | None:
    """The logical id of the Patient that a stored resource is about, without parsing it.

    Only a help for whoever reads the event: the event itself stands in the resource's home.
    """
    if stored.type == "Patient":
        return stored.id
    if stored.home <= 0:
        return None
    found = _subject(stored.type).search(stored.tail)
    return found[1].decode() if found else None


@lru_cache(maxsize=256)
def _subject(type: str) -> re.Pattern[bytes]:
    """Finds the reference to the Patient in the element by which a type has its home."""
    paths = HOME_RULES[type].person
    names = sorted({path.partition(":")[0].rpartition(".")[2] for path in paths} - {""})
    alternatives = "|".join(names or ["subject"]).encode()
    return re.compile(
        rb'"(?:%b)":\[?\{"reference":"Patient/([A-Za-z0-9\-.]{1,64})["/]' % alternatives
    )


async def refused(
    gateway: Gateway,
    actor: Actor,
    error: GatewayError,
    *,
    interaction: str,
    target: str = "",
    query: str = "",
) -> None:
    """Audits a refusal."""
    if not gateway.audit:
        return
    event = refusal_event(
        call_of(gateway, actor),
        interaction=interaction,
        status=error.status,
        code=error.issues[0].code,
        target=target,
        query=masked(query, gateway.store.index_key) if query else "",
    )
    await disclose(gateway, [entry(gateway, event)])


def audited(
    interaction: str,
) -> Callable[
    [Callable[Concatenate[Gateway, Actor, P], Coroutine[Any, Any, R]]],
    Callable[Concatenate[Gateway, Actor, P], Coroutine[Any, Any, R]],
]:
    """Decorates an interaction: what it refuses is audited before the caller hears of it."""

    def decorate(
        function: Callable[Concatenate[Gateway, Actor, P], Coroutine[Any, Any, R]],
    ) -> Callable[Concatenate[Gateway, Actor, P], Coroutine[Any, Any, R]]:
        @wraps(function)
        async def run(gateway: Gateway, actor: Actor, /, *args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return await function(gateway, actor, *args, **kwargs)
            except GatewayError as error:
                target, query = _asked(kwargs)
                await refused(
                    gateway, actor, error, interaction=interaction, target=target, query=query
                )
                vars(error)["audited"] = True
                raise

        return run

    return decorate


def _asked(arguments: dict[str, Any]) -> tuple[str, str]:
    """What a refused request was about: "Type/id", or else its query, as far as it makes sense."""
    type, id = arguments.get("type"), arguments.get("id")
    if type not in HOME_RULES:
        return "", ""
    if isinstance(id, str) and _ID.fullmatch(id):
        return f"{type}/{id}", ""
    pairs = arguments.get("pairs")
    return "", f"{type}?{urlencode(pairs)}" if pairs else str(type)
