"""A city under the shipped policy: who sees what of a person whom another institution examined."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import consent_made
from city import City, Json
from running import Running

from fhir_gateway.interactions.relations import CONSENT_OBTAINED
from fhir_gateway.terminology.catalogue import LAB_SYSTEM

SHIPPED = str(Path(__file__).resolve().parents[1] / "profiles" / "access" / "policy.toml")
HIV = "L115"


def ago(**time: float) -> str:
    """A moment so long ago."""
    return (datetime.now(UTC) - timedelta(**time)).isoformat(timespec="milliseconds")


class Town(City):
    """The city, in which the receiver asks and the sender has the results."""

    def __init__(self, running: Running, **options: Any) -> None:
        super().__init__(running, **options)
        self._last = datetime.now(UTC) - timedelta(hours=1)

    def own(self, patient: str) -> str:
        """The receiver registers the same person: its own Patient's id."""
        stored = self.running.get(f"/fhir/Patient/{patient}", headers=self.sender).json()
        number = stored["identifier"][0]["value"]
        resource = {key: stored[key] for key in ("resourceType", "name")}
        resource["identifier"] = [
            {"system": "urn:receiver:patient", "value": number},
            *stored["identifier"][1:],
        ]
        return self.mine(resource | {"birthDate": "1990-03-07"})

    def mine(self, resource: Json) -> str:
        """Creates a resource as the receiver; its logical id."""
        answer = self.running.post(
            f"/fhir/{resource['resourceType']}", resource, headers=self.receiver
        )
        assert answer.status_code == 201, answer.text
        return str(answer.headers["location"].split("/")[-3])

    def visit(self, patient: str, *, asked: bool = False, **changes: Any) -> str:
        """An open encounter at the receiver; `asked` says in it that the patient agreed."""
        resource: Json = {
            "resourceType": "Encounter",
            "status": "in-progress",
            "class": {"code": "AMB"},
            "subject": {"reference": f"Patient/{patient}"},
            "period": {"start": ago(minutes=5)},
            **changes,
        }
        if asked:
            resource["extension"] = [{"url": CONSENT_OBTAINED, "valueBoolean": True}]
        return self.mine(resource)

    def when(self) -> str:
        """A time of consenting, later than all before."""
        self._last += timedelta(seconds=1)
        return self._last.isoformat(timespec="seconds")

    def consented(self, patient: str, words: Mapping[str, Any]) -> Json:
        """A Consent that the receiver obtained, as it is stored."""
        resource = consent_made.consent(words, patient, when=self.when())
        answer = self.running.post("/fhir/Consent", resource, headers=self.receiver)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def permit(self, patient: str, encounter: str, **more: Any) -> Json:
        """A permit to the receiver for an encounter."""
        words = {"type": "permit", "to": ["receiver"], "encounter": encounter, **more}
        return self.consented(patient, words)

    def withdraw(self, consent: Json) -> None:
        """Ends a Consent."""
        resource = {key: value for key, value in consent.items() if key != "meta"}
        answer = self.running.put(
            f"/fhir/Consent/{consent['id']}",
            {**resource, "status": "inactive"},
            headers=self.receiver,
        )
        assert answer.status_code == 200, answer.text

    def sees(self, *references: str) -> list[bool]:
        """Whether the receiver may read each of these."""
        return [
            self.running.get(f"/fhir/{one}", headers=self.receiver).status_code == 200
            for one in references
        ]

    def observation(self, patient: str, item: str) -> Json:
        """An order of an item for a patient, as a draft."""
        return {
            "resourceType": "ServiceRequest", "id": "o1", "status": "draft", "intent": "order",
            "code": {"coding": [{"system": LAB_SYSTEM, "code": item}]},
            "subject": {"reference": f"Patient/{patient}"},
        }  # fmt: skip
