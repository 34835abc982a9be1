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


def beside(seen: Seen, patient: str) -> Steps[list[PersonRecord]]:
    """The current Patients of a Patient's own home that are visible, in the order of arrival."""
    rule, shown = seen.of("r")
    columns = "SELECT r.id, r.home, r.rid, r.owner"
    if not seen.dialect.gathers:
        rows = yield Query(
            f"{columns} FROM locator l CROSS JOIN resource r ON r.home = l.home"
            f" AND r.type = l.type WHERE l.type = ? AND l.id = ? AND l.home > 0"
            f" AND r.deleted = 0 AND {rule} ORDER BY r.rid",
            (_PATIENT, patient, *shown),
        )
        return _records(rows)
    place = yield Query(PLACE, (_PATIENT, patient))
    return (yield from of_homes(seen, [place[0][0]] if place else []))


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
    return [PersonRecord(*row) for row in rows]
