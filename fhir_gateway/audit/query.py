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
    "mothersmaidenname", "name", "phone", "phonetic", "sourceidentifier", "telecom", "text",
)  # fmt: skip
_NAMES = "|".join(map(re.escape, _PERSONAL))
_PARAMETER = re.compile(
    rf"((?:^|[?&])(?:[^=&]*[.:])?(?:{_NAMES})(?:[:.][^=&]*)?=)([^&]*)", re.IGNORECASE
)


def masked(query: str, key: bytes) -> str:
    """The query with the values of personal parameters replaced by keyed pseudonyms (`~…`)."""

    def pseudonym(match: re.Match[str]) -> str:
        value = match[2].encode("utf-8", "surrogatepass")
        return f"{match[1]}~{blake2b(value, digest_size=8, key=key[:64]).hexdigest()}"

    return _PARAMETER.sub(pseudonym, query)
