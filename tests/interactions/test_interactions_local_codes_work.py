"""The work list of an institution: found by the index, decided by a person, counted by coverage."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

import httpx
import pytest
from databases import Databases
from running import Running

from fhir_gateway.interactions.local_codes_work import work_list
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.terminology.local_map_decide import DECISION_URL
from fhir_gateway.terminology.local_map_reading import read_map

OWN = "urn:hospital:lab"
NUMBERS = count(1)
Json = dict[str, Any]


class Hospital(NamedTuple):
    server: Running
    id: str
    headers: dict[str, str]

    def send(self, resource: Json) -> Json:
        answer = self.server.post(
            f"/fhir/{resource['resourceType']}", resource, headers=self.headers
        )
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def get(self, name: str, query: str = "") -> httpx.Response:
        path = f"/fhir/Organization/{self.id}/${name}"
        return self.server.get(f"{path}?{query}" if query else path, headers=self.headers)

    def decide(self, *members: Json, person: str = "张三(检验科)") -> httpx.Response:
        named = [{"name": "person", "valueString": person}] if person else []
        body = {"resourceType": "Parameters", "parameter": [*named, *members]}
        path = f"/fhir/Organization/{self.id}/$map-codes"
        return self.server.post(path, body, headers=self.headers)

    def lines(self, query: str = "") -> list[Json]:
        answer = self.get("unmapped-codes", query)
        assert answer.status_code == 200, answer.text
        return [folded(one) for one in answer.json().get("parameter", [])]

    def coverage(self) -> dict[str, Json]:
        answer = self.get("code-coverage")
        assert answer.status_code == 200, answer.text
        return {one["use"]: one for one in map(folded, answer.json()["parameter"])}


def folded(member: Json) -> Json:
    """A parameter with parts as an object; what repeats as a list."""
    found: Json = {}
    for part in member["part"]:
        value = next((v for k, v in part.items() if k.startswith("value")), None)
        value = folded(part) if "part" in part else value
        if part["name"] in ("proposal", "seen", "item", "reason", "against"):
            found.setdefault(part["name"], []).append(value)
        else:
            found[part["name"]] = value
    return found


@pytest.fixture(scope="module")
def server(shared_database: Databases) -> Iterator[Running]:
    one = shared_database.running("gateway")
    yield one
    one.close()


@pytest.fixture
def hospital(server: Running) -> Hospital:
    id = f"hospital-{next(NUMBERS)}"
    return Hospital(server, id, server.institution(id))


def observation(code: str, name: str = "", **more: Any) -> Json:
    coding = {"system": OWN, "code": code} | ({"display": name} if name else {})
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [coding]},
        "effectiveDateTime": "2026-11-20T08:00:00+08:00",
        **more,
    }


def order(code: str, name: str = "") -> Json:
    coding = {"system": OWN, "code": code} | ({"display": name} if name else {})
    return {
        "resourceType": "ServiceRequest",
        "status": "active",
        "intent": "order",
        "subject": {"display": "样例"},
        "code": {"coding": [coding]},
    }


def decision(kind: str, code: str, *items: str, use: str = "result", **more: Any) -> Json:
    parts = [
        {"name": "kind", "valueCode": kind},
        {"name": "use", "valueCode": use},
        {"name": "coding", "valueCoding": {"system": OWN, "code": code, "display": code}},
        *({"name": "item", "valueCode": item} for item in items),
        *({"name": name, "valueString": text} for name, text in more.items()),
    ]
    return {"name": "decision", "part": parts}


def tags(resource: Json) -> list[str]:
    codes = [tag["code"] for tag in resource.get("meta", {}).get("tag", [])]
    return [code for code in codes if code.startswith("unmapped")]


def rules(answer: httpx.Response) -> list[str]:
    return [issue["details"]["text"] for issue in answer.json()["issue"]]


def test_the_work_list_tells_codes_counts_and_proposals(hospital: Hospital) -> None:
    unit = {"valueQuantity": {"value": 5, "unit": "U/L"}}
    for _ in range(3):
        hospital.send(observation("A1", "谷丙转氨酶", specimen={"display": "血清"}, **unit))
    last = hospital.send(observation("A2", "神秘指标"))
    hospital.send(order("O1", "胸部CT平扫"))
    first, second, third = hospital.lines()
    assert (first["use"], first["count"]) == ("result", 3)
    assert first["coding"] == {"system": OWN, "code": "A1", "display": "谷丙转氨酶"}
    assert first["seen"] == ["血清", "U/L"]
    assert first["proposal"][0]["item"][0]["code"] == "L016"
    assert first["proposal"][0]["sure"] is True
    assert first["proposal"][0]["reason"]
    assert (second["coding"]["code"], second["example"]["reference"]) == (
        "A2",
        f"Observation/{last['id']}",
    )
    assert third["proposal"][0]["item"][0]["code"] == "I022"
    assert [one["coding"]["code"] for one in hospital.lines("use=order")] == ["O1"]
    assert [one["coding"]["code"] for one in hospital.lines("limit=1")] == ["A1"]


def test_the_list_is_each_institutions_own(hospital: Hospital) -> None:
    server = hospital.server
    hospital.send(observation("A1", "谷丙转氨酶"))
    other = Hospital(server, "another", server.institution("another"))
    assert other.lines() == []
    theirs = other._replace(id=hospital.id)
    for answer in (
        theirs.get("unmapped-codes"),
        theirs.get("code-coverage"),
        theirs.decide(decision("accept", "A1", "L016")),
    ):
        assert (answer.status_code, rules(answer)) == (403, ["owner"])
    answer = server.get("/fhir/Organization/nobody/$unmapped-codes", headers=other.headers)
    assert answer.status_code == 403


def test_what_a_person_accepts_is_mapped_from_then_on(hospital: Hospital) -> None:
    hospital.send(observation("A1", "谷丙转氨酶"))
    answer = hospital.decide(decision("accept", "A1", "L016", comment="同一项目"))
    assert answer.status_code == 200, answer.text
    assert answer.json()["parameter"][-1] == {"name": "decided", "valueInteger": 1}
    assert hospital.lines() == []
    stored = hospital.send(observation("A1"))
    assert tags(stored) == []
    name = answer.json()["parameter"][0]["valueReference"]["reference"]
    accepted = hospital.server.get(f"/fhir/{name}", headers=hospital.headers).json()
    target = accepted["group"][0]["element"][0]["target"][0]
    assert (target["code"], target["equivalence"], target["comment"]) == (
        "L016",
        "equivalent",
        "同一项目",
    )
    said = next(one for one in target["extension"] if one["url"] == DECISION_URL)
    parts = {part["url"]: part for part in said["extension"]}
    assert parts["person"]["valueString"] == "张三(检验科)"
    assert parts["at"]["valueDateTime"].endswith("Z")
    again = hospital.server.put(
        f"/fhir/ConceptMap/{accepted['id']}", accepted, headers=hospital.headers
    )
    assert again.status_code == 200, again.text  # the map is the institution's own


def test_a_second_decision_replaces_the_first_and_its_version_counts_on(hospital: Hospital) -> None:
    hospital.decide(decision("accept", "A1", "L016"))
    answer = hospital.decide(decision("accept", "A1", "L017"), decision("accept", "A2", "L018"))
    name = answer.json()["parameter"][0]["valueReference"]["reference"]
    accepted = hospital.server.get(f"/fhir/{name}", headers=hospital.headers).json()
    assert accepted["version"] == "2"
    elements = accepted["group"][0]["element"]
    assert [(e["code"], [t["code"] for t in e["target"]]) for e in elements] == [
        ("A1", ["L017"]),
        ("A2", ["L018"]),
    ]
    hospital.decide(decision("nothing", "A1"))
    assert tags(hospital.send(observation("A1"))) == ["unmapped-item"]
    assert hospital.lines() == []  # it is decided: it means nothing


def test_a_rejected_item_is_not_proposed_again(hospital: Hospital) -> None:
    hospital.send(observation("A1", "谷丙转氨酶"))
    assert hospital.lines()[0]["proposal"][0]["item"][0]["code"] == "L016"
    assert hospital.decide(decision("reject", "A1", "L016")).status_code == 200
    proposals = hospital.lines()[0].get("proposal", [])
    assert "L016" not in [one["item"][0]["code"] for one in proposals]
    assert tags(hospital.send(observation("A1"))) == ["unmapped-item"]
    hospital.decide(decision("accept", "A1", "L016"))
    assert tags(hospital.send(observation("A1"))) == []


def test_sure_proposals_are_accepted_in_bulk_by_a_person(hospital: Hospital) -> None:
    hospital.send(observation("A1", "谷丙转氨酶", specimen={"display": "血清"}))
    hospital.send(observation("A2", "神秘指标"))
    hospital.send(observation("A3", "CT"))
    hospital.send(order("O1", "胸部CT平扫"))
    above = {"name": "acceptAbove", "valueDecimal": 0.95}
    nobody = hospital.decide(above, person="")
    assert (nobody.status_code, rules(nobody)) == (400, ["required"])
    answer = hospital.decide(above)
    assert answer.json()["parameter"][-1]["valueInteger"] == 2
    assert len(answer.json()["parameter"]) == 3  # a map of results, and one of orders
    assert sorted(one["coding"]["code"] for one in hospital.lines()) == ["A2", "A3"]
    assert hospital.decide(above).json()["parameter"] == [{"name": "decided", "valueInteger": 0}]


def test_all_decisions_or_none_are_stored(hospital: Hospital) -> None:
    answer = hospital.decide(
        decision("accept", "A1", "L016"),
        decision("accept", "A2", "L999"),
        decision("accept", "A3", "L016", "L017"),
        decision("accept", "A4", "L016", specimen="尿液"),
        decision("nothing", "A5", "L016"),
        decision("reject", "A6"),
    )
    assert answer.status_code == 422
    assert rules(answer) == ["map-item", "map-panel", "map-specimen", "map-item", "map-item"]
    places = [issue["expression"][0] for issue in answer.json()["issue"]]
    assert places == [f"Parameters.parameter[{number}]" for number in (2, 3, 4, 5, 6)]
    assert tags(hospital.send(observation("A1"))) == ["unmapped-item"]


@pytest.mark.parametrize(
    ("members", "person", "rule"),
    [
        ([], "张三", "decisions"),
        ([decision("accept", "A", "L001")], " \t", "person"),
        ([decision("accept", "A", "L001")], "x" * 101, "person"),
        ([decision("guess", "A", "L001")], "张三", "decision-kind"),
        ([{"name": "acceptAbove", "valueDecimal": 2}], "张三", "score"),
        ([decision("accept", "A", "L001", use="charge")], "张三", "map-kind"),
    ],
)
def test_a_wrong_call_is_refused(
    hospital: Hospital, members: list[Json], person: str, rule: str
) -> None:
    answer = hospital.decide(*members, person=person)
    assert answer.status_code in (400, 422)
    assert rule in [*rules(answer), "person" if "ele-1" in rules(answer) else ""]


def test_a_decision_does_not_contradict_a_map_that_the_hospital_stored(hospital: Hospital) -> None:
    hospital.decide(decision("accept", "A1", "L016"))
    accepted = hospital.server.get(
        f"/fhir/ConceptMap/{hospital.id}-accepted-result", headers=hospital.headers
    ).json()
    mine = accepted | {"id": f"{hospital.id}-mine", "url": "urn:hospital:mine"}
    path = f"/fhir/ConceptMap/{mine['id']}"
    assert hospital.server.put(path, mine, headers=hospital.headers).status_code == 201
    answer = hospital.decide(decision("accept", "A1", "L017"))
    assert (answer.status_code, rules(answer)) == (422, ["map-contradicts"])


def test_codes_of_one_name_in_several_specimens_are_lines_of_their_own(hospital: Hospital) -> None:
    for specimen in ("血清", "血清", "尿液"):
        hospital.send(observation("GLU", "葡萄糖", specimen={"display": specimen}))
    lines = hospital.lines()
    assert [(one["specimen"], one["count"]) for one in lines] == [("血清", 2), ("尿液", 1)]
    assert [one["proposal"][0]["item"][0]["code"] for one in lines] == ["L033", "L094"]
    hospital.decide(decision("accept", "GLU", "L033", specimen="血清"))
    assert [one["seen"] for one in hospital.lines()] == [["尿液"]]


def test_coverage_counts_codes_and_volume_of_results_and_orders(hospital: Hospital) -> None:
    for code in ("A1", "A1", "A1", "A2"):
        hospital.send(observation(code))
    vital = [{"coding": [{"code": "vital-signs"}]}]
    hospital.send(observation("BP", category=vital))
    hospital.send(order("O1"))
    before = hospital.coverage()
    assert (before["result"]["codes"], before["result"]["codesMapped"]) == (2, 0)
    hospital.decide(decision("accept", "A1", "L016"))
    after = hospital.coverage()
    assert after["result"] == {
        "use": "result", "codes": 2, "codesMapped": 1, "codesShare": 0.5,
        "volume": 4, "volumeMapped": 3, "volumeShare": 0.75,
    }  # fmt: skip
    assert after["order"] == {
        "use": "order", "codes": 1, "codesMapped": 0, "codesShare": 0.0,
        "volume": 1, "volumeMapped": 0, "volumeShare": 0.0,
    }  # fmt: skip
    hospital.decide(decision("accept", "O1", "L016", "L017", use="order"))
    assert hospital.coverage()["order"]["volumeShare"] == 1.0
    later = hospital.get("code-coverage", "since=2199-01-01").json()["parameter"]
    assert [folded(one)["volume"] for one in later] == [0, 0]


def test_the_index_counts_more_than_is_looked_at(hospital: Hospital) -> None:
    entries = [
        {"resource": observation("A1", "甲"), "request": {"method": "POST", "url": "Observation"}}
        for _ in range(120)
    ]
    body = {"resourceType": "Bundle", "type": "batch", "entry": entries}
    assert hospital.server.post("/fhir", body, headers=hospital.headers).status_code == 200
    for number in range(60):  # more codes than a page
        hospital.send(observation(f"B{number:02}"))
    lines = hospital.lines()
    assert (lines[0]["coding"]["code"], lines[0]["count"]) == ("A1", 120)
    assert len(lines) == 61


def test_the_list_is_audited_and_so_are_decisions(hospital: Hospital) -> None:
    hospital.lines()
    hospital.decide(decision("accept", "A1", "L016"))
    found = hospital.server.get(
        f"/fhir/AuditEvent?agent=Organization/{hospital.id}&_count=50", headers=hospital.headers
    ).json()
    entities = [
        entity.get("what", {}).get("reference", entity.get("query", ""))
        for entry in found["entry"]
        for entity in entry["resource"].get("entity", [])
    ]
    queries = [b64decode(text).decode() for text in entities if "/" not in text]
    assert any(text.endswith(f"Organization/{hospital.id}/$unmapped-codes") for text in queries)
    assert f"ConceptMap/{hospital.id}-accepted-result" in "".join(entities)


def test_every_page_is_read_on_a_snapshot_of_its_own(hospital: Hospital) -> None:
    for number in range(3):
        hospital.send(observation(f"A{number}"))
    seen: list[int] = []
    gateway = hospital.server.gateway
    lines = hospital.server.run(
        work_list(gateway, hospital.id, access=SYSTEM_ACCESS, progress=seen.append)
    )
    assert (len(lines), seen) == (3, [1, 2, 3])


def test_an_accepted_map_is_read_back_as_what_was_decided(hospital: Hospital) -> None:
    hospital.decide(
        decision("accept", "A1", "L033", specimen="血清", unit="mmol/L", method="酶法"),
        decision("reject", "A1", "L094"),
        decision("nothing", "A2"),
    )
    path = f"/fhir/ConceptMap/{hospital.id}-accepted-result"
    stored = hospital.server.get(path, headers=hospital.headers).json()
    codes = hospital.server.gateway.local_codes
    assert codes is not None
    read = read_map(stored, codes.catalogue)
    assert read.issues == []
    assert [(row.code, [one.code for one in row.items]) for row in read.rows] == [
        ("A1", ["L033"]),
        ("A2", []),
    ]
    first = read.rows[0]
    assert (first.specimen, first.unit, first.method) == ("血清", "mmol/L", "酶法")
    assert [one.item for one in read.rejected] == ["L094"]
