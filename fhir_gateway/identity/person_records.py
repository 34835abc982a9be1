"""The records of one person, as far as they are confirmed: all Patients of the person's home.

A home is given by the same identity document and name (docs/adr/0023-identity.md); nothing that is
only likely is among them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fhir_gateway.search.plan import SearchPlan
from fhir_gateway.store.store import Reader, Stored

#: Nobody has more records than this; a home that has is no person's.
MOST = 500


async def records_of(reader: Reader, home: int) -> list[Stored]:
    """The Patients of a home that the reader may see and that were not replaced by another."""
    plan = SearchPlan("Patient", home=home, count=MOST)
    page = await reader.search(plan)
    return [stored for stored in page.matches if not replaced(stored)]


def replaced(stored: Stored) -> bool:
    """Whether the record says that another one took its place (Patient.link replaced-by)."""
    patient: dict[str, Any] = msgspec.json.decode(stored.whole())
    return any(link.get("type") == "replaced-by" for link in patient.get("link", ()))
