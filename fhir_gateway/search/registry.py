"""The search parameters of R4 with what the index knows of each.

Read from HL7's own SearchParameter resources (hl7.org/fhir/R4/searchparameter-registry.html) by way
of `fhir.definitions`, one type at a time on first use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from fhir_gateway.fhir.definitions import Element, SearchParameter, definitions
from fhir_gateway.fhir.home import HOME_RULES, Rule
from fhir_gateway.fhir.keys import parameter_key
from fhir_gateway.fhir.path import result_types
from fhir_gateway.search.plan import (
    AllOf,
    AnyOf,
    Chain,
    Condition,
    Quantity,
    Range,
    Ref,
    Text,
    Token,
)

Kind = Literal["token", "reference", "date", "string", "uri", "number", "quantity", "composite"]
Binding = Literal["person", "follow", "institution"]

#: Kept as columns of the resource, not as index rows.
COLUMNS = frozenset({"_id", "_lastUpdated"})

#: Codes that stand in the global index too, so that a search across patients finds its way. To
#: them come `identifier` of every type, and references that tie a record to several persons.
GLOBAL_CODES: Mapping[str, frozenset[str]] = {
    "Patient": frozenset({"name", "family", "given", "birthdate", "mothersMaidenName"}),
    "Person": frozenset({"name", "birthdate"}),
    "RelatedPerson": frozenset({"name", "birthdate"}),
    "AuditEvent": frozenset({"date"}),
    "GuidanceResponse": frozenset({"date"}),
    # lists of work, and what an institution or a person answered, across all patients
    "Task": frozenset({"code", "owner", "requester", "authored-on"}),
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

#: Types whose names are found by pinyin too.
NAMED_IN_CHINESE = frozenset({"Patient", "Person", "Practitioner", "RelatedPerson"})

#: Why a parameter of the standard is refused, by its code. All others are searchable, but what
#: stands inside a Bundle.
_REFUSED_CODES = {
    "_content": "there is no full-text index; search by a parameter of the type",
    "_text": "there is no full-text index; search by a parameter of the type",
    "_filter": "filter expressions are not offered; use parameters, chains and _has",
    "_query": "there are no named queries",
    "near": "distances are not computed; search by address",
    "phonetic": "phonetic matching is not offered; name finds Chinese names by pinyin",
}
_INSIDE = "what stands inside a Bundle is not searched"

#: Datatypes whose token has no system of its own.
WITHOUT_SYSTEM = frozenset({"boolean", "code", "id", "string", "uri", "url", "canonical"})
#: Datatypes of tokens that carry a text, for :text.
_WITH_TEXT = frozenset({"CodeableConcept", "Coding", "Identifier"})

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


class Component(NamedTuple):
    """One component of a composite: the parameter it is like, its expression below the item."""

    code: str
    expression: str


@dataclass(frozen=True, slots=True, eq=False)
class Searchable:
    """One search parameter of one type.

    `datatypes` are those that can come out of its expression. `binding` says that the resource
    lives in the home of what the parameter names; `is_patient` that it is exactly the Patient
    of the row. `refused` is the reason why it cannot be searched, or empty. `parts` are the codes
    of the parameters whose rows answer it: itself, or those that a combo-… is the union of.
    `components` belong to a composite; it is `flat` when its item cannot repeat, so that its
    components' own rows answer it. `codes` is the closed list of a bare code, in order.
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
    parts: tuple[str, ...]
    components: tuple[Component, ...]
    flat: bool
    codes: tuple[str, ...]
    number: int
    exact_number: int  # :exact rows of a string
    identifier_number: int  # :identifier rows of a reference
    present_number: int  # there is a value, but none that can be searched
    text_number: int  # :text rows of a token, 0 when it has no text
    of_type_number: int  # :of-type rows of an identifier, 0 when it is none
    pinyin_number: int  # pinyin rows of a name, 0 when it has none
    canonical_number: int  # rows of a quantity in base units

    def global_numbers(self) -> tuple[int, ...]:
        """The numbers whose rows stand in the global index too."""
        if not self.is_global:
            return ()
        own = (self.number, self.exact_number, self.identifier_number)
        return (*own, *(number for number in (self.of_type_number, self.pinyin_number) if number))


@lru_cache(maxsize=256)
def searchables(type: str) -> Mapping[str, Searchable]:
    """The search parameters of a resource type by code. Raises KeyError for no such type."""
    parameters = definitions().search_parameters[type]
    return {code: _searchable(type, parameters[code]) for code in sorted(parameters)}


def fixed_home(type: str) -> int | None:
    """0 when every resource of the type lives in home 0, else None."""
    return 0 if type != "Patient" and HOME_RULES[type] == Rule() else None


