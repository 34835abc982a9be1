"""Check digits of GB 11643 and GB 32100."""

from __future__ import annotations

from datetime import date

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.terminology.identifier import (
    birth_date,
    normalise_id_number,
    sex,
    valid_credit_code,
    valid_id_number,
    valid_institution_code,
)

#: The example number printed in GB 11643-1999 itself.
EXAMPLE = "11010519491231002X"


@pytest.mark.parametrize(
    "text",
    [
        EXAMPLE,
        "11010519491231002x",
        " 110105 19491231 002X ",
        "１１０１０５１９４９１２３１００２Ｘ",
        "110105491231002",
    ],
)
def test_every_way_of_writing_a_number_gives_one_form(text: str) -> None:
    assert normalise_id_number(text) == EXAMPLE
    assert valid_id_number(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "110105194912310021",
        "11010519490231002X",
        "010105194912310027",
        "1101051949123100",
    ],
)
def test_what_is_not_a_number_is_refused(text: str) -> None:
    assert not valid_id_number(text)


@settings(max_examples=examples(100), deadline=None)
@given(st.integers(0, 16), st.integers(1, 9))
def test_one_wrong_digit_is_always_noticed(place: int, shift: int) -> None:
    digits = list("11990019580312001")
    body = "".join(digits)
    right = next(body + check for check in "0123456789X" if valid_id_number(body + check))
    digits[place] = str((int(digits[place]) + shift) % 10)
    assert not valid_id_number("".join(digits) + right[17])


def test_birth_date_and_sex_are_read_from_the_number() -> None:
    assert birth_date(EXAMPLE) == date(1949, 12, 31)
    assert birth_date("110105194902310021") is None
    assert sex(EXAMPLE) == "female"
    assert sex("110105194912310039") == "male"


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("91350100M000100Y43", True),  # the example printed in GB 32100-2015
        ("91350100M000100Y44", False),
        ("91350100I000100Y43", False),
        ("91350100M000100Y4", False),
        ("", False),
    ],
)
def test_credit_codes_are_checked(text: str, valid: bool) -> None:
    assert valid_credit_code(text) is valid


def test_institution_codes_have_22_or_12_characters() -> None:
    assert valid_institution_code("40068624011010511A1001")
    assert valid_institution_code("110105A10011")
    assert not valid_institution_code("110105")
