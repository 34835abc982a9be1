"""A rule set as `decide` takes it: its rules laid out for each kind of result. Pure values.

How a PlanDefinition becomes one: rules.py. How one is made of several levels: rules_resolve.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.recognition.criteria import Check, Criterion
from fhir_gateway.recognition.model import Candidate, Effect, Line
from fhir_gateway.recognition.parameters import WiderExaminations, WindowRule
from fhir_gateway.recognition.rules_scope import NATIONAL, Scope
from fhir_gateway.recognition.rules_texts import UNSAID, Said
from fhir_gateway.recognition.situation import Window, period
from fhir_gateway.terminology.catalogue import Item

NO_WINDOW = Window(None, "")

#: How far an effect lowers the outcome; 2 does not.
RANK: Mapping[Effect, int] = MappingProxyType(
    {"not-recognizable": 0, "view-only": 1, "no-suggestion": 2, "information": 2}
)

#: What a rule does when it is not met, in the words of a committee, from the strictest.
SEVERITIES: Mapping[str, Effect] = MappingProxyType(
    {"decides": "not-recognizable", "lowers": "view-only", "informs": "information"}
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One action: a criterion, its parameters and the clause that it rests on.

    `criterion.effect` is the rule set's own where it states a severity. `passed` and
    `not_applicable` are its lines where it has nothing more to say. `stated` names the parameters
    that the action gives, `layer` the canonical of the rule set that it stands in.
    """

    name: str
    criterion: Criterion
    parameters: msgspec.Struct
    clause: str
    passed: Line
    not_applicable: Line
    title: Said = UNSAID
    explanation: Said = UNSAID
    stated: frozenset[str] = frozenset()
    layer: str = ""

    @property
    def severity(self) -> str:
        """Whether it decides, lowers or informs."""
        return severity_of(self.criterion.effect)


def severity_of(effect: Effect) -> str:
    """The severity that stands for an effect."""
    return next((name for name, one in SEVERITIES.items() if one == effect), "informs")


#: Position in the rule set, check, parameters.
Applied = tuple[int, Check, msgspec.Struct]


class Plan(NamedTuple):
    """The rules for one kind of result, laid out for the loops of decide."""

    of_order: tuple[Applied, ...]  # that look at the order alone
    of_result: tuple[Applied, ...]  # that look at anything of a result
    of_like: tuple[Applied, ...]  # that look at some of its fields, and find the same of its like
    like: Callable[[Candidate], Any]  # those fields of a result
    lines: tuple[Line, ...]  # of a result that passes all of them
    told: tuple[tuple[int, Rule], ...]  # whose line has something to say when they pass
    ranks: tuple[int, ...]  # of all rules, by position
    kept: dict[str, Any]  # what judge.py found by them, so that it is not looked for again


@dataclass(frozen=True, slots=True)
class RuleSet:
    """One version of the rules. `digest` is SHA-256 of the PlanDefinition's actions and head.

    `lists` are the lists of items that it speaks of: canonicals of CodeSystems, with an edition or
    without; none means the catalogue alone. `scope` says where it holds. One that was resolved
    from several (rules_resolve.py) has their canonicals in `layers`, the nation's first, and in
    `windows` those of the nearer levels. `wider` names for an item the wider examinations that
    answer for it. `newest` is the rule on newer results, with its position; None means that the
    first version holds.
    """

    url: str
    version: str
    status: str
    start: str  # effectivePeriod, "" when open
    end: str
    rules: tuple[Rule, ...]
    digest: str
    window_rule: WindowRule | None
    by_kind: Mapping[str, Plan] = field(compare=False)  # made of the rules
    lists: tuple[str, ...] = ()
    scope: Scope = NATIONAL
    experimental: bool = False
    layers: tuple[str, ...] = ()
    windows: Mapping[str, Window] = field(default_factory=dict)
    wider: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    newest: Rule | None = None
    newest_at: int = -1

    @property
    def canonical(self) -> str:
        """`url|version`."""
        return f"{self.url}|{self.version}"

    def window(self, entry: Item | None) -> Window:
        """The window of an item: the nearest level's own, else the catalogue's; days None without
        one."""
        if self.window_rule is None or entry is None:
            return NO_WINDOW
        if self.windows and (own := self.windows.get(entry.code)) is not None:
            return own
        return _window(self.window_rule, entry)

    def in_force(self, as_of_us: int, zone: str) -> bool:
        """Whether it is active and the day lies in its effective period."""
        if self.status != "active":
            return False
        first, last = period(self.start, self.end, zone)
        return first <= as_of_us <= last


