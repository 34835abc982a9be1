"""Two records of patients, field by field: each field has one level of a closed list.

Nothing is weighed or decided here. `unknown` says that one of the records is silent or that the two
cannot be compared; it counts neither way. Levels and their sentences stand in `words.py`, the
weights of the levels in `weights.json`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import date
from itertools import product

from rapidfuzz.distance import OSA

from fhir_gateway.identity.compare_names import compare_names
from fhir_gateway.identity.cross_reference import ID_CARD, Document
from fhir_gateway.identity.record import Record, Region

UNKNOWN = "unknown"

#: The level of each field, by its name.
Levels = Mapping[str, str]


def compare(one: Record, other: Record) -> dict[str, str]:
    """The level of every field."""
    return {field: level(one, other) for field, level in FIELDS.items()}


def slips(one: str, other: str) -> bool:
    """Whether one slip of a finger lies between two texts: a digit, or two changed about."""
    return abs(len(one) - len(other)) <= 1 and OSA.distance(one, other, score_cutoff=1) == 1


# -- documents -----------------------------------------------------------------------------------


def _document(one: Record, other: Record) -> str:
    shared = set(one.documents) & set(other.documents)
    if shared:
        doubted = {*one.contradicted, *other.contradicted}
        return "contradicted" if shared <= doubted else "same"
    if _loosely_same(one.documents, other.documents):
        return "same"
    cards = [[document.number for document in record.documents if document.kind == ID_CARD]
             for record in (one, other)]  # fmt: skip
    faulty = [*product(one.rough, (*cards[1], *other.rough)), *product(cards[0], other.rough)]
    if any(first == second for first, second in faulty):
        return "same-faulty"
    if any(slips(first, second) for first, second in faulty):
        return "slip"
    return _differing(one, other)


def _loosely_same(ours: Collection[Document], theirs: Collection[Document]) -> bool:
    """The same passport number where one of the records does not say of which country."""
    return any(
        (a.kind, a.number) == (b.kind, b.number) and "" in (a.country, b.country)
        for a, b in product(ours, theirs)
    )


def _differing(one: Record, other: Record) -> str:
    pairs = [
        (a, b)
        for a, b in product(one.documents, other.documents)
        if a.kind == b.kind and (a.country == b.country or "" in (a.country, b.country))
    ]
    if any(a.kind == ID_CARD for a, _ in pairs):
        return "other-card"
    return "other" if pairs else UNKNOWN


# -- birth ---------------------------------------------------------------------------------------

#: The mean month of the moon, and a new moon (2000-01-06 18:14 UTC) as a day with its fraction.
_MONTH, _NEW_MOON = 29.530588, date(2000, 1, 6).toordinal() + 18.23 / 24 + 8 / 24
#: How many days a date of the lunar calendar lies before the same day in the solar one.
_LUNAR = range(17, 57)


def _birth(one: Record, other: Record) -> str:
    short, long = sorted((one.birth, other.birth), key=len)
    if not short:
        return UNKNOWN
    if len(short) < 10:
        return _partial(short, long)
    return _full(short, long)


def _full(one: str, other: str) -> str:
    """The level of two full dates."""
    if one == other:
        return "same-default" if one.endswith("-01-01") else "same"
    if one[:4] == other[:4]:
        if one[5:7] == other[8:] and one[8:] == other[5:7]:
            return "swapped"
        if "01-01" in (one[5:], other[5:]):
            return "default"
    if _lunar(one, other) or _lunar(other, one):
        return "lunar"
    return "slip" if slips(one.replace("-", ""), other.replace("-", "")) else "other"


def _partial(short: str, long: str) -> str:
    if not long.startswith(short):
        return "other"
    return "year" if len(short) == 4 else "month"


def _lunar(solar: str, lunar: str) -> bool:
    """Whether the second date may be the day of the first in the lunar calendar.

    The day of the month tells the age of the moon; the mean moon is never a day off.
    """
    try:
        day, told = date.fromisoformat(solar), date.fromisoformat(lunar)
    except ValueError:
        return False
    if (day - told).days not in _LUNAR:
        return False
    age = (day.toordinal() + 0.5 - _NEW_MOON) % _MONTH
    return min(abs(age + 1 - told.day - shift) for shift in (-_MONTH, 0, _MONTH)) <= 1.6


# -- the other fields ----------------------------------------------------------------------------


def _sex(one: Record, other: Record) -> str:
    if not (one.sex and other.sex):
        return UNKNOWN
    return "same" if one.sex == other.sex else "other"


def _phone(one: Record, other: Record) -> str:
    if one.phones & other.phones or one.emails & other.emails:
        return "same"
    if not (one.phones and other.phones):
        return UNKNOWN
    near = any(slips(a, b) for a, b in product(one.phones, other.phones) if len(a) > 9)
    return "slip" if near else "other"


_PLACES = ("same", "district", "city", "other", UNKNOWN)


def _address(one: Record, other: Record) -> str:
    found = {_regions(a, b) for a, b in product(one.regions, other.regions)}
    return next((level for level in _PLACES if level in found), UNKNOWN)


def _regions(one: Region, other: Region) -> str:
    if one.text == other.text and len(one.text) >= 8:
        return "same"
    if one.district and other.district:
        alike = one.district == other.district and _agree(one.city, other.city)
        if alike:
            return "district"
    if one.city and other.city:
        return "city" if one.city == other.city else "other"
    if one.province and other.province and one.province != other.province:
        return "other"
    return UNKNOWN


def _agree(one: str, other: str) -> bool:
    return not (one and other) or one == other


def _card(one: Record, other: Record) -> str:
    if one.cards & other.cards:
        return "same"
    pairs = [(a[1], b[1]) for a, b in product(one.cards, other.cards) if a[0] == b[0]]
    if not pairs:
        return UNKNOWN
    return "slip" if any(slips(a, b) for a, b in pairs) else "other"


def _number(one: Record, other: Record) -> str:
    if one.numbers & other.numbers:
        return "same"
    systems = {system for system, _ in one.numbers} & {system for system, _ in other.numbers}
    return "other" if systems else UNKNOWN


def _mother(one: Record, other: Record) -> str:
    if not (one.mothers and other.mothers):
        return UNKNOWN
    return "same" if one.mothers & other.mothers else "other"


def _order(one: Record, other: Record) -> str:
    if not one.order or not other.order:
        return UNKNOWN
    return "same" if one.order == other.order else "other"


#: Each field and how it is compared, in the order in which it is explained.
FIELDS: Mapping[str, Callable[[Record, Record], str]] = {
    "document": _document,
    "name": lambda one, other: compare_names(one.names, other.names),
    "birth": _birth,
    "sex": _sex,
    "phone": _phone,
    "address": _address,
    "card": _card,
    "number": _number,
    "mother": _mother,
    "order": _order,
}
