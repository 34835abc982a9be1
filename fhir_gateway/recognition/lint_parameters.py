"""What is odd in the parameters of one rule: a function for each kind of parameters. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.errors import Severity
from fhir_gateway.recognition.model import CONTEXTS
from fhir_gateway.recognition.parameters import (
    AlwaysRepeat,
    AlwaysRepeatUnlessKnown,
    ChangeLimits,
    DefaultView,
    Interchangeable,
    Listed,
    MethodItems,
    PatientContext,
    PublishedSources,
    RegionRule,
    ReportStates,
    RetrievableImages,
    WiderExaminations,
    WindowRule,
)
from fhir_gateway.recognition.rules import Rule, RuleSet
from fhir_gateway.terminology.catalogue import Item
from fhir_gateway.terminology.specimen import specimen_classes

#: DiagnosticReport.status, Observation.status and ImagingStudy.status of R4.
STATUSES = frozenset(
    {"registered", "partial", "preliminary", "final", "amended", "corrected", "appended"}
    | {"cancelled", "entered-in-error", "unknown", "available", "inactive"}
)
#: The longest window that the parameter takes, and the shortest.
MOST_DAYS, LEAST_DAYS = 36_500, 0

#: Severity, name of the parameter, rule, sentence.
Finding = tuple[Severity, str, str, str]


class Place(NamedTuple):
    """What a rule is held against: the items of the lists, the grounds, the whole rule set."""

    items: Mapping[str, Item]
    grounds: frozenset[str]
    rule_set: RuleSet

    def parameters(self, model: type[msgspec.Struct]) -> list[Any]:
        """The parameters of this kind in the rule set."""
        found = (rule.parameters for rule in self.rule_set.rules)
        return [one for one in found if isinstance(one, model)]


def judge_rule(rule: Rule, place: Place) -> Iterator[Finding]:
    """What is to be said of a rule's parameters."""
    for model, judge in _JUDGES.items():
        if isinstance(rule.parameters, model):
            yield from judge(rule.parameters, place)


def _unknown_items(codes: Iterable[str], name: str, place: Place) -> Iterator[Finding]:
    unknown = sorted(set(codes) - set(place.items))
    if unknown:
        text = f"{', '.join(unknown[:10])}: no such item on the list that is named"
        yield ("error", name, "lint-item", text)


def _listed(p: Listed, place: Place) -> Iterator[Finding]:
    yield from _unknown_items(p.negative, "negative", place)
    classes = {one.item_class for one in place.items.values()}
    unknown = sorted(p.classes - classes)
    if unknown:
        text = f"{', '.join(unknown)}: no item is of this class"
        yield ("error" if not p.classes & classes else "warning", "classes", "lint-item", text)
    for windows in place.parameters(WindowRule):
        both = sorted(p.negative & set(windows.override))
        if both:
            text = f"{', '.join(both)}: taken out here, and given a window that never counts"
            yield ("warning", "negative", "lint-contradiction", text)


def _states(p: ReportStates, place: Place) -> Iterator[Finding]:
    both = sorted(p.final & p.void)
    if both:
        text = f"{', '.join(both)}: final and void at once; void wins"
        yield ("error", "void", "lint-contradiction", text)
    for name, codes in (("final", p.final), ("void", p.void)):
        unknown = sorted(codes - STATUSES)
        if unknown:
            text = f"{', '.join(unknown)}: no status of a report or result in R4"
            yield ("error", name, "lint-unreachable", text)
    if not p.final - p.void:
        text = "No status counts as final: nothing is ever recognised"
        yield ("error", "final", "lint-unreachable", text)


def _windows(p: WindowRule, place: Place) -> Iterator[Finding]:
    yield from _unknown_items(p.override, "override", place)
    for days in (LEAST_DAYS, MOST_DAYS):
        at_limit = sorted(code for code, length in p.override.items() if length == days)
        if at_limit:
            text = f"{', '.join(at_limit[:10])}: {days} days is the limit of what can be said here"
            yield ("warning", "override", "lint-limit", text)
    if not p.override and not p.use_catalogue:
        text = "No item has a window, and those of the list do not count"
        yield ("error", "use_catalogue", "lint-window", text)
    same = sorted(
        code
        for code, days in p.override.items()
        if p.use_catalogue and code in place.items and place.items[code].validity_days == days
    )
    if same:
        text = f"{', '.join(same[:10])}: the list has this window already"
        yield ("information", "override", "lint-redundant", text)


def _specimens(p: Interchangeable, place: Place) -> Iterator[Finding]:
    if not p.interchangeable:
        return
    if len(p.interchangeable) == 1:
        text = "One specimen alone stands for no other"
        yield ("warning", "interchangeable", "lint-unreachable", text)
    known = frozenset().union(*(specimen_classes(one.specimen) for one in place.items.values()))
    unknown = sorted(p.interchangeable - known)
    if unknown:
        text = f"{', '.join(unknown)}: no item has this specimen"
        yield ("warning", "interchangeable", "lint-unreachable", text)


def _methods(p: MethodItems, place: Place) -> Iterator[Finding]:
    yield from _unknown_items(p.items, "items", place)


def _contexts(codes: Iterable[str], name: str) -> Iterator[Finding]:
    unknown = sorted(set(codes) - set(CONTEXTS))
    if unknown:
        text = f"{', '.join(unknown)}: no situation that a caller can state, so it never applies"
        yield ("error", name, "lint-unreachable", text)


def _grounds(codes: Iterable[str], name: str, place: Place) -> Iterator[Finding]:
    unknown = sorted(set(codes) - place.grounds)
    if unknown:
        text = f"{', '.join(unknown)}: no ground for a repeat (CodeSystem/repeat-reason)"
        yield ("error", name, "lint-ground", text)


