"""Index rows of resources that are much alike: what is the same each time is worked out once.

An AuditEvent names agent, source and kind in the same words for thousands of requests, and one of
a Bundle names hundreds of resources with the same codings. The rows are the same as those of
search.index; only the work is less. Made for the journal, whose rows are written in the background
of a server that has something better to do.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fhir_gateway.search.index import Extractor, IndexRows

#: Members of an AuditEvent that differ each time, or that the index does not read.
_FRESH = frozenset({"id", "meta", "recorded", "period", "outcomeDesc", "text", "entity"})

#: Constant parts that are remembered; a few for each caller.
_MOST = 4_096

_encode = msgspec.json.Encoder().encode


class Recurring:
    """An extractor for resources of any type that knows AuditEvents when it sees them."""

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor
        self._known: dict[bytes, IndexRows] = {}

    def rows(self, type: str, resource: dict[str, Any]) -> IndexRows:
        """All rows of a valid resource."""
        if type != "AuditEvent":
            return self._extractor.rows(type, resource)
        same: dict[str, Any] = {}
        fresh: dict[str, Any] = {}
        for member, value in resource.items():
            (fresh if member in _FRESH else same)[member] = value
        key = _encode(same)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _MOST:
                self._known.clear()
            known = self._known[key] = self._extractor.rows(type, same)
        if "entity" in fresh:
            fresh["entity"] = _thinned(fresh["entity"])
        return _united(known, self._extractor.rows(type, fresh))


def _thinned(entities: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entities, each coding once: what an entity says beside `what` is the same for most."""
    if len(entities) < 3:
        return entities
    seen: set[bytes] = set()
    thinned = []
    for entity in entities:
        rest = {member: value for member, value in entity.items() if member != "what"}
        key = _encode(rest)
        if key not in seen:
            seen.add(key)
            thinned.append(entity)
        elif "what" in entity:
            thinned.append({"what": entity["what"]})
    return thinned


def _united(one: IndexRows, other: IndexRows) -> IndexRows:
    return IndexRows(
        list(dict.fromkeys(one.ints + other.ints)),
        list(dict.fromkeys(one.texts + other.texts)),
        list(dict.fromkeys(one.global_ints + other.global_ints)),
        list(dict.fromkeys(one.global_texts + other.global_texts)),
    )
