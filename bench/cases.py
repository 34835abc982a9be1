"""The requests of the bench: made from random patients of the seeded store."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable
from typing import Any

from bench.load import request_bytes
from bench.seed import ISSUERS, ITEMS, LOCAL, id_number

FHIR_JSON = "application/fhir+json"
#: Results of one report in the ingest case: with Patient, report and Provenance 12 resources.
REPORT_RESULTS = 9


class Cases:
    """Makes prepared requests; `patients` is how many the store was seeded with."""

    def __init__(self, patients: int, token: str, issuer_token: str) -> None:
        self._patients = patients
        self._token, self._issuer = token, issuer_token
        self._chance = random.Random(7)
        self._serial = 0
        self._run = uuid.uuid4().hex[:8]

    def _patient(self) -> str:
        return f"p{self._chance.randrange(self._patients):07d}"

    def floor_read(self) -> bytes:
        """The floor's lookup of one Observation."""
        return request_bytes("GET", f"/o/o{self._patient()[1:]}{self._chance.randrange(10)}")

    def floor_search(self) -> bytes:
        """The floor's lookup of patient, code and date."""
        return request_bytes("GET", f"/s/{self._patient()}/{self._chance.choice(ITEMS)}")

    def read(self) -> bytes:
        """Read by id."""
        id = f"o{self._patient()[1:]}{self._chance.randrange(10)}"
        return request_bytes("GET", f"/fhir/Observation/{id}", token=self._token)

    def search(self) -> bytes:
        """Search by patient, code and date."""
        item = self._chance.choice(ITEMS)
        path = (
            f"/fhir/Observation?patient={self._patient()}&code={LOCAL}%7CB{item}&date=ge2020-01-01"
        )
        return request_bytes("GET", path, token=self._token)

    def _orders(self, patient: str) -> list[dict[str, Any]]:
        return [
            {
                "resourceType": "ServiceRequest",
                "id": f"d{number}",
                "status": "draft",
                "intent": "order",
                "code": {"coding": [{"system": "urn:bench:order", "code": f"B{item}"}]},
                "subject": {"reference": f"Patient/{patient}"},
            }
            for number, item in enumerate(self._chance.sample(ITEMS, 5))
        ]

    def recognize(self) -> bytes:
        """ServiceRequest/$recognize of five items."""
        patient = self._patient()
        parameter: list[dict[str, Any]] = [
            {"name": "patient", "valueReference": {"reference": f"Patient/{patient}"}}
        ]
        parameter += [{"name": "order", "resource": order} for order in self._orders(patient)]
        body = json.dumps({"resourceType": "Parameters", "parameter": parameter}).encode()
        return request_bytes(
            "POST", "/fhir/ServiceRequest/$recognize", body, token=self._token, media=FHIR_JSON
        )

    def order_sign(self, service: str) -> Callable[[], bytes]:
        """The order-sign hook with five draft orders."""

        def make() -> bytes:
            patient = self._patient()
            entries = [{"resource": order} for order in self._orders(patient)]
            call = {
                "hook": "order-sign",
                "hookInstance": str(uuid.UUID(int=self._chance.getrandbits(128), version=4)),
                "context": {
                    "userId": "Practitioner/bench",
                    "patientId": patient,
                    "draftOrders": {"resourceType": "Bundle", "type": "collection",
                                    "entry": entries},
                },
            }  # fmt: skip
            body = json.dumps(call).encode()
            return request_bytes("POST", f"/cds-services/{service}", body, token=self._token)

        return make

    def report(self) -> bytes:
        """A hospital's report of nine results as a transaction: Patient, report, Observations."""
        self._serial += 1
        number = self._chance.randrange(self._patients)
        issuer, report = ISSUERS[0], f"{self._run}-{self._serial}"
        person = f"urn:uuid:{uuid.UUID(int=self._chance.getrandbits(128), version=4)}"
        patient = {
            "resourceType": "Patient",
            "id": f"p{number:07d}",
            "identifier": [
                {"system": "urn:oid:2.16.840.1.113883.2.23.1.19.1", "value": id_number(number)}
            ],
            "name": [{"text": f"测{number:07d}"}],
            "gender": "female" if number % 2 else "male",
            "birthDate": f"1970-{1 + number % 12:02d}-15",
        }
        results = [
            self._result(person, issuer, item)
            for item in self._chance.sample(ITEMS, REPORT_RESULTS)
        ]
        diagnostic = {
            "resourceType": "DiagnosticReport",
            "identifier": [{"system": "urn:bench:report", "value": report}],
            "status": "final",
            "code": {"text": "生化"},
            "subject": {"reference": person},
            "effectiveDateTime": "2026-11-20T08:10:00+08:00",
            "issued": "2026-11-20T11:10:00+08:00",
            "performer": [{"reference": f"Organization/{issuer}"}],
            "result": [{"reference": url} for url, _ in results],
        }
        entries: list[dict[str, Any]] = [
            {"fullUrl": person, "resource": patient,
             "request": {"method": "PUT", "url": f"Patient/{patient['id']}"}},
            {"resource": diagnostic, "request": {"method": "POST", "url": "DiagnosticReport"}},
        ]  # fmt: skip
        entries += [
            {"fullUrl": url, "resource": one, "request": {"method": "POST", "url": "Observation"}}
            for url, one in results
        ]
        body = json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})
        return request_bytes("POST", "/fhir", body.encode(), token=self._issuer, media=FHIR_JSON)

    def _result(self, person: str, issuer: str, item: str) -> tuple[str, dict[str, Any]]:
        value = round(self._chance.uniform(1, 200), 1)
        return f"urn:uuid:{uuid.UUID(int=self._chance.getrandbits(128), version=4)}", {
            "resourceType": "Observation",
            "status": "final",
            "code": {"coding": [{"system": LOCAL, "code": f"B{item}", "display": f"项目{item}"}]},
            "subject": {"reference": person},
            "effectiveDateTime": "2026-11-20T08:10:00+08:00",
            "issued": "2026-11-20T11:10:00+08:00",
            "performer": [{"reference": f"Organization/{issuer}"}],
            "valueQuantity": {"value": value, "unit": "U/L",
                              "system": "http://unitsofmeasure.org", "code": "U/L"},
        }  # fmt: skip
