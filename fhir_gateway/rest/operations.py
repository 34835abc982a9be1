"""The operations of the REST door: one dictionary, equal to what the CapabilityStatement declares.

hl7.org/fhir/R4/operations.html. Parameters in, Parameters (or another resource) out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from fhir_gateway.errors import NotFound
from fhir_gateway.interactions.capabilities import Offered
from fhir_gateway.recognition.operation import answer, recognize, replay
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


def find(name: str, type: str, id: str) -> Handler:
    """The function of an operation at this place. Raises NotFound."""
    operation = OPERATIONS.get(name)
    if operation is None or operation.type != type:
        raise _unknown()
    if not (operation.on_instance if id else operation.on_type):
        raise _unknown()
    return operation.handler


def _unknown() -> NotFound:
    return NotFound("There is no such operation here", rule="unknown-operation")
