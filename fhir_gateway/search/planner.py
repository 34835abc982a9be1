"""From the parameters of a request to a SearchPlan: what they mean, and what they may not.

Implements hl7.org/fhir/R4/search.html for one type. A parameter that is not understood is refused
unless the caller asked for lenient handling (3.1.1.3): a filter that is ignored would return
everyone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from fhir_gateway.errors import Invalid, NotFound, NotSupported, TooCostly
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.home import institution_home
from fhir_gateway.search.context import Context
from fhir_gateway.search.draft import IGNORABLE, Draft, not_offered, unknown
from fhir_gateway.search.params import Parameter, parse_name, parse_parameter, refusal, shown
from fhir_gateway.search.plan import Condition, Ids, Missing, SearchPlan, Updated
from fhir_gateway.search.registry import WRITTEN_PER_HOME, Searchable, searchables
from fhir_gateway.search.results import CURSOR, NOT_OFFERED, RESULTS
from fhir_gateway.search.types import date, number, quantity, reference, string, token, uri

Maker = Callable[[Searchable, Parameter, Context], Condition]

MAX_PARAMETERS = 50

#: Longer values are understood anew each time, so that the cache stays small.
_CACHED_LENGTH = 200


class Meaning(NamedTuple):
    """What one search parameter says; `named` is what a reference that binds names."""

    condition: Condition
    searchable: Searchable
    named: reference.Named | None = None


def plan_search(
    type: str,
    pairs: Sequence[tuple[str, str]],
    *,
    secret: bytes,
    base_url: str = "",
    zone: str = "Asia/Shanghai",
    lenient: bool = False,
    page_limit: int = 500,
) -> SearchPlan:
    """The meaning of a search; `applied` of the result is what was understood.

    Raises NotFound for an unknown type, Invalid for an unknown parameter or modifier (unless
    lenient) and for every bad value, NotSupported for what FHIR has and the gateway does not offer,
    TooCostly for too many parameters or alternatives.
    """
    if type not in definitions().resource_type_set:
        raise NotFound("FHIR R4 has no such resource type", rule="unknown-type")
    if len(pairs) > MAX_PARAMETERS:
        raise TooCostly(f"A search takes {MAX_PARAMETERS} parameters at most")
    context = Context(secret, base_url, zone)
    draft = Draft(type, context, page_limit)
    for name, text in pairs:
        try:
            shown_text = _apply(draft, name, text, context)
        except (Invalid, NotSupported) as error:
            if lenient and error.issues[0].rule in IGNORABLE:
                continue
            raise
        if name != CURSOR:
            draft.applied.append((name, shown_text))
    return draft.plan()


def _apply(draft: Draft, name: str, text: str, context: Context) -> str:
    """Adds one parameter to the draft; returns its value for the self link."""
    handler = RESULTS.get(name)
    if handler is not None:
        return handler(draft, parse_parameter(name, text)) or text
    understand = _meaning if len(text) < _CACHED_LENGTH else _meaning.__wrapped__
    meaning = understand(draft.type, name, text, context)
    if meaning.named is None or draft.bound:
        draft.conditions.append((meaning.searchable.rank, meaning.condition))
    else:
        _bind(meaning.searchable, draft, meaning.named)
    if meaning.searchable.is_global and not isinstance(meaning.condition, Missing | Ids | Updated):
        draft.global_parameters.append(meaning.condition.parameter)
    return text


@lru_cache(maxsize=8_192)
def _meaning(type: str, name: str, text: str, context: Context) -> Meaning:
    searchable, make = _maker(type, name)
    parameter = parse_parameter(name, text)
    if make is not None:
        return Meaning(make(searchable, parameter, context), searchable)
    named = reference.named(searchable, parameter, context)
    binds = searchable.binding is not None and not named.elsewhere
    return Meaning(named.condition, searchable, named if binds else None)


@lru_cache(maxsize=4_096)
def _maker(type: str, text: str) -> tuple[Searchable, Maker | None]:
    """Which parameter the name means and how its condition is made; None for a plain reference.

    Raises for a name that means nothing here.
    """
    name = parse_name(text)
    if name.base in NOT_OFFERED:
        raise not_offered(text, NOT_OFFERED[name.base])
    if name.base in RESULTS:
        raise _result_modifier(text, name.modifier)
    known = searchables(type)
    searchable = known.get(name.base)
    if searchable is None:
        raise unknown("Search parameter", name.base, {*known, *RESULTS} - {CURSOR})
    if searchable.refused:
        raise not_offered(text, searchable.refused)
    if name.chain is not None:
        raise not_offered(text, "chains come later; search the other type first")
    if name.modifier is not None:
        _check_modifier(searchable, name.modifier, text)
    return searchable, _maker_of(searchable, name.modifier)


def _result_modifier(text: str, modifier: str | None) -> Invalid | NotSupported:
    if modifier in ("iterate", "recurse"):
        return not_offered(text, "includes go one level deep")
    return _unknown_modifier(text, ())


#: Modifiers that each type of parameter takes here, and those of FHIR that are not offered.
_MODIFIERS = {
    "token": ("missing", "not"),
    "string": ("missing", "exact", "contains"),
    "uri": ("missing", "above", "below"),
    "reference": ("missing", "identifier"),
    "date": ("missing",),
    "number": ("missing",),
    "quantity": ("missing",),
}
_MODIFIERS_NOT_OFFERED = {
    "token": ("text", "in", "not-in", "of-type", "above", "below"),
    "string": ("text",),
    "uri": (),
    "reference": ("above", "below", "text"),
    "date": (),
    "number": (),
    "quantity": (),
}
_MAKERS: dict[str, Maker] = {
    "token": token.condition,
    "string": string.condition,
    "uri": uri.condition,
    "date": date.condition,
    "number": number.condition,
    "quantity": quantity.condition,
}


def _maker_of(searchable: Searchable, modifier: str | None) -> Maker | None:
    if modifier == "missing":
        return _missing
    if searchable.code in _COLUMN_MAKERS:
        return _COLUMN_MAKERS[searchable.code]
    if searchable.kind != "reference":
        return _MAKERS[searchable.kind]
    return token.identifier_condition if modifier == "identifier" else None


def _check_modifier(searchable: Searchable, modifier: str, text: str) -> None:
    kind, column = searchable.kind, searchable.code in ("_id", "_lastUpdated")
    if modifier in _MODIFIERS[kind] and not column:
        return
    if kind == "reference" and modifier in definitions().resource_type_set:
        if not searchable.targets or modifier in searchable.targets:
            return
        raise _unknown_modifier(text, searchable.targets)
    if modifier in _MODIFIERS_NOT_OFFERED[kind] or (column and modifier in _MODIFIERS[kind]):
        raise not_offered(text, "this modifier is not offered here")
    raise _unknown_modifier(text, () if column else _MODIFIERS[kind])


def _unknown_modifier(text: str, known: Sequence[str]) -> Invalid:
    hint = f"; it takes {', '.join(f':{name}' for name in known)}" if known else ""
    return Invalid(
        f"Search parameter {shown(text)} has a modifier that it cannot have{hint}",
        expression=shown(text),
        rule="unknown-modifier",
    )


def _missing(searchable: Searchable, parameter: Parameter, context: Context) -> Missing:
    if parameter.text not in ("true", "false"):
        raise refusal(parameter.name.base, "takes :missing=true or false", rule="search-missing")
    also = [searchable.present_number]
    if searchable.kind == "reference":
        also.append(searchable.identifier_number)
    in_text = searchable.kind in ("string", "uri")
    return Missing(searchable.number, parameter.text == "true", in_text, tuple(also))


_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


def _ids(searchable: Searchable, parameter: Parameter, context: Context) -> Ids:
    if not all(_ID.fullmatch(value) for value in parameter.values):
        raise refusal("_id", "must be a logical id", rule="search-id")
    return Ids(tuple(dict.fromkeys(parameter.values)))


def _last_updated(searchable: Searchable, parameter: Parameter, context: Context) -> Updated:
    return date.updated(parameter, context)


_COLUMN_MAKERS: dict[str, Maker] = {"_id": _ids, "_lastUpdated": _last_updated}


def _bind(searchable: Searchable, draft: Draft, named: reference.Named) -> None:
    """The homes in which everything stands that can name these resources.

    A type whose only tie to a home is this very element lives in home 0 when it names no Patient.
    """
    patients = tuple(dict.fromkeys(id for type, id in named.local if type == "Patient"))
    others = tuple(dict.fromkeys(pair for pair in named.local if pair[0] != "Patient"))
    per_home = searchable.type in WRITTEN_PER_HOME
    if searchable.binding == "institution":
        if len(named.local) == 1:
            draft.home = institution_home(named.local[0][1])
    elif searchable.binding == "follow":  # what came before the followed stays in home 0
        draft.patients, draft.follows, draft.rest = patients, others, True
    elif searchable.is_patient:
        draft.patients, draft.rest = patients, bool(others)
        draft.by_patient = not others
    elif not others:
        draft.patients, draft.rest = patients, per_home
    if not draft.by_patient:
        draft.conditions.append((searchable.rank, named.condition))
