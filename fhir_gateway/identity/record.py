"""A Patient as it is compared with another: its fields in one form each, nothing of it stored.

Numbers lose width, case and blanks, names their marks and the older forms of their characters, an
address is left as its region. What cannot be read says nothing; it is never a difference.
hl7.org/fhir/R4/patient.html
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fhir_gateway.identity.cross_reference import ID_CARD, Document, derive, documents
from fhir_gateway.identity.names import Name, names, read_name
from fhir_gateway.store.changes import Derived
from fhir_gateway.terminology.identifier import birth_date, fold_id_number, sex
from fhir_gateway.terminology.naming import Naming

MAIDEN_NAME = "http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName"

#: Cards that a person has one of, by the id of their NamingSystem.
CARDS = frozenset({
    "resident-health-card", "electronic-health-card", "resident-health-record",
    "social-security-card", "medical-insurance-number",
})  # fmt: skip

#: Nobody compares more of one kind than this.
MOST = 16

#: What is meant for a number of an identity card and is not one.
_ROUGH = re.compile(r"[0-9]{14,18}[0-9X]")
_ROUGH_YEARS = ("18", "19", "20")


class Region(NamedTuple):
    """Where an address lies, as far as it says so; `text` is all of it, without blanks."""

    province: str = ""
    city: str = ""
    district: str = ""
    text: str = ""


class Record(NamedTuple):
    """A Patient as it is compared.

    `keys` are its identity keys of kind 1, `document_keys` of kind 2. `documents` are well formed;
    of these `contradicted` say another birth date than the record and may be somebody else's.
    `rough` are numbers of identity cards with a fault. `birth` is a date of any precision, taken
    from the document where the record has none. `cards` and `numbers` are (system, number).
    `order` is the place among children of one birth, 0 when several were born and no place is said.
    """

    keys: frozenset[bytes] = frozenset()
    document_keys: frozenset[bytes] = frozenset()
    documents: tuple[Document, ...] = ()
    contradicted: tuple[Document, ...] = ()
    rough: tuple[str, ...] = ()
    names: tuple[Name, ...] = ()
    birth: str = ""
    sex: str = ""
    phones: frozenset[str] = frozenset()
    emails: frozenset[str] = frozenset()
    regions: tuple[Region, ...] = ()
    cards: frozenset[tuple[str, str]] = frozenset()
    numbers: frozenset[tuple[str, str]] = frozenset()
    mothers: frozenset[str] = frozenset()
    order: int | None = None

    @property
    def elder(self) -> bool:
        """Whether it bears the document of somebody born ten years before it, or earlier."""
        if len(self.birth) < 4:
            return False
        years = [int(one.number[6:10]) for one in self.contradicted]
        return any(int(self.birth[:4]) - year >= 10 for year in years)

    @property
    def newborn(self) -> Name | None:
        """The name that says whose child this is, when no name of its own is in use."""
        for name in self.names:
            if not name.former:
                return name if name.is_newborn else None
        return None


def record_of(patient: Mapping[str, Any], naming: Naming) -> Record:
    """The fields of a Patient. Never fails on a Patient that FHIR allows."""
    derived = Derived()
    derive(dict(patient), derived, naming=naming)
    found = tuple(dict.fromkeys(documents(patient, naming)))[:MOST]
    stated = patient.get("birthDate", "")
    contradicted = tuple(one for one in found if _contradicts(one, stated))
    own = [one for one in found if one.kind == ID_CARD and one not in contradicted]
    cards, numbers, rough = _numbers(patient, naming, found)
    mine = names(patient)[:MOST]
    return Record(
        keys=frozenset(key for key, kind in derived.identity if kind == 1),
        document_keys=frozenset(key for key, kind in derived.identity if kind == 2),
        documents=found,
        contradicted=contradicted,
        rough=rough,
        names=mine,
        birth=_birth(stated, own),
        sex=_sex(patient, own),
        phones=frozenset(_telecom(patient, ("phone", "sms"), _phone)),
        emails=frozenset(_telecom(patient, ("email",), str.casefold)),
        regions=tuple(_region(one) for one in patient.get("address", ())[:MOST]),
        cards=cards,
        numbers=numbers,
        mothers=frozenset(_mothers(patient, mine)),
        order=_order(patient),
    )


def _contradicts(document: Document, stated: str) -> bool:
    if document.kind != ID_CARD or not stated:
        return False
    born = birth_date(document.number)
    return born is None or not born.isoformat().startswith(stated)


def _birth(stated: str, own: Iterable[Document]) -> str:
    """The birth date that the record states, or more of it where its own document tells more."""
    for document in own:
        born = birth_date(document.number)
        if born is not None:
            return born.isoformat()
    return stated


def _sex(patient: Mapping[str, Any], own: list[Document]) -> str:
    """What the record's own document says, else what the record states."""
    if own:
        return sex(own[0].number)
    stated: str = patient.get("gender", "")
    return stated if stated in ("male", "female") else ""


