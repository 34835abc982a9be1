"""The requests of the bench: made from random people of the seeded store."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from bench.load import request_bytes
from bench.people import ACCESSION, ID_SYSTEM, ISSUERS, ITEMS, LOCAL, LOINC, id_number, name

FHIR_JSON = "application/fhir+json"
#: Results of one report in the ingest case: with Patient, report and Provenance 12 resources.
REPORT_RESULTS = 9
_SAFE = "/?&=:-._~$"


class Cases:
    """Makes prepared requests; `people` is how many the store was seeded with."""

    def __init__(self, people: int, token: str, issuer_token: str) -> None:
        self._people = people
        self._token, self._issuer = token, issuer_token
        self._chance = random.Random(7)
        self._serial = 0
        self._run = uuid.uuid4().hex[:8]

    # -- the floor -------------------------------------------------------------------------------

    def floor_read(self) -> bytes:
        """The floor's lookup of one Observation."""
        return request_bytes("GET", f"/o/{self._observation()}")

    def floor_search(self) -> bytes:
        """The floor's lookup of patient, code and date."""
        return request_bytes("GET", f"/s/p{self._person():07d}/{self._item()}")

    # -- reads and searches ----------------------------------------------------------------------

    def read(self) -> bytes:
        """Read by id."""
        return self._get(f"Observation/{self._observation()}")

    def vread(self) -> bytes:
        """One version."""
        return self._get(f"Observation/{self._observation()}/_history/1")

    def code_date(self) -> bytes:
        """Patient, code and date."""
        code = f"{LOCAL}|B{self._item()}"
        return self._get(f"Observation?patient={self._patient()}&code={code}&date=ge2026-01-01")

    def category_date_sorted(self) -> bytes:
        """Patient, category and date, newest first."""
        return self._get(
            f"Observation?patient={self._patient()}&category=laboratory&date=ge2026-05-01"
            "&_sort=-date&_count=20"
        )

    def report_includes(self) -> bytes:
        """A person's newest report with its results and its order."""
        return self._get(
            f"DiagnosticReport?patient={self._patient()}&category=LAB&_sort=-date&_count=1"
            "&_include=DiagnosticReport:result&_include=DiagnosticReport:based-on"
        )

    def imaging(self) -> bytes:
        """A person's imaging studies."""
        return self._get(f"ImagingStudy?patient={self._patient()}&_sort=-started")

    def accession(self) -> bytes:
        """An imaging study by its accession number, without a patient."""
        number = f"A{self._person():07d}{self._chance.randrange(2)}"
        return self._get(f"ImagingStudy?identifier={ACCESSION}|{number}")

    def patient_identifier(self) -> bytes:
        """A Patient by identity number."""
        return self._get(f"Patient?identifier={ID_SYSTEM}|{id_number(self._person())}")

    def patient_name(self) -> bytes:
        """A Patient by name."""
        return self._get(f"Patient?name={quote(name(self._person()))}")

    def chained(self) -> bytes:
        """Results of an item by the identity number of their Patient."""
        number = id_number(self._person())
        return self._get(
            f"Observation?subject:Patient.identifier={ID_SYSTEM}|{number}"
            f"&code={LOCAL}|B{self._item()}"
        )

    def has(self) -> bytes:
        """A Patient by identity number who has a result of an item."""
        number = id_number(self._person())
        return self._get(
            f"Patient?identifier={ID_SYSTEM}|{number}"
            f"&_has:Observation:patient:code={LOCAL}|B{self._item()}"
        )

    def composite(self) -> bytes:
        """Systolic pressure above a value, of one person."""
        return self._get(
            f"Observation?patient={self._patient()}"
            f"&component-code-value-quantity={LOINC}|8480-6$gt{self._chance.randrange(90, 150)}"
        )

    def everything(self) -> bytes:
        """The first page of a person's record."""
        return self._get(f"Patient/{self._patient()}/$everything?_count=50")

    # -- recognition -----------------------------------------------------------------------------

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

    def order_sign(self) -> bytes:
        """The order-sign hook with five draft orders."""
        patient = self._patient()
        entries = [{"resource": order} for order in self._orders(patient)]
        call = {
            "hook": "order-sign",
            "hookInstance": str(uuid.UUID(int=self._chance.getrandbits(128), version=4)),
            "context": {
                "userId": "Practitioner/bench",
                "patientId": patient,
                "draftOrders": {"resourceType": "Bundle", "type": "collection", "entry": entries},
            },
        }
        path = "/cds-services/recognition-order-sign"
        return request_bytes("POST", path, json.dumps(call).encode(), token=self._token)

    # -- writes ----------------------------------------------------------------------------------

    def transaction(self, entries: int) -> Callable[[], bytes]:
        """Makes transactions of so many results of a person who is there."""

        def make() -> bytes:
            subject = f"Patient/{self._patient()}"
            results = [self._result(subject, self._item()) for _ in range(entries)]
            return self._bundle([("POST", "Observation", url, one) for url, one in results])

        return make

    def report(self) -> bytes:
        """A hospital's report of nine results as a transaction: Patient, report, Observations."""
        self._serial += 1
        number, report = self._person(), f"{self._run}-{self._serial}"
        person = f"urn:uuid:{self._uuid()}"
        patient = {
            "resourceType": "Patient",
            "id": f"p{number:07d}",
            "identifier": [{"system": ID_SYSTEM, "value": id_number(number)}],
            "name": [{"text": name(number), "family": "测", "given": [name(number)[1:]]}],
            "gender": "female" if number % 2 else "male",
            "birthDate": f"1970-{1 + number % 12:02d}-15",
        }
        items = self._chance.sample(ITEMS, REPORT_RESULTS)
        results = [self._result(person, item) for item in items]
        diagnostic = {
            "resourceType": "DiagnosticReport",
            "identifier": [{"system": "urn:bench:report", "value": report}],
            "status": "final",
            "code": {"text": "生化"},
            "subject": {"reference": person},
            "effectiveDateTime": "2026-11-20T08:10:00+08:00",
            "issued": "2026-11-20T11:10:00+08:00",
            "performer": [{"reference": f"Organization/{ISSUERS[0]}"}],
            "result": [{"reference": url} for url, _ in results],
        }
        return self._bundle([
            ("PUT", f"Patient/{patient['id']}", person, patient),
            ("POST", "DiagnosticReport", f"urn:uuid:{self._uuid()}", diagnostic),
            *(("POST", "Observation", url, one) for url, one in results),
        ])  # fmt: skip

    # -- parts -----------------------------------------------------------------------------------

    def _person(self) -> int:
        return self._chance.randrange(self._people)

    def _patient(self) -> str:
        return f"p{self._person():07d}"

    def _item(self) -> str:
        return self._chance.choice(ITEMS)

    def _observation(self) -> str:
        return f"o{self._person():07d}{self._chance.randrange(4)}{self._chance.randrange(9)}"

    def _uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self._chance.getrandbits(128), version=4)

    def _get(self, path: str) -> bytes:
        return request_bytes("GET", "/fhir/" + quote(path, safe=_SAFE + "%"), token=self._token)

    def _bundle(self, writes: list[tuple[str, str, str, dict[str, Any]]]) -> bytes:
        entries = [
            {"fullUrl": url, "resource": one, "request": {"method": method, "url": path}}
            for method, path, url, one in writes
        ]
        body = json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})
        return request_bytes("POST", "/fhir", body.encode(), token=self._issuer, media=FHIR_JSON)

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

    def _result(self, subject: str, item: str) -> tuple[str, dict[str, Any]]:
        value = round(self._chance.uniform(1, 200), 1)
        return f"urn:uuid:{self._uuid()}", {
            "resourceType": "Observation",
            "status": "final",
            "code": {"coding": [{"system": LOCAL, "code": f"B{item}", "display": f"项目{item}"}]},
            "subject": {"reference": subject},
            "effectiveDateTime": "2026-11-20T08:10:00+08:00",
            "issued": "2026-11-20T11:10:00+08:00",
            "performer": [{"reference": f"Organization/{ISSUERS[0]}"}],
            "valueQuantity": {
                "value": value,
                "unit": "U/L",
                "system": "http://unitsofmeasure.org",
                "code": "U/L",
            },
        }
