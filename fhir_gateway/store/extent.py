"""How far a search reaches: whether it stays small, and which types it may meet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.search.plan import AllOf, AnyOf, Chain, Condition, Has, Ids, Include, SearchPlan
from fhir_gateway.store.draining import JOURNALED
from fhir_gateway.store.search_ways import FEW_HOMES


def is_quick(plan: SearchPlan) -> bool:
    """True when the search stays within a few persons' homes, or looks a few resources up."""
    if any(_passed(plan.conditions)) or any(
        include.iterate or include.wildcard for include in plan.includes
    ):
        return False
    if 0 < len(plan.patients) + len(plan.follows) <= FEW_HOMES and not plan.rest:
        return True
    return any(isinstance(condition, Ids) for condition in plan.conditions)


def may_meet(plan: SearchPlan, type: str) -> bool:
    """True when the search may look at resources of that type: as matches, as includes, or on the
    way to them."""
    if plan.type == type or any(type in _types_met(include) for include in plan.includes):
        return True
    return type in _passed(plan.conditions)


def _passed(conditions: Iterable[Condition]) -> Iterator[str]:
    """The types that chains and _has among the conditions lead over."""
    for one in conditions:
        if isinstance(one, Chain):
            for branch in one.targets:
                yield branch.type
                yield from _passed(branch.conditions)
        elif isinstance(one, Has):
            yield one.source
        if isinstance(one, Has | AnyOf | AllOf):
            yield from _passed(one.conditions)


def _types_met(include: Include) -> tuple[str, ...]:
    """The types that an include may bring."""
    if include.reverse:
        return (include.source,)
    if include.target:
        return (include.target,)
    parameter = definitions().search_parameters[include.source].get(include.code)
    return parameter.targets if parameter else JOURNALED
