"""The register in a gateway: who may write, what is marked, suspension and replay, $register."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from city import EVALUATED, POTASSIUM, SODIUM, City, day, outcomes, parts, said
from databases import Databases
from running import Running

from fhir_gateway.cli.evaluations_store import register_of, store
from fhir_gateway.errors import GatewayError
from fhir_gateway.interactions.evaluations import register_bodies
from fhir_gateway.interactions.institutions import issue_token
from fhir_gateway.recognition import register_read
from fhir_gateway.recognition.register import Entry, verification_result
from fhir_gateway.recognition.register_change import Chosen, expire, resume, suspend
from fhir_gateway.recognition.register_plan import Change
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.security.evaluating_body import EvaluatingBody, organization_of_body
from fhir_gateway.settings import CANONICAL

Json = dict[str, Any]
MARK = f"{CANONICAL}/StructureDefinition/recognition-mark"
BODIES = [
    EvaluatingBody(id="city-body", name="市质控中心", level="city", area="110000"),
    EvaluatingBody(id="district-body", name="区质控中心", level="district", area="110105"),
    EvaluatingBody(id="tcm-body", name="中医质控中心", level="city", area="110000", kind="tcm"),
]


def _open(url: str) -> Iterator[City]:
    one = Running(url)
    city = City(one)
    one.run(register_bodies(city.gateway, BODIES))
    yield city
    one.close()


@pytest.fixture
def town(database: Databases) -> Iterator[City]:
    """A city whose register a test changes."""
    yield from _open(database.url("gateway"))


@pytest.fixture(scope="module")
def whole(shared_database: Databases) -> Iterator[City]:
    """A city whose register stays as it is."""
    yield from _open(shared_database.url("register"))


def token(town: City, id: str) -> dict[str, str]:
    return {"authorization": f"Bearer {town.running.run(issue_token(town.gateway, id))}"}


def evaluation(id: str = "round-x", **changes: Any) -> Json:
    fields: dict[str, Any] = {
        "institution": "receiver", "item": POTASSIUM, "kind": "lab", "area": "110000",
        "start": "2020-01-01", "end": "2099-12-31", "passed": True, "evaluator": "市质控中心",
        "body": "city-body", "round": "1",
    }  # fmt: skip
    return verification_result(id, [Entry(**(fields | changes))])


def put(town: City, resource: Json, headers: dict[str, str]) -> tuple[int, str, str]:
    """Status, rule and expression of the answer to a PUT."""
    path = f"/fhir/{resource['resourceType']}/{resource['id']}"
    answer = town.running.put(path, resource, headers=headers)
    if answer.status_code < 300:
        return answer.status_code, "", ""
    issue = answer.json()["issue"][0]
    return answer.status_code, issue["details"]["text"], issue.get("expression", [""])[0]


def change(town: City, changed: Any, day: str, *items: str) -> None:
    """A suspension, resumption or expiry, as the operator's command makes it."""

    async def run() -> None:
        async with town.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            register = await register_of(reader)
        changes = changed(register, Chosen("sender", frozenset(items)), day, "室间质评复核")
        assert changes
        await store(town.gateway, changes)

    town.running.run(run())


# --- who may write ----------------------------------------------------------------------------


