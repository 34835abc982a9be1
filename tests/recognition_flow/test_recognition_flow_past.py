"""Time travel: what would have been said then; and one answer, one version of the rules."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

from city import EVALUATED, POTASSIUM, SODIUM, City, outcomes, parts, said
from running import Running
from test_recognition_flow_ask import RECEIVER, question

from fhir_gateway.recognition import publish
from fhir_gateway.recognition.ask import ask
from fhir_gateway.recognition.replay import Replayer
from fhir_gateway.recognition.replay_run import Scope, Tally, extent, replay_piece
from fhir_gateway.recognition.rules_parameters import PARAMETER_URL


def then(city: City, patient: str, moment: str, *items: str, status: int = 200) -> Any:
    parameters = [
        {"name": "patient", "valueReference": {"reference": f"Patient/{patient}"}},
        *({"name": "item", "valueCode": item} for item in items),
        {"name": "asOf", "valueDateTime": moment},
    ]
    parameters.append({"name": "contextKnown", "valueBoolean": True})
    answer = city.operate("ServiceRequest/$recognize", parameters)
    assert answer.status_code == status, answer.text
    return answer.json()


def moment(city: City) -> str:
    """A moment behind all that is stored, before all that comes."""
    city.running.run(asyncio.sleep(0.002))
    now = city.gateway.clock.now() / 1_000_000
    city.running.run(asyncio.sleep(0.002))
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")


def test_results_evaluations_and_rules_are_those_of_the_moment(
    start: Callable[..., Running],
) -> None:
    city = City(start(), rules=False)
    patient = city.patient()
    without_rules = moment(city)
    city.running.run(publish.activate(city.gateway, "1.0.0", demonstration=True))
    without_result = moment(city)
    first = city.result(patient, ago=3)
    with_result = moment(city)
    second = city.result(patient, ago=1)
    newer = moment(city)
    city.evaluate("sender", EVALUATED, status="val-fail")
    failed = moment(city)
    city.running.run(publish.retire(city.gateway, "1.0.0"))
    told = {
        text: outcomes(then(city, patient, text, POTASSIUM))[0]
        for text in (without_rules, without_result, with_result, newer, failed)
    }
    assert list(told.values()) == [
        ("cannot-decide", "no-rule-set-in-force"),
        ("not-recognizable", "none-available-to-you"),
        ("recognize", "usable"),
        ("recognize", "usable"),
        ("view-only", "evaluation-failed"),
    ]
    for text, source in ((with_result, first), (newer, second)):
        (item,) = parts(then(city, patient, text, POTASSIUM), "item")
        result = said(said(item, "result"), "reference")
        assert result == {"reference": f"{source}/_history/1"}
    assert outcomes(city.recognize(patient, POTASSIUM)) == [
        ("cannot-decide", "no-rule-set-in-force")
    ]


def test_a_receiver_that_was_not_registered_then_is_taken_as_it_is_today(
    start: Callable[..., Running],
) -> None:
    city = City(start())
    patient = city.patient()
    city.result(patient)
    before = city.recognize(patient, POTASSIUM)
    for left in ("receiver", "sender"):
        city.put({"resourceType": "Organization", "id": left, "name": left})
    unregistered = moment(city)
    city.receiver = city.running.institution("receiver", "接诊医院")
    (item,) = parts(city.recognize(patient, POTASSIUM), "item")
    # whose result it is stays known, by reference alone: no name is taken from outside the registry
    assert said(said(item, "result"), "issuer") == {"reference": "Organization/sender"}
    assert outcomes(then(city, patient, unregistered, POTASSIUM)) == outcomes(before)


def test_an_answer_of_the_past_is_audited_and_no_reminder(start: Callable[..., Running]) -> None:
    city = City(start())
    patient = city.patient()
    observation = city.result(patient)
    answer = then(city, patient, moment(city), POTASSIUM)
    assert said(answer, "decision") is None
    assert said(answer, "recorded") is False
    assert said(answer, "commit") > 0
    assert "reminded nobody" in said(answer, "note")
    found = city.search(f"GuidanceResponse?patient={patient}")
    assert [one for one in found if one["resourceType"] == "GuidanceResponse"] == []
    events = city.search(f"AuditEvent?patient={patient}")
    (event,) = [one for one in events if "as of" in one.get("outcomeDesc", "")]
    assert "not recorded: recognize 1" in event["outcomeDesc"]
    named = [entity["what"].get("reference") for entity in event["entity"]]
    assert named[:2] == [f"Patient/{patient}", f"{observation}/_history/1"]


def test_it_says_what_was_recorded_then(start: Callable[..., Running]) -> None:
    """The answer as of the moment of a decision is that decision, whatever came later."""
    city = City(start())
    patient = city.patient()
    city.result(patient)
    before = city.recognize(patient, POTASSIUM, SODIUM)
    text = moment(city)
    city.result(patient, SODIUM)
    city.result(patient, ago=0, value="9.9")
    assert parts(then(city, patient, text, POTASSIUM, SODIUM), "item") == parts(before, "item")


def test_moments_without_an_answer_are_refused(city: City) -> None:
    patient = city.patient()
    before = then(city, patient, "1999-01-01", POTASSIUM, status=400)
    assert before["issue"][0]["diagnostics"].startswith("Nothing was stored here before")
    assert before["issue"][0]["expression"] == ["Parameters.parameter.asOf"]
    later = then(city, patient, "2999-01-01", POTASSIUM, status=400)
    assert later["issue"][0]["diagnostics"] == "asOf lies in the future"


# -- one answer, one version of the rules ----------------------------------------------------------


def test_no_answer_mixes_two_versions_while_one_is_published(
    start: Callable[..., Running],
) -> None:
    city = City(start())
    patient = city.patient()
    for item in (POTASSIUM, SODIUM):
        city.result(patient, item)
    base = next(
        one for one in city.running.run(publish.rule_sets(city.gateway)) if one.version == "1.0.0"
    )
    days = {f"2.0.{number}": 20 + number for number in range(2)}
    for version, window in days.items():
        definition = deepcopy({**base.definition, "status": "draft"})
        del definition["meta"]
        definition |= {"id": f"recognition-{version}", "version": version}
        _set_window(definition, window)
        city.running.run(publish.add(city.gateway, definition))
    ids = city.running.run(_ask_while_publishing(city, patient, list(days)))
    seen = set()
    for id in ids:
        stored = city.running.get(f"/fhir/GuidanceResponse/{id}", headers=city.receiver).json()
        version = stored["moduleCanonical"].rpartition("|")[2]
        inputs = json.loads(said(_out(stored), "inputs"))
        assert inputs["rule_set"].startswith(f"PlanDefinition/recognition-{version}/")
        windows = {said(item, "window").split()[0] for item in parts(_out(stored), "item")}
        assert version == "1.0.0" or windows == {str(days[version])}
        seen.add(version)
    assert seen == {"1.0.0", *days}
    whole = city.running.run(_replay(city))
    assert (whole.decisions, whole.differ) == (len(ids), 0)


def _out(stored: Any) -> Any:
    return stored["contained"][0]


def _set_window(definition: dict[str, Any], days: int) -> None:
    """Gives both items a window of so many days."""
    (rule,) = [
        action
        for action in definition["action"]
        if action["code"][0]["coding"][0]["code"] == "within-window"
    ]
    for item in (POTASSIUM, SODIUM):
        parts = [
            {"url": "name", "valueCode": "override"},
            {"url": "key", "valueCode": item},
            {"url": "value", "valueInteger": days},
        ]
        rule["extension"].append({"url": PARAMETER_URL, "extension": parts})


async def _replay(city: City) -> Tally:
    """Every decision, decided again."""
    now = city.gateway.clock.now()
    commits = await extent(city.gateway, Scope(0, now + 1))
    return await replay_piece(city.gateway, Replayer(city.gateway), commits)


async def _ask_while_publishing(city: City, patient: str, versions: list[str]) -> list[str]:
    ids: list[str] = []
    done = asyncio.Event()

    async def asks() -> None:
        while not done.is_set():
            answer = await ask(city.gateway, RECEIVER, question(patient, POTASSIUM, SODIUM))
            ids.append(answer.id)

    async def publishes() -> None:
        await asyncio.sleep(0.02)
        for version in versions:
            await publish.activate(city.gateway, version, demonstration=True)
            await asyncio.sleep(0.02)
        done.set()

    await asyncio.gather(asks(), asks(), publishes())
    return ids
