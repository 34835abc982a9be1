"""Asynchronous answers over HTTP: 202 and an address to ask at, then the result.

Bulk Data Access 2.0 for $export (hl7.org/fhir/uv/bulkdata/STU2/export.html). Every other GET that
says Prefer: respond-async is answered by a Bundle of type batch-response with one entry, as
R5 spells out what R4 leaves open (hl7.org/fhir/R5/async-bundle.html, docs/divergences.md).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Internal, Invalid, NotFound
from fhir_gateway.interactions import asynchronous
from fhir_gateway.interactions.asynchronous import EXPORT, REQUEST
from fhir_gateway.interactions.export import start_export
from fhir_gateway.interactions.export_files import File, folder_of, packed, path_of, unpacked
from fhir_gateway.interactions.export_job import manifest, state_of
from fhir_gateway.interactions.export_ledger import hand_out
from fhir_gateway.interactions.operation_definitions import Call
from fhir_gateway.interactions.permitted import check_answer, is_looked_at_again, permitted_lines
from fhir_gateway.rest.errors import refusal
from fhir_gateway.rest.exchange import Answer, Exchange
from fhir_gateway.rest.negotiation import http_date, prefer
from fhir_gateway.security.actor import Actor
from fhir_gateway.security.origin import FHIR_PATH
from fhir_gateway.store.jobs import Job

#: Seconds after which a client should ask again: a part of what the work took so far.
_SOONEST, _LATEST, _PART = 1, 60, 10

_NDJSON = "application/fhir+ndjson"
_NEVER = re.compile(r"0(\.0{0,3})?")  # a weight that says no


class Wanted(msgspec.Struct, frozen=True):
    """A GET to be carried out later: its path below the base and the headers that shape it."""

    path: str
    pairs: tuple[tuple[str, str], ...]
    accept: str = ""
    prefer: str = ""


async def export(gateway: Gateway, actor: Actor, call: Call) -> Answer:
    """GET or POST [Patient | Group/id]/$export"""
    if not _is_asynchronous(call.prefer):
        raise Invalid("$export needs the header Prefer: respond-async", rule="respond-async")
    return _accepted(call.base, await start_export(gateway, actor, call))


async def later(gateway: Gateway, exchange: Exchange) -> Answer:
    """Any GET that says Prefer: respond-async."""
    wanted = Wanted(
        path=below(exchange),
        pairs=tuple(exchange.pairs),
        accept=exchange.content_type,
        prefer="handling=lenient" if prefer(exchange.headers.get("prefer")).lenient else "",
    )
    query = f"?{urlencode(exchange.pairs)}" if exchange.pairs else ""
    job = await asynchronous.start(
        gateway,
        exchange.actor,
        kind=REQUEST,
        path=f"{below(exchange)}{query}",
        base=exchange.base,
        wanted=wanted,
    )
    return _accepted(exchange.base, job)


def below(exchange: Exchange) -> str:
    """The path of a request below the FHIR base."""
    return str(exchange.scope["path"][len(FHIR_PATH) :].strip("/"))


def _accepted(base: str, job: Job) -> Answer:
    place = f"{base}/_async/{job.id}".encode("latin-1")
    return Answer(
        202, b"", ((b"content-location", place), (b"preference-applied", b"respond-async"))
    )


async def show_job(gateway: Gateway, exchange: Exchange) -> Answer:
    """GET _async/job: how far it is, or what came out."""
    exchange.refuse_parameters()
    job = await asynchronous.look(gateway, exchange.actor, job=exchange.job)
    if job.state == "failed":
        return refusal(asynchronous.failure_of(job))
    if job.state != "done":
        return Answer(202, b"", _waiting(gateway, job))
    expires = ((b"expires", http_date(job.expires // 1_000_000).encode()),)
    if job.kind == EXPORT:
        exchange.content_type = "application/json"
        return Answer(200, manifest(job, base=exchange.base), expires)
    (file,) = state_of(job).files
    return await _file(gateway, exchange, job, file, expires)


def _waiting(gateway: Gateway, job: Job) -> tuple[tuple[bytes, bytes], ...]:
    progress = job.progress or ("waiting" if job.state == "waiting" else "under way")
    seconds = (gateway.clock.now() - job.created) // 1_000_000 // _PART
    again = max(_SOONEST, min(seconds, _LATEST))
    return ((b"x-progress", progress[:99].encode("latin-1")), (b"retry-after", b"%d" % again))


async def cancel_job(gateway: Gateway, exchange: Exchange) -> Answer:
    """DELETE _async/job"""
    exchange.refuse_parameters()
    await asynchronous.cancel(gateway, exchange.actor, job=exchange.job)
    return Answer(202)


async def show_file(gateway: Gateway, exchange: Exchange) -> Answer:
    """GET _async/job/file: one file of an export that is done."""
    exchange.refuse_parameters()
    job = await asynchronous.look(gateway, exchange.actor, job=exchange.job)
    files = state_of(job).files if job.state == "done" and job.kind == EXPORT else []
    file = next((one for one in files if one.name == exchange.file), None)
    if file is None:
        raise NotFound("There is no such file", rule="file")
    exchange.content_type = _NDJSON
    expires = ((b"expires", http_date(job.expires // 1_000_000).encode()),)
    return await _file(gateway, exchange, job, file, expires)


async def _file(
    gateway: Gateway,
    exchange: Exchange,
    job: Job,
    file: File,
    headers: tuple[tuple[bytes, bytes], ...],
) -> Answer:
    """A file in pieces, as it is packed where the client takes that; audited before the first."""
    path = path_of(folder_of(gateway.settings, job.id), file.name)
    if not path.is_file():
        raise Internal("A file of a job is gone")
    actor, again = exchange.actor, is_looked_at_again(exchange.actor)
    if again and job.kind == REQUEST:
        await check_answer(gateway, actor, unpacked(path))
    what = [("type", file.type), ("lines", str(file.count)), ("bytes", str(file.length))]
    await hand_out(gateway, actor, job=job, file=file.name, details=what)
    if again and job.kind == EXPORT:  # of a length that is not known before
        return Answer(200, headers=headers, stream=permitted_lines(gateway, actor, unpacked(path)))
    headers = (*headers, (b"vary", b"accept-encoding"))
    if _takes_gzip(exchange.headers.get("accept-encoding", "")):
        headers = (*headers, (b"content-encoding", b"gzip"), _length(file.size))
        return Answer(200, headers=headers, stream=_pieces(path, packed))
    return Answer(200, headers=(*headers, _length(file.length)), stream=_pieces(path, unpacked))


def _is_asynchronous(header: str) -> bool:
    """Whether a Prefer header asks for an answer later (RFC 7240, 4.1)."""
    parts = header.lower().replace(";", ",").split(",")
    return any(part.strip() == "respond-async" for part in parts)


def _length(size: int) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % size


def _takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding header allows gzip."""
    for choice in accepted.lower().split(","):
        name, _, weight = choice.replace(" ", "").partition(";q=")
        if name in ("gzip", "x-gzip", "*"):
            return not _NEVER.fullmatch(weight)
    return False


