"""A city whose sender's codes are mapped late, wrongly, and anew."""

from __future__ import annotations

from typing import Any

import msgspec
from city import POTASSIUM, City, day, said
from running import Running

from fhir_gateway.interactions import remap
from fhir_gateway.interactions.jobs import work_once
from fhir_gateway.interactions.remap_plan import Watch, planned
from fhir_gateway.store.jobs import Job
from fhir_gateway.terminology.catalogue import LAB_SYSTEM
from fhir_gateway.terminology.local_map_resource import contexts

Json = dict[str, Any]
OWN = "urn:sender:lis"
SERUM = {"specimen": {"display": "血清"}}


def concept_map(codes: dict[str, str], *, id: str = "sender-map", use: Any = "result",
                institution: str = "sender", **more: Any) -> Json:  # fmt: skip
    """A map from the sender's codes to items; "" for a code that stands for nothing."""
    elements = []
    for code, item in codes.items():
        target = {"code": item, "equivalence": "equivalent"} if item else {
            "equivalence": "unmatched", "comment": "nothing in the catalogue"}  # fmt: skip
        elements.append({"code": code, "display": code, "target": [target]})
    return {
        "resourceType": "ConceptMap", "id": id, "url": f"urn:sender:{id}", "version": "1",
        "status": "active", "useContext": contexts(institution, use),
        "group": [{"source": OWN, "target": LAB_SYSTEM, "element": elements}], **more,
    }  # fmt: skip


class Mapped:
    """A city in which a map can be stored and followed."""

    def __init__(self, running: Running) -> None:
        self.city = City(running)
        self.running, self.gateway = running, running.gateway
        self.watch = Watch(running.gateway)

    def store(self, codes: dict[str, str], **more: Any) -> None:
        """Stores the sender's map."""
        resource = concept_map(codes, **more)
        path = f"/fhir/ConceptMap/{resource['id']}"
        answer = self.running.put(path, resource, headers=self.city.sender)
        assert answer.status_code in (200, 201), answer.text

    def result(self, patient: str, code: str = "K", **more: Any) -> str:
        """A result under a code of the sender's own."""
        own = {"coding": [{"system": OWN, "code": code, "display": code}]}
        return self.city.result(patient, POTASSIUM, code=own, **more)

    def follow(self) -> list[Job]:
        """Has the maps followed as a worker does; the jobs of the sender, newest first."""

        async def all_of_it() -> list[Job]:
            await self.watch.look()
            while await work_once(self.gateway, {remap.KIND: remap.work}):
                pass
            return await planned(self.gateway, "sender")

        found: list[Job] = self.running.run(all_of_it())
        return found

    def outcome(self, patient: str, item: str = POTASSIUM) -> tuple[str, str]:
        """(outcome, decision) of asking for an item."""
        answer = self.city.recognize(patient, item)
        items = [one for one in answer["parameter"] if one["name"] == "item"]
        outcome = next(part["valueCode"] for part in items[0]["part"] if part["name"] == "outcome")
        return str(outcome), str(said(answer, "decision")["reference"])

    def found(self, query: str) -> set[str]:
        """The ids that a search finds."""
        answer = self.running.get(f"/fhir/{query}", headers=self.city.receiver)
        assert answer.status_code == 200, answer.text
        return {one["resource"]["id"] for one in answer.json().get("entry", [])
                if one["search"]["mode"] == "match"}  # fmt: skip


def counts(job: Job) -> tuple[int, ...]:
    """(looked, derived, mapped, unmapped, other) of a job that is done."""
    assert job.state == "done", job
    state = msgspec.json.decode(job.checkpoint, type=remap.State)
    return msgspec.structs.astuple(state.counts)


__all__ = ["LAB_SYSTEM", "Mapped", "concept_map", "counts", "day"]