def _repeats(p: AlwaysRepeat, place: Place) -> Iterator[Finding]:
    yield from _contexts(p.repeat, "repeat")
    yield from _unknown_items((code for one in p.repeat.values() for code in one), "repeat", place)
    yield from _grounds([p.ground], "ground", place)
    for view in place.parameters(Listed):
        gone = sorted({code for one in p.repeat.values() for code in one} & view.negative)
        if gone:
            text = f"{', '.join(gone)}: taken off the list by another rule"
            yield ("warning", "repeat", "lint-contradiction", text)


def _situations(p: PatientContext, place: Place) -> Iterator[Finding]:
    yield from _contexts(p.lower, "lower")
    yield from _grounds(p.lower.values(), "lower", place)


def _views(p: DefaultView, place: Place) -> Iterator[Finding]:
    yield from _unknown_items(p.remind, "remind", place)
    for repeats in place.parameters(AlwaysRepeat):
        both = sorted(p.remind & {code for one in repeats.repeat.values() for code in one})
        if both:
            text = f"{', '.join(both)}: reminded of here, and always done anew by another rule"
            yield ("warning", "remind", "lint-contradiction", text)
    usual = sorted(
        code
        for code in p.remind
        if code in place.items and place.items[code].default_recognition != "view-only"
    )
    if usual:
        text = f"{', '.join(usual)}: reminded of without this"
        yield ("information", "remind", "lint-redundant", text)


def _sources(p: PublishedSources, place: Place) -> Iterator[Finding]:
    if "" in p.prefixes:
        text = "An empty beginning lets every source pass, compiled ones too"
        yield ("error", "prefixes", "lint-compiled", text)
    if any("compiled".startswith(one) or one.startswith("compiled") for one in p.prefixes if one):
        text = "A compiled window is our own and never counts as published"
        yield ("error", "prefixes", "lint-compiled", text)
    if not place.parameters(WindowRule) and not place.rule_set.scope.is_overlay:
        text = "No rule gives windows, so there is none that could be published"
        yield ("warning", "prefixes", "lint-unreachable", text)


def _unless_known(p: AlwaysRepeatUnlessKnown, place: Place) -> Iterator[Finding]:
    yield from _unknown_items(p.unless_known, "unless_known", place)
    planned = {code for one in p.repeat.values() for code in one}
    never = sorted(p.unless_known - planned)
    if never:
        text = f"{', '.join(never)}: done anew where nothing is known, and in no situation that is"
        yield ("warning", "unless_known", "lint-contradiction", text)


def _limits(p: ChangeLimits, place: Place) -> Iterator[Finding]:
    for name, table in (("percent", p.percent), ("absolute", p.absolute)):
        yield from _unknown_items(table, name, place)
        known = {code: place.items[code] for code in table if code in place.items}
        words = sorted(code for code, item in known.items() if item.scale != "quantitative")
        if words:
            text = f"{', '.join(words)}: no item with numbers, so its limit never counts"
            yield ("error", name, "lint-unreachable", text)
        nothing = sorted(code for code in known if not float(table[code]))
        if nothing:
            text = f"{', '.join(nothing)}: a limit of 0 is the same as none"
            yield ("warning", name, "lint-limit", text)
        wide = sorted(code for code in known if name == "percent" and float(table[code]) >= 100)
        if wide:
            text = f"{', '.join(wide)}: a value that doubles would pass for the same"
            yield ("warning", name, "lint-limit", text)
    if (p.percent or p.absolute) and not p.source:
        text = "Nobody says where these limits are from"
        yield ("warning", "source", "lint-limit", text)
    if p.source.startswith("compiled"):
        count = len({*p.percent, *p.absolute})
        text = f"The limits of {count} items are compiled and published by no authority"
        yield ("information", "source", "lint-compiled", text)


def _wider(p: WiderExaminations, place: Place) -> Iterator[Finding]:
    narrower = {code for one in p.covers.values() for code in one}
    yield from _unknown_items({*p.covers, *narrower}, "covers", place)
    known = [place.items[one] for one in {*p.covers, *narrower} if one in place.items]
    labs = sorted(one.code for one in known if one.kind == "lab")
    if labs:
        text = f"{', '.join(labs)}: a laboratory item is no wider or narrower examination"
        yield ("error", "covers", "lint-unreachable", text)
    both = sorted(code for code, own in p.covers.items() for one in own if _mutual(p, code, one))
    if both:
        text = f"{', '.join(dict.fromkeys(both))}: wider and narrower than the same item"
        yield ("error", "covers", "lint-contradiction", text)


def _mutual(p: WiderExaminations, wider: str, narrower: str) -> bool:
    return wider in p.covers.get(narrower, ())


def _regions(p: RegionRule, place: Place) -> Iterator[Finding]:
    known = {one.body_part_dicom for one in place.items.values()}
    unknown = sorted(set(p.same) - known)
    if unknown:
        text = f"{', '.join(unknown)}: no item has this body part"
        yield ("warning", "same", "lint-unreachable", text)


def _images(p: RetrievableImages, place: Place) -> Iterator[Finding]:
    yield from _grounds([p.ground], "ground", place)


_JUDGES: Mapping[type[msgspec.Struct], Callable[[Any, Place], Iterator[Finding]]] = {
    Listed: _listed,
    ReportStates: _states,
    WindowRule: _windows,
    Interchangeable: _specimens,
    MethodItems: _methods,
    AlwaysRepeat: _repeats,
    PatientContext: _situations,
    DefaultView: _views,
    PublishedSources: _sources,
    AlwaysRepeatUnlessKnown: _unless_known,
    ChangeLimits: _limits,
    WiderExaminations: _wider,
    RegionRule: _regions,
    RetrievableImages: _images,
}
