"""Records that were lawfully removed when their time was over: what is left of them in the log.

The row stays with its commitment, so that leaf, tree and proofs hold; the record's bytes are gone,
and an event of the gateway itself says which range of the journal was removed (accountability,
`fhir-gateway retention`). A record that is gone without such an event was removed by somebody else.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from typing import Any

from fhir_gateway.fhir.keys import type_key
from fhir_gateway.store.blobs import PURGED
from fhir_gateway.store.log import Place

#: Behind the first place, up to the second and with it.
Span = tuple[Place, Place]

AUDIT_EVENT = type_key("AuditEvent")

_TOLD = re.compile(rb'"type":"purged-(after|upto)","valueString":"(-?\d+) (-?\d+) (-?\d+)"')


def is_purged(row: Any) -> bool:
    """Whether the record of a journal row was removed."""
    return bool(row.enc == PURGED and not row.body)


def span_of(type: int, owner: int, tail: bytes) -> Span | None:
    """The range of the journal that an event of the gateway's own says was removed."""
    if type != AUDIT_EVENT or owner != 0 or b'"purged-after"' not in tail:
        return None
    told = {word: (int(t), int(n), int(i)) for word, t, n, i in _TOLD.findall(tail)}
    return (told[b"after"], told[b"upto"]) if len(told) == 2 else None


def unaccounted(gone: Iterable[Place], spans: Iterable[Span]) -> list[Place]:
    """Places of removed records that no event accounts for."""
    merged: list[Span] = []
    for low, high in sorted(spans):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        elif low < high:
            merged.append((low, high))
    lows = [low for low, _ in merged]
    return [
        place
        for place in gone
        if (at := bisect_right(lows, place) - 1) < 0 or not merged[at][0] < place <= merged[at][1]
    ]
