"""Provenance of what the gateway itself added to a resource: catalogue codings.

One Provenance per change set and person; hl7.org/fhir/R4/provenance.html. The hospital's own
codes stay beside the added ones, so the record names the elements that are the gateway's.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from fhir_gateway.audit.events import GATEWAY_NAME
from fhir_gateway.context import Gateway
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.classify import grade
from fhir_gateway.interactions.prepare import put_of
from fhir_gateway.interactions.steps import Step
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.changes import Put
from fhir_gateway.store.store import Stored

#: Ids of these Provenances begin so.
_PREFIX = "coded-"
_PARTICIPANT = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
_ACTIVITY = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"
_TARGET_ELEMENT = "http://hl7.org/fhir/StructureDefinition/targetElement"


class Coded(NamedTuple):
    """One resource that was coded: its name, its packed bytes, the elements that were added."""

    reference: str
    body: bytes
    elements: Sequence[str]


def provenance_id(coded: Sequence[Coded]) -> str:
    """The same codings of the same content have the same id, so a repeat stores nothing twice."""
    digest = blake2b(digest_size=20)
    for one in coded:
        digest.update(one.reference.encode() + b"\x00" + one.body + b"\x00")
    return f"{_PREFIX}{digest.hexdigest()}"


def is_made_here(stored: Stored) -> bool:
    """Whether a resource is such a Provenance: it has its targets' owner, who did not send it."""
    return stored.type == "Provenance" and stored.id.startswith(_PREFIX)


def provenance(coded: Sequence[Coded], *, recorded_us: int) -> dict[str, Any]:
    """Says that the gateway added catalogue codings to these resources."""
    return {
        "resourceType": "Provenance",
        "id": provenance_id(coded),
        "target": [_target(one) for one in coded],
        "recorded": instant(recorded_us),
        "activity": {"coding": [{"system": _ACTIVITY, "code": "UPDATE", "display": "revise"}]},
        "agent": [
            {
                "type": {
                    "coding": [
                        {"system": _PARTICIPANT, "code": "assembler", "display": "Assembler"}
                    ]
                },
                "who": {"type": "Device", "display": GATEWAY_NAME},
            }
        ],
    }


def _target(one: Coded) -> dict[str, Any]:
    return {
        "extension": [{"url": _TARGET_ELEMENT, "valueUri": element} for element in one.elements],
        "reference": one.reference,
    }


async def provenances(
    gateway: Gateway, actor: Actor, steps: Sequence[Step], only_if_changed: bool
) -> list[Put]:
    """Who added the codings: one Provenance for each home that was written to.

    It is seen by whom its targets are: it has their owner and class, or it would tell everybody
    that there is such a result.
    """
    await grade(gateway, steps)
    groups: dict[tuple[str | None, str | None, int, int, int], list[Coded]] = {}
    for step in steps:
        put = step.put
        if put is not None and step.coding.coded:
            place = (put.patient, put.follow, put.home, put.owner, put.sensitivity)
            groups.setdefault(place, []).append(Coded(step.name, put.body, step.coding.coded))
    puts = []
    for (*_, owner, sensitivity), coded in groups.items():
        record = provenance(coded, recorded_us=gateway.clock.now())
        if not (only_if_changed and await _is_stored(gateway, actor, record)):
            put = put_of(gateway, record, op="create", owner=owner, only_if_changed=True)
            put.sensitivity = sensitivity
            puts.append(put)
    return puts


async def _is_stored(gateway: Gateway, actor: Actor, record: dict[str, Any]) -> bool:
    async with gateway.store.snapshot(actor.access) as reader:
        return await reader.read(record["resourceType"], record["id"]) is not None