@lru_cache(maxsize=256)
def global_numbers(type: str) -> frozenset[int]:
    """The parameter numbers of a type whose rows stand in the global index too."""
    return frozenset(
        number for one in searchables(type).values() for number in one.global_numbers()
    )


def global_among(type: str, conditions: Iterable[Condition]) -> frozenset[int]:
    """The parameters of conditions on this type whose rows stand in the global index too."""
    return global_numbers(type) & frozenset(_parameters(conditions))


def _parameters(conditions: Iterable[Condition]) -> Iterable[int]:
    for condition in conditions:
        if isinstance(condition, AnyOf | AllOf):
            yield from _parameters(condition.conditions)
        elif isinstance(condition, Token | Ref | Range | Quantity | Text | Chain):
            yield condition.parameter


def _searchable(type: str, parameter: SearchParameter) -> Searchable:
    code, composite = parameter.code, parameter.type == "composite"
    leaves = _leaves(type, parameter.expression)
    parts = _parts(type, parameter)
    flat = composite and parts == (code,) and _is_single(type, parameter.expression)
    refused = _REFUSED_CODES.get(code, "")
    datatypes = frozenset[str]()
    if not (refused or composite):
        datatypes = result_types(parameter.expression, type)
    if "Resource" in datatypes:
        refused = _INSIDE
    binding = _binding(type, code, leaves) if parameter.type == "reference" else None
    names = type in NAMED_IN_CHINESE and "HumanName" in _owners(type, parameter)
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
        parts=parts,
        components=_components(type, parameter) if composite and not refused else (),
        flat=flat,
        codes=_codes(datatypes, leaves),
        number=parameter_key(type, code),
        exact_number=parameter_key(type, f"{code}:exact"),
        identifier_number=parameter_key(type, f"{code}:identifier"),
        present_number=parameter_key(type, f"{code}:present"),
        text_number=_derived(type, code, "text", datatypes & _WITH_TEXT),
        of_type_number=_derived(type, code, "of-type", "Identifier" in datatypes),
        pinyin_number=_derived(type, code, "pinyin", names),
        canonical_number=parameter_key(type, f"{code}:ucum"),
    )


def _derived(type: str, code: str, what: str, wanted: object) -> int:
    return parameter_key(type, f"{code}:{what}") if wanted else 0


def _owners(type: str, parameter: SearchParameter) -> frozenset[str]:
    """The datatypes of the elements that hold what a string parameter names: of name.family, name.

    The expression of a part of a name ends one step further.
    """
    if parameter.type != "string" or not parameter.expression:
        return frozenset()
    whole = result_types(parameter.expression, type)
    above = parameter.expression.rpartition(".")[0]
    return whole | (result_types(above, type) if above.count(".") and "(" not in above else set())


def _parts(type: str, parameter: SearchParameter) -> tuple[str, ...]:
    """The other parameters of the type that together say the same, when there are such."""
    own = frozenset(_branches(parameter))
    if len(own) < 2 or parameter.type not in ("token", "quantity", "composite"):
        return (parameter.code,)
    inside = {
        other.code: frozenset(_branches(other))
        for other in definitions().search_parameters[type].values()
        if other.type == parameter.type and frozenset(_branches(other)) < own
    }
    if own != frozenset[tuple[str, ...]]().union(*inside.values()):
        return (parameter.code,)
    return tuple(inside)


def _branches(parameter: SearchParameter) -> list[tuple[str, ...]]:
    """The operands of the expression, each with the expressions of the components."""
    below = [expression for _, expression in parameter.components]
    return [(branch, *below) for branch in parameter.expression.split(" | ")]


def _components(type: str, parameter: SearchParameter) -> tuple[Component, ...]:
    by_url = {other.url: code for code, other in definitions().search_parameters[type].items()}
    return tuple(Component(by_url[url], expression) for url, expression in parameter.components)


def _is_single(type: str, expression: str) -> bool:
    """True when the expression is the resource itself, or an element of it that cannot repeat."""
    owner, many = type, False
    for name in expression.split(".")[1:]:
        element = definitions().types[owner].elements[name]
        owner, many = element.types[0], many or element.many
    return not many


def _codes(datatypes: frozenset[str], leaves: tuple[Leaf, ...] | None) -> tuple[str, ...]:
    """All codes that a bare code can have, sorted; none when the list is open."""
    if datatypes == {"boolean"}:
        return ("false", "true")
    codes = definitions().codes
    if datatypes != {"code"} or not leaves or not all(leaf.binding in codes for leaf in leaves):
        return ()
    return tuple(sorted(frozenset[str]().union(*(codes[leaf.binding] for leaf in leaves))))


def _rank(code: str, kind: str, datatypes: frozenset[str]) -> int:
    if code == "identifier":
        return 0
    if code in _COMMON or datatypes <= WITHOUT_SYSTEM:
        return 4
    return {"reference": 1, "token": 2, "composite": 2}.get(kind, 3)


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
