"""What is about a person stands in that person's home, and a Patient stays the same person."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import city as CITY
import pytest
from issue_cases import bundle, rule_of

from fhir_gateway.security.actor import SYSTEM_ACCESS

BASE = "http://127.0.0.1/fhir"
DOCUMENT = "urn:oid:2.16.156.10011.1.3"


def patient(id: str, number: int, name: str = "试甲", born: str = "1990-03-07") -> dict[str, Any]:
    identifier = [{"system": DOCUMENT, "value": CITY.id_number(number)}] if number else []
    found: dict[str, Any] = {"resourceType": "Patient", "id": id, "name": [{"text": name}]}
    if identifier:
        found["identifier"] = identifier
    return {**found, "birthDate": born}


def observation(subject: str, id: str = "") -> dict[str, Any]:
    resource = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "钾"},
        "subject": {"reference": subject},
    }
    return {**resource, "id": id} if id else resource


def provenance(*targets: str) -> dict[str, Any]:
    return {
        "resourceType": "Provenance",
        "target": [{"reference": target} for target in targets],
        "recorded": "2026-11-20T08:00:00Z",
        "agent": [{"who": {"display": "LIS"}}],
    }


def two_people(running: Any) -> dict[str, str]:
    headers = running.institution("demo")
    body = bundle(
        *(("PUT", f"Patient/{one}", patient(one, n)) for one, n in (("a", 801), ("b", 802))),
        *(
            ("PUT", f"Observation/of-{one}", observation(f"Patient/{one}", f"of-{one}"))
            for one in "ab"
        ),
        ("PUT", "Practitioner/who", {"resourceType": "Practitioner", "id": "who"}),
    )
    assert running.post("/fhir", body, headers=headers).status_code == 200
    return dict(headers)


def test_a_provenance_about_two_people_is_refused(start: Callable[..., Any]) -> None:
    running = start()
    headers = two_people(running)
    answer = running.post(
        "/fhir/Provenance", provenance("Observation/of-a", "Observation/of-b"), headers=headers
    )
    assert rule_of(answer) == (422, "targets")
    both = bundle(
        ("PUT", "Patient/c", patient("c", 803)),
        ("POST", "Provenance", provenance("Patient/c", "Observation/of-a")),
    )
    assert rule_of(running.post("/fhir", both, headers=headers)) == (422, "targets")


def home(running: Any, type: str, id: str) -> int:
    async def read() -> int:
        async with running.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            return int(await reader.home(type, id))

    return int(running.run(read()))


@pytest.mark.parametrize("first", [True, False])
def test_a_provenance_stands_with_the_person_whatever_it_names_beside(
    start: Callable[..., Any], first: bool
) -> None:
    running = start()
    headers = two_people(running)
    targets = ["Practitioner/who", "Observation/of-a"]
    made = running.post(
        "/fhir/Provenance", provenance(*(targets if first else targets[::-1])), headers=headers
    )
    assert made.status_code == 201
    id = made.headers["location"].split("/")[-3]
    assert home(running, "Provenance", id) == home(running, "Patient", "a")


def test_an_address_of_this_server_in_a_bundle_becomes_relative(start: Callable[..., Any]) -> None:
    running = start()
    headers = two_people(running)
    for kind in ("transaction", "batch"):
        body = bundle(("POST", "Observation", observation(f"{BASE}/Patient/a")), type=kind)
        assert running.post("/fhir", body, headers=headers).status_code == 200
    found = running.get("/fhir/Observation?subject=Patient/a", headers=headers).json()
    assert [entry["resource"]["subject"]["reference"] for entry in found["entry"]] == (
        ["Patient/a"] * 3
    )


@pytest.mark.parametrize("method", ["post", "put"])
def test_a_result_of_somebody_of_another_server_is_refused(
    start: Callable[..., Any], method: str
) -> None:
    running = start()
    headers = two_people(running)
    elsewhere = observation("http://hospital.example.org/fhir/Patient/a", "odd")
    path = "/fhir/Observation" + ("/odd" if method == "put" else "")
    answer = getattr(running, method)(path, elsewhere, headers=headers)
    assert rule_of(answer) == (422, "subject-elsewhere")


@pytest.mark.parametrize("between", ["", "delete", "undocumented"])
def test_a_patient_does_not_become_another_person(start: Callable[..., Any], between: str) -> None:
    running = start()
    headers = running.institution("demo")
    running.put("/fhir/Patient/x", patient("x", 811), headers=headers)
    if between == "delete":
        assert running.delete("/fhir/Patient/x", headers=headers).status_code == 204
    if between == "undocumented":
        plain = patient("x", 0)
        assert running.put("/fhir/Patient/x", plain, headers=headers).status_code == 200
    other = running.put("/fhir/Patient/x", patient("x", 812, "试乙"), headers=headers)
    assert rule_of(other) == (422, "person-changed")


def test_a_person_without_documents_does_not_become_another_one(start: Callable[..., Any]) -> None:
    running = start()
    headers = running.institution("demo")
    running.put("/fhir/Patient/x", patient("x", 0), headers=headers)
    other = patient("x", 813, "试丙", "1990-03-08")
    assert rule_of(running.put("/fhir/Patient/x", other, headers=headers)) == (
        422,
        "person-changed",
    )


def test_a_patient_is_corrected_and_documented_as_before(start: Callable[..., Any]) -> None:
    running = start()
    headers = running.institution("demo")
    said = (
        patient("x", 0, born="1990-03-08"),
        patient("x", 0),
        patient("x", 814),
        patient("x", 814, "试甲甲"),
    )
    answers = [running.put("/fhir/Patient/x", one, headers=headers) for one in said]
    assert [answer.status_code for answer in answers] == [201, 200, 200, 200]


@pytest.mark.parametrize("ending", ["Patient/a/", "/Patient/a", "Patient/a#x", "Patient/a?x"])
@pytest.mark.parametrize("door", ["bundle", "create"])
def test_an_address_that_is_nearly_ours_is_refused(client: Any, ending: str, door: str) -> None:
    client.put("/fhir/Patient/a", patient("a", 0))
    resource = observation(f"{BASE}/{ending}")
    if door == "bundle":
        answer = client.post("/fhir", bundle(("POST", "Observation", resource)))
    else:
        answer = client.post("/fhir/Observation", resource)
    assert rule_of(answer)[0] == 422


def test_two_identity_numbers_document_nobody(start: Callable[..., Any]) -> None:
    running = start()
    headers = running.institution("demo")
    two = patient("x", 815)
    two["identifier"].append({"system": DOCUMENT, "value": CITY.id_number(816)})
    running.put("/fhir/Patient/x", two, headers=headers)
    running.put("/fhir/Patient/y", patient("y", 815), headers=headers)

    async def persons() -> list[tuple[bool, bool]]:
        async with running.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            found = [await reader.person(id) for id in "xy"]
            return [(one.documented, one.contested) for one in found]

    assert running.run(persons()) == [(False, False), (True, False)]
