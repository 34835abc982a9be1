"""Entries of a batch or transaction: their request line, their write, their read, their answer.

hl7.org/fhir/R4/bundle.html#transaction: `request.url` is relative to the base.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar
from urllib.parse import unquote

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Invalid, Issue, NotSupported
from fhir_gateway.fhir import bundle
from fhir_gateway.fhir.envelope import BundleEntry
from fhir_gateway.fhir.validate import read_resource
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.conditional import condition_of, pairs_of
from fhir_gateway.interactions.history import history
from fhir_gateway.interactions.outcome import Outcome, Refused, found
from fhir_gateway.interactions.pace import unhurried
from fhir_gateway.interactions.read import read, vread
from fhir_gateway.interactions.search_type import search_type
from fhir_gateway.interactions.steps import Step
from fhir_gateway.interactions.types import check_id, check_may_write, check_type
from fhir_gateway.security.actor import Actor

T = TypeVar("T")
U = TypeVar("U")

METHODS = ("DELETE", "POST", "PUT", "GET")
_OPS = {"DELETE": "delete", "POST": "create", "PUT": "update"}


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
    segments = [unquote(segment) for segment in path.removeprefix("/").split("/")]
    type, id, rest = segments[0], "".join(segments[1:2]), tuple(segments[2:])
    if ":" in path or not type or (entry.method != "GET" and rest):
        raise Invalid(
            "The URL of an entry is relative to the base: Type, Type/id or Type?identifier=…",
            expression=f"{where}.request.url",
            rule="entry-url",
        )
    if entry.method == "POST" and (id or query):
        raise Invalid("POST is to a type", expression=f"{where}.request.url", rule="entry-url")
    if entry.method == "DELETE" and query:
        raise NotSupported(
            "Conditional delete is not offered",
            expression=f"{where}.request.url",
            rule="conditional-delete",
        )
    return Request(entry.method, type, id, rest, query, entry)


def step_of(actor: Actor, gateway: Gateway, request: Request, where: str) -> Step:
    """The write of an entry, its resource valid. Raises what is wrong with it."""
    op, type, entry = _OPS[request.method], request.type, request.entry
    check_type(type, op)
    check_may_write(actor, type)
    step = Step(op, type, request.id, root=f"{where}.resource", full_url=entry.full_url)
    step.if_match = version_of(entry.if_match)
    step.absent = op == "update" and entry.if_none_match == "*"
    if op != "delete":
        _read_body(step, request)
    if op == "create":
        if entry.if_none_exist is not None:
            step.condition = condition_of(gateway, type, entry.if_none_exist)
    elif op == "update" and request.query and not request.id:
        step.condition = condition_of(gateway, type, request.query)
    else:
        check_id(request.id)
    return step


def _read_body(step: Step, request: Request) -> None:
    raw = request.entry.resource_raw
    if raw is None:
        raise Invalid("This entry needs a resource", expression=step.root, rule="entry-resource")
    resource = step.resource = read_resource(raw, type=step.type)
    step.raw = raw
    claimed = resource.get("id")
    if step.op == "update" and request.id and claimed != request.id:
        raise Invalid(
            "The id in the body must be the id in the URL", expression=f"{step.type}.id", rule="id"
        )
    if step.op == "update" and not request.id:
        step.body_id = claimed


def version_of(etag: str | None) -> int | None:
    """The version that an ETag such as W/"3" names; 0, which none has, for any other text."""
    if etag is None:
        return None
    text = etag.strip().removeprefix("W/").strip('"')
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


async def every(function: Callable[[T], U], values: Iterable[tuple[str, str, T]]) -> list[U]:
    """The function's results; raises all refusals at once, each placed at its entry.

    `values` are (FHIRPath of the entry, resource type, argument).
    """
    results: list[U] = []
    refusals: list[tuple[GatewayError, list[Issue]]] = []
    async for where, type, value in unhurried(values):
        try:
            results.append(function(value))
        except GatewayError as error:
            refusals.append((error, [placed(issue, where, type) for issue in error.issues]))
    if refusals:
        kind = refusals[0][0].__class__
        raise kind(issues=tuple(issue for _, issues in refusals for issue in issues))
    return results


def placed(issue: Issue, where: str, type: str) -> Issue:
    """An issue about a resource, as an issue about the entry that carries it."""
    path = issue.expression or ""
    if path.startswith("Bundle.entry"):
        return issue
    inside = path.removeprefix(type) if path == type or path.startswith((f"{type}.",)) else ""
    expression = f"{where}.resource{inside}" if path else where
    return Issue(issue.code, issue.diagnostics, expression, issue.rule, issue.severity)


async def read_entry(
    gateway: Gateway, actor: Actor, request: Request, *, base: str, lenient: bool = False
) -> Outcome | bytes:
    """What an entry with GET asks for: a resource, or a Bundle as JSON."""
    type, id, rest = request.type, request.id, request.rest
    if not id:
        pairs = pairs_of(request.query)
        return await search_type(gateway, actor, type=type, pairs=pairs, base=base, lenient=lenient)
    if not rest:
        return found(await read(gateway, actor, type=type, id=id))
    if rest == ("_history",):
        return await history(gateway, actor, type=type, id=id, base=base)
    if len(rest) == 2 and rest[0] == "_history":
        return found(await vread(gateway, actor, type=type, id=id, version=rest[1]))
    raise NotSupported("Entries with GET read or search one type", rule="entry-url")


_STATUS = {
    "created": "201 Created",
    "updated": "200 OK",
    "unchanged": "200 OK",
    "existing": "200 OK",
    "found": "200 OK",
    "deleted": "204 No Content",
}


def answer_of(result: Outcome | bytes, *, representation: bool = False) -> bundle.Answer:
    """The entry of a response Bundle. What was read is always shown, what was written if asked."""
    if isinstance(result, Refused):
        return bundle.Answer(f"{result.status}", outcome=result)
    if isinstance(result, bytes):
        return bundle.Answer("200 OK", resource=result)
    shown = result.kind == "found" or (representation and result.kind != "deleted")
    place = f"{result.type}/{result.id}/_history/{result.version}"
    return bundle.Answer(
        _STATUS[result.kind],
        location=None if result.kind == "deleted" else place,
        etag=f'W/"{result.version}"',
        last_modified=instant(result.updated),
        resource=result.body() if shown else None,
    )
