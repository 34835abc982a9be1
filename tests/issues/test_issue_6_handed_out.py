"""What was answered once is not handed out again to whom it would not be told any more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from city import POTASSIUM, Json
from consented import SHIPPED, Town
from databases import Databases
from provider import Provider
from running import BASE

from fhir_gateway.interactions.jobs import work_once
from fhir_gateway.rest.later import WORKS

ACCEPTED: list[Json] = [
    {"name": "outcome", "valueCode": "accepted"},
    {"name": "practitioner", "valueReference": {"display": "测试医生"}},
]


@pytest.fixture(scope="module")
def provider(shared_database: Databases) -> Provider:
    return Provider(shared_database.folder)


@pytest.fixture(scope="module")
def town(shared_database: Databases, provider: Provider) -> Iterator[Town]:
    running = shared_database.running("handed", policy=SHIPPED, **provider.settings())
    yield Town(running)
    running.close()


def told(town: Town) -> tuple[str, str, Json]:
    """A patient of the receiver's, an outside result that it may see, and the consent."""
    patient = town.patient()
    result = town.result(patient)
    own = town.own(patient)
    return own, result, town.permit(own, town.visit(own))


def decided(town: Town, own: str) -> str:
    """The id of a decision about the result."""
    answer = town.recognize(own, POTASSIUM)
    decision = next(one for one in answer["parameter"] if one["name"] == "decision")
    return str(decision["valueReference"]["reference"].split("/")[1])


def accept(town: Town, decision: str, headers: dict[str, str]) -> Any:
    return town.running.post(
        f"/fhir/GuidanceResponse/{decision}/$answer",
        {"resourceType": "Parameters", "parameter": ACCEPTED}, headers=headers,
    )  # fmt: skip


def test_062_an_answer_that_is_sent_again_hands_out_no_document_without_consent(
    town: Town,
) -> None:
    own, _, consent = told(town)
    decision = decided(town, own)
    first = accept(town, decision, town.receiver)
    assert first.status_code == 200 and '"document"' in first.text
    again = accept(town, decision, town.receiver)
    assert '"document"' in again.text
    town.withdraw(consent)
    later = accept(town, decision, town.receiver)
    assert later.status_code == 200 and '"document"' not in later.text
    assert '"accepted"' in later.text  # the answer itself stands
    other = decided(town, own)  # and one that nobody gave yet tells of nothing
    assert '"document"' not in accept(town, other, town.receiver).text


def test_a_purpose_that_opens_nothing_gets_no_document(town: Town, provider: Provider) -> None:
    own, _, _ = told(town)
    decision = decided(town, own)
    task = re.search(r"Task/([A-Za-z0-9.\-]+)", accept(town, decision, town.receiver).text)
    assert task is not None
    address = f"/fhir/Task/{task[1]}/$document"
    for purpose, status in (("TREAT", 200), ("HPAYMT", 403)):
        token = provider.token(
            role="institution", institution="receiver",
            extensions={"ihe_iua": {"purpose_of_use": purpose}},
        )  # fmt: skip
        assert town.running.get(address, headers=token).status_code == status
        assert ('"document"' in accept(town, decision, token).text) is (status == 200)


def test_062_an_operation_answered_later_is_looked_at_again(town: Town) -> None:
    own, result, consent = told(town)
    later = {**town.receiver, "prefer": "respond-async"}
    place = town.running.get(f"/fhir/Patient/{own}/$prior-results", headers=later)
    assert place.status_code == 202, place.text
    job = place.headers["content-location"].removeprefix(BASE)
    while town.running.run(work_once(town.gateway, WORKS)):
        pass
    assert result.split("/")[1] in town.running.get(job, headers=town.receiver).text
    town.withdraw(consent)
    refused = town.running.get(job, headers=town.receiver)
    assert refused.status_code == 403, refused.text
    assert refused.json()["issue"][0]["details"]["text"] == "consent"
