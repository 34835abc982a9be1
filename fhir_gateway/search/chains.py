"""Chains, _has and _list (hl7.org/fhir/R4/search.html#chaining, #has): conditions on other types.

`subject:Patient.name` leads from a reference to what it points to, `_has:Observation:patient:code`
from a resource to what points to it; either may go on inside the other. What could fan out too far
is refused by the text alone. Where a reference may point to several types and none is named, all
types that know the next parameter are meant; when none does, the chain is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

from fhir_gateway.errors import Invalid, NotSupported, TooCostly
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.search.context import Context
from fhir_gateway.search.draft import not_offered, unknown
from fhir_gateway.search.meaning import Meaning, of_reference, plain, searchable_of
from fhir_gateway.search.params import Name, Parameter, parse_name, parse_parameter, refusal, shown
from fhir_gateway.search.plan import Branch, Chain, Condition, Has, Ids
from fhir_gateway.search.registry import (
    WRITTEN_PER_HOME,
    Searchable,
    fixed_home,
    global_among,
    searchables,
)
from fhir_gateway.search.types import reference

#: Most links of one chain, and most branches of one parameter, all its links together.
MAX_DEPTH, MAX_BRANCHES = 6, 32

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_UNKNOWN = frozenset({"unknown-search-parameter", "unknown-modifier", "not-offered"})

Within = Literal["homes", "zero", "global", "everywhere"]


def understand(type: str, name: str, text: str, context: Context) -> Meaning:
    """The meaning of any search parameter of a type.

    Raises Invalid for what is unknown or badly written, NotSupported for what is not offered,
    TooCostly for a chain that is too long or branches too often.
    """
    return _understand(type, name, text, context, 0, 1)


@lru_cache(maxsize=8_192)
def understood(type: str, name: str, text: str, context: Context) -> Meaning:
    """The same, remembered."""
    return _understand(type, name, text, context, 0, 1)


def _understand(
    type: str, name: str, text: str, context: Context, depth: int, branches: int
) -> Meaning:
    if name.startswith("_has:") or name == "_has":
        return _has(type, name, text, context, depth, branches)
    if name == "_list":
        return _list(type, text, context)
    if "." not in name:
        return plain(type, name, text, context)
    return _chain(type, name, text, context, depth, branches)


def _deeper(name: str, depth: int) -> int:
    if depth == MAX_DEPTH:
        raise _too_far(name, f"has over {MAX_DEPTH} links")
    return depth + 1


def _too_far(name: str, what: str) -> TooCostly:
    return TooCostly(
        f"Search parameter {shown(name)} {what}", expression=shown(name), rule="search-chain"
    )


def _chain(type: str, name: str, text: str, context: Context, depth: int, branches: int) -> Meaning:
    depth = _deeper(name, depth)
    parsed = parse_name(name)
    searchable = searchable_of(type, name)
    rest = parsed.chain or ""
    if searchable.kind != "reference" or "Reference" not in searchable.datatypes:
        raise Invalid(
            f"Search parameter {shown(name)}: {searchable.code} is no reference to a resource",
            expression=shown(name),
            rule="search-chain",
        )
    if not rest:
        raise refusal(name, "ends in a dot", rule="search-chain")
    types = _targets(searchable, parsed, name)
    if rest == "_id":
        return _by_id(searchable, parsed, text, context)
    types = _that_know(types, name, rest)
    branches *= len(types)
    if branches > MAX_BRANCHES:
        raise _too_far(
            name, f"leads to over {MAX_BRANCHES} combinations of types; name them, as in "
            "subject:Patient.name"
        )  # fmt: skip
    found = _branches(types, rest, text, context, depth, branches)
    binds = _binds(searchable)
    rest_too = searchable.type in WRITTEN_PER_HOME
    chain = Chain(searchable.number, tuple(found), binds, rest_too and binds == "person")
    return Meaning((chain,), 1 if binds else 2)


def _targets(searchable: Searchable, parsed: Name, name: str) -> tuple[str, ...]:
    """The types that the link may lead to."""
    wanted, known = parsed.modifier, searchable.targets
    if wanted is None:
        return known or definitions().resource_types
    if wanted not in definitions().resource_type_set:
        raise unknown("Resource type", wanted, known or definitions().resource_types)
    if known and wanted not in known:
        raise Invalid(
            f"Search parameter {shown(name)} never leads to {wanted}; it leads to "
            f"{', '.join(known)}",
            expression=shown(name),
            rule="search-chain",
        )
    return (wanted,)


def _by_id(searchable: Searchable, parsed: Name, text: str, context: Context) -> Meaning:
    """A chain to the id of what the reference names says no more than the reference itself."""
    parameter = parse_parameter(searchable.code, text)
    if not all(_ID.fullmatch(value) for value in parameter.values):
        raise refusal(f"{searchable.code}._id", "must be a logical id", rule="search-id")
    same = Parameter(Name(searchable.code, parsed.modifier), text, parameter.values)
    return of_reference(searchable, reference.named(searchable, same, context))


def _branches(
    types: Iterable[str],
    rest: str,
    text: str,
    context: Context,
    depth: int,
    branches: int,
) -> list[Branch]:
    """What each of the types makes of the rest; those that do not know it are left out."""
    found: list[Branch] = []
    refused: Invalid | NotSupported | None = None
    for type in types:
        try:
            meaning = _understand(type, rest, text, context, depth, branches)
        except (Invalid, NotSupported) as error:
            if error.issues[0].rule not in _UNKNOWN:
                raise
            refused = refused or error
            continue
        found.append(branch(type, meaning.conditions))
    if not found and refused is not None:
        raise refused
    return found


def _that_know(types: tuple[str, ...], name: str, rest: str) -> tuple[str, ...]:
    """Those of several types that have the next parameter. Raises when none has."""
    code = parse_name(rest).base
    if len(types) == 1 or code == "_has":
        return types
    known = tuple(type for type in types if code in searchables(type))
    if not known:
        raise Invalid(
            f"Search parameter {shown(name)}: no type that it leads to knows {shown(code)}",
            expression=shown(name),
            rule="unknown-search-parameter",
        )
    return known


def branch(type: str, conditions: tuple[Condition, ...]) -> Branch:
    """A branch with what helps to find its resources."""
    return Branch(type, conditions, fixed_home(type), global_among(type, conditions))


def _binds(searchable: Searchable) -> Literal["", "patient", "person", "follow"]:
    if searchable.is_patient:
        return "patient"
    return searchable.binding if searchable.binding in ("person", "follow") else ""


def _has(type: str, name: str, text: str, context: Context, depth: int, branches: int) -> Meaning:
    depth = _deeper(name, depth)
    pieces = name.split(":", 3)
    if len(pieces) != 4 or "" in pieces:
        raise refusal("_has", "must be _has:Type:reference:parameter", rule="search-has")
    _, source, code, rest = pieces
    if source not in definitions().resource_type_set:
        types = definitions().resource_types
        raise unknown("_has: resource type", source, types, within="_has")
    searchable = searchables(source).get(code)
    if searchable is None:
        raise unknown("_has: parameter", code, searchables(source), within="_has")
    if searchable.refused or searchable.kind != "reference":
        raise refusal("_has", "must name a reference parameter", rule="search-has")
    if "Reference" not in searchable.datatypes:
        raise not_offered(f"_has:{source}:{code}", "canonical urls are not followed")
    if searchable.targets and type not in searchable.targets:
        raise refusal("_has", f"names a parameter that never points to {type}", rule="search-has")
    conditions = _understand(source, rest, text, context, depth, branches).conditions
    return Meaning((_pointing(type, searchable, conditions),), 3)


def _pointing(type: str, searchable: Searchable, conditions: tuple[Condition, ...]) -> Has:
    source = searchable.type
    return Has(
        source,
        searchable.number,
        _within(type, searchable),
        conditions,
        fixed_home(source),
        global_among(source, conditions),
    )


def _within(type: str, searchable: Searchable) -> Within:
    """Where the rows that point to a resource of this type are found."""
    if searchable.is_global:
        return "global"
    if fixed_home(searchable.type) == 0:
        return "zero"
    if fixed_home(type) is not None or (type == "Patient" and searchable.binding is None):
        return "everywhere"  # a patient may be named in another patient's record
    return "homes"


def _list(type: str, text: str, context: Context) -> Meaning:
    """_list: resources that a List names as its items."""
    parameter = parse_parameter("_list", text)
    if any(value.startswith("$") for value in parameter.values):
        raise not_offered("_list", "there are no functional lists; name a List by its id")
    if not all(_ID.fullmatch(value) for value in parameter.values):
        raise refusal("_list", "must be the id of a List", rule="search-id")
    item = searchables("List")["item"]
    ids = Ids(tuple(dict.fromkeys(parameter.values)))
    return Meaning((Has("List", item.number, "everywhere", (ids,)),), 1)
