"""What the scopes of a token leave of booking: a token of one Patient books for that one alone.

Booking writes by change sets of its own (seat_commit.py), so that what interactions.scoped_writes
asks of a plain write is asked here: the letter for what is made or changed, and whose record it is
in. Scopes with a query are refused before (profiles/access/scopes.csv). docs/scopes.md
"""

from __future__ import annotations

from typing import Protocol

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden
from fhir_gateway.interactions.narrowing import insufficient, own_records, scopes_of
from fhir_gateway.security import scopes as smart
from fhir_gateway.security.actor import Actor


class Planned(Protocol):
    """What is asked of a plan: whether it makes or changes an Appointment, and whose."""

    @property
    def resource(self) -> object: ...

    @property
    def version(self) -> int: ...

    @property
    def patient(self) -> str: ...


async def check_scopes(gateway: Gateway, actor: Actor, planned: Planned) -> None:
    """Raises InsufficientScope for what no scope grants, Forbidden for another Patient's."""
    if actor.scopes is None or planned.resource is None:
        return
    letter = "u" if planned.version else "c"
    levels = smart.levels_of(actor)
    grant = smart.allowed(scopes_of(gateway, actor), "Appointment", letter, levels)
    if isinstance(grant, smart.Refused):
        raise insufficient(grant.needs)
    if isinstance(grant, smart.Whole):
        return
    ids, _ = await own_records(gateway, actor)
    if planned.patient not in ids:
        raise Forbidden("This token is bound to another patient", rule="launch-patient")
