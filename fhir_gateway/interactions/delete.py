"""delete (hl7.org/fhir/R4/http.html#delete): idempotent; every version stays in the history."""

from __future__ import annotations

from fhir_gateway.context import Gateway
from fhir_gateway.interactions.audit import audited
from fhir_gateway.interactions.events import write_events
from fhir_gateway.interactions.outcome import Outcome
from fhir_gateway.interactions.steps import Step
from fhir_gateway.interactions.types import check_id, check_may_write, check_type
from fhir_gateway.interactions.write import write
from fhir_gateway.security.actor import Actor


@audited("delete")
async def delete(
    gateway: Gateway, actor: Actor, *, type: str, id: str, if_match: int | None = None
) -> Outcome:
    """Deletes the resource; one that is not there is deleted already.

    Raises Invalid for what cannot be an id, PreconditionFailed for `if_match`, Forbidden for
    another institution's.
    """
    check_type(type, "delete")
    check_id(id)
    check_may_write(actor, type)
    step = Step("delete", type, id, root=type, if_match=if_match)
    written = await write(gateway, actor, [step], audit=write_events(gateway, actor))
    return written.outcomes[0]
