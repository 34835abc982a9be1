"""search of one type (hl7.org/fhir/R4/http.html#search, search.html)."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from fhir_gateway.context import Gateway
from fhir_gateway.interactions.audit import audited
from fhir_gateway.interactions.domains import asked_domains
from fhir_gateway.interactions.permits import check_plan
from fhir_gateway.interactions.search_answer import answer
from fhir_gateway.interactions.search_codes import codes_for
from fhir_gateway.interactions.types import check_type
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
    `lenient`, as the self link and an OperationOutcome in the answer show), TooCostly when it
    would visit too many rows.
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
        codes=await codes_for(gateway, pairs, base=base),
        naming=gateway.extractor.naming,
    )
    check_plan(gateway, actor, plan)
    asked = f"{type}?{urlencode(pairs)}" if lenient else ""
    domains = await asked_domains(gateway, type, pairs)
    return await answer(gateway, actor, plan, base=base, asked=asked, domains=domains)
