"""Two hospitals whose records of one person have no document in common, and their reviewers."""

from __future__ import annotations

from typing import Any

from identity_people import ID_SYSTEM
from running import Running

from fhir_gateway.identity import review_job
from fhir_gateway.identity.link import pair, pair_id
from fhir_gateway.interactions.jobs import work_once
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.terminology.catalogue import LAB_SYSTEM

Json = dict[str, Any]
NAMES = "芳兰梅菊竹松柏桃杏荷莲萍蓉薇蕾"


class Hospitals:
    """A gateway with two hospitals. Patients are stored by `north` or `south`."""

    def __init__(self, running: Running) -> None:
        self.running, self.gateway = running, running.gateway
        self.tokens: dict[str, Json] = {}
        for id in ("north", "south", "east"):
            self.tokens[id] = running.institution(id)
        self._people = 0

    def someone(self) -> Json:
        """The demographics of a person whom no other test has."""
        self._people += 1
        name = "".join(NAMES[self._people // len(NAMES) ** place % len(NAMES)] for place in (0, 1))
        return {
            "name": [{"text": f"王{name}"}], "gender": "female",
            "birthDate": f"{1950 + self._people % 50}-05-{self._people % 27 + 1:02}",
            "telecom": [{"system": "phone", "value": f"138{self._people:08}"}],
        }  # fmt: skip

    def store(self, id: str, someone: Json, at: str = "north", *, card: str = "",
              **members: Any) -> Any:  # fmt: skip
        """A Patient of a hospital."""
        resource: Json = {"resourceType": "Patient", "id": id, **someone, **members}
        if card:
            resource["identifier"] = [{"system": ID_SYSTEM, "value": card}]
        answer = self.running.put(f"/fhir/Patient/{id}", resource, headers=self.tokens[at])
        return answer

    def pair(self, name: str) -> tuple[str, str]:
        """Two records of one person without a document, at north and at south, compared."""
        someone, ids = self.someone(), (f"{name}-n", f"{name}-s")
        for id, at in zip(ids, ("north", "south"), strict=True):
            answer = self.store(id, someone, at)
            assert answer.status_code == 201, answer.text
        self.compare()
        return ids

    def result(self, patient: str, at: str = "north", item: str = "L001") -> str:
        """A result of a Patient; its id."""
        id = f"{patient}-{item}"
        resource = {
            "resourceType": "Observation", "id": id, "status": "final",
            "code": {"coding": [{"system": LAB_SYSTEM, "code": item}]},
            "subject": {"reference": f"Patient/{patient}"},
            "effectiveDateTime": "2026-01-02T08:00:00+08:00",
            "valueQuantity": {"value": 4.1, "unit": "mmol/L"},
        }  # fmt: skip
        answer = self.running.put(f"/fhir/Observation/{id}", resource, headers=self.tokens[at])
        assert answer.status_code in (200, 201), answer.text
        return id

    def compare(self) -> int:
        """Has the Patients compared as a worker does; how many jobs that took."""
        count = 0
        while self.running.run(review_job.plan(self.gateway)) is not None:
            self.running.run(work_once(self.gateway, {review_job.KIND: review_job.work}))
            count += 1
        return count

    def question(self, one: str, other: str) -> Json:
        """The Task about two records; {} when nobody was asked."""
        answer = self.running.get(f"/fhir/Task/{pair_id(pair(one, other))}",
                                  headers=self.tokens["north"])  # fmt: skip
        found: Json = answer.json()
        return found if answer.status_code == 200 else {}

    def answer(self, verb: str, one: str, other: str, at: str = "north", **values: str) -> Any:
        """The answer to confirm-identity, reject-identity or unlink."""
        type = "Linkage" if verb == "unlink" else "Task"
        values.setdefault("by", "赵审核")
        parameters = {"resourceType": "Parameters", "parameter": [
            {"name": name, "valueString": value} for name, value in values.items()]}  # fmt: skip
        path = f"/fhir/{type}/{pair_id(pair(one, other))}/${verb}"
        return self.running.post(path, parameters, headers=self.tokens[at])

    def homes(self, id: str) -> int:
        """How many homes the person of a record has."""

        async def person() -> Any:
            async with self.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                return await reader.person(id)

        return len(self.running.run(person()).homes)
