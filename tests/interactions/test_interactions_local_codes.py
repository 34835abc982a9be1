"""Maps of local codes by API: who may store which, what is refused, and that they count at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, NamedTuple

import httpx
import pytest
from databases import Databases
from running import BASE, Running

from fhir_gateway.app import Application, build
from fhir_gateway.interactions.institutions import issue_token, register
from fhir_gateway.security.institution import Institution
from fhir_gateway.settings import CANONICAL, Settings
from fhir_gateway.terminology.catalogue import IMAGING_SYSTEM, LAB_SYSTEM
from fhir_gateway.terminology.local_map_resource import PERIOD_URL, PROPERTY, contexts
from fhir_gateway.terminology.mapped_by import mapped_by

Start = Callable[..., Running]
OWN = "urn:hospital:lab"
NUMBERS = count(1)


class Hospital(NamedTuple):
    """An institution of its own for a test, on a gateway that they share."""

    server: Running
    id: str
    headers: dict[str, str]

    def send(self, resource: dict[str, Any]) -> dict[str, Any]:
        answer = self.server.post(
            f"/fhir/{resource['resourceType']}", resource, headers=self.headers
        )
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def put(self, resource: dict[str, Any]) -> httpx.Response:
        """Stores a map, under an id and an address that are this institution's."""
        named = {"id": f"{self.id}-{resource['id']}", "url": f"{resource['url']}:{self.id}"}
        resource = resource | named
        resource["useContext"] = [
            context | ({"valueReference": {"reference": f"Organization/{self.id}"}}
                       if context.get("valueReference") == FIRST else {})
            for context in resource.get("useContext", ())
        ]  # fmt: skip
        path = f"/fhir/ConceptMap/{resource['id']}"
        return self.server.put(path, resource, headers=self.headers)

    def store(self, resource: dict[str, Any]) -> None:
        answer = self.put(resource)
        assert answer.status_code in (200, 201), answer.text

    def delete(self, id: str) -> None:
        path = f"/fhir/ConceptMap/{self.id}-{id}"
        assert self.server.delete(path, headers=self.headers).status_code in (200, 204)


FIRST = {"reference": "Organization/first"}


@pytest.fixture(scope="module")
def server(shared_database: Databases) -> Iterator[Running]:
    one = shared_database.running("gateway")
    yield one
    one.close()


@pytest.fixture
def hospital(server: Running) -> Hospital:
    id = f"hospital-{next(NUMBERS)}"
    return Hospital(server, id, server.institution(id))


def target(code: str, **more: Any) -> dict[str, Any]:
    return {"code": code, "equivalence": "equivalent", **more}


def element(code: str, *targets: dict[str, Any]) -> dict[str, Any]:
    return {"code": code, "display": code, "target": list(targets)}


def concept_map(
    *elements: dict[str, Any],
    institution: str = "first",
    use: Any = "result",
    id: str = "mine",
    system: str = LAB_SYSTEM,
    **more: Any,
) -> dict[str, Any]:
    return {
        "resourceType": "ConceptMap",
        "id": id,
        "url": f"urn:hospital:{id}",
        "version": "3",
        "status": "active",
        "useContext": contexts(institution, use),
        "group": [{"source": OWN, "target": system, "element": list(elements)}],
        **more,
    }


def observation(code: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": OWN, "code": code}]},
        "effectiveDateTime": "2026-11-20T08:00:00+08:00",
        **more,
    }


def order(*details: str, code: str = "", **more: Any) -> dict[str, Any]:
    request: dict[str, Any] = {
        "resourceType": "ServiceRequest",
        "status": "active",
        "intent": "order",
        "subject": {"display": "样例"},
        **more,
    }
    if code:
        request["code"] = {"coding": [{"system": OWN, "code": code}]}
    if details:
        request["orderDetail"] = [{"coding": [{"system": OWN, "code": one}]} for one in details]
    return request


def items(resource: dict[str, Any]) -> list[str]:
    concepts = [resource.get("code", {}), *resource.get("orderDetail", [])]
    codings = [coding for concept in concepts for coding in concept.get("coding", [])]
    return [one["code"] for one in codings if one["system"] in (LAB_SYSTEM, IMAGING_SYSTEM)]


def tags(resource: dict[str, Any]) -> list[str]:
    codes = [tag["code"] for tag in resource.get("meta", {}).get("tag", [])]
    return [code for code in codes if code.startswith("unmapped")]


def rules(answer: Any) -> list[tuple[str, str]]:
    return [
        (issue["details"]["text"], issue.get("expression", [""])[0])
        for issue in answer.json()["issue"]
    ]


