"""A hospital that sells CT examinations, clinics that book there, and persons; under the shipped
policy, with nobody's consent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from city import DOCUMENT, id_number
from running import Running

from fhir_gateway.fhir.home import institution_home
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.institutions import issue_token, register
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.scheduling.membership import Membership, affiliation_of
from fhir_gateway.security.institution import Institution
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.claim_rows import QuotaRow, Settle
from fhir_gateway.terminology.catalogue import IMAGING_SYSTEM

Json = dict[str, Any]
SHIPPED = str(Path(__file__).resolve().parents[1] / "profiles" / "access" / "policy.toml")
HOUR = 3_600_000_000
DAY = 24 * HOUR
CT, CT_CHEST = "I001", "I003"
_numbers = count(1)


class World:
    """Three institutions: `hospital` sells, `clinic` is a member of its consortium, `other` is
    nobody's. Each booking test makes its own Slots and persons."""

    def __init__(self, running: Running) -> None:
        self.running, self.gateway = running, running.gateway
        self.hospital = self._register("hospital", "示范医院", "三级甲等")
        self.clinic = self._register("clinic", "示范社区中心", "社区")
        self.other = self._register("other", "另一社区中心", "社区")
        member = Membership("east", "东部医联体", "city-group", "hospital", "clinic", "2020-01-01")
        self.store([affiliation_of(member)], institution=None)
        self.now = datetime.now(UTC)

    def _register(self, id: str, name: str, level: str) -> dict[str, str]:
        running = self.running
        running.run(register(self.gateway, Institution(id=id, name=name, area="110105",
                                                       level=level)))  # fmt: skip
        token = running.run(issue_token(self.gateway, id))
        return {"authorization": f"Bearer {token}"}

    def store(self, resources: list[Json], *claims: Any, institution: str | None) -> None:
        """Stores resources as the gateway's own commands do."""
        puts = [
            prepare(self.gateway, one, op="create", institution=institution) for one in resources
        ]
        change = ChangeSet(id=self.gateway.random(16), puts=puts, claims=list(claims))
        self.running.run(self.gateway.store.commit(change))

    # -- supply -------------------------------------------------------------------------------

    def slots(
        self,
        number: int = 1,
        *,
        capacity: int = 1,
        quotas: Mapping[str, int] | None = None,
        master: str = "gateway",
        hours: float = 240,
        item: str = CT,
        requires: list[Json] | None = None,
        opens: Mapping[str, float] | None = None,
        hospital: str = "hospital",
    ) -> list[str]:
        """So many Slots of half an hour in a bucket of their own, from so many hours on; ids.
        `opens` says in how many hours a channel opens; `item` may be several, as words."""
        key = f"{next(_numbers)}"
        bucket = f"{hospital}|ct-{key}|2030-01-01"
        service = f"{hospital}-ct-{key}"
        begin = self.gateway.clock.now() // HOUR * HOUR + int(hours * HOUR)
        slots = [self._slot(f"s{key}-{n}", key, bucket, begin + n * HOUR // 2, capacity, item,
                            requires) for n in range(number)]  # fmt: skip
        rows = [
            QuotaRow(channel, cap, self.gateway.clock.now() + int((opens or {}).get(channel, -1)
                                                                   * HOUR))
            for channel, cap in (quotas or {"ordinary": number * capacity}).items()
        ]  # fmt: skip
        settle = Settle(institution_home(hospital), bucket, "ordinary", rows)
        resources = [self._service(service, hospital), self._schedule(key, service, master, item)]
        self.store([*resources, *slots], settle, institution=hospital)
        return [slot["id"] for slot in slots]

    def _service(self, id: str, hospital: str) -> Json:
        return {
            "resourceType": "HealthcareService", "id": id, "active": True, "name": "CT室",
            "providedBy": {"reference": f"Organization/{hospital}"},
        }  # fmt: skip

    def _schedule(self, key: str, service: str, master: str, item: str) -> Json:
        return {
            "resourceType": "Schedule", "id": f"schedule-{key}", "active": True,
            "extension": [
                {"url": ext.MASTER, "valueCode": master},
                {"url": ext.DEPARTMENT, "valueId": f"ct-{key}"},
            ],
            "serviceCategory": [{"coding": [{"system": ext.BOOKING_KIND, "code": "exam"}]}],
            "serviceType": [_item(one) for one in item.split()],
            "actor": [{"reference": f"HealthcareService/{service}", "display": "CT室"}],
            "planningHorizon": {"start": "2020-01-01", "end": "2099-12-31"},
        }  # fmt: skip

    def _slot(
        self, id: str, key: str, bucket: str, start: int, capacity: int, item: str,
        requires: list[Json] | None,
    ) -> Json:  # fmt: skip
        asked = [{"url": ext.REQUIREMENT, "extension": requires}] if requires else []
        total = {"url": "total", "valuePositiveInt": capacity}
        return {
            "resourceType": "Slot", "id": id, "status": "free",
            "meta": {"profile": [f"{CANONICAL}/StructureDefinition/slot"]},
            "extension": [
                {"url": ext.CAPACITY, "extension": [total]},
                {"url": ext.BUCKET, "valueString": bucket}, *asked,
            ],
            "schedule": {"reference": f"Schedule/schedule-{key}"},
            "serviceType": [_item(one) for one in item.split()],
            "appointmentType": {"coding": [{"system": ext.SLOT_CLASS, "code": "ordinary"}]},
            "start": instant(start), "end": instant(start + HOUR // 2),
        }  # fmt: skip

    # -- persons ------------------------------------------------------------------------------

    def patient(self, by: Mapping[str, str] | None = None, **more: Any) -> str:
        """A person with an identity document, registered by the clinic; the id of the Patient."""
        number = next(_numbers)
        resource: Json = {
            "resourceType": "Patient", "name": [{"text": f"测试{number}"}],
            "identifier": [{"system": DOCUMENT, "value": id_number(number)}],
            "birthDate": "1990-03-07", **more,
        }  # fmt: skip
        return self.create({key: value for key, value in resource.items() if value is not None}, by)

    def create(self, resource: Json, by: Mapping[str, str] | None = None) -> str:
        """Creates a resource as an institution, the clinic by default; its id."""
        path = f"/fhir/{resource['resourceType']}"
        answer = self.running.post(path, resource, headers=dict(by or self.clinic))
        assert answer.status_code == 201, answer.text
        return str(answer.headers["location"].split("/")[-3])

    def order(self, patient: str, item: str = CT, by: Mapping[str, str] | None = None,
              **more: Any) -> str:  # fmt: skip
        """An active order: its id."""
        return self.create({
            "resourceType": "ServiceRequest", "status": "active", "intent": "order",
            "subject": {"reference": f"Patient/{patient}"}, "code": _item(item),
            "authoredOn": instant(self.gateway.clock.now()), **more,
        }, by)  # fmt: skip

    # -- operations ---------------------------------------------------------------------------

    def call(
        self, path: str, by: Mapping[str, str] | None = None, headers: Json | None = None,
        **parameters: Any,
    ) -> httpx.Response:  # fmt: skip
        """POST of an operation; names have _ for -. A str is a valueString, a dict as it is, a
        list repeats."""
        return self.running.post(f"/fhir/{path}", body_of(parameters),
                                 headers={**(by or self.clinic), **(headers or {})})  # fmt: skip

    def hold(self, slot: str, patient: str, **more: Any) -> httpx.Response:
        """$hold of a Slot."""
        return self.call("Appointment/$hold", slot=f"Slot/{slot}",
                         patient_reference=f"Patient/{patient}", **more)  # fmt: skip

    def book(self, slot: str, patient: str, **more: Any) -> httpx.Response:
        """$book of a Slot, straight."""
        return self.call("Appointment/$book", slot=f"Slot/{slot}",
                         patient_reference=f"Patient/{patient}", **more)  # fmt: skip

    def status(self, slot: str) -> str:
        """The status of a Slot."""
        return str(self.read(f"Slot/{slot}").json()["status"])

    def read(self, reference: str, by: Mapping[str, str] | None = None) -> httpx.Response:
        """A resource as an institution, the clinic by default."""
        return self.running.get(f"/fhir/{reference}", headers=dict(by or self.clinic))


def body_of(parameters: Mapping[str, Any]) -> Json:
    """Parameters of these values."""
    members: list[Json] = []
    for name, value in parameters.items():
        for one in value if isinstance(value, list) else [value]:
            said = one if isinstance(one, dict) else {"valueString": one}
            members.append({"name": name[0] + name[1:].replace("_", "-"), **said})
    return {"resourceType": "Parameters", **({"parameter": members} if members else {})}


def booked(answer: httpx.Response) -> Json:
    """The Appointment in the Bundle of an answer."""
    assert answer.status_code == 200, answer.text
    (found,) = [one["resource"] for one in answer.json()["entry"]
                if one["search"]["mode"] == "match"]  # fmt: skip
    return dict(found)


def told(answer: httpx.Response) -> dict[str, str]:
    """The issues of an answer: rule -> what is said, whether refused or told beside a match."""
    body = answer.json()
    if body["resourceType"] == "Bundle":
        found = [one["resource"] for one in body["entry"] if one["search"]["mode"] == "outcome"]
        body = found[0] if found else {}
    return {one["details"]["text"]: one["diagnostics"] for one in body.get("issue", ())}


def marks(appointment: Json) -> dict[str, Any]:
    """What the gateway says of an Appointment, by the last part of the extension's address."""
    return {
        one["url"].rpartition("/")[2]: next(value for name, value in one.items() if name != "url")
        for one in appointment.get("extension", ())
    }


def soon(**time: float) -> str:
    """A moment so long from now."""
    return (datetime.now(UTC) + timedelta(**time)).isoformat(timespec="seconds")


def _item(code: str) -> Json:
    return {"coding": [{"system": IMAGING_SYSTEM, "code": code}]}
