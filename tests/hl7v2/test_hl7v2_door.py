"""POST /hl7v2: media types, credentials, limits, statuses beside acknowledgements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

MESSAGE = (
    "MSH|^~\\&|LIS|s2|GW|CITY|20261118113100||ORU^R01^ORU_R01|{id}|P|2.5.1||||||UNICODE UTF-8\r"
    "PID|1||700123^^^s2^PI||张示一||19580312|M\r"
    "OBR|1|O1|R1|SHQT^生化全套^L|||202611180812|||||||||||||||202611181130||CH|F\r"
    "OBX|1|NM|ALT^丙氨酸氨基转移酶^L||32|U/L|9--50||||F\r"
)
ER7 = "x-application/hl7-v2+er7"


def message(id: str = "1") -> bytes:
    return MESSAGE.replace("{id}", id).encode()


def test_a_message_is_answered_with_its_acknowledgement(start: Callable[..., Any]) -> None:
    running = start()
    token = running.institution("s2")
    answer = running.request("POST", "/hl7v2", content=message(), headers=token | {
        "content-type": "application/hl7-v2; charset=UTF-8"})  # fmt: skip
    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"{ER7}; charset=utf-8"
    assert answer.content.split(b"\r")[1] == b"MSA|AA|1"
    again = running.request("POST", "/hl7v2", content=message(), headers=token)
    assert again.content == answer.content


def test_the_answer_is_in_the_senders_character_set(start: Callable[..., Any]) -> None:
    running = start()
    token = running.institution("s2", "示范市第二医院")
    raw = MESSAGE.replace("{id}", "1").replace("|s2|", "|示范市第二医院|")
    raw = raw.replace("UNICODE UTF-8", "GB 18030-2000")
    answer = running.request("POST", "/hl7v2", content=raw.encode("gb18030"), headers=token)
    assert answer.headers["content-type"] == f"{ER7}; charset=gb18030"
    assert "示范市第二医院".encode("gb18030") in answer.content


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer nobody"}])
def test_without_a_credential_the_message_is_rejected(
    start: Callable[..., Any], headers: dict[str, str]
) -> None:
    running = start()
    answer = running.request("POST", "/hl7v2", content=message("77"), headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.content.split(b"\r")[1].startswith(b"MSA|AR|77|")


def test_another_media_type_is_refused(start: Callable[..., Any]) -> None:
    running = start()
    headers = running.institution("s2") | {"content-type": "application/json"}
    answer = running.request("POST", "/hl7v2", content=message(), headers=headers)
    assert (answer.status_code, answer.content.split(b"\r")[1][:8]) == (415, b"MSA|AR|1")


def test_a_body_over_the_limit_is_refused(start: Callable[..., Any]) -> None:
    running = start(body_limit=1_000)
    headers = running.institution("s2")
    answer = running.request("POST", "/hl7v2", content=b"MSH|" + b"x" * 2_000, headers=headers)
    assert answer.status_code == 413


def test_an_error_of_the_content_has_a_status_of_its_own(start: Callable[..., Any]) -> None:
    running = start()
    headers = running.institution("s2")
    raw = message().replace(b"PID|", b"ZID|")
    answer = running.request("POST", "/hl7v2", content=raw, headers=headers)
    assert answer.status_code == 422
    assert answer.content.split(b"\r")[1].startswith(b"MSA|AE|1|")
    assert answer.content.split(b"\r")[2].startswith(b"ERR||OBR^1|100^Segment sequence error")


def test_what_was_sent_can_be_searched_for(start: Callable[..., Any]) -> None:
    running = start()
    headers = running.institution("s2")
    running.request("POST", "/hl7v2", content=message(), headers=headers)
    patient = running.get("/fhir/Patient?identifier=700123", headers=headers).json()
    assert patient["entry"][0]["resource"]["name"] == [{"text": "张示一"}]
    id = patient["entry"][0]["resource"]["id"]
    found = running.get(f"/fhir/Observation?patient={id}", headers=headers).json()
    assert found["entry"][0]["resource"]["valueQuantity"]["value"] == 32
