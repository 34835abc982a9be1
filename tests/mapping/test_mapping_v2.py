"""Reading ER7: delimiters, escapes, segments, files of several messages; what is refused."""

from __future__ import annotations

import pytest
from mapping_cases import HEADER, ORDER, PERSON, TABLES, message

from fhir_gateway.errors import GatewayError
from fhir_gateway.mapping.v2 import Message, parse, split_messages


def read(raw: bytes) -> Message:
    return parse(raw, default_charset="UTF-8", folder=TABLES)


def refused(raw: bytes) -> tuple[str, str, str | None]:
    with pytest.raises(GatewayError) as caught:
        read(raw)
    error = caught.value
    return error.acknowledgement, error.condition, error.issues[0].rule


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_segments_may_end_as_files_and_clients_write_them(end: str) -> None:
    raw = end.join([HEADER, PERSON, "", ORDER, ""]).encode()
    assert [segment.name for segment in read(raw).segments] == ["MSH", "PID", "OBR"]


def test_a_line_feed_inside_a_text_does_not_end_a_segment_that_ends_with_cr() -> None:
    found = read(message(HEADER, "NTE|1||one\ntwo"))
    assert found.segments[1].text(3) == "one\ntwo"


def test_a_message_may_choose_its_own_delimiters() -> None:
    raw = b"MSH*:~!%*LIS*S2***20261118**ORU:R01*1*P*2.5\rPID*1**7:::A%B:PI"
    pid = read(raw).segments[1]
    assert (pid.text(3), pid.text(3, 4), pid.text(3, 4, 2), pid.text(3, 5)) == ("7", "A", "B", "PI")


def test_fields_are_counted_as_the_standard_counts_them() -> None:
    header = read(message(HEADER)).header
    assert [header.text(n) for n in (3, 10, 12, 18)] == ["LIS", "1", "2.5.1", "UNICODE UTF-8"]
    assert header.text(9, 2) == "R01"
    assert (header.text(99), header.text(9, 9), header.text(9, 1, 9)) == ("", "", "")


def test_the_hl7_null_is_empty() -> None:
    pid = read(message(HEADER, 'PID|1||""~7||""')).segments[1]
    assert (pid.repetitions(3), pid.field(5), pid.text(3)) == (["7"], "", "")


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (r"a\F\b", "a|b"), (r"a\S\b", "a^b"), (r"a\T\b", "a&b"), (r"a\R\b", "a~b"),
        (r"a\E\b", "a\\b"), (r"a\.br\b", "a\nb"), (r"a\X41E8A180\b", "aA血b"),
        (r"a\H\b\N\c", "abc"), (r"a\.in+4\b", "ab"), (r"a\Zxy\b", r"a\Zxy\b"), (r"a\b", r"a\b"),
        (r"a\F\\F\b", "a||b"), ("\\", "\\"), (r"\E\F\E\ ".strip(), "\\F\\"),
    ],
)  # fmt: skip
def test_escape_sequences_are_undone_once(sent: str, meant: str) -> None:
    assert read(message(HEADER, f"NTE|1||{sent}")).segments[1].text(3) == meant


@pytest.mark.parametrize("sent", [r"\X00\ ", r"\XFF\ ", r"\X1B\ "])
def test_an_escape_that_is_no_text_is_refused(sent: str) -> None:
    note = read(message(HEADER, f"NTE|1||{sent}")).segments[1]
    with pytest.raises(GatewayError) as caught:
        note.text(3)
    assert (caught.value.condition, caught.value.issues[0].expression) == ("102", "NTE[1]")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", ("AR", "100", "v2-no-msh")),
        (b"PID|1||7", ("AR", "100", "v2-no-msh")),
        (b'{"resourceType":"Bundle"}', ("AR", "100", "v2-no-msh")),
        (b"MSH", ("AR", "102", "v2-delimiters")),
        (b"MSH|||||", ("AR", "102", "v2-delimiters")),
        (b"MSH|^^\\&|", ("AR", "102", "v2-delimiters")),
        (b"MSHA^~\\&A", ("AR", "102", "v2-delimiters")),
        (message(HEADER, PERSON, "OB"), ("AR", "100", "v2-segment")),
        (message(HEADER, "a line of text"), ("AR", "100", "v2-segment")),
        (message(HEADER, PERSON, HEADER, PERSON), ("AR", "100", "v2-two-messages")),
        (message(HEADER, *["NTE|1"] * 20_001), ("AR", "207", "v2-segments")),
    ],
    ids=["empty", "no MSH", "JSON", "bare", "no delimiters", "delimiter twice", "letters",
         "cut", "text", "two messages", "too many"],
)  # fmt: skip
def test_what_is_no_message_is_refused_with_its_condition(
    raw: bytes, expected: tuple[str, str, str]
) -> None:
    assert refused(raw) == expected


def test_framing_and_byte_order_marks_are_not_part_of_a_message() -> None:
    framed = b"\x0b" + message(HEADER, PERSON) + b"\r\x1c\r"
    assert len(read(framed).segments) == 2
    assert len(read(b"\xef\xbb\xbf" + message(HEADER, PERSON)).segments) == 2


def test_a_file_is_cut_into_its_messages() -> None:
    one, two = message(HEADER, PERSON), message(HEADER, PERSON, ORDER)
    file = b"FHS|^~\\&|LIS\rBHS|^~\\&|LIS\r" + one + b"\r" + two + b"\rBTS|2\rFTS|1\r"
    assert split_messages(file) == [one + b"\r", two + b"\r"]
    assert split_messages(b"\x0b" + one + b"\r\x1c\r\x0b" + two + b"\r\x1c\r") == [
        one + b"\r", two + b"\r",
    ]  # fmt: skip
    assert split_messages(b"nothing") == []
