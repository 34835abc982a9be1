"""A small city for the tests of asking: two institutions, an evaluation, people and results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import httpx
from running import Running

from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.recognition import publish
from fhir_gateway.recognition.register import AREA_URL, ITEM_URL, PERIOD_URL, ROUND_URL
from fhir_gateway.recognition.vocabulary import catalogue_of
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.terminology.area import AREA_SYSTEM
from fhir_gateway.terminology.catalogue import LAB_SYSTEM

Json = dict[str, Any]
DOCUMENT = "urn:oid:2.16.156.10011.1.3"
UUID = "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea"
#: Published windows; a compiled one, which is never a reason to offer a replacement.
POTASSIUM, SODIUM, COMPILED = "L001", "L002", "L060"
EVALUATED = (POTASSIUM, SODIUM, COMPILED)
#: What a workstation sends of a patient in no particular situation.
ORDINARY: dict[str, Any] = {
    "encounter": {"resourceType": "Encounter", "status": "in-progress", "class": {"code": "AMB"}},
    "conditions": None,
    "requests": None,
    "procedures": None,
}
_number = count(1)


def id_number(sequence: int, born: str = "19900307") -> str:
    """A well-formed identity number that belongs to nobody; `sequence` has three digits."""
    body = f"110101{born}{sequence:03d}"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    total = sum(int(digit) * weight for digit, weight in zip(body, weights, strict=True))
    return body + "10X98765432"[total % 11]


def day(ago: int, hour: int = 8) -> str:
    """A time of day so many days ago, in the city's zone."""
    now = datetime.now(ZoneInfo("Asia/Shanghai")) - timedelta(days=ago)
    return now.replace(hour=hour, minute=0, second=0, microsecond=0).isoformat()


