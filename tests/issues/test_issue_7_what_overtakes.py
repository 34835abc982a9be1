"""Issue 7: messages that overtake each other without a time that says which is the later one.

Laboratories leave OBR-22 empty, or keep the first time in a correction. Then the status decides: a
final report never takes back its correction, nor revives what was taken back (docs/v2.md).
"""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from fhir_gateway.mapping.v2_value import quantity, read_number, read_range

HEAD = "MSH|^~\\&|LIS|s2|GW|CITY|20261118113100||ORU^R01^ORU_R01|{id}|P|2.5.1||||||UNICODE UTF-8"
PERSON = "PID|1||1^^^s2^PI||张示一|||M"
GROUP = "OBR|1||R{number}|SHQT^生化全套^L|||202611180812|||||||||||||||{issued}||CH|{said}"
ALT = "OBX|1|NM|ALT^丙氨酸氨基转移酶^L||{value}|U/L|9--50||||{status}"
CREA = "OBX|2|NM|CREA^肌酐^L||79.0|μmol/L|57--111||||F"
SAME, NEVER, LATER = "202611181130", "", "202611181230"

_numbers = count(1)


class Laboratory:
    def __init__(self, running: Any) -> None:
        self.running, self.headers = running, running.institution("s2")

    def send(self, number: int, said: str, status: str, value: str, issued: str) -> str:
        text = "\r".join((HEAD, PERSON, GROUP, ALT, CREA)).format(
            id=next(_numbers), number=number, said=said, status=status, value=value, issued=issued
        )
        answer = self.running.request("POST", "/hl7v2", content=text.encode(), headers=self.headers)
        assert "MSA|AA" in answer.content.decode(), answer.content
        return str(answer.content.decode())

    def stands(self, number: int) -> tuple[str, dict[str, Any]]:
        """Status of the report; status and value of its results by code."""
        path = f"/fhir/DiagnosticReport?identifier=R{number}&_include=DiagnosticReport:result"
        found = [one["resource"] for one in
                 self.running.get(path, headers=self.headers).json()["entry"]]  # fmt: skip
        (report,) = (one for one in found if one["resourceType"] == "DiagnosticReport")
        results = {one["code"]["coding"][0]["code"]: (one["status"], one["valueQuantity"]["value"])
                   for one in found if one["resourceType"] == "Observation"}  # fmt: skip
        return report["status"], results


@pytest.fixture(scope="module")
def laboratory(client: Any) -> Laboratory:
    return Laboratory(client)


@pytest.fixture
def number() -> int:
    return next(_numbers)


@pytest.mark.parametrize("issued", [SAME, NEVER])
def test_a_correction_outlives_the_final_report_that_it_overtook(
    laboratory: Laboratory, number: int, issued: str
) -> None:
    laboratory.send(number, "C", "C", "9", issued)
    assert "v2-older-report" in laboratory.send(number, "F", "F", "5", issued)
    assert laboratory.stands(number)[1]["ALT"] == ("corrected", 9)


def test_a_corrected_result_outlives_it_where_the_report_is_final(
    laboratory: Laboratory, number: int
) -> None:
    laboratory.send(number, "F", "C", "9", SAME)
    assert "v2-older-report" in laboratory.send(number, "F", "F", "5", SAME)
    said, results = laboratory.stands(number)
    assert (said, results["ALT"], results["CREA"]) == ("final", ("corrected", 9), ("final", 79))


@pytest.mark.parametrize("code", ["D", "W"])
def test_what_was_taken_back_is_not_revived(laboratory: Laboratory, number: int, code: str) -> None:
    laboratory.send(number, "F", "F", "5", SAME)
    laboratory.send(number, "F", code, "5", SAME)
    assert "v2-older-report" in laboratory.send(number, "F", "F", "5", SAME)
    assert laboratory.stands(number) == ("final", {"CREA": ("final", 79)})


def test_a_later_report_says_it_anew(laboratory: Laboratory, number: int) -> None:
    laboratory.send(number, "C", "C", "9", SAME)
    assert "v2-older-report" not in laboratory.send(number, "F", "F", "5.10", LATER)
    assert laboratory.stands(number)[1]["ALT"] == ("final", 5.1)


@pytest.mark.parametrize("text", ["①", "10₂", "5₂↑", "<10₂", "٣", "1⑵"])
def test_digits_that_are_no_plain_ones_are_no_number(text: str) -> None:
    assert read_number(text) is None
    assert quantity(text, {}) is None
    assert read_range(f"1-{text}", {}) == [{"text": f"1-{text}"}]


def test_full_width_digits_are_numbers() -> None:
    assert str(read_number("５．１０")) == "5.10"
