"""Which national number is checked how: a table by the NamingSystem that its system belongs to.

GB 11643 (persons, and the permits that use its form), GB 32100 (organisations), WS/T on medical
institutions. What passes is well formed, not proved to be anybody's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from fhir_gateway.terminology.identifier import (
    CREDIT_ALPHABET,
    birth_date,
    normalise_id_number,
    valid_credit_code,
    valid_id_number,
    valid_institution_code,
)


class Wrong(NamedTuple):
    """What is wrong with a number: the rule, and a sentence that goes on from its place."""

    rule: str
    says: str


_FORM = (
    "must have 18 characters (17 digits, then a digit or X) or 15 digits: compare it with the card"
)
_CHECK = "has a wrong check digit (GB 11643): compare it with the card"
_PERMITS = ("810000", "820000", "830000")


def _id_number(value: str) -> Wrong | None:
    number = normalise_id_number(value)
    if len(number) != 18 or not number[:17].isdecimal() or birth_date(number) is None:
        return Wrong("gb11643-form", _FORM)
    return None if valid_id_number(number) else Wrong("gb11643-check", _CHECK)


def _permit(value: str) -> Wrong | None:
    number = normalise_id_number(value)
    if not number.startswith(_PERMITS) or len(number) != 18:
        says = "must have 18 characters and begin with 810000, 820000 or 830000"
        return Wrong("permit-form", says)
    return None if valid_id_number(number) else Wrong("gb11643-check", _CHECK)


def _credit_code(value: str) -> Wrong | None:
    number = value.strip().upper()
    if len(number) != 18 or any(letter not in CREDIT_ALPHABET for letter in number):
        return Wrong("gb32100-form", "must have 18 digits and capitals, without I, O, S, V and Z")
    if valid_credit_code(number):
        return None
    return Wrong(
        "gb32100-check", "has a wrong check character (GB 32100): compare it with the licence"
    )


def _institution_code(value: str) -> Wrong | None:
    if valid_institution_code(value.strip()):
        return None
    return Wrong("institution-code-form", "must have 22 characters, or 12 in the form of clinics")


#: By id of the NamingSystem (profiles/NamingSystem).
_CHECKS: Mapping[str, Callable[[str], Wrong | None]] = {
    "resident-id-card": _id_number,
    "hk-macao-taiwan-residence-permit": _permit,
    "unified-social-credit-code": _credit_code,
    "institution-code": _institution_code,
}


def check_number(naming_system: str, value: str) -> Wrong | None:
    """What is wrong with a number of this kind; None when it is well formed, or of a kind that
    has no check."""
    check = _CHECKS.get(naming_system)
    return check(value) if check is not None else None
