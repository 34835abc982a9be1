"""What a history is asked for, and the links of its pages (http.html#history, #paging).

A cursor is the place of the last entry in the order of commits, sealed as that of a search is
(search.page): stateless, bound to the address, the parameters and the caller, and no credential.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, NotSupported
from fhir_gateway.fhir.bundle import Link
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.interactions.paging import holder_of
from fhir_gateway.search.page import opened, sealed
from fhir_gateway.search.params import parse_name, shown
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.store import Change

CURSOR = "_cursor"
DEFAULT_COUNT = 50

_PERSON = b"history-cursor"

#: What FHIR has, or might be thought to have, and is not offered here.
_NOT_OFFERED = {
    "_list": "search List first, then read the history of each",
    "_summary": "a history shows whole versions",
    "_elements": "a history shows whole versions",
    "_sort": "a history is told newest first",
    "_total": "the total is told where all entries stand on one page",
    "_type": "ask for the history of one type at its own address",
}


@dataclass(slots=True)
class Asked:
    """A history as it was understood. `scope` is its address below the base, without _history."""

    scope: str
    count: int
    since: int | None = None
    at: tuple[int, int] | None = None
    before: tuple[int, int, int] | None = None
    applied: tuple[tuple[str, str], ...] = ()


def read_history(
    gateway: Gateway,
    actor: Actor,
    scope: str,
    pairs: Sequence[tuple[str, str]],
    *,
    lenient: bool = False,
) -> Asked:
    """The meaning of the parameters.

    Raises Invalid for one that is unknown, given twice or no date, and for a page link that is not
    of this history and caller; NotSupported for what FHIR has and is not offered. `lenient` leaves
    out what is unknown or not offered.
    """
    settings = gateway.settings
    asked = Asked(scope, min(DEFAULT_COUNT, settings.page_limit))
    cursor, applied = None, dict[str, str]()
    for name, text in pairs:
        if name in applied or (name == CURSOR and cursor is not None):
            raise _refusal(name, "is given twice", "history-repeated")
        if name == CURSOR:
            cursor = text
        elif name in _READ:
            applied[name] = _READ[name](asked, text, settings.zone, settings.page_limit)
        elif not lenient:
            raise _not_taken(name)
    asked.applied = tuple(applied.items())
    if cursor is not None:
        asked.before = _resume(gateway, actor, asked, cursor)
    return asked


def _not_taken(name: str) -> Invalid | NotSupported:
    why = _NOT_OFFERED.get(parse_name(name).base)
    if why is None:
        return _refusal(name, "is not one of _since, _at and _count", "unknown-parameter")
    return NotSupported(
        f"Parameter {shown(name)} of history is not offered: {why}",
        expression=shown(name),
        rule="not-offered",
    )


def _refusal(name: str, what: str, rule: str) -> Invalid:
    return Invalid(f"Parameter {shown(name)} of history {what}", expression=shown(name), rule=rule)


def _count(asked: Asked, text: str, zone: str, most: int) -> str:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
        raise _refusal("_count", "must be a whole number from 1", "history-count")
    asked.count = min(int(text), most)
    return str(asked.count)


def _since(asked: Asked, text: str, zone: str, most: int) -> str:
    asked.since = _range("_since", text, zone)[0]
    return text


def _at(asked: Asked, text: str, zone: str, most: int) -> str:
    asked.at = _range("_at", text, zone)
    return text


def _range(name: str, text: str, zone: str) -> tuple[int, int]:
    try:
        return date_range(text.replace(" ", "+"), zone)  # a plus sign that was not escaped
    except Invalid:
        raise _refusal(name, "must be an instant or a date", "history-time") from None


_READ: Mapping[str, Callable[[Asked, str, str, int], str]] = {
    "_count": _count,
    "_since": _since,
    "_at": _at,
}


def links(
    gateway: Gateway, actor: Actor, asked: Asked, changes: Sequence[Change], base: str
) -> list[Link]:
    """self, and next when there are more changes than were asked for."""
    found = [("self", _link(base, asked, asked.applied))]
    if len(changes) > asked.count:
        holder = holder_of(gateway, actor)
        values = (holder.until // 1_000_000, *changes[asked.count - 1][:3])
        cursor = sealed(values, _bound(asked), holder, _PERSON)
        found.append(("next", _link(base, asked, (*asked.applied, (CURSOR, cursor)))))
    return found


def _link(base: str, asked: Asked, pairs: Sequence[tuple[str, str]]) -> str:
    scope = f"{asked.scope}/" if asked.scope else ""
    query = "&".join(f"{name}={quote(text, safe=':')}" for name, text in pairs)
    return f"{base}/{scope}_history?{query}" if query else f"{base}/{scope}_history"


def _resume(gateway: Gateway, actor: Actor, asked: Asked, cursor: str) -> tuple[int, int, int]:
    holder = holder_of(gateway, actor)
    t, n, i = opened(cursor, _bound(asked), holder, _PERSON, length=3)
    return int(t), int(n), int(i)


def _bound(asked: Asked) -> bytes:
    return msgspec.msgpack.encode((asked.scope, asked.applied))
