"""Entries of a batch or transaction: their request line, their write, their read, their answer.

hl7.org/fhir/R4/bundle.html#transaction: `request.url` is relative to the base.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar
from urllib.parse import unquote

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Invalid, Issue, NotSupported
from fhir_gateway.fhir import bundle
from fhir_gateway.fhir.envelope import BundleEntry
from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.fhir.validate import made_resource, read_resource
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.conditional import condition_of, pairs_of
from fhir_gateway.interactions.etag import is_known, version_in
from fhir_gateway.interactions.history import history, history_system, history_type
from fhir_gateway.interactions.outcome import Outcome, Refused, found
from fhir_gateway.interactions.pace import PIECE, breath
from fhir_gateway.interactions.patch import patch_in_bundle
from fhir_gateway.interactions.permits import Asked, why_not
from fhir_gateway.interactions.read import read, vread
from fhir_gateway.interactions.search_compartment import search_compartment
from fhir_gateway.interactions.search_type import search_type
from fhir_gateway.interactions.steps import Step
from fhir_gateway.interactions.types import check_id, check_may_write, check_type
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.store import Stored

T = TypeVar("T")
U = TypeVar("U")

METHODS = ("DELETE", "POST", "PUT", "PATCH", "GET")
_OPS = {"DELETE": "delete", "POST": "create", "PUT": "update", "PATCH": "update"}
_INTERACTIONS = {**_OPS, "PATCH": "patch"}

#: The conditions of `request` that each method honours; any other is refused, not ignored.
_HONOURED: dict[str, tuple[str, ...]] = {
    "DELETE": ("if_match",),
    "POST": ("if_none_exist",),
    "PUT": ("if_match", "if_none_match"),
    "PATCH": ("if_match",),
    "GET": ("if_none_match", "if_modified_since"),
}
_CONDITIONS = {
    "if_match": "ifMatch",
    "if_none_match": "ifNoneMatch",
    "if_none_exist": "ifNoneExist",
    "if_modified_since": "ifModifiedSince",
}


class Request(NamedTuple):
    """The request line of an entry, taken apart: `Type/id?query`, or more segments after it."""

    method: str
    type: str
    id: str
    rest: tuple[str, ...]
    query: str
    entry: BundleEntry


def root(index: int) -> str:
    """The FHIRPath of an entry."""
    return f"Bundle.entry[{index}]"


def request_of(entry: BundleEntry, where: str) -> Request:
    """Reads `request.method` and `request.url`. Raises Invalid, NotSupported."""
    if entry.method not in METHODS or entry.url is None:
        raise NotSupported(
            f"Methods of entries are {', '.join(METHODS)}", expression=f"{where}.request.method"
        )
    path, _, query = entry.url.partition("?")
    segments = path.removeprefix("/").split("/")
    if "%" in path:
        segments = [unquote(segment) for segment in segments]
    type, id, rest = segments[0], "".join(segments[1:2]), tuple(segments[2:])
    if ":" in path or not type or (entry.method != "GET" and (rest or (id and query))):
        raise Invalid(
            "The URL of an entry is relative to the base: Type, Type/id or Type?condition",
            expression=f"{where}.request.url",
            rule="entry-url",
        )
    if entry.method == "POST" and (id or query):
        raise Invalid("POST is to a type", expression=f"{where}.request.url", rule="entry-url")
    _check_conditions(entry, where)
    return Request(entry.method, type, id, rest, query, entry)


def _check_conditions(entry: BundleEntry, where: str) -> None:
    method = entry.method or ""
    for name, shown in _CONDITIONS.items():
        value = getattr(entry, name)
        if value is None:
            continue
        said = name in _HONOURED[method] and (method != "PUT" or shown != "ifNoneMatch")
        if not said and (method, shown, value) != ("PUT", "ifNoneMatch", "*"):
            raise Invalid(
                f"{shown} says nothing to {method} here",
                expression=f"{where}.request.{shown}",
                rule="entry-condition",
            )


def asked_of(request: Request) -> Asked:
    """What an entry asks for, as rights judge it; see `read_entry` for what a GET may be."""
    type, id, rest = request.type, request.id, request.rest
    query = pairs_of(request.query) if request.query else []
    if request.method != "GET":
        return Asked(_INTERACTIONS[request.method], type, id, pairs=query)
    if (type, id) == ("_history", ""):
        return Asked("history-system", pairs=query)
    if id in ("", "_history") and not rest:
        return Asked("history-type" if id else "search-type", type, pairs=query)
    if len(rest) == 1 and rest[0][:1].isalpha():
        return Asked("search-type", type, id, rest[0], query)
    if rest:
        return Asked("history-instance" if len(rest) == 1 else "vread", type, id, pairs=query)
    return Asked("read", type, id, pairs=query)


def check_entry(gateway: Gateway, actor: Actor, request: Request) -> None:
    """Raises Forbidden for what the table of rights keeps from the caller's role."""
    error = why_not(gateway.rights, actor.role, asked_of(request))
    if error is not None:
        raise error


def is_allowed(gateway: Gateway, actor: Actor, request: Request) -> bool:
    """Whether the role may do what an entry asks for: of a write that is its method and type."""
    return why_not(gateway.rights, actor.role, asked_of(request)) is None


