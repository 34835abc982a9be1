"""delete, also conditional (hl7.org/fhir/R4/http.html#delete, #3.1.0.7.1).

Idempotent; every version stays in the history.
"""

from __future__ import annotations

from collections.abc import Sequence

from fhir_gateway.context import Gateway
from fhir_gateway.interactions.audit import audited
from fhir_gateway.interactions.conditional import condition
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


@audited("delete")
async def delete_conditional(
    gateway: Gateway,
    actor: Actor,
    *,
    type: str,
    pairs: Sequence[tuple[str, str]],
    if_match: int | None = None,
) -> Outcome:
    """Deletes the one resource that meets a condition; the outcome has no id when none does.

    Raises MultipleMatches when several do, else as `delete`.
    """
    check_type(type, "delete")
    check_may_write(actor, type)
    wanted = condition(gateway, type, pairs)
    step = Step("delete", type, "", root=type, condition=wanted, if_match=if_match)
    written = await write(gateway, actor, [step], audit=write_events(gateway, actor))
    return written.outcomes[0]
