"""An order that has to be carried out is answered with the earliest slots in reach, on its card."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from booking_world import CT, World
from databases import Databases
from running import Running

from fhir_gateway.cds_hooks import slots
from fhir_gateway.recognition.vocabulary import catalogue_of
from fhir_gateway.store import slot_near_sql
from fhir_gateway.terminology.catalogue import IMAGING_SYSTEM

Json = dict[str, Any]
UUID = "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea"
PAGE = "https://book.example/start"
CLIENTS = '[[client]]\ninstitution = "clinic"\nproposes = true\n'


@pytest.fixture(scope="module")
def world(shared_database: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    clients = tmp_path_factory.mktemp("clients") / "clients.toml"
    clients.write_text(CLIENTS, encoding="utf-8")
    one = Running(shared_database.url("cards"), booking_page=PAGE, cds_clients=str(clients),
                  hook_deadline_ms=20_000, hook_slots_ms=20_000, area="110000")  # fmt: skip
    yield World(one)
    one.close()


def hook(world: World, who: Json, patient: str, item: str = CT, **more: Any) -> list[Json]:
    """The cards of an order-sign for one examination."""
    order = {
        "resourceType": "ServiceRequest", "id": "draft-1", "status": "draft", "intent": "order",
        "subject": {"reference": f"Patient/{patient}"},
        "code": {"coding": [{"system": IMAGING_SYSTEM, "code": item}], "text": "CT"}, **more,
    }  # fmt: skip
    body = {
        "hook": "order-sign", "hookInstance": UUID,
        "context": {
            "userId": "Practitioner/example", "patientId": patient,
            "draftOrders": {"resourceType": "Bundle", "entry": [{"resource": order}]},
        },
        "prefetch": {
            "encounter": {"resourceType": "Encounter", "status": "in-progress",
                          "class": {"code": "AMB"}},
            "conditions": None, "requests": None, "procedures": None,
        },
    }  # fmt: skip
    answer = world.running.request(
        "POST", "/cds-services/recognition-order-sign", content=json.dumps(body).encode(),
        headers={"content-type": "application/json", **who},
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    cards: list[Json] = answer.json()["cards"]
    return cards


def offered(card: Json) -> Json:
    found: Json = card["extension"][slots.EXTENSION]
    return found


def test_an_order_without_a_result_is_told_where_it_can_be_done(world: World) -> None:
    late = world.slots(5, hours=300)
    soon = world.slots(1, hours=200, capacity=2)
    patient = world.patient()
    (card,) = hook(world, world.clinic, patient)
    assert card["indicator"] == "info" and "uuid" not in card
    assert card["summary"].startswith("可预约：") and len(card["summary"]) < 140
    assert [one["slot"] for one in offered(card)["slots"]] == [
        f"Slot/{id}" for id in (*soon, *late[:2])
    ]
    assert "余 2" in card["detail"] and "尚未占用" in card["detail"]
    (suggestion,) = card["suggestions"]
    assert suggestion["actions"][0]["resource"]["status"] == "proposed"
    (other,) = hook(world, world.other, patient)
    assert "suggestions" not in other  # nothing was agreed with it
    parameters = offered(card)["parameters"]
    found = world.running.post("/fhir/Appointment/$find", parameters, headers=world.clinic)
    assert found.status_code == 200 and found.json()["total"] == 6


def test_the_link_holds_no_patient_and_opens_for_who_asked_alone(world: World) -> None:
    world.slots(1, hours=100)
    patient = world.patient()
    (card,) = hook(world, world.clinic, patient)
    (link,) = card["links"]
    assert link["type"] == "absolute" and link["url"].startswith(f"{PAGE}?booking=")
    assert patient not in link["url"] and CT not in link["url"]
    sealed = parse_qs(urlsplit(link["url"]).query)["booking"][0]
    path = f"/cds-services/booking/{sealed}"
    opened = world.running.get(path, headers=world.clinic)
    assert opened.status_code == 200
    names = [one["name"] for one in opened.json()["parameter"]]
    assert names == ["start", "end", "service", "patient-reference"]
    again = world.running.post("/fhir/Appointment/$find", opened.json(), headers=world.clinic)
    assert again.status_code == 200
    assert world.running.get(path, headers=world.other).status_code == 404
    assert world.running.get(path).status_code == 401
    for broken in (sealed[:-2] + "AA", sealed[:10], "x", "%00"):
        wrong = world.running.get(f"/cds-services/booking/{broken}", headers=world.clinic)
        assert wrong.status_code == 404, broken
    assert world.running.post(path, {}, headers=world.clinic).status_code == 405


def test_the_own_institution_comes_first_and_held_seats_never(world: World) -> None:
    world.slots(3, hours=50, item="I020")
    own = world.slots(1, hours=400, item="I020", hospital="clinic")
    (card,) = hook(world, world.clinic, world.patient(), "I020")
    told = offered(card)["slots"]
    assert told[0]["slot"] == f"Slot/{own[0]}" and len(told) == 3
    first = told[1]["slot"]
    held = world.hold(first.partition("/")[2], world.patient())
    assert held.status_code == 200, held.text
    (card,) = hook(world, world.clinic, world.patient(), "I020")
    assert first not in [one["slot"] for one in offered(card)["slots"]]


def test_an_emergency_an_item_that_nobody_sells_and_no_order_get_nothing(world: World) -> None:
    world.slots(1, hours=60)
    assert hook(world, world.clinic, world.patient(), priority="stat") == []
    assert hook(world, world.clinic, world.patient(), "I050") == []


def test_what_goes_wrong_and_what_takes_too_long_holds_up_no_order(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slots have milliseconds of their own: the card goes out without them, and says so."""
    world.slots(1, hours=70)
    patient = world.patient()
    answered: list[float] = []

    async def broken(*arguments: Any) -> Any:
        raise RuntimeError("a fault")

    async def endless(*arguments: Any) -> Any:
        answered.append(asyncio.get_running_loop().time())
        try:
            await asyncio.sleep(3_600)
        finally:
            answered.append(asyncio.get_running_loop().time())

    monkeypatch.setattr(slots, "nearest", broken)
    assert hook(world, world.clinic, patient) == []  # no card: nothing false is said
    monkeypatch.setattr(slots, "nearest", endless)
    object.__setattr__(world.gateway.settings, "hook_slots_ms", 40)  # settings are frozen
    try:
        assert hook(world, world.clinic, patient) == []
    finally:
        object.__setattr__(world.gateway.settings, "hook_slots_ms", 20_000)
    began, ended = answered
    assert ended - began < 10.0  # of the 20 seconds that the call has
    assert slots._untold({"detail": "x"})["detail"].endswith("本次未查询可预约时段。")


