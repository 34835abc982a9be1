"""create, also conditional (hl7.org/fhir/R4/http.html#create, #ccreate)."""

from __future__ import annotations

from fhir_gateway.context import Gateway
from fhir_gateway.fhir.validate import read_resource
from fhir_gateway.interactions.audit import audited
from fhir_gateway.interactions.conditional import condition_of
from fhir_gateway.interactions.events import write_events
from fhir_gateway.interactions.extras import Extras
from fhir_gateway.interactions.outcome import Outcome
from fhir_gateway.interactions.steps import Step
from fhir_gateway.interactions.types import check_may_write, check_type
from fhir_gateway.interactions.write import write
from fhir_gateway.security.actor import Actor


@audited("create")
async def create(
    gateway: Gateway,
    actor: Actor,
    *,
    type: str,
    body: bytes,
    if_none_exist: str | None = None,
    base: str = "",
) -> Outcome:
    """Stores a new resource under an id of ours; the client's is ignored.

    With `if_none_exist` an existing match is the outcome, of kind "existing". References below
    `base`, the FHIR base as the client called it, become relative. Raises Structure,
    Unprocessable, MultipleMatches, Forbidden.
    """
    check_type(type, "create")
    check_may_write(actor, type)
    resource = read_resource(body, type=type)
    wanted = condition_of(gateway, type, if_none_exist) if if_none_exist is not None else None
    step = Step("create", type, "", root=type, resource=resource, raw=body, condition=wanted)
    written = await write(
        gateway, actor, [step], audit=write_events(gateway, actor), extras=Extras(base=base)
    )
    return written.outcomes[0]
