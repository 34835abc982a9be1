"""Time zones as a code system (iana.org/time-zones), as R4 binds Location and Appointment tools.

The names are those of the tzdata package that the gateway reckons with.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

from fhir_gateway.fhir.terminology import ConceptRow
from fhir_gateway.terminology.listed_system import ListedSystem

TIME_ZONES = "https://www.iana.org/time-zones"


def time_zones() -> ListedSystem:
    """All names of time zones."""
    return ListedSystem(
        url=TIME_ZONES,
        title="IANA time zones",
        load=_rows,
        value_set="http://hl7.org/fhir/ValueSet/timezones",
    )


def _rows() -> Iterator[ConceptRow]:
    for name in (files("tzdata") / "zones").read_text(encoding="utf-8").split():
        yield ConceptRow(name, name)
