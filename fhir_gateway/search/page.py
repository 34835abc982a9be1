"""Paging: links that say what was applied, and cursors that need no memory of the server.

A cursor is the time until which it is good, the keyset values of the last match, and a MAC over
them, the type, the applied parameters, what the value sets and codes among them stood for, and the
caller with all that it may see: a value set that changes between two pages would leave results out
that nobody misses, and whoever may see less by now begins again. It is no credential: every page
is authorised anew. Its values are enciphered and padded, with the MAC as their nonce (SIV): the
number of a resource tells how many were stored before it, whoever may see them. Implements
hl7.org/fhir/R4/http.html#paging.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from hmac import compare_digest
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from fhir_gateway.errors import Expired, Invalid
from fhir_gateway.search.plan import SearchPlan
from fhir_gateway.search.results import CURSOR

_MAC = 16
_PLAIN = re.compile(r"[A-Za-z0-9_.\-~:/,]*").fullmatch
_SAFE = ":/,"  # characters of a query that stay readable (RFC 3986, 3.4)

_SECOND = 1_000_000
_BLOCK = 48  # most cursors have one length

_after = msgspec.msgpack.Decoder(tuple[int | str, ...])


class Holder(NamedTuple):
    """Whom a page link is for: the store's secret, the caller with all that it may see as one
    text, the time, and until when a link that is made now is good (µs; 0: without end)."""

    secret: bytes
    caller: str
    now: int = 0
    until: int = 0


def self_link(base_url: str, plan: SearchPlan) -> str:
    """The search as it was understood."""
    return _link(base_url, plan, plan.applied)


def next_link(base_url: str, plan: SearchPlan, after: tuple[int | str, ...], holder: Holder) -> str:
    """The same search from where this page ended."""
    cursor = encode_cursor(plan, after, holder)
    return _link(base_url, plan, (*plan.applied, (CURSOR, cursor)))


def _link(base_url: str, plan: SearchPlan, pairs: tuple[tuple[str, str], ...]) -> str:
    owner = "/".join(plan.compartment) + "/" if plan.compartment else ""
    address = f"{base_url}/{owner}{plan.type}"
    if not pairs:
        return address
    query = "&".join([f"{_quoted(name)}={_quoted(value)}" for name, value in pairs])
    return f"{address}?{query}"


def _quoted(text: str) -> str:
    """Percent-encoded; most names and values are plain and need no work."""
    return text if _PLAIN(text) else quote(text, safe=_SAFE)


def encode_cursor(plan: SearchPlan, after: tuple[int | str, ...], holder: Holder) -> str:
    """Where the page ended, bound to the query and the caller."""
    return sealed((holder.until // _SECOND, *after), _bound(plan), holder, _PERSON)


def resume(plan: SearchPlan, holder: Holder) -> SearchPlan:
    """The plan with its cursor read into `after`; as it is when it has none.

    Raises Invalid for a cursor that was edited, or made for another query or caller, and Expired
    for one that is too old.
    """
    if plan.cursor is None:
        return plan
    after = opened(plan.cursor, _bound(plan), holder, _PERSON, length=len(plan.sort) + 1)
    return msgspec.structs.replace(plan, after=after)


def begin_cursor(plan: SearchPlan, holder: Holder) -> str:
    """A cursor to before the first match of a search that goes on from another one's end."""
    return sealed((holder.until // _SECOND,), _bound(plan), holder, _BEGINNING)


def check_beginning(plan: SearchPlan, cursor: str, holder: Holder) -> None:
    """Raises Invalid and Expired, as `resume`, for another cursor than `begin_cursor` makes."""
    opened(cursor, _bound(plan), holder, _BEGINNING, length=0)


def _bound(plan: SearchPlan) -> bytes:
    where = (plan.type, *(plan.compartment or ()))
    return msgspec.msgpack.encode((where, plan.applied, plan.meant))


# -- the seal, for every kind of page link ---------------------------------------------------

_PERSON, _BEGINNING = b"search-cursor", b"search-begin"


def sealed(values: tuple[int | str, ...], bound: bytes, holder: Holder, person: bytes) -> str:
    """Values with a MAC over them, what they are bound to, and their holder. The first of them is
    the second until which they are good."""
    raw = msgspec.msgpack.encode(values)
    raw = len(raw).to_bytes(4, "big") + raw
    raw += bytes(-len(raw) % _BLOCK)
    mac = _mac(raw, bound, holder, person)
    return urlsafe_b64encode(mac + _enciphered(raw, mac, holder)).rstrip(b"=").decode()


def opened(
    cursor: str, bound: bytes, holder: Holder, person: bytes, *, length: int
) -> tuple[int | str, ...]:
    """The values of a seal without the first. Raises Invalid and Expired, see `resume`."""
    try:
        text = cursor.encode("ascii")
        raw = urlsafe_b64decode(text + b"=" * (-len(text) % 4))
        mac, values = raw[:_MAC], _enciphered(raw[_MAC:], raw[:_MAC], holder)
        if not compare_digest(mac, _mac(values, bound, holder, person)):
            raise ValueError("mac")
        until, *after = _after.decode(values[4 : 4 + int.from_bytes(values[:4], "big")])
        if urlsafe_b64encode(raw).rstrip(b"=") != text or len(after) != length:
            raise ValueError("spelling")
    except (ValueError, msgspec.DecodeError):
        raise not_of_this() from None
    if until and holder.now > int(until) * _SECOND:
        raise Expired(
            "This page link is too old; start from the first page, or from _lastUpdated of the "
            "last resource that was read",
            expression=CURSOR,
            rule="cursor-expired",
        )
    return tuple(after)


def _enciphered(values: bytes, mac: bytes, holder: Holder) -> bytes:
    """Values against a stream of their own; twice gives them back."""
    stream = b"".join(
        blake2b(mac + block.to_bytes(4, "big"), key=holder.secret, person=b"cursor-stream").digest()
        for block in range(len(values) // 64 + 1)
    )
    return bytes(one ^ other for one, other in zip(values, stream, strict=False))


def not_of_this() -> Invalid:
    """The refusal of every page link that is not good here, whatever the reason."""
    return Invalid(
        "This page link is not of this question and this caller, or what the caller may see or a "
        "value set that it names has changed since; start from the first page",
        expression=CURSOR,
        rule="cursor",
    )


def _mac(values: bytes, bound: bytes, holder: Holder, person: bytes) -> bytes:
    whole = msgspec.msgpack.encode((bound, holder.caller, values))
    return blake2b(whole, digest_size=_MAC, key=holder.secret, person=person).digest()
