"""DiagnosticReport/[id]/$as-document and Composition/[id]/$document: a document Bundle.

hl7.org/fhir/R4/documents.html, composition-operation-document.html; bdl-9 to bdl-11. Stored
resources stand in it byte by byte, as the caller sees them in one snapshot; it is audited as a
disclosure of each person in it before it is handed out.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

from fhir_gateway.audit.events import disclosure_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Deleted, Invalid, NotFound, NotSupported, Unprocessable
from fhir_gateway.fhir.wire import instant, parse, render
from fhir_gateway.interactions.audit import call_of, disclose, entry, people_of
from fhir_gateway.interactions.create import create
from fhir_gateway.interactions.document_collect import Collected, collect, local, references
from fhir_gateway.interactions.document_report import composition
from fhir_gateway.interactions.narrowing import scoped
from fhir_gateway.interactions.operation_definitions import Call
from fhir_gateway.interactions.permits import Asked, permit
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.store import Reader, Stored

#: What the Bundle says of itself when not everything is in it (v3-ObservationValue).
_REDACTED = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "REDACTED",
    "display": "redacted",
}

#: Elements of a Composition that name other documents, which are no part of it.
_OTHER_DOCUMENTS = frozenset({"relatesTo"})


class _Document(NamedTuple):
    """A document before it is written: its first entry, and the others."""

    first: tuple[str, bytes]
    collected: Collected
    stored: Sequence[Stored]  # all that is stored, for the audit log


async def report_as_document(gateway: Gateway, actor: Actor, call: Call) -> bytes:
    """DiagnosticReport/[id]/$as-document.

    Raises NotFound, Deleted, TooCostly, Invalid for persist in a query, and Forbidden when the
    caller may not store the Bundle.
    """
    await _check_persist(gateway, actor, call)
    id = _new_uuid(gateway)
    async with gateway.store.snapshot(actor.access) as reader:
        report = await _root(reader, call)
        collected = await collect(reader, report, references(parse(report.whole())), call.base)
    stored = [report, *collected.found.values()]
    held = {f"{one.type}/{one.id}": parse(one.whole()) for one in stored}
    made = composition(
        held[f"{report.type}/{report.id}"],
        held,
        sorted(collected.missing),
        id=id,
        now=instant(gateway.clock.now()),
    )
    collected.found = {"": report} | collected.found
    first = (f"{call.base}/Composition/{id}", render(made))
    return await _hand_out(gateway, actor, call, id, _Document(first, collected, stored))


async def composition_document(gateway: Gateway, actor: Actor, call: Call) -> bytes:
    """Composition/[id]/$document.

    Raises Unprocessable when something that the Composition names is not there or not seen: a
    document that is not whole must not look like one. Else as `report_as_document`.
    """
    if call.value("graph") is not None:
        text = "graph is not supported: what the Composition refers to is followed"
        raise NotSupported(text, expression="graph", rule="parameter")
    await _check_persist(gateway, actor, call)
    async with gateway.store.snapshot(actor.access) as reader:
        root = await _root(reader, call)
        named = list(references(parse(root.whole()), leave=_OTHER_DOCUMENTS))
        collected = await collect(reader, root, named, call.base)
    if missing := sorted({local(one, call.base) for one in named} & collected.missing.keys()):
        raise Unprocessable(
            f"The document would not be whole: {', '.join(missing)} is not there, or you may not "
            "see it",
            expression="Composition",
            rule="document-incomplete",
        )
    first = (f"{call.base}/Composition/{root.id}", root.whole())
    made = _Document(first, collected, [root, *collected.found.values()])
    return await _hand_out(gateway, actor, call, _new_uuid(gateway), made)


async def _root(reader: Reader, call: Call) -> Stored:
    stored = await reader.read(call.type, call.id)
    if stored is None:
        raise NotFound("There is no such resource", rule="unknown-id")
    if stored.deleted:
        raise Deleted("This resource is deleted", rule="deleted")
    return stored


def _new_uuid(gateway: Gateway) -> str:
    return str(UUID(bytes=gateway.random(16), version=4))


async def _check_persist(gateway: Gateway, actor: Actor, call: Call) -> None:
    """Storing the Bundle is a create of it: by POST, and by whoever may create one."""
    taken = call.one("persist")
    if taken is None or not taken.value:
        return
    if taken.expression == "persist":
        text = "persist=true stores a Bundle: send it in Parameters, by POST"
        raise Invalid(text, expression="persist", rule="parameter")
    asked = Asked("create", "Bundle")
    await permit(gateway, actor, asked)
    await scoped(gateway, actor, asked)


async def _hand_out(
    gateway: Gateway, actor: Actor, call: Call, id: str, document: _Document
) -> bytes:
    """The Bundle, audited; stored before, where that is asked for."""
    body = _bundle(document, id, call.base, instant(gateway.clock.now()))
    if call.value("persist"):
        outcome = await create(gateway, actor, type="Bundle", body=body, base=call.base)
        body = outcome.body()
    if gateway.audit:
        root = document.stored[0]
        told = call_of(gateway, actor)
        entries = []
        for home, patient in await people_of(gateway, document.stored) or {(0, None): None}:
            event = disclosure_event(
                told,
                operation=call.name,
                file=f"urn:uuid:{id}",
                details=(("resources", str(len(document.stored))),
                         ("sha256", sha256(body).hexdigest())),
                patient=patient,
                resources=[f"{root.type}/{root.id}/_history/{root.version}"],
            )  # fmt: skip
            entries.append(entry(gateway, event, home=home))
        await disclose(gateway, entries)
    return body


def _bundle(document: _Document, id: str, base: str, now: str) -> bytes:
    """A document Bundle: its identity and time, the Composition, then the rest."""
    others = [
        (f"{base}/{one.type}/{one.id}", one.whole()) for one in document.collected.found.values()
    ]
    entries = b",".join(
        b'{"fullUrl":%b,"resource":%b}' % (render(url), body)
        for url, body in (document.first, *others)
    )
    head = {
        "resourceType": "Bundle",
        "meta": {"security": [_REDACTED]} if document.collected.missing else None,
        "identifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{id}"},
        "type": "document",
        "timestamp": now,
    }
    body = render({name: value for name, value in head.items() if value is not None})
    return b'%b,"entry":[%b]}' % (body[:-1], entries)
