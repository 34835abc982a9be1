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
    if not await may_be_told(gateway, actor, answer):
        text = "The patient's consent, or what you ask for, does not cover this document any more"
        raise Forbidden(text, rule="consent")
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


async def may_be_told(
    gateway: Gateway, actor: Actor, answer: DoctorAnswer, *, asserted: bool = False
) -> bool:
    """Whether a caller may see now what the document of an answer hands out: whoever answered an
    order treats the patient, but consent, purpose and scopes count each time. `asserted`: the
    order that is answered said that the patient agreed; a Consent that says no stands above that.
    """
    access = ordering(gateway, actor, asserted=asserted).access
    if access.sight is None and access.owners is None and access.narrow is None:
        return True
    async with gateway.store.snapshot(access) as reader:
        return await are_seen(reader, (*answer.results, *answer.reports))


async def _read(gateway: Gateway, actor: Actor, id: str) -> DoctorAnswer:
    async with gateway.store.snapshot(actor.access) as reader:
        stored = await reader.read("Task", id)
    answer = read_answer(stored) if stored is not None else None
    mine = not actor.bound or (answer and answer.institution == actor.institution)
    if answer is None or not mine:
        raise NotFound("There is no such answer", rule="answer")
    return answer
