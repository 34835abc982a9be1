"""Nothing is disclosed before it is audited: the entries of the audit log, and who writes them.

Reads, histories, searches and refusals append their AuditEvent here in a commit that is durable
before the answer's first byte; writes carry theirs in their own change set (interactions.write).
IHE BALP; architecture 5.7. A login that fails is logged and counted, not audited: nothing was
disclosed, and whoever has no credential must not be able to fill the disk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextvars import ContextVar
from functools import lru_cache, wraps
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar
from urllib.parse import urlencode

import msgspec

from fhir_gateway.audit.events import Call, Event, read_event, refusal_event, search_event
from fhir_gateway.audit.operator import OPERATOR
from fhir_gateway.audit.query import masked
from fhir_gateway.audit.tree import leaf
from fhir_gateway.context import Gateway, new_id
from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.home import HOME_RULES, followed, home_of
from fhir_gateway.fhir.keys import key64
from fhir_gateway.interactions.letters import refusal_rows
from fhir_gateway.interactions.pace import prepared
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
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
    """The request under way, as audit events tell it.

    What the gateway itself does at the command line is the operator's act, by name.
    """
    origin = ORIGIN.get()
    return Call(
        gateway.clock.now(),
        actor.name,
        actor.institution,
        origin.request_id,
        actor.purpose,
        origin.address,
        actor.user or (OPERATOR.get() if actor.role == "system" else ""),
        actor.client,
        actor.token,
        actor.basis,
    )


def entry(
    gateway: Gateway, tail: Event, *, home: int = 0, patient: str | None = None, owner: int = 0
) -> Entry:
    """An AuditEvent for the journal: with its id, its nonce and its leaf hash.

    It belongs to the institution whose act it tells, unless `owner` says another.
    """
    nonce = gateway.random(16)
    if not owner and tail.institution:
        owner = owner_of(tail.institution)
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


@lru_cache(maxsize=4_096)
def owner_of(institution: str) -> int:
    """The key by which an institution owns rows of the store."""
    return key64(f"Organization/{institution}")


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
    if patient is None and stored.home > 0:
        patient = await _behind(gateway, stored, depth=0)
    event = read_event(
        call_of(gateway, actor),
        type=stored.type,
        id=stored.id,
        version=version,
        patient=patient,
        interaction=interaction,
    )
    await disclose(gateway, [entry(gateway, event, home=max(stored.home, 0))])


async def disclose_search(
    gateway: Gateway,
    actor: Actor,
    *,
    asked: str,
    bound: Sequence[str] = (),
    named: Sequence[str] = (),
    matches: Sequence[Stored],
    included: Sequence[Stored] = (),
    interaction: str = "search-type",
) -> None:
    """Audits the answer to a search: one event for each person, one when there is none.

    `asked` is the address with its parameters, `bound` the Patients that the search was bound to:
    they are named also when nothing was found. `named` are Patients that the answer names besides.
    """
    if not gateway.audit:
        return
    call, query = call_of(gateway, actor), masked(asked, gateway.store.index_key)
    count = len(matches) + len(included)
    shown = included if bound else [*matches, *included]
    people: dict[tuple[int, str | None], None] = {
        (0, patient): None for patient in (*bound, *named)
    }
    for home, patient in await people_of(gateway, shown):
        if (0, patient) not in people:
            people[home, patient] = None
    entries = []
    for home, patient in people or {(0, None): None}:
        event = search_event(
            call, query=query, patient=patient, count=count, interaction=interaction
        )
        entries.append(entry(gateway, event, home=home, patient=None if home else patient))
    await disclose(gateway, entries)


def patient_of(stored: Stored) -> str | None:
    """The logical id of the Patient that a resource names by the table of home rules.

    None for what is in no person's home, was deleted, or shares the home of another resource.
    """
    if stored.type == "Patient":
        return stored.id
    if stored.home <= 0 or stored.deleted:
        return None
    return home_of(msgspec.json.decode(stored.whole())).patient


async def people_of(
    gateway: Gateway, resources: Iterable[Stored]
) -> dict[tuple[int, str | None], None]:
    """The home and the Patient of each of these resources, each Patient once, in order.

    What shares another's home names its Patient by way of it: whoever searches AuditEvents by
    patient must find what was told of the Provenance of a result too.
    """
    found: dict[tuple[int, str | None], None] = {}
    told = set[str]()
    for stored in resources:
        if stored.home > 0:
            patient = patient_of(stored) or await _behind(gateway, stored, depth=0)
        elif stored.type == "AuditEvent":  # of a Patient who is not there: told like one who is
            patient = home_of(msgspec.json.decode(stored.whole())).patient
        else:
            continue
        if patient is None and stored.home > 0:
            found[stored.home, None] = None
        elif patient is not None and patient not in told:
            told.add(patient)
            found[max(stored.home, 0), patient] = None
    return found


async def _behind(gateway: Gateway, stored: Stored, *, depth: int) -> str | None:
    """The Patient of what a resource follows into its home; read by the gateway for itself."""
    if depth == _DEEPEST or stored.deleted:
        return None
    for reference in followed(msgspec.json.decode(stored.whole())):
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            other = await reader.read(reference.type, reference.id)
        if other is None or other.home != stored.home:
            continue
        patient = patient_of(other) or await _behind(gateway, other, depth=depth + 1)
        if patient is not None:
            return patient
    return None


#: Slot, Schedule, HealthcareService: what follows is followed no further than this.
_DEEPEST = 4


async def refused(
    gateway: Gateway,
    actor: Actor,
    error: GatewayError,
    *,
    interaction: str,
    target: str = "",
    query: str = "",
    operation: str = "",
) -> None:
    """Audits a refusal, and registers the message that is refused in the same commit.

    A refusal that tells of a person carries the Patient as `patient`: it is on that record too.
    """
    if not gateway.audit:
        return
    patient = vars(error).get("patient") or None
    event = refusal_event(
        call_of(gateway, actor),
        interaction=interaction,
        status=error.status,
        code=error.issues[0].code,
        target=target,
        patient=patient,
        operation=operation,
        query=masked(query, gateway.store.index_key) if query else "",
    )
    messages, bodies, dropped = await refusal_rows(gateway, error)
    said = ChangeSet(
        id=b"", journal=[entry(gateway, event, patient=patient)], urgent=True,
        messages=messages, refused=bodies, dropped=dropped,
    )  # fmt: skip
    prepared()
    await gateway.store.commit(said)
    gateway.count("disclosures", 1)


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
                    gateway, actor, error, interaction=interaction, target=target, query=query,
                    operation=_operation(kwargs),
                )  # fmt: skip
                vars(error)["audited"] = True
                raise

        return run

    return decorate


def _operation(arguments: dict[str, Any]) -> str:
    """The "$name" of the operation that is carried out, "" for none."""
    definition = getattr(arguments.get("operation"), "definition", None)
    return f"${definition.code}" if definition is not None else ""


def _asked(arguments: dict[str, Any]) -> tuple[str, str]:
    """What a refused request was about: "Type/id", or else its query, as far as it makes sense."""
    type, id = arguments.get("type"), arguments.get("id")
    if type not in HOME_RULES:
        return "", ""
    if isinstance(id, str) and _ID.fullmatch(id):
        return f"{type}/{id}", ""
    pairs = arguments.get("pairs")
    return "", f"{type}?{urlencode(pairs)}" if pairs else str(type)
