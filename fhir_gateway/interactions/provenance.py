"""Provenance of what the gateway itself added to a resource: catalogue codings.

One Provenance per change set and person; hl7.org/fhir/R4/provenance.html. The hospital's own
codes stay beside the added ones, so the record names the elements that are the gateway's.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from fhir_gateway.audit.events import GATEWAY_NAME
from fhir_gateway.fhir.wire import instant

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
    return f"coded-{digest.hexdigest()}"


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
