"""The search parameters of R4 with what the index knows of each.

Read from HL7's own SearchParameter resources (hl7.org/fhir/R4/searchparameter-registry.html) by way
of `fhir.definitions`, one type at a time on first use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from fhir_gateway.fhir.definitions import Element, SearchParameter, definitions
from fhir_gateway.fhir.home import HOME_RULES, Rule
from fhir_gateway.fhir.keys import parameter_key
from fhir_gateway.fhir.path import result_types

Kind = Literal["token", "reference", "date", "string", "uri", "number", "quantity"]
Binding = Literal["person", "follow", "institution"]

#: Kept as columns of the resource, not as index rows.
COLUMNS = frozenset({"_id", "_lastUpdated"})

#: Codes that stand in the global index too, so that a search across patients finds its way. To
#: them come `identifier` of every type, and references that tie a record to several persons.
GLOBAL_CODES: Mapping[str, frozenset[str]] = {
    "Patient": frozenset({"name", "family", "given", "birthdate"}),
    "Person": frozenset({"name", "birthdate"}),
    "RelatedPerson": frozenset({"name", "birthdate"}),
    "AuditEvent": frozenset({"date"}),
}

#: Records that the gateway itself writes once per home: what they name is searched in the homes
#: of the named resources and in home 0, although the element repeats.
WRITTEN_PER_HOME: Mapping[str, frozenset[str]] = {
    "AuditEvent": frozenset({"patient", "entity"}),
    "GuidanceResponse": frozenset({"patient", "subject"}),
    "Provenance": frozenset({"target", "patient"}),
}

#: Tokens that most resources of a patient share; never the way into a search when there is another.
_COMMON = frozenset({"category", "class", "_tag", "_security", "_profile"})

#: Why a parameter of the standard is refused, by its type or code.
_REFUSED_TYPES = {
    "composite": "composite search parameters are not offered yet; search by their parts",
    "special": "it needs a calculation that is not offered",
}
_REFUSED_CODES = {"phonetic": "phonetic matching of names is not offered; use name"}
_INSIDE = "what stands inside a Bundle is not searched"
_NO_EXPRESSION = "it is not an element of the resource and is not offered"

#: Datatypes whose token has no system of its own.
WITHOUT_SYSTEM = frozenset({"boolean", "code", "id", "string", "uri", "url", "canonical"})

_SECOND = 1_000_000
#: How wide (in microseconds) the range of one date can be, by datatype.
_YEAR = 367 * 86_400 * _SECOND  # a leap year, and a day for changes of the zone's offset
_WIDEST = {"instant": _SECOND, "date": _YEAR, "dateTime": _YEAR}


class Leaf(NamedTuple):
    """Where one branch of an expression ends: its path, and what the elements on it say."""

    path: tuple[str, ...]
    many: bool
    targets: frozenset[str]
    binding: str


@dataclass(frozen=True, slots=True, eq=False)
class Searchable:
    """One search parameter of one type.

    `datatypes` are those that can come out of its expression. `binding` says that the resource
    lives in the home of what the parameter names; `is_patient` that it is exactly the Patient
    of the row. `refused` is the reason why it cannot be searched, or empty.
    """

    type: str
    code: str
    kind: Kind
    expression: str
    targets: tuple[str, ...]
    datatypes: frozenset[str]
    systems: frozenset[str]
    is_global: bool
    binding: Binding | None
    is_patient: bool
    rank: int  # the lower, the fewer resources a value is expected to have
    widest: int | None
    refused: str
    number: int
    exact_number: int  # :exact rows of a string
    identifier_number: int  # :identifier rows of a reference
    present_number: int  # there is a value, but none that can be searched


@lru_cache(maxsize=256)
def searchables(type: str) -> Mapping[str, Searchable]:
    """The search parameters of a resource type by code. Raises KeyError for no such type."""
    parameters = definitions().search_parameters[type]
    return {code: _searchable(type, parameters[code]) for code in sorted(parameters)}


def fixed_home(type: str) -> int | None:
    """0 when every resource of the type lives in home 0, else None."""
    return 0 if type != "Patient" and HOME_RULES[type] == Rule() else None


def _searchable(type: str, parameter: SearchParameter) -> Searchable:
    code = parameter.code
    refused = (
        _REFUSED_TYPES.get(parameter.type)
        or _REFUSED_CODES.get(code)
        or ("" if parameter.expression else _NO_EXPRESSION)
    )
    leaves = _leaves(type, parameter.expression)
    datatypes = result_types(parameter.expression, type) if refused == "" else frozenset()
    if "Resource" in datatypes:
        refused = _INSIDE
    binding = _binding(type, code, leaves) if parameter.type == "reference" else None
    return Searchable(
        type=type,
        code=code,
        kind=parameter.type,  # type: ignore[arg-type]  # the other kinds are refused
        expression=parameter.expression,
        targets=_targets(parameter, leaves),
        datatypes=datatypes,
        systems=_systems(leaves),
        is_global=binding is None and _is_global(type, code, leaves),
        binding=binding,
        is_patient=binding == "person" and _is_the_patient(type, leaves),
        rank=_rank(code, parameter.type, datatypes),
        widest=max(_WIDEST[name] for name in datatypes)
        if datatypes and datatypes <= _WIDEST.keys()
        else None,
        refused=refused,
        number=parameter_key(type, code),
        exact_number=parameter_key(type, f"{code}:exact"),
        identifier_number=parameter_key(type, f"{code}:identifier"),
        present_number=parameter_key(type, f"{code}:present"),
    )


def _rank(code: str, kind: str, datatypes: frozenset[str]) -> int:
    if code == "identifier":
        return 0
    if code in _COMMON or datatypes <= WITHOUT_SYSTEM:
        return 4
    return {"reference": 1, "token": 2}.get(kind, 3)


def _targets(parameter: SearchParameter, leaves: tuple[Leaf, ...] | None) -> tuple[str, ...]:
    """Types a reference may name: what the parameter says, narrowed to what the elements say."""
    said = frozenset(parameter.targets)
    if not leaves or not all(leaf.targets for leaf in leaves):
        return tuple(sorted(said))
    allowed = frozenset[str]().union(*(leaf.targets for leaf in leaves))
    return tuple(sorted(said & allowed or allowed))


def _systems(leaves: tuple[Leaf, ...] | None) -> frozenset[str]:
    """Code systems that are implied where the value is a bare code."""
    value_sets = definitions().value_sets
    return frozenset(
        system
        for leaf in leaves or ()
        if leaf.binding in value_sets
        for system in value_sets[leaf.binding].systems
    )


def _is_global(type: str, code: str, leaves: tuple[Leaf, ...] | None) -> bool:
    if code == "identifier" or code in GLOBAL_CODES.get(type, ()):
        return True
    rule = HOME_RULES[type]
    decisive = {_path(text) for text in (*rule.person, *rule.follow, *rule.institution)}
    return type not in WRITTEN_PER_HOME and any(leaf.path in decisive for leaf in leaves or ())


def _binding(type: str, code: str, leaves: tuple[Leaf, ...] | None) -> Binding | None:
    """How the parameter binds a search to homes: it is the element that decides the home.

    An element that repeats does not bind: only its first reference decided.
    """
    if code in WRITTEN_PER_HOME.get(type, ()):
        return "person" if code in ("patient", "subject") else "follow"
    if leaves is None or len(leaves) != 1 or leaves[0].many:
        return None
    rule, path = HOME_RULES[type], leaves[0].path
    if rule.person and path == _path(rule.person[0]):
        return "person" if "Patient" in leaves[0].targets else None
    if rule.follow and path == _path(rule.follow[0]) and not rule.person:
        return "follow"
    if rule.institution and path == _path(rule.institution[0]) and not (rule.person or rule.follow):
        return "institution"
    return None


def _is_the_patient(type: str, leaves: tuple[Leaf, ...] | None) -> bool:
    rule = HOME_RULES[type]
    return type not in WRITTEN_PER_HOME and len(rule.person) == 1 and not rule.follow


def _path(text: str) -> tuple[str, ...]:
    return tuple(text.partition(":")[0].split("."))


_BRANCH = re.compile(
    r"\(?(?P<type>[A-Z]\w*)\.(?P<path>\w+(?:\.(?!as\(|where\()\w+)*)"
    r"(?: as (?P<as>\w+)\)|\.as\((?P<cast>\w+)\))?(?:\.where\(resolve\(\) is (?P<target>\w+)\))?"
)


def _leaves(type: str, expression: str) -> tuple[Leaf, ...] | None:
    """The ends of an expression, None when a branch is more than a path with a cast."""
    leaves = []
    for branch in expression.split(" | ") if expression else ():
        match = _BRANCH.fullmatch(branch.strip())
        leaf = match and _leaf(type, tuple(match["path"].split(".")), match)
        if not leaf:
            return None
        leaves.append(leaf)
    return tuple(leaves)


def _leaf(type: str, path: tuple[str, ...], match: re.Match[str]) -> Leaf | None:
    types, owner, many = definitions().types, type, False
    element: Element | None = None
    for name in path:
        element = types[owner].elements.get(name) if owner in types else None
        if element is None:
            return None
        many = many or element.many
        owner = element.types[0] if len(element.types) == 1 else ""
    if element is None:
        return None
    target = match["target"]
    targets = frozenset({target}) if target else frozenset(element.targets)
    return Leaf(path, many, targets, element.binding)
