"""What another version of a rule set changes, in sentences for a committee. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from fhir_gateway.recognition.rules import Rule, RuleSet
from fhir_gateway.recognition.rules_condition import Condition


def differences(before: RuleSet, after: RuleSet) -> Iterator[str]:
    """One line for each difference; none where both say the same, whatever their versions."""
    for name, old, new in (
        ("level", before.scope.said(), after.scope.said()),
        ("narrows", before.scope.base, after.scope.base),
        ("period", f"{before.start}/{before.end}", f"{after.start}/{after.end}"),
        ("lists", ", ".join(before.lists), ", ".join(after.lists)),
    ):
        if old != new:
            yield f"{name}: {old or 'none'} → {new or 'none'}"
    had = {rule.name: rule for rule in before.rules}
    has = {rule.name: rule for rule in after.rules}
    for name, rule in had.items():
        if name not in has:
            yield f"- {name} ({rule.severity})"
    for name, rule in has.items():
        if name not in had:
            yield f"+ {name} ({rule.severity}) {rule.clause}"
        else:
            yield from _rule(had[name], rule)
    common = [name for name in has if name in had]
    if common != [name for name in had if name in has]:
        yield "order of the rules: the first of equal severity gives the reason"


def _rule(before: Rule, after: Rule) -> Iterator[str]:
    for name, old, new in (
        ("severity", before.severity, after.severity),
        ("title", before.title.zh, after.title.zh),
        ("title (English)", before.title.en, after.title.en),
        ("explanation", before.explanation.zh, after.explanation.zh),
        ("explanation (English)", before.explanation.en, after.explanation.en),
        ("clause", before.clause, after.clause),
    ):
        if old != new:
            yield f"~ {after.name} {name}: {old or 'none'} → {new or 'none'}"
    if isinstance(before.parameters, Condition) and isinstance(after.parameters, Condition):
        if before.parameters.expression != after.parameters.expression:
            yield (
                f"~ {after.name} expression: {before.parameters.expression} → "
                f"{after.parameters.expression}"
            )
        return
    names = {*before.parameters.__struct_fields__, *after.parameters.__struct_fields__}
    for name in sorted(names):
        was, now = getattr(before.parameters, name, None), getattr(after.parameters, name, None)
        yield from _value(f"{after.name} {name}", was, now)


def _value(name: str, before: Any, after: Any) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            yield from _value(f"{name}[{key}]", before.get(key), after.get(key))
    elif isinstance(before, frozenset) and isinstance(after, frozenset):
        for one in sorted(after - before):
            yield f"~ {name}: + {one}"
        for one in sorted(before - after):
            yield f"~ {name}: - {one}"
    else:
        yield f"~ {name}: {_spelled(before)} → {_spelled(after)}"


def _spelled(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, frozenset):
        value = sorted(value)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