def _window(parameters: WindowRule, entry: Item) -> Window:
    days = parameters.override.get(entry.code)
    if days is not None:
        return Window(days, parameters.override_source)
    if parameters.use_catalogue and entry.validity_days:
        return Window(entry.validity_days, entry.validity_source)
    return NO_WINDOW


def choose(rule_sets: Iterable[RuleSet], as_of_us: int, zone: str) -> RuleSet | None:
    """The one in force: the latest start, then the highest version; None when there is a gap."""
    valid = [rule_set for rule_set in rule_sets if rule_set.in_force(as_of_us, zone)]
    return max(valid, key=lambda r: (r.start, version_key(r.version), r.url), default=None)


def version_key(version: str) -> tuple[tuple[int, str], ...]:
    """What versions are ordered by: 1.9 comes before 1.10."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in version.split("."))


def rule_set_of(rules: Sequence[Rule], **head: Any) -> RuleSet:
    """A rule set of these rules, laid out for the loops of decide."""
    newest_at = next((n for n, r in enumerate(rules) if r.criterion.looks_at == "others"), -1)
    return RuleSet(
        rules=tuple(rules),
        wider=_wider(rules),
        newest=rules[newest_at] if newest_at >= 0 else None,
        newest_at=newest_at,
        window_rule=next(
            (r.parameters for r in rules if isinstance(r.parameters, WindowRule)), None
        ),
        by_kind=MappingProxyType({kind: _plan(rules, kind) for kind in ("lab", "imaging")}),
        **head,
    )


def _wider(rules: Sequence[Rule]) -> Mapping[str, tuple[str, ...]]:
    """By narrower item the wider examinations that answer for it."""
    found: dict[str, list[str]] = {}
    for rule in rules:
        if isinstance(rule.parameters, WiderExaminations):
            for wider, narrower in sorted(rule.parameters.covers.items()):
                for item in sorted(narrower - {wider}):
                    found.setdefault(item, []).append(wider)
    return MappingProxyType({item: tuple(wider) for item, wider in found.items()})


def replace_rule(rule: Rule, **changes: Any) -> Rule:
    """The rule with other members; its lines follow an effect that is another."""
    members = {name: getattr(rule, name) for name in Rule.__slots__} | changes
    criterion: Criterion = members["criterion"]
    passed = msgspec.structs.replace(rule.passed, effect=criterion.effect)
    idle = msgspec.structs.replace(rule.not_applicable, effect=criterion.effect)
    return Rule(**(members | {"passed": passed, "not_applicable": idle}))


def _group(criterion: Criterion) -> str:
    """Whom one finding holds for: all results of the order, those alike, or the one alone."""
    if criterion.looks_at == "order":
        return "order"
    return "result" if criterion.fields is None else "like"


def _plan(rules: Sequence[Rule], kind: str) -> Plan:
    numbered = [(n, rule) for n, rule in enumerate(rules) if kind in rule.criterion.kinds]

    def applied(group: str) -> tuple[Applied, ...]:
        return tuple(
            (number, rule.criterion.check, rule.parameters)
            for number, rule in numbered
            if _group(rule.criterion) == group
        )

    fields = {name for _, rule in numbered for name in rule.criterion.fields or ()}
    return Plan(
        of_order=applied("order"),
        of_result=applied("result"),
        of_like=applied("like"),
        like=attrgetter("kind", *sorted(fields)),
        lines=tuple(r.passed if kind in r.criterion.kinds else r.not_applicable for r in rules),
        told=tuple((n, rule) for n, rule in numbered if rule.criterion.explain_passed),
        ranks=tuple(RANK[rule.criterion.effect] for rule in rules),
        kept={},
    )
