"""The envelope of a Bundle, its resources left as bytes (hl7.org/fhir/R4/bundle.html).

A batch or transaction is read entry by entry, so that each resource is validated alone and one
bad entry of a batch does not spoil the others.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Raw

from fhir_gateway.errors import Issue, Unprocessable
from fhir_gateway.fhir.primitives import PRIMITIVES, anchored
from fhir_gateway.fhir.walk import MAX_ISSUES, issues
from fhir_gateway.fhir.wire import parse, render, without_bom

_REQUESTED = ("batch", "transaction")
_UNIQUE = ("transaction", "collection", "document", "message")
_NEEDS_RESOURCE = ("POST", "PUT", "PATCH")


class BundleEntry(NamedTuple):
    """One entry: what is asked for, and the resource as it came. Absent texts are None.

    `made` is the resource itself where the gateway has made it, and `resource_raw` its JSON: it is
    handed on, so nobody else may hold what a write changes of it (meta, codes).
    """

    full_url: str | None
    method: str | None
    url: str | None
    resource_raw: bytes | None
    if_match: str | None = None
    if_none_match: str | None = None
    if_none_exist: str | None = None
    if_modified_since: str | None = None
    made: dict[str, Any] | None = None


class BundleEnvelope(NamedTuple):
    """A Bundle without looking into its resources."""

    type: str
    entries: list[BundleEntry]


_Token = Annotated[str, Meta(pattern=anchored(r"\S+"))]
_Texts = Annotated[str, Meta(min_length=1)]
_Instant = Annotated[str, Meta(pattern=anchored(PRIMITIVES["instant"].pattern))]


class _Request(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Bundle.entry.request."""

    method: Literal["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"]
    url: _Token
    ifNoneMatch: _Texts | None = None
    ifModifiedSince: _Instant | None = None
    ifMatch: _Texts | None = None
    ifNoneExist: _Texts | None = None


_NO_RESOURCE = Raw()


class _Entry(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Bundle.entry of a batch or transaction."""

    fullUrl: _Token | None = None
    resource: Raw = _NO_RESOURCE
    request: _Request | None = None


class _Bundle(
    msgspec.Struct,
    forbid_unknown_fields=True,
    omit_defaults=True,
    gc=False,
    tag_field="resourceType",
    tag="Bundle",
):
    """What senders of batches and transactions use of Bundle; anything more takes the slow way."""

    type: Literal["batch", "transaction", "collection", "document", "message"]
    id: Annotated[str, Meta(pattern=anchored(PRIMITIVES["id"].pattern))] | None = None
    timestamp: _Instant | None = None
    entry: Annotated[list[_Entry], Meta(min_length=1)] | None = None


_decoder = msgspec.json.Decoder(_Bundle)


def read_bundle(raw: bytes) -> BundleEnvelope:
    """The envelope of a Bundle; its resources are not judged.

    Raises Structure when the body is not clean JSON, else Unprocessable with every issue of the
    envelope: a request that is missing, a method that HTTP does not have, a fullUrl twice.
    """
    body = without_bom(raw)
    envelope = _fast(body) or _slow(body)
    found = _issues(envelope)
    if found:
        raise Unprocessable(issues=tuple(found[:MAX_ISSUES]))
    return envelope


def _fast(body: bytes) -> BundleEnvelope | None:
    """The envelope by Structs; None when they do not accept it or a member would be lost."""
    try:
        minified = msgspec.json.format(body, indent=-1)
        bundle = _decoder.decode(minified)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if len(msgspec.json.encode(bundle)) != len(minified):
        return None
    return BundleEnvelope(bundle.type, [_entry(entry) for entry in bundle.entry or ()])


def _entry(entry: _Entry) -> BundleEntry:
    raw = None if entry.resource is _NO_RESOURCE else bytes(entry.resource)
    request = entry.request
    if request is None:
        return BundleEntry(entry.fullUrl, None, None, raw)
    return BundleEntry(
        entry.fullUrl,
        request.method,
        request.url,
        raw,
        request.ifMatch,
        request.ifNoneMatch,
        request.ifNoneExist,
        request.ifModifiedSince,
    )


def _slow(body: bytes) -> BundleEnvelope:
    """The envelope by the walker, which lists all issues and knows every element of Bundle."""
    bundle = parse(body)
    entries = bundle.get("entry")
    entries = entries if isinstance(entries, list) else []
    resources = [e.pop("resource", None) if isinstance(e, dict) else None for e in entries]
    bare = [{"fullUrl": "urn:bare"} if entry == {} else entry for entry in entries]
    found = issues({**bundle, "entry": bare} if entries else bundle, type="Bundle")
    if found:
        raise Unprocessable(issues=tuple(found))
    return BundleEnvelope(
        bundle["type"],
        [
            _from_dict(entry, None if resource is None else render(resource))
            for entry, resource in zip(entries, resources, strict=True)
        ],
    )


def _from_dict(entry: dict[str, Any], raw: bytes | None) -> BundleEntry:
    request = entry.get("request", {})
    return BundleEntry(
        entry.get("fullUrl"),
        request.get("method"),
        request.get("url"),
        raw,
        request.get("ifMatch"),
        request.get("ifNoneMatch"),
        request.get("ifNoneExist"),
        request.get("ifModifiedSince"),
    )


def _issues(envelope: BundleEnvelope) -> list[Issue]:
    """What a Bundle of its type must have (bdl-3, bdl-7 and the table of http.html#transaction)."""
    found: list[Issue] = []
    seen: set[str] = set()
    for place, entry in enumerate(envelope.entries):
        path = f"Bundle.entry[{place}]"
        if envelope.type in _REQUESTED and entry.method is None:
            found.append(_issue(path + ".request", "required", "bdl-3", "is missing"))
        if entry.method in _NEEDS_RESOURCE and not entry.resource_raw and _is_plain(entry.url):
            found.append(_issue(path + ".resource", "required", "cardinality", "is missing"))
        if entry.full_url and envelope.type in _UNIQUE:
            if entry.full_url in seen:
                found.append(_issue(path + ".fullUrl", "invariant", "bdl-7", "stands twice"))
            seen.add(entry.full_url)
    return found


def _is_plain(url: str | None) -> bool:
    """False for an operation or a search, which may come without a resource."""
    return url is not None and "$" not in url and "_search" not in url


def _issue(path: str, code: str, rule: str, says: str) -> Issue:
    return Issue(code, f"{path} {says}", path, rule)
