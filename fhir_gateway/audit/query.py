"""Queries as the audit keeps them: what was asked stays legible, whom it names does not.

BALP keeps the raw request; the law of personal information keeps identity numbers, names and
telephone numbers out of logs. So values of parameters that can carry them are replaced by a keyed
pseudonym: the same value gives the same pseudonym, and nobody without the key can guess it.
"""

from __future__ import annotations

import re
from hashlib import blake2b

#: Search parameters of R4 whose values identify people. Chains count by any of their parts.
_PERSONAL = (
    "_content", "_filter", "_text", "address", "address-city", "address-postalcode",
    "address-state", "birthdate", "content", "email", "family", "given", "identifier",
    "mothersmaidenname", "name", "phone", "phonetic", "reason", "referral-identifier",
    "sourceidentifier", "telecom", "text",
)  # fmt: skip
_NAMES = "|".join(map(re.escape, _PERSONAL))
#: Parameters whose values are results: value-quantity, code-value-string, combo-value-concept …
_VALUES = r"(?:[a-z]+-)*value-[a-z]+"
_PARAMETER = re.compile(
    rf"((?:^|[?&])(?:[^=&]*[.:])?(?:{_NAMES}|{_VALUES})(?:[:.][^=&]*)?=)([^&]*)", re.IGNORECASE
)

#: What looks like an identity number or a mobile number, wherever it stands: also in a parameter
#: that does not exist, for its refusal is on record too.
_NUMBER = re.compile(r"(?<![0-9])(?:[0-9]{17}[0-9Xx]|[0-9]{15}|1[3-9][0-9]{9})(?![0-9Xx])")


def masked(query: str, key: bytes) -> str:
    """The query with what identifies people, and values of results, as keyed pseudonyms (`~…`)."""

    def pseudonym(text: str) -> str:
        value = text.encode("utf-8", "surrogatepass")
        return f"~{blake2b(value, digest_size=8, key=key[:64]).hexdigest()}"

    known = _PARAMETER.sub(lambda match: match[1] + pseudonym(match[2]), query)
    return _NUMBER.sub(lambda match: pseudonym(match[0]), known)
