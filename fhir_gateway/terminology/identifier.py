"""Check digits of the national numbers: GB 11643 (persons) and GB 32100 (organisations).

A number that passes is well formed, not proved to be anybody's. Pure arithmetic.
"""

from __future__ import annotations

import re
from datetime import date

_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECKS = "10X98765432"
_ID_NUMBER = re.compile(r"[1-9][0-9]{16}[0-9X]")
_OLD_ID_NUMBER = re.compile(r"[1-9][0-9]{14}")

#: The characters of a credit code: no I, O, S, V, Z.
CREDIT_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_CREDIT_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)

# Full-width forms as Chinese input methods type them, and spaces that forms leave behind.
_FOLD = {0xFF10 + i: str(i) for i in range(10)} | {0xFF38: "X", 0xFF58: "X", ord("x"): "X"}
_FOLD |= {ord(space): "" for space in " \t\u3000\u00a0"}


def fold_id_number(text: str) -> str:
    """The number half-width, with an upper-case X and without blanks; its length stays."""
    return text.strip().translate(_FOLD)


def normalise_id_number(text: str) -> str:
    """The number in its 18-character form: half-width, upper-case X, 15 digits extended.

    What is not of either form comes back folded but otherwise as it was; `valid_id_number` tells.
    """
    folded = fold_id_number(text)
    if _OLD_ID_NUMBER.fullmatch(folded):
        body = f"{folded[:6]}19{folded[6:]}"
        return body + _id_check(body)
    return folded


def valid_id_number(text: str) -> bool:
    """Whether the text, normalised, is a well-formed 居民身份证 number with a possible date."""
    number = normalise_id_number(text)
    if not _ID_NUMBER.fullmatch(number) or _id_check(number[:17]) != number[17]:
        return False
    return birth_date(number) is not None


def birth_date(number: str) -> date | None:
    """The birth date inside an 18-character number; None when it is no date."""
    try:
        return date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return None


def sex(number: str) -> str:
    """The FHIR administrative gender that the 17th digit of an 18-character number says."""
    return "male" if int(number[16]) % 2 else "female"


def _id_check(body: str) -> str:
    return _CHECKS[sum(int(d) * w for d, w in zip(body, _WEIGHTS, strict=True)) % 11]


def valid_credit_code(text: str) -> bool:
    """Whether the text is a well-formed 统一社会信用代码 (check character modulo 31)."""
    if len(text) != 18 or any(c not in CREDIT_ALPHABET for c in text):
        return False
    pairs = zip(text[:17], _CREDIT_WEIGHTS, strict=True)
    total = sum(CREDIT_ALPHABET.index(c) * weight for c, weight in pairs)
    return CREDIT_ALPHABET[-total % 31] == text[17]


def valid_institution_code(text: str) -> bool:
    """Whether the text has a form of a 医疗机构代码: 22 characters, or 12 (clinics' old form)."""
    return bool(re.fullmatch(r"[0-9A-Z]{9}[0-9]{6}[0-9A-Z]{7}|[0-9A-Z]{12}", text))
