"""SMART scopes: what they say, and what of a request they grant.

hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html (2.2.0), "Scopes for requesting FHIR
Resources". A scope never gives more than the role of its bearer has: it takes away. Several scopes
add up, each by what it truly grants: version 1 says read (.rs), write (.cud) and * (.cruds), and
a scope with a query grants what its query finds and nothing beside.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.security.actor import Actor

Level = Literal["patient", "user", "system"]

#: A query of a scope: its search parameters, in the order in which they stand.
Query = tuple[tuple[str, str], ...]

#: Version 1 as version 2 reads it (section "Scope equivalence").
_VERSION_1 = {"read": "rs", "write": "cud", "*": "cruds"}
_LETTERS = "cruds"

#: What a token may say beside of resources; it grants nothing of them.
LAUNCH = frozenset({
    "launch", "launch/patient", "launch/encounter", "openid", "fhirUser", "profile",
    "online_access", "offline_access",
})  # fmt: skip

#: The letters that an interaction of FHIR needs (section "Scopes for requesting FHIR Resources").
INTERACTIONS = {
    "create": "c", "read": "r", "vread": "r", "history-instance": "r", "update": "u",
    "patch": "u", "delete": "d", "search-type": "s", "history-type": "s", "search-system": "s",
    "history-system": "s",
}  # fmt: skip

_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749, 3.3
_SCOPE = re.compile(r"(patient|user|system)/([A-Za-z]+|\*)\.(\*|[a-z]+)(?:\?(.*))?")

#: More scopes than any token needs; each is judged with every request.
MOST_SCOPES, LONGEST_SCOPE = 200, 1_000


class Scope(NamedTuple):
    """One scope. `type` is "*" for all types, `letters` are of "cruds" and in that order."""

    level: Level
    type: str
    letters: str
    query: Query = ()

    def covers(self, type: str, letter: str) -> bool:
        """Whether it says something of this letter for this type."""
        return letter in self.letters and self.type in ("*", type)


class Unknown(NamedTuple):
    """A scope that means nothing here, and why."""

    text: str
    why: str


class Way(NamedTuple):
    """One way in which rows of a type are granted: those that the query finds, of the Patient
    that the token is bound to where the level says so."""

    level: Level
    query: Query = ()

    @property
    def whole(self) -> bool:
        """True when it leaves nothing out of what the role may see."""
        return self.level != "patient" and not self.query


class Refused(NamedTuple):
    """Not granted; `needs` is a scope that would grant it."""

    needs: str


class Whole(NamedTuple):
    """Granted as the role has it."""


class Narrowed(NamedTuple):
    """Granted for what meets one way of every member: a member for each letter."""

    ways: tuple[tuple[Way, ...], ...]

    @property
    def queried(self) -> bool:
        """Whether a query leaves something out, beside the Patient of the token."""
        return any(way.query for ways in self.ways for way in ways)


Grant = Refused | Whole | Narrowed


def parse(text: str) -> Scope | Unknown:
    """The scope, or why it is none. What asks for no resources (LAUNCH) is none either."""
    if len(text) > LONGEST_SCOPE or not _TOKEN.fullmatch(text):
        return Unknown(text[:LONGEST_SCOPE], "it is too long or has a character no scope may have")
    found = _SCOPE.fullmatch(text)
    if found is None:
        return Unknown(text, "it is not patient|user|system/Type.letters")
    level, type, said, query = found.groups()
    letters = _VERSION_1.get(said, said)
    pairs = _pairs(query) if query is not None else ()
    why = ""
    if type != "*" and type not in definitions().resource_type_set:
        why = "it names no resource type of FHIR R4"
    elif not _in_order(letters):
        why = "after the type stand letters of cruds in this order, or read, write or *"
    elif pairs is None or (pairs and (type == "*" or said in _VERSION_1)):
        why = "a query is parameters with values, after letters of cruds of one type"
    # the pattern has the levels, and without pairs there is a reason
    return Unknown(text, why) if why else Scope(level, type, letters, pairs)  # type: ignore[arg-type]


def _in_order(letters: str) -> bool:
    return bool(letters) and letters == "".join(one for one in _LETTERS if one in letters)


def _pairs(query: str) -> Query | None:
    """The parameters of a query; None when one has no value, or is not UTF-8."""
    try:
        pairs = tuple(parse_qsl(query, keep_blank_values=True, strict_parsing=True,
                                errors="strict"))  # fmt: skip
    except ValueError:
        return None
    return pairs if pairs and all(name and value for name, value in pairs) else None


@lru_cache(maxsize=1_024)
def read(scopes: tuple[str, ...]) -> tuple[Scope, ...]:
    """The scopes that grant something of resources; what is not understood grants nothing."""
    found = (parse(text) for text in scopes[:MOST_SCOPES])
    return tuple(one for one in found if isinstance(one, Scope))


def unknown(scopes: Iterable[str]) -> list[Unknown]:
    """The scopes that mean nothing here, each with why: whoever issues a token refuses them.

    Whether a query is one that can be kept is judged by interactions.narrowing.
    """
    texts = list(dict.fromkeys(scopes))
    found = [parse(text) for text in texts if text not in LAUNCH]
    beyond = [Unknown(text, f"a token has at most {MOST_SCOPES}") for text in texts[MOST_SCOPES:]]
    return [one for one in found if isinstance(one, Unknown)] + beyond


def levels_of(actor: Actor) -> frozenset[Level]:
    """The levels that say something for a caller: patient where the token is bound to a Patient,
    user where a person stands behind the call, system where none does."""
    levels: set[Level] = {"user"} if actor.user else {"system"}
    return frozenset(levels | ({"patient"} if actor.patient else set()))


ALL_LEVELS: frozenset[Level] = frozenset({"patient", "user", "system"})


@lru_cache(maxsize=8_192)
def allowed(
    scopes: tuple[str, ...], type: str, letters: str, levels: frozenset[Level] = ALL_LEVELS
) -> Grant:
    """What the scopes grant of all these letters together, for one type."""
    known = [scope for scope in read(scopes) if scope.level in levels]
    members: dict[tuple[Way, ...], None] = {}
    for letter in letters:
        ways = tuple(
            dict.fromkeys(Way(one.level, one.query) for one in known if one.covers(type, letter))
        )
        if not ways:
            return Refused(f"{_lowest(levels)}/{type}.{letters}")
        if not any(way.whole for way in ways):
            members[ways] = None
    return Narrowed(tuple(members)) if members else Whole()


def _lowest(levels: frozenset[Level]) -> Level:
    return "patient" if "patient" in levels else "user" if "user" in levels else "system"


def granted(
    scopes: tuple[str, ...] | None,
    type: str,
    interaction: str,
    levels: frozenset[Level] = ALL_LEVELS,
) -> Grant:
    """What the scopes of a token grant of an interaction on a type; None: it has none, and the
    rights of the role alone hold."""
    letters = INTERACTIONS.get(interaction, "")
    return Whole() if scopes is None else allowed(scopes, type, letters, levels)


def named_types(scopes: tuple[str, ...]) -> tuple[str, ...]:
    """The types that scopes name, and "*" for all others, each once."""
    return tuple(dict.fromkeys(["*", *(scope.type for scope in read(scopes))]))