def test_an_institution_asserts_of_itself_and_passes_nobody(town: City) -> None:
    asserted = evaluation("round-own", institution="sender", body="") | {"status": "attested"}
    assert put(town, evaluation(institution="sender"), town.sender)[:2] == (403, "governed")
    assert put(town, asserted, town.sender)[0] == 201
    assert put(town, asserted | {"statusDate": "2020-01-02"}, town.sender)[0] == 200
    assert put(town, asserted | {"status": "validated"}, town.sender)[:2] == (403, "governed")
    other = asserted | {"id": "round-other", "target": [{"reference": "Organization/receiver"}]}
    assert put(town, other, town.sender) == (403, "owner", "VerificationResult.target")
    patched = town.running.request(
        "PATCH",
        "/fhir/VerificationResult/round-own",
        content=b'[{"op":"replace","path":"/status","value":"validated"}]',
        headers={**town.sender, "content-type": "application/json-patch+json"},
    )
    assert patched.status_code == 403
    rows = parts(register(town, f"institution=sender&item={POTASSIUM}"), "recognised")
    assert [said(row, "body") for row in rows] == ["市临检中心"]


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_no_transaction_goes_round_it(whole: City, method: str) -> None:
    entry: Json = {"request": {"method": method, "url": "VerificationResult/round-sender"}}
    if method != "DELETE":
        entry["resource"] = evaluation("round-sender", institution="sender")
    if method == "POST":
        entry["request"] = {"method": "POST", "url": "VerificationResult"}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    answer = whole.running.post("/fhir", bundle, headers=whole.sender)
    assert answer.status_code == 403
    batch = whole.running.post("/fhir", bundle | {"type": "batch"}, headers=whole.sender).json()
    assert batch["entry"][0]["response"]["status"].startswith("403")


def test_neither_conditions_nor_meta_nor_a_deletion_go_round_it(whole: City) -> None:
    conditional = evaluation(institution="sender")
    del conditional["id"]
    path = "/fhir/VerificationResult?_id=round-sender"
    assert whole.running.put(path, conditional, headers=whole.sender).status_code == 403
    gone = whole.running.delete("/fhir/VerificationResult/round-sender", headers=whole.sender)
    assert gone.status_code == 403
    meta = {
        "resourceType": "Parameters",
        "parameter": [{"name": "meta", "valueMeta": {"tag": [{"code": "x"}]}}],
    }
    added = whole.running.post(
        "/fhir/VerificationResult/round-sender/$meta-add", meta, headers=whole.sender
    )
    assert added.status_code == 403


def test_what_was_asserted_and_then_judged_is_not_the_institutions_any_more(town: City) -> None:
    asserted = evaluation("round-own", institution="sender", body="") | {"status": "attested"}
    assert put(town, asserted, town.sender)[0] == 201
    failed = evaluation("round-own", institution="sender", passed=False, round="2")
    town.running.run(store(town.gateway, [Change("round-own", 1, failed)]))
    assert put(town, asserted, town.sender)[:2] == (403, "governed")
    gone = town.running.delete("/fhir/VerificationResult/round-own", headers=town.sender)
    assert gone.status_code == 403


def test_a_body_judges_others_in_its_own_name_for_its_area_and_nothing_else(town: City) -> None:
    body, tcm = token(town, "city-body"), token(town, "tcm-body")
    assert put(town, evaluation(), body)[0] == 201
    assert put(town, evaluation(), tcm)[0] == 403
    assert put(town, evaluation("round-y"), tcm) == (403, "owner", "VerificationResult.validator")
    own = evaluation("round-z", institution="city-body")
    assert put(town, own, body) == (403, "owner", "VerificationResult.target")
    wide = put(town, evaluation("round-w", area="CN"), body)
    assert wide == (422, "evaluation-area", "VerificationResult.extension[1].valueCoding.code")
    patient = {"resourceType": "Patient", "id": "p-1"}
    assert put(town, patient, body)[:2] == (403, "rights")
    stranger = town.patient()
    assert town.running.get(f"/fhir/Patient/{stranger}", headers=body).status_code == 403


def test_a_district_centre_that_claims_the_nation_or_the_city_is_refused(town: City) -> None:
    body = token(town, "district-body")
    by = {"body": "district-body", "evaluator": "区质控中心"}
    assert put(town, evaluation("d-1", area="CN", **by), body)[:2] == (422, "evaluation-area")
    assert put(town, evaluation("d-2", **by), body)[:2] == (422, "evaluation-area")
    assert put(town, evaluation("d-3", city_wide=True, **by), body)[0] == 201
    assert put(town, evaluation("d-4", area="110105", **by), body)[0] == 201
    nowhere = put(town, evaluation("d-5", area="nowhere", **by), body)
    assert nowhere[:2] == (422, "evaluation-area")


