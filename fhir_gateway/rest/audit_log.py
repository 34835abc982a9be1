"""GET /audit-log/…: the audit log for auditors and witnesses (C2SP tlog-tiles and tlog-checkpoint;
RFC 9162 proofs as JSON).

Heads, tiles and proofs are hashes, which a nonce in every record keeps from telling anything; who
may ask for them, and who for the records themselves, stands in the table of rights under `door`.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, NotFound
from fhir_gateway.interactions.audit import disclose_read
from fhir_gateway.interactions.authenticate import authenticate
from fhir_gateway.interactions.permits import permit_door
from fhir_gateway.interactions.quota import spend
from fhir_gateway.security.actor import Actor
from fhir_gateway.store import log
from fhir_gateway.transparency import proofs
from fhir_gateway.transparency.entries import told_entry
from fhir_gateway.transparency.watermark import watermark

PATH = "/audit-log"

#: Heads of one page.
PAGE = 1_000

#: A tile never changes where it is filled.
_FOR_EVER = {"cache-control": "private, max-age=31536000, immutable"}
_NOT_KEPT = {"cache-control": "no-store"}

#: tlog-tiles: x001/x234/067 and for a partial tile .p/17.
_TILE = re.compile(r"(?P<level>[0-9]|[1-5][0-9]|6[0-3])/(?P<path>(?:x[0-9]{3}/){0,5}[0-9]{3})"
                   r"(?:\.p/(?P<width>[1-9][0-9]{0,2}))?")  # fmt: skip

_Page = Callable[[Gateway, Request, Actor], Awaitable[Response]]


def audit_log_routes(gateway: Gateway) -> list[BaseRoute]:
    """The routes of this door."""
    pages: dict[str, tuple[str, _Page]] = {
        "": ("audit-heads", _status),
        "/checkpoint": ("audit-heads", _checkpoint),
        "/heads": ("audit-heads", _heads),
        "/statements": ("audit-heads", _statements),
        "/tile/{rest:path}": ("audit-heads", _tile),
        "/proof/inclusion": ("audit-proofs", _inclusion),
        "/proof/consistency": ("audit-proofs", _consistency),
        "/entry": ("audit-entries", _entry),
    }
    return [
        Route(PATH + path, _guarded(gateway, door, path, page), methods=["GET"])
        for path, (door, page) in pages.items()
    ]


def _guarded(
    gateway: Gateway, door: str, path: str, page: _Page
) -> Callable[[Request], Awaitable[Response]]:
    """The page for callers whose role may come by this door."""

    async def answer(request: Request) -> Response:
        request.scope["template"] = PATH + path
        actor = await authenticate(gateway, request.headers)
        request.scope["actor"] = actor.name
        await permit_door(gateway, actor, door)
        spend(gateway, actor, "read")
        return await page(gateway, request, actor)

    return answer


async def _status(gateway: Gateway, request: Request, actor: Actor) -> Response:
    mark = await watermark(gateway.store, gateway.clock)
    turns = await log.turns(gateway.store)
    return _json({
        "size": mark.size,
        "signed": mark.signed,
        "heard": mark.heard,
        "waiting": mark.waiting,
        "behindSeconds": mark.behind,
        "silentSeconds": mark.silent,
        "late": mark.late,
        "alarm": mark.alarm,
        "statements": len(turns),
        "checkpoint": f"{PATH}/checkpoint",
    })  # fmt: skip


async def _checkpoint(gateway: Gateway, request: Request, actor: Actor) -> Response:
    head = await proofs.head_at(gateway.store, _number(request, "size"))
    return Response(
        head.note + head.beat, media_type="text/plain; charset=utf-8", headers=_NOT_KEPT
    )


async def _heads(gateway: Gateway, request: Request, actor: Actor) -> Response:
    after = _number(request, "after") or 0
    limit = min(_number(request, "limit") or PAGE, PAGE)
    found = await log.heads(gateway.store, after=after, limit=limit)
    return _json([
        {"size": head.size, "signed": head.signed, "note": head.note, "beat": head.beat}
        for head in found
    ])  # fmt: skip


async def _statements(gateway: Gateway, request: Request, actor: Actor) -> Response:
    return _json([turn._asdict() for turn in await log.turns(gateway.store)])


async def _tile(gateway: Gateway, request: Request, actor: Actor) -> Response:
    matched = _TILE.fullmatch(request.path_params["rest"])
    if matched is None:
        raise NotFound("A tile is asked for as tile/LEVEL/x001/234 or …/234.p/WIDTH",
                       rule="log-tile")  # fmt: skip
    number = int(matched["path"].replace("x", "").replace("/", ""))
    width = int(matched["width"] or 256)
    found = await log.tile(gateway.store, int(matched["level"]), number)
    if found is None or not 0 < width * 32 <= len(found.hashes):
        raise NotFound("The log has no such tile, or it is not filled so far", rule="log-tile")
    return Response(
        found.hashes[: width * 32], media_type="application/octet-stream", headers=_FOR_EVER
    )


async def _inclusion(gateway: Gateway, request: Request, actor: Actor) -> Response:
    size, index = _number(request, "size"), _number(request, "index")
    event = request.query_params.get("event")
    if (event is None) == (index is None):
        raise Invalid("Name an entry by event=ID or by index=NUMBER", rule="log-entry")
    if event is not None:
        proven = await proofs.prove_entry(
            gateway.store, await proofs.row_of(gateway.store, event), size
        )
    else:
        proven = await proofs.prove(gateway.store, index or 0, size)
    return _json({
        "index": proven.number,
        "size": proven.size,
        "leaf": _coded(proven.leaf),
        "root": _coded(proven.root),
        "path": list(map(_coded, proven.path)),
    })  # fmt: skip


async def _consistency(gateway: Gateway, request: Request, actor: Actor) -> Response:
    first = _number(request, "first")
    if first is None:
        raise Invalid("Say from which size: first=NUMBER", expression="first", rule="log-size")
    extended = await proofs.extend(gateway.store, first, _number(request, "second"))
    return _json({
        "first": extended.first,
        "firstRoot": _coded(extended.first_root),
        "second": extended.second,
        "secondRoot": _coded(extended.second_root),
        "path": list(map(_coded, extended.path)),
    })  # fmt: skip


async def _entry(gateway: Gateway, request: Request, actor: Actor) -> Response:
    """The whole entry behind a leaf, so that its reader can hash it; on record like any read."""
    event = request.query_params.get("event")
    if event is None:
        raise Invalid("Name the entry by event=ID", expression="event", rule="log-entry")
    row = await proofs.row_of(gateway.store, event)
    type, _, id = event.rpartition("/")
    async with gateway.store.snapshot(actor.access) as reader:
        stored = await reader.read(type or "AuditEvent", id)
    if stored is None:
        raise NotFound("There is no such record in the journal", rule="log-entry")
    await disclose_read(gateway, actor, stored, interaction="read", version=stored.version)
    return _json(told_entry(row))


def _number(request: Request, name: str) -> int | None:
    """A number of the query. Raises Invalid for what is none."""
    text = request.query_params.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise Invalid(f"{name} must be a whole number", expression=name, rule="log-number")
    return int(text)


def _coded(value: bytes) -> str:
    return b64encode(value).decode()


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json", headers=_NOT_KEPT)
