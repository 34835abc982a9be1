"""Column maps and rows: every fault of a map is named, and rows say what equal messages say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from mapping_cases import MAPPINGS, SECOND, mapped, only

from fhir_gateway.errors import GatewayError
from fhir_gateway.mapping.tabular import Taken, map_group
from fhir_gateway.mapping.tabular_fields import FIELDS, KEYS, PLACES, REQUIRED, STUDY
from fhir_gateway.mapping.tabular_map import TableMap, read_map
from fhir_gateway.mapping.tabular_read import MAX_CELL, Record, check_code_page, records
from fhir_gateway.mapping.tabular_rows import MAX_ROWS, Group, key_of, mark_of, takes
from fhir_gateway.mapping.tabular_times import format_fault, read_declared
from fhir_gateway.mapping.v2 import parse
from fhir_gateway.mapping.v2_order import map_order

EXAMPLES = sorted((Path(MAPPINGS) / "tabular").glob("*.toml"))
HEADER = "MSH|^~\\&|LIS|S2|GW|CITY|||{kind}|1|P|2.5.1||||||UNICODE UTF-8"
PERSON = "PID|1||700123^^^S2^PI||张示一||19580312|M|||||||||||119900195803120010"
WHO = """
"patient.number" = "a"
"patient.name" = "b"
"patient.birth_date" = "c"
"patient.sex" = "d"
"patient.document" = "e"
"""
WHO_CELLS = "700123,张示一,1958/3/12,M,119900195803120010"


def table(folder: Path, text: str) -> TableMap:
    path = folder / "map.toml"
    path.write_text(text, encoding="utf-8")
    return read_map(path, mappings=MAPPINGS)


def rows(named: TableMap, text: str) -> list[Record]:
    lines = iter(text.encode("utf-8").splitlines(keepends=True))
    return list(records(lines, named, "utf-8"))


def taken(named: TableMap, text: str) -> Taken:
    found = rows(named, text)
    assert [one.fault for one in found] == [""] * len(found)
    return map_group(named, Group(key_of(named, found[0]), found), SECOND, mappings=MAPPINGS)


def bare(resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(resources, key=lambda one: (one["resourceType"], one["id"]))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_can_be_used(path: Path) -> None:
    named = read_map(path, mappings=MAPPINGS)
    assert named.columns.keys() <= FIELDS[named.kind]


def test_every_field_has_a_place_and_every_needed_field_is_one() -> None:
    for kind, fields in FIELDS.items():
        assert {name for choice in REQUIRED[kind] for name in choice} <= fields
        assert set(KEYS[kind]) <= fields
    assert STUDY.keys() <= FIELDS["studies"]
    for fields in FIELDS.values():
        places = [PLACES[name] for name in fields if name in PLACES and "note" not in name]
        assert len(set(places)) == len(places)


def test_every_fault_of_a_map_is_told_at_once(tmp_path: Path) -> None:
    text = """
