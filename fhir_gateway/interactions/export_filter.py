"""_typeFilter: a search plan judged on one version of one resource, by the rows of that version.

The index knows the newest versions only, an export is as of an earlier moment: so the rows of each
version are made again, and the conditions of the plan are held against them, with the same
meaning as their SQL (store/search_where.py). What looks beyond the resource is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fhir_gateway.context import Gateway
from fhir_gateway.errors import NotSupported
from fhir_gateway.fhir.home import home_of
from fhir_gateway.interactions.deriving import Deriver
from fhir_gateway.interactions.search_codes import codes_for
from fhir_gateway.search.matching import COMPARISONS, is_judged, meets
from fhir_gateway.search.params import parse_name, shown
from fhir_gateway.search.plan import Condition, SearchPlan, Updated
from fhir_gateway.search.planner import plan_search
from fhir_gateway.search.results import RESULTS
from fhir_gateway.store.store import Stored

Filter = Callable[[Stored], bool]


async def filter_of(
    gateway: Gateway, type: str, pairs: Sequence[tuple[str, str]], *, base: str
) -> Filter:
    """What says whether a version of a resource of the type meets a search.

    Raises Invalid for what search.planner does not understand, NotSupported for parameters that
    shape an answer, for chains and for _has.
    """
    for name, _ in pairs:
        if parse_name(name).base in RESULTS:
            raise NotSupported(f"{shown(name)} chooses no resources", rule="type-filter")
    plan = plan_search(
        type,
        pairs,
        secret=gateway.store.index_key,
        base_url=gateway.settings.base_url or base,
        zone=gateway.settings.zone,
        codes=await codes_for(gateway, pairs, base=base),
        naming=gateway.extractor.naming,
    )
    for condition in plan.conditions:
        _check(condition)
    deriver = Deriver(gateway)
    await deriver.follow()
    return lambda stored: _meets(gateway, deriver, plan, stored)


def _check(condition: Condition) -> None:
    if not (isinstance(condition, Updated) or is_judged(condition)):
        raise NotSupported(
            "Searches that follow references to other resources (chains, _has) choose nothing here",
            rule="type-filter",
        )


def _meets(gateway: Gateway, deriver: Deriver, plan: SearchPlan, stored: Stored) -> bool:
    resource = deriver.recoded(stored)  # what a search would find it by
    if plan.by_patient and home_of(resource).patient not in plan.patients:
        return False
    rows = gateway.extractor.rows(stored.type, resource)
    return all(
        _updated(one, stored) if isinstance(one, Updated) else meets(one, stored.id, rows)
        for one in plan.conditions
    )


def _updated(condition: Updated, stored: Stored) -> bool:
    at = stored.updated
    return any(
        COMPARISONS[comparator](at, at, low, high)
        for comparator, low, high in condition.alternatives
    )
