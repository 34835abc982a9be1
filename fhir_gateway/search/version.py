"""The version of what is derived from a resource when it is stored.

Search rows, and beside them facts, report links, identity keys and rows of the register. The number
is raised whenever a stored resource would get other rows than before; a test compares the rows of
sample resources with those of the number, so that it cannot be forgotten. The names of identifier
systems are data of a site (profiles/NamingSystem) and rows depend on them too: their digest stands
beside the number. A store says which version its rows have (`store/index_version.py`), and how it
is brought up to date is in docs/operate.md, section Upgrade.
"""

from __future__ import annotations

#: 1: every search parameter of R4, with texts of tokens, UCUM base units, pinyin and composites.
#: 2: identifiers under the preferred name of their system; local codes that no map knows; the
#: mother's maiden name. 3: decisions by day, item, outcome, rule set and visit; Tasks by code,
#: owner, requester and time across patients; who relies on what; links, merges and questions
#: about identity; facts with zone, quantity, contrast and accession; Endpoints and their checks.
#: 4: treatment relations, consents, whose the report of a result is. 5: bookable time.
INDEX_VERSION = 5

_DIGEST, _MADE, _BITS = 32, 16, 0xFFFF


def version_of(digest: int) -> int:
    """The version of rows that this program makes with identifier systems of this digest."""
    return digest << _DIGEST | INDEX_VERSION


def program_of(version: int) -> int:
    """The program's part of a version."""
    return version & _BITS


def is_same(one: int, other: int) -> bool:
    """Whether two versions make the same rows, however often a store has gone over to them."""
    return one & ~(_BITS << _MADE) == other & ~(_BITS << _MADE)


def again(version: int, before: int) -> int:
    """The version with a number beside it that tells it from what a store had before: one that
    goes back to systems it knew once has to be indexed again."""
    made = before >> _MADE & _BITS
    return version | (made + 1 & _BITS) << _MADE
