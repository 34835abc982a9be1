"""What the scopes of a token leave of booking: a token of one Patient books for that one alone.

Booking writes by change sets of its own (seat_commit.py), so that what interactions.scoped_writes
asks of a plain write is asked here: the letter for what is made or changed, and whose record it is
in. Scopes with a query are refused before (profiles/access/scopes.csv). docs/scopes.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden
from fhir_gateway.interactions.narrowing import insufficient, own_records, scopes_of
from fhir_gateway.security import scopes as smart
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.changes import Guard, VersionIs


class Planned(Protocol):
    """What is asked of a plan: whether it makes or changes an Appointment, or a Task by its guard,
    and whose."""

    @property
    def resource(self) -> object: ...

    @property
    def version(self) -> int: ...

    @property
    def patient(self) -> str: ...

    @property
    def guards(self) -> Sequence[Guard]: ...


async def check_scopes(gateway: Gateway, actor: Actor, planned: Planned) -> None:
    """Raises InsufficientScope for what no scope grants, Forbidden for another Patient's."""
    if actor.scopes is None:
        return
    type, version = "Appointment", planned.version
    if planned.resource is None:  # an appeal: its Task alone is written
        tasks = (one for one in planned.guards if isinstance(one, VersionIs))
        type, version = "Task", next((one.version for one in tasks), 0)
    levels = smart.levels_of(actor)
    grant = smart.allowed(scopes_of(gateway, actor), type, "u" if version else "c", levels)
    if isinstance(grant, smart.Refused):
        raise insufficient(grant.needs)
    if isinstance(grant, smart.Whole):
        return
    ids, _ = await own_records(gateway, actor)
    if planned.patient not in ids:
        raise Forbidden("This token is bound to another patient", rule="launch-patient")
