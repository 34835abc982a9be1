"""ADT^A40 and A37 at the v2 door: merges of an institution's own numbers, on both stores."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_gateway.mapping.ids import business_id
from fhir_gateway.security.actor import SYSTEM_ACCESS

HEAD = "MSH|^~\\&|HIS|{at}|GW|CITY|20261118113100||{kind}|{id}|P|2.5.1||||||UNICODE UTF-8\r"
ORU = (
    "PID|1||{number}^^^{at}^PI||张示一||19580312|M\r"
    "OBR|1|O{number}|R{number}|SHQT^生化全套^L|||202611180812|||||||||||||||202611181130||CH|F\r"
    "OBX|1|NM|ALT^丙氨酸氨基转移酶^L||32|U/L|9--50||||F\r"
)


class Sender:
    """A hospital that sends HL7 v2."""

    def __init__(self, running: Any, id: str) -> None:
        self.running, self.id = running, id
        self.headers = running.institution(id)
        self._count = 0

    def send(self, kind: str, body: str, **values: str) -> list[str]:
        """The segments of the acknowledgement."""
        self._count += 1
        text = (HEAD + body).format(at=self.id, kind=kind, id=self._count, **values)
        answer = self.running.request("POST", "/hl7v2", content=text.encode(), headers=self.headers)
        return answer.content.decode().split("\r")

    def result(self, number: str) -> None:
        said = self.send("ORU^R01^ORU_R01", ORU, number=number)
        assert said[1].startswith("MSA|AA"), said

    def merge(self, goes: str, stays: str) -> list[str]:
        body = f"PID|1||{stays}^^^{self.id}^PI||张示一\rMRG|{goes}^^^{self.id}^PI\r"
        return self.send("ADT^A40^ADT_A39", body)

    def part(self, one: str, other: str) -> list[str]:
        body = f"PID|1||{one}^^^{self.id}^PI\rPID|2||{other}^^^{self.id}^PI\r"
        return self.send("ADT^A37^ADT_A37", body)

    def patient(self, number: str) -> dict[str, Any]:
        id = business_id(self.id, "Patient", number)
        found: dict[str, Any] = self.running.get(f"/fhir/Patient/{id}", headers=self.headers).json()
        return found

    def homes(self, number: str) -> int:
        async def person() -> Any:
            async with self.running.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                return await reader.person(business_id(self.id, "Patient", number))

        return len(self.running.run(person()).homes)


@pytest.fixture(scope="module")
def sender(client):
    one = Sender(client, "s2")
    for number in "123456789":
        one.result(number)
    return one


def test_a_merge_joins_two_numbers_and_rewrites_no_result(sender):
    path = "/fhir/Observation?patient=" + sender.patient("1")["id"]
    before = sender.running.get(path, headers=sender.headers).json()["entry"]
    assert sender.merge("1", "2")[1].startswith("MSA|AA")
    merged = sender.patient("1")
    assert (merged["active"], merged["link"]) == (
        False,
        [{"other": {"reference": f"Patient/{sender.patient('2')['id']}"}, "type": "replaced-by"}],
    )
    assert (sender.homes("1"), sender.homes("2")) == (2, 2)
    for entry in before:
        again = sender.running.get("/fhir/Observation/" + entry["resource"]["id"],
                                   headers=sender.headers).json()  # fmt: skip
        assert again["meta"]["versionId"] == "1"
        assert again["subject"]["reference"] == f"Patient/{merged['id']}"


def test_a_merge_that_is_sent_again_changes_nothing(sender):
    sender.merge("3", "4")
    version = sender.patient("3")["meta"]["versionId"]
    assert sender.merge("3", "4")[1].startswith("MSA|AA")
    assert sender.patient("3")["meta"]["versionId"] == version
    sender.result("3")
    assert sender.patient("3")["link"][0]["type"] == "replaced-by"
    assert sender.homes("3") == 2


def test_parting_takes_a_merge_back(sender):
    sender.merge("5", "6")
    assert sender.part("6", "5")[1].startswith("MSA|AA")
    parted = sender.patient("5")
    assert (parted["active"], "link" in parted) == (True, False)
    assert (sender.homes("5"), sender.homes("6")) == (1, 1)
    said = sender.part("6", "5")
    assert said[1].startswith("MSA|AE")
    assert "merge-unknown" in said[2] or "were not merged" in said[2]


@pytest.mark.parametrize(("goes", "stays", "place"), [("404", "7", "MRG^1"), ("7", "404", "PID^1")])
def test_a_number_that_nobody_has_is_an_error_with_its_place(sender, goes, stays, place):
    said = sender.merge(goes, stays)
    assert said[1].startswith("MSA|AE")
    assert said[2].startswith(f"ERR||{place}")
    assert "204" in said[2]
    assert "link" not in sender.patient("7")


def test_merges_in_a_circle_and_with_itself_are_refused(sender):
    assert sender.merge("8", "9")[1].startswith("MSA|AA")
    for goes, stays in (("9", "8"), ("8", "8"), ("8", "7")):
        assert sender.merge(goes, stays)[1].startswith("MSA|AE")
    assert "link" not in sender.patient("9")


@pytest.mark.parametrize(
    "body",
    ["PID|1||1^^^s2^PI\r", "MRG|1^^^s2^PI\rPID|1||2^^^s2^PI\r", "PID|1||1^^^s2^PI\rMRG|\r"],
)
def test_a_merge_that_names_too_little_is_refused(sender, body):
    assert sender.send("ADT^A40^ADT_A39", body)[1].startswith("MSA|AE")


def test_other_events_are_rejected(sender):
    for kind in ("ADT^A99^ADT_A01", "MFN^M02"):
        assert sender.send(kind, "PID|1||1^^^s2^PI\r")[1].startswith("MSA|AR")


def test_a_hospital_merges_its_own_numbers_alone(client, sender):
    other = Sender(client, "s3")
    said = other.merge("1", "2")
    assert said[1].startswith("MSA|AE")
    assert "204" in said[2]


# -- what is said beside the numbers -----------------------------------------------------------

DOCUMENTED = "PID|1||{number}^^^s5^PI~{document}^^^^NI||张示一||19580312|M\r"


@pytest.fixture(scope="module")
def careful(client, sender):
    """A hospital with patients 1 and 2, and 3 with a document, beside the sender's own 1 to 9."""
    one = Sender(client, "s5")
    for number in "12":
        one.result(number)
    orders = ORU.partition("\r")[2]
    body = DOCUMENTED + orders
    said = one.send("ORU^R01^ORU_R01", body, number="3", document="11010519580312001X")
    assert said[1].startswith("MSA|AA"), said
    return one


