"""Two people who look like one (faults.md 68): whatever agrees, they are never certain to be one.

Only *certain* is one person without anybody's word (test_identity_review.py); so these pairs are at
most candidates, and a result of the other one is not recognised.
"""

from __future__ import annotations

from typing import Any

import pytest
from identity_people import ID_SYSTEM, TYPES, with_check

from fhir_gateway.identity.record import Record, record_of
from fhir_gateway.identity.score import match
from fhir_gateway.settings import load_settings
from fhir_gateway.terminology.naming_files import load_naming

NAMING = load_naming(load_settings({}).profiles)
DAY = "1980-05-06"
CARD = with_check("99010119800506123")
#: The card whose check sign is X, and one that differs in the place before it.
WITH_X = next(c for n in range(100, 999) if (c := with_check(f"99010119800506{n}"))[-1] == "X")
BESIDE_X = with_check(WITH_X[:16] + str((int(WITH_X[16]) + 2) % 10))
SAME_HOUSE: dict[str, Any] = {
    "telecom": [{"system": "phone", "value": "19990001234"}],
    "address": [{"text": "示例市东河区测试路1号2室"}],
    "contact": [
        {"relationship": [{"coding": [{"code": "MTH"}]}], "name": {"text": "示例母"}}
    ],
}  # fmt: skip


def card(number: str) -> dict[str, Any]:
    return {"identifier": [{"system": ID_SYSTEM, "value": number}]}


def paper(kind: str, number: str) -> dict[str, Any]:
    return {
        "identifier": [{"type": {"coding": [{"system": TYPES, "code": kind}]}, "value": number}]
    }


def passport(country: str, number: str) -> dict[str, Any]:
    system = f"http://hl7.org/fhir/sid/passport-{country}"
    return {"identifier": [{"system": system, "value": number}]}


def person(name: str = "欧阳示例", born: str = DAY, **more: Any) -> Record:
    patient = {"resourceType": "Patient", "name": [{"text": name}], "gender": "female",
               "birthDate": born, **more}  # fmt: skip
    return record_of(patient, NAMING)


#: Two people each, who share all that people share.
TWO = {
    "the same name and birth date": (person(), person()),
    "and the same house": (person(**SAME_HOUSE), person(**SAME_HOUSE)),
    "the short number of another card": (
        person(**card(CARD)),
        person(**card(with_check(CARD[:16] + "9")[:6] + with_check(CARD[:16] + "9")[8:17])),
    ),
    "cards that differ before the X": (person(**card(WITH_X)), person(**card(BESIDE_X))),
    "a card without its X": (person(**card(WITH_X)), person(**card(WITH_X[:17]))),
    "a check sign that is not the number's": (
        person(**card(WITH_X)), person(**card(WITH_X[:17] + "1")),
    ),
    "a newborn on its mother's card": (
        person("示例母", "1980-05-06", **card(CARD)),
        person("示例母之女", "2026-10-01", **card(CARD)),
    ),
    "a newborn under its mother's name": (
        person("示例母", "1980-05-06", **card(CARD)),
        person("示例母", "2026-10-01", **card(CARD)),
    ),
    "permits of Hong Kong and of Macao": (
        person(**paper("06", "H12345678")), person(**paper("06", "M12345678")),
    ),
    "a permit of Taiwan and a passport": (
        person(**paper("07", "12345678")), person(**paper("03", "12345678")),
    ),
    "passports of two countries": (
        person("John Sample", **passport("FRA", "ZZ1234567")),
        person("John Sample", **passport("USA", "ZZ1234567")),
    ),
    "twins": (
        person("欧阳示", multipleBirthInteger=1, **SAME_HOUSE, **card(CARD)),
        person("欧阳例", multipleBirthInteger=2, **SAME_HOUSE,
               **card(with_check(CARD[:16] + "5"))),
    ),
    "twins without a name": (
        person("示例母之女", "2026-10-01", multipleBirthInteger=1, **SAME_HOUSE),
        person("示例母之女", "2026-10-01", multipleBirthInteger=2, **SAME_HOUSE),
    ),
    "one card under two names": (person(**card(CARD)), person("李示例", **card(CARD))),
    "one card under names that sound alike": (
        person("张伟民", **card(CARD)), person("章卫民", **card(CARD)),
    ),
    "one card under two given names": (
        person("欧阳示", **card(CARD)), person("欧阳例", **card(CARD)),
    ),
    "somebody who borrowed a card": (
        person(**card(CARD)), person("李示例", "1975-01-01", **card(CARD)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TWO)
def test_068_two_people_are_never_certain_to_be_one(kind: str) -> None:
    one, other = TWO[kind]
    for found in (match(one, other), match(other, one)):
        assert found.grade in ("probable", "possible", "certainly-not"), (kind, found)


#: One person, written in two ways: what must not be lost by all that care.
ONE = {
    "the number of fifteen digits": (
        person(**card(CARD)), person(**card(CARD[:6] + CARD[8:17])),
    ),
    "x and X": (person(**card(WITH_X)), person(**card(WITH_X.lower()))),
    "a permit that was renewed": (
        person(**paper("06", "H12345678")), person(**paper("06", "H1234567801")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ONE)
def test_068_one_person_is_found_in_both_ways_to_write_it(kind: str) -> None:
    assert match(*ONE[kind]).grade == "certain"
