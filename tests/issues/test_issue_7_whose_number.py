"""Issue 7: whose number and whose name it is, by every kind of message and by documents.

Other hospitals assign numbers too, and a regional platform passes them on: taken for the sender's
own they put a report into the record of a stranger (HL7 v2.5.1 2.A.14 CX.4, CX.6; 2.A.30 FN.1).
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from fhir_gateway.interactions.institutions import register
from fhir_gateway.security.institution import Institution

sys.path.append(str(Path(__file__).parents[1] / "cda"))
from cda_cases import lab

OTHER = Institution(id="east", name="示范市东区医院", facilities=("EAST-LIS",),
                    identifier_systems={"patient": "urn:oid:2.999.77"})  # fmt: skip
FOREIGN = ("^^^east^PI", "^^^East-Lis^PI", "^^^x&2.999.77&ISO^PI", "^^^^PI^EAST-LIS",
           "^^^&2.999.77&ISO", "^^^EAST\\X2D\\LIS^MR")  # fmt: skip
OBR = "OBR|1|O{n}|R{n}|SHQT^生化全套^L|||202611180812|||||||||||||||202611181130||CH|F"
OBX = "OBX|1|NM|ALT^丙氨酸氨基转移酶^L||5.10|U/L|9--50|N|||F"
ORDER = ("ORC|NW|O{n}", "OBR|1|O{n}||SHQT^生化全套^L")
VISIT = "PV1|1|I|ward||||||||||||||||V{n}"
BOOKED = "SCH|B{n}|F{n}|||||||||^^^20261201080000^20261201083000"
KINDS = {
    "ORU^R01": ("{PID}", OBR, OBX),
    "OUL^R22": ("{PID}", "SPM|1|S{n}||SER", OBR, OBX),
    "ORM^O01": ("{PID}", *ORDER),
    "OML^O21": ("{PID}", *ORDER),
    "ADT^A01": ("{PID}", VISIT),
    "ADT^A08": ("{PID}",),
    "ADT^A31": ("{PID}",),
    "SIU^S12": (BOOKED, "{PID}"),
}
_numbers = count(1)

pytestmark = pytest.mark.drivers("sqlite")  # what a number is, is decided before the store


class Sender:
    """A hospital that sends messages and documents."""

    def __init__(self, running: Any) -> None:
        self.running, self.headers = running, running.institution("west", "示范市西区医院")
        running.run(register(running.gateway, OTHER))

    def send(self, kind: str, *lines: str, pid: str) -> list[str]:
        n = next(_numbers)
        head = f"MSH|^~\\&|HIS|west|GW|CITY|20261118113100||{kind}|{n}|P|2.5.1||||||UNICODE UTF-8"
        text = "\r".join((head, *lines)).replace("{PID}", f"PID|1||{pid}").replace("{n}", str(n))
        answer = self.running.request("POST", "/hl7v2", content=text.encode(), headers=self.headers)
        return answer.content.decode().split("\r")

    def document(self, raw: bytes) -> tuple[int, list[str]]:
        headers = self.headers | {"content-type": "application/xml"}
        answer = self.running.request("POST", "/cda", content=raw, headers=headers)
        rules = [one.get("details", {}).get("text", "") for one in answer.json()["issue"]]
        return answer.status_code, rules

    def patients(self, query: str) -> list[dict[str, Any]]:
        found = self.running.get(f"/fhir/Patient?{query}", headers=self.headers).json()
        return [one["resource"] for one in found.get("entry", ())
                if one["resource"]["resourceType"] == "Patient"]  # fmt: skip


@pytest.fixture(scope="module")
def sender(client: Any) -> Sender:
    return Sender(client)


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_of_another_institution_is_nobodys_here(sender: Sender, kind: str) -> None:
    for cx in FOREIGN:
        said = sender.send(kind, *KINDS[kind], pid=f"77{cx}||王示||19580312|M")
        assert said[1].startswith("MSA|AE"), (cx, said)
        assert "101^Required" in said[2], (cx, said)
    assert sender.patients("identifier=77") == []


def test_beside_a_foreign_number_the_own_one_counts(sender: Sender) -> None:
    for first, second in (("77^^^East-LIS^PI", "500^^^west^PI"), ("500", "77^^^^PI^east")):
        said = sender.send("ADT^A28", "{PID}", pid=f"{first}~{second}||王示||19580312|M")
        assert said[1].startswith("MSA|AA"), said
        assert "v2-other-authority" in said[2]
    (found,) = sender.patients("identifier=500")
    assert [one["value"] for one in found["identifier"]] == ["500"]


def test_a_merge_of_anothers_number_is_refused_however_it_is_spelled(sender: Sender) -> None:
    for number in ("600", "601"):
        sender.send("ADT^A28", "{PID}", pid=f"{number}^^^west^PI||王示||19580312|M")
    for cx in FOREIGN:
        said = sender.send("ADT^A40", "{PID}", f"MRG|601{cx}", pid="600^^^west^PI||王示")
        assert said[1].startswith("MSA|AR"), (cx, said)
        assert "merge-other-institution" in said[2]
    assert all(one["active"] for one in sender.patients("identifier=600,601") if "active" in one)


def test_an_escaped_ampersand_is_a_letter_of_the_name(sender: Sender) -> None:
    name = "JOHNSON \\T\\ SON&van^ANN \\T\\ MAY"
    sender.send("ADT^A28", "{PID}", pid=f"700^^^west^PI||{name}||19580312|F")
    (found,) = sender.patients("identifier=700")
    assert found["name"][0] == {
        "text": "JOHNSON & SON ANN & MAY", "family": "JOHNSON & SON", "given": ["ANN & MAY"],
    }  # fmt: skip


def test_escaped_ampersands_in_doctors_and_authorities_part_nothing(sender: Sender) -> None:
    obr = OBR.replace("||CH|F", "||CH|F") + "|||||||7&LEE \\T\\ CO&A"
    obx = OBX + "|||||12^SMITH \\T\\ SON^JO"
    said = sender.send("ORU^R01", "{PID}", obr, obx, pid="701^^^own\\T\\2.999.77^PI||张示||1958|M")
    assert said[1].startswith("MSA|AA"), said  # one name, which nobody is registered by
    (report,) = sender.running.get(
        "/fhir/DiagnosticReport?patient.identifier=701", headers=sender.headers
    ).json()["entry"]
    report = report["resource"]
    assert report["resultsInterpreter"] == [{"display": "LEE & CO"}]
    observation = sender.running.get(
        f"/fhir/{report['result'][0]['reference']}", headers=sender.headers
    ).json()
    assert observation["performer"][1] == {"display": "SMITH & SON JO"}


NUMBER = '<id root="2.16.156.10011.1.13" extension="{}"{}/>'
ASSIGNED = ' assigningAuthorityName="{}"'


def test_a_document_with_several_ids_keeps_the_senders_own(sender: Sender) -> None:
    theirs = NUMBER.format("77", ASSIGNED.format("East-LIS"))
    ours = NUMBER.format("800", ASSIGNED.format("west")) + '<id root="2.999.77" extension="78"/>'
    raw = lab(id="W1", custodian="", custodian_name="", patient=theirs + ours)
    status, rules = sender.document(raw)
    assert (status, "cda-other-number" in rules) == (200, True)
    (found,) = sender.patients("identifier=800")
    assert [one["value"] for one in found["identifier"]] == ["800"]
    assert sender.patients("identifier=77,78") == []


def test_a_document_of_nobody_but_anothers_patient_is_refused(sender: Sender) -> None:
    theirs = NUMBER.format("77", ASSIGNED.format("east")) + '<id root="2.999.77" extension="78"/>'
    raw = lab(id="W2", custodian="", custodian_name="", patient=theirs)
    assert sender.document(raw) == (422, ["cda-patient"])
