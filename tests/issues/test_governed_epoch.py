"""What the gateway decides by may be taken back: by a deletion, or by a version that says less."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import city as CITY
import pytest
from databases import Databases
from issue_cases import rule_of
from running import Running

from fhir_gateway.errors import Conflict
from fhir_gateway.interactions.delete import delete
from fhir_gateway.recognition.publish import retire
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS


@pytest.fixture
def city(database: Databases) -> Iterator[Any]:
    one = Running(database.url("gateway"))
    yield CITY.City(one)
    one.close()


def epoch(city: Any) -> int:
    async def read() -> int:
        async with city.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            return int(reader.epoch)

    return int(city.running.run(read()))


def test_a_rule_set_that_is_retired_decides_no_more(city: Any) -> None:
    patient = city.patient()
    city.result(patient)
    assert CITY.outcomes(city.recognize(patient, CITY.POTASSIUM))[0][0] == "recognize"
    (rules,) = (
        one for one in city.search("PlanDefinition?status=active") if one["status"] == "active"
    )
    with pytest.raises(Conflict):
        city.running.run(delete(city.gateway, GATEWAY, type="PlanDefinition", id=rules["id"]))
    city.running.run(retire(city.gateway, rules["version"]))
    assert CITY.outcomes(city.recognize(patient, CITY.POTASSIUM))[0][0] == "cannot-decide"


def test_an_evaluation_that_is_taken_back_raises_the_epoch(city: Any) -> None:
    before = epoch(city)
    city.evaluate("sender", CITY.EVALUATED, status="in-process")
    assert epoch(city) == before + 1


def test_a_deleted_institution_raises_the_epoch(city: Any) -> None:
    before = epoch(city)
    city.running.run(delete(city.gateway, GATEWAY, type="Organization", id="sender"))
    assert epoch(city) == before + 1


def test_an_institution_writes_no_evaluation_whatever_it_says(city: Any) -> None:
    evaluation = {
        "resourceType": "VerificationResult",
        "id": "round-squatted",
        "status": "in-process",
        "target": [{"reference": "Organization/sender"}],
    }
    answer = city.running.put(
        "/fhir/VerificationResult/round-squatted", evaluation, headers=city.sender
    )
    assert rule_of(answer) == (403, "governed")
