"""OBX-11 at the door, on both stores: U, D, X, W, a status left out, and a number used again.

What was said before is read from the store, so these run through it (docs/v2.md, docs/adr/0048).
"""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from fhir_gateway.interactions.institutions import register
from fhir_gateway.mapping.doors import INTAKE_SYSTEM
from fhir_gateway.security.institution import Institution

HEAD = "MSH|^~\\&|LIS|{at}|GW|CITY|20261118113100||ORU^R01^ORU_R01|{id}|P|2.5.1||||||UNICODE UTF-8"
PERSON = "PID|1||{who}^^^{at}^PI||张示{who}|||M"
GROUP = "OBR|1|O{number}|R{number}|SHQT^生化全套^L|||202611180812|||||||||||||||{issued}||CH|{said}"
ALT = "OBX|1|NM|ALT^丙氨酸氨基转移酶^L||32|U/L|9--50|N|||{0}"
CREA = "OBX|2|NM|CREA^肌酐^L||79.0|μmol/L|57--111||||{0}"
BARE = "OBX|1|NM|ALT^丙氨酸氨基转移酶^L||||||||{0}"

OTHER = Institution(id="s9", name="示范市第九医院", facilities=("S9-FACILITY",),
                    identifier_systems={"patient": "urn:oid:2.999.9"})  # fmt: skip

_numbers = count(1)


