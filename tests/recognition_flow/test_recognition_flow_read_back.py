"""What is read back of the store: records of others, small pages, evidence that is gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from city import POTASSIUM, SODIUM, City, Json, said
from databases import Databases
from running import Running
from test_recognition_flow_answer import ACCEPTED, CITED, REVOKED, answered, told
from test_recognition_flow_prior_results import BRAIN, imaging_report, imaging_study
from test_recognition_flow_relied import decided
from test_recognition_flow_replay import _tampered, replayed
from test_recognition_flow_replay_run import erase, replay, since

from fhir_gateway.errors import Unprocessable
from fhir_gateway.recognition import answer_figures, relied, replay_operation, replay_run
from fhir_gateway.recognition import answered as reading
from fhir_gateway.recognition import replay as replaying
from fhir_gateway.recognition.answer import answered_lines, answers_of
from fhir_gateway.recognition.answer_figures import figures
from fhir_gateway.recognition.lists import view_then
from fhir_gateway.recognition.recorded import brief_of, receiver_of, recorded_of
from fhir_gateway.recognition.relied import notices_for
from fhir_gateway.recognition.vocabulary import catalogue_of
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.store import Stored

pytestmark = pytest.mark.drivers("sqlite")


def of_others(**more: Any) -> Json:
    """A GuidanceResponse of another system."""
    return {
        "resourceType": "GuidanceResponse",
        "id": "theirs",
        "status": "success",
        "moduleUri": "urn:other",
        **more,
    }


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"contained": [{"resourceType": "Patient", "id": "p"}]},
        {"contained": [{"resourceType": "Parameters", "id": "o",
                        "parameter": [{"name": "x", "valueString": "y"}]}]},
    ],
)  # fmt: skip
def test_a_guidance_response_of_another_system_is_no_decision_of_ours(
    city: City, more: Json
) -> None:
    city.put(of_others(**more))

    async def read() -> Stored:
        async with city.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            found = await reader.read("GuidanceResponse", "theirs")
        assert found is not None
        return found

    stored = city.running.run(read())
    assert (recorded_of(stored), brief_of(stored), receiver_of(stored)) == (None, None, "")
    counted = city.running.run(figures(city.gateway, start=0, end=1 << 62))
    assert set(counted) <= {"receiver"}


def test_figures_are_those_of_their_time_and_institution_page_by_page(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, decision = decided(city)
    answered(city, decision, ACCEPTED)

    def counted(**asked: Any) -> Any:
        return city.running.run(figures(city.gateway, **{"start": 0, "end": 1 << 62, **asked}))

    whole = counted()
    monkeypatch.setattr(answer_figures, "_PAGE", 1)
    assert counted() == whole
    assert counted(institution="sender") == {}
    assert counted(end=1) == {}


def test_answers_and_notices_are_read_page_by_page(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = city.patient()
    city.result(patient)
    city.result(patient, SODIUM)
    decisions = [
        said(city.recognize(patient, item), "decision")["reference"]
        for item in (POTASSIUM, SODIUM, POTASSIUM)
    ]
    for decision in decisions:
        told(city, decision, ACCEPTED)
    told(city, decisions[2], REVOKED)

    async def read() -> Any:
        async with city.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            person = await reader.person(patient)
            assert person is not None
            assert await notices_for(reader, "", person.homes) == []
            lines = await answered_lines(reader, person.homes, [POTASSIUM, SODIUM], 0)
            return lines, [await answers_of(reader, one.partition("/")[2]) for one in decisions]

    lines, answers = city.running.run(read())
    assert set(lines) == {POTASSIUM, SODIUM}
    assert lines[POTASSIUM].decision == decisions[0].partition("/")[2]
    monkeypatch.setattr(reading, "_PAGE", 1)
    monkeypatch.setattr(relied, "_PAGE", 1)
    assert city.running.run(read()) == (lines, answers)


# -- evidence that is gone -------------------------------------------------------------------------


def test_an_answer_to_what_was_erased_is_kept_without_a_document(
    start: Callable[..., Running], database: Databases
) -> None:
    city = City(start())
    patient, observation, decision = decided(city)
    before = answered(city, decision, ACCEPTED)
    path = f"/fhir/Task/{before['id']}/$document"
    assert city.running.get(path, headers=city.receiver).status_code == 200
    erased = decided(city)
    erase(database, erased[1])
    kept = told(city, erased[2], ACCEPTED)
    assert said(kept, "sha256") is None
    erase(database, f"Patient/{patient}")
    refused = city.running.get(path, headers=city.receiver)
    assert refused.status_code == 410
    assert "its hash is another by now" in refused.json()["issue"][0]["diagnostics"]
    erase(database, observation)
    assert city.running.get(path, headers=city.receiver).status_code == 410


# -- replay ----------------------------------------------------------------------------------------


def test_what_replay_keeps_is_bounded_and_pages_are_the_whole(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, decision = decided(city)
    decided(city)
    whole = replay(city, since())
    for module, name, value in (
        (replaying, "_KEPT", 0), (replay_run, "PAGE", 1), (replay_run, "MOST_KINDS", 0)
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    assert said(replayed(city, decision), "agrees") is True
    again = replay(city, since())
    assert said(again, "decisions") == said(whole, "decisions")
    monkeypatch.setattr(replay_operation, "MOST", 1)
    ids = [{"name": "id", "valueId": decision.partition("/")[2]}] * 2
    refused = city.operate("GuidanceResponse/$replay", ids)
    assert refused.json()["issue"][0]["details"]["text"] == "too-many"


def test_a_record_of_other_lists_items_or_rules_differs(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, decision = decided(city)
    told = _tampered(
        city, decision, b'"catalogue","valueString":"', b'"catalogue","valueString":"0'
    )
    assert any(one.startswith("catalogue edition: recorded 0") for one in told.differences)

    def unknown(definition: Any) -> Any:
        raise Unprocessable("of a release to come", rule="unknown-criterion")

    monkeypatch.setattr(replaying, "load_rule_set", unknown)
    differences = replayed_differences(city, decision)
    assert any(one.endswith("can no longer be read") for one in differences), differences


def replayed_differences(city: City, decision: str) -> list[str]:
    answer = replayed(city, decision)
    return [one["valueString"] for one in answer["parameter"] if one["name"] == "difference"]


def test_a_record_of_lists_that_are_gone_is_read_by_what_is_left(city: City) -> None:
    async def read(edition: str, *lists: str) -> str:
        async with city.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            return (await view_then(city.gateway, reader, edition, lists)).edition

    served = catalogue_of(city.gateway).edition
    for named in (served, "2001-01"):
        assert city.running.run(read(named, "CodeSystem/gone/_history/1")) == served


def test_a_cited_examination_comes_with_its_study(city: City) -> None:
    person = city.patient()
    study = city.create(imaging_study(person))
    report = city.create(imaging_report(person, study))
    decision = said(city.recognize(person, BRAIN), "decision")["reference"]
    named = {"name": "result", "valueReference": {"reference": f"DiagnosticReport/{report}"}}
    body = told(city, decision, CITED, named)
    (bundle,) = [one["resource"] for one in body["parameter"] if one["name"] == "document"]
    kinds = [entry["resource"]["resourceType"] for entry in bundle["entry"]]
    assert kinds[:3] == ["Composition", "DiagnosticReport", "ImagingStudy"]