# -- numbers -----------------------------------------------------------------------------------

_Pairs = frozenset[tuple[str, str]]


def _numbers(
    patient: Mapping[str, Any], naming: Naming, found: Iterable[Document]
) -> tuple[_Pairs, _Pairs, tuple[str, ...]]:
    """Cards, other numbers, and what is nearly the number of an identity card."""
    cards, numbers, rough = set(), set(), []
    known = {document.number for document in found}
    for identifier in patient.get("identifier", ())[: 4 * MOST]:
        value, system = identifier.get("value", ""), identifier.get("system", "")
        if not value or identifier.get("use") == "old":
            continue
        kind = naming.find(system)
        pair = naming.normal(system, _plain(value))
        folded = fold_id_number(value)
        if kind is not None and kind.id in CARDS:
            cards.add(pair)
        elif (kind is not None and kind.form == "id-number") or _looks_rough(folded, kind):
            if _ROUGH.fullmatch(folded) and not known & {folded, _extended(folded)}:
                rough.append(folded)
        elif system and (kind is None or not kind.types):
            numbers.add(pair)
    return frozenset(cards), frozenset(numbers), tuple(dict.fromkeys(rough))


def _looks_rough(folded: str, kind: object) -> bool:
    """Whether a number of an unknown system has the form of an identity card's, birth year and all.

    Typing errors and unnamed systems go together; a number that is none is near to none either.
    """
    return kind is None and len(folded) == 18 and folded[6:8] in _ROUGH_YEARS


def _extended(folded: str) -> str:
    return f"{folded[:6]}19{folded[6:]}" if len(folded) == 15 else folded


def _plain(value: str) -> str:
    return "".join(unicodedata.normalize("NFKC", value).split())


# -- telecom and address -----------------------------------------------------------------------


def _telecom(patient: Mapping[str, Any], systems: tuple[str, ...], plain: Any) -> Iterator[str]:
    for contact in patient.get("telecom", ())[:MOST]:
        if contact.get("system") in systems and contact.get("use") != "old":
            text = plain(contact.get("value", ""))
            if text:
                yield text


def _phone(text: str) -> str:
    """The digits, without the country's; what is too short to tell people apart is left out."""
    digits = re.sub(r"[^0-9]", "", unicodedata.normalize("NFKC", text))
    digits = re.sub(r"^(?:00)?86(?=1[3-9][0-9]{9}$)", "", digits)
    return digits if len(digits) >= 7 and len(set(digits)) > 2 else ""


_REGION = re.compile(
    r"(?P<province>[^省市区县]{2,8}?(?:省|自治区|特别行政区))?"
    r"(?P<city>[^省市区县]{1,12}?(?:自治州|地区|盟|市))?"
    r"(?P<district>[^省市区县旗路街号]{1,12}?(?:自治县|区|县|旗|市))?"
)


def _region(address: Mapping[str, Any]) -> Region:
    text = address.get("text") or "".join(
        [address.get(name) or "" for name in ("state", "city", "district")]
        + [line for line in address.get("line", ()) if line]
    )
    plain = _plain(text)[:200]
    match = _REGION.match(plain)
    said = match.groupdict() if match else {}
    return Region(
        _place(address.get("state") or said.get("province")),
        _place(address.get("city") or said.get("city")),
        _place(address.get("district") or said.get("district")),
        plain.casefold(),
    )


def _place(name: str | None) -> str:
    """The name of a place without the word for its kind: 北京市 and 北京 are one."""
    plain = _plain(name or "")
    short = re.sub(r"(?:特别行政区|自治区|自治州|自治县|地区|省|市|区|县|旗|盟)$", "", plain)
    return short if len(short) > 1 else plain


# -- birth and mother ----------------------------------------------------------------------------


def _mothers(patient: Mapping[str, Any], mine: Iterable[Name]) -> Iterator[str]:
    """The mother's names: from the record, from its contacts, and from a name such as 王芳之子."""
    for extension in patient.get("extension", ()):
        if extension.get("url") == MAIDEN_NAME and extension.get("valueString"):
            yield from _told(extension["valueString"])
    for contact in patient.get("contact", ()):
        codes = {
            coding.get("code")
            for concept in contact.get("relationship", ())
            for coding in concept.get("coding", ())
        }
        if codes & {"MTH", "NMTH", "mother"} and contact.get("name"):
            for name in names({"name": [contact["name"]]}):
                yield name.text
    for name in mine:
        if name.mother:
            yield from _told(name.mother)


def _told(text: str) -> Iterator[str]:
    name = read_name(text)
    if name is not None:
        yield name.text


def _order(patient: Mapping[str, Any]) -> int | None:
    order = patient.get("multipleBirthInteger")
    if isinstance(order, int) and not isinstance(order, bool):
        return order
    return 0 if patient.get("multipleBirthBoolean") is True else None