@pytest.mark.parametrize(
    ("pid", "mrg", "places"),
    [
        ("2^^^s5^PI||李示二||19990101", "1^^^s5^PI", ["PID^1^5", "PID^1^7"]),
        ("2^^^s5^PI||李示二", "1^^^s5^PI", ["PID^1^5"]),
        ("2^^^s5^PI||||19990101", "1^^^s5^PI", ["PID^1^7"]),
        ("2^^^s5^PI||张示一", "1^^^s5^PI||||||李示二", ["MRG^1^7"]),
        ("3^^^s5^PI~110105198001010015^^^^NI||张示一", "1^^^s5^PI", ["PID^1^3"]),
        ("2^^^s5^PI||张示一", "3^^^s5^PI~110105198001010015^^^^NI", ["MRG^1^1"]),
    ],
)
def test_a_merge_that_speaks_of_somebody_else_is_refused_with_the_field(careful, pid, mrg, places):
    said = careful.send("ADT^A40^ADT_A39", f"PID|1||{pid}\rMRG|{mrg}\r")
    assert said[1].startswith("MSA|AE")
    errors = [one.split("|") for one in said[2:] if one]
    assert [one[2] for one in errors] == places
    assert {(one[3].split("^")[0], one[5]) for one in errors} == {("204", "patient-identity")}
    assert "李示二" not in "".join(said)
    for number in "123":
        assert "link" not in careful.patient(number)
        assert careful.patient(number)["name"][0]["text"] == "张示一"


