"""References (hl7.org/fhir/R4/search.html#reference).

A row is v1 = key of "Type/id" and v2 = key of the type for a resource of this server; for any
other url v1 = key of the url as it stands and v2 = 0. `Reference.identifier` has token rows under a
parameter number of its own. A canonical `url|version` has a row with and one without its version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from fhir_gateway.fhir.datatypes import Reference, parse_canonical, parse_reference
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.keys import key64, type_key
from fhir_gateway.search.context import Context
from fhir_gateway.search.params import Parameter, refusal, unescape
from fhir_gateway.search.plan import Ref
from fhir_gateway.search.registry import Searchable

Pair = tuple[int, int]

_CANONICAL = frozenset({"canonical", "uri", "url"})
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")

#: A bare id may stand for so many types; above, the query must say the type.
MAX_BARE_TYPES = 8


@lru_cache(maxsize=32_768)
def literal(text: str) -> Pair | None:
    """The row of Reference.reference; a contained resource has none."""
    if text.startswith("#"):
        return None
    reference = parse_reference(text)
    if isinstance(reference, Reference):
        return key64(reference.key), type_key(reference.type)
    return key64(text), 0


def canonical(text: str) -> Iterator[Pair]:
    """The rows of a canonical or uri."""
    url, version = parse_canonical(text)
    if url:
        yield key64(url), 0
    if version:
        yield key64(f"{url}|{version}"), 0


def target(datatype: str, value: Any) -> str | None:
    """The literal reference that a value holds, as it is spelled; None when it holds none."""
    if datatype == "Reference":
        text = value.get("reference")
        return text if isinstance(text, str) else None
    return value if datatype in _CANONICAL and isinstance(value, str) else None


class Named(NamedTuple):
    """What the alternatives of a reference parameter name.

    `local` are ("Type", id); `elsewhere` is true when one names no resource of this server.
    """

    condition: Ref
    local: tuple[tuple[str, str], ...]
    elsewhere: bool


def named(searchable: Searchable, parameter: Parameter, context: Context) -> Named:
    """The condition, and the resources it names. Raises Invalid for what can name nothing."""
    keys: list[int] = []
    local: list[tuple[str, str]] = []
    elsewhere = False
    for value in parameter.values:
        found = _alternative(searchable, parameter, unescape(value), context)
        if isinstance(found, str):
            elsewhere = True
            keys.append(key64(found))
            continue
        local.extend(found)
        keys.extend(key64(f"{type}/{id}") for type, id in found)
    return Named(Ref(searchable.number, tuple(keys)), tuple(local), elsewhere)


def _alternative(
    searchable: Searchable, parameter: Parameter, value: str, context: Context
) -> str | list[tuple[str, str]]:
    """An absolute url as it is, or the ("Type", id) that the value may mean."""
    wanted = parameter.name.modifier
    reference = parse_reference(value, context.base_url)
    if isinstance(reference, Reference):
        return [_typed(searchable, parameter, reference, wanted)]
    if ":" in value:
        return value
    if not _ID.fullmatch(value):
        raise refusal(parameter.name.base, "must be an id, Type/id or an absolute url",
                      rule="search-reference")  # fmt: skip
    types = (wanted,) if wanted else searchable.targets
    if not 0 < len(types) <= MAX_BARE_TYPES:
        raise refusal(parameter.name.base, "may name many types: write Type/id",
                      rule="search-reference")  # fmt: skip
    return [(type, value) for type in types]


def _typed(
    searchable: Searchable, parameter: Parameter, reference: Reference, wanted: str | None
) -> tuple[str, str]:
    if reference.type not in definitions().resource_type_set:
        raise refusal(parameter.name.base, "names a type that FHIR R4 does not have",
                      rule="search-reference")  # fmt: skip
    if wanted and reference.type != wanted:
        raise refusal(parameter.name.base, f"asks for {wanted} and names another type",
                      rule="search-reference")  # fmt: skip
    if searchable.targets and reference.type not in searchable.targets:
        raise refusal(
            parameter.name.base,
            f"cannot name this type; it may name {', '.join(searchable.targets)}",
            rule="search-reference",
        )
    return reference.type, reference.id
