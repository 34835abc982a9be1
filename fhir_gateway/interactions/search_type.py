"""search of one type (hl7.org/fhir/R4/http.html#search, search.html)."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from fhir_gateway.context import Gateway
from fhir_gateway.fhir import bundle
from fhir_gateway.interactions.audit import audited, disclose_search
from fhir_gateway.interactions.types import check_type
from fhir_gateway.search.page import next_link, resume, self_link
from fhir_gateway.search.planner import plan_search
from fhir_gateway.security.actor import Actor


@audited("search-type")
async def search_type(
    gateway: Gateway,
    actor: Actor,
    *,
    type: str,
    pairs: Sequence[tuple[str, str]],
    base: str,
    lenient: bool = False,
) -> bytes:
    """A searchset Bundle of one page.

    Raises Invalid and NotSupported for parameters that are unknown or not offered (dropped when
    `lenient`, as the self link shows), TooCostly when it would visit too many rows.
    """
    check_type(type, "search-type")
    settings = gateway.settings
    plan = plan_search(
        type,
        pairs,
        secret=gateway.store.index_key,
        base_url=settings.base_url or base,
        zone=settings.zone,
        lenient=lenient,
        page_limit=settings.page_limit,
    )
    caller = actor.institution or actor.name
    plan = resume(plan, secret=gateway.store.index_key, caller=caller)
    async with gateway.store.snapshot(actor.access) as reader:
        page = await reader.search(plan)
    found_by = self_link(base, plan)
    if gateway.audit:
        asked = f"{type}?{urlencode(pairs)}" if lenient else found_by[len(base) + 1 :]
        await disclose_search(
            gateway,
            actor,
            asked=asked,
            bound=plan.patients,
            matches=page.matches,
            included=page.included,
        )
    hits = [
        bundle.Hit(f"{base}/{stored.type}/{stored.id}", stored.whole()) for stored in page.matches
    ]
    hits += [
        bundle.Hit(f"{base}/{stored.type}/{stored.id}", stored.whole(), "include")
        for stored in page.included
    ]
    links = [("self", found_by)]
    if page.next is not None:
        secret = gateway.store.index_key
        links.append(("next", next_link(base, plan, page.next, secret=secret, caller=caller)))
    return bundle.searchset(hits, links=links, total=page.total)
