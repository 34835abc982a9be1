"""The character set of a message: the label, the habit, and what the bytes prove."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from mapping_cases import TABLES

from fhir_gateway.errors import Structure
from fhir_gateway.mapping.v2_charset import Decoded, decode
from fhir_gateway.settings import Settings

UTF8, GB = "UNICODE UTF-8", "GB 18030-2000"


def names() -> list[str]:
    """All Chinese names of the catalogue, among them each kind of character that labs print."""
    found = []
    for name in ("lab-items.csv", "imaging-items.csv"):
        with (Path(Settings().terminology) / name).open(encoding="utf-8") as file:
            found += [row["name_zh"] for row in csv.DictReader(file)]
    return [name for name in found if not name.isascii()]


def labelled(text: str, label: str, codec: str) -> bytes:
    line = f"MSH|^~\\&|LIS|S2|||20261118||ORU^R01|1|P|2.5.1||||||{label}"
    return f"{line}\rOBX|1|ST|1||{text}||||||F".encode(codec)


def read(text: str, label: str, codec: str, default: str = "GB18030") -> Decoded:
    return decode(labelled(text, label, codec), default=default, folder=TABLES)


@pytest.mark.parametrize(
    ("label", "codec"), [(UTF8, "utf-8"), (GB, "gb18030"), ("GBK", "gb18030"), ("", "gb18030")]
)
def test_an_honest_label_is_read_without_a_warning(label: str, codec: str) -> None:
    wrong = [
        name
        for name in names()
        if (found := read(name, label, codec)).warning or name not in found.text
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("label", "codec"), [(GB, "utf-8"), (UTF8, "gb18030"), ("", "utf-8"), ("8859/1", "gb18030")]
)
def test_a_label_that_lies_is_overruled_with_a_warning(label: str, codec: str) -> None:
    wrong = [
        name
        for name in names()
        if not (found := read(name, label, codec)).warning or name not in found.text
    ]
    assert wrong == []


@pytest.mark.parametrize("name", ["镕", "喆", "李珺", "王玥", "㛃", "𠮷", "Müller", "José"])
def test_names_with_rare_characters_are_read_under_an_honest_label(name: str) -> None:
    assert name in read(name, UTF8, "utf-8").text
    if name.isprintable() and name[0] > "\u3000":
        assert name in read(name, GB, "gb18030").text


def test_a_field_separator_inside_a_gb_character_is_no_separator() -> None:
    raw = labelled("峾", GB, "gb18030")  # 8D7C in GBK: its second byte is the bar
    assert b"\x8d|" in raw
    assert "峾" in decode(raw, default="UTF-8", folder=TABLES).text


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (labelled("血糖", UTF8, "utf-8")[:-10] + b"\xe8\xa1", "v2-charset"),
        (labelled("血", "UNICODE UTF-16", "utf-8"), "v2-charset"),
        (labelled("ok", UTF8, "utf-8") + b"\x00", "v2-charset"),
        ("MSH|^~\\&|".encode("utf-16"), "v2-charset"),
        (labelled("μ", GB, "utf-8"), "v2-charset"),
    ],
    ids=["cut inside a character", "unknown label", "NUL", "UTF-16", "two clean readings"],
)
def test_what_cannot_be_read_for_certain_is_refused(body: bytes, rule: str) -> None:
    with pytest.raises(Structure) as caught:
        decode(body, default="GB18030", folder=TABLES)
    assert caught.value.issues[0].rule == rule


def test_an_unknown_label_is_a_table_value_not_found() -> None:
    with pytest.raises(Structure) as caught:
        read("血", "KLINGON", "utf-8")
    assert (caught.value.condition, caught.value.acknowledgement) == ("103", "AR")


@settings(max_examples=examples(200), deadline=None)
@given(st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5), min_size=1))
def test_chinese_text_is_read_back_or_refused_whatever_the_label_says(text: str) -> None:
    for label, codec in ((UTF8, "utf-8"), (GB, "gb18030"), (GB, "utf-8")):
        try:
            found = read(text, label, codec)
        except Structure:
            assert label == GB and codec == "utf-8"
        else:
            assert text in found.text
