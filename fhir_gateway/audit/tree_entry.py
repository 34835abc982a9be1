"""What a leaf of the audit log is made of: one journal entry, all of it (RFC 9162 2.1.1).

An entry is one line of text with what its row says of it, and the 32 bytes of its commitment,
SHA-256(0x00 ‖ nonce ‖ tail). The row's line is covered so that an entry can be neither back-dated
nor given to another person; the commitment hides, by its nonce, what the record says, and stays
when the record itself was lawfully removed. The leaf is SHA-256(0x00 ‖ entry).
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

#: Length of a hash.
HASH = 32


def entry_of(
    place: tuple[int, int, int],
    type: int,
    id: bytes,
    home: int,
    updated: int,
    patient: bytes | None,
    owner: int,
    commitment: bytes,
) -> bytes:
    """The bytes of an entry: `t n i type home updated owner LENGTH id[ patient]`, a line feed, the
    commitment. LENGTH is the id's in bytes, so that no two rows have the same entry."""
    line = b"%d %d %d %d %d %d %d %d %s" % (*place, type, home, updated, owner, len(id), id)
    if patient is None:
        return b"%s\n%s" % (line, commitment)
    return b"%s %s\n%s" % (line, patient, commitment)


def entry_hash(entry: bytes) -> bytes:
    """The leaf of an entry."""
    return sha256(b"\x00" + entry).digest()


def row_hash(row: Any) -> bytes:
    """The leaf of a journal row (store.log.JournalRow), whose commitment is believed."""
    patient = None if row.patient is None else row.patient.encode()
    return entry_hash(
        entry_of(
            (row.t, row.n, row.i),
            row.type,
            row.id.encode(),
            row.home,
            row.updated,
            patient,
            row.owner,
            row.leaf,
        )
    )
