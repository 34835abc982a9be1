"""What is wrong, or odd, in a rule set before it is approved. Pure: the same words every time.

An *error* stops activation: rules that contradict each other, that can never apply, that speak of
items which are not there, or that would widen what the level above allows. A *warning* is for a
committee to read: gaps between periods, items without a window, articles that nobody verified.
*Information* is worth knowing. docs/rules.md lists all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fhir_gateway.errors import GatewayError, Issue, Severity
from fhir_gateway.recognition.lint_parameters import Place, judge_rule
from fhir_gateway.recognition.lint_periods import judge_periods
from fhir_gateway.recognition.rules import Rule, RuleSet, is_rule_set, load_rule_set
from fhir_gateway.recognition.rules_condition import is_constant
from fhir_gateway.recognition.rules_resolve import Widened, in_order, resolve
from fhir_gateway.recognition.rules_texts import citations, said
from fhir_gateway.terminology.catalogue import Catalogue, Item
from fhir_gateway.terminology.code_system import Vocabulary

#: Items that one finding names.
MOST_NAMED = 10

_RANK: Mapping[Severity, int] = {"fatal": 0, "error": 0, "warning": 1, "information": 2}

Definition = Mapping[str, Any]
Depth = Callable[[str], int]


class Linted(NamedTuple):
    """What lint is given: the definition, what it was read into, and what it is held against."""

    definition: Definition
    rule_set: RuleSet
    catalogue: Catalogue  # as the rule set sees it
    vocabulary: Vocabulary
    others: Sequence[RuleSet]
    depth: Depth


def lint(
    definition: Definition,
    catalogue: Catalogue,
    others: Sequence[Definition],
    *,
    depth: Depth,
    contexts: Vocabulary,
) -> list[Issue]:
    """Everything that is to be said of a rule set, errors first, by element.

    `catalogue` is what it sees of the lists, `others` are the other rule sets of the store,
    `contexts` the areas and grounds. One that cannot be loaded says its faults and no more.
    """
    if not is_rule_set(definition):
        text = "No action names a criterion: this PlanDefinition is no rule set"
        return [Issue("invalid", text, "PlanDefinition.action", "rule-set")]
    try:
        rule_set = load_rule_set(definition)
    except GatewayError as error:
        return list(error.issues)
    known = [one for one in map(_loaded, others) if one is not None]
    linted = Linted(definition, rule_set, catalogue, contexts, known, depth)
    found = [issue for judge in _JUDGES for issue in judge(linted)]
    return sorted(found, key=lambda one: (_RANK[one.severity], _order(one.expression or "")))


def errors_of(
    definition: Definition,
    catalogue: Catalogue,
    others: Sequence[Definition],
    *,
    depth: Depth,
    contexts: Vocabulary,
) -> list[Issue]:
    """What stops activation."""
    found = lint(definition, catalogue, others, depth=depth, contexts=contexts)
    return [one for one in found if one.severity == "error"]


def _loaded(definition: Definition) -> RuleSet | None:
    try:
        return load_rule_set(definition)
    except GatewayError:
        return None


def _order(path: str) -> tuple[tuple[bool, int, str], ...]:
    """Paths in the order of their elements: action[2] before action[10]."""
    parts = path.replace("]", "").replace("[", ".").split(".")
    return tuple((part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts)


def issue(severity: Severity, path: str, rule: str, text: str) -> Issue:
    """A finding."""
    return Issue("business-rule", text, path, rule, severity)


# -- the head --------------------------------------------------------------------------------------


def _texts(linted: Linted) -> Iterator[Issue]:
    places = [(linted.definition, "PlanDefinition")]
    actions = linted.definition.get("action") or ()
    places += [(one, f"PlanDefinition.action[{n}]") for n, one in enumerate(actions)]
    for element, path in places:
        for name in ("title", "description"):
            text = said(element, name)
            if not text.zh or not text.en:
                lacks = "Chinese and English" if not text.zh else "English"
                says = f"The {name} is not there in {lacks}: doctors and committees read it"
                yield issue("warning", f"{path}.{name}", "lint-language", says)


def _scope(linted: Linted) -> Iterator[Issue]:
    scope = linted.rule_set.scope
    if scope.area and not linted.vocabulary.areas.known(scope.area):
        text = f"No area {scope.area} is known here, so the rule set would hold nowhere"
        yield issue("error", "PlanDefinition.jurisdiction", "lint-area", text)


def _articles(linted: Linted) -> Iterator[Issue]:
    for number, action in enumerate(linted.definition.get("action") or ()):
        for place, one in enumerate(citations(action)):
            if one.articles and not one.verified:
                text = (
                    f"{one.label}: nobody says that its article numbers were compared with the "
                    "official text, so they are not shown (StructureDefinition/article-verified)"
                )
                path = f"PlanDefinition.action[{number}].documentation[{place}]"
                yield issue("warning", path, "lint-unverified", text)


# -- the rules -------------------------------------------------------------------------------------


def _rules(linted: Linted) -> Iterator[Issue]:
    items = linted.catalogue.items
    kinds = {one.kind for one in items.values() if one.listed}
    place = Place(items, frozenset(linted.vocabulary.reasons), linted.rule_set)
    for path, rule in _placed(linted):
        if kinds and not kinds & rule.criterion.kinds:
            text = f"{rule.name} is about {' and '.join(sorted(rule.criterion.kinds))} results, "
            text += "of which no item is listed: it never applies"
            yield issue("warning", path, "lint-unreachable", text)
        if rule.name.startswith("condition@") and is_constant(rule.parameters.expression):  # type: ignore[attr-defined]  # of Condition
            text = "This condition looks at nothing, so it always says the same"
            yield issue("error", f"{path}.condition[0]", "lint-constant", text)
        for severity, name, word, text in judge_rule(rule, place):
            yield issue(severity, _parameter_path(linted, path, name), word, text)


def _placed(linted: Linted) -> Iterator[tuple[str, Rule]]:
    for number, rule in enumerate(linted.rule_set.rules):
        yield f"PlanDefinition.action[{number}]", rule


def _parameter_path(linted: Linted, path: str, name: str) -> str:
    """The first extension that gives a parameter, else the action."""
    number = int(path.rpartition("[")[2].rstrip("]"))
    action = linted.definition["action"][number]
    for place, extension in enumerate(action.get("extension") or ()):
        parts = extension.get("extension") or ()
        if any(one.get("url") == "name" and one.get("valueCode") == name for one in parts):
            return f"{path}.extension[{place}]"
    return path


def _windows(linted: Linted) -> Iterator[Issue]:
    """Items that no level gives a window to, and compiled ones, which inform and no more."""
    rule_set = linted.rule_set
    if rule_set.scope.is_overlay:
        return
    listed = [one for one in linted.catalogue.items.values() if one.listed]
    number = next(
        (n for n, rule in enumerate(rule_set.rules) if rule.parameters is rule_set.window_rule), -1
    )
    if number < 0:
        text = "No rule gives windows: a result counts however old it is"
        yield issue("warning", "PlanDefinition.action", "lint-window", text)
        return
    path = f"PlanDefinition.action[{number}]"
    without = [one for one in listed if rule_set.window(one).days is None]
    if without:
        text = f"{_named(without)} no window: whether a result is too old cannot be decided"
        yield issue("warning", path, "lint-window", text)
    compiled = [
        one for one in listed if rule_set.window(one).days and not _published(rule_set, one)
    ]
    guarded = any(rule.name.startswith("window-published@") for rule in rule_set.rules)
    if compiled and not guarded:
        text = (
            f"{_named(compiled)} a window that no authority published, and no rule "
            "window-published withholds the suggestion to leave the order out"
        )
        yield issue("error", path, "lint-compiled", text)
    elif compiled:
        text = f"{_named(compiled)} a window that no authority published: it informs, no more"
        yield issue("information", path, "lint-compiled", text)


def _published(rule_set: RuleSet, item: Item) -> bool:
    prefixes: tuple[str, ...] = ("published:",)
    for rule in rule_set.rules:
        prefixes = getattr(rule.parameters, "prefixes", prefixes)
    return rule_set.window(item).source.startswith(prefixes)


def _named(items: Sequence[Item]) -> str:
    codes = ", ".join(one.code for one in items[:MOST_NAMED])
    more = len(items) - MOST_NAMED
    verb = "have" if len(items) > 1 else "has"
    return f"{codes} and {more} more {verb}" if more > 0 else f"{codes} {verb}"


# -- beside other rule sets ------------------------------------------------------------------------


def _levels(linted: Linted) -> Iterator[Issue]:
    """Whether an overlay has something to narrow, and narrows it."""
    rule_set = linted.rule_set
    if not rule_set.scope.is_overlay:
        return
    bases = [
        one
        for one in linted.others
        if not one.scope.is_overlay
        and one.status != "retired"
        and rule_set.scope.narrows(one.url, one.version)
    ]
    path = "PlanDefinition.relatedArtifact"
    if not bases:
        text = f"There is no rule set {rule_set.scope.base} here that it could narrow"
        yield issue("error", path, "lint-base", text)
    for base in bases:
        yield from _widened(linted, base)


def _widened(linted: Linted, base: RuleSet) -> Iterator[Issue]:
    rule_set = linted.rule_set
    widened: list[Widened] = []
    resolve(base, in_order([rule_set], linted.depth), linted.depth, widened)
    numbers = {rule.name: number for number, rule in enumerate(rule_set.rules)}
    for one in widened:
        path = f"PlanDefinition.action[{numbers[one.rule]}]"
        where = _parameter_path(linted, path, one.parameter) if one.parameter else path
        what = f"{one.rule} {one.parameter}".rstrip()
        text = f"{what} is not followed beside {base.canonical}: {one.why}"
        yield issue("error", where, "lint-widens", text)


def _periods(linted: Linted) -> Iterator[Issue]:
    for severity, path, rule, text in judge_periods(linted.rule_set, linted.others):
        yield issue(severity, path, rule, text)


_JUDGES: tuple[Callable[[Linted], Iterator[Issue]], ...] = (
    _texts, _scope, _articles, _rules, _windows, _levels, _periods,
)  # fmt: skip
