"""Which Patients are one person's, for whoever is asked about one of them.

Generators of statements for every driver (see query.py). What is asked before every search of a
patient is one statement: the Patients of the same home, and whether more must be looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fhir_gateway.fhir.keys import type_key
from fhir_gateway.store.history_sql import Seen
from fhir_gateway.store.query import Query, Row, Steps
from fhir_gateway.store.search_record import PLACE

_PATIENT = type_key("Patient")


class PersonRecord(NamedTuple):
    """One Patient of a person: its logical id, home and number, and who owns it."""

    id: str
    home: int
    rid: int
    owner: int


#: Whether the home of a Patient r may be connected with others, or is proposed to be.
_CONNECTED = """
  EXISTS (SELECT 1 FROM person p WHERE p.home = r.home)
  OR EXISTS (SELECT 1 FROM proposal q WHERE q.home = r.home)"""


def beside(seen: Seen, patient: str) -> Steps[tuple[list[PersonRecord], bool]]:
    """The current Patients of a Patient's own home that are visible, in the order of arrival, and
    whether other homes may be this person's too."""
    rule, shown = seen.of("r")
    start = f"SELECT r.id, r.home, r.rid, r.owner, {_CONNECTED} FROM"
    end = f"r.deleted = 0 AND {rule} ORDER BY r.rid"
    if not seen.dialect.gathers:
        rows = yield Query(
            f"{start} locator l CROSS JOIN resource r ON r.home = l.home AND r.type = l.type"
            f" WHERE l.type = ? AND l.id = ? AND l.home > 0 AND {end}",
            (_PATIENT, patient, *shown),
        )
    else:
        place = yield Query(PLACE, (_PATIENT, patient))
        if not place or place[0][0] <= 0:
            return [], False
        rows = yield Query(
            f"{start} resource r WHERE r.home = ? AND r.type = ? AND {end}",
            (place[0][0], _PATIENT, *shown),
        )
    return _records(rows), any(row[4] for row in rows)


def of_homes(seen: Seen, homes: Sequence[int]) -> Steps[list[PersonRecord]]:
    """The current Patients of these homes that are visible, by home and in the order of arrival."""
    if not homes:
        return []
    rule, shown = seen.of("r")
    among, bound = seen.dialect.among("r.home", homes)
    rows = yield Query(
        f"SELECT r.id, r.home, r.rid, r.owner FROM resource r WHERE {among}"  # noqa: S608
        f" AND r.type = ? AND r.deleted = 0 AND {rule} ORDER BY r.home, r.rid",
        (*bound, _PATIENT, *shown),
    )
    return _records(rows)


def _records(rows: Sequence[Row]) -> list[PersonRecord]:
    return [PersonRecord(*row[:4]) for row in rows]
