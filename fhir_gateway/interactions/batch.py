"""batch: every entry for itself (hl7.org/fhir/R4/http.html#brules).

Entries of one kind run side by side, so that their commits share a sync of the disk; the kinds
follow each other in the order DELETE, POST, PUT, PATCH, GET.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir import bundle
from fhir_gateway.fhir.envelope import BundleEntry
from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.interactions.audit import audited
from fhir_gateway.interactions.conditional import pairs_of
from fhir_gateway.interactions.create import create
from fhir_gateway.interactions.delete import delete, delete_conditional
from fhir_gateway.interactions.entries import (
    METHODS,
    Request,
    answer_of,
    asked_of,
    placed,
    read_entry,
    request_of,
    root,
)
from fhir_gateway.interactions.etag import version_in
from fhir_gateway.interactions.letters import settle_parts, under_way
from fhir_gateway.interactions.narrowing import scoped
from fhir_gateway.interactions.outcome import Outcome
from fhir_gateway.interactions.patch import patch, patch_conditional, patch_in_bundle
from fhir_gateway.interactions.permits import permit
from fhir_gateway.interactions.transaction import check_size
from fhir_gateway.interactions.update import update, update_conditional
from fhir_gateway.security.actor import Actor

#: Entries under way at once; more would only wait for the store.
_WIDTH = 32


@audited("batch")
async def batch(
    gateway: Gateway,
    actor: Actor,
    entries: Sequence[BundleEntry],
    *,
    base: str,
    returns: str = "minimal",
    lenient: bool = False,
) -> list[bundle.Answer]:
    """The answer of each entry, in their order; a refused entry's is its OperationOutcome.

    Raises TooLong for too many entries, never for what is wrong with one of them.
    """
    check_size(gateway, entries)
    answers: dict[int, bundle.Answer] = {}
    refused: list[GatewayError] = []  # writes
    width = asyncio.Semaphore(_WIDTH)

    async def run(index: int, request: Request) -> None:
        async with width:
            try:
                await permit(gateway, actor, asked_of(request))
                own = await scoped(gateway, actor, asked_of(request))
                result = await _carry_out(gateway, own, request, base=base, lenient=lenient)
                answers[index] = answer_of(result, returns=returns)
            except GatewayError as error:
                answers[index] = _refusal(error, index, request.type)
                if request.method != "GET":
                    refused.append(error)

    requests: dict[str, list[tuple[int, Request]]] = {method: [] for method in METHODS}
    for index, entry in enumerate(entries):
        try:
            request = request_of(entry, root(index))
            requests[request.method].append((index, request))
        except GatewayError as error:
            answers[index] = _refusal(error, index, "")
    for method in METHODS:
        await asyncio.gather(*(run(index, request) for index, request in requests[method]))
    if (letter := under_way()) is not None:
        await settle_parts(gateway, letter, stored=letter.stored, refused=refused)
    return [answers[index] for index in range(len(entries))]


async def _carry_out(
    gateway: Gateway, actor: Actor, request: Request, *, base: str, lenient: bool
) -> Outcome | bytes:
    if request.method == "GET":
        return await read_entry(gateway, actor, request, base=base, lenient=lenient)
    entry, query = request.entry, pairs_of(request.query)
    given: dict[str, Any] = {"type": request.type}
    if request.method == "POST":
        given["if_none_exist"] = entry.if_none_exist
    else:
        given["if_match"] = version_in(entry.if_match)
        given |= {"pairs": query} if query else {"id": request.id}
    if request.method != "DELETE":
        given |= {"body": entry.resource_raw or b"", "base": base}
    if request.method == "PUT":
        given["absent"] = entry.if_none_match is not None
    elif request.method == "PATCH":
        given["format"] = patch_in_bundle
    return await _WRITES[request.method, bool(query)](gateway, actor, **given)


#: By method, and whether the URL has a condition.
_WRITES: dict[tuple[str, bool], Callable[..., Awaitable[Outcome]]] = {
    ("DELETE", False): delete,
    ("DELETE", True): delete_conditional,
    ("POST", False): create,
    ("PUT", False): update,
    ("PUT", True): update_conditional,
    ("PATCH", False): patch,
    ("PATCH", True): patch_conditional,
}


def _refusal(error: GatewayError, index: int, type: str) -> bundle.Answer:
    issues = [placed(issue, root(index), type) for issue in error.issues]
    return bundle.Answer(f"{error.status}", outcome=operation_outcome(issues))
