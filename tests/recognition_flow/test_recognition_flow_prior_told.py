"""What `$prior-results` says where less is known: no rules, no window, no time, no number."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from city import POTASSIUM, SODIUM, City, Json
from databases import Databases
from running import Running
from test_recognition_flow_links import propose
from test_recognition_flow_prior_results import BRAIN, groups, imaging_study, one, pieces, prior
from test_recognition_flow_rules import shipped

from fhir_gateway.interactions.update import update
from fhir_gateway.mapping.doors import INTAKE_SYSTEM, UNKNOWN_ZONE
from fhir_gateway.recognition import prior_told, publish
from fhir_gateway.recognition.rules_parameters import PARAMETER_URL
from fhir_gateway.security.actor import GATEWAY

pytestmark = pytest.mark.drivers("sqlite")


def rules_with(city: City, version: str, *rows: tuple[str, Any], windows: bool = True) -> None:
    """Puts rules in force whose window rule has these parameters, or that have no such rule."""
    plan = deepcopy(shipped(id=f"rules-{version}", version=version))
    code = [one["code"][0]["coding"][0]["code"] for one in plan["action"]]
    place = code.index("within-window")
    if windows:
        plan["action"][place]["extension"] = [
            {"url": PARAMETER_URL, "extension": [{"url": "name", "valueCode": name}, *value]}
            for name, value in rows
        ]
    else:
        del plan["action"][place]
    city.put(plan)
    city.running.run(publish.activate(city.gateway, version, demonstration=True))


def value(given: Any, kind: str = "valueCode", key: str = "") -> list[Json]:
    parts = [{"url": "key", "valueCode": key}] if key else []
    return [*parts, {"url": "value", kind: given}]


def of_item(answer: Json, item: str = POTASSIUM) -> list[Json]:
    """The parts of an item of the answer."""
    (found,) = [
        part for part in pieces(answer["parameter"], "item") if one(part, "item")["code"] == item
    ]
    return found  # type: ignore[no-any-return]  # parts of Parameters


def test_windows_are_those_of_the_rules_and_without_rules_the_catalogues(
    start: Callable[..., Running],
) -> None:
    city = City(start(), rules=False)
    person = city.patient()
    city.result(person)
    bare = prior(city, person)
    assert one(bare["parameter"], "rule-set") is None
    assert one(of_item(bare), "window-days") == 7
    (shown,) = groups(bare)[POTASSIUM]
    assert shown["days-left"] == 6
    rules_with(city, "2.0.0", ("override", value(2, "valueInteger", POTASSIUM)))
    ours = of_item(prior(city, person))
    assert (one(ours, "window-days"), one(ours, "window-source")) == (2, "rule-set")
    rules_with(city, "3.0.0", ("count", value("hours")), ("start", value("issued")))
    (shown,) = groups(prior(city, person))[POTASSIUM]
    assert "T" in shown["window-end"]
    assert shown["days-left"] in (5, 6)
    rules_with(city, "4.0.0", windows=False)
    without = prior(city, person)
    assert one(of_item(without), "window-days") is None
    assert not {"window-end", "days-left"} & set(groups(without)[POTASSIUM][0])


def test_what_a_result_does_not_say_is_not_told(city: City) -> None:
    person = city.patient()
    city.result(person, report="", effectiveDateTime=..., issued=..., performer=...)
    city.result(person, SODIUM, valueQuantity=..., valueString="未检出")
    answer = groups(prior(city, person))
    (bare,) = answer[POTASSIUM]
    assert not {"time", "time-of", "issued", "days-left", "window-end"} & set(bare)
    (text,) = answer[SODIUM]
    assert text["value"] == "未检出"
    assert "quantity" not in text


def test_a_time_whose_zone_nobody_knows_is_told_to_be_one(city: City) -> None:
    person = city.patient()
    unsure = city.result(person)
    id = unsure.partition("/")[2]
    stored = city.running.get(f"/fhir/{unsure}", headers=city.sender).json()
    stored["meta"] = {"tag": [{"system": INTAKE_SYSTEM, "code": UNKNOWN_ZONE}]}
    body = json.dumps(stored).encode()  # the gateway's own word, which nobody else may say
    city.running.run(update(city.gateway, GATEWAY, type="Observation", id=id, body=body))
    sure = city.result(person, ago=2)
    shown = {
        row["reference"]["reference"].partition("/_history/")[0]: row.get("zone-known", True)
        for row in groups(prior(city, person))[POTASSIUM]
    }
    assert shown == {unsure: False, sure: True}


def test_an_item_that_the_catalogue_holds_no_more_is_told_by_its_code(
    start: Callable[..., Running], database: Databases
) -> None:
    city = City(start())
    person = city.patient()
    city.result(person)
    database.execute("UPDATE fact SET item = 'L999'", "gateway")
    found = of_item(prior(city, person), "L999")
    assert one(found, "item") == {"code": "L999"}
    assert not {"class", "modality", "unit", "window-days"} & {part["name"] for part in found}


def test_an_open_question_who_it_is_makes_the_identity_doubtful(city: City) -> None:
    mine, theirs = city.patient(), city.patient()
    city.result(mine)
    city.result(mine, SODIUM)
    city.result(theirs)
    propose(city, mine, theirs)
    answer = prior(city, mine, "?evaluate=true")
    assert one(answer["parameter"], "identity") == "doubtful"
    assert one(of_item(answer), "outcome") == "cannot-decide"
    other = prior(city, mine, f"?evaluate=true&item={SODIUM}")
    assert one(of_item(other, SODIUM), "outcome") == "recognize"


def test_void_results_alone_have_an_outcome_and_none_that_is_chosen(city: City) -> None:
    person = city.patient()
    city.result(person, status="entered-in-error")
    found = of_item(prior(city, person, "?evaluate=true"))
    assert one(found, "outcome") == "not-recognizable"


def test_images_that_no_report_names_are_no_result_of_an_item(city: City) -> None:
    person = city.patient()
    city.create(imaging_study(person))
    assert groups(prior(city, person, f"?item={BRAIN}")) == {}


def test_what_is_kept_to_be_told_again_is_bounded(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = city.patient()
    city.result(person)
    before = prior(city, person)
    for name in ("_MOST_KEPT", "_MOST_TOLD"):
        monkeypatch.setattr(prior_told, name, 0)
    for kept in (prior_told._kept, prior_told._told):
        kept.clear()
    again = prior(city, person)
    assert groups(again) == groups(before)
    assert pieces(again["parameter"], "source") == pieces(before["parameter"], "source")
