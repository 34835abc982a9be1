"""Tables from spreadsheets: charsets, real workbooks, and files that are none or too much."""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from fhir_gateway.errors import Unprocessable
from fhir_gateway.terminology.sheet import (
    MOST_BYTES,
    MOST_COLUMNS,
    MOST_ROWS,
    Sheet,
    letter,
    read_sheet,
)
from fhir_gateway.terminology.sheet_text import guarded, unguarded

TABLE = "编码,名称\nA1,钾\n\nA2,钠\n"


def workbook(fill: Callable[[Any], None], *, title: str = "目录") -> bytes:
    book = Workbook()
    book.active.title = title
    fill(book.active)
    written = io.BytesIO()
    book.save(written)
    return written.getvalue()


def texts(sheet: Sheet) -> list[tuple[int, list[str]]]:
    return [(row.number, [cell.text for cell in row.cells]) for row in sheet.rows]


def refusal(content: bytes, file: str = "list.xlsx", **options: Any) -> str:
    with pytest.raises(Unprocessable) as caught:
        read_sheet(content, file, **options)
    return caught.value.issues[0].diagnostics


@pytest.mark.parametrize(
    ("content", "noticed"),
    [
        (TABLE.encode(), False),
        (b"\xef\xbb\xbf" + TABLE.encode(), False),
        (TABLE.encode("gb18030"), True),
        (TABLE.encode("utf-16"), False),
        (TABLE.replace(",", "\t").encode(), False),
        (TABLE.replace(",", ";").encode(), False),
        (TABLE.replace("\n", "\r\n").encode(), False),
    ],
)
def test_csv_is_read_whatever_program_wrote_it(content: bytes, noticed: bool) -> None:
    sheet = read_sheet(content, "list.csv")
    assert texts(sheet) == [(1, ["编码", "名称"]), (2, ["A1", "钾"]), (4, ["A2", "钠"])]
    assert bool(sheet.notices) == noticed


def test_a_charset_that_is_said_is_not_guessed() -> None:
    assert not read_sheet(TABLE.encode("gb18030"), "l.csv", encoding="gb18030").notices
    assert texts(read_sheet(b"\xef\xbb\xbf" + TABLE.encode(), "l.csv", encoding="UTF-8"))[0] == (
        1, ["编码", "名称"],
    )  # fmt: skip
    said = refusal(TABLE.encode("gb18030"), "l.csv", encoding="utf-8")
    assert said.startswith("l.csv: is not utf-8")
    assert "is no charset" in refusal(b"a", "l.csv", encoding="klingon")


def test_cells_of_a_workbook_are_what_they_show() -> None:
    def fill(sheet: Any) -> None:
        sheet.append(["编码", "名称", "时限", "备注"])
        sheet.append([7, " 钾\n离子 ", 30.0, True])
        sheet["A2"].number_format = "0000"
        sheet.append([])
        sheet.append(["'=x", "A\u3000B", 1.5, None])

    sheet = read_sheet(workbook(fill), "list.xlsx")
    assert texts(sheet)[1:] == [
        (2, ["0007", "钾 离子", "30", "true"]),
        (4, ["=x", "A B", "1.5"]),
    ]


def test_merged_cells_say_the_same_in_each_and_make_no_row_of_their_own() -> None:
    def fill(sheet: Any) -> None:
        sheet.append(["类别", "名称"])
        sheet.append(["生化", "钾"])
        sheet.append([None, "钠"])
        sheet.merge_cells("A2:A5")

    sheet = read_sheet(workbook(fill), "list.xlsx")
    assert texts(sheet)[1:] == [(2, ["生化", "钾"]), (3, ["生化", "钠"])]
    assert [row.cell(0).merged for row in sheet.rows] == [False, False, True]
    assert "A2:A5" in sheet.notices[0]


def test_what_a_cell_cannot_be_trusted_with_is_noted_on_it() -> None:
    def fill(sheet: Any) -> None:
        sheet.append(["=1+1", date(2026, 1, 7), 12345678901234567, "#N/A", "a"])
        sheet["D1"].data_type = "e"
        sheet.row_dimensions[1].hidden = True

    sheet = read_sheet(workbook(fill), "list.xlsx")
    formula, day, long, error, plain = sheet.rows[0].cells
    assert "formula" in formula.wrong
    assert "2026-01-07" in day.wrong
    assert "15 digits" in long.wrong
    assert "error of the spreadsheet" in error.wrong
    assert plain.wrong == ""
    assert "Hidden rows were read like the others: 1" in sheet.notices


def two_sheets(second: str) -> bytes:
    book = Workbook()
    book.active.title = "检验"
    book.active["A1"] = "编码"
    book.create_sheet(second)["A1"] = "编码"
    book.create_sheet("空")
    written = io.BytesIO()
    book.save(written)
    return written.getvalue()


