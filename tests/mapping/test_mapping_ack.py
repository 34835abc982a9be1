"""Acknowledgements: what they echo, what they say, in the sender's delimiters and bytes."""

from __future__ import annotations

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from mapping_cases import HEADER, PERSON, TABLES, message

from fhir_gateway.errors import Issue, Unprocessable
from fhir_gateway.mapping.v2 import parse
from fhir_gateway.mapping.v2_ack import Header, acknowledge, read_header, refuse

STAMP = {"time": "20261118120000+0800", "control_id": "ACK1"}


def error() -> Unprocessable:
    found = Unprocessable(
        "OBX[3]-5: a|b^c", expression="OBX[3]-5.2", rule="v2-field"
    )  # fmt: skip
    found.condition = "102"
    return found


def test_an_acceptance_answers_the_sender_and_names_the_message() -> None:
    assert acknowledge(read_header(message(HEADER)), **STAMP).decode() == (
        "MSH|^~\\&|GW|CITY|LIS|S2|20261118120000+0800||ACK^R01^ACK|ACK1|P|2.5.1||||||"
        "UNICODE UTF-8\r"
        "MSA|AA|1\r"
    )


def test_a_refusal_says_place_condition_and_what_to_do() -> None:
    assert refuse(read_header(message(HEADER)), error(), **STAMP).decode().split("\r")[1:] == [
        "MSA|AE|1|OBX[3]-5: a\\F\\b\\S\\c",
        "ERR||OBX^3^5^1^2|102^Data type error^HL70357|E|v2-field|||OBX[3]-5: a\\F\\b\\S\\c",
        "",
    ]


def test_versions_before_2_5_have_another_err() -> None:
    header = read_header(message(HEADER.replace("2.5.1", "2.4")))
    assert refuse(header, error(), **STAMP).decode().split("\r")[2] == (
        "ERR|OBX^3^5^102&Data type error&HL70357"
    )


def test_an_error_of_the_fhir_side_names_its_element() -> None:
    fault = Unprocessable("is missing", expression="Observation.code", rule="cardinality")
    last = refuse(read_header(message(HEADER)), fault, **STAMP).decode().split("\r")[2]
    assert last == ("ERR|||102^Data type error^HL70357|E|cardinality|||"
                    "is missing (Observation.code)")  # fmt: skip


def test_warnings_go_with_an_acceptance() -> None:
    doubt = Issue("invalid", "no date", "PID[1]-7", "v2-time", "warning")
    body = acknowledge(read_header(message(HEADER)), **STAMP, warnings=[doubt]).decode()
    assert body.split("\r")[1:3] == [
        "MSA|AA|1", "ERR||PID^1^7|0^Message accepted^HL70357|W|v2-time|||no date",
    ]  # fmt: skip


@pytest.mark.parametrize("codec", ["utf-8", "gb18030"])
def test_names_are_echoed_in_the_senders_bytes(codec: str) -> None:
    raw = message(HEADER.replace("S2", "示范市第二医院"), codec=codec)
    assert "示范市第二医院".encode(codec) in acknowledge(read_header(raw), **STAMP)


def test_the_senders_delimiters_are_used() -> None:
    raw = b"MSH*:~!%*LIS*S2***20261118**ORU:R01*77*P*2.5\r"
    assert refuse(read_header(raw), error(), **STAMP) == (
        b"MSH*:~!%***LIS*S2*20261118120000+0800**ACK:R01:ACK*ACK1*P*2.5\r"
        b"MSA*AE*77*OBX[3]-5!S! a|b^c\r"
        b"ERR**OBX:3:5:1:2*102:Data type error:HL70357*E*v2-field***OBX[3]-5!S! a|b^c\r"
    )


@pytest.mark.parametrize("raw", [b"", b"MSH", b"MSH|", b"PID|1", b"\xff\xfe", b"MSHx^~\\&x"])
def test_a_header_that_cannot_be_read_is_a_plain_one(raw: bytes) -> None:
    found = read_header(raw)
    assert (found.control_id, found.separator, found.encoding) == ("", "|", "^~\\&")


def test_a_header_cannot_add_segments_to_the_answer() -> None:
    raw = b"MSH|^~\\&|LIS|S2|||2026||ORU^R01|1\x0bMSA|P|2.5"
    assert acknowledge(read_header(raw), **STAMP).count(b"\r") == 2


@settings(max_examples=examples(300), deadline=None)
@given(st.binary(max_size=120).map(lambda tail: b"MSH" + tail))
def test_any_header_has_an_acknowledgement_that_can_be_read(raw: bytes) -> None:
    answer = refuse(read_header(raw), error(), **STAMP)
    assert answer.count(b"\r") == 3
    assert read_header(answer) != Header() or answer.startswith(b"MSH|^~\\&|")


def test_the_answer_of_a_read_message_is_itself_a_message() -> None:
    header = read_header(message(HEADER, PERSON))
    answer = parse(refuse(header, error(), **STAMP), default_charset="UTF-8", folder=TABLES)
    assert [segment.name for segment in answer.segments] == ["MSH", "MSA", "ERR"]
    assert answer.segments[2].text(8) == "OBX[3]-5: a|b^c"