def test_a_map_counts_from_its_commit_on_and_no_longer_than_it_stands(hospital: Hospital) -> None:
    assert tags(hospital.send(observation("K1"))) == ["unmapped-item"]
    hospital.store(concept_map(element("K1", target("L001"))))
    found = hospital.send(observation("K1"))
    assert (items(found), tags(found)) == (["L001"], [])
    assert mapped_by(found["code"]["coding"][1]) == f"urn:hospital:mine:{hospital.id}|3"
    hospital.store(concept_map(element("K1", target("L001")), status="retired"))
    assert items(hospital.send(observation("K1"))) == []
    hospital.store(concept_map(element("K1", target("L002"))))
    assert items(hospital.send(observation("K1"))) == ["L002"]
    hospital.delete("mine")
    assert tags(hospital.send(observation("K1"))) == ["unmapped-item"]


def test_a_map_counts_in_every_process_on_the_store(database: Databases) -> None:
    async def client(one: Application, headers: dict[str, str]) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=one.asgi)
        return httpx.AsyncClient(transport=transport, base_url=BASE, headers=headers)

    async def means(one: httpx.AsyncClient) -> list[str]:
        answer = await one.post("/fhir/Observation", json=observation("K1"))
        assert answer.status_code == 201, answer.text
        return items(answer.json())

    async def both() -> None:
        settings = Settings(database=database.url("gateway"))
        applications = [await build(settings), await build(settings)]
        await register(applications[0].gateway, Institution(id="first", name="甲", area="110105"))
        token = await issue_token(applications[0].gateway, "first")
        headers = {"authorization": f"Bearer {token}", "content-type": "application/fhir+json"}
        one, other = [await client(each, headers) for each in applications]
        assert await means(other) == await means(one) == []
        wanted = concept_map(element("K1", target("L001")))
        answer = await one.put("/fhir/ConceptMap/mine", json=wanted)
        assert answer.status_code == 201, answer.text
        assert await means(other) == await means(one) == ["L001"]
        assert (await other.delete("/fhir/ConceptMap/mine")).status_code in (200, 204)
        assert await means(one) == await means(other) == []
        for each in (one, other):
            await each.aclose()
        for application in reversed(applications):
            await application.close()

    asyncio.run(both())


def test_what_comes_back_from_a_client_is_coded_by_the_map_of_now(hospital: Hospital) -> None:
    hospital.store(concept_map(element("K1", target("L001"))))
    found = hospital.send(observation("K1"))
    path = f"/fhir/Observation/{found['id']}"
    hospital.store(concept_map(element("K1", target("L003"))))
    answer = hospital.server.put(path, found, headers=hospital.headers)
    assert items(answer.json()) == ["L003"]
    hospital.delete("mine")
    answer = hospital.server.put(path, answer.json(), headers=hospital.headers)
    assert (items(answer.json()), tags(answer.json())) == ([], ["unmapped-item"])


def test_an_institution_maps_its_own_codes_alone(hospital: Hospital) -> None:
    server, theirs = hospital.server, hospital.server.institution("another")
    path = f"/fhir/ConceptMap/{hospital.id}-mine"
    wanted = concept_map(element("K1", target("L001")), institution=hospital.id)
    wanted["id"] = f"{hospital.id}-mine"
    answer = server.put(path, wanted, headers=theirs)
    assert (answer.status_code, rules(answer)) == (403, [("owner", "ConceptMap.useContext")])
    plain = {key: value for key, value in wanted.items() if key != "useContext"}
    answer = server.put(path, plain, headers=hospital.headers)
    assert (answer.status_code, rules(answer)) == (403, [("governed", "ConceptMap")])
    assert server.put(path, wanted, headers=hospital.headers).status_code == 201
    turned = wanted | {"useContext": contexts("another", "result")}
    for answer in (
        server.put(path, wanted, headers=theirs),
        server.delete(path, headers=theirs),
        server.put(path, turned, headers=theirs),
    ):
        assert (answer.status_code, rules(answer)[0][0]) == (403, "owner")
    answer = server.post("/fhir/Observation", observation("K1"), headers=theirs)
    assert items(answer.json()) == []


def test_an_operator_maps_the_codes_of_any_institution(start: Start) -> None:
    server = start(open_access=True)
    mine = Hospital(server, "first", server.institution("first"))
    wanted = concept_map(element("K1", target("L001")))
    assert server.put("/fhir/ConceptMap/mine", wanted).status_code == 201
    assert items(mine.send(observation("K1"))) == ["L001"]
    answer = server.put("/fhir/ConceptMap/mine", wanted, headers=mine.headers)
    assert (answer.status_code, rules(answer)[0][0]) == (403, "owner")
    stranger = concept_map(element("K1", target("L001")), institution="nobody")
    answer = server.put("/fhir/ConceptMap/mine", stranger)
    assert rules(answer) == [("map-institution", "ConceptMap.useContext")]


