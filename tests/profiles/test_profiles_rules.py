"""The rules of our profiles as FHIRPath, judged by fhirpathpy alone: check digits and forms.

The gateway's own engine is not asked here: what a profile says must mean the same to others.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import fhirpathpy
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.app import profile_resources
from fhir_gateway.settings import load_settings
from fhir_gateway.terminology.identifier import (
    birth_date,
    valid_credit_code,
    valid_id_number,
    valid_institution_code,
)

_LETTERS = "0123456789ABCDEFGHJKLMNPQRTUWXY"


@cache
def _rules() -> dict[str, str]:
    """Every rule of our profiles by its key."""
    return {
        rule["key"]: rule["expression"]
        for one in profile_resources(load_settings({}).profiles)
        if one["resourceType"] == "StructureDefinition"
        for element in one["differential"]["element"]
        for rule in element.get("constraint", ())
    }


@cache
def _compiled(key: str) -> Any:
    return fhirpathpy.compile(_rules()[key])


def holds(key: str, value: Any) -> bool:
    """Whether a rule holds of a value; an empty answer is no."""
    return bool(_compiled(key)(value) == [True])


@pytest.mark.parametrize("key", sorted(_rules()))
def test_every_rule_can_be_read_by_another_engine(key: str) -> None:
    assert callable(_compiled(key))


def test_a_key_means_one_rule_in_all_profiles() -> None:
    found: dict[str, set[str]] = {}
    for one in profile_resources(load_settings({}).profiles):
        if one["resourceType"] != "StructureDefinition":
            continue
        for element in one["differential"]["element"]:
            for rule in element.get("constraint", ()):
                found.setdefault(rule["key"], set()).add(rule["expression"])
    assert {key for key, spelled in found.items() if len(spelled) > 1} == set()


@settings(max_examples=examples(60), deadline=None)
@given(st.from_regex(r"\A[1-9][0-9]{16}[0-9X]\Z"), st.booleans())
def test_the_check_digit_of_persons_is_ours(number: str, repair: bool) -> None:
    if repair:
        weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
        total = sum(int(d) * w for d, w in zip(number, weights, strict=False))
        number = number[:17] + "10X98765432"[total % 11]
    right = holds("gb11643-form", number) and holds("gb11643-check", number)
    if valid_id_number(number) and 1800 <= int(number[6:10]) < 2100:
        assert right
    if right:  # 31 February passes a form, and no calendar
        assert valid_id_number(number) or birth_date(number) is None


@settings(max_examples=examples(60), deadline=None)
@given(st.text(alphabet=_LETTERS, min_size=17, max_size=18), st.booleans())
def test_the_check_character_of_institutions_is_ours(code: str, repair: bool) -> None:
    if repair:
        code = next(c for last in _LETTERS if valid_credit_code(c := code[:17] + last))
    right = holds("gb32100-form", code) and holds("gb32100-check", code)
    assert right == valid_credit_code(code)


@settings(max_examples=examples(40), deadline=None)
@given(st.from_regex(r"\A[0-9A-Z]{7,9}[0-9]{5,6}[0-9A-Z]{0,8}\Z"))
def test_the_form_of_institution_codes_is_ours(code: str) -> None:
    assert holds("institution-code-form", code) == valid_institution_code(code)


@pytest.mark.parametrize(
    ("key", "value", "right"),
    [
        ("gb11643-form", "119900580312001", True),  # 15 digits have no check digit
        ("gb11643-form", "119900581312001", False),  # month 13
        ("gb11643-form", "11990019580312001", False),  # 17
        ("gb11643-form", "１１９９００195803120010", False),  # full-width
        ("gb11643-check", "119900580312001", True),
        ("gb11643-check", "119900195803120010", True),
        ("gb11643-check", "119900195803120011", False),
        ("permit-form", "810000199001011234", True),
        ("permit-form", "830000199001011234", True),
        ("permit-form", "840000199001011234", False),
        ("permit-form", "119900195803120010", False),
        ("pass-hk-form", "H12345678", True),
        ("pass-hk-form", "M1234567801", True),
        ("pass-hk-form", "K12345678", False),
        ("pass-tw-form", "12345678", True),
        ("pass-tw-form", "123456789", False),
        ("foreigner-form", "XXX000000000000", True),
        ("foreigner-form", "X1", False),
        ("passport-form", "E12345678", True),
        ("passport-form", "E 1234567", False),
        ("study-uid", "urn:oid:1.2.840.0", True),
        ("study-uid", "1.2.840.0", False),
        ("study-uid", "urn:oid:1.02", False),
        ("study-uid", "urn:oid:1." + "1" * 63, False),
        ("dicom-uid", "1.2.840", True),
        ("dicom-uid", "1.2.", False),
        ("gb32100-form", "I1119900MB00000010", False),
    ],
)
def test_forms_of_numbers(key: str, value: str, right: bool) -> None:
    assert holds(key, value) is right
