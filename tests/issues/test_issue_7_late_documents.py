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
