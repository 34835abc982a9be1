"""The document of an answer fetched again: the same bytes, audited before they are handed out."""

from __future__ import annotations

from fhir_gateway.audit.events import document_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Deleted, Forbidden, NotFound, Unprocessable
from fhir_gateway.interactions.audit import call_of, disclose, entry
from fhir_gateway.recognition.answer_document import FILED, digest_of, document, read_pieces
from fhir_gateway.recognition.answer_model import DoctorAnswer
from fhir_gateway.recognition.answered import read_answer
from fhir_gateway.recognition.ordering import are_seen, ordering
from fhir_gateway.recognition.recorded import read_decision
from fhir_gateway.recognition.vocabulary import catalogue_of
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor


async def fetch_document(gateway: Gateway, actor: Actor, id: str) -> bytes:
    """The document that goes with the answer Task/[id], whose hash stands in the answer.

    Raises NotFound when there is no such answer or it is another institution's, Unprocessable
    when nothing was accepted or cited by it, Deleted when what was accepted was erased since.
    """
    answer = await _read(gateway, actor, id)
    if answer.state not in FILED or not answer.digest:
        text = "Nothing is filed with this answer: it accepts and cites no result"
        raise Unprocessable(text, rule="no-document")
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        recorded = await read_decision(reader, actor, answer.decision)
        query = recorded.inputs.query
        pieces = await read_pieces(reader, answer, query.t, query.as_of_us)
    body = document(answer, pieces, catalogue_of(gateway), answer.base)
    if digest_of(body) != answer.digest:
        text = "What the document was made of was erased in part: its hash is another by now"
        raise Deleted(text, rule="erased")
    await _check_consent(gateway, actor, answer)
    if gateway.audit:
        event = document_event(
            call_of(gateway, actor),
            id=answer.id,
            patient=answer.patient or None,
            operation="$document",
            resources=(*answer.results, *answer.reports),
        )
        await disclose(gateway, [entry(gateway, event, home=query.home)])
    return body


async def _check_consent(gateway: Gateway, actor: Actor, answer: DoctorAnswer) -> None:
    """Raises Forbidden when the patient has withdrawn what the document was handed out by: whoever
    answered an order treats the patient, but consent counts each time."""
    actor = ordering(gateway, actor)
    if actor.access.sight is None:
        return
    async with gateway.store.snapshot(actor.access) as reader:
        if not await are_seen(reader, (*answer.results, *answer.reports)):
            text = "The patient's consent does not cover this document any more"
            raise Forbidden(text, rule="consent")


async def _read(gateway: Gateway, actor: Actor, id: str) -> DoctorAnswer:
    async with gateway.store.snapshot(actor.access) as reader:
        stored = await reader.read("Task", id)
    answer = read_answer(stored) if stored is not None else None
    mine = not actor.bound or (answer and answer.institution == actor.institution)
    if answer is None or not mine:
        raise NotFound("There is no such answer", rule="answer")
    return answer