class Laboratory:
    """A hospital that sends reports, and what the gateway keeps of them."""

    def __init__(self, running: Any, id: str) -> None:
        self.running, self.id = running, id
        self.headers = running.institution(id)
        self._sent = 0

    def send(
        self, number: int, *lines: str, said: str = "F", who: str = "1", hour: int = 11
    ) -> list[str]:
        """The segments of the acknowledgement."""
        self._sent += 1
        text = "\r".join((HEAD, PERSON, GROUP, *lines)).format(
            at=self.id, id=self._sent, who=who, number=number, said=said,
            issued=f"20261118{hour}30",
        )  # fmt: skip
        answer = self.running.request("POST", "/hl7v2", content=text.encode(), headers=self.headers)
        return answer.content.decode().split("\r")

    def stored(self, number: int, type: str = "Observation") -> list[dict[str, Any]]:
        """The current resources of the report with this number, by code."""
        system = self.running.get(f"/fhir/DiagnosticReport?identifier=R{number}",
                                  headers=self.headers).json()  # fmt: skip
        reports = [entry["resource"] for entry in system.get("entry", ())
                   if entry["resource"]["resourceType"] == "DiagnosticReport"]  # fmt: skip
        if type == "DiagnosticReport":
            return sorted(reports, key=lambda one: one["meta"]["lastUpdated"])
        names = [one["reference"] for report in reports for one in report.get("result", ())]
        return [self.read(name) for name in sorted(names)]

    def read(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.running.get(f"/fhir/{name}", headers=self.headers).json()
        return found

    def alarms(self, status: str = "requested") -> list[dict[str, Any]]:
        path = f"/fhir/Task?code={INTAKE_SYSTEM}|wrong-patient&owner=Organization/{self.id}"
        found = self.running.get(f"{path}&status={status}", headers=self.headers).json()
        return [entry["resource"] for entry in found.get("entry", ())
                if entry["resource"]["resourceType"] == "Task"]  # fmt: skip


@pytest.fixture(scope="module")
def laboratory(client: Any) -> Laboratory:
    return Laboratory(client, "s2")


@pytest.fixture
def number() -> int:
    return next(_numbers)


def tags(resource: dict[str, Any]) -> list[str]:
    return [
        tag["code"] for tag in resource["meta"].get("tag", ()) if tag["system"] == INTAKE_SYSTEM
    ]


def test_u_makes_the_stored_value_final(laboratory: Laboratory, number: int) -> None:
    laboratory.send(number, ALT.format("P"), CREA.format("P"), said="P")
    said = laboratory.send(number, BARE.format("U"), CREA.format("F"), hour=12)
    assert said[1].startswith("MSA|AA"), said
    alt, crea = sorted(laboratory.stored(number), key=lambda one: one["code"]["text"])
    assert {one["status"] for one in (alt, crea)} == {"final"}
    assert alt["valueQuantity"]["value"] == 32
    assert alt["referenceRange"][0]["text"] == "9--50"
    assert alt["interpretation"][0]["text"] == "N"
    assert "dataAbsentReason" not in alt


def test_u_with_a_value_of_its_own_is_final(laboratory: Laboratory, number: int) -> None:
    laboratory.send(number, ALT.format("U"))
    (alt,) = laboratory.stored(number)
    assert (alt["status"], alt["valueQuantity"]["value"]) == ("final", 32)


def test_u_never_takes_a_correction_back(laboratory: Laboratory, number: int) -> None:
    laboratory.send(number, ALT.format("C"), said="C")
    laboratory.send(number, BARE.format("U"), hour=12)
    assert laboratory.stored(number)[0]["status"] == "corrected"


def test_u_without_a_stored_value_is_refused_whole(laboratory: Laboratory, number: int) -> None:
    said = laboratory.send(number, BARE.format("U"), CREA.format("F"))
    assert said[1].startswith("MSA|AE")
    assert said[2].startswith("ERR||OBX^1^11|204^Unknown key identifier^HL70357|E|v2-nothing-to")
    assert laboratory.stored(number, "DiagnosticReport") == []


def test_u_of_a_removed_result_is_refused(laboratory: Laboratory, number: int) -> None:
    laboratory.send(number, ALT.format("F"), CREA.format("F"))
    laboratory.send(number, BARE.format("D"), hour=12)
    assert laboratory.send(number, BARE.format("U"), hour=13)[1].startswith("MSA|AE")


def test_d_takes_a_result_out_of_its_report(laboratory: Laboratory, number: int) -> None:
    laboratory.send(number, ALT.format("F"), CREA.format("F"))
    both = laboratory.stored(number)
    alt = next(one for one in both if one["code"]["coding"][0]["code"] == "ALT")
    laboratory.send(number, BARE.format("D"), hour=12)
    (left,) = laboratory.stored(number)
    gone = laboratory.read(f"Observation/{alt['id']}")
    assert left["code"]["coding"][0]["code"] == "CREA"
    assert (gone["status"], gone["valueQuantity"]["value"]) == ("entered-in-error", 32)
    assert tags(gone) == []


def test_x_says_that_there_is_no_result(laboratory: Laboratory, number: int) -> None:
    laboratory.send(number, BARE.format("X"), CREA.format("F"))
    found = {one["code"]["coding"][0]["code"]: one for one in laboratory.stored(number)}
    assert found["ALT"]["status"] == "cancelled"
    assert not any(name.startswith("value") for name in found["ALT"])


def test_w_voids_the_result_and_raises_an_alarm(laboratory: Laboratory, number: int) -> None:
    laboratory.send(number, ALT.format("F"), CREA.format("F"))
    alt = next(one for one in laboratory.stored(number) if "ALT" in str(one["code"]))
    before = len(laboratory.alarms())
    laboratory.send(number, BARE.format("W"), hour=12)
    gone = laboratory.read(f"Observation/{alt['id']}")
    assert (gone["status"], tags(gone)) == ("entered-in-error", ["wrong-patient"])
    assert len(laboratory.alarms()) == before + 1
    (task,) = [one for one in laboratory.alarms()
               if one["focus"]["reference"].startswith(f"Observation/{alt['id']}/")]  # fmt: skip
    assert task["priority"] == "stat"
    assert task["for"] == alt["subject"]
    assert task["owner"] == {"reference": "Organization/s2"}
    assert [part["valueReference"]["reference"] for part in task["input"]] == [
        f"Observation/{alt['id']}/_history/{gone['meta']['versionId']}"]  # fmt: skip
    assert [one["code"]["coding"][0]["code"] for one in laboratory.stored(number)] == ["CREA"]


def test_an_alarm_is_raised_once(laboratory: Laboratory, number: int) -> None:
    laboratory.send(number, ALT.format("F"), CREA.format("F"))
    laboratory.send(number, BARE.format("W"), hour=12)
    before = len(laboratory.alarms())
    laboratory.send(number, BARE.format("W"), hour=13)
    assert len(laboratory.alarms()) == before


def test_a_result_that_was_never_stored_raises_none(laboratory: Laboratory, number: int) -> None:
    before = len(laboratory.alarms())
    assert laboratory.send(number, BARE.format("W"), CREA.format("F"))[1].startswith("MSA|AA")
    assert len(laboratory.alarms()) == before


def test_a_named_person_closes_an_alarm(laboratory: Laboratory, number: int) -> None:
    laboratory.send(number, ALT.format("F"))
    laboratory.send(number, BARE.format("W"), hour=12)
    task = max(laboratory.alarms(), key=lambda one: one["meta"]["lastUpdated"])
    parameters = {"resourceType": "Parameters", "parameter": [
        {"name": "practitioner", "valueReference": {"display": "示例管理员"}},
        {"name": "text", "valueString": "已重新发送"}]}  # fmt: skip
    path = f"/fhir/Task/{task['id']}/$acknowledge"
    for _ in range(2):
        done = laboratory.running.request("POST", path, json=parameters, headers=laboratory.headers)
        assert done.status_code == 200, done.text
        name = done.json()["parameter"][0]["valueReference"]["reference"]
        assert name == f"Task/{task['id']}/_history/2"
    closed = laboratory.read(f"Task/{task['id']}")
    assert closed["status"] == "completed"
    assert closed["note"][0]["text"] == "已重新发送"
    assert closed["output"][0]["valueString"] == "示例管理员"
    assert task["id"] not in [one["id"] for one in laboratory.alarms()]


def test_nobody_writes_an_alarm_by_hand(laboratory: Laboratory, number: int) -> None:
    laboratory.send(number, ALT.format("F"))
    laboratory.send(number, BARE.format("W"), hour=12)
    task = laboratory.alarms()[0]
    changed = {**task, "status": "completed"}
    done = laboratory.running.put(f"/fhir/Task/{task['id']}", changed, headers=laboratory.headers)
    assert done.status_code == 403
    forged = {key: value for key, value in task.items() if key not in ("id", "meta")}
    made = laboratory.running.request("POST", "/fhir/Task", json=forged, headers=laboratory.headers)
    assert made.status_code == 403


def test_a_report_of_a_wrong_patient_can_be_sent_again(laboratory: Laboratory, number: int) -> None:
    laboratory.send(number, ALT.format("F"), CREA.format("F"))
    assert laboratory.send(number, ALT.format("F"), who="2", hour=12)[1].startswith("MSA|AE")
    laboratory.send(number, said="W", hour=12)
    assert laboratory.send(number, ALT.format("F"), who="2", hour=13)[1].startswith("MSA|AA")
    assert laboratory.send(number, ALT.format("C"), who="2", said="C", hour=14)[1].startswith(
        "MSA|AA"
    )
    wrong, right = laboratory.stored(number, "DiagnosticReport")
    assert (wrong["status"], tags(wrong)) == ("entered-in-error", ["wrong-patient"])
    assert right["status"] == "corrected"
    assert wrong["subject"] != right["subject"]
    results = [laboratory.read(one["reference"]) for one in wrong["result"]]
    assert [(one["status"], tags(one)) for one in results] == [
        ("entered-in-error", ["wrong-patient"])] * 2  # fmt: skip
    found = laboratory.read(right["result"][0]["reference"])
    assert (found["status"], found["subject"]) == ("corrected", right["subject"])
    assert found["basedOn"] == right["basedOn"] != wrong["basedOn"]


def test_a_report_emptied_by_w_is_of_a_wrong_patient_too(
    laboratory: Laboratory, number: int
) -> None:
    laboratory.send(number, ALT.format("F"))
    laboratory.send(number, BARE.format("W"), hour=12)
    (report,) = laboratory.stored(number, "DiagnosticReport")
    assert (report["status"], tags(report)) == ("entered-in-error", ["wrong-patient"])
    assert laboratory.send(number, ALT.format("F"), who="2", hour=13)[1].startswith("MSA|AA")


def test_a_status_left_out_is_the_reports(laboratory: Laboratory, number: int) -> None:
    said = laboratory.send(number, ALT.format(""), CREA.format("F"), said="P")
    assert said[1].startswith("MSA|AA")
    assert said[2].startswith("ERR||OBX^1^11|0^Message accepted^HL70357|W|v2-status")
    found = {one["code"]["coding"][0]["code"]: one for one in laboratory.stored(number)}
    assert (found["ALT"]["status"], tags(found["ALT"])) == ("preliminary", ["unstated-status"])


def test_a_message_that_may_have_been_cut_off_is_refused(
    laboratory: Laboratory, number: int
) -> None:
    said = laboratory.send(number, ALT.format("F"), CREA.format(""))
    assert said[1].startswith("MSA|AE")
    assert said[2].startswith("ERR||OBX^2^11|101")


@pytest.mark.parametrize("authority", ["s9", "S9-FACILITY", "X&2.999.9&ISO"])
def test_a_number_that_another_institution_assigned_is_left_out(
    client: Any, laboratory: Laboratory, number: int, authority: str
) -> None:
    client.run(register(client.gateway, OTHER))
    strange = PERSON.replace("{who}^^^{at}^PI", f"77^^^{authority}^PI")
    text = "\r".join((HEAD, strange, GROUP, ALT.format("F")))
    values = {"at": "s2", "who": "1", "number": number, "said": "F", "issued": "202611181130"}
    raw = text.format(**values, id=f"f{number}").encode()
    answer = client.request("POST", "/hl7v2", content=raw, headers=laboratory.headers)
    assert answer.content.split(b"\r")[1].startswith(b"MSA|AE")
    assert b"PID^1^3|101" in answer.content
    both = text.replace("^PI||", "^PI~1^^^{at}^PI||").format(**values, id=f"b{number}").encode()
    answer = client.request("POST", "/hl7v2", content=both, headers=laboratory.headers)
    assert answer.content.split(b"\r")[1].startswith(b"MSA|AA")
    assert b"v2-other-authority" in answer.content
    subject = laboratory.stored(number)[0]["subject"]["reference"]
    assert [one["value"] for one in laboratory.read(subject)["identifier"]] == ["1"]