def test_a_body_that_is_not_active_or_not_registered_judges_nobody(town: City) -> None:
    body = token(town, "city-body")
    gone = EvaluatingBody(
        id="city-body", name="市质控中心", level="city", area="110000", active=False
    )
    town.running.run(register_bodies(town.gateway, [gone]))
    town.gateway.tokens.clear()
    answer = town.running.put("/fhir/VerificationResult/round-x", evaluation(), headers=body)
    assert answer.status_code == 401
    with pytest.raises(GatewayError) as caught:
        unknown = evaluation("round-u", body="nobody")
        town.running.run(store(town.gateway, [Change("round-u", 0, unknown)]))
    assert caught.value.issues[0].rule == "evaluating-body"


def test_an_institution_cannot_make_itself_a_body(whole: City) -> None:
    body = organization_of_body(BODIES[0]) | {"id": "mine"}
    assert put(whole, body, whole.sender)[:2] == (403, "governed")
    assert put(whole, body | {"id": "city-body"}, whole.sender)[0] == 403


# --- marks ------------------------------------------------------------------------------------


def asked(town: City, patient: str, item: str = POTASSIUM) -> tuple[str, str]:
    ((outcome, reason),) = outcomes(town.recognize(patient, item))
    return outcome, reason


def test_a_printed_mark_without_evaluation_is_tagged_counted_told_and_unmarked(whole: City) -> None:
    mark = [{"url": MARK, "valueString": "北京市HR"}]
    patient = whole.patient()
    whole.result(patient, "L003", extension=mark)
    whole.result(patient, POTASSIUM, extension=mark)
    tag = f"{CANONICAL}/CodeSystem/data-quality|printed-mark-unregistered"
    found = whole.search(f"Observation?patient=Patient/{patient}&_tag={tag}")
    assert [one["code"]["coding"][0]["code"] for one in found] == ["L003"]
    answer = whole.recognize(patient, "L003", POTASSIUM)
    assert outcomes(answer) == [("view-only", "not-evaluated"), ("recognize", "usable")]
    lines = [
        {said(line, "rule"): said(line, "reason") for line in parts(item, "line")}
        for item in parts(answer, "item")
    ]
    assert lines[0]["printed-mark@2"] == "mark-without-evaluation"
    assert lines[1]["printed-mark@2"] is None


def test_a_mark_that_says_more_than_the_register_is_tagged(whole: City) -> None:
    patient = whole.patient()
    whole.result(patient, extension=[{"url": MARK, "valueString": "全国HR"}])
    (found,) = whole.search(f"Observation?patient=Patient/{patient}")
    assert [tag["code"] for tag in found["meta"]["tag"]] == ["printed-mark-unregistered"]
    assert asked(whole, patient) == ("recognize", "usable")


def test_the_register_marks_what_nobody_printed(whole: City) -> None:
    patient = whole.patient()
    whole.result(patient)
    (item,) = parts(whole.recognize(patient, POTASSIUM), "item")
    lines = {said(line, "rule"): line for line in parts(item, "line")}
    assert said(item, "outcome") == "recognize"
    assert said(lines["printed-mark@2"], "verdict") == "not-applicable"
    assert said(lines["quality-evaluation@2"], "verdict") == "pass"


# --- suspension and replay --------------------------------------------------------------------


