"""The value tables of the terminology folder: what ships, and every way to break them."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

import pytest

from fhir_gateway.errors import Unprocessable
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.builtin import (
    builtin_concept_maps,
    builtin_systems,
    builtin_value_sets,
)
from fhir_gateway.terminology.service import Coding, Terminology
from fhir_gateway.terminology.specimen import _CLASSES
from fhir_gateway.terminology.translation import Translating
from fhir_gateway.terminology.value_set import load_vocabulary
from fhir_gateway.terminology.value_table import NO_TABLES, load_value_tables

FOLDER = Path(__file__).resolve().parents[2] / "terminology"
VOCABULARY = load_vocabulary(FOLDER)
KNOWN = Terminology(
    builtin_systems(VOCABULARY), builtin_value_sets(), builtin_concept_maps(VOCABULARY)
)
SEX = "urn:oid:2.16.156.10011.2.3.3.4"


@pytest.mark.parametrize(
    ("system", "code", "zh", "en"),
    [
        (SEX, "1", "男性", "Male"),
        ("urn:oid:2.16.156.10011.2.3.3.5", "10", "未婚", "Never married"),
        ("urn:oid:2.16.156.10011.2.3.3.3", "04", "藏族", "Tibetan"),
        ("urn:oid:2.16.156.10011.2.3.1.271", "2", "急诊", "Emergency"),
        ("urn:oid:2.16.156.10011.2.3.2.38", "2", "异常", "Abnormal"),
        (f"{CANONICAL}/CodeSystem/CV02.01.101", "03", "护照", "Passport"),
        (f"{CANONICAL}/CodeSystem/referral-direction", "2", "下转", "Down-referral"),
        (f"{CANONICAL}/CodeSystem/body-part", "CHEST", "胸部", "Chest"),
    ],
)
def test_national_tables(system: str, code: str, zh: str, en: str) -> None:
    assert KNOWN.lookup(system, code, language="zh-CN").display == zh
    assert KNOWN.lookup(system, code, language="en").display == en
    assert "not an official publication" in KNOWN.system(system).notice


def test_all_codes_of_a_table_are_a_value_set() -> None:
    assert {code for _, code in KNOWN.codes_of(f"{CANONICAL}/ValueSet/sex")} == set("0129")
    assert len(KNOWN.codes_of(f"{CANONICAL}/ValueSet/ethnic-group")) == 56


def test_hierarchy_of_a_table() -> None:
    marital = "urn:oid:2.16.156.10011.2.3.3.5"
    assert KNOWN.subsumed(marital, "20") == {"20", "21", "22", "23"}


def test_specimens_are_the_classes_that_are_compared() -> None:
    rows = {row.code: row.parents for row in VOCABULARY.tables.tables["specimen"].rows}
    assert rows == {name: ((parent,) if parent else ()) for name, (parent, _) in _CLASSES.items()}


def test_body_parts_of_the_catalogue_are_listed() -> None:
    listed = {row.code for row in VOCABULARY.tables.tables["body-part"].rows}
    used = {one.body_part_dicom for one in VOCABULARY.catalogue.items.values()} - {""}
    assert used <= listed


def test_every_map_leads_from_a_code_to_a_code_that_is_there() -> None:
    maps = VOCABULARY.tables.maps
    assert maps
    for row in maps:
        assert KNOWN.lookup(row.target, row.target_code)


@pytest.mark.parametrize(
    ("code", "gender"), [("0", "unknown"), ("1", "male"), ("2", "female"), ("9", "unknown")]
)
def test_sex_is_translated(code: str, gender: str) -> None:
    asked = Translating(target_system="http://hl7.org/fhir/administrative-gender")
    found = KNOWN.translate(Coding(SEX, code), asked)
    assert found.result
    assert gender in str(found)


# -- faults --------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of what ships, to break."""
    return Path(copytree(FOLDER, tmp_path / "terminology"))


def faults(folder: Path) -> list[str]:
    with pytest.raises(Unprocessable) as refused:
        load_value_tables(folder)
    return [issue.diagnostics for issue in refused.value.issues]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("tables.csv", "sex,system", "sex,table", "tables.csv, row 2, column kind: must be one of"),
        ("tables.csv", "sex,system", ",system", "row 2, column id"),
        ("tables.csv", "sex,system", "../sex,system", "row 2, column id"),
        ("tables.csv", "zh-CN,生理性别代码", "zh,生理性别代码", "row 2, column language"),
        ("tables.csv", SEX, "", "row 2, column url: the cell is empty"),
        ("tables.csv", "urn:oid:2.16.156.10011.2.3.3.5", SEX, "row 3, column url: a row above"),
        ("tables.csv", "marital-status,system", "sex,system", "row 3, column id"),
        ("tables/sex.csv", "1,男性", "0,男性", "sex.csv, row 3, column code: empty, or twice"),
        ("tables/sex.csv", "1,男性,Male", "1,,", "sex.csv, row 3, column name_zh: a code needs"),
        ("tables/sex.csv", "name_en", "english", "sex.csv, row 1, column name_en: the column is"),
        ("tables/marital-status.csv", "First marriage,20", "First marriage,99",
         "marital-status.csv, row 4, column parent: no row above"),
        ("table-maps.csv", "sex,1,", "sax,1,", "table-maps.csv, row 3, column source"),
        ("table-maps.csv", "sex,1,", "sex,7,", "row 3, column code: the table sex has no such"),
        ("table-maps.csv", "male,equivalent", "male,same", "row 3, column equivalence"),
        ("table-maps.csv", "male,equivalent", ",equivalent", "row 3, column target"),
    ],
)  # fmt: skip
def test_a_fault_is_told_by_file_row_and_column(
    folder: Path, file: str, old: str, new: str, told: str
) -> None:
    edit(folder / file, old, new)
    assert any(told in one for one in faults(folder)), faults(folder)


def test_all_faults_at_once(folder: Path) -> None:
    edit(folder / "tables/sex.csv", "1,男性", "0,男性")
    edit(folder / "tables/result.csv", "2,异常", "1,异常")
    (folder / "tables/patient-type.csv").unlink()
    told = faults(folder)
    assert any("sex.csv" in one for one in told)
    assert any("result.csv" in one for one in told)
    assert any("patient-type.csv: the file is missing" in one for one in told)


def test_a_site_without_tables_has_none(folder: Path) -> None:
    (folder / "tables.csv").unlink()
    assert load_value_tables(folder) is NO_TABLES
    assert load_vocabulary(folder).tables.systems == ()


def test_a_site_brings_its_own_table(folder: Path) -> None:
    with (folder / "tables.csv").open("a", encoding="utf-8") as file:
        file.write("ward,system,http://site.test/ward,2,en,病区,Wards,the site\n")
    rows = "code,name_zh,name_en,status,replaced_by\nW1,一病区,Ward 1,retired,W2\nW2,二病区,,,\n"
    (folder / "tables/ward.csv").write_text(rows, encoding="utf-8")
    known = Terminology(builtin_systems(load_vocabulary(folder)))
    old = known.lookup("http://site.test/ward", "W1", version="2")
    assert old.concept.inactive
    assert ("replacedBy", "W2") in [(one.code, one.value) for one in old.concept.properties]
    assert known.lookup("http://site.test/ward", "W2").display == "二病区"