kind = "results"
code_page = "EBCDIC"
delimiter = ";;"
header = "yes"
colour = "red"
[columns]
"result.cod" = "A"
"report.number" = "B"
[constants]
"report.number" = "1"
[values."result.flag"]
"H" = 1
[times]
"report.number" = "%Y"
"report.issued" = "%d/%m"
[[filter]]
column = "X"
"""
    with pytest.raises(GatewayError) as refused:
        table(tmp_path, text)
    told = "\n".join(issue.diagnostics for issue in refused.value.issues)
    for part in (
        "institution: name", "code_page: this character set", "delimiter: this is one sign",
        "header: this must be a true or false", "colour: no setting",
        "result.cod: this is no field of results; result.code is", "the field has a column too",
        "result.value is missing", "result.status is missing", "patient.number or patient.document",
        "values, result.flag", "times, report.number", "filter 1",
    ):  # fmt: skip
        assert part in told


def test_a_map_that_is_no_toml_or_not_there_is_refused(tmp_path: Path) -> None:
    for text in ("a = ", "\x00"):
        with pytest.raises(GatewayError):
            table(tmp_path, text)
    with pytest.raises(GatewayError):
        read_map(tmp_path / "none.toml", mappings=MAPPINGS)


RESULTS = f"""
institution = "second"
kind = "results"
code_page = "UTF-8"
[columns]{WHO}
"report.number" = "f"
"report.code" = "g"
"result.code" = "h"
"result.name" = "i"
"result.value" = "j"
"result.unit" = "k"
"result.low" = "l"
"result.high" = "m"
"result.flag" = "n"
"result.status" = "o"
"specimen.name" = "p"
"report.collected" = "q"
"report.doctor" = "r"
"result.note" = "s"
[constants]
"report.status" = "F"
"""
_COLUMNS = ",".join("abcdefghijklmnopqrs") + "\n"

#: cells h to o of a row, and the OBX that says the same.
VALUES = [
    ("ALT,丙氨酸氨基转移酶,32,U/L,9,50,,F", "OBX|1||ALT^丙氨酸氨基转移酶||32|U/L|9--50||||F"),
    ("CRP,C反应蛋白,＜0.05,mg/L,,10,,F", "OBX|1||CRP^C反应蛋白||＜0.05|mg/L|<=10||||F"),
    ("WBC,白细胞,5.60,×10^9/L,3.5,9.5,,C", "OBX|1||WBC^白细胞||5.60|×10^9/L|3.5--9.5||||C"),
    ("HBS,乙肝表面抗原,阴性（-）,,,,,F", "OBX|1||HBS^乙肝表面抗原||阴性（-）||||||F"),
    ("ANA,抗核抗体,1:80,,,,↑,P", "OBX|1||ANA^抗核抗体||1:80|||↑|||P"),
    ("K,钾,5.9↑,mmol/L,3.5,5.3,,F", "OBX|1||K^钾||5.9↑|mmol/L|3.5--5.3||||F"),
    ("UBI,镜检白细胞,3,个/HP,0,5,N,F", "OBX|1||UBI^镜检白细胞||3|个/HP|0--5|N|||F"),
    ("X,撤销,,,,,,D", "OBX|1||X^撤销||||||||D"),
]


@pytest.mark.parametrize(("cells", "obx"), VALUES, ids=[cells.split(",")[0] for cells, _ in VALUES])
def test_a_row_says_what_the_message_says(tmp_path: Path, cells: str, obx: str) -> None:
    named = table(tmp_path, RESULTS)
    found = taken(named, f"{_COLUMNS}{WHO_CELLS},R1,SH,{cells},血清,2026-11-18 08:12,王五,复查\n")
    order = "OBR|1||R1|SH|||20261118081200||||||||^血清".replace("^血清", "&血清") + (
        "|" * 10 + "F|||||||&王五"
    )
    expected = mapped(HEADER.format(kind="ORU^R01"), PERSON, order, obx, "NTE|1||复查")
    assert bare(found.mapped.resources) == bare(expected.resources)
    assert found.mapped.reports == expected.reports


def test_an_imaging_report_is_one_row(tmp_path: Path) -> None:
    named = table(tmp_path, f'''
institution = "second"
kind = "reports"
code_page = "UTF-8"
delimiter = "|"
[columns]{WHO}
"report.number" = "f"
"report.code" = "g"
"report.name" = "h"
"report.status" = "i"
"report.findings" = "j"
"report.conclusion" = "k"
[constants]
"report.section" = "CT"
''')  # fmt: skip
    text = "|".join("abcdefghijk") + "\n" + WHO_CELLS.replace(",", "|")
    found = taken(named, text + '|R7|XCT|胸部CT平扫|F|"双肺纹理清晰，\n未见结节"|未见异常\n')
    expected = mapped(
        HEADER.format(kind="ORU^R01"), PERSON, "OBR|1||R7|XCT^胸部CT平扫" + "|" * 20 + "CT|F",
        "OBX|1|TX|GDT^检查所见||双肺纹理清晰，\\.br\\未见结节||||||F",
        "OBX|2|TX|IMP^检查结论||未见异常||||||F",
    )  # fmt: skip
    assert bare(found.mapped.resources) == bare(expected.resources)
    assert only(found.mapped.resources, "DiagnosticReport")["conclusion"] == "未见异常"


def test_an_order_is_the_message_s_order(tmp_path: Path) -> None:
    named = table(tmp_path, f'''
institution = "second"
kind = "orders"
format = "ndjson"
[columns]{WHO}
"order.number" = "order.no"
"order.code" = "order.code"
"order.status" = "state"
"order.stated" = "at"
"order.doctor" = "doctor"
[values."order.status"]
"已撤销" = "CA"
''')  # fmt: skip
    who = '"a":"700123","b":"张示一","c":"1958-03-12","d":"M","e":"119900195803120010"'
    found = taken(named, f'{{{who},"order":{{"no":17,"code":"SH"}},"state":"已撤销",'
                         '"at":"2026-11-18 08:00:00","doctor":"李四","more":[1]}\n')  # fmt: skip
    lines = [HEADER.format(kind="ORM^O01"), PERSON, "ORC|SR||||CA||||20261118080000",
             "OBR|1|17||SH" + "|" * 12 + "^李四"]  # fmt: skip
    message = parse("\r".join(lines).encode(), default_charset="UTF-8", folder=f"{MAPPINGS}/v2")
    expected = map_order(message, SECOND, folder=f"{MAPPINGS}/v2")
    assert bare(found.mapped.resources) == bare(expected.resources)
    assert only(found.mapped.resources, "ServiceRequest")["status"] == "revoked"


STUDIES = f"""
institution = "second"
kind = "studies"
code_page = "UTF-8"
[columns]{WHO}
"study.uid" = "f"
"study.date" = "g"
"study.accession" = "h"
"study.code" = "i"
"series.uid" = "j"
"series.modality" = "k"
"series.instances" = "l"
"series.body_part" = "m"
"""
_STUDY = ",".join("abcdefghijklm") + "\n"


def test_a_study_has_the_series_of_its_rows(tmp_path: Path) -> None:
    text = _STUDY + "".join(
        f"{WHO_CELLS},1.2.3,2026-11-18 08:00:00,A1,XCT,1.2.3.{n},CT,{n}0,CHEST\n" for n in (1, 2)
    )
    found = taken(table(tmp_path, STUDIES), text)
    assert found.study is not None
    assert (found.study["numberOfSeries"], found.study["numberOfInstances"]) == (2, 30)
    assert [one["uid"] for one in found.study["series"]] == ["1.2.3.1", "1.2.3.2"]
    assert found.study["started"] == "2026-11-18T08:00:00+08:00"
    assert found.study["series"][0]["bodySite"]["system"] == "http://snomed.info/sct"
    patient = only(found.mapped.resources, "Patient")
    assert found.study["subject"] == {"reference": f"Patient/{patient['id']}"}


def test_a_study_without_a_number_names_its_column(tmp_path: Path) -> None:
    text = f"{_STUDY}{WHO_CELLS},x.y,2026-11-18,A1,XCT,1.2,CT,1,CHEST\n"
    with pytest.raises(GatewayError) as refused:
        taken(table(tmp_path, STUDIES), text)
    assert refused.value.issues[0].expression == "line 2, column f"


def test_rows_of_one_report_that_differ_are_refused_by_column(tmp_path: Path) -> None:
    row = f"{WHO_CELLS},R1,SH,A,甲,1,g,,,,F,血清,2026-11-18,王五,\n"
    with pytest.raises(GatewayError) as refused:
        taken(table(tmp_path, RESULTS), _COLUMNS + row + row.replace("王五", "赵六"))
    (issue,) = refused.value.issues
    assert (issue.expression, issue.rule) == ("line 3, column r", "table-group")


def test_a_formula_is_a_text_and_a_separator_of_v2_too(tmp_path: Path) -> None:
    text = '=HYPERLINK("x")|^~\\&'
    cell = '"' + text.replace('"', '""') + '"'
    row = f"{WHO_CELLS},R1,SH,A,甲,{cell},,,,,F,血清,2026-11-18,王五,\n"
    found = taken(table(tmp_path, RESULTS), _COLUMNS + row)
    assert only(found.mapped.resources, "Observation")["valueString"] == text


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("1,2", "the row has 2 cells, the header 19"),
        ("x" * (MAX_CELL + 1) + "," * 18, f"a cell has more than {MAX_CELL} characters"),
        ("a\x01" + "," * 18, "the line holds control characters"),
        ('"a' + "," * 18, "unexpected end of data"),
    ],
    ids=["cells", "length", "control", "quote"],
)
def test_a_row_that_cannot_be_read_damages_no_other(tmp_path: Path, row: str, fault: str) -> None:
    good = f"{WHO_CELLS},R1,SH,A,甲,1,g,,,,F,血清,2026-11-18,王五,\n"
    found = rows(table(tmp_path, RESULTS), f"{_COLUMNS}{good}{row}\n{good}")
    assert [(one.line, one.fault) for one in found] == [(2, ""), (3, fault), (4, "")]


@pytest.mark.parametrize(
    "line",
    ["[1]", "{", '{"a":1,"a":2}', '{"a":NaN}', '{"a":"\\ud800"}', '{"a":"\\u0000"}', '{"a":[1]}',
     "[" * 100_000],
)  # fmt: skip
def test_a_line_that_is_no_object_of_texts_is_a_fault(tmp_path: Path, line: str) -> None:
    named = table(tmp_path, RESULTS.replace('kind = "results"', 'kind="results"\nformat="ndjson"'))
    found = rows(named, f'{line}\n{{"a":1.50}}\n')
    assert bool(found[0].fault) and found[1].cells == {"a": "1.50"}


def test_filters_and_tables_without_header(tmp_path: Path) -> None:
    named = table(tmp_path, '''
institution = "second"
kind = "patients"
code_page = "UTF-8"
header = false
[columns]
"patient.number" = "1"
"patient.name" = "2"
"patient.health_card" = "3"
[[filter]]
column = "4"
only = ["在用"]
''')  # fmt: skip
    found = rows(named, "7,张示一,HC7,在用\n8,李示二,HC8,停用\n")
    assert [takes(named, one) for one in found] == [True, False]
    group = Group(("7",), found[:1])
    (patient,) = map_group(named, group, SECOND, mappings=MAPPINGS).mapped.resources
    assert [one["value"] for one in patient["identifier"]] == ["7", "HC7"]


def test_declared_times_are_read_by_their_spelling_alone() -> None:
    assert read_declared("3/4/2026 08:05", ["%d/%m/%Y %H:%M"]) == "2026-04-03 08:05:00"
    assert read_declared("03/04/2026", ["%d/%m/%Y", "%m/%d/%Y"]) is None  # two moments
    assert read_declared("04/04/2026", ["%d/%m/%Y", "%m/%d/%Y"]) == "2026-04-04"
    assert read_declared("2026111", ["%Y%m%d"]) is None
    assert read_declared("30/02/2026", ["%d/%m/%Y"]) is None
    for wrong in ("%y%m%d", "%d/%m", "%Y%m%d%H", "%Y%Y%m%d", "%Y%m%d%j"):
        assert format_fault(wrong)
    assert format_fault("%Y年%m月%d日 %H:%M:%S") == ""


def test_watermarks_sort_as_they_count(tmp_path: Path) -> None:
    times = table(tmp_path, RESULTS.replace("[columns]", 'watermark = "s"\n[columns]', 1))
    numbers = table(
        tmp_path,
        RESULTS.replace("[columns]", 'watermark = "s"\nwatermark_kind = "number"\n[columns]', 1),
    )

    def marks(named: TableMap, *texts: str) -> list[str | None]:
        return [mark_of(named, Record(1, b"", {"s": text}), SECOND.zone) for text in texts]

    for named, texts in (
        (times, ("2026-2-3", "2026/02/03 04:05", "20260203040501", "2026-11-01 00:00:00")),
        (numbers, ("7", "12", "100")),
    ):
        found = marks(named, *texts)
        assert None not in found and found == sorted(found, key=str)
    assert marks(times, "", "soon") == marks(numbers, "", "-1") == [None, None]


def test_a_key_that_says_too_little_is_refused(tmp_path: Path) -> None:
    row = f"{WHO_CELLS},R1,SH,A,甲,1,g,,,,F,血清,2026-11-18,王五,\n"
    with pytest.raises(GatewayError) as refused:
        taken(table(tmp_path, RESULTS), _COLUMNS + row * (MAX_ROWS + 1))
    assert refused.value.issues[0].rule == "table-rows"


def test_wrong_bytes_are_told_with_their_lines() -> None:
    good = "姓名,结果\n张示一,5\n".encode("gb18030").splitlines(keepends=True)
    check_code_page(good, "gb18030")
    with pytest.raises(GatewayError) as refused:
        check_code_page([*good, b"\xff\xff\n"], "gb18030")
    assert refused.value.issues[0].expression == "line 3"
    with pytest.raises(GatewayError, match="are utf-8"):
        check_code_page(["姓名,性别,出生日期,结果\n".encode()], "gb18030")
    with pytest.raises(GatewayError):
        check_code_page(good, "utf-8")


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(st.text(max_size=60), max_size=8), st.sampled_from(["csv", "ndjson"]))
def test_no_text_crashes_the_reading(parts: list[str], format: str) -> None:
    named = _FUZZED[format]
    text = _COLUMNS + "\n".join(parts) if format == "csv" else "\n".join(parts)
    raw = text.encode("utf-8", "surrogatepass")
    for record in records(iter(raw.splitlines(keepends=True)), named, "utf-8"):
        assert record.fault or record.cells
        if record.cells:
            try:
                map_group(named, Group(("k",), [record]), SECOND, mappings=MAPPINGS)
            except GatewayError as error:
                assert error.status < 500


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(st.text(max_size=12), min_size=14, max_size=14))
def test_no_cell_crashes_the_mapping(cells: list[str]) -> None:
    named = _FUZZED["csv"]
    said = dict(zip("abcdefghijklmnopqrs", [*WHO_CELLS.split(","), *cells], strict=True))
    clean = {name: "".join(c for c in text if c.isprintable()) for name, text in said.items()}
    try:
        found = map_group(named, Group(("k",), [Record(2, b"", clean)]), SECOND, mappings=MAPPINGS)
    except GatewayError as error:
        assert error.status < 500
        assert all((one.expression or "").startswith("line 2") for one in error.issues)
    else:
        assert found.mapped.resources


def _fuzzed(tmp: Path) -> dict[str, TableMap]:
    csv = table(tmp, RESULTS)
    json = table(tmp, RESULTS.replace('kind = "results"', 'kind="results"\nformat="ndjson"'))
    return {"csv": csv, "ndjson": json}


_FUZZED: dict[str, TableMap] = {}


@pytest.fixture(autouse=True, scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> None:
    _FUZZED.update(_fuzzed(tmp_path_factory.mktemp("maps")))
