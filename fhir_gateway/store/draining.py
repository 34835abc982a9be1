"""The journal's way into the index: resource, locator and search rows of AuditEvents and
GuidanceResponses, written after the fact and in small pieces.

Their bodies stay in the journal; the row in `resource` only points there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from fhir_gateway.fhir.keys import key64, type_key
from fhir_gateway.fhir.wire import splice
from fhir_gateway.store import blobs
from fhir_gateway.store.apply import Batch

#: The types whose resources are journal entries.
JOURNALED = ("AuditEvent", "GuidanceResponse")


class IndexRows(Protocol):
    """What a resource gives rise to in the index (see search.index)."""

    @property
    def ints(self) -> list[tuple[int, int, int]]:
        """Rows of the home."""

    @property
    def texts(self) -> list[tuple[int, str]]:
        """Rows of the home."""

    @property
    def global_ints(self) -> list[tuple[int, int, int]]:
        """Rows of the global index."""

    @property
    def global_texts(self) -> list[tuple[int, str]]:
        """Rows of the global index."""


RowsOf = Callable[[str, dict[str, Any]], IndexRows]


#: The gateway wrote them itself: nothing has to be judged, and no number is indexed.
_decode = msgspec.json.Decoder().decode

_NAMES = {type_key(name): name for name in JOURNALED}
_log = logging.getLogger(__name__)


def drain_entries(batch: Batch, entries: Sequence[Sequence[Any]], rows_of: RowsOf) -> None:
    """Gathers the rows of journal entries (columns as in UNDRAINED), as part of the batch."""
    rows = batch.rows
    seen: set[tuple[int, str]] = set()
    for t, n, _, type, id, home, updated, patient, owner, enc, body in entries:
        if (type, id) in seen or batch.lookups.home(type, id) is not None:
            continue  # an id that is taken stays with its first record
        seen.add((type, id))
        batch.rid += 1
        rid, name = batch.rid, _NAMES[type]
        rows.locator.append((type, id, home, rid))
        rows.resource.append(
            (home, type, rid, id, 1, t, n, updated, 0, owner, 0, patient, None,
             blobs.IN_JOURNAL, None, key64(f"{name}/{id}"))
        )  # fmt: skip
        try:
            resource = _decode(splice(name, id, 1, updated, blobs.unpack(enc, body)))
            rows.add_index(home, rid, rows_of(name, resource))
        except Exception as error:  # one record that cannot be read must not hold up the others
            _log.error(
                "journal entry (%d, %d) has no index rows: %s", t, n, error.__class__.__name__
            )
    batch.lookups.take(rows)
