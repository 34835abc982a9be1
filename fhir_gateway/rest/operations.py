"""The operations of the REST door: one table, from which all else is computed.

hl7.org/fhir/R4/operations.html. Routes, methods, the CapabilityStatement and the
OperationDefinitions come from here; a handler gets a Call whose parameters were checked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from fhir_gateway.accountability.accesses import ACCESSES, accesses
from fhir_gateway.errors import NotFound
from fhir_gateway.identity.match import MATCH, match_patient
from fhir_gateway.identity.pix import PIX, ihe_pix
from fhir_gateway.identity.review import (
    CONFIRM,
    REJECT,
    UNLINK,
    confirm_identity,
    reject_identity,
    unlink_records,
)
from fhir_gateway.interactions import local_codes_operations as local_codes
from fhir_gateway.interactions import register_operations as register
from fhir_gateway.interactions.break_glass import BREAK_GLASS_OPERATION, break_glass
from fhir_gateway.interactions.break_glass_review import REVIEW, review_operation
from fhir_gateway.interactions.capabilities import Offered
from fhir_gateway.interactions.case_access import OPEN_CASE, open_case
from fhir_gateway.interactions.document import composition_document, report_as_document
from fhir_gateway.interactions.document_definitions import AS_DOCUMENT, DOCUMENT
from fhir_gateway.interactions.everything import EVERYTHING, everything
from fhir_gateway.interactions.export import DEFINITION as EXPORT
from fhir_gateway.interactions.lastn import LASTN, lastn
from fhir_gateway.interactions.message_operations import (
    MESSAGES,
    ORIGIN,
    TRACE,
    list_messages,
    origin_of,
    trace_message,
)
from fhir_gateway.interactions.meta import (
    META,
    META_ADD,
    META_DELETE,
    meta,
    meta_add,
    meta_delete,
)
from fhir_gateway.interactions.operation_definitions import (
    Definition,
    canonicals,
    operation_definition,
    stands_on,
)
from fhir_gateway.interactions.render_document import RENDER
from fhir_gateway.interactions.terminology_definitions import (
    BATCH_VALIDATE_CODE,
    EXPAND,
    LOOKUP,
    SUBSUMES,
    TRANSLATE,
    VALIDATE_CODE,
)
from fhir_gateway.interactions.terminology_expand import expand, translate
from fhir_gateway.interactions.terminology_operations import (
    batch_validate_code,
    lookup,
    subsumes,
    validate_code,
)
from fhir_gateway.interactions.validate_operation import VALIDATE, validate
from fhir_gateway.recognition import definitions as recognition
from fhir_gateway.recognition.answer_definitions import ACKNOWLEDGE, ANSWER
from fhir_gateway.recognition.answer_operation import acknowledge, answer, fetch
from fhir_gateway.recognition.prior_operation import PRIOR_RESULTS, prior_results_operation
from fhir_gateway.recognition.register_read import REGISTER, read_register
from fhir_gateway.recognition.replay_operation import replay
from fhir_gateway.recognition.rules_in_force import IN_FORCE, LINT, in_force, lint_operation
from fhir_gateway.rest.exchange import Answer
from fhir_gateway.rest.handlers_async import export
from fhir_gateway.rest.handlers_render import render_page
from fhir_gateway.rest.recognize_slots import recognize_with_slots
from fhir_gateway.scheduling import booking_definitions as booking
from fhir_gateway.scheduling import pool_operations as pools
from fhir_gateway.scheduling.booking_operations import (
    amend_operation,
    book_operation,
    cancel_operation,
    excuse_operation,
    hold_operation,
    rebook_operation,
    renew_operation,
    step_operation,
)
from fhir_gateway.scheduling.find_operation import find_operation
from fhir_gateway.scheduling.why_not import why_not

#: What a handler may return: a resource as a dict or as JSON, or a whole answer.
Answerable = dict[str, Any] | bytes | Answer

#: Takes (gateway, actor, call).
Handler = Callable[..., Awaitable[Answerable]]


class Operation(NamedTuple):
    """What an operation is, and the function that carries it out."""

    definition: Definition
    handler: Handler


def _by_type(**handlers: Handler) -> Handler:
    """The handler of an operation that means another thing on each type (Definition.guide)."""

    async def handle(gateway: Any, actor: Any, call: Any) -> Answerable:
        return await handlers[call.type](gateway, actor, call)

    return handle


def _table(*rows: Operation) -> dict[str, Operation]:
    return {f"${row.definition.code}": row for row in rows}


OPERATIONS: dict[str, Operation] = _table(
    Operation(EVERYTHING, everything),
    Operation(ACCESSES, accesses),
    Operation(LASTN, lastn),
    Operation(MATCH, match_patient),
    Operation(PIX, ihe_pix),
    Operation(CONFIRM, confirm_identity),
    Operation(REJECT, reject_identity),
    Operation(UNLINK, unlink_records),
    Operation(EXPORT, export),
    Operation(VALIDATE, validate),
    Operation(META, meta),
    Operation(META_ADD, meta_add),
    Operation(META_DELETE, meta_delete),
    Operation(LOOKUP, lookup),
    Operation(VALIDATE_CODE, validate_code),
    Operation(BATCH_VALIDATE_CODE, batch_validate_code),
    Operation(EXPAND, expand),
    Operation(SUBSUMES, subsumes),
    Operation(TRANSLATE, translate),
    Operation(local_codes.UNMAPPED, local_codes.unmapped),
    Operation(local_codes.MAP, local_codes.map_codes),
    Operation(local_codes.COVERAGE, local_codes.code_coverage),
    Operation(register.STATUS, register.message_status),
    Operation(register.DEAD, register.dead_letters),
    Operation(register.RETRY, register.retry_messages),
    Operation(register.ASIDE, register.set_aside_messages),
    Operation(recognition.RECOGNIZE, recognize_with_slots),
    Operation(ANSWER, answer),
    Operation(AS_DOCUMENT, report_as_document),
    Operation(DOCUMENT, _by_type(Composition=composition_document, Task=fetch)),
    Operation(ACKNOWLEDGE, acknowledge),
    Operation(recognition.REPLAY, replay),
    Operation(PRIOR_RESULTS, prior_results_operation),
    Operation(BREAK_GLASS_OPERATION, break_glass),
    Operation(REVIEW, review_operation),
    Operation(OPEN_CASE, open_case),
    Operation(IN_FORCE, in_force),
    Operation(LINT, lint_operation),
    Operation(REGISTER, read_register),
    Operation(RENDER, render_page),
    Operation(MESSAGES, list_messages),
    Operation(TRACE, trace_message),
    Operation(ORIGIN, origin_of),
    Operation(booking.FIND, find_operation),
    Operation(booking.HOLD, hold_operation),
    Operation(booking.BOOK, book_operation),
    Operation(booking.RENEW, renew_operation),
    Operation(booking.REBOOK, rebook_operation),
    Operation(booking.AMEND, amend_operation),
    Operation(booking.CANCEL, cancel_operation),
    Operation(booking.CONFIRM_BOOKING, step_operation("confirm")),
    Operation(booking.REFUSE, step_operation("refuse")),
    Operation(booking.ARRIVE, step_operation("arrive")),
    Operation(booking.CHECK_IN, step_operation("check-in")),
    Operation(booking.FULFIL, step_operation("fulfil")),
    Operation(booking.NO_SHOW, step_operation("no-show")),
    Operation(booking.EXCUSE, excuse_operation),
    Operation(booking.VOID, step_operation("void")),
    Operation(booking.WHY_NOT, why_not),
    Operation(pools.WAITLIST, pools.waitlist_operation),
    Operation(pools.DECLINE, pools.decline_operation),
    Operation(pools.APPEAL, pools.appeal_operation),
    Operation(pools.DECIDE, pools.decide_operation),
    Operation(pools.MISSED, pools.missed_operation),
    Operation(pools.RECONCILE, pools.reconcile_operation),
)

#: Methods by which an operation may be called at all.
METHODS = tuple(
    dict.fromkeys(method for row in OPERATIONS.values() for method in row.definition.methods)
)


def offered() -> list[Offered]:
    """The operations as the CapabilityStatement names them."""
    return [
        Offered(row.definition.code, url, types)
        for row in OPERATIONS.values()
        for url, types in canonicals(row.definition).items()
    ]


def operation_resources() -> Iterable[dict[str, Any]]:
    """The OperationDefinitions of all operations, to be stored with the project's resources."""
    return [operation_definition(row.definition) for row in OPERATIONS.values()]


def find(name: str, type: str, id: str) -> Operation:
    """The operation at this place. Raises NotFound."""
    operation = OPERATIONS.get(name)
    if operation is None or not stands_on(operation.definition, type, id):
        raise NotFound("There is no such operation here", rule="unknown-operation")
    return operation
