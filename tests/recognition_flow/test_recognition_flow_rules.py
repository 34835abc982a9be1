"""Rule sets in a running gateway, on both stores: their life, races, levels, simulation, replay."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from city import POTASSIUM, SODIUM, City, said
from click.testing import CliRunner
from databases import Databases
from running import Running

from fhir_gateway.app import build
from fhir_gateway.cli import main
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.provenance import provenance as coded_provenance
from fhir_gateway.recognition import publish
from fhir_gateway.recognition.rules import load_rule_set
from fhir_gateway.recognition.rules_lifecycle import content_digest
from fhir_gateway.recognition.rules_proofs import Person, provenance
from fhir_gateway.recognition.rules_scope import CONTEXT_TYPE
from fhir_gateway.recognition.simulate import Scope, Simulation, summary
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.area import AREA_SYSTEM

Json = dict[str, Any]
FILE = Path(__file__).parents[2] / "profiles/PlanDefinition/recognition-1.0.0.json"
LATE = 4_102_444_800_000_000  # 2100


def shipped(**changes: Any) -> Json:
    text = FILE.read_text(encoding="utf-8").replace("{CANONICAL}", CANONICAL)
    return json.loads(text) | changes


def draft(version: str, **changes: Any) -> Json:
    """A draft for use, not for demonstration."""
    return shipped(id=f"rules-{version}", version=version, experimental=False, **changes)


def narrower(version: str = "1.0.0", **changes: Any) -> Json:
    """An overlay of the receiver's district that takes potassium off the list."""
    action = next(one for one in shipped()["action"] if _code(one) == "item-listed")
    extension = {
        "url": f"{CANONICAL}/StructureDefinition/criterion-parameter",
        "extension": [
            {"url": "name", "valueCode": "negative"}, {"url": "value", "valueString": POTASSIUM}
        ],
    }  # fmt: skip
    return {
        "resourceType": "PlanDefinition",
        "id": "district",
        "url": f"{CANONICAL}/PlanDefinition/district",
        "version": version,
        "status": "draft",
        "experimental": False,
        "jurisdiction": [{"coding": [{"system": AREA_SYSTEM, "code": "110105"}]}],
        "relatedArtifact": [{"type": "derived-from", "resource": shipped()["url"]}],
        "action": [{**action, "extension": [extension]}],
        **changes,
    }


def _code(action: Json) -> str:
    return str(action["code"][0]["coding"][0]["code"])


class Town:
    """A gateway under open access, whose caller is the operator."""

    def __init__(self, running: Running) -> None:
        self.running, self.gateway = running, running.gateway

    def put(self, definition: Json) -> Any:
        return self.running.put(f"/fhir/PlanDefinition/{definition['id']}", definition)

    def stored(self, id: str) -> Json:
        found: Json = self.running.get(f"/fhir/PlanDefinition/{id}").json()
        return found

    def prove(self, definition: Json, step: Any, name: str) -> None:
        record = provenance(
            step,
            id=definition["id"],
            digest=content_digest(definition),
            by=Person(name),
            recorded="2026-11-20T00:00:00.000Z",
            says="tried",
            version="PlanDefinition/x/_history/1",
        )
        answer = self.running.post("/fhir/Provenance", record)
        assert answer.status_code == 201, answer.text

    def publish(self, definition: Json) -> None:
        """All the steps, by two persons."""
        assert self.put(definition).status_code in (200, 201)
        self.prove(definition, "simulation", "模拟员甲")
        approved = definition | {"approvalDate": "2026-11-20"}
        assert self.put(approved).status_code == 200
        self.prove(definition, "approval", "审批员乙")
        answer = self.put(approved | {"status": "active"})
        assert answer.status_code == 200, answer.text

    def in_force(self, **asked: str) -> Json:
        answer = self.running.get("/fhir/PlanDefinition/$in-force", params=asked)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found


@pytest.fixture
def town(start: Callable[..., Running]) -> Town:
    return Town(start(open_access=True))


def rules(answer: Any) -> list[tuple[int, str, str]]:
    return [
        (answer.status_code, one["details"]["text"], one.get("expression", [""])[0])
        for one in answer.json()["issue"]
    ]


