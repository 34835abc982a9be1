"""The catalogue, areas and grounds load from tables, and faults are told by file, row, column."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fhir_gateway.errors import GatewayError, Invalid, Unprocessable
from fhir_gateway.fhir.validate import issues
from fhir_gateway.fhir.wire import render
from fhir_gateway.security.institution import LEVELS, Institution
from fhir_gateway.terminology.area import load_areas
from fhir_gateway.terminology.catalogue import (
    IMAGING_SYSTEM,
    LAB_SYSTEM,
    SYSTEMS,
    Kind,
    group_code,
    item_code,
    load_catalogue,
    ordered_items,
)
from fhir_gateway.terminology.catalogue_resource import PANEL_SYSTEM, items_of
from fhir_gateway.terminology.coder import DATA_QUALITY, UNMAPPED_ITEM, UNMAPPED_ORDER
from fhir_gateway.terminology.reason import DATA_QUALITY_SYSTEM, load_reasons
from fhir_gateway.terminology.registry import problems
from fhir_gateway.terminology.value_set import load_vocabulary, terminology_resources

FOLDER = Path(__file__).parents[2] / "terminology"

Edit = Callable[[str, Callable[[str], str]], Path]


@pytest.fixture
def edited(tmp_path: Path) -> Edit:
    """A copy of the terminology folder with one file changed."""
    shutil.copytree(FOLDER, tmp_path / "terminology")

    def edit(name: str, change: Callable[[str], str]) -> Path:
        path = tmp_path / "terminology" / name
        path.write_text(change(path.read_text("utf-8")), "utf-8")
        return tmp_path / "terminology"

    return edit


def faults(load: Callable[[Path], object], folder: Path) -> list[str]:
    with pytest.raises(GatewayError) as caught:
        load(folder)
    return [issue.diagnostics for issue in caught.value.issues]


def test_items_are_found_by_their_own_system_only() -> None:
    catalogue = load_catalogue(FOLDER)
    lab, imaging = catalogue.of("lab")[0], catalogue.of("imaging")[0]
    assert catalogue.by_coding(LAB_SYSTEM, lab.code) == lab
    assert catalogue.by_coding(IMAGING_SYSTEM, imaging.code) == imaging
    assert catalogue.by_coding(IMAGING_SYSTEM, lab.code) is None
    assert catalogue.by_coding("http://loinc.org", lab.code) is None
    assert catalogue.by_coding(None, None) is None


def test_a_loinc_code_names_an_item_only_when_it_is_exact_and_alone() -> None:
    catalogue = load_catalogue(FOLDER)
    for code, item in catalogue.by_loinc.items():
        same = [other for other in catalogue.items.values() if other.loinc == code]
        assert (same, item.loinc_relation) == ([item], "exact")


def test_the_items_of_an_order_are_its_code_and_its_details_once() -> None:
    lab = {"coding": [{"system": "urn:x", "code": "9"}, {"system": LAB_SYSTEM, "code": "A"}]}
    other = {"coding": [{"system": LAB_SYSTEM, "code": "B"}]}
    assert item_code(lab) == "A"
    assert item_code({"text": "x"}) is None
    assert item_code(None) is None
    assert ordered_items({"code": lab, "orderDetail": [other, lab]}) == ["A", "B"]
    assert ordered_items({}) == []


def test_faults_of_the_catalogue_are_told_all_at_once(edited: Edit) -> None:
    def spoil(text: str) -> str:
        lines = text.splitlines()
        lines[2] = lines[2].replace("exact", "maybe").replace(",7,", ",soon,")
        lines.append(lines[1])
        return "\n".join(lines) + "\n"

    assert faults(load_catalogue, edited("lab-items.csv", spoil)) == [
        "lab-items.csv, row 3, column loinc_relation: must be one of broader, exact, none",
        "lab-items.csv, row 3, column validity_days: must be a number of days",
        "lab-items.csv, row 183, column code: the code stands twice in the catalogue",
    ]


def test_a_missing_column_and_extra_cells_are_told(edited: Edit) -> None:
    folder = edited("lab-items.csv", lambda text: text.replace("specimen", "sample", 1))
    assert faults(load_catalogue, folder) == [
        "lab-items.csv, row 1, column specimen: the column is missing"
    ]
    folder = edited("areas.csv", lambda text: text + "1,2,3,4,5\n")
    assert faults(load_areas, folder)[0].endswith("more cells than columns")


def test_another_charset_is_told_and_never_guessed(edited: Edit) -> None:
    folder = edited("reasons.csv", lambda text: text)
    (folder / "reasons.csv").write_bytes("code,name_zh\nN1,病情\n".encode("gb18030"))
    assert faults(load_reasons, folder) == ["reasons.csv: the file is not UTF-8"]


def test_an_edition_without_its_statement_is_refused(edited: Edit) -> None:
    folder = edited("catalogue.toml", lambda text: text.replace("statement", "remark"))
    with pytest.raises(Invalid, match="statement is missing"):
        load_catalogue(folder)


def test_a_site_may_bring_lists_of_any_size_and_code(edited: Edit) -> None:
    def own(text: str) -> str:
        header, first = text.splitlines()[:2]
        return f"{header}\n{first.replace('L001', 'BJ-0001', 1)}\n"

    edited("panels.csv", lambda text: text.splitlines()[0])
    catalogue = load_catalogue(edited("lab-items.csv", own))
    assert [item.code for item in catalogue.of("lab")] == ["BJ-0001"]


@pytest.mark.parametrize(
    ("mark", "receiver", "covers"),
    [
        ("CN", "110105", True),
        ("JJJ", "110105", True),
        ("JJJL", "120101", True),
        ("JJJ", "370000", False),
        ("110000", "110105", True),
        ("110105", "110105", True),
        ("110105", "110102", False),
        ("110105", "110000", False),
        ("120000", "110105", False),
        ("110105", "120101", False),
        ("130100", "130102", True),  # not listed: by its digits
        ("CN", "999999", None),
        ("武汉", "110105", None),
        ("", "110105", None),
    ],
)
def test_a_mark_covers_what_lies_in_its_area(mark: str, receiver: str, covers: bool | None) -> None:
    assert load_areas(FOLDER).covers(mark, receiver) is covers


def test_a_printed_mark_names_an_area_by_every_usual_name() -> None:
    areas = load_areas(FOLDER)
    names = ["全国HR", "京津冀HR", "北京市西城区HR", "北京HR", "北京市HR", "火星HR", ""]
    assert [areas.of_mark(name) for name in names] == [
        "CN", "JJJ", "110102", "110000", "110000", "", "",
    ]  # fmt: skip


def test_the_six_national_grounds_come_first_and_the_last_needs_words() -> None:
    reasons = load_reasons(FOLDER)
    national = [reason for reason in reasons.values() if reason.scope == "national"]
    assert [reason.code for reason in national] == ["N1", "N2", "N3", "N4", "N5", "N6"]
    assert [reason.code for reason in national if reason.text_required] == ["N6"]
    assert national[3].name_zh == "患者处于急诊、急救等紧急状态下的"
    assert any(not reason.counts_as_refusal for reason in reasons.values())


def test_served_resources_are_valid_and_the_same_every_time() -> None:
    resources = terminology_resources(load_vocabulary(FOLDER))
    assert [(r["id"], issues(r)) for r in resources if issues(r)] == []
    again = terminology_resources(load_vocabulary(FOLDER))
    assert [render(r) for r in resources] == [render(r) for r in again]


def test_the_catalogue_is_served_as_what_it_is() -> None:
    catalogue = load_catalogue(FOLDER)
    systems = {r["url"]: r for r in terminology_resources(load_vocabulary(FOLDER))}
    served = systems[LAB_SYSTEM]
    assert (served["status"], served["experimental"]) == ("draft", True)
    assert "not an official list" in served["description"]
    assert all(notice in served["copyright"] for notice in catalogue.notices)
    compose = systems[served["valueSet"]]["compose"]
    assert compose["include"][0]["system"] == LAB_SYSTEM
    assert compose["exclude"][0]["filter"][0]["property"] == "notSelectable"
    declared = {prop["code"] for prop in served["property"]}
    assert {p["code"] for c in concepts(served) for p in c["property"]} <= declared


def concepts(resource: dict[str, Any]) -> list[dict[str, Any]]:
    """All concepts, at all levels."""
    found: list[dict[str, Any]] = []
    waiting = list(resource["concept"])
    while waiting:
        concept = waiting.pop(0)
        found.append(concept)
        waiting += concept.get("concept", ())
    return found


@pytest.mark.parametrize(("url", "kind"), list(SYSTEMS.items()))
def test_items_lie_below_their_group_and_groups_are_no_items(url: str, kind: Kind) -> None:
    vocabulary = load_vocabulary(FOLDER)
    catalogue = vocabulary.catalogue
    served = next(r for r in terminology_resources(vocabulary) if r["url"] == url)
    assert served["hierarchyMeaning"] == "grouped-by"
    assert served["count"] == len(concepts(served))
    groups = {group["code"]: group for group in served["concept"]}
    assert len(groups) == len({item.group for item in catalogue.of(kind)})
    for code, group in groups.items():
        assert group["property"] == [{"code": "notSelectable", "valueBoolean": True}]
        assert catalogue.by_coding(url, code) is None
        assert item_code({"coding": [{"system": url, "code": code}]}) is None
    below = {item["code"]: code for code, group in groups.items() for item in group["concept"]}
    assert below == {item.code: group_code(item.group) for item in catalogue.of(kind)}


@pytest.mark.parametrize(("url", "kind"), list(SYSTEMS.items()))
def test_items_are_read_back_from_what_is_served(url: str, kind: Kind) -> None:
    vocabulary = load_vocabulary(FOLDER)
    served = next(r for r in terminology_resources(vocabulary) if r["url"] == url)
    assert items_of(served, kind) == {one.code: one for one in vocabulary.catalogue.of(kind)}


def test_panels_and_regions_are_properties_and_no_hierarchy() -> None:
    catalogue = load_catalogue(FOLDER)
    panel = next(iter(catalogue.panels.values()))
    assert panel.code in catalogue.panels_of[panel.items[0]]
    whole = next(item for item in catalogue.of("imaging") if item.body_part_zh == "胸腹盆")
    assert {"胸腹盆", "胸部", "腹部", "盆腔"} <= set(catalogue.covers(whole))
    chest = next(item for item in catalogue.of("imaging") if item.body_part_zh == "胸部")
    assert catalogue.covers(chest) == ("胸部",)
    systems = {r["url"]: r for r in terminology_resources(load_vocabulary(FOLDER))}
    by_code = {one["code"]: one for one in concepts(systems[IMAGING_SYSTEM])}
    covers = [p["valueString"] for p in by_code[whole.code]["property"] if p["code"] == "covers"]
    assert tuple(covers) == catalogue.covers(whole)
    assert "concept" not in by_code[whole.code]
    assert len(concepts(systems[PANEL_SYSTEM])) == len(catalogue.panels)


def test_a_retired_row_keeps_its_code_and_is_no_item_any_more(edited: Edit) -> None:
    def retire(text: str) -> str:
        header, first, *rest = text.splitlines()
        return "\n".join([f"{header},retired", f"{first},2027-01-01", *(f"{r}," for r in rest)])

    folder = edited("lab-items.csv", retire)
    catalogue = load_catalogue(folder)
    assert "L001" not in catalogue.items
    assert catalogue.retired["L001"].retired == "2027-01-01"
    served = next(
        r for r in terminology_resources(load_vocabulary(folder)) if r["url"] == LAB_SYSTEM
    )
    concept = next(one for one in concepts(served) if one["code"] == "L001")
    properties = {p["code"]: p for p in concept["property"]}
    assert properties["inactive"]["valueBoolean"] is True
    assert properties["status"]["valueCode"] == "retired"
    assert properties["deprecationDate"]["valueDateTime"] == "2027-01-01"
    assert items_of(served, "lab")["L001"] == catalogue.retired["L001"]
    assert issues(served) == []


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("lab-items.csv", ("L001,", "group:x,"), "row 2, column code: group: begins the codes"),
        ("panels.csv", ("L058;", "L999;"), "row 2, column items: L999: not in the tables"),
        ("panels.csv", ("liver-function,", "blood-count,"), "row 3, column code: the panel stan"),
        ("regions.csv", ("盆腔,", "胸腹盆,"), "row 2, column covers: 胸腹盆 would cover itself"),
        ("groups.csv", ("lab,", "labs,"), "row 2, column kind: must be lab or imaging"),
        ("catalogue.toml", ('"2026-11-01"  #', '"soon"  #'), "effective must be a day"),
    ],
)
def test_faults_beside_the_items_are_told(
    edited: Edit, name: str, change: tuple[str, str], fault: str
) -> None:
    told = faults(load_catalogue, edited(name, lambda text: text.replace(*change, 1)))
    assert fault in told[0]


def test_the_notices_of_the_readme_are_those_that_are_served() -> None:
    text = " ".join((FOLDER / "README.md").read_text("utf-8").split())
    for notice in load_catalogue(FOLDER).notices:
        assert " ".join(notice.split()) in text


def test_the_flags_that_are_set_are_those_that_are_defined() -> None:
    assert DATA_QUALITY == DATA_QUALITY_SYSTEM
    assert {UNMAPPED_ITEM, UNMAPPED_ORDER} <= set(load_vocabulary(FOLDER).flags)


def test_an_entry_of_the_registry_is_checked_in_all_its_parts() -> None:
    areas = load_areas(FOLDER)
    good = Institution(id="a", name="示范", level=LEVELS[0].name_zh, area="110105")
    bad = Institution(
        id="a/b", name=" ", level="九级", area="990000", zone="Mars", charset="none",
        identifier_systems={"x": "no uri"}, credit_code="1", institution_code="2",
    )  # fmt: skip
    assert problems(good, areas) == []
    assert [issue.rule for issue in problems(bad, areas)] == [
        "institution-id", "institution-name", "institution-level", "institution-area",
        "credit-code", "institution-code", "zone", "charset", "number-kind", "number-system",
    ]  # fmt: skip


def test_every_fault_is_an_issue_of_its_own() -> None:
    with pytest.raises(Unprocessable) as caught:
        load_areas(FOLDER / "nowhere")
    assert [issue.rule for issue in caught.value.issues] == ["table-missing"]
