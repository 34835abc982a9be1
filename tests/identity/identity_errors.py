"""Records of artificial people, with the errors that registration desks make: each is a function
of a record, and how often it happens is a table."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

from identity_people import (
    DOTTED_FAMILY,
    DOTTED_GIVEN,
    GIVEN,
    HEALTH_SYSTEM,
    ID_SYSTEM,
    SOCIAL_SYSTEM,
    TYPES,
    V2_TYPES,
    Person,
)

from fhir_gateway.identity import names
from fhir_gateway.search.types.pinyin import sounds

_WIDE = {ord(digit): 0xFEE0 + ord(digit) for digit in "0123456789X"}


@dataclass
class Draft:
    """A record in the making. Empty is what the desk did not ask for."""

    person: Person
    name: str
    parts: tuple[str, str] | None = None
    former: str = ""
    card: str = ""
    card_type: str = ""
    passport: str = ""
    social: str = ""
    born: str = ""
    sex: str = ""
    phone: str = ""
    address: str = ""
    mother: str = ""
    order: int = 0
    institution: str = "a"
    number: str = ""

    def patient(self) -> dict[str, Any]:
        """The Patient resource."""
        resource: dict[str, Any] = {"resourceType": "Patient", "identifier": self._identifiers()}
        if self.name or self.parts:
            resource["name"] = [{"text": self.name}]
            if self.parts:
                resource["name"] = [{"family": self.parts[0], "given": [self.parts[1]]}]
            if self.former:
                resource["name"].append({"text": self.former, "use": "old"})
        if self.born:
            resource["birthDate"] = self.born
        if self.sex:
            resource["gender"] = self.sex
        if self.phone:
            resource["telecom"] = [{"system": "phone", "value": self.phone}]
        if self.address:
            resource["address"] = [{"text": self.address}]
        if self.mother:
            relation = {"coding": [{"system": "urn:example:role", "code": "MTH"}]}
            resource["contact"] = [{"relationship": [relation], "name": {"text": self.mother}}]
        if self.order:
            resource["multipleBirthInteger"] = self.order
        return resource

    def _identifiers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        if self.card:
            found.append(_typed(self.card_type, self.card))
        if self.passport:
            kind = "06" if self.passport.startswith("H") else "03"
            coding = {"system": TYPES, "code": kind}
            found.append({"type": {"coding": [coding]}, "value": self.passport})
        if self.social:
            system = SOCIAL_SYSTEM if self.person.number % 2 else HEALTH_SYSTEM
            found.append({"system": system, "value": self.social})
        if self.number:
            found.append({"system": f"urn:example:{self.institution}", "value": self.number})
        return found


def _typed(kind: str, value: str) -> dict[str, Any]:
    if kind == "v2":
        return {"type": {"coding": [{"system": V2_TYPES, "code": "NNCHN"}]}, "value": value}
    if kind == "table":
        return {"type": {"coding": [{"system": TYPES, "code": "01"}]}, "value": value}
    return {"system": ID_SYSTEM, "value": value}


def draft(person: Person, chance: random.Random, institution: str = "a") -> Draft:
    """The record that a careful desk makes: some fields are never asked for."""
    foreign = person.kind in ("foreign", "hongkong")
    return Draft(
        person,
        person.name,
        card="" if foreign else person.card,
        card_type=chance.choice(("system", "v2", "table")),
        passport=person.passport,
        social=person.social if chance.random() < 0.5 else "",
        born=person.born.isoformat(),
        sex=person.sex,
        phone=person.phone if chance.random() < 0.85 else "",
        address=person.address if chance.random() < 0.7 else "",
        mother=person.mother if chance.random() < 0.3 else "",
        order=person.order if chance.random() < 0.4 else 0,
        institution=institution,
        number=f"{institution}{person.number:09d}",
    )


# -- errors --------------------------------------------------------------------------------------


def slip(text: str, chance: random.Random) -> str:
    """One digit wrong, or two neighbours changed about."""
    place = chance.randrange(len(text) - 1)
    if chance.random() < 0.4 and text[place] != text[place + 1]:
        return text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    others = [digit for digit in "0123456789" if digit != text[place]]
    return text[:place] + chance.choice(others) + text[place + 1 :]


def _card_form(one: Draft, chance: random.Random) -> None:
    """Another form of the same number."""
    if one.card and chance.random() < 0.3 and one.card[6:8] == "19":
        one.card = one.card[:6] + one.card[8:17]
    elif one.card:
        one.card = chance.choice((
            one.card.lower(), one.card.translate(_WIDE), f"{one.card[:6]} {one.card[6:]} ",
        ))  # fmt: skip


def _card_slip(one: Draft, chance: random.Random) -> None:
    if len(one.card) == 18:
        one.card = slip(one.card, chance)


def _no_card(one: Draft, chance: random.Random) -> None:
    one.card = one.passport = ""


def _older_form(one: Draft, chance: random.Random) -> None:
    one.name = "".join(_traditional().get(character, character) for character in one.name)


@lru_cache(maxsize=1)
def _traditional() -> dict[str, str]:
    file = Path(names.__file__).with_name("characters.json")
    table = json.loads(file.read_text(encoding="utf-8"))
    return dict(zip(table["to"], table["from"], strict=True))


def _by_sound(one: Draft, chance: random.Random) -> None:
    """A character of the given name typed by its sound."""
    if one.person.kind == "dotted":
        first, last = one.person.dotted
        one.name = f"{DOTTED_GIVEN[first]}·{DOTTED_FAMILY[last]}"
    elif one.person.kind != "foreign":
        place = chance.randrange(len(one.person.family), len(one.name))
        alike = _homophones().get(one.name[place], "")
        if alike:
            one.name = one.name[:place] + chance.choice(alike) + one.name[place + 1 :]


@lru_cache(maxsize=1)
def _homophones() -> dict[str, str]:
    by_sound: dict[tuple[str, ...], set[str]] = {}
    for character in GIVEN:
        by_sound.setdefault(sounds("", character), set()).add(character)
    return {
        character: "".join(sorted(alike - {character}))
        for alike in by_sound.values()
        for character in alike
        if len(alike) > 1
    }


def _spelled(one: Draft, chance: random.Random) -> None:
    """In Latin letters, surname first or last."""
    if one.person.kind in ("foreign", "dotted") or one.name != one.person.name:
        return
    syllables = [sounds("", character)[0] for character in one.person.given]
    family = "".join(sounds("", character)[0] for character in one.person.family)
    given = chance.choice(("", " ", "-")).join(syllables)
    one.name = chance.choice((f"{family} {given}", f"{given} {family}")).upper()


def _other_spelling(one: Draft, chance: random.Random) -> None:
    """The spelling of another dialect."""
    if one.person.kind == "hongkong":
        one.name = f"{chance.choice(('CHAN', 'WONG', 'LEUNG'))} TAI {chance.choice('ABC')}AN"


def _lost(one: Draft, chance: random.Random) -> None:
    if one.person.kind == "card" and len(one.name) > 2:
        place = chance.randrange(1, len(one.name))
        one.name = one.name[:place] + chance.choice("?□") + one.name[place + 1 :]


def _in_parts(one: Draft, chance: random.Random) -> None:
    person = one.person
    if one.name != person.name:
        return
    if person.kind == "foreign":
        one.name = chance.choice((
            f"{person.family} {person.given}", f"{person.family.upper()}, {person.given}",
        ))  # fmt: skip
    elif person.kind == "dotted":
        one.name = chance.choice(("".join(person.dotted), "•".join(person.dotted)))
    else:
        one.parts = (person.family, person.given)
        if chance.random() < 0.1:
            one.parts = (person.given, person.family)


def _part(one: Draft, chance: random.Random) -> None:
    if one.person.kind == "dotted":
        one.name = one.person.dotted[0]
    elif one.person.kind == "foreign":
        one.name = f"{one.person.given[0]}. {one.person.family}"


def _surname_changed(one: Draft, chance: random.Random) -> None:
    if one.person.kind == "card" and one.name == one.person.name:
        if chance.random() < 0.5:
            one.former = one.name
        one.name = chance.choice("测试样") + one.person.given


def _mistyped(one: Draft, chance: random.Random) -> None:
    if one.person.kind == "card" and len(one.name) > 2:
        one.name = one.name[:-1] + chance.choice(GIVEN)


def _partial_birth(one: Draft, chance: random.Random) -> None:
    one.born = one.born[: chance.choice((4, 7))]


def _first_of_year(one: Draft, chance: random.Random) -> None:
    one.born = f"{one.born[:4]}-01-01"


def _swapped_birth(one: Draft, chance: random.Random) -> None:
    if len(one.born) == 10 and int(one.born[8:]) <= 12:
        one.born = f"{one.born[:4]}-{one.born[8:]}-{one.born[5:7]}"


def _lunar_birth(one: Draft, chance: random.Random) -> None:
    """The day of the lunar calendar, by the mean moon."""
    moon = (one.person.born.toordinal() + 0.5 - 730_125.593) % 29.530588
    day = int(moon) + 1
    month = (one.person.born.month - 2) % 12 + 1
    year = one.person.born.year - (one.person.born.month == 1)
    if one.person.born.day >= 15 and day <= 28:
        found = date(year, month, day)
        if 17 <= (one.person.born - found).days <= 56:
            one.born = found.isoformat()


def _birth_slip(one: Draft, chance: random.Random) -> None:
    """A digit of the day or the year."""
    try:
        born = date.fromisoformat(one.born)
        years, days = chance.choice(((-10, 0), (10, 0), (-1, 0), (1, 0), (0, 1), (0, -1)))
        one.born = born.replace(year=born.year + years, day=born.day + days).isoformat()
    except ValueError:  # only a part of the date, or a day that is none
        return


def _without(name: str) -> Callable[[Draft, random.Random], None]:
    def leave_out(one: Draft, chance: random.Random) -> None:
        setattr(one, name, type(getattr(one, name))())

    return leave_out


def _wrong_sex(one: Draft, chance: random.Random) -> None:
    one.sex = "male" if one.sex == "female" else "female"


def _new_phone(one: Draft, chance: random.Random) -> None:
    one.phone = f"1999{chance.randrange(10**7):07d}" if one.phone else ""


def _phone_slip(one: Draft, chance: random.Random) -> None:
    one.phone = slip(one.phone, chance) if one.phone else ""


def _phone_form(one: Draft, chance: random.Random) -> None:
    if one.phone:
        one.phone = chance.choice((f"+86 {one.phone}", f"{one.phone[:3]}-{one.phone[3:]}"))


def _social_slip(one: Draft, chance: random.Random) -> None:
    one.social = slip(one.social, chance) if one.social else ""


def _moved(one: Draft, chance: random.Random) -> None:
    one.address = f"示例市{chance.choice('甲乙丙丁')}丘区测试路{chance.randrange(900)}号"


def _short_address(one: Draft, chance: random.Random) -> None:
    one.address = one.address.split("路")[0]


#: Each error and how many of a thousand records have it.
ERRORS: Mapping[Callable[[Draft, random.Random], None], int] = {
    _card_form: 120, _card_slip: 30, _no_card: 220,
    _in_parts: 150, _older_form: 30, _by_sound: 30, _spelled: 20, _other_spelling: 400, _lost: 8,
    _part: 100, _surname_changed: 6, _mistyped: 8,
    _partial_birth: 15, _first_of_year: 20, _swapped_birth: 8, _lunar_birth: 15, _birth_slip: 12,
    _without("born"): 30, _without("sex"): 20, _without("name"): 1, _wrong_sex: 5,
    _new_phone: 200, _phone_slip: 20, _phone_form: 80, _moved: 150, _short_address: 150,
    _without("social"): 100, _social_slip: 15,
}  # fmt: skip


def blunder(one: Draft, chance: random.Random) -> Draft:
    """The record with the errors that befall it."""
    made = replace(one)
    for error, rate in ERRORS.items():
        if chance.randrange(1_000) < rate:
            error(made, chance)
    return made