async def _pieces(path: Path, read: Callable[[Path], Iterator[bytes]]) -> AsyncIterator[bytes]:
    """The pieces of a file, read and unpacked in a thread that stays outside the interpreter."""
    pieces = read(path)
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece


def is_for_later(exchange: Exchange) -> bool:
    """Whether a request is one that is answered later: a GET that may be long, and says so.

    A preference is no demand (RFC 7240): what is answered at once anyway is.
    """
    if exchange.scope["method"] != "GET" or exchange.path in _AT_ONCE:
        return False
    return exchange.operation != "$export" and _is_asynchronous(exchange.headers["prefer"])


_AT_ONCE = frozenset({
    "metadata", "{type}/{id}", "{type}/{id}/_history/{version}", "_async/{job}",
    "_async/{job}/{file}",
})  # fmt: skip

#: Paths whose answers have a media type of their own, whatever the client would like.
OWN_MEDIA = frozenset({"_async/{job}", "_async/{job}/{file}"})

#: By (method, path), beside the table of interactions.
HANDLERS: dict[tuple[str, str], Callable[[Gateway, Exchange], Awaitable[Answer]]] = {
    ("GET", "_async/{job}"): show_job,
    ("DELETE", "_async/{job}"): cancel_job,
    ("GET", "_async/{job}/{file}"): show_file,
}