def test_slots_are_found_behind_thousands_that_are_not_the_callers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window of the one statement ends before them: then the search itself is asked."""
    monkeypatch.setattr(slot_near_sql, "MOST", 2)
    world.slots(6, hours=80, item="I021", quotas={"grassroots-referral": 6})
    later = world.slots(2, hours=500, item="I021")
    (card,) = hook(world, world.other, world.patient(world.other), "I021")
    assert [one["slot"] for one in offered(card)["slots"]] == [f"Slot/{id}" for id in later]


def test_the_page_of_a_smart_app_gets_the_reference_in_its_context(
    shared_database: Databases, tmp_path: Path
) -> None:
    one = Running(shared_database.url("smart"), booking_page=PAGE, booking_page_smart=True,
                  hook_deadline_ms=20_000, hook_slots_ms=20_000)  # fmt: skip
    try:
        world = World(one)
        world.slots(1)
        (card,) = hook(world, world.clinic, world.patient())
        (link,) = card["links"]
        assert link["type"] == "smart" and link["url"] == PAGE
        assert json.loads(link["appContext"])["booking"]
    finally:
        one.close()


def test_slots_for_another_sex_or_age_are_not_offered(world: World) -> None:
    """Those of the right kind that come later are: a doctor cannot book the others."""
    item = "I041"
    women = {"url": "sex", "valueCode": "female"}
    old = {"url": "minAge", "valueUnsignedInt": 70}
    world.slots(5, hours=100, item=item, requires=[women])
    world.slots(3, hours=110, item=item, requires=[old])
    right = world.slots(2, hours=120, item=item, requires=[{**women, "valueCode": "male"}])
    (card,) = hook(world, world.clinic, world.patient(gender="male"), item)
    assert [one["slot"] for one in offered(card)["slots"]] == [f"Slot/{one}" for one in right]


def test_recognize_tells_slots_to_who_asks_for_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same as on the card, beside the recorded answer; and it says what it does not know."""
    from fhir_gateway.rest import recognize_slots

    late = world.slots(2, hours=330, item="I040")
    early = world.slots(1, hours=320, item="I040", capacity=2)
    patient = world.patient()

    def ask(*more: Json, items: tuple[str, ...] = ("I040",)) -> Any:
        members = [
            {"name": "patient", "valueReference": {"reference": f"Patient/{patient}"}},
            *({"name": "item", "valueCode": one} for one in items), *more,
        ]  # fmt: skip
        body = {"resourceType": "Parameters", "parameter": members}
        path = "/fhir/ServiceRequest/$recognize"
        return world.running.post(path, body, headers=world.clinic)

    def parts(answer: Any, name: str) -> list[Json]:
        assert answer.status_code == 200, answer.text
        return [one for one in answer.json()["parameter"] if one["name"] == name]

    wanted = {"name": "slots", "valueBoolean": True}
    assert parts(ask(), "bookable") == []
    told = ask(wanted, items=("I040", "I050"))
    seats = [{part["name"]: next(value for name, value in part.items() if name != "name")
              for part in one["part"]} for one in parts(told, "bookable")]  # fmt: skip
    assert [one["slot"]["reference"] for one in seats] == [f"Slot/{id}" for id in (*early, *late)]
    assert (seats[0]["key"], seats[0]["free"], seats[0]["channel"]) == ("I040", 2, "ordinary")
    assert parts(told, "slots-not-looked-up") == [] and parts(told, "decision")
    held = world.hold(early[0], patient)
    assert held.status_code == 200
    assert parts(ask(wanted, {"name": "context", "valueCode": "emergency"}), "bookable") == []
    past = {"name": "asOf", "valueDateTime": "2026-01-01"}
    for refused in (ask(wanted, past), ask({"name": "slot", "valueBoolean": True})):
        assert refused.status_code == 400, refused.text

    async def broken(*arguments: Any) -> Any:
        raise RuntimeError("a fault")

    monkeypatch.setattr(recognize_slots, "nearest", broken)
    unknown = ask(wanted)
    assert parts(unknown, "bookable") == [] and parts(unknown, "decision")
    assert parts(unknown, "slots-not-looked-up") == [
        {"name": "slots-not-looked-up", "valueString": "I040"}
    ]


def test_a_slot_for_one_of_several_ordered_items_says_for_which(world: World) -> None:
    world.slots(1, hours=130, item="I042")
    detail = [{"coding": [{"system": IMAGING_SYSTEM, "code": "I043"}]}]
    (card,) = hook(world, world.clinic, world.patient(), "I042", orderDetail=detail)
    name = catalogue_of(world.gateway).items["I042"].name_zh
    assert f"余 1，仅含{name}" in card["detail"], card["detail"]
    (card,) = hook(world, world.clinic, world.patient(), "I042")
    assert "仅含" not in card["detail"]
