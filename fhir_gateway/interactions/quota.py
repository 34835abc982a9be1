"""What a caller spends by asking, at every door (security.quotas, docs/hardening.md).

A purse that is empty and one of misses that is emptied are alarms: a line of the log and a figure,
with the caller's name and nothing of what was asked.
"""

from __future__ import annotations

import json
import logging

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Throttled
from fhir_gateway.interactions.audit import ORIGIN
from fhir_gateway.security.actor import Actor
from fhir_gateway.security.quotas import Purse

_log = logging.getLogger("fhir_gateway.quotas")


def spend(gateway: Gateway, actor: Actor, kind: str, *, more: int = 0) -> Purse | None:
    """Takes what a request of this kind costs, and `more` points for its size.

    The caller's purse, None for one without a budget. Raises Throttled when it cannot pay; calls
    that an order waits for never raise.
    """
    quotas = gateway.quotas
    if quotas is None:
        return None
    try:
        purse = quotas.spend(actor, kind, gateway.clock.now(), more=more)
    except Throttled as error:
        gateway.count("quota_refusals", 1)
        if quotas.is_spent(actor):
            _alarm(gateway, actor.name, error.issues[0].rule or "quota")
        raise
    if purse is not None and purse.points < 1 and quotas.is_spent(actor):
        _alarm(gateway, actor.name, "quota")
    return purse


def missed(gateway: Gateway, actor: Actor) -> None:
    """Counts something that the caller asked for and that is not there, for him."""
    if gateway.quotas is not None and gateway.quotas.miss(actor, gateway.clock.now()):
        _alarm(gateway, actor.name, "quota-misses")


def _alarm(gateway: Gateway, name: str, rule: str) -> None:
    gateway.count("quota_alarms", 1)
    said = {"event": "alarm", "rule": rule, "actor": name, "id": ORIGIN.get().request_id}
    _log.warning(json.dumps(said))
