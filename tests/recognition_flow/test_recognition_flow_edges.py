"""What is rare between question and answer: said twice, seen in part, read of lists long gone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from city import DOCUMENT, POTASSIUM, SODIUM, City, Json, day, id_number, order, outcomes, said
from test_recognition_flow_ask import RECEIVER, question
from test_recognition_flow_links import answer as review
from test_recognition_flow_links import propose
from test_recognition_flow_relied import alerts, change, decided

from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.wire import parse
from fhir_gateway.recognition.answer import Kept, Reply, answered_lines, record_answers
from fhir_gateway.recognition.answer_figures import Figures, figures
from fhir_gateway.recognition.ask import ask
from fhir_gateway.recognition.lists import View, Views, view_then
from fhir_gateway.recognition.rules import load_rule_set
from fhir_gateway.recognition.vocabulary import catalogue_of
from fhir_gateway.security.actor import SYSTEM_ACCESS, Access, Actor
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.blobs import pack
from fhir_gateway.store.changes import ChangeSet, Entry
from fhir_gateway.terminology.catalogue import LAB_SYSTEM
from fhir_gateway.terminology.edition import Edition, edition_resources

pytestmark = pytest.mark.drivers("sqlite")

RULES = Path(__file__).parents[2] / "profiles/PlanDefinition/recognition-1.0.0.json"


def reply(decision: str, outcome: Any, **more: Any) -> Reply:
    return Reply("Parameters", decision.partition("/")[2], None, outcome, **more)


def record(city: City, *replies: Reply) -> list[Kept]:
    work = record_answers(city.gateway, RECEIVER, replies, operation="$answer")
    kept: list[Kept] = city.running.run(work)
    return kept


# -- answers ---------------------------------------------------------------------------------------


def test_of_two_answers_to_a_line_in_one_request_the_last_is_stored(city: City) -> None:
    _, _, decision = decided(city)
    first, last = record(city, reply(decision, "accepted"), reply(decision, "repeated"))
    assert (first.answer.state, last.answer.state) == ("accepted", "repeated")
    assert first.answer.id == last.answer.id
    stored = city.running.get(f"/fhir/Task/{last.answer.id}", headers=city.receiver).json()
    assert stored["meta"]["versionId"] == "1"
    assert stored["businessStatus"]["coding"][0]["code"] == "repeated"


def test_a_change_that_means_nothing_is_no_alert_to_a_later_answer(city: City) -> None:
    patient, observation, decision = decided(city)
    assert change(city, observation, note=[{"text": "标本已保存"}]) == 2
    (kept,) = record(city, reply(decision, "accepted"))
    assert kept.answer.results == (f"{observation}/_history/1",)
    assert kept.alert is None
    assert alerts(city, patient) == []


def test_a_document_names_the_institutions_among_the_performers(city: City) -> None:
    patient = city.patient()
    performers = [{"reference": "Organization/sender"}, {"display": "检验科"}]
    city.result(patient, performer=performers)
    decision = said(city.recognize(patient, POTASSIUM), "decision")["reference"]
    (kept,) = record(city, reply(decision, "accepted"))
    held = [one["resource"] for one in parse(kept.document)["entry"]]
    assert held[0]["custodian"] == {"reference": "Organization/sender"}
    names = {one["id"] for one in held if one["resourceType"] == "Organization"}
    assert names == {"sender", "receiver"}


def test_of_two_answers_about_an_item_the_newest_counts(city: City) -> None:
    patient, _, first = decided(city)
    second = said(city.recognize(patient, POTASSIUM), "decision")["reference"]

    async def lately() -> tuple[str, str, int]:
        async with city.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            person = await reader.person(patient)
            assert person is not None
            (line,) = (await answered_lines(reader, person.homes, [POTASSIUM], 0)).values()
        return line.decision, line.state, line.at

    # whichever of them is read first: the older comes last to the store, then the other way round
    for decision, outcome, ago, newest in (
        (first, "accepted", 3, first),
        (second, "accepted", 4, first),
        (second, "repeated", 2, second),
        (first, "repeated", 1, first),
    ):
        (kept,) = record(city, reply(decision, outcome, answered=day(ago)))
        assert kept.changed
        found, _, at = city.running.run(lately())
        assert found == newest.partition("/")[2]
        assert at >= date_range(day(ago))[0]


def test_a_journalled_response_that_is_no_decision_reminds_nobody(city: City) -> None:
    decided(city)

    def counted() -> dict[str, Figures]:
        found: dict[str, Figures] = city.running.run(figures(city.gateway, start=0, end=1 << 62))
        return found

    before = counted()
    assert before["receiver"].reminded > 0
    tail = b'},"moduleUri":"urn:other","status":"success"}'
    entry = Entry("GuidanceResponse", "unlike-ours", 0, *pack(tail))
    work = city.gateway.store.commit(ChangeSet(id=city.gateway.random(16), journal=[entry]))
    city.running.run(work)
    read = city.running.get("/fhir/GuidanceResponse/unlike-ours", headers=city.receiver)
    assert read.json()["moduleUri"] == "urn:other"
    assert counted() == before


# -- questions -------------------------------------------------------------------------------------


def test_a_record_that_is_hidden_counts_where_its_result_is_seen(city: City) -> None:
    """The Patient of the other home is the receiver's own; a result in it is the sender's."""
    one = city.patient()
    answer = city.running.post(
        "/fhir/Patient",
        {
            "resourceType": "Patient",
            "name": [{"text": "测试乙"}],
            "identifier": [{"system": DOCUMENT, "value": id_number(990)}],
        },
        headers=city.receiver,
    )
    assert answer.status_code == 201, answer.text
    other = answer.headers["location"].split("/")[-3]
    review(city, propose(city, one, other), "confirm")
    access = Access(owners=frozenset({key64("Organization/sender")}))
    actor = Actor("institution", "检验医院", "sender", access)

    def homes(*items: str) -> int:
        asked = question(one, *items, receiver="sender")
        return len(city.running.run(ask(city.gateway, actor, asked)).query.homes)

    assert homes(POTASSIUM) == 0
    city.result(other)
    assert homes(POTASSIUM) == 2
    assert homes(SODIUM) == 0


def test_somebody_whom_no_record_names_has_no_birth_and_no_result(city: City) -> None:
    nobody = {"name": "patient", "valueIdentifier": {"system": "urn:sender:patient", "value": "?"}}
    item = {"name": "item", "valueCode": POTASSIUM}
    done = city.operate("ServiceRequest/$recognize", [nobody, item])
    assert done.status_code == 200, done.text
    assert [one for one, _ in outcomes(done.json())] == ["cannot-decide"]


def test_a_part_that_no_map_knows_is_asked_about_beside_the_known(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    details = [
        {"coding": [{"system": "http://loinc.org", "code": "2823-3"}]},
        {"coding": [{"system": "urn:his", "code": "x-9", "display": "院内特殊项目"}]},
    ]
    specimen = {"contained": [{"resourceType": "Specimen", "id": "s", "type": {"text": "血清"}}],
                "specimen": [{"reference": "#s"}]}  # fmt: skip
    mixed: Json = {**order(patient, orderDetail=details, **specimen)}
    del mixed["code"]
    told = city.recognize(patient, parameters=[{"name": "order", "resource": mixed}])
    assert outcomes(told) == [("recognize", "usable"), ("cannot-decide", "order-not-mapped")]


def test_the_contrast_of_an_order_that_nobody_knows_says_nothing(city: City) -> None:
    patient = city.patient()
    unknown = order(patient, code={"text": "院内特殊部位CT增强"})
    told = city.recognize(patient, parameters=[{"name": "order", "resource": unknown}])
    assert outcomes(told) == [("cannot-decide", "order-not-mapped")]


# -- lists -----------------------------------------------------------------------------------------


def test_before_the_catalogue_that_is_served_its_former_edition_holds(city: City) -> None:
    served = catalogue_of(city.gateway)
    former = Edition(
        name=LAB_SYSTEM.rpartition("/")[2], kind="lab", edition="2019", effective="2019-01-01",
        title="旧目录", publisher="某省", description="An edition of a test.",
        items={POTASSIUM: replace(served.items[POTASSIUM], validity_days=3)},
    )  # fmt: skip
    city.put(edition_resources(former, served)[0])
    rules = load_rule_set(parse(RULES.read_bytes().replace(b"{CANONICAL}", CANONICAL.encode())))
    views = Views()

    def on(moment: str) -> View:
        async def read() -> View | None:
            async with city.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                now = date_range(moment)[0]
                return await views.view(city.gateway, reader, rules, now)

        found: View | None = city.running.run(read())
        assert found is not None
        return found

    assert on(served.effective).catalogue is served
    then = on("2019-06-01").catalogue
    assert (then.edition, then.items[POTASSIUM].validity_days) == ("2019", 3)
    assert SODIUM not in then.items
    assert on("2019-06-02").catalogue.edition == "2019"
    # there was none before it: the catalogue was served without days once
    assert on("2018-12-31").catalogue is served


def test_a_code_system_that_is_no_list_adds_nothing_to_what_was_seen(city: City) -> None:
    city.put({
        "resourceType": "CodeSystem", "id": "words", "url": "urn:other:words", "status": "active",
        "content": "complete", "concept": [{"code": "a"}],
    })  # fmt: skip
    served = catalogue_of(city.gateway)

    async def read() -> Any:
        async with city.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            lists = ["CodeSystem/words/_history/1"]
            return await view_then(city.gateway, reader, served.edition, lists)

    assert city.running.run(read()).items == served.items
