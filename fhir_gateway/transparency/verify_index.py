"""The check of what is made of the journal: that every record is found by those who look for it.

A record that nobody finds is as good as removed. Its row in `resource` and its key in `locator`
must say what the journal says, and the record of accesses of its person must name it.
"""

# ruff: noqa: S608 - SQL is put together from constants; values are always bound

from __future__ import annotations

from fhir_gateway.fhir.keys import type_key
from fhir_gateway.store.blobs import IN_JOURNAL, PURGED
from fhir_gateway.store.draining import JOURNALED
from fhir_gateway.transparency.verify_found import Finding
from fhir_gateway.transparency.verify_leaves import Piece
from fhir_gateway.transparency.verify_read import DAMAGE, Reading

#: So many findings of one kind in one piece.
_MOST = 100

_TYPES = ", ".join(str(type_key(name)) for name in JOURNALED)


def check_rows(reading: Reading, piece: Piece) -> list[Finding]:
    """Journal entries of a piece that are not found as they must be."""
    found = []
    try:
        for kind, sql in _LOST:
            name = reading.as_bytes.format("j.id")
            rows = reading.rows(
                f"SELECT j.t, j.n, j.i, {name} {sql} LIMIT {_MOST}", (*piece.begin, *piece.end)
            )
            found += [
                Finding("index", f"record {_text(id)} at place ({t}, {n}, {i})", kind)
                for t, n, i, id in rows
            ]
    except DAMAGE as error:
        where = f"index rows of records from place {piece.begin} on"
        found.append(Finding("damage", where, f"unreadable ({error.__class__.__name__})"))
    return found


def check_whole(reading: Reading) -> list[Finding]:
    """Index rows that no journal entry stands behind, or that say something else."""
    found = []
    try:
        name = reading.as_bytes.format("r.id")
        for id, t, n in reading.rows(f"SELECT {name}, r.t, r.n {_STRANGE} LIMIT {_MOST}"):
            what = "its index row is not what the journal says"
            found.append(Finding("index", f"record {_text(id)} at ({t}, {n})", what))
        for home, t, n, i in reading.rows(f"{_ACCESSES} LIMIT {_MOST}"):
            what = f"home {home} has it in its record of accesses, and the journal has it not"
            found.append(Finding("index", f"place ({t}, {n}, {i})", what))
    except DAMAGE as error:
        found.append(Finding("damage", "index rows", f"unreadable ({error.__class__.__name__})"))
    return found


def _text(value: bytes) -> str:
    return bytes(value).decode("utf-8", "replace")


_PIECE = "(j.t, j.n, j.i) >= (?, ?, ?) AND (j.t, j.n, j.i) < (?, ?, ?)"
_LOST = (
    (
        "the record of accesses of its person does not name it",
        "FROM journal j LEFT JOIN journal_home h"
        " ON h.home = j.home AND h.t = j.t AND h.n = j.n AND h.i = j.i"
        f" WHERE {_PIECE} AND j.home > 0 AND h.home IS NULL AND j.enc <> {PURGED}",
    ),
    (
        "it is not found by its id",
        "FROM journal j LEFT JOIN locator l ON l.type = j.type AND l.id = j.id"
        " LEFT JOIN resource r ON r.home = l.home AND r.type = l.type AND r.rid = l.rid"
        f" WHERE {_PIECE} AND r.rid IS NULL AND (j.t, j.n, j.i) <="
        " (SELECT drained_t, drained_n, drained_i FROM clock)",
    ),
)
_STRANGE = f"""
FROM resource r LEFT JOIN journal j ON j.t = r.t AND j.n = r.n AND j.type = r.type AND j.id = r.id
WHERE r.type IN ({_TYPES}) AND (j.t IS NULL OR r.enc <> {IN_JOURNAL}
  OR r.version <> 1 OR r.home <> j.home OR r.updated <> j.updated OR r.owner <> j.owner
  OR (j.enc <> {PURGED}
    AND (r.deleted <> 0 OR coalesce(r.patient, '') <> coalesce(j.patient, ''))))"""
_ACCESSES = """
SELECT h.home, h.t, h.n, h.i FROM journal_home h
LEFT JOIN journal j ON j.t = h.t AND j.n = h.n AND j.i = h.i WHERE j.t IS NULL"""
