"""transaction: all entries or none (hl7.org/fhir/R4/http.html#trules, #other-bundles).

Order DELETE, POST, PUT and PATCH, GET; ids for new resources; `urn:uuid:` and in-Bundle
references rewritten; conditional references and conditional writes. Used by every door that takes
in several resources at once. Entries that read are answered after the commit, from what it stored.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Issue, TooLong, Unprocessable
from fhir_gateway.fhir.envelope import BundleEntry
from fhir_gateway.interactions.audit import audited
from fhir_gateway.interactions.entries import (
    Request,
    asked_of,
    check_entry,
    every,
    is_allowed,
    read_entry,
    request_of,
    root,
    step_of,
)
from fhir_gateway.interactions.events import transaction_events
from fhir_gateway.interactions.extras import Extras
from fhir_gateway.interactions.narrowing import scoped
from fhir_gateway.interactions.outcome import Outcome, TransactionOutcome, refused_read
from fhir_gateway.interactions.steps import Step
from fhir_gateway.interactions.write import Written, write
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.changes import Once, Received

_ORDER = {"delete": 0, "create": 1, "update": 2}


@audited("transaction")
async def transaction(
    gateway: Gateway,
    actor: Actor,
    entries: Sequence[BundleEntry],
    *,
    received: Received | None = None,
    once: Once | None = None,
    only_if_changed: bool = False,
    base: str = "",
) -> TransactionOutcome:
    """Stores all entries in one commit, or none. Results stand in the order of the entries.

    Raises the issues of all entries at once, each naming its entry: Unprocessable and, by the
    first refusal, other classes; PreconditionFailed, MultipleMatches, TooLong.
    """
    check_size(gateway, entries)
    roots = [root(index) for index in range(len(entries))]
    requests = await _requests(entries, roots)
    await _check_rights(gateway, actor, requests, roots)
    steps = await _steps(gateway, actor, requests, roots)
    _check_overlap(steps)
    results: dict[int, Outcome | bytes] = {}
    written: Written | None = None
    if steps or received or once:
        ordered = sorted(steps, key=lambda index: _ORDER[steps[index].op])
        summary = f"{len(ordered)} entries"
        written = await write(
            gateway,
            actor,
            [steps[index] for index in ordered],
            audit=transaction_events(gateway, actor, summary=summary, received=received),
            extras=Extras(received, once, only_if_changed, base),
        )
        if written.committed.repeated and not written.outcomes:
            return TransactionOutcome([], written.committed)
        results.update(zip(ordered, written.outcomes, strict=True))
    for index, request in enumerate(requests):
        if request.method == "GET":
            results[index] = await _read(gateway, actor, request, base)
    return TransactionOutcome(
        [results[index] for index in range(len(requests))],
        written.committed if written else None,
        unmapped=sum(len(step.coding.unmapped) for step in steps.values()),
        coded=sum(len(step.coding.coded) for step in steps.values()),
    )


async def _read(gateway: Gateway, actor: Actor, request: Request, base: str) -> Outcome | bytes:
    """What a GET shows. The writes are stored by now, so a refused one refuses itself alone."""
    try:
        own = await scoped(gateway, actor, asked_of(request))
        return await read_entry(gateway, own, request, base=base)
    except GatewayError as error:
        return refused_read(error)


def check_size(gateway: Gateway, entries: Sequence[BundleEntry]) -> None:
    """Raises TooLong for more entries than the gateway takes at once."""
    limit = gateway.settings.bundle_limit
    if len(entries) > limit:
        raise TooLong(f"A Bundle may have {limit} entries here", rule="bundle-limit")


async def _requests(entries: Sequence[BundleEntry], roots: Sequence[str]) -> list[Request]:
    """The request lines of all entries. Raises all that is wrong with them at once."""
    return await every(
        lambda pair: request_of(*pair),
        [(where, "", (entry, where)) for entry, where in zip(entries, roots, strict=True)],
    )


async def _check_rights(
    gateway: Gateway, actor: Actor, requests: Sequence[Request], roots: Sequence[str]
) -> None:
    """Raises Forbidden for every entry that the caller's role may not ask for, or the scopes of
    its token do not grant; reads too."""
    plain = [one for one in requests if one.method != "GET" and not one.query]
    kinds = {(one.method, one.type): one for one in plain}
    free = {kind for kind, one in kinds.items() if is_allowed(gateway, actor, one)}
    await every(
        lambda request: check_entry(gateway, actor, request),
        [
            (where, "", request)
            for where, request in zip(roots, requests, strict=True)
            if request.query or (request.method, request.type) not in free
        ],
    )
    for request in requests if actor.scopes is not None else ():
        await scoped(gateway, actor, asked_of(request))


async def _steps(
    gateway: Gateway, actor: Actor, requests: Sequence[Request], roots: Sequence[str]
) -> dict[int, Step]:
    """The writes by their place in the Bundle. Raises the issues of all of them at once."""
    writes = [index for index, request in enumerate(requests) if request.method != "GET"]
    steps = await every(
        lambda index: step_of(actor, gateway, requests[index], roots[index]),
        [(roots[index], requests[index].type, index) for index in writes],
    )
    return dict(zip(writes, steps, strict=True))


def _check_overlap(steps: Mapping[int, Step]) -> None:
    """Raises Unprocessable when two entries are about one resource, condition or fullUrl."""
    seen: dict[tuple[str, Hashable], int] = {}
    issues: list[Issue] = []
    for index, step in steps.items():
        keys: list[tuple[str, Hashable]] = [("identity", step.name)] if step.id else []
        if step.condition is not None:
            keys.append(("condition", step.condition.key))
        if step.full_url is not None:
            keys.append(("fullUrl", step.full_url))
        for what, key in keys:
            first = seen.setdefault((what, key), index)
            if first != index:
                sentence = f"Entries {first} and {index} have the same {what}"
                issues.append(Issue("invalid", sentence, root(index), "overlap"))
    if issues:
        raise Unprocessable(issues=tuple(issues))
