"""Systems whose codes are a grammar: units, language tags, media types."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import ucumvert
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from lark.exceptions import LarkError

from fhir_gateway.terminology.language_system import LanguageSystem
from fhir_gateway.terminology.media_type_system import MediaTypeSystem
from fhir_gateway.terminology.service import Coding, Terminology
from fhir_gateway.terminology.ucum_system import UCUM, UcumSystem
from fhir_gateway.terminology.value_set import load_vocabulary

UNITS, LANGUAGES, MEDIA = UcumSystem(), LanguageSystem(), MediaTypeSystem()
KNOWN = Terminology([UNITS, LANGUAGES, MEDIA])
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("code", "display"),
    [
        ("mg/dL", "milligram per deciliter"),
        ("mm[Hg]", "millimeter of mercury column"),
        ("10*9/L", "10^9 per liter"),
        ("10^9/L", "10^9 per liter"),  # UCUM has both signs
        ("/[HPF]", "per high power field"),
        ("m2", "square meter"),
        ("kg/m3", "kilogram per cubic meter"),
        ("Cel", "degree Celsius"),
        ("[pH]", "pH"),
        ("{copies}/mL", "{copies} per milliliter"),
        ("ug/L{FEU}", "microgram per liter {FEU}"),
        ("g/(24.h)", "gram per (24 times hour)"),
        ("1", "1"),
        ("%", "percent"),
    ],
)
def test_units_in_words(code: str, display: str) -> None:
    found = UNITS.find(code)
    assert found is not None
    assert found.display == display
    assert KNOWN.validate_code(Coding(UCUM, code, "", code)).result
    assert KNOWN.validate_code(Coding(UCUM, code, "", display)).result


@pytest.mark.parametrize(
    ("code", "near"),
    [
        ("x10^9/L", "10*9/L"), ("×10⁹/L", "10*9/L"), ("IU/L", "[IU]/L"), ("mmHg", "mm[Hg]"),
        ("μmol/L", "umol/L"), ("MG/DL", "mg/dL"), ("个/HP", "/[HPF]"), ("二", ""), ("mg//dL", ""),
    ],
)  # fmt: skip
def test_what_is_no_unit(code: str, near: str) -> None:
    assert UNITS.find(code) is None
    verdict = KNOWN.validate_code(Coding(UCUM, code))
    assert not verdict.result
    assert verdict.known
    assert (near in verdict.message) if near else ("did you mean" not in verdict.message)


def test_units_of_the_catalogue_are_units() -> None:
    items = load_vocabulary(ROOT / "terminology").catalogue.items.values()
    units = {one.ucum_unit for one in items if one.ucum_unit}
    assert units
    wrong = {unit for unit in units if UNITS.find(unit) is None}
    assert wrong <= {"[COI]"}  # a cut-off index has no unit in UCUM


@cache
def _parser() -> object:
    return ucumvert.get_ucum_parser()


def _is_unit(code: str) -> bool:
    try:
        _parser().parse(code)  # type: ignore[attr-defined]  # lark has no types
    except LarkError:
        return False
    return True


unit = st.sampled_from(["m", "kg", "mol", "L", "dL", "[IU]", "10*", "%", "min", "x", "Cel"])
power = st.sampled_from(["", "", "2", "-1", "0", "+3"])
note = st.sampled_from(["", "", "{b}"])
piece = st.builds("{}{}{}".format, unit, power, note)
sign = st.sampled_from(["/", ".", "", "//"])


def joined(part: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    inner = st.one_of(part, st.builds("({}.{})".format, part, part))
    return st.one_of(
        part, st.builds("{}{}{}".format, part, sign, inner), st.builds("/{}".format, part)
    )


@settings(max_examples=examples(50), deadline=None)
@given(joined(piece))
def test_the_grammar_is_that_of_ucumvert(code: str) -> None:
    assert (UNITS.find(code) is not None) == _is_unit(code)


@settings(max_examples=examples(50), deadline=None)
@given(
    joined(st.builds("{}{}{}".format, st.one_of(unit, st.sampled_from(["2", "{a}"])), power, note))
)
def test_ucumvert_takes_more(code: str) -> None:
    """Powers of numbers and two annotations in a row: section 2.1 of UCUM has neither."""
    assert UNITS.find(code) is None or _is_unit(code)


@given(st.text(max_size=300))
def test_any_text_is_a_code_or_none(text: str) -> None:
    for system in (UNITS, LANGUAGES, MEDIA):
        found = system.find(text)
        assert found is None or found.display
        assert system.concepts() is None
    for wild in (UNITS, LANGUAGES):
        near = wild.near(text)
        assert near == "" or wild.find(near) is not None


def test_deep_brackets_are_no_unit() -> None:
    assert UNITS.find("(" * 60 + "m" + ")" * 60) is None
    assert UNITS.find("(((m)))") is not None
    assert UNITS.find("m." * 90 + "m") is not None
    assert UNITS.find("m." * 100 + "m") is None


@pytest.mark.parametrize(
    ("tag", "en", "zh"),
    [
        ("zh-CN", "Chinese (China)", "中文（中国）"),
        ("en", "English", "英语"),
        ("zh-Hans-CN", "Chinese (Simplified, China)", "中文（简体，中国）"),
        ("EN-us", "English (United States)", "英语（美国）"),
        ("yue", "Cantonese", "粤语"),
        ("zh-yue", "Chinese (Cantonese)", "中文（粤语）"),
        ("bo", "Tibetan", "藏语"),
        ("de-CH-1996", "German (Switzerland)", "德语（瑞士）"),
        ("es-419", "Spanish (419)", "西班牙语（419）"),
        ("i-klingon", "i-klingon", ""),
        ("x-ward", "x-ward", ""),
        ("en-u-ca-buddhist-x-y", "English", "英语"),
    ],
)
def test_language_tags(tag: str, en: str, zh: str) -> None:
    found = LANGUAGES.find(tag)
    assert found is not None
    assert found.display == en
    assert [one.value for one in found.designations] == ([zh] if zh else [])


@pytest.mark.parametrize(
    ("tag", "near"),
    [
        ("zh_CN", "zh-CN"), ("chi", "zh"), ("eng-US", "en-US"), ("xx", ""), ("zh-QQ-", ""),
        ("zh-Zzxx", ""), ("en-BB-", ""), ("zh-999", ""), ("中文", ""), ("", ""), ("en-UK", ""),
    ],
)  # fmt: skip
def test_what_is_no_language_tag(tag: str, near: str) -> None:
    assert LANGUAGES.find(tag) is None
    assert LANGUAGES.near(tag) == near


@pytest.mark.parametrize(
    ("code", "right"),
    [
        ("application/fhir+json", True), ("text/plain; charset=utf-8", True), ("image/jpeg", True),
        ("application/dicom", True), ('text/plain; a="b c"', True), ("X-a/b", True),
        ("pdf", False), ("text/", False), ("image/*", False), ("foo/bar", False),
        ("text/plain;", False), ("text /plain", False), ("a" * 300, False),
    ],
)  # fmt: skip
def test_media_types(code: str, right: bool) -> None:
    assert (MEDIA.find(code) is not None) is right
