"""Identity keys of a Patient: by which records are known to be one person's.

Kind 1 is the normalised identity document together with the normalised name, kind 2 the document
alone. Two records with the same kind 1 key are one person; the same kind 2 key under another name
is a conflict and never a link. A document that cannot be checked gives no key, and one that
contradicts the record (a newborn on the mother's card) is not this person's and gives none either:
nobody is linked by a guess, nor by name and birth date. Which identifier systems are documents, by
all of their names, is said in profiles/NamingSystem (terminology/naming.py).
GB 11643 (ID numbers), WS 364 CV02.01.101 (kinds of documents),
hl7.org/fhir/R4/patient.html
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from fhir_gateway.fhir.datatypes import fold
from fhir_gateway.identity.names import read_name
from fhir_gateway.store.changes import Derived
from fhir_gateway.terminology.identifier import birth_date, normalise_id_number, valid_id_number
from fhir_gateway.terminology.naming import Naming

DOCUMENT_AND_NAME, DOCUMENT = 1, 2

#: Kinds of documents by CV02.01.101: the key separates them, so that a passport number never
#: meets a driving licence of the same digits. 02 (household register) and 99 (other) are not
#: documents of one person; a household register number is the ID number itself.
ID_CARD = "01"
_KINDS: Mapping[str, str] = {
    "01": ID_CARD,  # 居民身份证
    "03": "03",  # 护照
    "04": "04",  # 军官证
    "05": ID_CARD,  # 驾驶证: its number is the ID number
    "06": "06",  # 港澳居民来往内地通行证
    "07": "07",  # 台湾居民来往内地通行证
}

#: Passports by the code of their country (hl7.org/fhir/R4/identifier-registry.html).
_PASSPORT = "http://hl7.org/fhir/sid/passport-"

#: Numbers of this form are of one series: those of identity cards, and of the residence permits of
#: GB 11643, which begin with 81, 82 and 83.
_ID_FORM = "id-number"

#: Name of the national table in Identifier.type.coding.system, whatever root stands before it.
_TYPE_TABLE = "CV02.01.101"

#: HL7 v2 table 0203.
_V2_TYPES: Mapping[str, str] = {"NI": ID_CARD, "NNCHN": ID_CARD, "PPN": "03"}
_V2_SYSTEM = "http://terminology.hl7.org/CodeSystem/v2-0203"

#: What a number of each kind looks like, and the part of it that stays for life or for the book.
_FORMS: Mapping[str, re.Pattern[str]] = {
    "03": re.compile(r"([A-Z0-9]{5,15})"),
    "04": re.compile(r"(\w{4,20})"),
    "06": re.compile(r"([HM][0-9]{8})(?:[0-9]{2})?"),  # two digits count the renewals
    "07": re.compile(r"([0-9]{8})(?:[0-9]{2})?"),
}

_NAME_MARKS = re.compile(r"[\s·•・‧∙⋅．.\-'’,，]+")


class Document(NamedTuple):
    """An identity document as it is compared."""

    kind: str
    number: str
    country: str = ""  # of a passport, as far as the system says it


def derive(resource: dict[str, Any], derived: Derived, *, naming: Naming) -> None:
    """Adds the identity keys of a Patient to `derived`; other types add nothing."""
    if resource.get("resourceType") != "Patient":
        return
    if _is_newborn(resource):
        return  # the card is the mother's, and her other child has the same name on it
    names = normalised_names(resource)
    found = dict.fromkeys(documents(resource, naming))
    borne = [one for one in found if not _contradicts(one, resource)]
    cards = sum(document.kind == ID_CARD for document in borne)
    for document in borne:
        if document.kind == ID_CARD and cards > 1:
            continue  # a person has one number: of two, one is somebody else's
        derived.identity.append((_key(document, ""), DOCUMENT))
        derived.identity += [(_key(document, name), DOCUMENT_AND_NAME) for name in names]


def documents(patient: Mapping[str, Any], naming: Naming) -> Iterator[Document]:
    """The identity documents of a Patient that are well formed and in use."""
    for identifier in patient.get("identifier", ()):
        if identifier.get("use") == "old" or not identifier.get("value"):
            continue
        kind = _kind(identifier, naming)
        if kind is None:
            continue
        number = _normalise(kind, identifier["value"])
        if number is not None:
            country = _country(identifier, naming) if kind == "03" else ""
            yield Document(kind, number, country)


def normalised_names(patient: Mapping[str, Any]) -> list[str]:
    """The name in use, without spaces, dots, case and width; empty when there is none.

    One name only: a former or second name would link a person to whoever bears it.
    """
    for name in _names_by_use(patient):
        text = name.get("text") or _joined(name)
        folded = fold(_NAME_MARKS.sub("", unicodedata.normalize("NFKC", text)))
        if folded:
            return [folded]
    return []


def _names_by_use(patient: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    order = {"official": 0, None: 1, "usual": 2}
    names = [name for name in patient.get("name", ()) if name.get("use") in order]
    return sorted(names, key=lambda name: order[name.get("use")])


def _is_newborn(patient: Mapping[str, Any]) -> bool:
    """Whether a name in use names a child by its mother, as 王芳之子 does."""
    texts = (name.get("text") or _joined(name) for name in _names_by_use(patient))
    read = (read_name(text) for text in texts)
    return any(name is not None and name.is_newborn for name in read)


def _joined(name: Mapping[str, Any]) -> str:
    """Family name first, as Chinese documents print it."""
    return "".join([name.get("family", ""), *name.get("given", ())])


def _kind(identifier: Mapping[str, Any], naming: Naming) -> str | None:
    """The kind that the system says by itself, else the one that the type says."""
    system = identifier.get("system", "")
    known = naming.find(system)
    if known is not None:
        return ID_CARD if known.form == _ID_FORM else _typed(known.types)
    if system.startswith(_PASSPORT):
        return "03"
    codings = identifier.get("type", {}).get("coding", ())
    return _typed((coding.get("system", ""), coding.get("code", "")) for coding in codings)


def _typed(codings: Iterable[tuple[str, str]]) -> str | None:
    for system, code in codings:
        if system.endswith(_TYPE_TABLE) and code in _KINDS:
            return _KINDS[code]
        if system == _V2_SYSTEM and code in _V2_TYPES:
            return _V2_TYPES[code]
    return None


def _normalise(kind: str, value: str) -> str | None:
    """The number in the one form that is compared; None when it is not well formed."""
    if kind == ID_CARD:
        return normalise_id_number(value) if valid_id_number(value) else None
    number = "".join(unicodedata.normalize("NFKC", value).upper().split())
    match = _FORMS[kind].fullmatch(number)
    return match[1] if match else None


def _country(identifier: Mapping[str, Any], naming: Naming) -> str:
    system = naming.preferred(identifier.get("system", ""))
    return system.removeprefix(_PASSPORT) if system.startswith(_PASSPORT) else ""


def _contradicts(document: Document, patient: Mapping[str, Any]) -> bool:
    """Whether the record's birth date is another than the one inside the ID number."""
    stated = patient.get("birthDate")
    if document.kind != ID_CARD or not stated:
        return False
    born = birth_date(document.number)
    return born is None or not born.isoformat().startswith(stated)


def _key(document: Document, name: str) -> bytes:
    text = "\x1f".join((*document, name))
    return blake2b(text.encode(), digest_size=16).digest()
