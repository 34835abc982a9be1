"""Re-mapping end to end: what a result means follows its hospital's map, and nothing else moves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from city import POTASSIUM, SODIUM, said
from remap_cases import LAB_SYSTEM, Mapped, counts
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
