"""What a profile says of one value: fixed, pattern, limits, types, bindings, targets
(hl7.org/fhir/R4/elementdefinition.html, terminologies.html#strength, references.html).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from fhir_gateway.fhir.definitions import Element, definitions
from fhir_gateway.fhir.profile_binding import binding_judge
from fhir_gateway.fhir.profile_context import Judge, Library, Place, Run, passes
from fhir_gateway.fhir.profile_targets import aggregation_judge, target_judge
from fhir_gateway.fhir.profile_tree import Node, is_base

_SHOWN = 6
_TEXT_LIMIT = 80


def value_judges(node: Node, type: str, element: Element | None, known: Library) -> Iterator[Judge]:
    """The judges of one value of this type at a node, but for its children and invariants."""
    fixed, pattern = node.value("fixed"), node.value("pattern")
    if fixed is not None:
        yield _fixed(fixed[1])
    if pattern is not None:
        yield _pattern(pattern[1])
    yield from _limits(node)
    types = node.facts.get("type")
    if element is not None and isinstance(types, list):
        yield from _types(types, type, element, known)
    binding = node.facts.get("binding")
    if isinstance(binding, dict):
        judge = binding_judge(binding, type, element)
        if judge is not None:
            yield judge


def same(value: Any, other: Any) -> bool:
    """Whether two JSON values are the same in all parts; true is not 1, and 1.0 not 1.00."""
    if isinstance(value, dict) and isinstance(other, dict):
        return value.keys() == other.keys() and all(same(value[k], other[k]) for k in value)
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(map(same, value, other))
    if isinstance(value, bool) or isinstance(other, bool):
        return value is other
    if isinstance(value, int | Decimal) and isinstance(other, int | Decimal):
        return value == other
    return bool(value == other)


def holds(value: Any, pattern: Any) -> bool:
    """Whether a value has everything that a pattern has (elementdefinition.html, pattern[x])."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(
            name in value and holds(value[name], part) for name, part in pattern.items()
        )
    if isinstance(pattern, list):
        return isinstance(value, list) and all(
            any(holds(one, part) for one in value) for part in pattern
        )
    return same(value, pattern)


def _fixed(wanted: Any) -> Judge:
    says = f"must be {shown(wanted)} and nothing else"

    def judge(run: Run, value: Any, sibling: Any, place: Place) -> None:
        if not same(value, wanted):
            run.add(place, "value", "fixed", says)

    return judge


def _pattern(wanted: Any) -> Judge:
    says = f"must have all of {shown(wanted)}"

    def judge(run: Run, value: Any, sibling: Any, place: Place) -> None:
        if not holds(value, wanted):
            run.add(place, "value", "pattern", says)

    return judge


def shown(wanted: Any) -> str:
    """A value of a definition in a sentence."""
    if isinstance(wanted, dict):
        code = wanted.get("code")
        if isinstance(code, str):
            return f"{wanted.get('system') or ''}|{code}"
        inner = (shown(one) for one in wanted.values())
        return _shortened(", ".join(inner))
    if isinstance(wanted, list):
        return _shortened(" and ".join(map(shown, wanted)))
    if isinstance(wanted, bool):
        return str(wanted).lower()
    return _shortened(str(wanted))


def _shortened(text: str) -> str:
    return text if len(text) <= 2 * _TEXT_LIMIT else f"{text[: 2 * _TEXT_LIMIT]}…"


def _limits(node: Node) -> Iterator[Judge]:
    longest = node.facts.get("maxLength")
    if isinstance(longest, int):
        yield _longest(longest)
    for prefix, sign in (("minValue", 1), ("maxValue", -1)):
        limit = node.value(prefix)
        if limit is not None and isinstance(limit[1], int | Decimal | str):
            yield _limit(limit[1], sign)


def _longest(longest: int) -> Judge:
    says = f"may have {longest} characters"

    def judge(run: Run, value: Any, sibling: Any, place: Place) -> None:
        if isinstance(value, str) and len(value) > longest:
            run.add(place, "too-long", "max-length", says)

    return judge


def _limit(limit: Any, sign: int) -> Judge:
    """A lower (sign 1) or upper (-1) limit of a number, or of a date in the same precision."""
    says = f"must be {limit} or {'more' if sign > 0 else 'less'}"
    number = isinstance(limit, int | Decimal)

    def judge(run: Run, value: Any, sibling: Any, place: Place) -> None:
        if isinstance(value, bool) or isinstance(value, int | Decimal) != number:
            return
        if not number and len(value) != len(limit):
            return
        if (value < limit) if sign > 0 else (value > limit):
            run.add(place, "value", "limit", says)

    return judge


def _types(types: Sequence[Any], type: str, element: Element, known: Library) -> Iterator[Judge]:
    """The types a profile leaves, their profiles and targets."""
    left = [one for one in types if isinstance(one, dict) and isinstance(one.get("code"), str)]
    codes = {str(one["code"]).rpartition("/")[2].removeprefix("System.") for one in left}
    if element.choice and codes and type not in codes:
        yield _wrong_type(sorted(codes))
        return
    mine = [one for one in left if type in (one["code"], "Resource")]
    if type == "Resource" and codes and "Resource" not in codes:
        yield _resource_type(sorted(codes))
    targets = [url for one in mine for url in _texts(one, "targetProfile")]
    if targets and type in ("Reference", "canonical"):
        yield target_judge(targets, type, known)
    kinds = {kind for one in mine for kind in _texts(one, "aggregation")}
    if kinds and type == "Reference":
        yield aggregation_judge(kinds)
    profiles = [url for one in mine for url in _texts(one, "profile") if not is_base(url)]
    if profiles:
        yield _any_profile(profiles, known)


def _texts(type: Mapping[str, Any], name: str) -> list[str]:
    texts = type.get(name)
    return [text for text in texts if isinstance(text, str)] if isinstance(texts, list) else []


def _wrong_type(codes: Sequence[str]) -> Judge:
    says = f"must be of type {' or '.join(codes[:_SHOWN])}"

    def judge(run: Run, value: Any, sibling: Any, place: Place) -> None:
        run.add(place, "structure", "type", says)

    return judge


def _resource_type(codes: Sequence[str]) -> Judge:
    says = f"must be {' or '.join(codes[:_SHOWN])}"
    is_a = definitions().is_a

    def judge(run: Run, value: Any, sibling: Any, place: Place) -> None:
        if not any(is_a(place.type, code) for code in codes):
            run.add(place, "structure", "type", says)

    return judge


def _any_profile(urls: Sequence[str], known: Library) -> Judge:
    """A value must conform to one of the profiles of its type."""

    def judge(run: Run, value: Any, sibling: Any, place: Place) -> None:
        profiles = [known.profile(url) for url in urls]
        here = [profile for profile in profiles if profile is not None]
        if len(here) == 1 == len(urls):
            here[0].judge(run, value, sibling, place)
        elif not any(passes(run, one.judge, value, sibling, place) for one in here):
            names = " or ".join(urls[:_SHOWN])
            if len(here) < len(urls):
                says = f"could not be judged by {names}, which is not known here"
                run.add(place, "not-supported", "profile-unknown", says, "information")
            else:
                run.add(place, "invalid", "profile", f"must conform to {names}")

    return judge
