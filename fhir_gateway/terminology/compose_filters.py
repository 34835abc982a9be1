"""The filters of a value set (FHIR R4 valueset-filter-operator), each as a question on a concept.

Patterns run in RE2, whose time is linear in the text whatever the pattern says; they are bounded in
length and memory all the same. A pattern matches the whole of a text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import re2

from fhir_gateway.errors import TooCostly, Unprocessable
from fhir_gateway.terminology.compose_budget import Spend
from fhir_gateway.terminology.service_names import names_of
from fhir_gateway.terminology.system import Concept, PropertyValue, System

#: Characters of a pattern and of a text that it is held against, and bytes of the machine that RE2
#: may build for it.
LONGEST_PATTERN, LONGEST_TEXT, _PATTERN_MEMORY = 500, 2_000, 1 << 20

#: Properties that every system has.
BASIC = frozenset({
    "concept", "code", "display", "definition", "parent", "child", "inactive", "abstract",
    "notSelectable", "status", "designation",
})  # fmt: skip

Test = Callable[[Concept], bool]


class Filter(NamedTuple):
    """One compose.include.filter and where it stands, for messages."""

    property: str
    op: str
    value: str
    expression: str = ""


def compile_filter(one: Filter, system: System, spend: Spend = lambda price: None) -> Test:
    """The filter as a question. Raises Unprocessable for one that means nothing in this system.

    `spend` is told how many codes were looked at to make it.
    """
    if one.op in _HIERARCHICAL:
        return _related(one, system, spend)
    make = _OPERATORS.get(one.op)
    if make is None:
        known = ", ".join(OPERATORS)
        raise _invalid(one, f"The filter operator {one.op[:40]} is unknown; known are {known}")
    declared = getattr(system, "property_codes", None)
    if declared is not None and one.property not in BASIC | declared:
        known = ", ".join(sorted(declared)) or "none"
        raise _invalid(
            one,
            f"{system.url} has no property {one.property[:80]} to filter by; it declares {known}",
        )
    return make(one, system)


def unrooted(one: Filter, system: System) -> str:
    """Why nobody can tell what is below or above a code, as it is not in the part of a system that
    is here; "" when it can be told. Raises Unprocessable when the whole system has no such code."""
    if one.op not in _HIERARCHICAL or system.find(one.value) is not None:
        return ""
    if system.content == "complete":
        raise _invalid(one, f"{system.url} has no code {one.value[:80]} to filter by")
    return f"The code {one.value[:80]} is not in the part of {system.url[:300]} that is here"


def _related(one: Filter, system: System, spend: Spend) -> Test:
    """Filters by the hierarchy."""
    related = (ancestors if one.op == "generalizes" else subsumed)(system, one.value)
    spend(len(related))
    if one.op == "descendent-of":
        top = system.find(one.value)
        related -= {top.code} if top is not None else set()
    if one.op == "is-not-a":
        return lambda concept: concept.code not in related
    return lambda concept: concept.code in related


def _invalid(one: Filter, sentence: str) -> Unprocessable:
    return Unprocessable(sentence, expression=one.expression or None, rule="vs-invalid")


def values_of(concept: Concept, name: str, system: System) -> Iterator[PropertyValue]:
    """The values of a property, the basic ones among them."""
    if name in ("concept", "code"):
        yield concept.code
    elif name in ("display", "designation"):
        yield from (named.value for named in names_of(concept, system))
    elif name == "definition" and concept.definition:
        yield concept.definition
    elif name == "parent":
        yield from system.parents(concept.code)
    elif name == "child":
        yield from system.children(concept.code)
    elif name == "inactive":
        yield concept.inactive
    elif name in ("abstract", "notSelectable"):
        yield concept.abstract
    else:
        yield from (one.value for one in concept.properties if one.code == name)


def _text(value: PropertyValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _is(value: PropertyValue, wanted: str) -> bool:
    """Whether a value is what a filter names; a Coding may be named by its code alone."""
    text = _text(value)
    return text == wanted or ("|" in text and text.rpartition("|")[2] == wanted)


def subsumed(system: System, code: str) -> frozenset[str]:
    """The codes at and below a code; none when the system has no such code."""
    return _closure(system, code, system.children)


def ancestors(system: System, code: str) -> frozenset[str]:
    """The codes at and above a code."""
    return _closure(system, code, system.parents)


def _closure(system: System, code: str, step: Callable[[str], Any]) -> frozenset[str]:
    first = system.find(code)
    if first is None:
        return frozenset()
    seen, stack = {first.code}, [first.code]
    while stack:
        for named in step(stack.pop()):
            other = system.find(named)
            if other is not None and other.code not in seen:
                seen.add(other.code)
                stack.append(other.code)
    return frozenset(seen)


def _equals(one: Filter, system: System) -> Test:
    wanted = _spelled(one, system, one.value)
    return lambda concept: any(
        _is(value, wanted) for value in values_of(concept, one.property, system)
    )


def _in(one: Filter, system: System) -> Test:
    wanted = [_spelled(one, system, part.strip()) for part in one.value.split(",")]
    return lambda concept: any(
        _is(value, text) for value in values_of(concept, one.property, system) for text in wanted
    )


def _not_in(one: Filter, system: System) -> Test:
    within = _in(one, system)
    return lambda concept: not within(concept)


def _spelled(one: Filter, system: System, code: str) -> str:
    """A code as the system spells it, where case does not tell codes apart."""
    if one.property not in ("concept", "code") or system.case_sensitive:
        return code
    found = system.find(code)
    return found.code if found is not None else code


def _exists(one: Filter, system: System) -> Test:
    if one.value not in ("true", "false"):
        raise _invalid(one, "The value of the operator exists is true or false")
    wanted = one.value == "true"
    return lambda concept: (
        any(value not in ("", False) for value in values_of(concept, one.property, system))
        == wanted
    )


def _matches(one: Filter, system: System) -> Test:
    pattern = compile_pattern(one)
    return lambda concept: any(
        pattern.fullmatch(_bounded(one, _text(value))) is not None
        for value in values_of(concept, one.property, system)
    )


def _bounded(one: Filter, text: str) -> str:
    if len(text) > LONGEST_TEXT:
        raise TooCostly(
            f"A code has a {one.property[:80]} of over {LONGEST_TEXT} characters, too long for a "
            "pattern",
            expression=one.expression or None,
            rule="vs-size",
        )
    return text


def compile_pattern(one: Filter) -> Any:
    """The pattern of a filter. Raises Unprocessable for one that is too long or none at all."""
    if len(one.value) > LONGEST_PATTERN:
        raise _invalid(one, f"A pattern has at most {LONGEST_PATTERN} characters")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _PATTERN_MEMORY
    try:
        return re2.compile(one.value, options)
    except re2.error:
        raise _invalid(
            one,
            "This pattern cannot be used: it is no regular expression, grows too large, or has "
            "what takes more than linear time (references back, looking around)",
        ) from None


_OPERATORS: Mapping[str, Callable[[Filter, System], Test]] = {
    "=": _equals, "regex": _matches, "in": _in, "not-in": _not_in, "exists": _exists,
}  # fmt: skip
_HIERARCHICAL = ("is-a", "descendent-of", "is-not-a", "generalizes")

#: The filters that a client may rely on, for TerminologyCapabilities.
OPERATORS = (*_OPERATORS, *_HIERARCHICAL)
