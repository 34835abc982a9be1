"""The handler of all operations: GET or POST [Type[/id]]/$name.

Parameters come in the query, as a Parameters resource, or as the resource itself where an
operation takes one (hl7.org/fhir/R4/operations.html#executing).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, MethodNotAllowed
from fhir_gateway.fhir.validate import read_resource
from fhir_gateway.fhir.wire import parse, render
from fhir_gateway.interactions.audit import audited
from fhir_gateway.interactions.etag import version_in
from fhir_gateway.interactions.given import Given, take, take_query
from fhir_gateway.interactions.operation_definitions import Call, Definition
from fhir_gateway.rest.exchange import Answer, Exchange
from fhir_gateway.rest.formats import parameters_body
from fhir_gateway.rest.negotiation import prefer
from fhir_gateway.rest.operations import Answerable, Operation, find
from fhir_gateway.security.actor import Actor


async def operate(gateway: Gateway, exchange: Exchange) -> Answer:
    """GET or POST [Type[/id]]/$operation."""
    operation = find(exchange.operation, exchange.type, exchange.id)
    methods = operation.definition.methods
    if exchange.method not in methods:
        exchange.allow = ", ".join(methods)
        raise MethodNotAllowed(f"This operation is called by {' or '.join(methods)}", rule="method")
    body = await parameters_body(gateway, exchange) if exchange.method == "POST" else b""
    header = exchange.headers.get("prefer")
    call = Call(
        name=exchange.operation,
        type=exchange.type,
        id=exchange.id,
        base=exchange.base,
        lenient=prefer(header).lenient,
        prefer=header or "",
        if_match=version_in(exchange.headers.get("if-match")),
        key=exchange.headers.get("idempotency-key", ""),
    )
    result = await _carry_out(
        gateway,
        exchange.actor,
        type=exchange.type,
        id=exchange.id,
        pairs=exchange.pairs,
        operation=operation,
        call=call,
        body=body,
    )
    if isinstance(result, Answer):
        return _in_own_media(exchange, result)
    return Answer(200, result if isinstance(result, bytes) else render(result))


def _in_own_media(exchange: Exchange, answer: Answer) -> Answer:
    """An answer that names its media type goes out under it, as it is."""
    media = dict(answer.headers).get(b"content-type")
    if media is None:
        return answer
    exchange.content_type, exchange.xml, exchange.pretty = media.decode("latin-1"), False, False
    headers = tuple(pair for pair in answer.headers if pair[0] != b"content-type")
    return answer._replace(headers=headers)


@audited("operation")
async def _carry_out(
    gateway: Gateway,
    actor: Actor,
    *,
    type: str,
    id: str,
    pairs: Sequence[tuple[str, str]],
    operation: Operation,
    call: Call,
    body: bytes,
) -> Answerable:
    """What the operation answers; `type`, `id` and `pairs` stand here for the audit log."""
    given = _given(operation.definition.taken_on(type), type, pairs, body)
    call = call._replace(parameters=given.parameters, pairs=given.pairs)
    return await operation.handler(gateway, actor, call)


def _given(
    definition: Definition, type: str, pairs: Sequence[tuple[str, str]], body: bytes
) -> Given:
    if not body:
        return take_query(pairs, definition)
    if pairs and not definition.body:
        raise Invalid("Parameters stand in the body or in the query, not in both", rule="parameter")
    if not definition.body:
        return take(read_resource(body, type="Parameters"), definition)
    return _with_resource(definition, type, pairs, body)


def _with_resource(
    definition: Definition, type: str, pairs: Sequence[tuple[str, str]], body: bytes
) -> Given:
    """Parameters one of which is a resource that is not judged here, or that resource alone."""
    resource = parse(body)
    if resource.get("resourceType") != "Parameters" or type == "Parameters":
        member = {"name": definition.body, "resource": resource}
        queried = take_query(pairs, definition._replace(takes=_optional(definition)))
        given = take({"parameter": [member]}, definition)
        for name, found in queried.parameters.items():
            given.parameters[name].extend(found)
        return given
    if pairs:
        raise Invalid("Parameters stand in the body or in the query, not in both", rule="parameter")
    read_resource(render(_without(resource, definition.body)), type="Parameters")
    return take(resource, definition)


def _optional(definition: Definition) -> Any:
    return tuple(row._replace(low=0) for row in definition.takes)


def _without(parameters: dict[str, Any], name: str) -> dict[str, Any]:
    """The Parameters with a harmless value in place of the resource."""
    members = parameters.get("parameter")
    if not isinstance(members, list):
        return parameters
    judged = [
        {**{key: value for key, value in member.items() if key != "resource"}, "valueCode": "x"}
        if isinstance(member, dict) and member.get("name") == name and "resource" in member
        else member
        for member in members
    ]
    return {**parameters, "parameter": judged}
