"""The audit entries of an answer that shows many resources: one for each person it tells of.

Searches, histories and operations share them (IHE BALP, Query; architecture 5.7).
"""

from __future__ import annotations

from collections.abc import Sequence

from fhir_gateway.audit.events import search_event
from fhir_gateway.audit.query import masked
from fhir_gateway.context import Gateway
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.changes import Entry
from fhir_gateway.store.store import Stored


def entries_of(
    gateway: Gateway,
    actor: Actor,
    shown: Sequence[Stored],
    *,
    query: str,
    interaction: str = "search-type",
    patients: Sequence[str] = (),
) -> list[Entry]:
    """One event for each person whose resources are disclosed; one when there is none.

    `query` is the address below the base, as it was asked for; `patients` the logical ids of
    those that the request named: each of them has an event, also when nothing was found.
    """
    call = call_of(gateway, actor)
    asked = masked(query, gateway.store.index_key)
    count = len(shown)

    def event(*, patient: str | None = None, home: int = 0) -> Entry:
        tail = search_event(
            call, query=asked, patient=patient, count=count, interaction=interaction
        )
        return entry(gateway, tail, home=home, patient=None if home else patient)

    if patients:
        return [event(patient=patient) for patient in patients]
    homes: dict[int, str | None] = {stored.home: None for stored in shown if stored.home > 0}
    for stored in shown:
        if stored.type == "Patient":
            homes[stored.home] = stored.id
    if homes:
        return [event(patient=patient, home=home) for home, patient in homes.items()]
    return [event()]
