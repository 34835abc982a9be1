"""What value sets hold and codes subsume, for the searches that ask it (:in, :not-in, :above,
:below; hl7.org/fhir/R4/search.html, 3.1.1.4.4).

A search is understood without waiting for anything. So what its value sets hold is looked up
before, by the terminology that is in force, and long lists are made in a thread.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Invalid, Issue, NotFound, TooCostly
from fhir_gateway.interactions.terminology import stored_resource, terminology
from fhir_gateway.search.params import Parameter, shown, split, unescape
from fhir_gateway.search.types.coded import too_many
from fhir_gateway.terminology.compose_filters import ancestors, subsumed
from fhir_gateway.terminology.service import Terminology
from fhir_gateway.terminology.system import System

Pairs = Sequence[tuple[str, str]]
Members = frozenset[tuple[str, str]]

#: Most value sets that one search may name.
MAX_VALUE_SETS = 20

_ASKS = re.compile(r":(?:in|not-in|above|below)$")
_NAMES_SETS = re.compile(r":(?:not-)?in$")
_REFERENCE = re.compile(
    r"ValueSet/(?P<id>[A-Za-z0-9\-.]{1,64})(?:/_history/(?P<version>[0-9]{1,9}))?"
)


async def codes_for(gateway: Gateway, pairs: Pairs, *, base: str = "") -> SearchCodes | None:
    """What the parameters need to know of codes; None when they ask nothing of the kind.

    Not to be asked for while a snapshot is held. What cannot be found is refused when the search
    is understood, in the name of its parameter.
    """
    if not any(_ASKS.search(name) for name, _ in pairs):
        return None
    known = await terminology(gateway)
    named = list(dict.fromkeys(_named(pairs)))
    if len(named) > MAX_VALUE_SETS:
        raise TooCostly(
            f"A search names {MAX_VALUE_SETS} value sets at most; ask in parts",
            rule="search-value-sets",
        )
    bases = tuple(one for one in (gateway.settings.base_url, base) if one)
    sets = {value: await _members(gateway, known, value, bases) for value in named}
    return SearchCodes(known, sets)


def _named(pairs: Pairs) -> Iterator[str]:
    """The value sets that the parameters name."""
    for name, text in pairs:
        if _NAMES_SETS.search(name):
            yield from (unescape(value) for value in split(text, ",") if value)


async def _members(
    gateway: Gateway, known: Terminology, value: str, bases: tuple[str, ...]
) -> Members | GatewayError:
    """The codes of a value set, or why they cannot be told."""
    try:
        stored = await _stored(gateway, value, bases)
        if stored is None:
            return await asyncio.to_thread(known.codes_of, value)
        return await asyncio.to_thread(_of_resource, known, stored)
    except GatewayError as error:
        return error


def _of_resource(known: Terminology, resource: Mapping[str, Any]) -> Members:
    """The codes of a resource that was named by its id: its own, with a url or without, and when
    another resource has the same url and version."""
    url = resource.get("url") or f"ValueSet/{resource['id']}"
    version = resource.get("version", "")
    if known.library.value_set(url, version) is not resource:
        known = known.beside([{**resource, "url": url}])
    return known.codes_of(f"{url}|{version}" if version else url)


async def _stored(gateway: Gateway, value: str, bases: tuple[str, ...]) -> Mapping[str, Any] | None:
    """The resource that a reference names; None for a canonical url. Raises NotFound."""
    relative = next(
        (value[len(base) + 1 :] for base in bases if value.startswith(f"{base}/")), value
    )
    match = _REFERENCE.fullmatch(relative)
    if match is None:
        return None
    try:
        found = await stored_resource(gateway, "ValueSet", match["id"])
    except NotFound:
        if relative != value:  # a canonical url may begin like the base
            return None
        raise NotFound(f"There is no {relative}", rule="unknown-id") from None
    if match["version"] not in (None, found["meta"]["versionId"]):
        text = f"Searches take the current version of a value set; {relative} is another"
        raise NotFound(text, rule="unknown-id")
    return found


@dataclass(frozen=True, slots=True, eq=False)
class SearchCodes:
    """Codes for a search (search.context.Codes). `sets` are the value sets that it names."""

    terminology: Terminology
    sets: Mapping[str, Members | GatewayError]

    def members(self, parameter: Parameter, value_set: str) -> Members:
        """Every (system, code) of a value set."""
        found = self.sets[value_set]
        if isinstance(found, GatewayError):
            raise _refused(parameter, found)
        return found

    def below(self, parameter: Parameter, system: str, code: str) -> Collection[str]:
        """The code and all that it subsumes."""
        return subsumed(self._system(parameter, system, code), code)

    def above(self, parameter: Parameter, system: str, code: str) -> Collection[str]:
        """The code and all that subsume it."""
        return ancestors(self._system(parameter, system, code), code)

    def _system(self, parameter: Parameter, system: str, code: str) -> System:
        """The system of a code that is known. Raises Invalid for another."""
        try:
            return self.terminology.lookup(system, code).system
        except GatewayError as error:
            raise _refused(parameter, error) from None


def _refused(parameter: Parameter, error: GatewayError) -> GatewayError:
    """The refusal as one of the search: 400, in the name of the parameter."""
    name = f"{parameter.name.base}:{parameter.name.modifier}"
    issue = error.issues[0]
    if isinstance(error, TooCostly):
        return too_many(name, "more codes than can be listed")
    text = f"Search parameter {shown(name)}: {issue.diagnostics}"
    code = "not-found" if isinstance(error, NotFound) else "invalid"
    return Invalid(issues=(Issue(code, text, shown(name), "search-value-set"),))
