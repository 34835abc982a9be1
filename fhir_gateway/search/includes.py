"""_include and _revinclude: `Type:parameter[:Type]`, * and :iterate.

Implements hl7.org/fhir/R4/search.html#include. A wildcard stands for every reference parameter of
its type; a reverse one is spelled out here, one Include for each parameter that may point to the
type of the search. :recurse is how STU3 wrote :iterate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from fhir_gateway.errors import TooCostly
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.search.draft import Draft, not_offered, unknown
from fhir_gateway.search.params import Parameter, refusal
from fhir_gateway.search.plan import Include
from fhir_gateway.search.registry import Searchable, fixed_home, searchables

#: A reverse wildcard may make more of them than a search may name.
MAX_INCLUDES, MAX_WILDCARD = 10, 30

Handler = Callable[[Draft, Parameter], str | None]


def include(draft: Draft, parameter: Parameter) -> str | None:
    """The handler of _include."""
    _add(draft, parameter, _forward(draft, parameter, iterate=False))
    return None


def include_iterate(draft: Draft, parameter: Parameter) -> str | None:
    """The handler of _include:iterate; its source need not be the type of the search."""
    _add(draft, parameter, _forward(draft, parameter, iterate=True))
    return None


def revinclude(draft: Draft, parameter: Parameter) -> str | None:
    """The handler of _revinclude."""
    _add(draft, parameter, *_reverse(draft, parameter, iterate=False))
    return None


def revinclude_iterate(draft: Draft, parameter: Parameter) -> str | None:
    """The handler of _revinclude:iterate."""
    _add(draft, parameter, *_reverse(draft, parameter, iterate=True))
    return None


def _add(draft: Draft, parameter: Parameter, *includes: Include) -> None:
    draft.includes.extend(one for one in includes if one not in draft.includes)
    wildcard = len(includes) > 1
    if len(draft.includes) > (MAX_WILDCARD if wildcard else MAX_INCLUDES):
        raise TooCostly(
            f"A search takes {MAX_INCLUDES} includes at most, {MAX_WILDCARD} by a wildcard",
            expression=parameter.name.base,
            rule="search-include",
        )


def _forward(draft: Draft, parameter: Parameter, *, iterate: bool) -> Include:
    source, code, target = _pieces(draft, parameter)
    if source != draft.type and not iterate:
        raise refusal("_include", f"must start from {draft.type}", rule="search-include")
    if code == "*":
        _one_level(parameter, iterate)
        return Include(source, "*", 0, target, wildcard=True)
    searchable = _reference(parameter, source, code)
    _may_point(parameter, searchable, target)
    return Include(source, code, searchable.number, target, iterate=iterate)


def _reverse(draft: Draft, parameter: Parameter, *, iterate: bool) -> list[Include]:
    source, code, target = _pieces(draft, parameter)
    if target not in (None, draft.type) and not iterate:
        raise refusal("_revinclude", f"must point to {draft.type}", rule="search-include")
    if code == "*":
        _one_level(parameter, iterate)
        if parameter.text == "*":
            raise not_offered("_revinclude", "name a type, as in Observation:*", value="*")
        return [
            _backwards(one, target, (draft.type,))
            for one in searchables(source).values()
            if _is_followed(one) and draft.type in (one.targets or (draft.type,))
        ]
    searchable = _reference(parameter, source, code)
    _may_point(parameter, searchable, target or (None if iterate else draft.type))
    towards = (target,) if target else searchable.targets if iterate else (draft.type,)
    made = _backwards(searchable, target, towards or definitions().resource_types)
    return [Include(made.source, code, made.parameter, target, True, made.within, iterate)]


def _backwards(searchable: Searchable, target: str | None, towards: tuple[str, ...]) -> Include:
    within = {_within(type, searchable) for type in towards}
    if len(within) > 1:
        raise TooCostly(
            f"_revinclude:iterate={searchable.type}:{searchable.code} would look in the records of "
            f"all patients; name the type, as in {searchable.type}:{searchable.code}:{towards[0]}",
            expression="_revinclude",
            rule="revinclude-across-patients",
        )
    return Include(
        searchable.type, searchable.code, searchable.number, target, True, within.pop()
    )  # fmt: skip


def _pieces(draft: Draft, parameter: Parameter) -> tuple[str, str, str | None]:
    """Source type, parameter or *, and target type. A lone * is everything of the search's type."""
    name, pieces = parameter.name.base, parameter.text.split(":")
    if pieces == ["*"]:
        return draft.type, "*", None
    if len(pieces) not in (2, 3) or "" in pieces:
        raise refusal(name, "must be Type:parameter or Type:parameter:Type", rule="search-include")
    for type in (pieces[0], *pieces[2:]):
        if type not in definitions().resource_type_set:
            types = definitions().resource_types
            raise unknown(f"{name}: resource type", type, types, within=name)
    return pieces[0], pieces[1], pieces[2] if len(pieces) == 3 else None


def _reference(parameter: Parameter, source: str, code: str) -> Searchable:
    name, searchable = parameter.name.base, searchables(source).get(code)
    if searchable is None:
        raise unknown(f"{name}: parameter", code, searchables(source), within=name)
    if searchable.kind != "reference" or searchable.refused:
        raise refusal(name, "must name a reference parameter", rule="search-include")
    if not _is_followed(searchable):
        raise not_offered(name, "canonical urls are not followed", value=f"{source}:{code}")
    return searchable


def _is_followed(searchable: Searchable) -> bool:
    return searchable.kind == "reference" and "Reference" in searchable.datatypes


def _may_point(parameter: Parameter, searchable: Searchable, target: str | None) -> None:
    if target and searchable.targets and target not in searchable.targets:
        raise refusal(
            parameter.name.base, f"names a parameter that never points to {target}",
            rule="search-include",
        )  # fmt: skip


def _one_level(parameter: Parameter, iterate: bool) -> None:
    if iterate:
        raise TooCostly(
            "Everything that everything refers to is no answer; name the parameters to iterate",
            expression=parameter.name.base,
            rule="search-include",
        )


def _within(type: str, searchable: Searchable) -> Literal["homes", "zero", "global"]:
    """Where resources that point to a match of this type are found."""
    if searchable.is_global:
        return "global"
    if fixed_home(searchable.type) == 0:
        return "zero"
    if fixed_home(type) is None:
        return "homes"
    raise TooCostly(
        f"_revinclude={searchable.type}:{searchable.code} would look through the records of all "
        f"patients; search {searchable.type} for one patient instead",
        expression="_revinclude",
        rule="revinclude-across-patients",
    )