ELEMENT = "ConceptMap.group[0].element[0]"
TARGET = f"{ELEMENT}.target[0]"


def faults(hospital: Hospital, resource: dict[str, Any]) -> list[tuple[str, str]]:
    """What is wrong with a map."""
    answer = hospital.put(resource)
    assert answer.status_code in (200, 201, 422), answer.text
    return rules(answer) if answer.status_code == 422 else []


def when(name: str, value: str) -> dict[str, Any]:
    return {"dependsOn": [{"property": f"{PROPERTY}#{name}", "value": value}]}


def during(start: str, end: str = "") -> dict[str, Any]:
    period = {"start": start, **({"end": end} if end else {})}
    return {"extension": [{"url": PERIOD_URL, "valuePeriod": period}]}


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        (concept_map(element("A", target("L999"))), [("map-item", f"{TARGET}.code")]),
        (
            concept_map(element("A", target("L001"), target("L002"))),
            [("map-panel", f"{ELEMENT}.target[1].code")],
        ),
        (
            concept_map(element("A", target("L001", **when("specimen", "神秘液")))),
            [("map-specimen", f"{TARGET}.dependsOn[0].value")],
        ),
        (
            concept_map(element("A", target("L001", **when("specimen", "尿液")))),
            [("map-specimen", f"{TARGET}.dependsOn[0].value")],
        ),
        (
            concept_map(element("A", target("L001", **when("unit", "斤")))),
            [("map-unit", f"{TARGET}.dependsOn[0].value")],
        ),
        (
            concept_map(element("A", target("L001", **when("colour", "red")))),
            [("map-property", f"{TARGET}.dependsOn[0].property")],
        ),
        (
            concept_map(element("A", target("L001")), element("A", target("L002"))),
            [("map-panel", "ConceptMap.group[0].element[1].target[0].code")],
        ),
        (
            concept_map(element("A", target("L001")), element("A", target("L001"))),
            [("map-twice", "ConceptMap.group[0].element[1].target[0].code")],
        ),
        (
            concept_map(element("A", target("L001"), {"equivalence": "unmatched"})),
            [("map-contradicts", f"{ELEMENT}.target[1].code")],
        ),
        (
            concept_map(element("A", {"code": "L001", "equivalence": "inexact"})),
            [("map-equivalence", f"{TARGET}.equivalence")],
        ),
        (
            concept_map(element("A", {"code": "L001", "equivalence": "narrower"})),
            [("map-equivalence", f"{TARGET}.equivalence")],
        ),
        (
            concept_map(element("A", {"code": "L001", "equivalence": "unmatched"})),
            [("map-contradicts", f"{TARGET}.code")],
        ),
        (
            concept_map(element("A", {"equivalence": "equivalent"})),
            [("map-target", f"{TARGET}.code")],
        ),
        (concept_map({"code": "A"}), [("map-target", f"{ELEMENT}.target")]),
        (
            concept_map(element("A", target("L001")), system="urn:other"),
            [("map-target", "ConceptMap.group[0].target")],
        ),
        (
            concept_map(element("A", target("L001", display="钠"))),
            [("map-display", f"{TARGET}.display")],
        ),
        (
            concept_map(
                element("A", target("L001", **during("2026-01-01", "2026-06-30"))),
                element("A", target("L002", **during("2026-06-30"))),
            ),
            [("map-contradicts", "ConceptMap.group[0].element[1]")],
        ),
        (
            concept_map(element("A", target("L001", **during("2026-02", "2026-12-31")))),
            [("map-day", f"{TARGET}.extension[0].valuePeriod.start")],
        ),
        (
            concept_map(element("A", target("L001")), useContext=contexts("first", "result")[:1]),
            [("map-kind", "ConceptMap.useContext")],
        ),
    ],
)  # fmt: skip
def test_a_map_is_checked_like_a_row_of_a_table(
    hospital: Hospital, resource: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert faults(hospital, resource) == expected


def test_nothing_is_mapped_in_a_circle_or_by_way_of_another_map(hospital: Hospital) -> None:
    circle = concept_map(element("L002", target("L001")))
    circle["group"][0]["source"] = LAB_SYSTEM
    assert faults(hospital, circle) == [("map-source", "ConceptMap.group[0].source")]
    chained = concept_map(element("A", target("L001")))
    chained["group"][0]["unmapped"] = {"mode": "other-map", "url": "urn:hospital:mine"}
    assert faults(hospital, chained) == [("map-unmapped", "ConceptMap.group[0].unmapped")]


def test_two_maps_do_not_contradict_each_other(hospital: Hospital) -> None:
    assert faults(hospital, concept_map(element("Z", target("L001")), id="one")) == []
    assert faults(hospital, concept_map(element("Z", target("L001")), id="two")) == []
    assert faults(hospital, concept_map(element("Z", target("L002")), id="two")) == [
        ("map-contradicts", "ConceptMap.group")
    ]
    elsewhere = target("L094", **when("specimen", "尿液"))
    assert faults(hospital, concept_map(element("Z", elsewhere), id="two")) == []
    assert faults(hospital, concept_map(element("Z", target("L002")), id="two", use="order")) == []
    draft = concept_map(element("Z", target("L002")), id="three", status="draft")
    assert faults(hospital, draft) == []


def test_what_a_code_means_may_change_at_a_date(hospital: Hospital) -> None:
    hospital.store(
        concept_map(
            element("K1", target("L001", **during("2020-01-01", "2026-06-30"))),
            element("K1", target("L002", **during("2026-07-01"))),
        )
    )

    def means(day: str) -> list[str]:
        return items(hospital.send(observation("K1", effectiveDateTime=day)))

    assert means("2026-06-30") == ["L001"]
    assert means("2026-07-01T00:10:00+08:00") == ["L002"]
    assert means("2026-05") == ["L001"]
    assert means("2025") == ["L001"]
    assert means("2026") == []  # the year has both
    assert means("2019-12-31") == []
    undated = observation("K1")
    del undated["effectiveDateTime"]
    assert items(hospital.send(undated)) == []
    issued = {**undated, "issued": "2026-08-01T08:00:00+08:00"}
    assert items(hospital.send(issued)) == ["L002"]


def test_a_stored_map_goes_before_the_table_where_it_says_as_much(
    start: Start, tmp_path: Any
) -> None:
    folder = tmp_path / "mappings" / "concepts"
    folder.mkdir(parents=True)
    header = "kind,local_system,local_code,local_name,item,specimen,unit,method,note,from,to\n"
    table = f"{header}result,,GLU,葡萄糖,L033,血清,,,,,\nresult,,K1,钾,L001,,,,,,2026-06-30\n"
    (folder / "first.csv").write_text(table, "utf-8")
    server = start(mappings=str(tmp_path / "mappings"))
    hospital = Hospital(server, "first", server.institution("first"))

    def means(code: str, specimen: str = "", **more: Any) -> list[str]:
        more |= {"specimen": {"display": specimen}} if specimen else {}
        return items(hospital.send(observation(code, **more)))

    assert (means("GLU", "血清"), means("GLU")) == (["L033"], ["L033"])
    assert (means("K1"), means("K1", effectiveDateTime="2026-06-30")) == ([], ["L001"])
    hospital.store(concept_map(element("GLU", target("L094", **when("specimen", "尿液")))))
    assert (means("GLU", "血清"), means("GLU", "尿液"), means("GLU")) == (["L033"], ["L094"], [])
    hospital.store(concept_map(element("GLU", target("L034")), element("K1", target("L002"))))
    assert (means("GLU"), means("K1")) == (["L034"], ["L002"])
    assert means("K1", effectiveDateTime="2026-06-30") == ["L002"]


def test_orders_and_charges_are_mapped_by_a_map_of_their_own(hospital: Hospital) -> None:
    panel = [{"code": code, "equivalence": "narrower"} for code in ("L016", "L017")]
    hospital.store(
        concept_map(
            element("P", *panel),
            element("C1", target("L001")),
            element("N", {"equivalence": "unmatched"}),
            use="order",
        )
    )

    def means(*details: str, code: str = "") -> tuple[list[str], list[str]]:
        found = hospital.send(order(*details, code=code))
        return items(found), tags(found)

    assert items(hospital.send(observation("C1"))) == []
    assert means(code="P") == (["L016", "L017"], [])
    assert means("C1", "P", code="?") == (["L001", "L016", "L017"], [])
    assert means("C1", "??", code="?") == (["L001"], ["unmapped-order"])
    assert means("C1", "N") == (["L001"], [])
    assert means("??") == ([], ["unmapped-order"])
    assert means(code="N") == ([], ["unmapped-order"])


def test_an_item_that_was_rejected_maps_nothing(hospital: Hospital) -> None:
    hospital.store(concept_map(element("K1", {"code": "L001", "equivalence": "disjoint"})))
    assert items(hospital.send(observation("K1"))) == []


def test_the_addresses_of_the_maps_are_ours() -> None:
    for url in (PROPERTY, PERIOD_URL, contexts("x", "order")[0]["code"]["system"]):
        assert url.startswith(CANONICAL)
