"""A document that is replaced: whoever relied on its result is told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cda_cases import item, lab
from city import POTASSIUM, City, said


def stamp(hours: int) -> str:
    """A time of v2 some hours ago."""
    return f"{datetime.now(ZoneInfo('Asia/Shanghai')) - timedelta(hours=hours):%Y%m%d%H%M}"


def potassium(value: str, **more: Any) -> bytes:
    result = item(
        quantity=f'<value xsi:type="PQ" value="{value}" unit="mmol/L"/>', unit="",
        collected=stamp(30), received=stamp(29),
    )  # fmt: skip
    raw = lab(result, custodian="", custodian_name="", set="S", **more).decode()
    coded = '<value xsi:type="CD" code="2823-3" codeSystem="2.16.840.1.113883.6.1"/>'
    own = '<value xsi:type="CD" code="ALT" displayName="丙氨酸氨基转移酶"/>'
    return raw.replace(own, coded).encode()


@pytest.mark.drivers("sqlite")
def test_who_relied_on_a_replaced_document_is_told_once(start: Callable[..., Any]) -> None:
    city = City(start())

    def send(raw: bytes) -> None:
        answer = city.running.request("POST", "/cda", content=raw, headers=city.sender)
        assert answer.status_code == 200, answer.text

    number = '<id root="2.16.156.10011.1.13" extension="700123"/>'
    card = "119900195803120010"
    send(potassium("4.1", patient=number, document_number=card, issued=stamp(28)))
    (patient,) = [one["id"] for one in city.search("Patient?identifier=700123")
                  if one["resourceType"] == "Patient"]  # fmt: skip
    decision = said(city.recognize(patient, POTASSIUM), "decision")["reference"]
    done = city.operate(f"{decision}/$answer", [{"name": "outcome", "valueCode": "accepted"}])
    assert done.status_code == 200, done.text
    later = {"patient": number, "document_number": card, "issued": stamp(20)}
    for _ in range(2):
        send(potassium("6.9", id="D2", version=2, **later))
    alerts = city.search(f"Task?patient={patient}&code=recognition-alert")
    assert len([one for one in alerts if one["resourceType"] == "Task"]) == 1
