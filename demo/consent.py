"""The demonstration's chapter on consent: what is refused, what opens a record, an emergency.

Under the policy that is shipped a hospital sees what others hold by a treatment relation and the
patient's consent, both given for one encounter (docs/consent.md).
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from fhirpy import SyncFHIRClient

from demo import tell
from demo.server import command
from fhir_gateway.interactions.relations import CONSENT_OBTAINED

_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"


def outside(fhir: SyncFHIRClient, patient: str) -> int:
    """How many results of a person a hospital sees by a search."""
    query = {"patient": f"Patient/{patient}", "_summary": "count"}
    return sum(
        int(fhir.execute(type, method="get", params=query)["total"])
        for type in ("Observation", "ImagingStudy")
    )


def visit(fhir: SyncFHIRClient, patient: str, now: datetime, *, asked: bool) -> str:
    """Begins an encounter; `asked` says in it that the patient agreed. Returns its id."""
    encounter = fhir.resource(
        "Encounter",
        status="in-progress",
        subject={"reference": f"Patient/{patient}"},
        period={"start": now.isoformat(timespec="seconds")},
        **{"class": {"system": f"{_TERMINOLOGY}/v3-ActCode", "code": "AMB"}},
    )
    if asked:
        encounter["extension"] = [{"url": CONSENT_OBTAINED, "valueBoolean": True}]
    encounter.save()
    return str(encounter.id)


def consent(
    fhir: SyncFHIRClient, patient: str, receiver: str, encounter: str, now: datetime
) -> None:
    """The patient's Consent to this encounter, as the hospital obtained it."""
    recipient = {"coding": [{"system": f"{_TERMINOLOGY}/v3-ParticipationType", "code": "IRCP"}]}
    resource = fhir.resource(
        "Consent",
        status="active",
        scope={"coding": [{"system": f"{_TERMINOLOGY}/consentscope", "code": "patient-privacy"}]},
        category=[{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        patient={"reference": f"Patient/{patient}"},
        dateTime=now.isoformat(timespec="seconds"),
        policyRule={"coding": [{"system": f"{_TERMINOLOGY}/v3-ActCode", "code": "OPTIN"}]},
        provision={
            "type": "permit",
            "actor": [{"role": recipient, "reference": {"reference": f"Organization/{receiver}"}}],
            "data": [{"meaning": "related", "reference": {"reference": f"Encounter/{encounter}"}}],
        },
    )
    resource.save()


def visits(fhir: SyncFHIRClient, receiver: str, known: dict[str, str], now: datetime) -> None:
    """Every patient is seen, and asked: one in writing, the others as the encounter says."""
    tell.chapter("Visits and consent")
    first = known["p1"]
    tell.said(f"before the visit {receiver} sees {outside(fhir, first)} of the results")
    encounter = visit(fhir, first, now, asked=False)
    tell.said(f"the visit alone opens nothing: {outside(fhir, first)} results")
    consent(fhir, first, receiver, encounter, now)
    tell.said(f"with a Consent to this visit: {outside(fhir, first)} results")
    for key in ("p2", "p3", "p4"):
        visit(fhir, known[key], now, asked=True)


def emergency(fhir: SyncFHIRClient, database: Path, institution: str, patient: str) -> None:
    """Another hospital opens a record in an emergency, and somebody looks at that afterwards."""
    tell.chapter("An emergency at another hospital")
    tell.said(f"{institution} sees {outside(fhir, patient)} results")
    task = _break_glass(fhir, patient)
    tell.said(f"break-glass until {task['executionPeriod']['end']}: Task/{task['id']}")
    tell.said(f"{institution} sees {outside(fhir, patient)} results")
    said = command(
        database, "break-glass", "review", task["id"], "--outcome", "justified",
        "--by", "demo-privacy-officer", "--note", "unconscious on arrival",
    )  # fmt: skip
    tell.said(said.strip())


def _break_glass(fhir: SyncFHIRClient, patient: str) -> dict[str, Any]:
    parameters = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "reason", "valueCode": "cannot-consent"},
            {"name": "user", "valueReference": {"reference": "Practitioner/demo-emergency"}},
            {"name": "minutes", "valuePositiveInt": 30},
        ],
    }
    answer: dict[str, Any] = fhir.execute(
        f"Patient/{patient}/$break-glass", method="post", data=parameters
    )
    return answer
