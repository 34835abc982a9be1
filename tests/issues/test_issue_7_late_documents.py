"""Issue 7: documents that come in another order than they were written, and envelopes of two."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "cda"))
from cda_cases import form, item, lab, replaces, soap

_numbers = count(1)


class Hospital:
    """A hospital that submits versions of one report."""

    def __init__(self, running: Any) -> None:
        self.number = next(_numbers)
        self.running, self.headers = running, running.institution(f"late-{self.number}")

    def post(self, id: str, value: str, before: str = "", path: str = "/cda") -> list[str]:
        number = f'<id root="2.16.156.10011.1.33" extension="L{self.number}"/>'
        raw = lab(
            item(quantity=f'<value xsi:type="REAL" value="{value}"/>'), id=f"{id}-{self.number}",
            related=replaces(f"{before}-{self.number}") if before else "", custodian="",
            custodian_name="", report=number,
        )  # fmt: skip
        answer = self.send(raw, path)
        assert answer.status_code == 200, answer.text
        return [one["details"]["text"] for one in answer.json()["issue"] if "details" in one]

    def send(self, raw: bytes, path: str) -> Any:
        headers = self.headers | {"content-type": "text/xml"}
        return self.running.request("POST", path, content=raw, headers=headers)

    def all(self, query: str) -> list[dict[str, Any]]:
        found = self.running.get(f"/fhir/{query}", headers=self.headers).json()
        return [one["resource"] for one in found.get("entry", ())
                if f"Organization/late-{self.number}" in str(one["resource"])]  # fmt: skip

    def stands(self) -> tuple[str, Any, dict[str, str]]:
        """Status of the report, its value, and the status of each document."""
        (report,) = self.all(f"DiagnosticReport?identifier=L{self.number}")
        (result,) = self.all("Observation?_count=100")
        documents = {one["masterIdentifier"]["value"].partition("-")[0]: one["status"]
                     for one in self.all("DocumentReference?_count=100")}  # fmt: skip
        return report["status"], result["valueQuantity"]["value"], documents


@pytest.fixture
def hospital(client: Any) -> Hospital:
    return Hospital(client)


def test_the_first_version_after_the_third_takes_nothing_back(hospital: Hospital) -> None:
    hospital.post("D3", "3", "D2")
    assert hospital.post("D1", "1") == ["v2-older-report"]
    assert hospital.post("D2", "2", "D1") == ["cda-older-version"]
    assert hospital.stands() == ("corrected", 3, {"D3": "current", "D1": "superseded"})
    assert hospital.post("D2", "2", "D1") == ["cda-older-version"]  # the answer given before


def test_versions_in_order_leave_one_that_is_current(hospital: Hospital) -> None:
    for id, value, before in (("D1", "1", ""), ("D2", "2", "D1"), ("D3", "3", "D2")):
        hospital.post(id, value, before)
    said = hospital.stands()
    assert said == ("corrected", 3, {"D3": "current", "D2": "superseded", "D1": "superseded"})


#: A replaces nothing, B replaces A and C replaces B; "D" replaces C. None names a set.
BEFORE = {"A": "", "B": "A", "C": "B", "D": "C"}


@pytest.mark.parametrize("order", ["CBA", "DBCA", "DACB", "BCA"])
def test_versions_without_a_set_leave_one_that_is_current_in_any_order(
    hospital: Hospital, order: str
) -> None:
    for id in order:
        hospital.post(id, str("ABCD".index(id) + 1), BEFORE[id])
    documents = hospital.stands()[2]
    assert [id for id, status in documents.items() if status == "current"] == [max(order)]


INSISTING = '<s:Header><w:Security xmlns:w="urn:w" s:mustUnderstand="1"/></s:Header><s:Body>'


def test_a_header_that_must_be_understood_is_not_passed_over(hospital: Hospital) -> None:
    for version, role in (("http://schemas.xmlsoap.org/soap/envelope/", "actor"),
                          ("http://www.w3.org/2003/05/soap-envelope", "role")):  # fmt: skip
        envelope = soap(form("element"), version=version).decode()
        insisting = envelope.replace("<s:Body>", INSISTING)
        refused = hospital.send(insisting.encode(), "/cda/soap")
        assert (refused.status_code, "soap:MustUnderstand" in refused.text) == (400, True)
        assert 'rule="soap-must-understand" expression="Envelope/Header/Security"' in refused.text
        assert hospital.all("DocumentReference?_count=100") == []
        elsewhere = insisting.replace("s:must", f's:{role}="urn:other" s:must')
        for body in (elsewhere, insisting.replace('Understand="1"', 'Understand="0"')):
            assert hospital.send(body.encode(), "/cda/soap").status_code == 200
        hospital = Hospital(hospital.running)


def test_a_result_that_is_null_as_a_whole_and_has_a_value_is_refused(hospital: Hospital) -> None:
    for place in (b'<code code="DE04.30.015.00"', b'<code code="DE04.30.019.00"'):
        raw = form("element").encode()
        at = raw.index(place)
        begin = raw.rindex(b"<observation ", 0, at) + len(b"<observation ")
        answer = hospital.send(raw[:begin] + b'nullFlavor="NI" ' + raw[begin:], "/cda")
        told = [one["details"]["text"] for one in answer.json()["issue"]]
        assert (answer.status_code, told) == (422, ["cda-not-stated"])


XOP = '<xop:Include xmlns:xop="http://www.w3.org/2004/08/xop/include" href="cid:1"/>'
ONE = soap(form("element"))


@pytest.mark.parametrize(("raw", "status", "rule"), [
    (soap(form("element") * 2), 422, "soap-document"),
    (ONE.replace(b"</document>", b"</document><document/>"), 422, "soap-document"),
    (ONE.replace(b"</s:Body>", b"<DocumentSubmit/></s:Body>"), 400, "soap-envelope"),
    (ONE.replace(b"</s:Body>", b"</s:Body><s:Body><x/></s:Body>"), 400, "soap-envelope"),
    (soap(XOP), 400, "soap-document"),
])  # fmt: skip
def test_of_two_documents_in_an_envelope_none_is_lost_unsaid(
    hospital: Hospital, raw: bytes, status: int, rule: str
) -> None:
    answer = hospital.send(raw, "/cda/soap")
    assert (answer.status_code, f'rule="{rule}"' in answer.text) == (status, True), answer.text
    assert hospital.all("DocumentReference?_count=100") == []