def test_parting_of_somebody_else_is_refused(careful):
    body = "PID|1||1^^^s5^PI||李示二||19990101\rPID|2||2^^^s5^PI\r"
    said = careful.send("ADT^A37^ADT_A37", body)
    assert said[2].startswith("ERR||PID^1^5")


@pytest.mark.parametrize(
    ("pid", "mrg", "place"),
    [
        ("2^^^s2^PI", "1^^^s5^PI", "PID^1^3^1^4"),
        ("2^^^s5^PI", "1^^^s2^PI", "MRG^1^1^1^4"),
        ("2^^^HIS&s2&L^PI", "1", "PID^1^3^1^4"),
    ],
)
def test_a_number_that_another_institution_assigned_is_refused(careful, pid, mrg, place):
    said = careful.send("ADT^A40^ADT_A39", f"PID|1||{pid}\rMRG|{mrg}\r")
    assert said[1].startswith("MSA|AR")
    assert said[2].startswith(f"ERR||{place}|204")
    assert "merge-other-institution" in said[2]
    assert "link" not in careful.patient("1")


def test_a_merge_that_fits_in_one_thing_or_names_its_own_system_is_taken(careful):
    """A new name with the birth date on record; an authority that nobody is registered with; the
    number of another institution beside the sender's own of the same digits."""
    pid = "2^^^HIS^PI~2^^^s2^PI||李示二||19580312"
    said = careful.send("ADT^A40^ADT_A39", f"PID|1||{pid}\rMRG|1||||||张 示一\r")
    assert said[1].startswith("MSA|AA"), said
    assert careful.patient("1")["link"][0]["type"] == "replaced-by"
    assert careful.patient("2")["name"][0]["text"] == "张示一"


# -- Patient.link by FHIR ------------------------------------------------------------------------


def put(client: Any, id: str, headers: dict[str, str], **members: Any) -> Any:
    resource = {"resourceType": "Patient", "id": id, "name": [{"text": "李示二"}], **members}
    return client.put(f"/fhir/Patient/{id}", resource, headers=headers)


def link(id: str, kind: str = "replaced-by") -> list[dict[str, Any]]:
    return [{"other": {"reference": f"Patient/{id}"}, "type": kind}]


def test_patient_link_of_ones_own_merges_and_of_another_institution_is_refused(client, sender):
    theirs = client.institution("s4")
    for id, headers in (("m1", sender.headers), ("m2", sender.headers), ("m3", theirs)):
        assert put(client, id, headers).status_code == 201
    assert put(client, "m1", sender.headers, link=link("m2"), active=False).status_code == 200
    refused = put(client, "m2", sender.headers, link=link("m3"))
    assert (refused.status_code, "same institution" in refused.text) == (422, True)
    assert put(client, "m2", sender.headers, link=link("m3", "seealso")).status_code == 200
    for fault in (link("m1"), link("m2")):
        assert put(client, "m2", sender.headers, link=fault).status_code == 422
    assert put(client, "m1", sender.headers, link=link("m2") + link("m3")).status_code == 422


def test_chains_of_merges_are_one_person(client, sender):
    for id, stays in (("c3", ""), ("c2", "c3"), ("c1", "c2")):
        answer = put(client, id, sender.headers, **({"link": link(stays)} if stays else {}))
        assert answer.status_code == 201
    assert put(client, "c3", sender.headers, link=link("c1")).status_code == 422

    async def person() -> Any:
        async with client.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            return await reader.person("c3")

    assert len(client.run(person()).homes) == 3
