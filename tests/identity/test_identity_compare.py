"""Two records field by field: every level of every field, from pairs of Patients."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from identity_people import HEALTH_SYSTEM, ID_SYSTEM, TYPES, with_check

from fhir_gateway.identity.compare import FIELDS, compare
from fhir_gateway.identity.compare_names import LEVELS, compare_names
from fhir_gateway.identity.names import Name, read_name
from fhir_gateway.identity.record import Record, record_of
from fhir_gateway.identity.words import FIELD_NAMES, WORDS
from fhir_gateway.settings import load_settings
from fhir_gateway.terminology.naming_files import load_naming

NAMING = load_naming(load_settings({}).profiles)
CARD = with_check("99010119800506123")
NEIGHBOUR = with_check("99010119800506125")


def record(**members: Any) -> Record:
    return record_of({"resourceType": "Patient", **members}, NAMING)


def card(value: str, **more: Any) -> dict[str, Any]:
    return record(identifier=[{"system": ID_SYSTEM, "value": value}], **more)._asdict()


def level(field: str, one: Record, other: Record) -> str:
    """The level, which is the same the other way about."""
    found = compare(one, other)[field]
    assert compare(other, one)[field] == found
    assert found in WORDS[field]
    return found


def named(text: str, **more: str) -> Name:
    name = read_name(text, more.get("family", ""))
    assert name is not None
    return name


# -- names -----------------------------------------------------------------------------------------

NAMES = [
    ("王小芳", "王小芳", "same-three"),
    ("王芳", "王 芳", "same-two"),
    ("欧阳小芳", "欧阳小芳", "same-long"),
    ("芳", "芳", "one-character"),
    ("ZHANG WEI", "Zhang, Wei", "same-latin"),
    ("張偉", "张伟", "variant"),
    ("歐陽娜", "欧阳娜", "variant"),
    ("张堃", "张坤", "variant"),
    ("锺灵", "钟灵", "variant"),
    ("小芳王", "王小芳", "reordered"),
    ("John Smith", "SMITH John", "reordered"),
    ("Maria Elena Sample", "Sample, Maria Elena", "reordered"),
    ("阿依古丽·买买提", "买买提·阿依古丽", "reordered"),
    ("张伟民", "张卫民", "sound"),
    ("张伟", "张玮", "sound"),
    ("刘静", "刘晶", "sound"),
    ("阿依古丽·买买提", "阿依古力·麦麦提", "sound"),
    ("Jon Smith", "John Smith", "sound"),
    ("张伟民", "ZHANG WEIMIN", "spelled"),
    ("张伟民", "Weimin Zhang", "spelled"),
    ("张伟民", "zhang wei-min", "spelled"),
    ("吕梁", "LYU LIANG", "spelled"),
    ("吕梁", "Lv Liang", "spelled"),
    ("单小林", "SHAN XIAOLIN", "spelled"),
    ("欧阳娜", "OUYANG NA", "spelled"),
    ("张?民", "张伟民", "lost"),
    ("张伟□", "张伟民", "lost"),
    ("王芳之子", "王芳之子", "newborn"),
    ("王芳之子", "王芳之女", "given"),
    ("阿依古丽·买买提", "阿依古丽", "part"),
    ("J. Smith", "John Smith", "part"),
    ("Maria Elena Sample", "Maria Sample", "part"),
    ("王小芳", "王小明", "one-character"),
    ("李丽华", "王丽华", "surname"),
    ("王芳", "王明", "given"),
    ("欧阳娜", "欧阳芳华", "given"),
    ("Anna Sample", "John Sample", "given"),
    ("王芳之女", "王小明", "unknown"),
    ("王**", "王小芳", "unknown"),
    ("陈大文", "CHAN TAI MAN", "spelled-other"),
    ("张伟", "Li Na", "spelled-other"),
    ("张伟", "李娜", "other"),
    ("阿依古丽·买买提", "卓玛央金·多吉", "other"),
    ("John Smith", "Olga Muster", "other"),
    ("张伟", "Ольга", "unknown"),
    ("Ольга Образец", "Ольга Образцова", "sound"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other", "expected"), NAMES)
def test_names(one: str, other: str, expected: str) -> None:
    a, b = named(one), named(other)
    assert (compare_names([a], [b]), compare_names([b], [a])) == (expected, expected)


def test_a_former_name_counts_less_than_the_name_in_use() -> None:
    now = named("王丽华")
    before = named("李丽华")._replace(former=True)
    assert compare_names([now, before], [named("李丽华")]) == "former"
    assert compare_names([now, before], [now]) == "same-three"


def test_initials_alone_are_no_spelling() -> None:
    assert compare_names([named("张伟民")], [named("ZWM")]) == "spelled-other"


@pytest.mark.parametrize(
    ("text", "mother"),
    [
        ("王芳之女", "王芳"), ("王芳之子", "王芳"), ("王芳之婴", "王芳"), ("王芳之子2", "王芳"),
        ("王芳大双", "王芳"), ("王芳之小双", "王芳"), ("王芳婴儿", "王芳"), ("王芳宝宝", "王芳"),
        ("欧阳小芳之长女", "欧阳小芳"), ("Baby of Wang Fang", "wangfang"),
        ("BABY BOY WANG FANG", "wangfang"), ("B/O WANG FANG", "wangfang"),
        ("Wang Fang's baby", "wangfang"), ("阿依古丽之女", "阿依古丽"), ("新生儿", None),
        ("王子", None), ("李玉子", None), ("王宝宝", None), ("张小女", None), ("王之子", None),
    ],
)  # fmt: skip
def test_a_child_that_is_called_by_its_mother(text: str, mother: str | None) -> None:
    name = named(text)
    assert (name.is_newborn, name.mother) == (mother is not None, mother or "")


# -- documents -------------------------------------------------------------------------------------

OLD = CARD[:6] + CARD[8:17]
DOCUMENTS = [
    (CARD, CARD, "same"),
    (CARD, OLD, "same"),
    (CARD, CARD[:6] + " " + CARD[6:], "same"),
    (CARD, "".join(chr(0xFEE0 + ord(sign)) for sign in CARD), "same"),
    (CARD, CARD[:16] + CARD[17] + CARD[16], "slip"),
    (CARD, CARD[:10] + "9" + CARD[11:], "slip"),
    (CARD, CARD[:17], "slip"),
    (CARD[:10] + "9" + CARD[11:], CARD[:10] + "9" + CARD[11:], "same-faulty"),
    (CARD, NEIGHBOUR, "other-card"),
    (CARD, "12345", "unknown"),
]


@pytest.mark.parametrize(("one", "other", "expected"), DOCUMENTS)
def test_identity_cards(one: str, other: str, expected: str) -> None:
    assert level("document", Record(**card(one)), Record(**card(other))) == expected


def test_a_card_that_contradicts_the_birth_date_is_another_thing() -> None:
    child = Record(**card(CARD, birthDate="2020-01-02"))
    assert child.elder
    assert level("document", Record(**card(CARD)), child) == "contradicted"


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (("03", "E12345678"), ("03", "e1234 5678"), "same"),
        (("03", "E12345678"), ("03", "E87654321"), "other"),
        (("03", "12345678"), ("07", "12345678"), "unknown"),
        (("06", "H12345678"), ("06", "H1234567801"), "same"),
    ],
)
def test_other_documents(one: tuple[str, str], other: tuple[str, str], expected: str) -> None:
    records = [
        record(identifier=[{"type": {"coding": [{"system": TYPES, "code": kind}]}, "value": value}])
        for kind, value in (one, other)
    ]
    assert level("document", *records) == expected


def test_passports_of_two_countries_are_not_compared_and_an_unknown_country_is() -> None:
    systems = [f"http://hl7.org/fhir/sid/passport-{country}" for country in ("FRA", "USA")]
    french, american = (
        record(identifier=[{"system": one, "value": "X1234567"}]) for one in systems
    )
    plain = record(
        identifier=[{"type": {"coding": [{"system": TYPES, "code": "03"}]}, "value": "X1234567"}]
    )
    assert level("document", french, american) == "unknown"
    assert level("document", french, plain) == "same"


# -- birth -----------------------------------------------------------------------------------------

BIRTHS = [
    ("1980-05-06", "1980-05-06", "same"),
    ("1980-01-01", "1980-01-01", "same-default"),
    ("1980-05", "1980-05-06", "month"),
    ("1980-05", "1980-05", "month"),
    ("1980", "1980-05-06", "year"),
    ("1980", "1981-05-06", "other"),
    ("1980-05-06", "1980-06-05", "swapped"),
    ("1980-05-06", "1980-01-01", "default"),
    ("1995-11-15", "1995-09-23", "lunar"),  # an intercalary month before it
    ("1976-10-01", "1976-08-08", "lunar"),
    ("1980-05-06", "1990-05-06", "slip"),
    ("1980-05-06", "1980-05-16", "slip"),
    ("1980-05-06", "1980-05-60", "slip"),
    ("1980-05-06", "1981-06-07", "other"),
    ("1980-05-06", "", "unknown"),
]


@pytest.mark.parametrize(("one", "other", "expected"), BIRTHS)
def test_birth_dates(one: str, other: str, expected: str) -> None:
    assert level("birth", Record(birth=one), Record(birth=other)) == expected


def test_a_card_tells_the_birth_date_and_the_sex() -> None:
    told = Record(**card(CARD, birthDate="1980"))
    assert (told.birth, told.sex) == ("1980-05-06", "male")
    assert level("birth", told, record(birthDate="1980-05-06")) == "same"


@settings(max_examples=examples(100), deadline=None)
@given(st.dates(date(1930, 1, 1), date(2025, 1, 1)), st.integers(-400, 400))
def test_a_lunar_date_lies_some_weeks_before_the_solar_one(day: date, apart: int) -> None:
    other = day + timedelta(days=apart)
    found = level("birth", Record(birth=day.isoformat()), Record(birth=other.isoformat()))
    if found == "lunar":
        assert 17 <= abs(apart) <= 56


# -- the other fields ------------------------------------------------------------------------------


def phone(*values: str) -> Record:
    return record(telecom=[{"system": "phone", "value": value} for value in values])


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("19990000123", "+86 199-9000-0123", "same"),
        ("19990000123", "1999000 0123", "same"),
        ("19990000123", "19990000132", "slip"),
        ("19990000123", "19991234567", "other"),
        ("19990000123", "0000000", "unknown"),
        ("19990000123", "12", "unknown"),
    ],
)
def test_telephones(one: str, other: str, expected: str) -> None:
    assert level("phone", phone(one), phone(other)) == expected


def test_an_e_mail_address_counts_like_a_telephone() -> None:
    mails = [
        record(telecom=[{"system": "email", "value": text}])
        for text in ("A@example.org", "a@EXAMPLE.org")
    ]
    assert level("phone", *mails) == "same"


ADDRESSES = [
    ("示例市东河区测试路1号2室", "示例市东河区测试路1号 2室", "same"),
    ("示例市东河区测试路1号2室", "示例市东河区别的路9号", "district"),
    ("示例省样本市东河区测试路1号", "样本市东河区别的路9号", "district"),
    ("示例市东河区测试路1号", "示例市西山区测试路1号", "city"),
    ("示例市东河区测试路1号", "样本市东河区测试路1号", "other"),
    ("虚构省示例市东河区", "样本省", "other"),
    ("测试路1号2室", "别的路1号2室", "unknown"),
]


@pytest.mark.parametrize(("one", "other", "expected"), ADDRESSES)
def test_addresses(one: str, other: str, expected: str) -> None:
    records = (record(address=[{"text": text}]) for text in (one, other))
    assert level("address", *records) == expected


def test_an_address_in_parts_is_the_same_region() -> None:
    parts = record(address=[{"state": "示例省", "city": "样本", "district": "东河区"}])
    assert level("address", parts, record(address=[{"text": "样本市东河区测试路"}])) == "district"


def numbered(system: str, value: str) -> Record:
    return record(identifier=[{"system": system, "value": value}])


@pytest.mark.parametrize(
    ("field", "system", "one", "other", "expected"),
    [
        ("card", HEALTH_SYSTEM, "A1234567", "A1234567", "same"),
        ("card", HEALTH_SYSTEM, "A1234567", "A1234576", "slip"),
        ("card", HEALTH_SYSTEM, "A1234567", "B7654321", "other"),
        ("number", "urn:example:a", "17", "17", "same"),
        ("number", "urn:example:a", "17", "18", "other"),
    ],
)
def test_numbers(field: str, system: str, one: str, other: str, expected: str) -> None:
    assert level(field, numbered(system, one), numbered(system, other)) == expected


def test_numbers_of_two_institutions_are_not_compared() -> None:
    assert level("number", numbered("urn:a", "1"), numbered("urn:b", "1")) == "unknown"
    assert level("card", numbered(HEALTH_SYSTEM, "1"), numbered("urn:b", "1")) == "unknown"


def test_the_mother_is_told_by_an_extension_a_contact_or_the_name() -> None:
    extension = {
        "url": "http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName",
        "valueString": "王芳",
    }
    relation = [{"coding": [{"system": "urn:example:role", "code": "MTH"}]}]
    told = [
        record(extension=[extension]),
        record(contact=[{"relationship": relation, "name": {"text": "王 芳"}}]),
        record(name=[{"text": "王芳之女"}]),
    ]
    assert {frozenset(one.mothers) for one in told} == {frozenset({"王芳"})}
    assert level("mother", told[0], told[1]) == "same"
    assert level("mother", told[0], record(name=[{"text": "李丽之女"}])) == "other"


def test_the_order_of_a_multiple_birth() -> None:
    first, second, some = (
        record(multipleBirthInteger=1), record(multipleBirthInteger=2),
        record(multipleBirthBoolean=True),
    )  # fmt: skip
    assert level("order", first, second) == "other"
    assert level("order", first, first) == "same"
    assert level("order", first, some) == "unknown"


# -- all fields ------------------------------------------------------------------------------------


def test_every_level_has_its_sentence_in_two_languages() -> None:
    assert WORDS.keys() == FIELDS.keys() == FIELD_NAMES.keys()
    assert set(WORDS["name"]) == set(LEVELS)
    for texts in WORDS.values():
        assert "unknown" in texts
        assert all(text.zh and text.en.isascii() for text in texts.values())


def test_an_empty_record_differs_in_nothing() -> None:
    assert set(compare(Record(), Record(**card(CARD))).values()) == {"unknown"}


_TEXTS = st.text(max_size=24) | st.sampled_from(["王芳", "王芳之女", CARD, OLD, "1980-05-06", "·"])
_PATIENTS = st.fixed_dictionaries(
    {},
    optional={
        "identifier": st.lists(
            st.fixed_dictionaries({}, optional={"system": _TEXTS | st.just(ID_SYSTEM),
                                                "value": _TEXTS}), max_size=3),
        "name": st.lists(
            st.fixed_dictionaries({}, optional={"text": _TEXTS, "family": _TEXTS,
                                                "given": st.lists(_TEXTS, max_size=2)}),
            max_size=2),
        "telecom": st.lists(
            st.fixed_dictionaries({"system": st.sampled_from(["phone", "email"])},
                                  optional={"value": _TEXTS}), max_size=2),
        "address": st.lists(
            st.fixed_dictionaries({}, optional={"text": _TEXTS, "city": _TEXTS,
                                                "line": st.lists(_TEXTS, max_size=2)}),
            max_size=2),
        "birthDate": st.sampled_from(["1980", "1980-05", "1980-05-06", "2020-02-29"]),
        "gender": st.sampled_from(["male", "female", "other", "unknown"]),
    },
)  # fmt: skip


@settings(max_examples=examples(150), deadline=None)
@given(_PATIENTS, _PATIENTS)
def test_any_two_patients_can_be_compared_either_way(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    a, b = record(**one), record(**other)
    assert compare(a, b) == compare(b, a)
    for field, found in compare(a, b).items():
        assert found in WORDS[field]
