"""How far a search reaches: whether it stays small, and which types its answer may hold."""

from __future__ import annotations

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.search.plan import Ids, Include, SearchPlan
from fhir_gateway.store.draining import JOURNALED


def is_quick(plan: SearchPlan) -> bool:
    """True when the search stays within a few persons' homes, or looks a few resources up."""
    if (plan.patients or plan.follows) and not plan.rest:
        return True
    return any(isinstance(condition, Ids) for condition in plan.conditions)


def may_meet(plan: SearchPlan, type: str) -> bool:
    """True when the answer may hold resources of that type, as matches or as includes."""
    if plan.type == type:
        return True
    return any(type in _types_met(include) for include in plan.includes)


def _types_met(include: Include) -> tuple[str, ...]:
    """The types that an include may bring."""
    if include.reverse:
        return (include.source,)
    if include.target:
        return (include.target,)
    parameter = definitions().search_parameters[include.source].get(include.code)
    return parameter.targets if parameter else JOURNALED
