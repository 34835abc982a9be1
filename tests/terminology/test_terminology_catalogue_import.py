"""Official lists: columns found, words read, faults by row and column, CSV there and back."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import load_workbook

from fhir_gateway.errors import Unprocessable
from fhir_gateway.terminology.catalogue import Catalogue, Item, Kind, load_catalogue
from fhir_gateway.terminology.catalogue_columns import find_header
from fhir_gateway.terminology.catalogue_export import as_csv, as_xlsx, package_version
from fhir_gateway.terminology.catalogue_import import Reading, read_entries
from fhir_gateway.terminology.edition import Edition, editions_of
from fhir_gateway.terminology.sheet import read_sheet

CATALOGUE = load_catalogue(Path(__file__).parents[2] / "terminology")


def reading(text: str | bytes, kind: Kind = "lab", **given: str) -> Reading:
    content = text if isinstance(text, bytes) else text.encode()
    sheet = read_sheet(content, "list.csv")
    return read_entries(sheet, find_header(sheet, kind, given), kind, name="hb", edition="1")


def item(text: str, kind: Kind = "lab") -> Item:
    found = reading(text, kind)
    found.check()
    (entry,) = found.entries
    return entry.item


def faults(text: str | bytes, kind: Kind = "lab", **given: str) -> list[str]:
    with pytest.raises(Unprocessable) as caught:
        reading(text, kind, **given).check()
    return [issue.diagnostics for issue in caught.value.issues]


@pytest.mark.parametrize(
    "header",
    [
        "编码,名称,类别,互认时限",
        "项目代码,项目名称,专业类别,互认时限（天）",
        "互认项目编码,检验项目,分类, 互认 期限*",
        "code,name_zh,class,validity_days",
        "CODE,Name,Category,Window",
    ],
)
def test_columns_are_known_by_their_usual_names(header: str) -> None:
    found = item(f"{header}\nA1,钾,生化,7天\n")
    assert (found.code, found.name_zh, found.item_class) == ("A1", "钾", "生化")
    assert (found.validity_days, found.validity_source) == (7, "published:hb")
    assert found.system.endswith("/CodeSystem/hb")


def test_a_title_before_the_header_is_no_header_and_other_columns_are_told() -> None:
    found = reading("某市互认目录\n2027年版\n\n序号,编码,名称,级别\n1,A1,钾,省级\n")
    assert [entry.item.code for entry in found.entries] == ["A1"]
    assert found.header.shown() == [
        "code: column B 编码", "name_zh: column C 名称", "not read: 序号, 级别",
    ]  # fmt: skip


def test_a_person_says_which_column_is_what() -> None:
    found = reading("号,甲,名称\nA1,钾,说明\n", code="号", name_zh="甲")
    assert found.entries[0].item.name_zh == "钾"
    assert faults("编码,名称\nA1,钾\n", specimen="样品") == [
        "list.csv, row 1: there is no column 样品: 编码, 名称"
    ]
    assert faults("编码,名称\nA1,钾\n", colour="x")[0].startswith("colour: no column of a list")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the first row reads: nothing"),
        ("甲,乙\n1,2\n", "--map name_zh=… --map code=…; the first row reads: 甲, 乙"),
        ("序号,名称,类别\n1,钾,生化\n", "running numbers (序号) are codes only when they do"),
        ("编码,名称,项目名称\nA,b,c\n", "B 名称 and C 项目名称 could both be name_zh"),
        ("编码,名称\n", "there is no item below the column names"),
    ],
)
def test_a_header_that_leaves_doubt_is_told(text: str, said: str) -> None:
    assert said in faults(text)[0]


@pytest.mark.parametrize(
    ("window", "days"),
    [
        ("7", 7), ("7天", 7), ("30 日", 30), ("１４天", 14), ("2周", 14), ("72小时", 3),
        ("1个月", 30),
        ("3月", 90), ("1年", 365), ("", 0), ("不限", 0), ("—", 0), ("30days", 30),
    ],
)  # fmt: skip
def test_windows_are_read_as_days(window: str, days: int) -> None:
    assert item(f"编码,名称,互认时限\nA1,钾,{window}\n").validity_days == days


@pytest.mark.parametrize(
    "window", ["两周左右", "36小时", "0", "-7", "7.5", "99999年", "7天(急诊除外)"]
)
def test_a_window_that_is_none_is_told_by_its_place(window: str) -> None:
    (said,) = faults(f"编码,名称,互认时限\nA1,钾,{window}\n")
    assert said.startswith("list.csv, row 2, column C (互认时限): ")


def test_words_of_examinations_are_read_in_ours() -> None:
    found = item(
        "编码,名称,检查类型,部位,扫描方式,侧别\nX,膝MRI,核磁共振,膝关节,平扫 + 增强,单侧\n",
        "imaging",
    )
    assert (found.modality, found.contrast, found.laterality) == ("MR", "without-with", "R/L")
    assert item("编码,名称,检查类型\nX,心电图,心电\n", "imaging").modality == "心电"
    (said,) = faults("编码,名称,增强方式\nX,某CT,延迟\n", "imaging")
    assert "column C (增强方式): 延迟 is not known; known are none, 平扫" in said


def test_a_unit_is_read_and_an_unknown_one_is_told_and_kept() -> None:
    assert item("编码,名称,单位\nA1,钾,mmol/l\n").ucum_unit == "mmol/L"
    found = reading("编码,名称,单位\nA1,钾,勺\n")
    assert found.entries[0].item.ucum_unit == "勺"
    assert "row 2, column C: the unit 勺 is not known" in found.notices[0]


def test_every_fault_is_told_at_once_by_row_and_column() -> None:
    text = (
        "编码,名称,LOINC,互认时限,停用日期\n"
        "A1,钾,2823-3,7,\n"
        "A1,钠,,7,\n"
        ",氯,,7,\n"
        "A3,,,7,\n"
        "A 4,钙,x,soon,2026-13-01\n"
        "group:5,镁,,7,\n"
        "A6,磷\ufffd,,7,\n"
    )
    places = [said.partition(": ")[0].removeprefix("list.csv, ") for said in faults(text)]
    assert places == [
        "row 3, column A (编码)",
        "row 4, column A (编码)",
        "row 5, column B (名称)",
        "row 6, column A (编码)",
        "row 6, column C (LOINC)",
        "row 6, column E (停用日期)",
        "row 6, column D (互认时限)",
        "row 7, column A (编码)",
        "row 8, column B (名称)",
    ]


def test_remarks_and_blank_rows_are_left_out_and_told() -> None:
    found = reading("编码,名称,类别\n\nA1,钾,生化\n,,\n注：自发布之日起执行,,\n备注,,\n")
    assert [entry.row for entry in found.entries] == [3]
    assert [note.partition(" is a remark")[0] for note in found.notices] == [
        "list.csv, row 5", "list.csv, row 6",
    ]  # fmt: skip
    (said,) = faults("编码,名称,类别\nA1,钾,生化\n,,二、免疫\n")[:1]
    assert "row 3, column B (名称): the item has no name" in said


def test_the_same_name_twice_is_told_and_no_fault() -> None:
    found = reading("编码,名称\nA1,钾\nA2,钾\n")
    assert len(found.entries) == 2
    assert found.notices == ["list.csv, row 3: 钾 stands in row 2 with the code A1 too"]


def test_a_loinc_code_is_exact_where_the_list_has_it_once() -> None:
    found = reading("编码,名称,LOINC\nA1,钾,2823-3\nA2,钠,2951-2\nA3,钠2,2951-2\nA4,氯,\n")
    assert [entry.item.loinc_relation for entry in found.entries] == [
        "exact", "broader", "broader", "none",
    ]  # fmt: skip


CELLS = st.text(st.sampled_from("A1 钾,;=+-@'7天月小时注：\t\n\"|/（平扫）"), max_size=8)


@settings(max_examples=examples(150))
@given(
    st.lists(st.lists(CELLS, min_size=6, max_size=6), max_size=6),
    st.sampled_from(["lab", "imaging"]),
)
def test_whatever_stands_in_the_cells_is_an_item_or_a_fault_by_row(
    rows: list[list[str]], kind: Kind
) -> None:
    written = io.StringIO()
    table = csv.writer(written)
    table.writerow(["编码", "名称", "互认时限", "单位", "扫描方式", "item"])
    table.writerows(rows)
    found = reading(written.getvalue(), kind)
    for issue in found.issues:
        assert issue.diagnostics.startswith("list.csv")
    codes = [entry.item.code for entry in found.entries]
    assert found.issues or len(set(codes)) == len(codes)
    for entry in found.entries:
        assert entry.item.name_zh
        assert " " not in entry.item.code


# -- there and back --------------------------------------------------------------------------------


def read_back(content: bytes, kind: Kind, name: str, edition: str) -> Edition:
    sheet = read_sheet(content, "list")
    found = read_entries(sheet, find_header(sheet, kind), kind, name=name, edition=edition)
    found.check()
    items: Mapping[str, Item] = {entry.item.code: entry.item for entry in found.entries}
    return Edition(
        name=name, kind=kind, edition=edition, effective="2027-01-01",
        items={code: one for code, one in items.items() if not one.retired},
        retired={code: one for code, one in items.items() if one.retired},
    )  # fmt: skip


@pytest.mark.parametrize("write", [as_csv, as_xlsx])
@pytest.mark.parametrize("kind", ["lab", "imaging"])
def test_what_is_written_is_read_back_the_same(kind: Kind, write: object) -> None:
    edition = next(one for one in editions_of(CATALOGUE) if one.kind == kind)
    written = write(edition, {})  # type: ignore[operator]
    again = read_back(written, kind, edition.name, edition.edition)
    assert len(again.items) == len(edition.items)
    assert as_csv(again, {}) == as_csv(edition, {})
    assert write(again, {}) == written or write is as_xlsx  # type: ignore[operator]


def hostile(catalogue: Catalogue) -> Edition:
    fields = {"kind": "lab", "name_en": "-1+1", "edition": "1", "retired": ""}
    items = [
        Item(code="=A1", name_zh="=cmd|' /C calc'!A0", **fields),  # type: ignore[arg-type]
        Item(code="'@x", name_zh='+钾,"钠"', **fields),  # type: ignore[arg-type]
        Item(code="00012", name_zh="1-7", **(fields | {"retired": "2027-01-01"})),  # type: ignore[arg-type]
    ]
    return Edition(
        name="hb", kind="lab", edition="1", effective="2027-01-01", publisher="=x",
        items={one.code: one for one in items[:2]}, retired={"00012": items[2]},
    )  # fmt: skip


def test_no_cell_that_leaves_is_a_formula_and_each_comes_back() -> None:
    edition = hostile(CATALOGUE)
    for line in as_csv(edition, {}).decode("utf-8-sig").splitlines():
        assert not line.startswith(("=", "+", "-", "@"))
    book = load_workbook(io.BytesIO(as_xlsx(edition, {})))
    for sheet in book.worksheets:
        cells = [cell for row in sheet.iter_rows() for cell in row if cell.value is not None]
        assert {cell.data_type for cell in cells} == {"s"}
        assert not any(str(cell.value).startswith(("=", "+", "-", "@")) for cell in cells)
    for write in (as_csv, as_xlsx):
        again = read_back(write(edition, {}), "lab", "hb", "1")
        assert list(again.all_items()) == ["=A1", "'@x", "00012"]
        assert again.items["=A1"].name_zh == "=cmd|' /C calc'!A0"
        assert again.retired["00012"].name_zh == "1-7"


def test_a_workbook_is_for_people_and_always_the_same_bytes() -> None:
    edition = editions_of(CATALOGUE)[0]
    written = as_xlsx(edition, {})
    assert written == as_xlsx(edition, {})
    book = load_workbook(io.BytesIO(written))
    sheet = book.worksheets[0]
    assert (sheet.freeze_panes, sheet["A1"].value, sheet["B1"].value) == ("C2", "编码", "名称")
    assert sheet.auto_filter.ref
    assert any("LOINC" in str(row[1].value) for row in book["说明"].iter_rows())
    with zipfile.ZipFile(io.BytesIO(written)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_the_day_of_an_edition_is_the_version_of_its_package() -> None:
    assert package_version("2026-11-01") == "2026.11.1"
