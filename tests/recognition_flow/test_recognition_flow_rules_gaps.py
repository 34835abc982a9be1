"""Rule sets that cannot be read, lack their base or begin later: nothing is decided, and why."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from city import POTASSIUM, City, Json, outcomes, parts, said
from databases import Databases
from running import Running
from test_recognition_flow_lists import JOINS, LIST, bring, list_edition, speak_of
from test_recognition_flow_past import moment, then
from test_recognition_flow_replay_run import erase
from test_recognition_flow_rules import Town, draft, narrower, put_overlay, rules, shipped

from fhir_gateway.errors import Conflict, Invalid, NotFound, Unprocessable
from fhir_gateway.recognition import known, past, publish, simulate
from fhir_gateway.recognition.rules import load_rule_set
from fhir_gateway.recognition.simulate import Change, Scope, Simulation, Tally, summary
from fhir_gateway.settings import CANONICAL

pytestmark = pytest.mark.drivers("sqlite")
CRITERION_SYSTEM = f"{CANONICAL}/CodeSystem/criterion"
LATE = 4_102_444_800_000_000  # 2100


def unreadable(status: str = "active", **changes: Any) -> Json:
    """A rule set of a later release: it names a criterion that is not known here."""
    plan = deepcopy(shipped(id="later", version="9.0.0", status=status, experimental=False))
    plan["action"][0]["code"][0]["coding"][0]["version"] = "99"
    return plan | changes


def in_force(city: City, **asked: str) -> Json:
    answer = city.running.get("/fhir/PlanDefinition/$in-force", params=asked, headers=city.receiver)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def gap(answer: Json) -> Json:
    (part,) = parts(answer, "gap")
    return part


def why(answer: Json) -> str:
    return str(said(gap(answer), "text"))


def test_one_that_cannot_be_read_leaves_every_question_open(
    start: Callable[..., Running],
) -> None:
    """To decide by an older one would be a guess, so the answer names the one to mend."""
    city = City(start())
    patient = city.patient()
    city.result(patient)
    before = moment(city)
    city.put(unreadable())
    open_question = [("cannot-decide", "no-rule-set-in-force")]
    assert outcomes(city.recognize(patient, POTASSIUM)) == open_question
    after = moment(city)
    assert outcomes(then(city, patient, after, POTASSIUM)) == open_question
    assert outcomes(then(city, patient, before, POTASSIUM)) == [("recognize", "usable")]
    text = "later is active and cannot be read: nothing can be decided"
    assert [why(in_force(city)), why(in_force(city, asOf=after))] == [text, text]
    assert said(in_force(city, asOf=before), "in-force") is True
    (listed,) = [one for one in _listed(city) if one.version == "9.0.0"]
    assert (listed.rule_set, [one.rule for one in listed.issues]) == (None, ["unknown-criterion"])
    answer = city.running.get("/fhir/PlanDefinition/later/$lint", headers=city.receiver)
    assert {row[1] for row in rules(answer)} == {"unknown-criterion"}


def _listed(city: City) -> Any:
    return city.running.run(publish.rule_sets(city.gateway))


def test_one_that_cannot_be_read_does_not_keep_another_from_becoming_active(
    start: Callable[..., Running],
) -> None:
    town = Town(start(open_access=True))
    City.put(town, unreadable())  # type: ignore[arg-type]  # it needs a gateway alone
    town.publish(draft("2.0.0"))
    assert town.stored("rules-2.0.0")["status"] == "active"
    trial = draft("3.0.0", effectivePeriod={"start": "2023-01-01"}) | {"experimental": True}
    assert town.put(trial).status_code == 201
    refused = rules(town.put(trial | {"status": "active"}))
    assert refused[0][:2] == (409, "rule-set-experimental")  # this store is no demonstration


def test_an_overlay_whose_base_was_retired_is_named(start: Callable[..., Running]) -> None:
    city = City(start())
    added = {
        "id": "ours",
        "title": "不在透析",
        "code": [{"coding": [{"system": CRITERION_SYSTEM, "version": "1", "code": "condition"}]}],
        "documentation": [{"type": "citation", "label": "本地通知"}],
        "condition": [{"kind": "applicability", "expression": {
            "language": "text/fhirpath", "expression": "status = 'final'"}}],
    }  # fmt: skip
    put_overlay(city, narrower(action=[*narrower()["action"], added]))
    told = parts(in_force(city, institution="receiver"), "rule")[-1]
    assert (said(told, "rule"), said(told, "title")) == ("condition@1#ours", "不在透析")
    assert said(told, "title-en") is None  # what a rule does not say is not told
    assert city.running.run(publish.retire(city.gateway, "recognition-1.0.0"))
    assert city.running.run(publish.retire(city.gateway, "recognition-1.0.0")) == []
    assert "district|1.0.0 narrows a rule set that is not in force" in why(
        in_force(city, institution="receiver")
    )
    assert "narrows" not in why(in_force(city, area="310000"))


def test_a_period_that_begins_or_ends_is_told(start: Callable[..., Running]) -> None:
    town = Town(start(open_access=True))
    coming = {"start": "2090-01-01", "end": "2090-12-31"}
    town.publish(draft("3.0.0", effectivePeriod=coming))
    answer = town.in_force()
    assert why(answer).startswith("No active rule set covers this day")
    assert said(gap(answer), "until") == "2089-12-31T16:00:00.000Z"
    (layer,) = parts(town.in_force(asOf="2090-06-01"), "layer")
    assert said(layer, "since") == "2089-12-31T16:00:00.000Z"
    assert said(layer, "until").startswith("2090-12-31T15:59:59")


def test_the_moment_of_activation_is_that_of_the_first_active_version(
    start: Callable[..., Running],
) -> None:
    city = City(start())
    before = in_force(city)
    middle = moment(city)
    city.running.run(publish.retire(city.gateway, "1.0.0"))
    past_answer = in_force(city, asOf=middle)
    assert said(past_answer, "since") == said(before, "since")
    # one that was brought in as active, by a copy of another store
    city.put(shipped(id="copied", version="1.1.0", status="active"))
    since = said(in_force(city), "since")
    assert since > said(before, "since")


def test_a_list_that_did_not_hold_then_left_the_question_open(
    start: Callable[..., Running],
) -> None:
    city = City(start())
    patient = city.patient()
    city.result(patient)
    ended = list_edition("2020-01-01", {"B1": 30}, until="2020-12-31")
    city.running.run(bring(city, ended, JOINS))
    speak_of(city, LIST)
    told = then(city, patient, moment(city), POTASSIUM)
    assert outcomes(told) == [("cannot-decide", "no-rule-set-in-force")]


def test_the_receiver_of_then_is_the_institution_as_it_was_registered(
    start: Callable[..., Running],
) -> None:
    running = start(open_access=True)
    city = City(running)
    patient = city.patient()
    city.result(patient)
    before = moment(city)
    running.institution("late")
    registered = moment(city)
    stored = running.get("/fhir/Organization/late").json()
    running.put("/fhir/Organization/late", {**stored, "name": "改名"})
    renamed = moment(city)
    running.delete("/fhir/Organization/late")
    running.put("/fhir/Organization/late", {**stored, "active": True})
    asked = [("late", text) for text in (before, registered, renamed, moment(city))]
    for receiver, text in (*asked, ("nobody-knows", renamed)):
        answer = running.post("/fhir/ServiceRequest/$recognize", {
            "resourceType": "Parameters",
            "parameter": [
                {"name": "patient", "valueReference": {"reference": f"Patient/{patient}"}},
                {"name": "item", "valueCode": POTASSIUM},
                {"name": "receiver",
                 "valueReference": {"reference": f"Organization/{receiver}"}},
                {"name": "asOf", "valueDateTime": text},
            ],
        })  # fmt: skip
        assert outcomes(answer.json()) == [("recognize", "usable")], (receiver, answer.text)


def test_many_rule_sets_are_read_in_pages(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "_PAGE", 1)
    monkeypatch.setattr(past, "_PAGE", 1)
    monkeypatch.setattr(known, "MOST_PAIRS", 0)  # the register is forgotten, and read again
    city = City(start())
    put_overlay(city, narrower())
    patient = city.patient()
    city.result(patient)
    for _ in range(2):
        answer = city.recognize(patient, POTASSIUM)
        assert outcomes(answer) == [("view-only", "item-not-listed")]
    assert outcomes(then(city, patient, moment(city), POTASSIUM)) == outcomes(answer)
    assert len(_listed(city)) == 2


# -- simulation and replay -------------------------------------------------------------------------


def simulated(city: City, definition: Json) -> Tally:
    simulation = Simulation(load_rule_set(definition), Scope(0, LATE))

    async def run() -> Tally:
        while await simulation.page(city.gateway):
            pass
        return simulation.tally

    tally: Tally = city.running.run(run())
    return tally


def test_a_simulation_leaves_out_what_it_cannot_compare(
    start: Callable[..., Running], database: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    city = City(start())
    patient = city.patient()
    observation = city.result(patient)
    city.recognize(patient, POTASSIUM)
    assert summary(simulated(city, shipped())).endswith("1 items, 0 would change")
    # a base that the district's rules do not narrow would leave a gap
    put_overlay(city, narrower())
    city.recognize(patient, POTASSIUM)
    other = shipped(url="https://example.org/PlanDefinition/other", version="5.0.0")
    assert {row.after_reason for row, _ in simulated(city, other).rows} == {"no-rule-set-in-force"}
    monkeypatch.setattr(simulate, "MOST_ROWS", 0)
    monkeypatch.setattr(simulate, "_KEPT", 0)
    counted = simulated(city, other)
    assert (counted.rows, counted.more > 0) == ([], True)
    with monkeypatch.context() as patched:

        def unknown(definition: Any) -> Any:
            raise Unprocessable("of a release to come", rule="unknown-criterion")

        patched.setattr(simulate, "load_rule_set", unknown)
        tally = simulated(city, shipped())
    assert tally.skipped == {"the rule sets it was decided by cannot be read": 2}
    assert summary(tally).endswith(", 2 left out")
    erase(database, observation)
    assert simulated(city, shipped()).skipped == {"evidence was erased since": 2}
    erase(database, "PlanDefinition/recognition-1.0.0")
    assert simulated(city, shipped()).skipped == tally.skipped


def test_shares_of_a_simulation_are_added_up() -> None:
    potassium = Change("L001", "receiver", "recognize", "usable", "view-only", "x")
    sodium = Change("L002", "receiver", "recognize", "usable", "view-only", "x")
    one = Tally(3, 5, 2, 1, 1, 0, {"erased": 1}, [(potassium, 1), (sodium, 1)], 1)
    other = Tally(2, 2, 2, 0, 0, 1, {"erased": 2, "unread": 1}, [(sodium, 2)], 0)
    one.add(other)
    assert one == Tally(
        5, 7, 4, 1, 1, 1, {"erased": 3, "unread": 1}, [(sodium, 3), (potassium, 1)], 1
    )


# -- the commands of publication -------------------------------------------------------------------


def test_what_cannot_be_published_is_refused_with_what_to_do(
    start: Callable[..., Running],
) -> None:
    city = City(start())
    run, gateway = city.running.run, city.gateway
    plain = {"resourceType": "PlanDefinition", "id": "plain", "status": "draft"}
    with pytest.raises(Unprocessable, match="this PlanDefinition is no rule set"):
        run(publish.add(gateway, plain))
    nameless = {name: value for name, value in draft("2.0.0").items() if name != "id"}
    with pytest.raises(Unprocessable, match="A rule set has an id"):
        run(publish.add(gateway, nameless))
    assert run(publish.add(gateway, draft("2.0.0"))) == "created"
    assert run(publish.add(gateway, draft("2.0.0"))) == "unchanged"
    (plan,) = [one for one in _listed(city) if one.version == "2.0.0"]
    with pytest.raises(Invalid, match="Say who"):
        run(publish.record_simulation(gateway, plan, " ", "tried"))
    assert run(publish.add(gateway, draft("2.0.0", title="改过"))) == "updated"
    with pytest.raises(Conflict, match="was edited meanwhile"):
        run(publish.record_simulation(gateway, plan, "甲", "tried"))
    active = next(one for one in _listed(city) if one.version == "1.0.0")
    with pytest.raises(Conflict, match=r"1\.0\.0 is active: drafts are simulated"):
        run(publish.record_simulation(gateway, active, "甲", "tried"))
    run(publish.add(gateway, narrower("2.0.0")))
    with pytest.raises(Conflict, match=r"name one by its id: district, rules-2\.0\.0"):
        run(publish.approve(gateway, "2.0.0", "乙"))
    with pytest.raises(NotFound, match=r"There is no rule set 7\.0\.0; known: "):
        run(publish.retire(gateway, "7.0.0"))
    later = draft("8.0.0", effectivePeriod={"start": "2090-01-01"}) | {"experimental": True}
    run(publish.add(gateway, later))
    assert run(publish.activate(gateway, "8.0.0", demonstration=True)) == ["8.0.0 active"]
    assert run(publish.in_force(gateway)).version == "1.0.0"  # it replaces nothing until then


def test_a_definition_that_was_no_rule_set_may_become_one(start: Callable[..., Running]) -> None:
    town = Town(start(open_access=True))
    plain = {"resourceType": "PlanDefinition", "id": "rules-2.0.0", "status": "active"}
    assert town.put(plain).status_code == 201
    assert town.put(draft("2.0.0")).status_code == 200
    taken = town.running.post("/fhir/PlanDefinition/rules-2.0.0/$lint", _resource(draft("2.0.1")))
    assert rules(taken)[0][:2] == (400, "parameter")
    assert rules(town.running.post("/fhir/PlanDefinition/$lint", _resource()))[0][:2] == (
        400,
        "required",
    )


def _resource(*plans: Json) -> Json:
    found = [{"name": "resource", "resource": one} for one in plans]
    return {"resourceType": "Parameters", **({"parameter": found} if found else {})}
