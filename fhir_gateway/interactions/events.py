"""The audit entries of writes, made inside the write's own change set."""

from __future__ import annotations

from collections.abc import Sequence

from fhir_gateway.audit.events import (
    Call,
    Event,
    create_event,
    delete_event,
    receive_event,
    search_event,
    transaction_event,
    update_event,
)
from fhir_gateway.audit.query import masked
from fhir_gateway.context import Gateway
from fhir_gateway.interactions.audit import call_of, entry, patient_of
from fhir_gateway.interactions.steps import Step
from fhir_gateway.interactions.write import Auditor
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.changes import Entry, Received


def write_events(gateway: Gateway, actor: Actor) -> Auditor:
    """One event for each step: create, update, patch, delete."""
    call = call_of(gateway, actor)
    return lambda steps: [_entry_of(gateway, call, step) for step in steps]


def _entry_of(gateway: Gateway, call: Call, step: Step) -> Entry:
    patient, home = _person(step)
    version = step.current.version if step.current is not None else 0
    if not step.id:  # a conditional delete that found nothing
        query = masked(step.condition.query if step.condition else "", gateway.store.index_key)
        event = search_event(call, query=query, count=0, interaction="delete")
    elif step.edit is not None:
        version += step.put is not None
        event = update_event(
            call, type=step.type, id=step.id, version=version, patient=patient, interaction="patch"
        )
    elif step.op == "delete":
        event = delete_event(call, type=step.type, id=step.id, patient=patient)
    elif step.put is not None and step.put.op == "update":
        event = update_event(call, type=step.type, id=step.id, version=version + 1, patient=patient)
    else:
        version = version + 1 if step.put is not None else version
        event = create_event(call, type=step.type, id=step.id, version=version, patient=patient)
    return entry(gateway, event, home=home, patient=None if home else patient)


def _person(step: Step) -> tuple[str | None, int]:
    """The Patient that a step is about, and the home where that is known already."""
    if step.current is not None:
        return patient_of(step.current), max(step.current.home, 0)
    return (step.put.patient if step.put is not None else None), 0


def transaction_events(
    gateway: Gateway, actor: Actor, *, summary: str, received: Received | None = None
) -> Auditor:
    """One event for each person that a Bundle writes about; the first names all the rest too."""
    call = call_of(gateway, actor)

    def audit(steps: Sequence[Step]) -> list[Entry]:
        groups: dict[str | None, list[str]] = {}
        for step in steps:
            if step.id:
                groups.setdefault(_person(step)[0], []).append(step.name)
        rest = groups.pop(None, [])
        entries = []
        for patient, names in groups.items() or {None: []}.items():
            event = _bundle_event(call, rest + names, patient, summary, received)
            entries.append(entry(gateway, event, patient=patient))
            rest = []
        return entries

    return audit


def _bundle_event(
    call: Call, names: list[str], patient: str | None, summary: str, received: Received | None
) -> Event:
    patients = [patient] if patient else []
    if received is None:
        return transaction_event(call, resources=names, patients=patients, summary=summary)
    return receive_event(
        call,
        media=received.media,
        digest=received.hash,
        resources=names,
        patients=patients,
        summary=summary,
    )
