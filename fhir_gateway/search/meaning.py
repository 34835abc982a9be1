"""What one search parameter says, chains aside: its modifier, and the conditions it makes.

Implements hl7.org/fhir/R4/search.html, 3.1.1.4.4 (modifiers). A modifier that FHIR has and the
gateway does not offer is refused by name, like one that the parameter cannot have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from fhir_gateway.errors import Invalid, NotSupported
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.search import composite
from fhir_gateway.search.context import Context
from fhir_gateway.search.draft import not_offered, unknown
from fhir_gateway.search.params import Parameter, parse_name, parse_parameter, refusal, shown
from fhir_gateway.search.plan import AnyOf, Condition, Ids, Missing, Updated
from fhir_gateway.search.registry import Searchable, searchables
from fhir_gateway.search.results import CURSOR, NOT_OFFERED, RESULTS
from fhir_gateway.search.types import coded, date, number, quantity, reference, string, token, uri

Maker = Callable[[Searchable, Parameter, Context], Condition]

#: Finds nothing: no resource has an empty id.
NOTHING = Ids(("",))


class Meaning(NamedTuple):
    """What one search parameter says: all of the conditions hold.

    `named` is what a reference that binds names; the rank orders the conditions of a plan.
    `people` are the Patients that patient or subject names, by whom persons are meant.
    """

    conditions: tuple[Condition, ...]
    rank: int
    searchable: Searchable | None = None
    named: reference.Named | None = None
    people: tuple[str, ...] = ()


#: The parameters that mean a person by any of the Patients that are theirs, and where they do not:
#: the audit log has an event for every record that something was told of.
_OF_PERSONS = frozenset({"patient", "subject"})
OF_RECORDS = frozenset({"AuditEvent"})


def plain(type: str, name: str, text: str, context: Context) -> Meaning:
    """The meaning of a parameter that is no chain. Raises for one that means nothing here."""
    searchable, make = _maker(type, name)
    parameter = parse_parameter(name, text)
    if searchable.kind == "composite":
        return Meaning(_composite(searchable, parameter, context), searchable.rank)
    if make is not None:
        return Meaning(_united(searchable, make, parameter, context), searchable.rank)
    named = reference.named(searchable, parameter, context)
    meaning = of_reference(searchable, named)
    if searchable.code not in _OF_PERSONS or type in OF_RECORDS:
        return meaning
    return meaning._replace(people=tuple(id for type, id in named.local if type == "Patient"))


def of_reference(searchable: Searchable, named: reference.Named) -> Meaning:
    """The meaning of a plain reference; it binds when all that it names stands here."""
    binds = searchable.binding is not None and not named.elsewhere
    return Meaning(
        (named.condition,), searchable.rank, searchable, named if binds else None
    )  # fmt: skip


def _united(
    searchable: Searchable, make: Maker, parameter: Parameter, context: Context
) -> tuple[Condition, ...]:
    """The condition of the parameter, or of all parameters that it is the union of.

    What must not hold (:not, :not-in, :missing=true) must not hold of any of them.
    """
    if searchable.parts == (searchable.code,):
        return _always(make(searchable, parameter, context))
    known = searchables(searchable.type)
    found = tuple(make(known[code], parameter, context) for code in searchable.parts)
    modifier = parameter.name.modifier
    if modifier in ("not", "not-in") or (modifier == "missing" and parameter.text == "true"):
        return found
    return (AnyOf(found),)


def _always(condition: Condition) -> tuple[Condition, ...]:
    """Without a condition that everything meets: _id and _lastUpdated are never missing."""
    if isinstance(condition, Missing) and condition.parameter == 0:
        return () if not condition.missing else (NOTHING,)
    return (condition,)


def _composite(
    searchable: Searchable, parameter: Parameter, context: Context
) -> tuple[Condition, ...]:
    if searchable.parts == (searchable.code,):
        return composite.conditions(searchable, parameter, context, _MAKERS)
    known = searchables(searchable.type)
    found = [
        composite.conditions(known[code], parameter, context, _MAKERS) for code in searchable.parts
    ]
    return (AnyOf(tuple(composite.one(conditions) for conditions in found)),)


@lru_cache(maxsize=8_192)
def _maker(type: str, text: str) -> tuple[Searchable, Maker | None]:
    """Which parameter the name means and how its condition is made; None for a plain reference.

    Raises for a name that means nothing here.
    """
    name = parse_name(text)
    searchable = searchable_of(type, text)
    if name.modifier is not None:
        _check_modifier(searchable, name.modifier, text)
    return searchable, _maker_of(searchable, name.modifier)


def searchable_of(type: str, text: str) -> Searchable:
    """The parameter of a name such as code:not or subject:Patient.name. Raises when unknown."""
    name = parse_name(text)
    if name.base in NOT_OFFERED:
        raise not_offered(text, NOT_OFFERED[name.base])
    if name.base in RESULTS:
        raise _unknown_modifier(text, ())
    known = searchables(type)
    searchable = known.get(name.base)
    if searchable is None:
        raise unknown("Search parameter", name.base, {*known, *RESULTS} - {CURSOR})
    if searchable.refused:
        raise not_offered(text, searchable.refused)
    return searchable


#: Modifiers that each type of parameter takes here, and those of FHIR that are not offered.
_MODIFIERS = {
    "token": ("missing", "not", "text", "of-type", "in", "not-in", "above", "below"),
    "string": ("missing", "exact", "contains"),
    "uri": ("missing", "above", "below"),
    "reference": ("missing", "identifier"),
    "date": ("missing",),
    "number": ("missing",),
    "quantity": ("missing",),
    "composite": (),
}
#: Those that ask what a code means.
_BY_MEANING = ("in", "not-in", "above", "below")
_MODIFIERS_NOT_OFFERED = {
    "string": {"text": "there is no full-text index"},
    "reference": dict.fromkeys(("above", "below"), "hierarchies are not followed")
    | {"text": "search the other type by a chain"},
    "composite": {"missing": "FHIR has no :missing of combinations; ask for the parts"},
}
_MAKERS: dict[str, Maker] = {
    "token": token.condition,
    "string": string.condition,
    "uri": uri.condition,
    "date": date.condition,
    "number": number.condition,
    "quantity": quantity.condition,
}
_TOKEN_MAKERS: dict[str | None, Maker] = {
    "text": token.text_condition,
    "of-type": token.of_type_condition,
    **dict.fromkeys(_BY_MEANING, coded.condition),
}


def _maker_of(searchable: Searchable, modifier: str | None) -> Maker | None:
    if modifier == "missing":
        return _missing
    if searchable.code in _COLUMN_MAKERS:
        return _COLUMN_MAKERS[searchable.code]
    if searchable.kind == "token":
        return _TOKEN_MAKERS.get(modifier, token.condition)
    if searchable.kind != "reference":
        return _MAKERS.get(searchable.kind)
    return token.identifier_condition if modifier == "identifier" else None


def _check_modifier(searchable: Searchable, modifier: str, text: str) -> None:
    kind, taken = searchable.kind, _taken(searchable)
    if modifier in taken:
        return
    if kind == "reference" and modifier in definitions().resource_type_set:
        if not searchable.targets or modifier in searchable.targets:
            return
        raise _unknown_modifier(text, searchable.targets)
    why = _MODIFIERS_NOT_OFFERED.get(kind, {}).get(modifier)
    if why or modifier in _MODIFIERS[kind]:
        raise not_offered(text, why or "its values have nothing that this modifier looks at")
    raise _unknown_modifier(text, taken)


def _taken(searchable: Searchable) -> tuple[str, ...]:
    """The modifiers that a parameter takes."""
    if searchable.code in _COLUMN_MAKERS:
        return ("missing",)
    lacks = dict.fromkeys(_BY_MEANING, not _is_coded(searchable)) | {
        "text": not searchable.text_number,
        "of-type": not searchable.of_type_number,
    }
    return tuple(one for one in _MODIFIERS[searchable.kind] if not lacks.get(one))


def _is_coded(searchable: Searchable) -> bool:
    """Whether values are codes of systems that they name or their element implies; a uri has
    :above and :below of its own."""
    if searchable.kind == "uri":
        return True
    found = searchable.datatypes & coded.CODED
    return bool(found) and (found != {"code"} or bool(searchable.systems))


def _unknown_modifier(text: str, known: Sequence[str]) -> Invalid | NotSupported:
    hint = f"; it takes {', '.join(f':{name}' for name in known)}" if known else ""
    return Invalid(
        f"Search parameter {shown(text)} has a modifier that it cannot have{hint}",
        expression=shown(text),
        rule="unknown-modifier",
    )


def _missing(searchable: Searchable, parameter: Parameter, context: Context) -> Missing:
    if parameter.text not in ("true", "false"):
        raise refusal(parameter.name.base, "takes :missing=true or false", rule="search-missing")
    missing = parameter.text == "true"
    if searchable.code in _COLUMN_MAKERS:
        return Missing(0, missing)
    also = [searchable.present_number]
    if searchable.kind == "reference":
        also.append(searchable.identifier_number)
    in_text = searchable.kind in ("string", "uri")
    return Missing(searchable.number, missing, in_text, tuple(also))


_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


def _ids(searchable: Searchable, parameter: Parameter, context: Context) -> Ids:
    if not all(_ID.fullmatch(value) for value in parameter.values):
        raise refusal("_id", "must be a logical id", rule="search-id")
    return Ids(tuple(dict.fromkeys(parameter.values)))


def _last_updated(searchable: Searchable, parameter: Parameter, context: Context) -> Updated:
    return date.updated(parameter, context)


_COLUMN_MAKERS: dict[str, Maker] = {"_id": _ids, "_lastUpdated": _last_updated}
