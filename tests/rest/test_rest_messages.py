"""A sender follows its messages: bytes, tree, Bundle, what was stored, and back from a resource."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest
from databases import Databases

LINES = (
    "MSH|^~\\&|LIS|s2|GW|CITY|20261118113100||ORU^R01^ORU_R01|{id}|P|2.5.1||||||UNICODE UTF-8",
    "PID|1||700123^^^s2^PI||张示一||19580312|M",
    "OBR|1|O1|R1|SHQT^生化全套^L|||202611180812|||||||||||||||202611181130||CH|{status}",
    "OBX|1|NM|ALT^丙氨酸氨基转移酶^L||{value}|U/L|9--50||||{status}",
)


def message(id: str = "M1", value: str = "32", status: str = "F") -> bytes:
    text = "\r".join(LINES)
    for name, said in (("id", id), ("value", value), ("status", status)):
        text = text.replace("{" + name + "}", said)
    return text.encode()


class World:
    """A gateway, the sender's headers, and another institution's."""

    def __init__(self, running: Any) -> None:
        self.running = running
        self.own = running.institution("s2", "示范市第二医院")
        self.other = running.institution("s3")

    def send(self, raw: bytes) -> Any:
        return self.running.request("POST", "/hl7v2", content=raw, headers=self.own)

    def get(self, path: str, headers: dict[str, str] | None = None) -> Any:
        return self.running.get(f"/fhir/{path}", headers=headers or self.own)

    def messages(self, query: str = "") -> list[dict[str, Any]]:
        answer = self.get(f"Organization/s2/$messages{query}")
        assert answer.status_code == 200, answer.text
        found = answer.json().get("parameter", [])
        return [flat(one["part"]) for one in found if one["name"] == "message"]

    def trace(self, id: str, more: str = "") -> dict[str, list[Any]]:
        answer = self.get(f"Organization/s2/$message-trace?id={id}{more}")
        assert answer.status_code == 200, answer.text
        return named(answer.json())


def value_of(member: dict[str, Any]) -> Any:
    return next((value for name, value in member.items() if name not in ("name",)), None)


def flat(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {part["name"]: value_of(part) for part in parts}


def named(parameters: dict[str, Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for member in parameters.get("parameter", []):
        found.setdefault(member["name"], []).append(value_of(member))
    return found


@pytest.fixture(scope="module")
def world(shared_database: Databases) -> Iterator[World]:
    """One for all tests: each sends messages by names of its own."""
    running = shared_database.running("gateway")
    yield World(running)
    running.close()


def test_a_message_is_followed_from_its_bytes_to_what_is_stored(world: World) -> None:
    answer = world.send(message())
    (row,) = world.messages("?name=M1")
    assert (row["name"], row["door"], row["kind"]) == ("M1", "hl7v2", "ORU^R01")
    found = world.trace(row["id"])
    assert b64decode(found["bytes"][0]["data"]) == message()
    assert found["text"][0].startswith("MSH|")
    assert found["answer"][0].split("\n")[1] == "MSA|AA|M1"
    assert found["answer"][0] == answer.text.replace("\r", "\n").strip()
    fields = [flat(field["part"]) for segment in found["segment"] for field in segment
              if field["name"] == "field"]  # fmt: skip
    value = next(one for one in fields if one["place"] == "OBX[1]-5")
    assert value == {"place": "OBX[1]-5", "name": "Observation Value", "content": "32"}
    (bundle,) = found["bundle"]
    mapped = {one["request"]["url"] for one in bundle["entry"]}
    stored = {flat(one)["version"]["reference"] for one in found["stored"]}
    assert {one.rpartition("/_history/")[0] for one in stored} >= mapped
    for reference in stored:
        assert world.get(reference).status_code == 200


def test_each_value_of_a_stored_resource_leads_to_its_field(world: World) -> None:
    world.send(message())
    world.send(message("M2", "35", "C"))
    found = world.get("Observation").json()["entry"][0]["resource"]
    for version, name, content in ((1, "M1", "32"), (2, "M2", "35")):
        path = f"Observation/{found['id']}/$origin?version={version}&element=Observation.value"
        told = named(world.get(path).json())
        assert flat(told["message"][0])["name"] == name
        assert told["hash"][0] == flat(told["message"][0])["hash"]
        origins = [flat(one) for one in told["origin"]]
        value = next(one for one in origins if one["element"].endswith("Quantity.value"))
        assert value["how"] == "copied"
        assert flat(value["from"]) == {"place": "OBX[1]-5", "content": content}


@pytest.mark.drivers("sqlite")
def test_a_refused_message_is_followed_too(world: World) -> None:
    assert world.send(message("X1").replace(b"OBX|1|NM", b"OBX|1|ED")).status_code == 422
    (row,) = world.messages("?outcome=refused&name=X1")
    assert row["state"] == "open"
    found = world.trace(row["id"])
    assert found["answer"][0].split("\n")[1].startswith("MSA|AE|X1")
    assert found["issue"][0]["issue"][0]["expression"] == ["OBX[1]-5"]
    assert found["refusal"][0]["issue"][0]["expression"] == ["OBX[1]-5"]
    assert "stored" not in found


@pytest.mark.drivers("sqlite")
def test_origins_of_a_whole_message_are_told_on_request(world: World) -> None:
    world.send(message())
    found = world.trace(world.messages("?name=M1")[0]["id"], "&explain=true")
    origins = [flat(one) for one in found["origin"]]
    gender = next(one for one in origins if one["element"] == "Patient.gender")
    assert (gender["how"], gender["detail"]) == ("table", "sex.csv, row M")


@pytest.mark.drivers("sqlite")
def test_messages_are_listed_by_page_and_filter(world: World) -> None:
    for n in range(5):
        world.send(message(f"P{n}", f"3{n}", "F" if not n else "C"))
    first = world.get("Organization/s2/$messages?_count=3").json()
    after = named(first)["next"][0]
    names = [row["name"] for row in world.messages(f"?_count=2&after={after}")]
    assert [flat(one)["name"] for one in named(first)["message"]] == ["P4", "P3", "P2"]
    assert names == ["P1", "P0"]
    assert [row["name"] for row in world.messages("?name=P3")] == ["P3"]
    assert world.messages("?since=2100-01-01") == []
    assert world.get("Organization/s2/$messages?after=nonsense").status_code == 400
    assert world.get("Organization/s2/$messages?_count=0").status_code == 400


@pytest.mark.drivers("sqlite")
def test_nobody_but_the_sender_sees_anything_of_it(world: World) -> None:
    world.send(message())
    id = world.messages("?name=M1")[0]["id"]
    observation = world.get("Observation").json()["entry"][0]["resource"]["id"]
    for path in ("$messages", f"$message-trace?id={id}"):
        assert world.get(f"Organization/s2/{path}", world.other).status_code == 403
    for own in ("s3", "s2"):
        answer = world.get(f"Organization/s3/$message-trace?id={id}", world.other)
        assert (answer.status_code, own in answer.text) == (404, False)
    answer = world.get(f"Observation/{observation}/$origin", world.other)
    assert answer.status_code == 403
    assert "M1" not in answer.text
    missing = world.get("Observation/none/$origin")
    assert missing.status_code == 404


@pytest.mark.drivers("sqlite")
def test_each_look_is_recorded_as_a_disclosure_of_the_patient(world: World) -> None:
    world.send(message())
    patient = world.get("Patient").json()["entry"][0]["resource"]["id"]
    world.trace(world.messages("?name=M1")[0]["id"])
    told = world.get(f"Patient/{patient}/$accesses").json()
    queries = [flat(one["part"]).get("query", "") for one in told["parameter"]
               if one["name"] == "access"]  # fmt: skip
    assert any("$message-trace" in query for query in queries)


@pytest.mark.drivers("sqlite")
def test_what_came_in_as_fhir_says_so_and_has_no_fields(world: World) -> None:
    patient = {"resourceType": "Patient", "id": "p1", "gender": "male"}
    assert world.running.put("/fhir/Patient/p1", patient, headers=world.own).status_code == 201
    told = named(world.get("Patient/p1/$origin?explain=true").json())
    assert told["version"][0]["reference"] == "Patient/p1/_history/1"
    assert "origin" not in told
