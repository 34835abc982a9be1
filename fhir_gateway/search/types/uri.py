"""Uris (hl7.org/fhir/R4/search.html#uri): the whole text as spelled; :below and :above by path."""

from __future__ import annotations

from collections.abc import Iterator

from fhir_gateway.fhir.datatypes import parse_canonical
from fhir_gateway.search.context import Context
from fhir_gateway.search.params import Parameter, unescape
from fhir_gateway.search.plan import Text
from fhir_gateway.search.registry import Searchable


def texts(value: str) -> Iterator[str]:
    """The texts of a uri; a canonical with a version also has its bare url."""
    yield value
    url, version = parse_canonical(value)
    if version and url:
        yield url


def condition(searchable: Searchable, parameter: Parameter, context: Context) -> Text:
    """Equal to any of the uris; :below at or under one of them; :above one of them or a parent."""
    values = tuple(unescape(value) for value in parameter.values)
    modifier = parameter.name.modifier
    if modifier == "below":
        return Text(searchable.number, values, "below")
    if modifier == "above":
        parents = dict.fromkeys(parent for value in values for parent in _parents(value))
        return Text(searchable.number, tuple(parents), "exact")
    return Text(searchable.number, values, "exact")


def _parents(value: str) -> Iterator[str]:
    """The uri and every parent of its path, each with and without its last slash."""
    root = value.find("://") + 3 if "://" in value else 0
    while True:
        yield value
        bare = value.rstrip("/")
        if len(bare) <= root or "/" not in bare[root:]:
            break
        if bare != value:
            yield bare
        value = bare[: bare.rindex("/") + 1]
