"""Tokens by what their codes mean: :in, :not-in, :above, :below.

Implements hl7.org/fhir/R4/search.html, 3.1.1.4.4: a value set or a code stands for all codes that
it holds or subsumes, and these are searched like alternatives. A coding without a system is in no
value set; a bare code (Observation.status) is of the systems that its element is bound to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from fhir_gateway.errors import TooCostly
from fhir_gateway.fhir.keys import key64
from fhir_gateway.search.context import Codes, Context
from fhir_gateway.search.draft import not_offered
from fhir_gateway.search.params import Parameter, parts, refusal, shown, unescape
from fhir_gateway.search.plan import Token
from fhir_gateway.search.registry import WITHOUT_SYSTEM, Searchable

#: Datatypes whose values are codes of code systems.
CODED = frozenset({"code", "Coding", "CodeableConcept"})

#: Most codes that the values of one parameter may stand for together.
MAX_CODES = 1_000

_Pair = tuple[str, str]


def condition(searchable: Searchable, parameter: Parameter, context: Context) -> Token:
    """Any of the codes that the values stand for; with :not-in none of them.

    Raises Invalid for a value set, system or code that nobody knows here, TooCostly for too many
    codes, NotSupported where no terminology is at hand.
    """
    name = parameter.name
    if context.codes is None:
        shown_name = f"{name.base}:{name.modifier}"
        raise not_offered(shown_name, "value sets and hierarchies of codes are not followed here")
    meant = _MEANT[str(name.modifier)]
    pairs: dict[_Pair, None] = {}
    for value in parameter.values:
        pairs.update(dict.fromkeys(meant(parameter, value, context.codes)))
    if len(pairs) > MAX_CODES:
        raise too_many(f"{name.base}:{name.modifier}", f"{len(pairs):,} codes")
    keys = tuple(sorted(set(_keys(searchable, pairs, context))))  # the same in every process
    nothing = (key64("", context.secret),) * 2  # no row has neither code nor system
    return Token(searchable.number, keys or (nothing,), name.modifier == "not-in")


def too_many(name: str, what: str) -> TooCostly:
    """The refusal of more codes than a search may ask for; `what` is how many."""
    return TooCostly(
        f"Search parameter {shown(name)} stands for {what}, and {MAX_CODES:,} at most are "
        "searched at once; name a smaller value set or a narrower code",
        expression=shown(name),
        rule="search-codes",
    )


def _keys(
    searchable: Searchable, pairs: Iterable[_Pair], context: Context
) -> Iterable[tuple[int, int]]:
    """The rows of the codes: with their system, and without where the element implies it."""
    secret, implied = context.secret, searchable.systems
    bare = not searchable.datatypes.isdisjoint(WITHOUT_SYSTEM)
    with_system = not searchable.datatypes <= WITHOUT_SYSTEM
    for system, code in pairs:
        if with_system:
            yield key64(code, secret), key64(system, secret)
        if bare and system in implied:
            yield key64(code, secret), key64("", secret)


def _members(parameter: Parameter, value: str, codes: Codes) -> Iterable[_Pair]:
    return codes.members(parameter, unescape(value))


def _below(parameter: Parameter, value: str, codes: Codes) -> Iterable[_Pair]:
    system, code = _concept(parameter, value)
    return ((system, one) for one in codes.below(parameter, system, code))


def _above(parameter: Parameter, value: str, codes: Codes) -> Iterable[_Pair]:
    system, code = _concept(parameter, value)
    return ((system, one) for one in codes.above(parameter, system, code))


def _concept(parameter: Parameter, value: str) -> _Pair:
    """System and code. A code alone could be of any hierarchy."""
    pieces = parts(value)
    if len(pieces) != 2 or not all(pieces):
        raise refusal(
            parameter.name.base,
            f"must be system|code with :{parameter.name.modifier}",
            rule="search-token",
        )
    return pieces[0], pieces[1]


_MEANT: Mapping[str, Callable[[Parameter, str, Codes], Iterable[_Pair]]] = {
    "in": _members,
    "not-in": _members,
    "below": _below,
    "above": _above,
}
