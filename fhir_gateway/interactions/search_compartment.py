"""search within a compartment: [base]/Patient/123/Observation
(hl7.org/fhir/R4/http.html#vsearch, compartmentdefinition.html).
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from fhir_gateway.context import Gateway
from fhir_gateway.interactions.audit import audited
from fhir_gateway.interactions.permits import check_plan
from fhir_gateway.interactions.search_answer import answer
from fhir_gateway.interactions.search_codes import codes_for
from fhir_gateway.interactions.types import check_type
from fhir_gateway.search.compartment import plan_compartment
from fhir_gateway.security.actor import Actor


@audited("search-type")
async def search_compartment(
    gateway: Gateway,
    actor: Actor,
    *,
    compartment: str,
    owner: str,
    type: str,
    pairs: Sequence[tuple[str, str]],
    base: str,
    lenient: bool = False,
) -> bytes:
    """A searchset of the resources of one type in the compartment of `compartment`/`owner`.

    Raises NotFound for a compartment that R4 does not have or that the type is never in, and what
    `search_type` raises.
    """
    check_type(type, "search-type")
    settings = gateway.settings
    plan = plan_compartment(
        compartment,
        owner,
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
    asked = f"{compartment}/{owner}/{type}?{urlencode(pairs)}" if lenient else ""
    return await answer(gateway, actor, plan, base=base, asked=asked)
