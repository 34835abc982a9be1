"""Rule sets: a FHIR PlanDefinition whose actions name criteria, read into closed values.

An action's `code` names one criterion with its version; its parameters stand in extensions
(StructureDefinition/criterion-parameter), what it rests on in `documentation`. A rule set with a
criterion or a parameter that this gateway does not know is refused with all its faults, because a
rule that is silently left out would be a wider permission.
hl7.org/fhir/R4/plandefinition.html, docs/adr/0012-rule-sets-are-plan-definitions.md and 0025
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.errors import Invalid, Issue, Unprocessable
from fhir_gateway.recognition import rules_condition as conditions
from fhir_gateway.recognition.criteria import CRITERIA, Check, Criterion
from fhir_gateway.recognition.model import Effect, Line
from fhir_gateway.recognition.parameters import WindowRule
from fhir_gateway.recognition.rules_parameters import (
    PARAMETER_URL,
    SEVERITY_URL,
    Given,
    fault,
    read_parameters,
)
from fhir_gateway.recognition.rules_scope import NATIONAL, Scope, read_scope
from fhir_gateway.recognition.rules_texts import UNSAID, Said, clause, said
from fhir_gateway.recognition.situation import Window, period
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import Item
from fhir_gateway.terminology.edition import SYSTEM_ROOT

CRITERION_SYSTEM = f"{CANONICAL}/CodeSystem/criterion"
NO_WINDOW = Window(None, "")

#: What a rule set's status may be: FHIR's `unknown` says nothing that could be decided by.
STATUSES = ("draft", "active", "retired")

#: How far an effect lowers the outcome; 2 does not.
RANK: Mapping[Effect, int] = MappingProxyType(
    {"not-recognizable": 0, "view-only": 1, "no-suggestion": 2, "information": 2}
)

#: What a rule does when it is not met, in the words of a committee, from the strictest.
SEVERITIES: Mapping[str, Effect] = MappingProxyType(
    {"decides": "not-recognizable", "lowers": "view-only", "informs": "information"}
)

#: Criteria by which a result is this person's and is one at all: no rule set may make less of them.
NEVER_LESS = frozenset({"identity-certain", "times-plausible", "report-final"})

_sorted = msgspec.json.Encoder(order="deterministic", decimal_format="string", enc_hook=str)


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
    of_result: tuple[Applied, ...]
    lines: tuple[Line, ...]  # of a result that passes all of them
    told: tuple[tuple[int, Rule], ...]  # whose line has something to say when they pass
    ranks: tuple[int, ...]  # of all rules, by position


@dataclass(frozen=True, slots=True)
class RuleSet:
    """One version of the rules. `digest` is SHA-256 of the PlanDefinition's actions and head.

    `lists` are the lists of items that it speaks of: canonicals of CodeSystems, with an edition or
    without; none means the catalogue alone. `scope` says where it holds. One that was resolved
    from several (rules_resolve.py) has their canonicals in `layers`, the nation's first, and in
    `windows` those of the nearer levels.
    """

    url: str
    version: str
    status: str
    start: str  # effectivePeriod, "" when open
    end: str
    rules: tuple[Rule, ...]
    digest: str
    window_rule: WindowRule | None
    by_kind: Mapping[str, Plan]
    lists: tuple[str, ...] = ()
    scope: Scope = NATIONAL
    experimental: bool = False
    layers: tuple[str, ...] = ()
    windows: Mapping[str, Window] = field(default_factory=dict)
    wider: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

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


def is_rule_set(plan_definition: Mapping[str, Any]) -> bool:
    """Whether a PlanDefinition names a criterion: others are none of recognition's business."""
    return any(
        coding.get("system") == CRITERION_SYSTEM
        for action in plan_definition.get("action") or ()
        for concept in action.get("code") or ()
        for coding in concept.get("coding") or ()
    )


def load_rule_set(plan_definition: Mapping[str, Any]) -> RuleSet:
    """The rule set in a PlanDefinition. Raises Unprocessable with every fault and its element."""
    issues = list(_head_faults(plan_definition))
    scope = read_scope(plan_definition, issues)
    actions = plan_definition.get("action") or []
    if not actions:
        issues.append(fault("PlanDefinition.action", "A rule set needs rules", "required"))
    rules = [rule for n, action in enumerate(actions) if (rule := _rule(n, action, issues))]
    issues += _repeated(rules)
    if issues:
        raise Unprocessable(issues=tuple(issues))
    days = plan_definition.get("effectivePeriod") or {}
    canonical = f"{plan_definition['url']}|{plan_definition['version']}"
    return rule_set_of(
        [_placed(rule, canonical) for rule in rules],
        url=plan_definition["url"],
        version=plan_definition["version"],
        status=plan_definition["status"],
        start=days.get("start", ""),
        end=days.get("end", ""),
        digest=_digest(plan_definition, scope),
        lists=_lists(plan_definition),
        scope=scope,
        experimental=bool(plan_definition.get("experimental")),
    )


