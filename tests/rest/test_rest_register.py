"""The register of messages at the FHIR door: bytes as they came, and its operations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from itertools import count
from typing import Any

import pytest
from running import Running

from fhir_gateway.interactions.institutions import issue_token, register
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.security.institution import Institution
from fhir_gateway.store.messages import Asked, Message, messages, received_bytes

JSON = "application/fhir+json"
XML = "application/fhir+xml"
PATIENT = b'{"resourceType": "Patient",\n  "gender" : "male"}'
PATIENT_XML = (
    b'<Patient xmlns="http://hl7.org/fhir"><!-- as sent --><gender value="male"/></Patient>'
)
V2 = "\r".join([
    "MSH|^~\\&|LIS|{facility}|GW|CITY|20261122113100||ORU^R01|{id}|P|2.4||||||UNICODE UTF-8",
    "PID|1||700123^^^{facility}^PI||张示一||19580312|M",
    "OBR|1|O1|R1|SHQT^生化^L|||20261120081200|||||||||||||||20261122113000||CH|F",
    "OBX|1|NM|K01^钾^L||4.20|mmol/L|||||{status}|||20261120081200",
])  # fmt: skip


class Hospital:
    """A registered institution of the server under test, with its token."""

    def __init__(self, server: Running, id: str) -> None:
        self.server, self.id = server, id
        entry = Institution(id=id, name=id, area="110105", facilities=(id,))
        server.run(register(server.gateway, entry))
        token = server.run(issue_token(server.gateway, id))
        self.headers = {"authorization": f"Bearer {token}"}

    def send(self, path: str, body: bytes, media: str = JSON, method: str = "POST") -> Any:
        headers = {**self.headers, "content-type": media}
        return self.server.request(method, path, content=body, headers=headers)

    def v2(self, id: str, status: str = "F") -> Any:
        body = V2.format(facility=self.id, id=id, status=status).encode()
        return self.send("/hl7v2", body, "application/hl7-v2")

    def rows(self, **asked: str) -> list[Message]:
        async def read() -> list[Message]:
            async with self.server.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                return await messages(reader, self.id, Asked(**asked))

        found: list[Message] = self.server.run(read())
        return found

    def bytes_of(self, row: Message) -> tuple[str, bytes] | None:
        async def read() -> tuple[str, bytes] | None:
            async with self.server.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                return await received_bytes(reader, row.hash)

        found: tuple[str, bytes] | None = self.server.run(read())
        return found

    def ask(self, name: str, whose: Hospital | None = None, **parameters: Any) -> Any:
        path = f"/fhir/Organization/{(whose or self).id}/{name}"
        if not parameters:
            return self.server.get(path, headers=self.headers)
        body = {
            "resourceType": "Parameters",
            "parameter": [
                {"name": name, _member(name, value): value}
                for name, values in parameters.items()
                for value in (values if isinstance(values, list) else [values])
            ],
        }
        return self.server.post(path, body, headers=self.headers)


def _member(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "valueBoolean"
    return "valueId" if name == "letter" else "valueString"


@pytest.fixture(scope="module")
def ids() -> Iterator[str]:
    return (f"register-{number}" for number in count(1))


@pytest.fixture
def hospital(client: Running, ids: Iterator[str]) -> Hospital:
    return Hospital(client, next(ids))


@pytest.mark.parametrize(("body", "media"), [(PATIENT, JSON), (PATIENT_XML, XML)])
def test_the_bytes_of_a_write_are_given_back_exactly(
    hospital: Hospital, body: bytes, media: str
) -> None:
    answer = hospital.send("/fhir/Patient", body, media)
    assert answer.status_code == 201
    (row,) = hospital.rows()
    assert (row.door, row.kind, row.outcome) == ("fhir", "create Patient", "stored")
    assert (row.hash, row.size) == (sha256(body).digest(), len(body))
    assert row.name == answer.headers["x-request-id"]
    assert hospital.bytes_of(row) == (media, body)


def test_each_write_is_a_message_of_its_own(hospital: Hospital) -> None:
    for _ in range(2):
        assert hospital.send("/fhir/Patient", PATIENT).status_code == 201
    assert [row.attempts for row in hospital.rows()] == [1, 1]


def test_a_refused_write_is_kept_and_its_repeat_is_the_same_row(hospital: Hospital) -> None:
    for _ in range(2):
        answer = hospital.send("/fhir/Patient", PATIENT.replace(b"male", b"m"))
        assert answer.status_code == 422
    (row,) = hospital.rows()
    assert (row.outcome, row.attempts, row.state, row.code) == ("refused", 2, "", "422")
    kept = hospital.bytes_of(row)
    assert kept is not None and kept[1] == PATIENT.replace(b"male", b"m")


def bundle(type: str, *genders: str) -> bytes:
    entries = [
        {
            "resource": {"resourceType": "Patient", "gender": gender},
            "request": {"method": "POST", "url": "Patient"},
        }
        for gender in genders
    ]
    return json.dumps({"resourceType": "Bundle", "type": type, "entry": entries}).encode()


@pytest.mark.parametrize(
    ("type", "genders", "outcome"),
    [
        ("transaction", ("male", "female"), "stored"),
        ("transaction", ("male", "m"), "refused"),
        ("batch", ("male", "female"), "stored"),
        ("batch", ("male", "m"), "flagged"),
        ("batch", ("f", "m"), "refused"),
    ],
)
def test_a_bundle_is_one_message(
    hospital: Hospital, type: str, genders: tuple[str, ...], outcome: str
) -> None:
    body = bundle(type, *genders)
    hospital.send("/fhir", body)
    (row,) = hospital.rows()
    assert (row.kind, row.outcome, row.attempts) == (type, outcome, 1)
    assert hospital.bytes_of(row) == (JSON, body)


def test_reads_and_unknown_types_leave_no_names_of_their_own(hospital: Hospital) -> None:
    hospital.server.get("/fhir/Patient/none", headers=hospital.headers)
    for type in ("Nothing", "Other"):
        hospital.send(f"/fhir/{type}", PATIENT)
    assert {row.kind for row in hospital.rows()} <= {"create other"}


def test_an_institution_sees_retries_and_sets_aside_its_own(
    hospital: Hospital, client: Running, ids: Iterator[str]
) -> None:
    for number in ("1", "2"):
        assert hospital.v2(number, status="Q").status_code == 422
    status = hospital.ask("$message-status").json()["parameter"]
    (dead,) = [one["part"] for one in status if one["name"] == "dead"]
    assert dead[1]["valueInteger"] == 2
    letters = hospital.ask("$dead-letters").json()["parameter"]
    first, second = (one["part"][0]["valueId"] for one in letters)
    assert any("OBX[1]-11" in part.get("valueString", "") for part in letters[0]["part"])
    tried = hospital.ask("$retry-messages", person="李", letter=first, dryRun=True)
    assert tried.json()["parameter"][0]["part"][1]["valueCode"] == "refused"
    aside = hospital.ask("$set-aside-messages", person="李", reason="a trial", letter=[first])
    assert aside.json()["parameter"] == [{"name": "aside", "valueInteger": 1}]
    again = hospital.ask("$set-aside-messages", person="李", reason="again", letter=[first])
    assert again.status_code == 409
    other = Hospital(client, next(ids))
    for name, parameters in (
        ("$dead-letters", {}),
        ("$message-status", {}),
        ("$retry-messages", {"person": "X", "letter": second}),
        ("$set-aside-messages", {"person": "X", "reason": "X", "letter": second}),
    ):
        assert other.ask(name, hospital, **parameters).status_code == 403
    stolen = other.ask("$set-aside-messages", person="X", reason="X", letter=second)
    assert stolen.status_code == 404
    assert [row.state for row in hospital.rows()] == ["aside", "open"]


def test_metrics_count_by_institution_and_door_without_patients(hospital: Hospital) -> None:
    hospital.v2("1")
    hospital.v2("1")
    hospital.v2("2", status="Q")
    page = hospital.server.metrics()
    labels = f'{{door="hl7v2",institution="{hospital.id}",outcome="'
    numbers = {
        line.split(labels)[1].split('"')[0]: line.rsplit(" ", 1)[1]
        for line in page.splitlines()
        if labels in line
    }
    assert numbers == {"stored": "0.0", "flagged": "1.0", "refused": "1.0", "repeated": "1.0"}
    assert f'fhir_gateway_dead_letters{{institution="{hospital.id}"' in page
    assert "张示一" not in page
