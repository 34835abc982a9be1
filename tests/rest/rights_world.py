"""Two hospitals, a patient of each, and a caller of every role, under the shipped policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from provider import Provider
from rest_samples import observation, patient
from running import Running

from fhir_gateway.interactions.evaluations import register_bodies
from fhir_gateway.security.evaluating_body import EvaluatingBody

ACCESS = Path(__file__).resolve().parents[2] / "profiles" / "access"

CALLERS = ("institution", "clinician", "patient", "regulator", "administrator", "evaluator")


class World:
    """Two hospitals with one patient each, an evaluating body, and a caller of every role."""

    role = department = ""  # of a third hospital, where a test stores them

    def __init__(self, folder: Path) -> None:
        self.provider = provider = Provider(folder)
        policy = str(ACCESS / "policy.toml")
        self.server = Running(folder / "gateway.db", policy=policy, **provider.settings())
        here, there = self.server.institution("here"), self.server.institution("there")
        self.server.institution("office")
        self._body()
        pa = self.make(here, patient(name=[{"text": "甲"}]))
        pb = self.make(there, patient(name=[{"text": "乙"}]))
        self.tokens = {
            "institution": here,
            "clinician": provider.token(
                role="clinician", institution="here", user="Practitioner/d"
            ),
            "patient": provider.token(role="patient", patient=pa, user=f"Patient/{pa}"),
            "regulator": provider.token(role="regulator", institution="office"),
            "administrator": provider.token(role="administrator", institution="office"),
            "evaluator": provider.token(role="evaluator", institution="body"),
        }
        self.ids: dict[str, dict[str, str]] = {}
        for type, make in SAMPLES.items():
            own, gone = self.make(here, make(pa, "here")), self.make(here, make(pa, "here"))
            self.server.delete(f"/fhir/{type}/{gone}", headers=here)
            other = self.make(there, make(pb, "there"))
            self.ids[type] = {"own": own, "other": other, "deleted": gone, "missing": "nobody"}
        self.patients = pa, pb

    def _body(self) -> None:
        body = EvaluatingBody(id="body", name="质控中心", level="city", area="110000")
        self.server.run(register_bodies(self.server.gateway, [body]))

    def make(self, headers: dict[str, str], resource: dict[str, Any]) -> str:
        """The id of a resource that was stored."""
        type = resource["resourceType"]
        answer = self.server.post(f"/fhir/{type}", resource, headers=headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def ask(self, role: str, method: str, path: str, **options: Any) -> Any:
        """The answer to a caller of a role."""
        headers = {**self.tokens[role], **options.pop("headers", {})}
        return self.server.request(method, path, headers=headers, **options)


#: One type of each group that clients write: (Patient, institution) -> a resource.
SAMPLES = {
    "Observation": lambda of, _: observation(f"Patient/{of}"),
    "Binary": lambda of, _: {
        "resourceType": "Binary", "contentType": "text/plain", "data": "eA==",
        "securityContext": {"reference": f"Patient/{of}"},
    },
    "Task": lambda of, by: {
        "resourceType": "Task", "status": "requested", "intent": "order",
        "for": {"reference": f"Patient/{of}"},
        "requester": {"reference": f"Organization/{by}"},
    },
    "MeasureReport": lambda _, __: {
        "resourceType": "MeasureReport", "status": "complete", "type": "summary",
        "measure": "https://example.org/Measure/x", "period": {"start": "2026"},
    },
    "Group": lambda _, __: {"resourceType": "Group", "type": "person", "actual": True},
    "Questionnaire": lambda _, __: {"resourceType": "Questionnaire", "status": "active"},
    "Location": lambda _, __: {"resourceType": "Location", "name": "x"},
}  # fmt: skip