def step_of(actor: Actor, gateway: Gateway, request: Request, where: str) -> Step:
    """The write of an entry, its resource valid. Raises what is wrong with it."""
    op, type, entry = _OPS[request.method], request.type, request.entry
    check_type(type, _INTERACTIONS[request.method])
    check_may_write(actor, type)
    step = Step(op, type, request.id, root=f"{where}.resource", full_url=entry.full_url)
    step.if_match = version_in(entry.if_match)
    step.absent = entry.if_none_match is not None
    if request.method == "PATCH":
        step.edit = patch_in_bundle(_raw(request))
    elif op != "delete":
        _read_body(step, request)
    if op == "create":
        if entry.if_none_exist is not None:
            step.condition = condition_of(gateway, type, entry.if_none_exist)
    elif request.query and not request.id:
        step.condition = condition_of(gateway, type, request.query)
    else:
        check_id(request.id)
    return step


def _raw(request: Request) -> bytes:
    if request.entry.resource_raw is None:
        raise Invalid("This entry needs a resource", expression=request.type, rule="entry-resource")
    return request.entry.resource_raw


def _read_body(step: Step, request: Request) -> None:
    raw, made = _raw(request), request.entry.made
    if made is None:
        resource = read_resource(raw, type=step.type)
    else:
        resource = made_resource(made, raw, type=step.type)
    step.resource, step.raw = resource, raw
    claimed = resource.get("id")
    if step.op == "update" and request.id and claimed != request.id:
        raise Invalid(
            "The id in the body must be the id in the URL", expression=f"{step.type}.id", rule="id"
        )
    if step.op == "update" and not request.id:
        step.body_id = claimed


async def every(function: Callable[[T], U], values: Iterable[tuple[str, str, T]]) -> list[U]:
    """The function's results; raises all refusals at once, each placed at its entry.

    `values` are (FHIRPath of the entry, resource type, argument).
    """
    results: list[U] = []
    refusals: list[tuple[GatewayError, list[Issue]]] = []
    for number, (where, type, value) in enumerate(values, 1):
        try:
            results.append(function(value))
        except GatewayError as error:
            refusals.append((error, [placed(issue, where, type) for issue in error.issues]))
        if number % PIECE == 0:
            await asyncio.sleep(0)
    await breath()
    if refusals:
        kind = refusals[0][0].__class__
        raise kind(issues=tuple(issue for _, issues in refusals for issue in issues))
    return results


def placed(issue: Issue, where: str, type: str) -> Issue:
    """An issue about a resource, as an issue about the entry that carries it."""
    path = issue.expression or ""
    if path.startswith("Bundle.entry"):
        return issue
    head, dot, rest = path.partition(".")
    inside = dot + rest if head in (type, "Parameters", "Binary") else ""
    expression = f"{where}.resource{inside}" if path else where
    return Issue(issue.code, issue.diagnostics, expression, issue.rule, issue.severity)


async def read_entry(
    gateway: Gateway, actor: Actor, request: Request, *, base: str, lenient: bool = False
) -> Outcome | bytes:
    """What an entry with GET asks for: a resource, or a Bundle as JSON.

    Its answer is a part of ours, so no entry has a format of its own.
    """
    type, id, rest = request.type, request.id, request.rest
    query = [pair for pair in pairs_of(request.query) if pair[0] not in ("_format", "_pretty")]
    if (type, id) == ("_history", ""):
        return await history_system(gateway, actor, base=base, pairs=query, lenient=lenient)
    if id == "_history" and not rest:
        return await history_type(
            gateway, actor, type=type, base=base, pairs=query, lenient=lenient
        )
    if not id:
        return await search_type(gateway, actor, type=type, pairs=query, base=base, lenient=lenient)
    if len(rest) == 1 and rest[0][:1].isalpha():
        return await search_compartment(
            gateway, actor, compartment=type, owner=id, type=rest[0], pairs=query, base=base,
            lenient=lenient,
        )  # fmt: skip
    if rest == ("_history",):
        return await history(
            gateway, actor, type=type, id=id, base=base, pairs=query, lenient=lenient
        )
    if not rest:
        stored = await read(gateway, actor, type=type, id=id, pairs=query)
    elif len(rest) == 2 and rest[0] == "_history":
        stored = await vread(gateway, actor, type=type, id=id, version=rest[1], pairs=query)
    else:
        raise NotSupported("Entries with GET read or search one type", rule="entry-url")
    return _seen(request, stored)


def _seen(request: Request, stored: Stored) -> Outcome:
    """What was read, or that the caller has it."""
    entry = request.entry
    known = is_known(
        stored.version,
        stored.updated,
        if_none_match=entry.if_none_match,
        if_modified_since=entry.if_modified_since,
    )
    return found(stored, "known" if known else "found")


_STATUS = {
    "created": "201 Created",
    "updated": "200 OK",
    "unchanged": "200 OK",
    "existing": "200 OK",
    "found": "200 OK",
    "known": "304 Not Modified",
    "deleted": "204 No Content",
}


def answer_of(result: Outcome | bytes, *, returns: str = "minimal") -> bundle.Answer:
    """The entry of a response Bundle. What was read is always shown; `returns` says what of a
    write is (minimal, representation, OperationOutcome)."""
    if isinstance(result, Refused):
        return bundle.Answer(f"{result.status}", outcome=result)
    if isinstance(result, bytes):
        return bundle.Answer("200 OK", resource=result)
    read = result.kind in ("found", "known")
    gone = result.kind == "deleted"
    shown = result.kind == "found" or (returns == "representation" and not read and not gone)
    told = returns == "OperationOutcome" and not read
    place = f"{result.type}/{result.id}/_history/{result.version}"
    return bundle.Answer(
        "200 OK" if gone and told else _STATUS[result.kind],
        location=None if gone else place,
        etag=f'W/"{result.version}"' if result.version else None,
        last_modified=instant(result.updated) if result.version else None,
        resource=result.body() if shown else None,
        outcome=operation_outcome(result.issues) if told else None,
    )