def test_a_suspension_ends_the_mark_and_earlier_decisions_replay(town: City) -> None:
    patient = town.patient()
    town.result(patient, ago=3)
    before = town.recognize(patient, POTASSIUM)
    assert outcomes(before) == [("recognize", "usable")]
    change(town, suspend, day(2)[:10], POTASSIUM)
    assert asked(town, patient) == ("recognize", "usable")  # of a day before the suspension
    town.result(patient, ago=2, value="4.95")  # another value than the marked one of before
    suspended = town.recognize(patient, POTASSIUM)
    (item,) = parts(suspended, "item")
    lines = {said(line, "rule"): said(line, "reason") for line in parts(item, "line")}
    assert said(item, "outcome") == "view-only"
    change(town, resume, day(1)[:10], POTASSIUM)
    town.result(patient, ago=1)
    assert asked(town, patient) == ("recognize", "usable")
    change(town, expire, day(3)[:10], POTASSIUM)
    assert asked(town, patient) == ("view-only", "evaluation-not-in-period")
    for answer in (before, suspended):
        decision = said(answer, "decision")["reference"]
        replayed = town.operate(f"{decision}/$replay").json()
        assert said(replayed, "agrees") is True
    assert lines


# --- reading ----------------------------------------------------------------------------------


def register(town: City, query: str = "") -> Json:
    answer = town.running.get(f"/fhir/VerificationResult/$register?{query}", headers=town.receiver)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def pairs(answer: Json) -> list[tuple[str, str, str]]:
    return [
        (
            said(one, "institution")["reference"].partition("/")[2],
            said(one, "item")["code"],
            said(one, "area")["code"],
        )
        for one in parts(answer, "recognised")
    ]


def test_the_register_is_read_by_day_area_item_and_institution(whole: City) -> None:
    everything = [("sender", item, "110000") for item in sorted(EVALUATED)]
    assert pairs(register(whole)) == everything
    assert pairs(register(whole, "area=110105")) == everything
    assert pairs(register(whole, "area=120101")) == []
    assert pairs(register(whole, f"item={SODIUM}")) == [("sender", SODIUM, "110000")]
    assert pairs(register(whole, "institution=receiver")) == []
    assert pairs(register(whole, "on=2019-12-31")) == []
    assert pairs(register(whole, "on=2020-01-01")) == everything
    assert pairs(register(whole, "on=2099-12-31")) == everything
    assert pairs(register(whole, "on=2100-01-01")) == []


def test_a_suspended_item_is_not_recognised_on_those_days(town: City) -> None:
    change(town, suspend, "2026-03-01", POTASSIUM)
    change(town, resume, "2026-05-01", POTASSIUM)
    for on, held in (("2026-02-28", 1), ("2026-03-01", 0), ("2026-04-30", 0), ("2026-05-01", 1)):
        assert len(pairs(register(town, f"item={POTASSIUM}&on={on}"))) == held, on


def test_pages_show_one_register_whatever_is_stored_meanwhile(town: City) -> None:
    first = register(town, "count=2")
    change(town, suspend, "2020-01-01")
    found, answer = pairs(first), first
    while (address := said(answer, "next")) is not None:
        answer = town.running.get(address, headers=town.receiver).json()
        found += pairs(answer)
    assert found == [("sender", item, "110000") for item in sorted(EVALUATED)]
    assert pairs(register(town)) == []


def test_a_page_ends_where_it_has_looked_at_enough_institutions(
    whole: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = pairs(register(whole))
    whole.running.institution("third")
    monkeypatch.setattr(register_read, "_MOST_INSTITUTIONS", 2)
    first = register(whole)
    second = whole.running.get(said(first, "next"), headers=whole.receiver).json()
    assert [pairs(first), pairs(second)] == [everything, []]
    assert said(second, "next") is None


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ("area=nowhere", "register-area"),
        ("item=L999", "register-item"),
        ("on=2026", "register-day"),
        ("on=x", "parameter-type"),
        ("count=0", "register-count"),
        ("after=abc", "cursor"),
        ("where=x", "unknown-parameter"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(whole: City, query: str, rule: str) -> None:
    answer = whole.running.get(
        f"/fhir/VerificationResult/$register?{query}", headers=whole.receiver
    )
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["details"]["text"] == rule


def test_a_cursor_is_of_its_question_alone(whole: City) -> None:
    address = said(register(whole, "count=1"), "next")
    other = address.replace("count=1", "count=2")
    assert whole.running.get(other, headers=whole.receiver).status_code == 400
    assert whole.running.get(address, headers=whole.sender).status_code == 400
