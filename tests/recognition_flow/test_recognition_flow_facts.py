"""Facts from door to decision: what is read at a commit, also after rows were derived again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from city import POTASSIUM, City, day, said
from databases import Databases

from fhir_gateway.interactions.endpoints import endpoints, record
from fhir_gateway.interactions.reindex import run
from fhir_gateway.recognition.candidates import (
    add_rows,
    candidates,
    evaluations_to_read,
)
from fhir_gateway.recognition.model import Candidate
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.terminology.catalogue import IMAGING_SYSTEM

HEAD_CT = "I001"


def seen(city: City, patient: str, *items: str, as_of: int | None = None) -> list[Candidate]:
    """The candidates of a patient at a commit, or now."""

    async def read() -> list[Candidate]:
        async with city.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            t = reader.t if as_of is None else as_of
            person = await reader.person(patient)
            assert person is not None
            rows = await reader.facts(person.home, [*items, ""], t)
            pairs = evaluations_to_read(rows)
            register: dict[Any, Any] = {}
            add_rows(register, pairs, await reader.evaluations(pairs, t))
            return candidates(rows, register)

    found: list[Candidate] = city.running.run(read())
    return found


def now(city: City) -> int:
    async def read() -> int:
        async with city.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            return reader.t

    t: int = city.running.run(read())
    return t


def examined(city: City, patient: str, **more: Any) -> None:
    """A CT of the head: a report and a study that share a number and know nothing of each other."""
    identifier = {
        "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203",
                             "code": "ACSN"}]},
        "system": "urn:sender:order",
        "value": f"A-{patient}",
    }  # fmt: skip
    about = {"subject": {"reference": f"Patient/{patient}"}, "identifier": [identifier]}
    by = {"reference": "Organization/sender"}
    city.create({
        "resourceType": "DiagnosticReport", "status": "final", **about,
        "code": {"coding": [{"system": IMAGING_SYSTEM, "code": HEAD_CT}], "text": "头颅CT平扫"},
        "effectiveDateTime": day(2), "issued": day(2, 10), "performer": [by],
    })  # fmt: skip
    city.create({
        "resourceType": "ImagingStudy", "status": "available", **about, "started": day(2),
        "series": [{"uid": "1.2.3.1", "modality": {"code": "CT"}, "performer": [{"actor": by}],
                    "bodySite": {"display": "HEAD"}}],
        **more,
    })  # fmt: skip


def test_images_are_retrievable_from_the_commit_of_a_passed_check_on(city: City) -> None:
    city.put({
        "resourceType": "Endpoint", "id": "pacs", "status": "active",
        "connectionType": {"code": "dicom-wado-rs"}, "payloadType": [{"text": "DICOM"}],
        "address": "https://pacs.example/dicom-web",
    })  # fmt: skip
    patient = city.patient()
    examined(city, patient, endpoint=[{"reference": "Endpoint/pacs"}])
    (before,) = seen(city, patient, HEAD_CT)
    assert (before.images, before.retrievable, before.accession) == (
        True, None, f"A-{patient}",
    )  # fmt: skip
    assert (before.time_of, before.region, before.contrast) == ("performed", "HEAD", "none")
    t = now(city)
    (pacs,) = city.running.run(endpoints(city.gateway))
    for passed in (True, False):
        how = {"process": "C-ECHO", "by": "影像科"}
        city.running.run(record(city.gateway, pacs, passed=passed, **how))
        assert [one.retrievable for one in seen(city, patient, HEAD_CT)] == [passed]
    assert [one.retrievable for one in seen(city, patient, HEAD_CT, as_of=t)] == [None]


def test_a_decision_replays_after_its_rows_were_derived_again(
    start: Callable[..., Any], database: Databases
) -> None:
    """A store from before the packed column: decided upon, brought up to date, replayed."""
    town = City(start())
    patient = town.patient()
    town.result(patient, ago=3)
    examined(town, patient)
    for table in ("fact", "result_of"):
        database.execute(f"UPDATE {table} SET more = ''", "gateway")
    database.execute("DELETE FROM fact WHERE item = ''", "gateway")
    (old,) = seen(town, patient, POTASSIUM)
    assert (old.time_of, old.quantity, old.door) == ("", "", "")
    decision = said(town.recognize(patient, POTASSIUM, HEAD_CT), "decision")["reference"]
    t = now(town)
    database.execute("UPDATE clock SET indexed = 0", "gateway")
    assert town.running.run(run(town.gateway, asyncio.Event())) is True
    (new,) = seen(town, patient, POTASSIUM)
    assert (new.time_of, new.quantity, new.door) == ("collected", "3.95", "fhir")
    assert seen(town, patient, POTASSIUM, as_of=t) == [old]
    answer = town.operate(f"{decision}/$replay")
    assert (answer.status_code, said(answer.json(), "agrees")) == (200, True)


MESSAGE = (
    "MSH|^~\\&|LIS|sender|GW|CITY|20261118093000||ORU^R01^ORU_R01|M{n}|P|2.5.1|||||CHN|"
    "UNICODE UTF-8\r"
    "PID|1||P{n}^^^^MR||测试乙\r"
    "OBR|1||R{n}|K^血钾|||20261118080000|||||||20261118083000|BLD|||||||20261118100000||LAB|F\r"
    "OBX|1|NM|K^血钾||4.1|mmol/L^^UCUM|3.5-5.3|N|||F|||20261118080000||||AU5800\r"
)


@pytest.mark.parametrize("registered", [True, False])
def test_a_message_says_its_door_and_whether_its_zone_is_known(
    start: Callable[..., Any], registered: bool
) -> None:
    town = City(start(), rules=False)
    if not registered:
        found = town.running.get("/fhir/Organization/sender", headers=town.sender).json()
        for extension in found["extension"]:
            parts = extension.get("extension", [])
            extension["extension"] = [one for one in parts if one["url"] != "zone"]
            if not extension["extension"]:
                del extension["extension"]
        town.put({name: value for name, value in found.items() if name != "meta"})
    headers = {**town.sender, "content-type": "x-application/hl7-v2+er7; charset=utf-8"}
    message = MESSAGE.format(n=int(registered)).encode()
    answer = town.running.request("POST", "/hl7v2", content=message, headers=headers)
    assert answer.status_code == 200, answer.text
    (one,) = town.search("Observation")
    assert one["meta"]["source"].endswith("/door/v2")
    tags = [tag["code"] for tag in one["meta"].get("tag", ()) if tag["code"] == "unknown-zone"]
    assert tags == ([] if registered else ["unknown-zone"])
    assert ("no zone" in answer.text) is not registered