class City:
    """A gateway with a receiver, a sender whose laboratory passed, and the rules in force."""

    def __init__(self, running: Running, *, rules: bool = True) -> None:
        self.running, self.gateway = running, running.gateway
        self.receiver = running.institution("receiver", "接诊医院")
        self.sender = running.institution("sender", "检验医院")
        self.evaluate("sender", EVALUATED)
        if rules:
            running.run(publish.activate(self.gateway, "1.0.0", demonstration=True))

    def put(self, resource: Json) -> None:
        """Stores a resource as the operator would."""
        put = prepare(self.gateway, resource, op="create", institution=None)
        change_set = ChangeSet(id=self.gateway.random(16), puts=[put])
        self.running.run(self.gateway.store.commit(change_set))

    def evaluate(
        self, institution: str, items: Sequence[str], *, status: str = "validated"
    ) -> None:
        """A round of quality evaluation for the whole city."""
        extensions: list[Json] = [
            {"url": ITEM_URL, "valueCoding": {"system": LAB_SYSTEM, "code": item}} for item in items
        ]
        extensions += [
            {"url": AREA_URL, "valueCoding": {"system": AREA_SYSTEM, "code": "110000"}},
            {"url": PERIOD_URL, "valuePeriod": {"start": "2020-01-01", "end": "2099-12-31"}},
            {"url": ROUND_URL, "valueString": "round-1"},
        ]
        self.put({
            "resourceType": "VerificationResult",
            "id": f"round-{institution}",
            "status": status,
            "extension": extensions,
            "target": [{"reference": f"Organization/{institution}"}],
            "validator": [{"organization": {"display": "市临检中心"}}],
        })  # fmt: skip

    def patient(self, *, name: str = "测试甲", documented: bool = True) -> str:
        """A new person; the logical id of the Patient."""
        number = next(_number)
        resource: Json = {"resourceType": "Patient", "name": [{"text": f"{name}{number}"}]}
        resource["identifier"] = [{"system": "urn:sender:patient", "value": f"P{number}"}]
        if documented:
            identifier = {"system": DOCUMENT, "value": id_number(number)}
            resource["identifier"].append(identifier)
        return self.create(resource)

    def create(self, resource: Json) -> str:
        """Creates a resource as the sender; its logical id."""
        answer = self.running.post(
            f"/fhir/{resource['resourceType']}", resource, headers=self.sender
        )
        assert answer.status_code == 201, answer.text
        return str(answer.headers["location"].split("/")[-3])

    def result(
        self,
        patient: str,
        item: str = POTASSIUM,
        *,
        ago: int = 1,
        value: str = "3.95",
        report: str = "final",
        **changes: Any,
    ) -> str:
        """A result with its report, by the sender: "Observation/id". `...` takes a member out."""
        unit = catalogue_of(self.gateway).items[item].ucum_unit
        quantity = {"value": "@value", "unit": unit, "code": unit}
        resource = {
            "resourceType": "Observation",
            "status": "final",
            "code": {"coding": [{"system": LAB_SYSTEM, "code": item}]},
            "subject": {"reference": f"Patient/{patient}"},
            "performer": [{"reference": "Organization/sender"}],
            "specimen": {"display": "血清" if item != COMPILED else "EDTA全血"},
            "effectiveDateTime": day(ago),
            "issued": day(ago, 10),
            "valueQuantity": {**quantity, "system": "http://unitsofmeasure.org"},
            **changes,
        }
        resource = {name: given for name, given in resource.items() if given is not ...}
        body = json.dumps(resource, ensure_ascii=False).replace('"@value"', value)
        headers = {**self.sender, "content-type": "application/fhir+json"}
        answer = self.running.request(
            "POST", "/fhir/Observation", content=body.encode(), headers=headers
        )
        assert answer.status_code == 201, answer.text
        observation = f"Observation/{answer.headers['location'].split('/')[-3]}"
        if report:
            self.create({
                "resourceType": "DiagnosticReport",
                "status": report,
                "code": {"text": "检验报告"},
                "subject": {"reference": f"Patient/{patient}"},
                "performer": [{"reference": "Organization/sender"}],
                "effectiveDateTime": day(ago),
                "issued": day(ago, 10),
                "result": [{"reference": observation}],
            })  # fmt: skip
        return observation

    # -- asking ---------------------------------------------------------------------------

    def recognize(self, patient: str, *items: str, **more: Any) -> Json:
        """$recognize of a patient in no particular situation; the Parameters of the answer.

        `known` False: nobody says what the situation is.
        """
        parameters: list[Json] = [
            {"name": "patient", "valueReference": {"reference": f"Patient/{patient}"}}
        ]
        parameters += [{"name": "item", "valueCode": item} for item in items]
        if more.get("known", True):
            parameters.append({"name": "contextKnown", "valueBoolean": True})
        parameters += more.get("parameters", [])
        answer = self.operate("ServiceRequest/$recognize", parameters)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def operate(self, path: str, parameters: Sequence[Json] = ()) -> httpx.Response:
        """An operation as the receiver."""
        body: Json = {"resourceType": "Parameters"}
        if parameters:
            body["parameter"] = list(parameters)
        return self.running.post(f"/fhir/{path}", body, headers=self.receiver)

    def hook(
        self,
        patient: str,
        *orders: Json,
        service: str = "recognition-order-sign",
        headers: dict[str, str] | None = None,
        **changes: Any,
    ) -> httpx.Response:
        """Calls a hook service with these draft orders. `...` takes a member out."""
        context: Json = {
            "userId": "Practitioner/example",
            "patientId": patient,
            "draftOrders": {
                "resourceType": "Bundle",
                "entry": [{"resource": order} for order in orders],
            },
        }
        body: Json = {"hook": service.removeprefix("recognition-"), "hookInstance": UUID}
        body["context"] = {**context, **changes.pop("context", {})}
        prefetch = changes.pop("prefetch", {})
        body["prefetch"] = {**ORDINARY, **prefetch} if prefetch is not ... else ...
        body = {name: value for name, value in {**body, **changes}.items() if value is not ...}
        return self.send(service, body, headers=headers)

    def send(
        self, path: str, body: Any, *, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """A POST below /cds-services; bytes go out as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        return self.running.request(
            "POST",
            f"/cds-services/{path}",
            content=content,
            headers={"content-type": "application/json", **(headers or self.receiver)},
        )

    def search(self, query: str) -> list[Json]:
        """The resources that a search finds, as the receiver."""
        answer = self.running.get(f"/fhir/{query}", headers=self.receiver)
        assert answer.status_code == 200, answer.text
        entries = answer.json().get("entry", ())
        return [one["resource"] for one in entries if one["search"]["mode"] != "outcome"]


def order(patient: str, item: str = POTASSIUM, id: str = "draft-1", **changes: Any) -> Json:
    """A draft order for an item of the catalogue."""
    return {
        "resourceType": "ServiceRequest",
        "id": id,
        "status": "draft",
        "intent": "order",
        "subject": {"reference": f"Patient/{patient}"},
        "code": {"coding": [{"system": LAB_SYSTEM, "code": item}], "text": "申请项目"},
        **changes,
    }


def parts(parameters: Json, name: str) -> list[Json]:
    """The parameters or parts of this name."""
    held = parameters.get("parameter") or parameters.get("part") or []
    return [one for one in held if one["name"] == name]


def said(parameters: Json, name: str) -> Any:
    """The value of the one parameter or part of this name, None without it."""
    found = parts(parameters, name)
    if not found:
        return None
    (one,) = found
    return next((value for key, value in one.items() if key.startswith("value")), one)


def outcomes(answer: Json) -> list[tuple[str, str]]:
    """Outcome and reason of every item of an answer."""
    return [(said(item, "outcome"), said(item, "reason")) for item in parts(answer, "item")]


def reason_system() -> str:
    """The system of the grounds for repeating."""
    return f"{CANONICAL}/CodeSystem/repeat-reason"
