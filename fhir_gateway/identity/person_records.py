"""The records of one person, as far as they are confirmed: all Patients of the person's homes.

A home is given by the same identity document and name (docs/adr/0023-identity.md), further homes by
links that somebody confirmed and by merges (0026); nothing that is only likely is among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from fhir_gateway.search.plan import SearchPlan
from fhir_gateway.store.store import Reader, Stored

#: Nobody has more records than this; a home that has is no person's.
MOST = 500


async def records_of(reader: Reader, homes: Sequence[int]) -> list[Stored]:
    """The Patients of these homes that the reader may see and that were not replaced by another."""
    found: list[Stored] = []
    for home in homes:
        plan = SearchPlan("Patient", home=home, count=MOST)
        found += (await reader.search(plan)).matches
    return [stored for stored in found if not replaced(stored)]


async def person_of(reader: Reader, records: Sequence[Stored]) -> tuple[int, ...]:
    """The homes of the one person of these records; empty when they are several persons'."""
    person = await reader.person(records[0].id) if records else None
    homes = person.homes if person is not None else ()
    return homes if {stored.home for stored in records} <= set(homes) else ()


def replaced(stored: Stored) -> bool:
    """Whether the record says that another one took its place (Patient.link replaced-by)."""
    patient: dict[str, Any] = msgspec.json.decode(stored.whole())
    return any(link.get("type") == "replaced-by" for link in patient.get("link", ()))
