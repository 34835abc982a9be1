"""The operations of the REST door: one dictionary, equal to what the CapabilityStatement declares.

hl7.org/fhir/R4/operations.html. Parameters in, Parameters (or another resource) out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.interactions.capabilities import Offered
from fhir_gateway.recognition.operation import answer, recognize, replay
from fhir_gateway.security.actor import Actor
from fhir_gateway.settings import CANONICAL

Handler = Callable[..., Awaitable[dict[str, Any]]]


class Operation(NamedTuple):
    """What an operation is called on, and the function that carries it out.

    The function takes (gateway, actor) and `parameters`, `id` by name.
    """

    type: str
    on_type: bool
    on_instance: bool
    handler: Handler


OPERATIONS: dict[str, Operation] = {
    "$recognize": Operation("ServiceRequest", True, True, recognize),
    "$answer": Operation("GuidanceResponse", False, True, answer),
    "$replay": Operation("GuidanceResponse", False, True, replay),
}


def offered() -> list[Offered]:
    """The operations as the CapabilityStatement names them."""
    return [
        Offered(
            name.removeprefix("$"),
            f"{CANONICAL}/OperationDefinition/{name.removeprefix('$')}",
            (operation.type,),
        )
        for name, operation in OPERATIONS.items()
    ]


async def call(
    gateway: Gateway,
    actor: Actor,
    *,
    name: str,
    type: str,
    id: str | None,
    parameters: dict[str, Any],
) -> dict[str, Any] | None:
    """The operation's answer; None when there is no such operation at this place."""
    operation = OPERATIONS.get(name)
    if operation is None or operation.type != type:
        return None
    if not (operation.on_instance if id else operation.on_type):
        return None
    return await operation.handler(gateway, actor, parameters=parameters, id=id)
