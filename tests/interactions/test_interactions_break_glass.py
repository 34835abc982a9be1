"""Break-glass and cases: fault 46, limits that alarm, reviews, and openings that end by time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from city import Json
from click.testing import CliRunner
from consented import HIV, SHIPPED, Town, ago
from databases import Databases

from fhir_gateway.app import open_gateway
from fhir_gateway.cli import main
from fhir_gateway.errors import Forbidden, GatewayError
from fhir_gateway.fhir.keys import key64
from fhir_gateway.interactions.break_glass import BREAK_GLASS_OPERATION, break_glass
from fhir_gateway.interactions.break_glass_review import waiting
from fhir_gateway.interactions.case_access import OPEN_CASE, open_case
from fhir_gateway.interactions.given import take
from fhir_gateway.interactions.operation_definitions import Call, Definition
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.security.actor import GATEWAY, Access, Actor, Role, Sight
from fhir_gateway.security.rights import case_party
from fhir_gateway.settings import Settings
from fhir_gateway.store.changes import ChangeSet

SAID: Any = {"valueQuantity": ..., "valueString": "阴性"}


@pytest.fixture(scope="module")
def town(shared_database: Databases) -> Iterator[Town]:
    running = shared_database.running("glass", policy=SHIPPED)
    yield Town(running, rules=False)
    running.close()


def parameters(**given: Any) -> list[Json]:
    kinds = {"reason": "valueCode", "minutes": "valuePositiveInt", "outcome": "valueCode"}
    return [{"name": name, kinds.get(name, "valueString"): value} for name, value in given.items()]


def opened(town: Town, patient: str, **given: Any) -> Any:
    return town.operate(f"Patient/{patient}/$break-glass", parameters(**given))


def rules(answer: Any) -> list[str]:
    return [one["details"]["text"] for one in answer.json()["issue"]]


@pytest.mark.drivers("sqlite")
@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"user": "甲医生"}, "reason"),
        ({"user": "甲医生", "reason": "curiosity"}, "reason"),
        ({"reason": "urgent-care"}, "user"),
        ({"reason": "urgent-care", "user": " "}, "user"),
        ({"reason": "urgent-care", "user": "甲医生", "minutes": 241}, "minutes"),
    ],
)
def test_046_without_a_reason_a_person_or_for_too_long_it_is_refused(
    town: Town, given: Json, rule: str
) -> None:
    patient = town.patient()
    result = town.result(patient)
    answer = opened(town, patient, **given)
    assert answer.status_code == 400
    assert rules(answer) == [rule]
    assert town.sees(result) == [False]


def test_046_it_opens_at_once_is_told_audited_and_reviewed(town: Town) -> None:
    patient = town.patient()
    results = [town.result(patient), town.result(patient, HIV, **SAID)]
    own = town.own(patient)
    assert town.sees(*results) == [False, False]
    answer = opened(town, own, reason="cannot-consent", user="甲医生", minutes=30)
    assert answer.status_code == 200, answer.text
    task = answer.json()
    assert town.sees(*results) == [True, True]
    address = f"/fhir/Task?patient=Patient/{own}&code=break-glass"
    listed = town.running.get(f"{address}&status=requested", headers=town.receiver).json()
    assert [one["resource"]["id"] for one in listed["entry"] if "fullUrl" in one] == [task["id"]]
    notices = f"/fhir/Task?patient=Patient/{patient}&code=break-glass-notice"
    told = town.running.get(notices, headers=town.sender).json()
    assert f"Task/{task['id']}" in json.dumps(told)
    events = [one for one in _events(town) if f"Task/{task['id']}" in json.dumps(one)]
    assert [one["subtype"][0]["code"] for one in events] == ["110127"]
    codes = {c["code"] for p in events[0]["purposeOfEvent"] for c in p["coding"]}
    assert codes == {"BTG", "emergency"}
    # the review
    assert task["id"] in [one.id for one in town.running.run(waiting(town.gateway))]
    path = f"Task/{task['id']}/$review"
    own_review = town.operate(path, parameters(outcome="justified", by="甲医生"))
    assert (own_review.status_code, rules(own_review)) == (403, ["review-own"])
    silent = town.operate(path, parameters(outcome="not-justified", by="乙"))
    assert (silent.status_code, rules(silent)) == (400, ["note"])
    foreign = town.running.post(
        f"/fhir/{path}",
        {"resourceType": "Parameters", "parameter": parameters(outcome="justified", by="丙")},
        headers=town.sender,
    )
    assert foreign.status_code == 404
    for _ in range(2):  # sent again it changes nothing
        done = town.operate(path, parameters(outcome="not-justified", by="乙", note="无指征"))
        assert (done.status_code, done.json()["status"]) == (200, "completed")
    assert town.operate(path, parameters(outcome="justified", by="乙")).status_code == 409
    assert task["id"] not in [one.id for one in town.running.run(waiting(town.gateway))]


def _events(town: Town) -> list[Json]:
    async def read() -> list[Json]:
        async with town.gateway.store.snapshot(GATEWAY.access) as reader:
            stored = await reader.scan("AuditEvent", until_t=reader.t, limit=100_000)
        return [json.loads(one.whole()) for one in stored]

    return list(town.running.run(read()))


def test_046_limits_alarm_and_never_refuse(town: Town) -> None:
    patient = town.own(town.patient())
    most = town.gateway.policy.break_glass.alarm_user_hour
    priorities = []
    for _ in range(most + 2):
        answer = opened(town, patient, reason="life-threatening", user="忙医生")
        assert answer.status_code == 200, answer.text
        priorities.append(answer.json()["priority"])
    assert priorities == ["urgent"] * (most - 1) + ["stat"] * 3
    other = opened(town, patient, reason="life-threatening", user="闲医生")
    assert other.json()["priority"] == "urgent"
    alarms = [one for one in town.running.run(waiting(town.gateway)) if one.user == "忙医生"]
    assert [bool(one.alarms) for one in alarms] == [False] * (most - 1) + [True] * 3


@pytest.mark.drivers("sqlite")
def test_046_nobody_writes_such_a_task_and_no_such_patient_is_opened(town: Town) -> None:
    patient = town.own(town.patient())
    task = opened(town, patient, reason="urgent-care", user="甲医生").json()
    for method, path in (("PUT", f"/fhir/Task/{task['id']}"), ("POST", "/fhir/Task")):
        answer = town.running.request(method, path, json=task, headers=town.receiver)
        assert (answer.status_code, rules(answer)) == (403, ["governed"])
    gone = town.running.delete(f"/fhir/Task/{task['id']}", headers=town.receiver)
    assert gone.status_code == 403
    unknown = opened(town, "01m80000000000000000000000", reason="urgent-care", user="甲医生")
    assert unknown.status_code == 404


def called(definition: Definition, id: str, given: list[Json]) -> Call:
    taken = take({"resourceType": "Parameters", "parameter": given}, definition).parameters
    return Call(f"${definition.code}", "Patient", id, taken)


@pytest.mark.drivers("sqlite")
@pytest.mark.parametrize("role", ["patient", "regulator", "administrator", "evaluator", "open"])
def test_046_whoever_treats_nobody_opens_nothing(town: Town, role: Role) -> None:
    patient = town.patient()
    actor = Actor(role, "x", None if role == "open" else "receiver", user="Practitioner/x")
    call = called(BREAK_GLASS_OPERATION, patient, parameters(reason="urgent-care", user="x"))
    with pytest.raises(Forbidden):
        town.running.run(break_glass(town.gateway, actor, call))


@pytest.mark.drivers("sqlite")
def test_046_a_clinician_is_named_by_the_credential(town: Town) -> None:
    patient = town.patient()
    actor = Actor("clinician", "receiver", "receiver", user="Practitioner/d1")
    call = called(BREAK_GLASS_OPERATION, patient, parameters(reason="urgent-care", user="other"))
    task = town.running.run(break_glass(town.gateway, actor, call))
    assert task["requester"]["reference"] == "Practitioner/d1"


def test_a_case_opens_a_record_to_the_regulator_for_ordinary_results(town: Town) -> None:
    patient = town.patient()
    ordinary, sensitive = town.result(patient), town.result(patient, HIV, **SAID)
    town.put({"resourceType": "Organization", "id": "authority", "name": "监管机构"})
    actor = Actor("regulator", "authority", "authority", user="Practitioner/r1")
    sight = Sight(case_party("authority"))
    access = Access(max_class=-1, owners=frozenset({sight.party}), sight=sight)

    def sees(reference: str) -> bool:
        async def read() -> bool:
            async with town.gateway.store.snapshot(access) as reader:
                return await reader.read("Observation", reference.split("/")[1]) is not None

        return bool(town.running.run(read()))

    assert not sees(ordinary)
    given = parameters(ground="举报核查", caseNumber="2026-0001")
    task = town.running.run(open_case(town.gateway, actor, called(OPEN_CASE, patient, given)))
    assert task["status"] == "completed"
    assert (sees(ordinary), sees(sensitive)) == (True, False)
    for other in (replace(actor, role="institution"), replace(actor, institution=None)):
        with pytest.raises(Forbidden):
            call = called(OPEN_CASE, patient, given)
            town.running.run(open_case(town.gateway, other, call))
    for wrong in (parameters(caseNumber="1"), parameters(ground="x"),
                  parameters(ground=" x", caseNumber="1", minutes=100_000)):  # fmt: skip
        with pytest.raises(GatewayError):
            call = called(OPEN_CASE, patient, wrong)
            town.running.run(open_case(town.gateway, actor, call))


class Later:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.us = 1_790_000_000_000_000

    def now(self) -> int:
        return self.us


@pytest.mark.drivers("sqlite")
def test_an_opening_of_a_linked_person_opens_all_homes_and_ends_by_time(
    database: Databases,
) -> None:
    clock = Later()
    party = key64("Organization/receiver")
    access = Access(owners=frozenset({party}), sight=Sight(party))
    actor = Actor("institution", "receiver", "receiver", access)

    async def run() -> None:
        settings = Settings(database=database.url("homes"), policy=SHIPPED)
        gateway = await open_gateway(settings, clock=clock)
        try:
            people = [{"resourceType": "Patient", "id": id} for id in ("one", "two")]
            link = {"resourceType": "Linkage", "id": "l", "active": True, "item": [
                {"type": kind, "resource": {"reference": f"Patient/{id}"}}
                for kind, id in (("source", "one"), ("alternate", "two"))]}  # fmt: skip
            for resource in (*people, link):
                put = prepare(gateway, resource, op="create", institution="sender")
                await gateway.store.commit(ChangeSet(id=gateway.random(16), puts=[put]))

            async def sees() -> list[bool]:
                async with gateway.store.snapshot(access) as reader:
                    return [await reader.read("Patient", id) is not None for id in ("one", "two")]

            assert await sees() == [False, False]
            given = parameters(reason="life-threatening", user="甲医生", minutes=30)
            call = called(BREAK_GLASS_OPERATION, "one", given)
            await break_glass(gateway, actor, call)
            assert await sees() == [True, True]
            clock.us += 30 * 60_000_000 - 1
            assert await sees() == [True, True]
            clock.us += 1
            assert await sees() == [False, False]
        finally:
            await gateway.store.close()

    asyncio.run(run())


@pytest.mark.drivers("sqlite")
def test_the_command_line_lists_and_reviews(database: Databases) -> None:
    running = database.running("listed", policy=SHIPPED)
    town = Town(running, rules=False)
    patient = town.own(town.patient())
    task = opened(town, patient, reason="other", user="甲医生", text="昏迷送诊").json()
    running.close()  # the commands are the only ones that write
    address = ["--database", database.url("listed")]

    def command(*words: str) -> Any:
        return CliRunner().invoke(main, [*words, *address])

    listed = command("break-glass", "list")
    assert f"Task/{task['id']}" in listed.output
    assert "1 wait for a review" in listed.output
    assert json.loads(command("break-glass", "list", "--json").output)[0]["user"] == "甲医生"
    review = ("break-glass", "review", task["id"], "--outcome", "not-justified", "--by", "乙")
    assert command(*review).exit_code == 1
    assert command(*review, "--note", "无指征").exit_code == 0
    assert "0 wait for a review" in command("break-glass", "list").output


@pytest.mark.drivers("sqlite")
def test_the_classes_of_what_is_stored_follow_the_table(database: Databases) -> None:
    running = database.running("graded")  # without classes
    town = Town(running, rules=False)
    patient = town.patient()
    sensitive, ordinary = town.result(patient, HIV, **SAID), town.result(patient)
    running.close()

    def command(*words: str) -> str:
        address = ["--database", database.url("graded")]
        run = CliRunner().invoke(main, [*words, *address], env={"FHIR_GATEWAY_POLICY": SHIPPED})
        assert run.exit_code == 0, run.output
        return run.output

    planned = command("policy", "classify")
    assert sensitive in planned
    assert "DiagnosticReport/" in planned
    assert ordinary not in planned
    assert "would be stored again" in planned
    assert command("policy", "classify", "--apply") == planned.replace(
        "would be stored again; --apply does", "stored again"
    )
    assert command("policy", "classify").startswith("0 ")


def test_the_policy_is_checked_by_command(tmp_path: Path) -> None:
    good = CliRunner().invoke(main, ["policy", "check", SHIPPED])
    assert (good.exit_code, "opt-in-per-encounter" in good.output) == (0, True)
    bad = tmp_path / "policy.toml"
    bad.write_text('version = "1"\nbasis = "whim"\n', encoding="utf-8")
    told = CliRunner().invoke(main, ["policy", "check", str(bad)])
    assert told.exit_code == 1
    assert "legal-duty" in told.output
    assert ago(days=1) < ago()