def test_one_sheet_of_several_is_chosen_by_its_name() -> None:
    assert "choose one with --sheet: 检验, 检查" in refusal(two_sheets("检查"))
    assert read_sheet(two_sheets("检查"), "l.xlsx", sheet="检查").sheet == "检查"
    assert "has no sheet 影像; it has 检验, 检查, 空" in refusal(two_sheets("检查"), sheet="影像")
    assert read_sheet(two_sheets("填表说明"), "l.xlsx").sheet == "检验"
    assert "has no sheet x" in refusal(b"a,b", "l.csv", sheet="x")
    assert "no sheet with anything in it" in refusal(workbook(lambda sheet: None))


def zipped(parts: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return written.getvalue()


def with_part(content: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {one: archive.read(one) for one in archive.namelist()}
    return zipped(parts | {name: change(parts[name])})


PLAIN = workbook(lambda sheet: sheet.append(["编码"]))
SHEET = "xl/worksheets/sheet1.xml"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (zipped({"xl/workbook.xml": b"<a>" + b" " * 50_000_000}), "unpacks to more than 40 MB"),
        (zipped({SHEET: b"<row/>" * (MOST_ROWS + 1)}), "more than 20000 rows"),
        (zipped({SHEET: b"<x:c r='A1'/>" * 400_001}), "400000 cells"),
        (zipped({f"xl/{n}.xml": b"<a/>" for n in range(1_001)}), "unpacks to more"),
        (PLAIN[:200], "damaged workbook"),
        (zipped({"word/document.xml": b"<a/>"}), "cannot be read as a workbook"),
        (zipped({"readme.txt": b"no workbook"}), "cannot be read as a workbook"),
        (b"\xd0\xcf\x11\xe0 old", "old .xls file or has a password"),
        (b"x" * (MOST_BYTES + 1), "larger than 10 MB"),
        (
            with_part(PLAIN, SHEET, lambda xml: b'<!DOCTYPE a [<!ENTITY b "c">]>' + xml),
            "no part of a plain workbook",
        ),
        (
            with_part(PLAIN, SHEET, lambda xml: xml.decode().encode("utf-16")),
            "no part of a plain workbook",
        ),
        (with_part(PLAIN, SHEET, lambda xml: xml[:-20]), "cannot be read as a workbook"),
    ],
)
def test_a_file_that_is_no_list_is_refused_before_it_costs_anything(
    content: bytes, said: str
) -> None:
    assert said in refusal(content)


def test_a_part_that_gives_more_than_it_declares_is_refused() -> None:
    bomb = bytearray(zipped({SHEET: b"<c>" * 1_000_000}))
    place = bomb.rindex(b"PK\x01\x02") + 24  # uncompressed size in the central directory
    bomb[place : place + 4] = struct.pack("<I", 10)
    assert "list.xlsx: " in refusal(bytes(bomb))


def test_a_format_in_the_last_cell_of_the_grid_costs_nothing_and_a_text_there_is_refused() -> None:
    def formatted(sheet: Any) -> None:
        sheet.append(["编码"])
        sheet["XFD1048576"].number_format = "0"

    def written(sheet: Any) -> None:
        formatted(sheet)
        sheet["XFD1048576"] = "x"

    assert texts(read_sheet(workbook(formatted), "l.xlsx")) == [(1, ["编码"])]
    assert "reaches to row 1048576 and column 16384" in refusal(workbook(written))


def merging(reference: bytes) -> bytes:
    merged = b'</sheetData><mergeCells><mergeCell ref="' + reference + b'"/></mergeCells>'
    return with_part(PLAIN, SHEET, lambda xml: xml.replace(b"</sheetData>", merged))


def test_merged_cells_are_counted_before_they_are_made() -> None:
    assert texts(read_sheet(merging(b"A1:C1"), "l.xlsx")) == [(1, ["编码", "编码", "编码"])]
    assert "400000 cells" in refusal(merging(b"A1:XFD1048576"))
    assert "merged cells that cannot be read" in refusal(merging(b"A1"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'a,"b\nc', "is no CSV"),
        (b"a\n" * (MOST_ROWS + 1), "more than 20000 rows"),
        (b"," * (MOST_COLUMNS + 1) + b"x", "more than 200 columns"),
        (b"a\x00b,c", "neither CSV nor a workbook"),
        (b"\xff\xff\xff\xff", "is not gb18030"),
    ],
)
def test_what_is_no_csv_is_refused(content: bytes, said: str) -> None:
    assert said in refusal(content, "list.csv")


def test_columns_are_named_as_spreadsheets_do() -> None:
    assert [letter(n) for n in (0, 25, 26, 51, 52, 701, 702)] == [
        "A", "Z", "AA", "AZ", "BA", "ZZ", "AAA",
    ]  # fmt: skip


@settings(max_examples=examples(200))
@given(st.text(st.sampled_from("'=+-@\t\ra1钾"), max_size=6))
def test_no_text_becomes_a_formula_and_every_text_comes_back(text: str) -> None:
    written = guarded(text)
    assert not written.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert unguarded(written) == text


@settings(max_examples=examples(60))
@given(st.binary(max_size=300), st.sampled_from([b"", b"PK\x03\x04", b"\xd0\xcf\x11\xe0"]))
def test_no_bytes_are_worse_than_a_refusal(content: bytes, magic: bytes) -> None:
    with contextlib.suppress(Unprocessable):
        read_sheet(magic + content, "x")
