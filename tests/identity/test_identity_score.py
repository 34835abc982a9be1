"""Score and grade of two records: what is certain, and what holds a grade down whatever agrees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from identity_pairs import pairs
from identity_people import ID_SYSTEM, TYPES, with_check

from fhir_gateway.identity import score
from fhir_gateway.identity.compare import FIELDS
from fhir_gateway.identity.record import Record, record_of
from fhir_gateway.identity.score import GRADES, Match, match, weights
from fhir_gateway.identity.words import RULES, WORDS
from fhir_gateway.settings import load_settings
from fhir_gateway.terminology.naming_files import load_naming

NAMING = load_naming(load_settings({}).profiles)
CARD = with_check("99010119800506123")
OTHER_CARD = with_check("99010219800506125")
MOTHER = with_check("99010119900203124")


def record(text: str = "", number: str = "", born: str = "", **more: Any) -> Record:
    """A Patient in few words."""
    patient: dict[str, Any] = {"resourceType": "Patient", **more}
    if text:
        patient["name"] = [{"text": text}]
    if number:
        patient["identifier"] = [{"system": ID_SYSTEM, "value": number}]
    if born:
        patient["birthDate"] = born
    return record_of(patient, NAMING)


def phoned(number: str = "19990001234") -> dict[str, Any]:
    return {
        "telecom": [{"system": "phone", "value": number}],
        "address": [{"text": "示例市东河区测试路1号2室"}],
    }


def judged(one: Record, other: Record) -> Match:
    """What is said, which is the same the other way about."""
    found = match(one, other)
    assert match(other, one) == found
    assert 0 <= found.score <= 1
    assert set(found.rules) <= set(RULES)
    return found


#: Each case: two records, the grade, and a rule that has to be among those that held.
CASES = {
    "the same card and name": (record("王小芳", CARD), record("王小芳", CARD), "certain", ""),
    "the old form of the number": (
        record("王小芳", CARD), record("王小芳", CARD[:6] + CARD[8:17]), "certain", ""),
    "the card of another name": (
        record("王小芳", CARD), record("李娜", CARD), "possible", "document-conflict"),
    "the card of another given name": (
        record("王小芳", CARD), record("王小明", CARD), "possible", "document-conflict"),
    "traditional characters on the same card": (
        record("张伟民", CARD), record("張偉民", CARD), "probable", "name-in-doubt"),
    "pinyin on the same card": (
        record("张伟民", CARD), record("ZHANG WEIMIN", CARD), "probable", "name-in-doubt"),
    "one digit wrong": (
        record("王小芳", CARD, "1980-05-06"),
        record("王小芳", CARD[:16] + CARD[17] + CARD[16], "1980-05-06"), "probable", "no-document"),
    "name and birth date alone": (
        record("王小芳", "", "1980-05-06"), record("王小芳", "", "1980-05-06"),
        "probable", "no-document"),
    "everything but a document": (
        record("王小芳", "", "1980-05-06", gender="female", **phoned()),
        record("王小芳", "", "1980-05-06", gender="female", **phoned()), "probable", "no-document"),
    "the name alone": (record("王小芳"), record("王小芳"), "certainly-not", "no-document"),
    "two cards": (
        record("王小芳", CARD, **phoned()), record("王小芳", OTHER_CARD, **phoned()),
        "possible", "two-documents"),
    "twins without documents": (
        record("王小芳", "", "2015-05-06", gender="female", **phoned()),
        record("王小兰", "", "2015-05-06", gender="female", **phoned()), "possible", "twins"),
    "twins one of whom has no name": (
        record("王小芳", "", "2015-05-06", gender="female", **phoned()),
        record("", "", "2015-05-06", gender="female", **phoned()), "possible", "twins"),
    "twins by their order": (
        record("王芳之子", "", "2026-05-06", multipleBirthInteger=1, **phoned()),
        record("王芳之子", "", "2026-05-06", multipleBirthInteger=2, **phoned()),
        "certainly-not", "birth-order"),
    "two newborns of one mother": (
        record("王芳之子", "", "2026-05-06", **phoned()),
        record("王芳之子", "", "2026-05-06", **phoned()), "possible", "unnamed-child"),
    "two newborns on the mother's card": (
        record("王芳之子", MOTHER), record("王芳之子", MOTHER), "possible", "unnamed-child"),
    "mother and newborn on her card": (
        record("王芳", MOTHER, **phoned()), record("王芳之女", MOTHER, "2026-05-06", **phoned()),
        "certainly-not", "mother-and-child"),
    "mother and newborn on her card without a date": (
        record("王芳", MOTHER, **phoned()), record("王芳之女", MOTHER, **phoned()),
        "certainly-not", "mother-and-child"),
    "mother and newborn by name": (
        record("王芳", "", "1990-02-03", **phoned()), record("王芳之女", "", "", **phoned()),
        "certainly-not", "mother-and-child"),
    "a newborn under the mother's own name": (
        record("王芳", MOTHER), record("王芳", MOTHER, "2026-05-06"),
        "certainly-not", "elder-document"),
    "a child on the mother's card, found by its name": (
        record("李小明", MOTHER, "2016-05-06", **phoned()),
        record("李小明", "", "2016-05-06", **phoned()), "possible", "own-document"),
    "a newborn that was named since": (
        record("王芳之女", "", "2026-05-06", gender="female", **phoned()),
        record("李小兰", "", "2026-05-06", gender="female", **phoned()),
        "possible", "unnamed-child"),
    "another sex": (
        record("王小芳", "", "1980-05-06", gender="female", **phoned()),
        record("王小芳", "", "1980-05-06", gender="male", **phoned()), "possible", "two-sexes"),
    "another birth date": (
        record("王小芳", "", "1980-05-06", **phoned()),
        record("王小芳", "", "1991-07-18", **phoned()), "possible", "two-births"),
    "husband and wife": (
        record("王小芳", "", "1980-05-06", gender="female", **phoned()),
        record("李强", "", "1979-03-04", gender="male", **phoned()), "certainly-not", "two-names"),
    "strangers": (
        record("王小芳", CARD), record("李娜", OTHER_CARD, "1980-05-06"),
        "certainly-not", "two-documents"),
    "nothing known": (record(), record("王小芳", CARD), "certainly-not", "no-document"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_grades(name: str) -> None:
    one, other, grade, rule = CASES[name]
    found = judged(one, other)
    assert found.grade == grade, (found.score, found.rules, found.reasons)
    assert rule in found.rules if rule else found.rules == ()


def test_every_rule_is_met_by_a_case() -> None:
    assert {rule for *_, rule in CASES.values() if rule} == set(RULES)


def test_a_foreign_passport_and_name_are_certain_and_a_name_and_date_are_not() -> None:
    def foreign(number: str) -> Record:
        kind = {"coding": [{"system": TYPES, "code": "03"}]}
        return record("John Sample", "", "1980-05-06", identifier=[{"type": kind, "value": number}])

    assert judged(foreign("ZZ1234567"), foreign("zz 1234567")).grade == "certain"
    assert judged(foreign("ZZ1234567"), foreign("ZZ7654321")).grade != "certain"


def test_a_passport_whose_country_one_record_does_not_tell_is_only_probable() -> None:
    told = record("John Sample", "", "1980-05-06", identifier=[
        {"system": "http://hl7.org/fhir/sid/passport-USA", "value": "ZZ1234567"}])  # fmt: skip
    untold = record("John Sample", "", "1980-05-06", identifier=[
        {"type": {"coding": [{"system": TYPES, "code": "03"}]}, "value": "ZZ1234567"}])  # fmt: skip
    assert judged(told, untold).grade == "probable"


def test_a_conflict_is_told_as_one() -> None:
    found = judged(record("王小芳", CARD), record("李娜", CARD))
    assert found.conflict
    assert not judged(record("王小芳", CARD), record("王小芳", CARD)).conflict
    assert not judged(record("王小芳", CARD), record("李娜", OTHER_CARD)).conflict


def test_reasons_are_told_in_words_without_values() -> None:
    found = judged(
        record("王小芳", CARD, **phoned()), record("王小兰", CARD, **phoned("19990001243"))
    )
    texts = [text for reason in found.reasons for text in reason.text]
    assert "身份证件：同一证件号码" in texts
    assert "Name: one character differs" in texts
    assert not any(part in text for text in texts for part in ("王", CARD, "19990001234"))
    assert all(reason.level != "unknown" for reason in found.reasons)


def test_the_weights_have_every_level_and_no_other() -> None:
    kept = {field: set(levels) for field, levels in weights().bits.items()}
    assert kept == {field: set(WORDS[field]) - {"unknown"} for field in FIELDS}
    assert 0 < weights().possible < weights().probable < 1


def test_agreement_counts_for_and_difference_counts_against() -> None:
    bits = weights().bits
    for field, levels in bits.items():
        if field != "order":  # the order of a birth is a rule and not a weight
            assert max(levels, key=levels.__getitem__).startswith("same"), field
            assert min(levels.values()) < 0, field
    assert bits["name"]["same-three"] > bits["name"]["same-two"] > bits["name"]["sound"]
    assert bits["birth"]["same"] > bits["birth"]["same-default"] > bits["birth"]["year"]


def test_the_file_says_how_it_was_fitted() -> None:
    file = Path(score.__file__).with_name("weights.json")
    data = json.loads(file.read_text(encoding="utf-8"))
    assert data["fitted"].keys() == {"seed", "pairs_of_one_person", "people", "pairs_of_any_two"}
    for levels in data["fields"].values():
        for row in levels.values():
            assert 0 < row["m"] <= 1
            assert 0 < row["u"] <= 1


@settings(max_examples=examples(40), deadline=None)
@given(st.integers(0, 10**6))
def test_the_order_of_two_records_never_matters_and_scores_follow_grades(seed: int) -> None:
    using = weights()
    for pair in pairs(seed, 2):
        one, other = record_of(pair.one, NAMING), record_of(pair.other, NAMING)
        found = judged(one, other)
        if found.grade == "certain":
            assert found.score == 1
            assert one.keys & other.keys
        else:
            ranges = {"certainly-not": (0, using.possible), "possible": (0, using.probable),
                      "probable": (using.probable, 1)}  # fmt: skip
            low, high = ranges[found.grade]
            assert low <= found.score < high
        assert found.grade in GRADES


@settings(max_examples=examples(25), deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["identifier", "name"]))
def test_nothing_is_certain_without_a_document_or_without_a_name(seed: int, missing: str) -> None:
    for pair in pairs(seed, 2, same=1.0):
        poorer = {name: value for name, value in pair.other.items() if name != missing}
        assert match(record_of(pair.one, NAMING), record_of(poorer, NAMING)).grade != "certain"
