"""update, also as create and conditional (hl7.org/fhir/R4/http.html#update, #cond-update)."""

from __future__ import annotations

from collections.abc import Sequence

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.validate import read_resource
from fhir_gateway.interactions.audit import audited
from fhir_gateway.interactions.conditional import condition
from fhir_gateway.interactions.events import write_events
from fhir_gateway.interactions.extras import Extras
from fhir_gateway.interactions.outcome import Outcome
from fhir_gateway.interactions.steps import Step
from fhir_gateway.interactions.types import check_id, check_may_write, check_type
from fhir_gateway.interactions.write import write
from fhir_gateway.security.actor import Actor


@audited("update")
async def update(
    gateway: Gateway,
    actor: Actor,
    *,
    type: str,
    id: str,
    body: bytes,
    if_match: int | None = None,
    absent: bool = False,
    base: str = "",
) -> Outcome:
    """Stores the next version; an id that is new is created.

    References below `base`, the FHIR base as the client called it, become relative.

    Raises Invalid when the body's id is not the URL's, PreconditionFailed for `if_match`
    (see interactions.etag) and `absent` (If-None-Match: *), Structure, Unprocessable, Forbidden.
    """
    check_type(type, "update")
    check_id(id)
    check_may_write(actor, type)
    resource = read_resource(body, type=type)
    if resource.get("id") != id:
        raise Invalid(
            "The id in the body must be the id in the URL", expression=f"{type}.id", rule="id"
        )
    step = Step(
        "update", type, id, root=type, resource=resource, raw=body, if_match=if_match, absent=absent
    )
    written = await write(
        gateway, actor, [step], audit=write_events(gateway, actor), extras=Extras(base=base)
    )
    return written.outcomes[0]


@audited("update")
async def update_conditional(
    gateway: Gateway,
    actor: Actor,
    *,
    type: str,
    pairs: Sequence[tuple[str, str]],
    body: bytes,
    if_match: int | None = None,
    absent: bool = False,
    base: str = "",
) -> Outcome:
    """Updates the one resource that meets a condition, or creates it.

    Raises MultipleMatches when several do, Invalid when the body's id is not that of the one,
    Conflict when none does and the body's id is taken, else as `update`.
    """
    check_type(type, "update")
    check_may_write(actor, type)
    resource = read_resource(body, type=type)
    step = Step(
        "update",
        type,
        "",
        root=type,
        resource=resource,
        raw=body,
        condition=condition(gateway, type, pairs),
        if_match=if_match,
        absent=absent,
        body_id=resource.get("id"),
    )
    written = await write(
        gateway, actor, [step], audit=write_events(gateway, actor), extras=Extras(base=base)
    )
    return written.outcomes[0]