def test_activation_wants_a_simulation_an_approval_and_two_persons(town: Town) -> None:
    plan = draft("2.0.0")
    active = plan | {"status": "active"}
    refused = [(422, "rule-set-approval", "PlanDefinition.status")]
    assert rules(town.put(active)) == [(409, "rule-set-status", "PlanDefinition.status")]
    assert town.put(plan).status_code == 201
    assert rules(town.put(active)) == refused
    town.prove(plan, "simulation", "甲")
    assert rules(town.put(active)) == refused
    town.prove(plan, "approval", " 甲")
    answer = town.put(active)
    assert rules(answer) == refused
    assert "another person" in answer.json()["issue"][0]["diagnostics"]
    town.prove(plan, "approval", "乙")
    assert rules(town.put(active)) == [(422, "rule-set-approval", "PlanDefinition.approvalDate")]
    assert town.put(plan | {"approvalDate": "2026-11-20"}).status_code == 200
    edited = plan | {"approvalDate": "2026-11-20", "title": "改过"}
    assert town.put(edited).status_code == 200
    assert rules(town.put(edited | {"status": "active"})) == refused
    assert town.put(plan | {"approvalDate": "2026-11-20"}).status_code == 200
    assert town.put(active | {"approvalDate": "2026-11-20"}).status_code == 200
    assert town.stored("rules-2.0.0")["status"] == "active"