def rule_set_of(rules: Sequence[Rule], **head: Any) -> RuleSet:
    """A rule set of these rules, laid out for the loops of decide."""
    return RuleSet(
        rules=tuple(rules),
        window_rule=next(
            (r.parameters for r in rules if isinstance(r.parameters, WindowRule)), None
        ),
        by_kind=MappingProxyType({kind: _plan(rules, kind) for kind in ("lab", "imaging")}),
        **head,
    )


def _head_faults(plan_definition: Mapping[str, Any]) -> Iterable[Issue]:
    for name in ("url", "version", "status"):
        if not plan_definition.get(name):
            yield fault(f"PlanDefinition.{name}", "A rule set needs one", "required")
    status = plan_definition.get("status")
    if status and status not in STATUSES:
        text = f"A rule set is {', '.join(STATUSES)}, never {status}"
        yield fault("PlanDefinition.status", text, "rule-set-status")
    if "|" in (plan_definition.get("version") or ""):
        yield fault("PlanDefinition.version", "A version has no |", "rule-set-version")


def _placed(rule: Rule, canonical: str) -> Rule:
    return replace_rule(rule, layer=canonical)


def replace_rule(rule: Rule, **changes: Any) -> Rule:
    """The rule with other members; its lines follow an effect that is another."""
    members = {name: getattr(rule, name) for name in Rule.__slots__} | changes
    criterion: Criterion = members["criterion"]
    passed = msgspec.structs.replace(rule.passed, effect=criterion.effect)
    idle = msgspec.structs.replace(rule.not_applicable, effect=criterion.effect)
    return Rule(**(members | {"passed": passed, "not_applicable": idle}))


def _lists(plan_definition: Mapping[str, Any]) -> tuple[str, ...]:
    """What the rule set depends on, as far as it is a list of items."""
    artifacts = plan_definition.get("relatedArtifact") or ()
    named = (one.get("resource", "") for one in artifacts if one.get("type") == "depends-on")
    return tuple(dict.fromkeys(one for one in named if one.startswith(SYSTEM_ROOT)))


def _plan(rules: Sequence[Rule], kind: str) -> Plan:
    numbered = [(n, rule) for n, rule in enumerate(rules) if kind in rule.criterion.kinds]

    def applied(looks_at: str) -> tuple[Applied, ...]:
        return tuple(
            (number, rule.criterion.check, rule.parameters)
            for number, rule in numbered
            if rule.criterion.looks_at == looks_at
        )

    return Plan(
        of_order=applied("order"),
        of_result=applied("result"),
        lines=tuple(r.passed if kind in r.criterion.kinds else r.not_applicable for r in rules),
        told=tuple((n, rule) for n, rule in numbered if rule.criterion.explain_passed),
        ranks=tuple(RANK[rule.criterion.effect] for rule in rules),
    )


def _rule(number: int, action: Mapping[str, Any], issues: list[Issue]) -> Rule | None:
    path = f"PlanDefinition.action[{number}]"
    name = criterion_name(action)
    criterion = conditions.CONDITION if name == conditions.NAME else CRITERIA.get(name)
    if criterion is None:
        text = f"{name or 'Nothing'} is not a criterion of this gateway"
        issues.append(fault(f"{path}.code", text, "unknown-criterion"))
        return None
    cited = clause(action)
    if not cited:
        text = "A rule cites what it rests on, in documentation.label"
        issues.append(fault(f"{path}.documentation", text, "clause-missing"))
    criterion = _as_severe(criterion, name, action, path, issues)
    title = said(action, "title")
    if name == conditions.NAME:
        name, given = _condition(action, title, path, issues)
    else:
        given = read_parameters(criterion.parameters, action, path, issues)
        _refuse_condition(action, path, issues)
    if given is None:
        return None
    values: dict[str, str | int] = {}
    if "#" in name:
        values = {"title": title.zh, "title_en": title.en or title.zh}
    passed = Line(name, "pass", "", criterion.effect, "", cited, values)
    idle = msgspec.structs.replace(passed, verdict="not-applicable")
    explanation = said(action, "description")
    return Rule(
        name, criterion, given.parameters, cited, passed, idle, title, explanation, given.stated
    )


