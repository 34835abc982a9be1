"""Re-mapping end to end: what a result means follows its hospital's map, and nothing else moves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from city import POTASSIUM, SODIUM, said
from remap_cases import LAB_SYSTEM, Mapped, concept_map, counts
from running import Running

Start = Callable[..., Running]


@pytest.fixture
def mapped(start: Start) -> Mapped:
    return Mapped(start())


def by_item(item: str) -> str:
    return f"Observation?code={LAB_SYSTEM}|{item}"


def test_a_result_that_nobody_understood_is_recognised_after_its_map(mapped: Mapped) -> None:
    city, sender = mapped.city, mapped.city.sender
    patient = city.patient()
    name = mapped.result(patient)
    id = name.partition("/")[2]
    before = mapped.running.get(f"/fhir/{name}", headers=sender)
    outcome, decision = mapped.outcome(patient)
    assert outcome == "not-recognizable"
    assert mapped.found("Observation?_tag=unmapped-item") == {id}
    replayed = city.operate(f"{decision}/$replay").content

    mapped.store({"K": POTASSIUM})
    assert counts(mapped.follow()[0]) == (2, 2, 1, 0, 0)

    assert mapped.outcome(patient)[0] == "recognize"
    assert mapped.found(by_item(POTASSIUM)) == {id}
    assert mapped.found("Observation?_tag=unmapped-item") == set()
    after = mapped.running.get(f"/fhir/{name}", headers=sender)
    assert (after.content, after.headers["etag"]) == (before.content, before.headers["etag"])
    assert mapped.running.get(f"/fhir/{name}/_history", headers=sender).json()["total"] == 1
    assert city.operate(f"{decision}/$replay").content == replayed
    assert said(city.operate(f"{decision}/$replay").json(), "agrees") is True


def test_a_wrong_mapping_that_is_taken_back_is_no_longer_believed(mapped: Mapped) -> None:
    mapped.store({"K": SODIUM})
    patient = mapped.city.patient()
    id = mapped.result(patient).partition("/")[2]
    assert mapped.follow()[0].state == "done"
    wrong, wrongly = mapped.outcome(patient, SODIUM)
    assert wrong == "recognize"
    replayed = mapped.city.operate(f"{wrongly}/$replay").content
    mapped.store({"K": POTASSIUM})
    assert counts(mapped.follow()[0]) == (2, 1, 0, 0, 1)
    assert (mapped.found(by_item(SODIUM)), mapped.found(by_item(POTASSIUM))) == (set(), {id})
    assert mapped.outcome(patient, SODIUM)[0] == "not-recognizable"
    assert mapped.outcome(patient, POTASSIUM)[0] == "recognize"
    mapped.store({"K": ""})
    assert counts(mapped.follow()[0]) == (2, 1, 0, 1, 0)
    assert mapped.found(by_item(POTASSIUM)) == set()
    assert mapped.outcome(patient, POTASSIUM)[0] == "not-recognizable"
    assert mapped.city.operate(f"{wrongly}/$replay").content == replayed
    body = mapped.running.get(f"/fhir/Observation/{id}", headers=mapped.city.sender).json()
    assert [coding["code"] for coding in body["code"]["coding"]] == ["K", SODIUM]


def test_an_order_that_could_not_be_decided_is_decided_after_its_map(mapped: Mapped) -> None:
    """The same stored order; what was said before is replayed as it was said."""
    city, receiver = mapped.city, mapped.city.receiver
    patient = city.patient()
    city.result(patient)
    order = {
        "resourceType": "ServiceRequest", "id": "o1", "status": "active", "intent": "order",
        "code": {"coding": [{"system": "urn:receiver:his", "code": "YZ-K"}]},
        "subject": {"reference": f"Patient/{patient}"},
    }  # fmt: skip
    headers = receiver
    assert mapped.running.put("/fhir/ServiceRequest/o1", order, headers=headers).status_code == 201

    def asked() -> tuple[str, str]:
        answer = city.operate("ServiceRequest/o1/$recognize").json()
        (item,) = [one["part"] for one in answer["parameter"] if one["name"] == "item"]
        outcome = next(part["valueCode"] for part in item if part["name"] == "outcome")
        return outcome, said(answer, "decision")["reference"]

    outcome, decision = asked()
    assert outcome == "cannot-decide"
    replayed = city.operate(f"{decision}/$replay").content
    resource = concept_map({"YZ-K": POTASSIUM}, id="orders", use="order", institution="receiver")
    resource["group"][0]["source"] = "urn:receiver:his"
    assert mapped.running.put("/fhir/ConceptMap/orders", resource, headers=headers).is_success
    mapped.follow()
    assert asked()[0] == "recognize"
    assert mapped.found(f"ServiceRequest?code={LAB_SYSTEM}|{POTASSIUM}") == {"o1"}
    assert city.operate(f"{decision}/$replay").content == replayed
    read = mapped.running.get("/fhir/ServiceRequest/o1", headers=headers)
    assert read.headers["etag"] == 'W/"1"'
