"""Rule sets that speak of an imported list: which results it lists, its windows, its editions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from city import POTASSIUM, SODIUM, City, said

from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.lists import (
    commit_join,
    commit_plan,
    plan_import,
    stored_editions,
)
from fhir_gateway.recognition import publish
from fhir_gateway.recognition.vocabulary import catalogue_of
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import LAB_SYSTEM, Item
from fhir_gateway.terminology.catalogue_join import join_map
from fhir_gateway.terminology.edition import Edition

RULES = Path(__file__).parents[2] / "profiles/PlanDefinition/recognition-1.0.0.json"
LIST = f"{CANONICAL}/CodeSystem/some-city"
JOINS = {"B1": (POTASSIUM,), "B2": (SODIUM,)}


def list_edition(day: str, windows: dict[str, int], *, until: str = "") -> Edition:
    items = {
        code: Item(
            kind="lab", code=code, name_zh={"B1": "钾", "B2": "钠"}[code], name_en="",
            specimen="血清", validity_days=days, validity_source="published:some-city",
            edition=day, list_system=LIST,
        )
        for code, days in windows.items()
    }  # fmt: skip
    return Edition(
        name="some-city", kind="lab", edition=day, effective=day, until=until, title="某市目录",
        publisher="某市", description="A list of a test.", items=items,
    )  # fmt: skip


async def bring(town: City, edition: Edition, joins: dict[str, tuple[str, ...]]) -> None:
    gateway = town.gateway
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        stored = await stored_editions(reader)
    plan = plan_import(edition, joins, stored, catalogue_of(gateway), day="2000-01-01")
    await commit_plan(gateway, plan)


def speak_of(town: City, *lists: str) -> None:
    """Puts a rule set in force that speaks of these lists."""
    rules = parse(RULES.read_bytes().replace(b"{CANONICAL}", CANONICAL.encode()))
    rules |= {"id": "recognition-9", "version": "9.0.0"}
    artifacts = [{"type": "depends-on", "resource": one} for one in lists]
    rules["relatedArtifact"] = [*rules.get("relatedArtifact", ()), *artifacts]
    town.put(json.loads(json.dumps(rules, default=str)))
    town.running.run(publish.activate(town.gateway, "9.0.0", demonstration=True))


@pytest.fixture
def town(start: Callable[..., Any]) -> City:
    return City(start())


def item_of(answer: dict[str, Any]) -> dict[str, Any]:
    parts = next(one["part"] for one in answer["parameter"] if one["name"] == "item")
    return {
        one["name"]: next((v for k, v in one.items() if k.startswith("value")), None)
        for one in parts
    }


def test_a_list_decides_what_is_listed_and_for_how_long(town: City) -> None:
    patient = town.patient()
    for item in (POTASSIUM, SODIUM):
        town.result(patient, item, ago=5)
    assert item_of(town.recognize(patient, POTASSIUM))["outcome"] == "recognize"
    town.running.run(bring(town, list_edition("2020-01-01", {"B1": 3}), JOINS))
    assert item_of(town.recognize(patient, POTASSIUM))["outcome"] == "recognize"
    speak_of(town, LIST)
    short, unlisted = (item_of(town.recognize(patient, one)) for one in (POTASSIUM, SODIUM))
    assert (short["outcome"], short["window-days"]) == ("view-only", 3)
    assert short["window-source"] == "published:some-city"
    assert (unlisted["outcome"], unlisted["reason"]) == ("view-only", "item-not-listed")


def test_a_list_that_names_no_source_of_its_windows_has_days_and_no_source(town: City) -> None:
    patient = town.patient()
    town.result(patient, ago=2)
    edition = list_edition("2020-01-01", {"B1": 3})
    items = {code: replace(one, validity_source="") for code, one in edition.items.items()}
    town.running.run(bring(town, replace(edition, items=items), JOINS))
    speak_of(town, LIST)
    told = item_of(town.recognize(patient, POTASSIUM))
    assert (told["outcome"], told["window-days"]) == ("recognize", 3)
    prior = town.running.get(f"/fhir/Patient/{patient}/$prior-results", headers=town.receiver)
    listed = item_of(prior.json())
    name = catalogue_of(town.gateway).items[POTASSIUM].item_class
    assert (listed["window-days"], listed["class"]) == (3, name)
    assert "window-source" not in {*told, *listed}


def test_a_decision_stays_what_it_was_when_another_edition_comes(town: City) -> None:
    patient = town.patient()
    town.result(patient, ago=5)
    before = said(town.recognize(patient, POTASSIUM), "decision")["reference"]
    town.running.run(bring(town, list_edition("2020-01-01", {"B1": 3}), JOINS))
    speak_of(town, LIST)
    by_first = said(town.recognize(patient, POTASSIUM), "decision")["reference"]
    town.running.run(bring(town, list_edition("2021-01-01", {"B1": 30, "B2": 30}), JOINS))
    answer = town.recognize(patient, POTASSIUM)
    assert item_of(answer)["outcome"] == "recognize"
    for decision in (before, by_first, said(answer, "decision")["reference"]):
        replayed = town.operate(f"{decision}/$replay").json()
        assert said(replayed, "agrees") is True, replayed
    stored = town.running.get(f"/fhir/{by_first}", headers=town.receiver).json()
    texts = json.dumps(stored, ensure_ascii=False)
    assert "some-city|2020-01-01" in texts
    assert "CodeSystem/some-city-2020-01-01/_history/1" in texts


def test_another_join_changes_answers_and_no_past_decision(town: City) -> None:
    patient = town.patient()
    town.result(patient, ago=5)
    edition = list_edition("2020-01-01", {"B1": 30})
    town.running.run(bring(town, edition, {}))
    speak_of(town, LIST)
    answer = town.recognize(patient, POTASSIUM)
    assert item_of(answer)["reason"] == "item-not-listed"
    joined = join_map(edition, JOINS, catalogue_of(town.gateway))
    assert town.running.run(commit_join(town.gateway, edition, joined))
    assert not town.running.run(commit_join(town.gateway, edition, joined))
    assert item_of(town.recognize(patient, POTASSIUM))["outcome"] == "recognize"
    decision = said(answer, "decision")["reference"]
    assert said(town.operate(f"{decision}/$replay").json(), "agrees") is True


@pytest.mark.parametrize(
    ("named", "outcome"),
    [
        (LIST, "cannot-decide"),  # in a gap between its editions
        (f"{LIST}|2020-01-01", "recognize"),  # pinned: the rule set has a period of its own
        (f"{LIST}|2019", "cannot-decide"),
        (f"{CANONICAL}/CodeSystem/nowhere", "cannot-decide"),
        (LAB_SYSTEM, "recognize"),
        (f"{LAB_SYSTEM}|reference-2026-11", "recognize"),
        (f"{LAB_SYSTEM}|other", "cannot-decide"),
    ],
)
@pytest.mark.drivers("sqlite")
def test_a_list_that_does_not_hold_leaves_the_question_open(
    town: City, named: str, outcome: str
) -> None:
    patient = town.patient()
    town.result(patient, ago=5)
    edition = list_edition("2020-01-01", {"B1": 30}, until="2020-12-31")
    town.running.run(bring(town, edition, JOINS))
    speak_of(town, named)
    found = item_of(town.recognize(patient, POTASSIUM))
    assert found["outcome"] == outcome
    if outcome == "cannot-decide":
        assert found["reason"] == "no-rule-set-in-force"


def test_results_and_orders_in_codes_of_the_list_are_items_of_the_catalogue(town: City) -> None:
    edition = list_edition("2020-01-01", {"B1": 30, "B2": 30})
    town.running.run(bring(town, edition, {"B1": (POTASSIUM,)}))
    patient = town.patient()
    coding = {"system": LIST, "code": "B1"}
    observation = town.result(patient, ago=5, code={"coding": [coding]})
    stored = town.running.get(f"/fhir/{observation}", headers=town.sender).json()
    added = stored["code"]["coding"][1]
    assert (added["system"], added["code"]) == (LAB_SYSTEM, POTASSIUM)
    assert f"{CANONICAL}/ConceptMap/some-city|2020-01-01" in json.dumps(added)
    unjoined = {"system": LIST, "code": "B2"}
    order = {
        "resourceType": "ServiceRequest", "status": "draft", "intent": "order",
        "code": {"coding": [unjoined]}, "subject": {"reference": f"Patient/{patient}"},
    }  # fmt: skip

    def asked() -> dict[str, Any]:
        parameters = [{"name": "order", "resource": order}]
        return item_of(town.recognize(patient, parameters=parameters))

    assert asked()["reason"] == "order-not-mapped"
    joined = join_map(edition, {"B2": (POTASSIUM,)}, catalogue_of(town.gateway))
    town.running.run(commit_join(town.gateway, edition, joined))
    assert asked()["outcome"] == "recognize"


def test_a_group_of_the_catalogue_is_nothing_that_can_be_ordered(town: City) -> None:
    patient = town.patient()
    order = {
        "resourceType": "ServiceRequest", "status": "draft", "intent": "order",
        "code": {"coding": [{"system": LAB_SYSTEM, "code": "group:临床化学"}]},
        "subject": {"reference": f"Patient/{patient}"},
    }  # fmt: skip
    answer = town.recognize(patient, parameters=[{"name": "order", "resource": order}])
    assert item_of(answer)["reason"] == "order-not-mapped"
