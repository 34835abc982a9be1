"""Who orders may be told what there is: an order is a treatment relation of its own.

A call of a workstation that orders reads without asking for another relation; consent still
counts. Whoever was told of a result may fetch it: the commit of the decision opens the record for
some hours. What an order reads by stands in the record, so that it is read the same way again.
docs/consent.md, docs/adr/0037
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

from fhir_gateway.context import Gateway
from fhir_gateway.recognition.record import Inputs, Seen
from fhir_gateway.security.actor import Access, Actor, Sight
from fhir_gateway.store.changes import Opening
from fhir_gateway.store.store import Reader

_HOUR = 3_600_000_000
_ORDERING = frozenset({"institution", "clinician"})
#: Names the openings of decisions: one for each home and institution, extended by each decision.
_SOURCE = 1


def ordering(gateway: Gateway, actor: Actor, *, asserted: bool = False) -> Actor:
    """The caller as one who orders: no other relation is asked for. `asserted`: the call says that
    the patient agreed in this encounter; that counts where the site's basis counts permits."""
    if actor.access.sight is None or actor.role not in _ORDERING:
        return actor
    asserted = asserted and gateway.policy.rule(actor.institution or "").permits != "none"
    return _ordering(actor, asserted)


@lru_cache(maxsize=4_096)
def _ordering(actor: Actor, asserted: bool) -> Actor:
    sight = actor.access.sight
    assert sight is not None
    permit = sight.permit or asserted
    if permit == sight.permit and not sight.relation:
        return actor
    sight = replace(sight, relation=False, permit=permit)
    return replace(actor, access=replace(actor.access, sight=sight))


async def are_seen(reader: Reader, references: Iterable[str]) -> bool:
    """Whether all of these, "Type/id" or one of its versions, may be seen by a reader."""
    for reference in references:
        type, id = reference.split("/")[:2]
        if await reader.read(type, id) is None:
            return False
    return True


def seen_of(access: Access, at: int) -> Seen | None:
    """The sight of an Access as it is recorded, None where there is none."""
    sight = access.sight
    if sight is None:
        return None
    return Seen(sight.party, sight.relation, sight.permit, sight.denials, at)


def access_of(inputs: Inputs) -> Access:
    """The Access by which recorded inputs were read."""
    owners = frozenset(inputs.owners) if inputs.owners is not None else None
    homes = frozenset(inputs.homes) if inputs.homes is not None else None
    seen = inputs.sight
    sight = None
    if seen is not None:
        sight = Sight(seen.party, seen.relation, seen.permit, seen.denials, seen.at)
    return Access(inputs.max_class, owners, sight, homes)


def openings(gateway: Gateway, actor: Actor, homes: Sequence[int], as_of: int) -> list[Opening]:
    """What a decision opens to who asked: the person's homes, for some hours.

    The end is a full hour, so that a record that is asked about again and again is opened again
    once an hour and not each time.
    """
    sight, hours = actor.access.sight, gateway.policy.relation.decision_hours
    if sight is None or not hours or actor.role not in _ORDERING:
        return []
    until = (as_of // _HOUR + hours + 1) * _HOUR
    return [Opening(home, sight.party, "decision", 0, as_of, until, _SOURCE) for home in homes]
