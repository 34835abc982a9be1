"""A journal entry told in full, with all that its leaf is made of: for whoever checks the log."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from fhir_gateway.store.blobs import unpack
from fhir_gateway.store.log import JournalRow
from fhir_gateway.transparency.purged import is_purged


def told_entry(row: JournalRow) -> dict[str, Any]:
    """The entry as JSON: its place, its row, its commitment, and what the commitment hides.

    `tail` is the record's JSON behind `"lastUpdated":"…"`; null when the record was removed.
    """
    return {
        "place": list(row.place),
        "type": row.type,
        "id": row.id,
        "home": row.home,
        "updated": row.updated,
        "patient": row.patient,
        "owner": row.owner,
        "nonce": b64encode(row.nonce).decode(),
        "commitment": b64encode(row.leaf).decode(),
        "tail": None if is_purged(row) else unpack(row.enc, row.body).decode(),
    }