def test_an_active_rule_set_is_frozen_by_every_way_of_writing(town: Town) -> None:
    plan = draft("2.0.0")
    town.publish(plan)
    active = town.stored("rules-2.0.0")
    frozen = (409, "rule-set-frozen", "PlanDefinition.title")
    changed = active | {"title": "别的"}
    assert rules(town.put(changed)) == [frozen]
    patch = [{"op": "replace", "path": "/title", "value": "别的"}]
    answer = town.running.request(
        "PATCH",
        "/fhir/PlanDefinition/rules-2.0.0",
        content=json.dumps(patch).encode(),
        headers={"content-type": "application/json-patch+json"},
    )
    assert rules(answer) == [frozen]
    conditional = town.running.put(
        "/fhir/PlanDefinition", changed, params={"url": plan["url"], "version": "2.0.0"}
    )
    assert rules(conditional) == [frozen]
    entry = {"resource": changed, "request": {"method": "PUT", "url": "PlanDefinition/rules-2.0.0"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    answer = town.running.post("/fhir", bundle)
    assert rules(answer) == [(409, "rule-set-frozen", "Bundle.entry[0].resource.title")]
    gone = town.running.delete("/fhir/PlanDefinition/rules-2.0.0")
    assert rules(gone) == [(409, "rule-set-kept", "PlanDefinition")]
    assert rules(town.put(active | {"status": "draft"})) == [
        (409, "rule-set-status", "PlanDefinition.status")
    ]
    ends = active | {"effectivePeriod": {"start": "2022-03-01", "end": "2099-12-31"}}
    assert town.put(ends).status_code == 200
    assert town.put(ends | {"status": "retired"}).status_code == 200
    assert rules(town.put(ends | {"status": "active"}))[0][:2] == (409, "rule-set-status")


def test_a_version_is_one_rule_sets_for_ever(town: Town) -> None:
    plan = draft("2.0.0")
    town.publish(plan)
    taken = [(409, "rule-set-version", "PlanDefinition.version")]
    assert rules(town.put(plan | {"id": "again"})) == taken
    assert town.put(town.stored("rules-2.0.0") | {"status": "retired"}).status_code == 200
    assert rules(town.put(plan | {"id": "again"})) == taken
    assert town.put(draft("2.0.1")).status_code == 201
    assert town.running.delete("/fhir/PlanDefinition/rules-2.0.1").status_code in (200, 204)
    other = {"resourceType": "PlanDefinition", "id": "other", "status": "active"}
    assert town.put(other).status_code == 201  # none of recognition's business
    assert town.running.delete("/fhir/PlanDefinition/other").status_code in (200, 204)


def test_what_cannot_be_loaded_or_has_errors_never_becomes_active(town: Town) -> None:
    plan = draft("2.0.0")
    plan["action"][0]["code"][0]["coding"][0]["version"] = "99"
    assert town.put(plan).status_code == 201  # a draft may be half done
    answer = town.put(plan | {"status": "active"})
    assert rules(answer) == [(422, "unknown-criterion", "PlanDefinition.action[0].code")]
    plan = draft("2.0.1")
    plan["action"] = [one for one in plan["action"] if _code(one) != "window-published"]
    assert town.put(plan).status_code == 201
    answer = town.put(plan | {"status": "active"})
    assert {row[:2] for row in rules(answer)} == {(422, "lint-compiled")}


def test_an_institution_neither_writes_rules_nor_proves_them(start: Callable[..., Running]) -> None:
    town = City(start(), rules=False)
    answer = town.running.put(
        "/fhir/PlanDefinition/rules-2.0.0", draft("2.0.0"), headers=town.sender
    )
    assert rules(answer)[0][:2] == (403, "rights")
    plan = draft("2.0.0")
    town.running.run(publish.add(town.gateway, plan))
    for step, name in (("simulation", "甲"), ("approval", "乙")):
        record = provenance(
            step,  # type: ignore[arg-type]  # both are steps
            id=plan["id"],
            digest=content_digest(plan),
            by=Person(name),
            recorded="2026-11-20T00:00:00.000Z",
            says="tried",
            version="PlanDefinition/x/_history/1",
        )
        town.running.post("/fhir/Provenance", record, headers=town.sender)
    with pytest.raises(Exception, match="Nobody has simulated"):
        town.running.run(publish.activate(town.gateway, "2.0.0"))
    assert coded_provenance([], recorded_us=0)["resourceType"] == "Provenance"


def test_an_experimental_set_is_for_demonstrations_alone(start: Callable[..., Running]) -> None:
    bare = City(start(), rules=False)
    run, gateway = bare.running.run, bare.gateway
    with pytest.raises(Exception, match="demonstration"):
        run(publish.activate(gateway, "1.0.0"))
    assert run(publish.activate(gateway, "1.0.0", demonstration=True)) == ["1.0.0 active"]
    assert run(publish.activate(gateway, "1.0.0", demonstration=True)) == []


# -- races -----------------------------------------------------------------------------------------


def test_two_that_activate_at_once_leave_one_in_force(database: Databases) -> None:
    """Two openings of one store in one loop: one that stands still would keep its locks."""
    first = Town(Running(database.url("race"), open_access=True))
    second = first.running.run(build(first.running.settings))
    try:
        for version in ("2.0.0", "2.1.0"):
            plan = draft(version)
            assert first.put(plan).status_code == 201
            first.prove(plan, "simulation", "甲")
            assert first.put(plan | {"approvalDate": "2026-11-20"}).status_code == 200
            first.prove(plan, "approval", "乙")

        async def both() -> list[Any]:
            return await asyncio.gather(
                publish.activate(first.gateway, "2.0.0"),
                publish.activate(second.gateway, "2.1.0"),
                publish.activate(second.gateway, "2.0.0"),
                return_exceptions=True,
            )

        outcomes = first.running.run(both())
        found = first.running.run(publish.rule_sets(second.gateway))
        active = [one.version for one in found if one.status == "active"]
        assert len(active) == 1, outcomes
        refused = [one for one in outcomes if isinstance(one, Exception)]
        assert all(getattr(one, "status", 500) == 409 for one in refused), refused
        again = first.running.run(publish.activate(second.gateway, active[0]))
        assert again == []
    finally:
        first.running.run(second.close())
        first.running.close()


# -- in force --------------------------------------------------------------------------------------


def test_in_force_says_the_rules_the_levels_and_the_gap(town: Town) -> None:
    town.running.institution("receiver")
    gap = town.in_force()
    assert said(gap, "in-force") is False
    assert {part["name"] for part in _part(gap, "gap")} == {"text"}
    plan = draft("2.0.0")
    town.publish(plan)
    answer = town.in_force()
    assert said(answer, "rule-set") == f"{plan['url']}|2.0.0"
    assert said(answer, "digest") == load_rule_set(plan).digest
    names = [part["name"] for part in answer["parameter"]]
    assert names.count("layer") == 1
    assert names.count("rule") == len(plan["action"])
    severities = {part["valueCode"] for one in answer["parameter"] if one["name"] == "rule"
                  for part in one["part"] if part["name"] == "severity"}  # fmt: skip
    assert severities == {"decides", "lowers", "informs"}
    assert said(town.in_force(asOf="2021-01-01"), "in-force") is False
    town.publish(narrower())
    assert said(town.in_force(area="310000"), "digest") == load_rule_set(plan).digest
    near = town.in_force(institution="receiver")
    assert said(near, "digest") == said(town.in_force(area="110105"), "digest")
    assert said(near, "digest") != load_rule_set(plan).digest
    assert [part["name"] for part in near["parameter"]].count("layer") == 2
    body = {"resourceType": "Parameters",
            "parameter": [{"name": "area", "valueCode": "110105"}]}  # fmt: skip
    posted = town.running.post("/fhir/PlanDefinition/$in-force", body)
    assert said(posted.json(), "digest") == said(near, "digest")
    venue = {"code": {"system": CONTEXT_TYPE, "code": "venue"},
             "valueReference": {"reference": "Organization/receiver"}}  # fmt: skip
    house = narrower("3.0.0") | {"id": "house", "useContext": [venue]}
    house |= {"url": f"{CANONICAL}/PlanDefinition/house"}
    del house["jurisdiction"]
    town.publish(house)
    of_area = town.in_force(area="110105")
    assert said(of_area, "digest") == said(near, "digest")
    assert said(of_area, "left-out") == f"{CANONICAL}/PlanDefinition/house|3.0.0"
    assert said(town.in_force(institution="receiver"), "left-out") is None
    assert said(town.in_force(area="310000"), "left-out") is None


@pytest.mark.parametrize(
    ("asked", "rule"),
    [({"area": "999999x"}, "area"), ({"institution": "nobody"}, "institution")],
)
def test_in_force_refuses_what_is_not_known(town: Town, asked: Json, rule: str) -> None:
    answer = town.running.get("/fhir/PlanDefinition/$in-force", params=asked)
    assert [one[:2] for one in rules(answer)] == [(400, rule)]


def of_item(answer: Json, name: str) -> str:
    """A code of the one item of an answer."""
    return next(part["valueCode"] for part in _part(answer, "item") if part["name"] == name)


def _part(answer: Json, name: str) -> list[Json]:
    return next(one["part"] for one in answer["parameter"] if one["name"] == name)


def test_lint_is_an_operation_too(town: Town) -> None:
    plan = draft("2.0.0")
    plan["action"] = [one for one in plan["action"] if _code(one) != "window-published"]
    answer = town.running.post("/fhir/PlanDefinition/$lint", plan)
    assert answer.status_code == 200, answer.text
    assert "lint-compiled" in {one["details"]["text"] for one in answer.json()["issue"]}
    answer = town.running.get("/fhir/PlanDefinition/recognition-1.0.0/$lint")
    assert answer.status_code == 200
    assert "error" not in {one["severity"] for one in answer.json()["issue"]}
    assert town.running.get("/fhir/PlanDefinition/nothing/$lint").status_code == 404


# -- levels, replay, simulation --------------------------------------------------------------------


@pytest.fixture
def levels(start: Callable[..., Running]) -> Iterator[City]:
    """A city whose district takes potassium off the list, after a decision without that."""
    one = City(start())
    yield one


def put_overlay(city: City, definition: Json) -> None:
    """A draft that is activated as a demonstration."""
    city.running.run(publish.add(city.gateway, definition | {"experimental": True}))
    changed = city.running.run(publish.activate(city.gateway, definition["id"], demonstration=True))
    assert changed


def test_a_decision_by_levels_replays_after_all_of_them_are_retired(levels: City) -> None:
    patient = levels.patient()
    levels.result(patient)
    before = levels.recognize(patient, POTASSIUM)
    assert of_item(before, "outcome") == "recognize"
    put_overlay(levels, narrower())
    after = levels.recognize(patient, POTASSIUM)
    assert of_item(after, "reason") == "item-not-listed"
    named = [one["valueCanonical"] for one in after["parameter"] if one["name"] == "layer"]
    assert named == [f"{shipped()['url']}|1.0.0", f"{CANONICAL}/PlanDefinition/district|1.0.0"]
    for id in ("district", "recognition-1.0.0"):
        assert levels.running.run(publish.retire(levels.gateway, id))
    for answer in (before, after):
        decision = said(answer, "decision")["reference"]
        replayed = levels.operate(f"{decision}/$replay").json()
        assert said(replayed, "agrees") is True, replayed


def test_an_overlay_without_its_base_leaves_the_question_open(levels: City) -> None:
    patient = levels.patient()
    levels.result(patient)
    put_overlay(levels, narrower())
    levels.running.run(publish.retire(levels.gateway, "recognition-1.0.0"))
    answer = levels.recognize(patient, POTASSIUM)
    assert of_item(answer, "reason") == "no-rule-set-in-force"


def simulated(city: City, definition: Json, **asked: Any) -> Any:
    simulation = Simulation(load_rule_set(definition), Scope(0, LATE, **asked))

    async def run() -> Any:
        while await simulation.page(city.gateway):
            pass
        return simulation.tally

    return city.running.run(run())


def test_a_simulation_says_what_would_change_by_item_and_institution(levels: City) -> None:
    for _ in range(3):
        patient = levels.patient()
        levels.result(patient)
        levels.result(patient, item=SODIUM)
        levels.recognize(patient, POTASSIUM, SODIUM)
    same = simulated(levels, shipped())
    assert (same.decisions, same.items, same.changed, same.rows) == (3, 6, 0, [])
    tally = simulated(levels, narrower())
    ((change, number),) = tally.rows
    assert (tally.changed, number, change.item, change.institution) == (3, 3, POTASSIUM, "receiver")
    assert (change.before, change.after) == ("recognize", "view-only")
    assert (change.before_reason, change.after_reason) == ("usable", "item-not-listed")
    assert summary(tally) == "3 decisions, 6 items, 3 would change"
    assert simulated(levels, narrower(), institution="sender").decisions == 0
    shares = [simulated(levels, narrower(), part=part, parts=3) for part in range(3)]
    assert sum(one.decisions for one in shares) == 3
    assert simulated(levels, narrower() | {"jurisdiction": [
        {"coding": [{"system": AREA_SYSTEM, "code": "310000"}]}]}).decisions == 0  # fmt: skip
    venue = {"code": {"system": CONTEXT_TYPE, "code": "venue"},
             "valueReference": {"reference": "Organization/receiver"}}  # fmt: skip
    house = narrower() | {"useContext": [venue]}
    del house["jurisdiction"]
    assert simulated(levels, house).changed == 3


# -- the command line ------------------------------------------------------------------------------


@pytest.fixture
def asked(database: Databases) -> str:
    """The address of a closed store with two decisions."""
    one = Running(database.url("gateway"))
    city = City(one)
    for _ in range(2):
        patient = city.patient()
        city.result(patient)
        city.recognize(patient, POTASSIUM)
    one.close()
    return database.url("gateway")


def command(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.output


def test_the_command_line_leads_a_draft_into_force(asked: str, tmp_path: Path) -> None:
    where = ("--database", asked)
    path = tmp_path / "draft.json"
    plan = draft("2.0.0")
    listed = next(one for one in plan["action"] if _code(one) == "item-listed")
    listed["extension"] = narrower()["action"][0]["extension"]
    path.write_text(json.dumps(plan), encoding="utf-8")
    assert command("rules", "lint", str(path), *where)[0] == 0
    assert command("rules", "lint", str(path), "--strict", *where)[0] == 1
    assert command("rules", "add", str(path), *where) == (0, "2.0.0 created\n")
    assert command("rules", "add", str(path), *where) == (0, "2.0.0 unchanged\n")
    code, output = command("rules", "activate", "2.0.0", *where)
    assert code == 1 and "Nobody has simulated this draft" in output
    code, output = command("rules", "approve", "2.0.0", "--by", "乙", *where)
    assert code == 1 and "Nobody has simulated this draft" in output
    state = tmp_path / "state"
    code, output = command(
        "rules", "simulate", "2.0.0", "--since", "2020-01-01", "--format", "json",
        "--state", str(state), "--record", "甲", *where,
    )  # fmt: skip
    told = json.loads(output)
    assert (code, told["decisions"], told["changed"]) == (0, 2, 2)
    assert told["transitions"] == [{"before": "recognize", "after": "view-only", "count": 2}]
    assert not state.exists()
    code, output = command("rules", "approve", "2.0.0", "--by", "甲", *where)
    assert code == 1 and "another person" in output
    assert command("rules", "approve", "2.0.0", "--by", "乙", *where)[0] == 0
    shown = command("rules", "show", "2.0.0", *where)[1]
    assert "simulation by 甲" in shown and "approval by 乙" in shown and "Missing" not in shown
    code, output = command("rules", "diff", "1.0.0", "2.0.0", *where)
    assert (code, output) == (1, f"~ item-listed@1 negative: + {POTASSIUM}\n")
    assert command("rules", "activate", "2.0.0", *where) == (0, "2.0.0 active\n1.0.0 retired\n")
    assert command("rules", "list", *where)[1].splitlines()[1].startswith("* 2.0.0")
    assert command("replay", "--all", *where) == (0, "2 decisions, 0 differ\n")


def test_a_simulation_goes_on_where_it_stopped_and_refuses_another_ones_state(
    asked: str, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.write_text("{}")
    since = ("--since", "2020-01-01", "--state", str(state), "--database", asked)
    code, output = command("rules", "simulate", "1.0.0", *since)
    assert code == 1 and "another simulation" in output
    state.unlink()
    code, output = command("rules", "simulate", "1.0.0", "--format", "csv", *since)
    assert (code, output.splitlines()[0].startswith("item,institution")) == (0, True)
    code, output = command(
        "rules", "simulate", "1.0.0", "--since", "2020-01-01", "--until", "2019-01-01",
        "--database", asked,
    )  # fmt: skip
    assert code == 1 and "--until" in output
    assert parse(FILE.read_bytes())["status"] == "draft"
