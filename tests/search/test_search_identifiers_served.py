"""One person's number under several names, through a gateway: conditions, chains, links, bytes."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from city import id_number
from databases import Databases
from running import Running

from fhir_gateway.interactions.reindex import run
from fhir_gateway.terminology.naming_files import load_naming

CARD = "urn:oid:2.16.840.1.113883.2.23.1.19.1"
NAMES = [CARD, "urn:oid:2.16.156.10011.1.3", "2.16.156.10011.1.3", "2.16.840.1.113883.2.23.1.19.1"]
NUMBERS = count(1)
PROFILES = Path(__file__).parents[2] / "profiles"


def number(ending: str = "") -> str:
    """A number of nobody's; with the check character that is wanted."""
    while True:
        found = id_number(next(NUMBERS))
        if found.endswith(ending):
            return found


def person(system: str, value: str, **more: Any) -> dict[str, Any]:
    type = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "NI"}]}
    identifier = {"type": type, "system": system, "value": value}
    return {"resourceType": "Patient", "identifier": [identifier], **more}


def created(client: Running, resource: dict[str, Any]) -> str:
    answer = client.post(f"/fhir/{resource['resourceType']}", resource)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def found(client: Running, query: str) -> list[str]:
    answer = client.get(f"/fhir/{query}")
    assert answer.status_code == 200, answer.text
    return [one["resource"]["id"] for one in answer.json().get("entry", [])]


@pytest.mark.parametrize("stored", NAMES)
def test_every_name_finds_what_every_name_stored(client: Running, stored: str) -> None:
    value = number("X")
    id = created(client, person(stored, value))
    result = created(client, {
        "resourceType": "Observation", "status": "final", "code": {"text": "x"},
        "subject": {"reference": f"Patient/{id}", "identifier": {"system": stored, "value": value}},
    })  # fmt: skip
    for asked in [*(f"{name}|{value.lower()}" for name in NAMES), value, value.lower()]:
        assert found(client, f"Patient?identifier={asked}") == [id], asked
        assert found(client, f"Observation?patient.identifier={asked}") == [result]
        assert found(client, f"Observation?subject:identifier={asked}") == [result]
        assert found(client, f"Patient?_has:Observation:subject:subject:identifier={asked}") == [id]
    typed = f"http://terminology.hl7.org/CodeSystem/v2-0203|NI|{value.lower()}"
    assert found(client, f"Patient?identifier:of-type={typed}") == [id]
    assert found(client, f"Patient/{id}/Observation?subject:identifier={value}") == [result]
    assert found(client, f"Patient?identifier=http://h.example/mrn|{value}") == []


def test_bytes_and_the_self_link_stay_as_they_came(client: Running) -> None:
    value = number()
    id = created(client, person("2.16.156.10011.1.3", f" {value[:6]} {value[6:]}".strip()))
    told = client.get(f"/fhir/Patient/{id}").json()["identifier"][0]
    assert (told["system"], told["value"]) == ("2.16.156.10011.1.3", f"{value[:6]} {value[6:]}")
    page = client.get(f"/fhir/Patient?identifier=urn:oid:2.16.156.10011.1.3|{value}").json()
    (link,) = [one["url"] for one in page["link"] if one["relation"] == "self"]
    assert "2.16.156.10011.1.3" in link
    assert "19.1" not in link.replace("10011.1.3", "")


def test_a_conditional_create_by_another_name_makes_no_second_one(client: Running) -> None:
    value = number()
    id = created(client, person(NAMES[0], value))
    for name in NAMES[1:]:
        answer = client.post(
            "/fhir/Patient", person(name, value),
            headers={"if-none-exist": f"identifier={name}|{value}"},
        )  # fmt: skip
        assert (answer.status_code, answer.json()["id"]) == (200, id)
    answer = client.put(f"/fhir/Patient?identifier={NAMES[1]}|{value}",
                        person(NAMES[2], value, gender="male"))  # fmt: skip
    assert (answer.status_code, answer.json()["id"]) == (200, id)
    assert found(client, f"Patient?identifier={value}") == [id]


def test_of_many_at_once_by_many_names_one_is_made(client: Running) -> None:
    value = number()

    async def all_at_once() -> list[tuple[int, str]]:
        async def one(name: str) -> tuple[int, str]:
            answer = await client.http.post(
                "/fhir/Patient", json=person(name, value),
                headers={"if-none-exist": f"identifier={name}|{value}",
                         "content-type": "application/fhir+json"},
            )  # fmt: skip
            return answer.status_code, answer.json()["id"]

        return list(await asyncio.gather(*(one(NAMES[n % 4]) for n in range(12))))

    answers = client.run(all_at_once())
    assert sorted(status for status, _ in answers) == [200] * 11 + [201]
    assert len({id for _, id in answers}) == 1


def test_a_bundle_refers_to_a_person_by_another_name(client: Running) -> None:
    value = number()
    id = created(client, person(NAMES[1], value))
    order = {"resourceType": "Observation", "status": "final", "code": {"text": "x"},
             "subject": {"reference": f"Patient?identifier={CARD}|{value}"}}  # fmt: skip
    entry = {"resource": order, "request": {"method": "POST", "url": "Observation"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    assert client.post("/fhir", bundle).status_code == 200
    (result,) = found(client, f"Observation?patient={id}")
    body = client.get(f"/fhir/Observation/{result}").json()
    assert body["subject"]["reference"] == f"Patient/{id}"


def test_records_of_one_person_share_a_home_under_every_name(
    client: Running, shared_database: Databases
) -> None:
    value = number()
    name = [{"text": "测试乙"}]
    ids = [created(client, person(system, value, name=name)) for system in NAMES]
    listed = ", ".join(f"'{id}'" for id in ids)
    homes = shared_database.rows(f"SELECT DISTINCT home FROM resource WHERE id IN ({listed})",
                                 "gateway")  # fmt: skip
    assert len(homes) == 1


def test_other_aliases_ask_for_a_reindex_and_back_again(
    database: Databases, tmp_path: Path
) -> None:
    """A table that has changed is never searched with rows of the one before."""
    profiles = copytree(PROFILES, tmp_path / "profiles")
    card = profiles / "NamingSystem" / "resident-id-card.json"
    shipped = card.read_text(encoding="utf-8")
    alias = '{"type": "uri", "value": "http://city.example/card"},'
    changed = shipped.replace('"uniqueId": [', f'"uniqueId": [{alias}')
    assert load_naming(profiles).find("http://city.example/card") is None
    value = number()
    for text, names in ((shipped, NAMES), (changed, [*NAMES, "http://city.example/card"]),
                        (shipped, NAMES)):  # fmt: skip
        card.write_text(text, encoding="utf-8")
        one = Running(database.url("gateway"), open_access=True, profiles=str(profiles))
        try:
            answer = one.get(f"/fhir/Patient?identifier={names[-1]}|{value}")
            if answer.status_code == 503:
                assert answer.json()["issue"][0]["details"]["text"] == "reindex-needed"
                assert one.run(run(one.gateway, asyncio.Event())) is True
            else:
                created(one, person(NAMES[1], value))  # the first round: an empty store
                created(one, person("http://city.example/card", value))
            for asked in names:
                expected = 2 if len(names) > len(NAMES) else 1
                assert len(found(one, f"Patient?identifier={asked}|{value}")) == expected, asked
        finally:
            one.close()
