"""The stored decision: what it says of itself, how large it is, and by what it is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from city import POTASSIUM, SODIUM, City, day, parts, said
from databases import Databases
from running import Running
from test_recognition_flow_ask import RECEIVER, question

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.validate import issues
from fhir_gateway.fhir.wire import parse
from fhir_gateway.recognition.ask import ask
from fhir_gateway.recognition.record import Occasion
from fhir_gateway.recognition.record_needs import NEEDS
from fhir_gateway.settings import CANONICAL

#: What "stored" means: the bytes of the journal's row of the decision, as they lie on the disk.
#: Its AuditEvent, the kept call and the rows of the index are rows of their own.
MOST_BYTES = 2_000


def recorded(city: City, id: str) -> Any:
    answer = city.running.get(f"/fhir/GuidanceResponse/{id}", headers=city.receiver)
    assert answer.status_code == 200, answer.text
    return answer.json()


def asked(city: City, patient: str, *items: str, **changes: Any) -> str:
    return str(
        city.running.run(ask(city.gateway, RECEIVER, question(patient, *items, **changes))).id
    )


def test_a_stored_decision_takes_at_most_2_kb(
    start: Callable[..., Running], database: Databases
) -> None:
    """Five items with two results each, asked by a hook: a usual call, and everything it names."""
    city = City(start())
    items = ("L001", "L002", "L003", "L016", "L060")
    city.evaluate("sender", items)
    patient = city.patient()
    for item in items:
        for ago in (1, 5):
            city.result(patient, item, ago=ago)
    occasion = Occasion("order-sign", "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea", "Practitioner/a")
    id = asked(city, patient, *items, occasion=occasion, kept=b'{"hook":"order-sign"}')
    resource = recorded(city, id)
    assert len(parts(resource["contained"][0], "item")) == 5
    ((size,),) = database.rows(
        "SELECT length(body) + length(id) + length(patient) + 11 * 8 FROM journal"
        f" WHERE id = '{id}'",
        "gateway",
    )
    assert size <= MOST_BYTES, f"{size} bytes"


def test_what_was_missing_is_named_by_resource_and_element(city: City) -> None:
    patient = city.patient()
    city.result(patient, specimen=...)
    resource = recorded(city, asked(city, patient, POTASSIUM, SODIUM))
    assert issues(resource) == []
    assert resource["status"] == "data-required"
    assert resource["dataRequirement"] == [{"type": "Specimen", "mustSupport": ["type"]}]
    nobody = recorded(city, asked(city, "nobody-here", POTASSIUM))
    assert nobody["dataRequirement"] == [{"type": "Patient", "mustSupport": ["identifier"]}]
    decided = recorded(city, asked(city, patient, SODIUM))
    assert (decided["status"], decided.get("dataRequirement")) == ("success", None)


def test_every_need_names_an_element_of_its_type() -> None:
    for type, *elements in NEEDS.values():
        for path in elements:
            owner = type
            for name in path.split("."):
                owner = definitions().types[owner].elements[name].types[0]


def test_the_draft_orders_of_an_operation_are_kept_by_hash(city: City) -> None:
    from city import order

    patient = city.patient()
    draft = order(patient)
    answer = city.operate(
        "ServiceRequest/$recognize",
        [
            {"name": "patient", "valueReference": {"reference": f"Patient/{patient}"}},
            {"name": "order", "resource": draft},
        ],
    ).json()
    id = said(answer, "decision")["reference"].partition("/")[2]
    digest = said(recorded(city, id)["contained"][0], "received").removeprefix("urn:sha256:")

    async def kept() -> Any:
        async with city.gateway.store.snapshot(RECEIVER.access) as reader:
            return await reader.received(bytes.fromhex(digest))

    media, body = city.running.run(kept())
    assert (media, parse(body)) == ("application/json", {"order": [draft]})


def decisions(city: City, query: str) -> list[str]:
    """The ids of the decisions that a search finds."""
    found = city.search(f"GuidanceResponse?{query}")
    return [one["id"] for one in found if one["resourceType"] == "GuidanceResponse"]


# -- search ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(city: City) -> tuple[City, str, str, str]:
    """The city, a patient, and two decisions: in a visit, of potassium; without, of two items."""
    patient = city.patient()
    city.result(patient)
    first = asked(city, patient, POTASSIUM, encounter="https://ehr.example.org/fhir/Encounter/7")
    second = asked(city, patient, POTASSIUM, SODIUM)
    return city, patient, first, second


@pytest.mark.parametrize(
    ("query", "of_first", "of_second"),
    [
        ("item=L001", True, True),
        ("item=L002", False, True),
        ("item=L003", False, False),
        ("outcome=recognize", True, True),
        ("outcome=not-recognizable", False, True),
        ("outcome=cannot-decide", False, False),
        (f"module={CANONICAL}/PlanDefinition/recognition", True, True),
        (f"module={CANONICAL}/PlanDefinition/recognition|1.0.0", True, True),
        (f"module={CANONICAL}/PlanDefinition/recognition|9", False, False),
        ("encounter=https://ehr.example.org/fhir/Encounter/7", True, False),
        (f"date=ge{day(1)[:10]}", True, True),
        (f"date=lt{day(1)[:10]}", False, False),
        ("item=L002&outcome=not-recognizable&_sort=-date", False, True),
    ],
)
def test_decisions_are_found_by_what_they_say(
    found: tuple[City, str, str, str], query: str, of_first: bool, of_second: bool
) -> None:
    city, patient, first, second = found
    ids = decisions(city, f"patient={patient}&{query}")
    assert sorted(ids) == sorted([first] * of_first + [second] * of_second)
    across = decisions(city, query)  # the store is small
    assert {first, second} & set(across) == set(ids)


def test_the_parameters_are_those_that_are_served(city: City) -> None:
    served = {
        one["code"]: one
        for one in city.search("SearchParameter?_count=100")
        if one["base"] == ["GuidanceResponse"]
    }
    own = {
        code: one
        for code, one in definitions().search_parameters["GuidanceResponse"].items()
        if one.url.startswith(CANONICAL)
    }
    assert served.keys() == own.keys()
    for code, one in own.items():
        definition = served[code]
        assert definition["url"] == one.url
        assert definition["expression"] == one.expression
        assert definition["type"] == one.type
        assert tuple(definition.get("target", ())) == one.targets
