"""One hook call: read it, know the patient, map the orders, ask, say it in cards.

The patient is known here or not at all: by a logical id of ours, or by an identifier in
`prefetch.patient`. An id of another server (`fhirServer`) means nothing here, and nothing is ever
fetched from there. docs/flows/order.md
"""

from __future__ import annotations

from typing import Any

import orjson

from fhir_gateway.cds_hooks.cards import cards
from fhir_gateway.cds_hooks.request import HookCall, read_call
from fhir_gateway.cds_hooks.services import Service
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, PreconditionFailed
from fhir_gateway.recognition.ask import Question, ask
from fhir_gateway.recognition.order import encounter_context, read_orders
from fhir_gateway.recognition.record import Occasion
from fhir_gateway.recognition.subject import Subject, subject_by_id, subject_by_identifiers
from fhir_gateway.recognition.vocabulary import reason_codings, vocabulary_of
from fhir_gateway.security.actor import Actor

_NOTHING = b'{"cards":[]}'


async def answer_call(
    gateway: Gateway, actor: Actor, service: Service, body: bytes, base: str
) -> bytes:
    """The response body: cards about the orders, which are on record already.

    Raises Structure, Invalid and TooLong for the call, PreconditionFailed when it does not say who
    the patient is.
    """
    call = read_call(service, body)
    orders = await read_orders(gateway, call.drafts, actor.institution)
    if not orders:
        return _NOTHING
    subject = await _subject(gateway, actor, call, base)
    answer = await ask(
        gateway,
        actor,
        Question(
            patient=subject.patient,
            items=tuple(item for order in orders for item in order.items),
            receiver=actor.institution or "",
            context=frozenset().union(
                encounter_context(call.prefetch.get("encounter")),
                *(order.context for order in orders),
            ),
            occasion=Occasion(service.hook, call.instance, call.user),
            contradictory=subject.contradictory,
            kept=call.kept,
            unless_known=None if "patient" in call.prefetch else _prefetch_missing(),
        ),
    )
    reasons = reason_codings(gateway)
    return orjson.dumps({"cards": cards(answer, orders, vocabulary_of(gateway), base, reasons)})


async def _subject(gateway: Gateway, actor: Actor, call: HookCall, base: str) -> Subject:
    """Whom the call is about. An id of ours without identifiers is looked up by `ask`."""
    ours = not call.fhir_server or call.fhir_server.rstrip("/") == base
    if "patient" not in call.prefetch:
        if not ours:
            raise _prefetch_missing()
        return Subject(call.patient_id)
    identifiers = _identifiers(call.prefetch["patient"])
    async with gateway.store.snapshot(actor.access) as reader:
        if ours:
            subject = await subject_by_id(reader, gateway, call.patient_id, identifiers)
            if subject.patient:
                return subject
        return await subject_by_identifiers(reader, gateway, identifiers)


def _prefetch_missing() -> PreconditionFailed:
    return PreconditionFailed(
        "patientId is no id of this gateway, and no other server is asked: "
        "send prefetch.patient with its identifiers",
        expression="prefetch.patient",
        rule="prefetch-missing",
    )


def _identifiers(patient: dict[str, Any] | None) -> list[dict[str, Any]]:
    given = (patient or {}).get("identifier", [])
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise Invalid(
            "prefetch.patient.identifier must be an array of Identifiers",
            expression="prefetch.patient.identifier",
            rule="type",
        )
    return given
