"""One rule set from several levels: the nation's, narrowed by region, city and institution.

What may be recognised is only ever narrowed below: every parameter has a direction in NARROWER,
and one that an overlay would widen stays as it was (the linter and the activation say so). Windows
alone are the nearer level's own, longer or shorter. Pure, total, and the same in whatever order
the levels come: they are put in order first. docs/adr/0025-rule-set-lifecycle.md
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.recognition.parameters import (
    AlwaysRepeat,
    AlwaysRepeatUnlessKnown,
    ChangeLimits,
    ContrastRule,
    CountedWindow,
    DefaultView,
    IdentityRule,
    Interchangeable,
    Listed,
    MethodItems,
    PatientContext,
    PrintedMark,
    PublishedSources,
    RegionRule,
    ReportStates,
    WiderExaminations,
    WindowRule,
)
from fhir_gateway.recognition.rules import (
    RANK,
    Rule,
    RuleSet,
    choose,
    replace_rule,
    rule_set_of,
    version_key,
)
from fhir_gateway.recognition.situation import Window

#: A class that no item has: an empty set of classes would mean all.
NO_CLASS = "\x00none"


class Widened(NamedTuple):
    """What an overlay says that was not followed: the rule, the parameter ("" for its severity),
    and why."""

    rule: str
    parameter: str
    why: str


#: The value that counts, from the one below and the one that is stated over it.
Narrow = Callable[[Any, Any], Any]


def _classes(below: frozenset[str], over: frozenset[str]) -> frozenset[str]:
    if not below or not over:
        return over or below
    return below & over or frozenset({NO_CLASS})


def _prefixes(below: tuple[str, ...], over: tuple[str, ...]) -> tuple[str, ...]:
    """Those that both let through."""
    kept = [one for one in over if one.startswith(below)]
    kept += [one for one in below if over and one.startswith(over)]
    return tuple(sorted(set(kept)))


def _tables(below: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    names = sorted({*below, *over})
    return {one: below.get(one, frozenset()) | over.get(one, frozenset()) for one in names}


def _intersection(below: frozenset[str], over: frozenset[str]) -> frozenset[str]:
    return below & over


def _union(below: frozenset[str], over: frozenset[str]) -> frozenset[str]:
    return below | over


def _either(below: bool, over: bool) -> bool:
    return below or over


def _both(below: bool, over: bool) -> bool:
    return below and over


def _start(below: str, over: str) -> str:
    """A window that counts from the examination ends earlier than one from the report."""
    return "clinical" if "clinical" in (below, over) else below


def _hours(below: str, over: str) -> str:
    """n times 24 hours end before the last moment of day n."""
    return "hours" if "hours" in (below, over) else below


def _refused(below: str, over: str) -> str:
    return "refused" if "refused" in (below, over) else below


def _smaller(below: Mapping[str, str], over: Mapping[str, str]) -> dict[str, str]:
    """The smaller limit; an item without one below has none above, for any change lowers it."""
    return {one: min(limit, over.get(one, limit), key=float) for one, limit in below.items()}


def _common(
    below: Mapping[str, frozenset[str]], over: Mapping[str, frozenset[str]]
) -> dict[str, frozenset[str]]:
    """What both tables allow."""
    shared = {one: below[one] & over[one] for one in sorted({*below} & {*over})}
    return {one: items for one, items in shared.items() if items}


def _nearer(below: Any, over: Any) -> Any:
    return over


def _merged(below: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    return {**below, **over}


#: How a parameter may be narrowed. One that does not stand here is the base's alone.
NARROWER: Mapping[tuple[type[msgspec.Struct], str], Narrow] = MappingProxyType({
    (Listed, "classes"): _classes,
    (Listed, "negative"): _union,
    (ReportStates, "final"): _intersection,
    (ReportStates, "void"): _union,
    (ReportStates, "report_required"): _either,
    (WindowRule, "start"): _start,
    (WindowRule, "override"): _merged,
    (WindowRule, "override_source"): _nearer,
    (WindowRule, "use_catalogue"): _both,
    (Interchangeable, "interchangeable"): _intersection,
    (MethodItems, "items"): _union,
    (AlwaysRepeat, "repeat"): _tables,
    (PatientContext, "lower"): _merged,
    (PrintedMark, "printed_mark_required"): _either,
    (DefaultView, "remind"): _intersection,
    (PublishedSources, "prefixes"): _prefixes,
    (CountedWindow, "count"): _hours,
    (IdentityRule, "conflict"): _refused,
    (IdentityRule, "own_record"): _both,
    (AlwaysRepeatUnlessKnown, "unless_known"): _union,
    (ContrastRule, "stated"): _either,
    (RegionRule, "same"): _common,
    (WiderExaminations, "covers"): _common,
    (ChangeLimits, "percent"): _smaller,
    (ChangeLimits, "absolute"): _smaller,
})  # fmt: skip

#: Parameters whose tables take rows from both levels: what is added is no widening.
_ADDS = frozenset({"negative", "void", "items", "repeat", "lower", "override", "unless_known"})


def direction(model: type[msgspec.Struct], name: str) -> Narrow | None:
    """How a parameter may be narrowed, also where its model is made of one that is listed."""
    return next((NARROWER[one, name] for one in model.__mro__ if (one, name) in NARROWER), None)


def in_order(overlays: Iterable[RuleSet], depth: Callable[[str], int]) -> list[RuleSet]:
    """The overlays from the farthest to the nearest: areas by how many areas they lie in, then by
    code, the institution last."""
    return sorted(
        overlays,
        key=lambda one: (
            bool(one.scope.institution),
            depth(one.scope.area) if one.scope.area else 0,
            one.scope.area,
            one.scope.institution,
            one.url,
            version_key(one.version),
        ),
    )


def applicable(
    rule_sets: Iterable[RuleSet], within: Iterable[str], institution: str, as_of_us: int, zone: str
) -> tuple[RuleSet, list[RuleSet]] | None:
    """The base and the overlays in force for an institution that lies within these areas.

    None in a gap: no base, or an overlay that was made for another base. To leave that overlay out
    would recognise more than its level allows.
    """
    levels: dict[tuple[str, str], list[RuleSet]] = {}
    for one in rule_sets:
        levels.setdefault((one.scope.area, one.scope.institution), []).append(one)
    base = choose(levels.pop(("", ""), ()), as_of_us, zone)
    if base is None:
        return None
    reached = frozenset(within)
    overlays = []
    for (area, venue), candidates in levels.items():
        if area in reached or (venue and venue == institution):
            overlay = choose(candidates, as_of_us, zone)
            if overlay is not None:
                overlays.append(overlay)
    if not all(one.scope.narrows(base.url, base.version) for one in overlays):
        return None
    return base, overlays


def resolve(
    base: RuleSet,
    overlays: Sequence[RuleSet],
    depth: Callable[[str], int],
    widened: list[Widened] | None = None,
) -> RuleSet:
    """The rules that hold where all of these do; what would widen is noted in `widened`.

    A base without overlays is itself, digest and all.
    """
    if not overlays:
        return base
    noted: list[Widened] = [] if widened is None else widened
    layers = in_order(overlays, depth)
    rules = {rule.name: rule for rule in base.rules}
    windows: dict[str, Window] = {}
    for layer in layers:
        for rule in layer.rules:
            rules[rule.name] = _over(rules.get(rule.name), rule, rules, noted)
            if isinstance(rule.parameters, WindowRule):
                source = rule.parameters.override_source
                windows |= {
                    item: Window(days, source) for item, days in rule.parameters.override.items()
                }
    return rule_set_of(
        [rule for rule in rules.values() if rule is not None],
        url=base.url,
        version=base.version,
        status=base.status,
        start=base.start,
        end=base.end,
        digest=_digest([base, *layers]),
        lists=base.lists,
        scope=base.scope,
        experimental=any(one.experimental for one in (base, *layers)),
        layers=tuple(one.canonical for one in (base, *layers)),
        windows=MappingProxyType(windows),
    )


def _digest(layers: Sequence[RuleSet]) -> str:
    """What binds a decision to all levels, in their order."""
    text = "resolved@1 " + " ".join(one.digest for one in layers)
    return hashlib.sha256(text.encode()).hexdigest()


def _over(below: Rule | None, over: Rule, rules: Mapping[str, Rule], noted: list[Widened]) -> Rule:
    """A rule of an overlay set over the rule of the same name, if there is one.

    A rule that is new only adds a condition. One of another version of a criterion that is there
    counts beside it: both must be met.
    """
    if below is None:
        return over
    if "#" in over.name:
        if over.parameters != below.parameters:
            noted.append(Widened(over.name, "", "a condition of this id is there: take another"))
        return below
    values: dict[str, Any] = {}
    for name in sorted(over.stated):
        narrow = direction(type(below.parameters), name)
        had, wants = getattr(below.parameters, name), getattr(over.parameters, name)
        if narrow is not None:
            values[name] = narrow(had, wants)
            if name not in _ADDS and values[name] != wants:
                why = "this would recognise more than the level above"
                noted.append(Widened(over.name, name, why))
        elif had != wants:
            noted.append(Widened(over.name, name, "the rule set that is narrowed decides it"))
    criterion = below.criterion
    if RANK[over.criterion.effect] < RANK[criterion.effect]:
        criterion = criterion._replace(effect=over.criterion.effect)
    elif RANK[over.criterion.effect] > RANK[criterion.effect]:
        noted.append(Widened(over.name, "", "a rule cannot be made less severe"))
    return replace_rule(
        below,
        criterion=criterion,
        parameters=msgspec.structs.replace(below.parameters, **values),
        clause="; ".join(dict.fromkeys([below.clause, over.clause])),
        stated=below.stated | over.stated,
    )
