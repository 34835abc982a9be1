"""The matcher: names of hospitals find their item, and what contradicts is never sure."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import matching
from fhir_gateway.errors import Unprocessable
from fhir_gateway.terminology.catalogue import load_catalogue
from fhir_gateway.terminology.matcher import SURE, Proposal, load_matcher
from fhir_gateway.terminology.matcher_score import Step, fitted, load_steps, score
from fhir_gateway.terminology.matcher_text import difference, sounds_alike
from fhir_gateway.terminology.synonyms import load_words
from fhir_gateway.terminology.unmapped import Local

ROOT = Path(__file__).parents[2]
CATALOGUE = load_catalogue(ROOT / "terminology")
MATCHER = load_matcher(ROOT / "terminology", CATALOGUE)


def propose(
    name: str, specimen: str = "", unit: str = "", code: str = "", *, use: str = "result"
) -> list[Proposal]:
    return MATCHER.propose(
        Local("order" if use == "order" else "result", "", code, name, specimen, unit)
    )


@pytest.mark.parametrize(
    "name", ["谷丙转氨酶", "ALT", "丙氨酸氨基转移酶", "GPT", "谷丙转氨酶(ALT)"]
)
def test_the_names_of_one_test_are_one_item(name: str) -> None:
    first = propose(name, "血清", "U/L")[0]
    assert first.codes == "L016"
    assert first.reasons


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("胸部CT平扫", "I022"),
        ("CT平扫 胸部", "I022"),
        ("头颅MRI平扫+增强", "I099"),
        ("双侧膝关节DR正侧位", "I217"),
        ("左膝关节正侧位片", "I217"),
        ("甲状腺彩超", "I261"),
        ("甲状腺B超", "I261"),
        ("磁共振胰胆管成像", "I132"),
        ("全身PET-CT", "I296"),
    ],
)
def test_imaging_names_are_read_by_their_parts(name: str, expected: str) -> None:
    first = propose(name, use="order")[0]
    assert (first.codes, first.sure) == (expected, True)


def test_every_item_is_found_by_its_own_name() -> None:
    for item in CATALOGUE.items.values():
        specimen = item.specimen.partition("/")[0]
        first = propose(item.name_zh, specimen, item.ucum_unit)[0]
        assert first.codes == item.code, item.name_zh


@pytest.mark.parametrize(
    ("name", "specimen", "unit"),
    [
        ("葡萄糖", "脑脊液", "mmol/L"),
        ("葡萄糖", "尿液", "mmol/L"),
        ("葡萄糖", "血清", "mg/dL"),
        ("谷丙转氨酶", "血清", "mmol/L"),
        ("白细胞", "尿液", "/uL"),
        ("乙肝表面抗原定量", "血清", "IU/mL"),
        ("高敏肌钙蛋白I", "血清", "ng/L"),
        ("间接胆红素", "血清", "umol/L"),
        ("抗凝血酶III抗原", "血浆", ""),
        ("餐后2小时血糖", "血清", "mmol/L"),
        ("甲胎蛋白异质体(AFP-L3)", "血清", "%"),
        ("游离PSA/总PSA", "血清", ""),
        ("糖类抗原242", "血清", "U/mL"),
        ("CK-MB", "血清", ""),
    ],
)
def test_what_contradicts_or_could_be_two_things_is_never_sure(
    name: str, specimen: str, unit: str
) -> None:
    assert not any(one.sure for one in propose(name, specimen, unit))


@pytest.mark.parametrize(
    "name",
    [
        "胸部CT",  # contrast is not said
        "胸部DR",  # views are not said
        "腰椎MRI平扫+增强",  # in the catalogue apart only
        "左乳腺MRI平扫",  # the item is both sides
        "头颅CT平扫+胸部CT平扫",
        "肝脏超声造影",
        "双肾CTA",
        "CT引导下肺穿刺活检",
        "膝关节平扫",
        "颅脑CT平扫费",
    ],
)
def test_an_imaging_name_that_says_less_or_more_is_not_sure(name: str) -> None:
    wrong = [one for one in propose(name, use="order") if one.sure and one.codes != "I001"]
    assert wrong == []


def test_a_unit_decides_between_items_of_one_name() -> None:
    assert propose("CK-MB", "血清", "ng/mL")[0].codes == "L044"
    assert propose("CK-MB", "血清", "U/L")[0].codes == "L045"


def test_a_slip_of_the_pen_is_found_and_a_substitution_is_another_thing() -> None:
    assert propose("谷丙转氨梅", "血清", "U/L")[0].codes == "L016"
    assert not any(one.sure for one in propose("乙型流感病毒核酸", "咽拭子"))
    assert not any(one.sure for one in propose("酸性磷酸酶", "血清", "U/L"))


def test_a_name_within_its_specimen() -> None:
    assert propose("蛋白质(PRO)", "尿液")[0].codes == "L093"
    assert propose("细菌培养及鉴定", "痰液")[0].codes == "L169"
    assert propose("隐血试验", "粪便")[0].codes == "L106"


def test_a_panel_is_proposed_and_never_sure() -> None:
    first = propose("血脂四项", use="order")[0]
    assert (first.codes, first.sure) == ("L036;L037;L038;L039", False)
    assert propose("血脂四项") == [] or propose("血脂四项")[0].codes != first.codes


def test_what_was_rejected_is_not_proposed_again() -> None:
    local = Local("result", "", "", "谷丙转氨酶", "血清", "U/L")
    assert MATCHER.propose(local)[0].codes == "L016"
    again = MATCHER.propose(local, rejected=["L016"])
    assert "L016" not in [one.codes for one in again]
    assert not any(one.sure for one in again)


def test_traditional_characters_widths_and_cases_are_one() -> None:
    assert propose("總膽固醇", "血清", "mmol/L")[0].codes == "L036"
    assert propose("ｈｂａ１ｃ", "全血", "%")[0].codes == "L034"


@given(st.text(max_size=300), st.text(max_size=20), st.text(max_size=20))
@settings(max_examples=examples(60))
def test_no_name_is_too_strange(name: str, specimen: str, unit: str) -> None:
    for use in ("result", "order"):
        for one in propose(name, specimen, unit, use=use):
            assert 0 <= one.score <= 1


def test_a_name_as_long_as_a_page_costs_no_more_than_a_long_name() -> None:
    assert not any(one.sure for one in propose("谷丙转氨酶" * 20_000))
    assert not any(one.sure for one in propose("(" * 5_000 + "ALT"))


def test_the_aims_hold_on_names_that_it_was_not_made_from() -> None:
    every = [case for name in matching.TEST for case in matching.cases(name)]
    figures = matching.measure(MATCHER, every)
    assert figures.mapped >= 400
    assert figures.cases - figures.mapped >= 80
    assert figures.top1 >= 0.85
    assert figures.top3 >= 0.95
    assert figures.wrong_but_sure < 0.01
    assert figures.sure > figures.mapped / 2


def test_the_sets_share_no_names() -> None:
    tuned = {(case.local.name, case.local.specimen) for case in matching.cases("calibration")}
    tested = [case for name in matching.TEST for case in matching.cases(name)]
    shared = {(case.local.name, case.local.specimen) for case in tested} & tuned
    assert len(shared) < len(tested) * 0.05


def test_the_steps_are_those_that_the_fit_makes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(matching, "STEPS", tmp_path / "steps.csv")
    matching.fit()
    made = (tmp_path / "steps.csv").read_text("utf-8")
    assert made == (ROOT / "terminology" / "synonyms-calibration.csv").read_text("utf-8")


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60))
@settings(max_examples=examples(60))
def test_a_better_worth_never_scores_less(cases: list[tuple[float, bool]]) -> None:
    steps = fitted(cases)
    scores = [score(worth / 50, steps) for worth in range(51)]
    assert scores == sorted(scores)
    assert all(0 <= one < 1 for one in scores)


def test_a_score_lies_between_its_steps() -> None:
    steps = (Step(0.2, 0.1), Step(0.6, 0.9))
    assert [score(worth, steps) for worth in (0.0, 0.2, 0.4, 0.6, 1.0)] == [0, 0.1, 0.5, 0.9, 0.9]
    assert SURE > 0.9


def test_how_two_names_differ() -> None:
    assert difference("谷丙转氨梅", "谷丙转氨酶").turned == (("梅", "酶"),)
    assert difference("前列腺特异抗原", "前列腺特异性抗原").less == "性"
    assert sounds_alike("梅", "酶")
    assert not sounds_alike("甲", "乙")


def test_faults_of_the_tables_are_told_by_row_and_column(tmp_path: Path) -> None:
    for path in (ROOT / "terminology").glob("synonyms*.csv"):
        shutil.copy(path, tmp_path)
    wrong = {
        "synonyms.csv": ["item,language,synonym,kind", "L999,fr,,other"],
        "synonyms-panels.csv": ["name,items", "血脂,L999"],
        "synonyms-imaging.csv": ["aspect,value,word", "colour,red,红"],
        "synonyms-characters.csv": ["traditional,simplified", "鉀,钾钾"],
    }
    for name, lines in wrong.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n", "utf-8")
    with pytest.raises(Unprocessable) as caught:
        load_words(tmp_path, CATALOGUE)
    where = [issue.diagnostics.partition(": ")[0] for issue in caught.value.issues]
    assert where == [
        "synonyms.csv, row 2, column item",
        "synonyms.csv, row 2, column synonym",
        "synonyms.csv, row 2, column language",
        "synonyms.csv, row 2, column kind",
        "synonyms-panels.csv, row 2, column items",
        "synonyms-imaging.csv, row 2, column aspect",
        "synonyms-characters.csv, row 2, column traditional",
    ]
    steps = tmp_path / "synonyms-calibration.csv"
    steps.write_text("worth,share\n0.5,0.9\n0.4,x\n", "utf-8")
    with pytest.raises(Unprocessable) as caught:
        load_steps(tmp_path)
    assert [issue.rule for issue in caught.value.issues] == ["step-number", "step-order"]


def test_every_item_has_a_synonym_and_no_synonym_stands_twice() -> None:
    with (ROOT / "terminology" / "synonyms.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["item"], row["synonym"]) for row in csv.DictReader(file)]
    assert {item for item, _ in rows} >= {item.code for item in CATALOGUE.of("lab")}
    assert len(rows) == len(set(rows))
