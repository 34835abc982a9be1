"""Bundles by joining ready bytes: searchset, history, batch- and transaction-response.

Resources come as the bytes that the store gives and go out unread (hl7.org/fhir/R4/bundle.html).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from fhir_gateway.fhir.wire import render

Link = tuple[str, str]  # (relation, url)


class Hit(NamedTuple):
    """One entry of a searchset. `search` are further members of entry.search, such as a score."""

    full_url: str
    resource: bytes
    mode: Literal["match", "include", "outcome"] = "match"
    search: Mapping[str, Any] = {}


class Change(NamedTuple):
    """One entry of a history; a deletion has no resource."""

    full_url: str
    resource: bytes | None
    method: Literal["POST", "PUT", "DELETE"]
    url: str
    status: str
    etag: str
    last_modified: str


class Answer(NamedTuple):
    """One entry of a batch- or transaction-response."""

    status: str
    location: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    resource: bytes | None = None
    outcome: bytes | None = None


_MODE = {mode: f',"search":{{"mode":"{mode}"}}}}'.encode() for mode in ("match", "include")}
_MODE["outcome"] = b',"search":{"mode":"outcome"}}'


def searchset(
    hits: Iterable[Hit],
    *,
    links: Sequence[Link],
    total: int | None = None,
    id: str | None = None,
    timestamp: str | None = None,
) -> bytes:
    """A searchset. `total` counts the matches of the whole search, None when it is not known."""
    entries = [
        b'{"fullUrl":%b,"resource":%b%b' % (render(hit.full_url), hit.resource, _search(hit))
        if hit.full_url
        else b'{"resource":%b%b' % (hit.resource, _search(hit))
        for hit in hits
    ]
    return _bundle("searchset", entries, links=links, total=total, id=id, timestamp=timestamp)


def _search(hit: Hit) -> bytes:
    if not hit.search:
        return _MODE[hit.mode]
    return b',"search":%b}' % render({**hit.search, "mode": hit.mode})


def history(
    changes: Iterable[Change],
    *,
    links: Sequence[Link],
    total: int | None = None,
    id: str | None = None,
    timestamp: str | None = None,
) -> bytes:
    """A history, newest change first."""
    entries = [_change(change) for change in changes]
    return _bundle("history", entries, links=links, total=total, id=id, timestamp=timestamp)


def response(
    type: Literal["batch-response", "transaction-response"],
    answers: Iterable[Answer],
    *,
    id: str | None = None,
    timestamp: str | None = None,
) -> bytes:
    """The answers of a batch or a transaction, in the order of its entries."""
    return _bundle(type, [_answer(answer) for answer in answers], id=id, timestamp=timestamp)


def _change(change: Change) -> bytes:
    body = b"" if change.resource is None else b'"resource":%b,' % change.resource
    request = render({"method": change.method, "url": change.url})
    answer = render(
        {"status": change.status, "etag": change.etag, "lastModified": change.last_modified}
    )
    return b'{"fullUrl":%b,%b"request":%b,"response":%b}' % (
        render(change.full_url),
        body,
        request,
        answer,
    )


def _answer(answer: Answer) -> bytes:
    members = {
        "status": answer.status,
        "location": answer.location,
        "etag": answer.etag,
        "lastModified": answer.last_modified,
    }
    line = render({name: value for name, value in members.items() if value is not None})
    if answer.outcome is not None:
        line = line[:-1] + b',"outcome":%b}' % answer.outcome
    if answer.resource is None:
        return b'{"response":%b}' % line
    return b'{"resource":%b,"response":%b}' % (answer.resource, line)


def _bundle(
    type: str,
    entries: Sequence[bytes],
    *,
    links: Sequence[Link] = (),
    total: int | None = None,
    id: str | None = None,
    timestamp: str | None = None,
) -> bytes:
    head = [b'{"resourceType":"Bundle"']
    if id is not None:
        head.append(b'"id":' + render(id))
    head.append(b'"type":' + render(type))
    if timestamp is not None:
        head.append(b'"timestamp":' + render(timestamp))
    if total is not None:
        head.append(b'"total":%d' % total)
    if links:
        head.append(
            b'"link":' + render([{"relation": relation, "url": url} for relation, url in links])
        )
    if entries:
        head.append(b'"entry":[' + b",".join(entries) + b"]")
    return b",".join(head) + b"}"