def criterion_name(action: Mapping[str, Any]) -> str:
    """`code@version` of the coding of the criterion system; "" when the action has none."""
    for concept in action.get("code", ()):
        for coding in concept.get("coding", ()):
            if coding.get("system") == CRITERION_SYSTEM:
                return f"{coding.get('code', '')}@{coding.get('version', '')}"
    return ""


def _as_severe(
    criterion: Criterion, name: str, action: Mapping[str, Any], path: str, issues: list[Issue]
) -> Criterion:
    """The criterion with the effect that the action's severity states, if it states one."""
    stated = [
        (n, one) for n, one in enumerate(action.get("extension") or ())
        if one.get("url") == SEVERITY_URL
    ]  # fmt: skip
    if not stated:
        return criterion
    number, extension = stated[0]
    where, severity = f"{path}.extension[{number}]", extension.get("valueCode", "")
    effect = SEVERITIES.get(severity)
    if effect is None or len(stated) > 1:
        text = f"A rule has one severity of {', '.join(SEVERITIES)}"
        issues.append(fault(where, text, "rule-severity"))
        return criterion
    if severity == severity_of(criterion.effect):
        return criterion  # no-suggestion informs, and withholds the offer all the same
    if name.partition("@")[0] in NEVER_LESS and RANK[effect] > RANK[criterion.effect]:
        text = f"{name} cannot be made less severe: it says whose result it is, or that it is one"
        issues.append(fault(where, text, "rule-severity"))
        return criterion
    return criterion._replace(effect=effect)


def _condition(
    action: Mapping[str, Any], title: Said, path: str, issues: list[Issue]
) -> tuple[str, Given | None]:
    """The name and the compiled condition of an action; faults are added to `issues`."""
    id = action.get("id") or ""
    if not id:
        text = "An action with a condition has an id: its lines are told by it"
        issues.append(fault(f"{path}.id", text, "condition"))
    given = action.get("condition") or []
    one: Mapping[str, Any] = given[0] if len(given) == 1 else {}
    expression = one.get("expression") or {}
    text = expression.get("expression") or ""
    if one.get("kind") != "applicability" or expression.get("language") != conditions.LANGUAGE:
        wanted = f"one condition of kind applicability, its language {conditions.LANGUAGE}"
        issues.append(fault(f"{path}.condition", f"{conditions.NAME} has {wanted}", "condition"))
        return "", None
    for number, extension in enumerate(action.get("extension") or ()):
        if extension.get("url") != SEVERITY_URL:
            known = extension.get("url") == PARAMETER_URL
            words = "A condition takes no parameters: they stand in its expression"
            rule = "unknown-parameter" if known else "unknown-extension"
            issues.append(fault(f"{path}.extension[{number}]", words, rule))
    try:
        test = conditions.compile_condition(text)
    except Invalid as error:
        where = f"{path}.condition[0].expression.expression"
        issues.append(fault(where, error.issues[0].diagnostics, "condition"))
        return "", None
    parameters = conditions.Condition(text, test, title.zh, title.en or title.zh)
    return f"{conditions.NAME}#{id}", Given(parameters, frozenset())


def _refuse_condition(action: Mapping[str, Any], path: str, issues: list[Issue]) -> None:
    if action.get("condition"):
        text = f"A condition stands in an action of its own, whose code is {conditions.NAME}"
        issues.append(fault(f"{path}.condition", text, "condition"))


def _repeated(rules: Sequence[Rule]) -> list[Issue]:
    """A criterion may stand once: two windows would leave it open which one counts."""
    names = [rule.name for rule in rules]
    return [
        fault("PlanDefinition.action", f"{name} stands more than once", "criterion-repeated")
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]


def _digest(plan_definition: Mapping[str, Any], scope: Scope) -> str:
    """What binds a recorded decision to these very rules; narrative and status are left out."""
    names = ("url", "version", "effectivePeriod", "action")
    head = {name: plan_definition[name] for name in names if name in plan_definition}
    if lists := _lists(plan_definition):
        head["lists"] = lists
    if scope != NATIONAL:
        head["scope"] = list(scope)
    return hashlib.sha256(_sorted.encode(head)).hexdigest()
