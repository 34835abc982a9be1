"""Paging: links that say what was applied, and cursors that need no memory of the server.

A cursor is the keyset values of the last match and a MAC over them, the type, the applied
parameters, what the value sets and codes among them stood for, and the caller's name: a value set
that changes between two pages would leave results out that nobody misses. It is no credential:
every page is authorised anew. It stays good as long as the store keeps its index key.
Implements hl7.org/fhir/R4/http.html#paging.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from hmac import compare_digest
from urllib.parse import quote

import msgspec

from fhir_gateway.errors import Invalid
from fhir_gateway.search.plan import SearchPlan
from fhir_gateway.search.results import CURSOR

_MAC = 16
_PLAIN = re.compile(r"[A-Za-z0-9_.\-~:/,]*").fullmatch
_SAFE = ":/,"  # characters of a query that stay readable (RFC 3986, 3.4)

_after = msgspec.msgpack.Decoder(tuple[int | str, ...])


def self_link(base_url: str, plan: SearchPlan) -> str:
    """The search as it was understood."""
    return _link(base_url, plan, plan.applied)


def next_link(
    base_url: str, plan: SearchPlan, after: tuple[int | str, ...], *, secret: bytes, caller: str
) -> str:
    """The same search from where this page ended."""
    cursor = encode_cursor(plan, after, secret=secret, caller=caller)
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


def encode_cursor(
    plan: SearchPlan, after: tuple[int | str, ...], *, secret: bytes, caller: str
) -> str:
    """Where the page ended, bound to the query and the caller."""
    values = msgspec.msgpack.encode(after)
    mac = _mac(plan, values, secret, caller)
    return urlsafe_b64encode(mac + values).rstrip(b"=").decode()


def resume(plan: SearchPlan, *, secret: bytes, caller: str) -> SearchPlan:
    """The plan with its cursor read into `after`; as it is when it has none.

    Raises Invalid for a cursor that was edited, or made for another query or caller.
    """
    if plan.cursor is None:
        return plan
    try:
        text = plan.cursor.encode("ascii")
        raw = urlsafe_b64decode(text + b"=" * (-len(text) % 4))
        mac, values = raw[:_MAC], raw[_MAC:]
        if not compare_digest(mac, _mac(plan, values, secret, caller)):
            raise ValueError("mac")
        after = _after.decode(values)
        if urlsafe_b64encode(raw).rstrip(b"=") != text or len(after) != len(plan.sort) + 1:
            raise ValueError("spelling")
    except (ValueError, msgspec.DecodeError):
        raise Invalid(
            "This page link is not of this search and this caller, or a value set that the search "
            "names has changed since; start from the first page",
            expression=CURSOR,
            rule="cursor",
        ) from None
    return msgspec.structs.replace(plan, after=after)


def _mac(plan: SearchPlan, values: bytes, secret: bytes, caller: str) -> bytes:
    where = (plan.type, *(plan.compartment or ()))
    bound = msgspec.msgpack.encode((where, plan.applied, plan.meant, caller, values))
    return blake2b(bound, digest_size=_MAC, key=secret, person=b"search-cursor").digest()
