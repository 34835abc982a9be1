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
from typing import Any

import msgspec

from fhir_gateway.errors import Invalid, Issue, Unprocessable
from fhir_gateway.recognition import rules_condition as conditions
from fhir_gateway.recognition.criteria import CRITERIA, Criterion
from fhir_gateway.recognition.model import Line
from fhir_gateway.recognition.rule_set import (
    RANK,
    SEVERITIES,
    Applied,
    Plan,
    Rule,
    RuleSet,
    choose,
    replace_rule,
    rule_set_of,
    severity_of,
    version_key,
)
from fhir_gateway.recognition.rules_parameters import (
    PARAMETER_URL,
    SEVERITY_URL,
    Given,
    fault,
    read_parameters,
)
from fhir_gateway.recognition.rules_scope import NATIONAL, Scope, read_scope
from fhir_gateway.recognition.rules_texts import Said, clause, said
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.edition import SYSTEM_ROOT

#: What a rule set is made of stands in rule_set.py, and is found here as well.
__all__ = [
    "CRITERION_SYSTEM", "NEVER_LESS", "PARAMETER_URL", "RANK", "SEVERITIES", "SEVERITY_URL",
    "STATUSES", "Applied", "Plan", "Rule", "RuleSet", "choose", "criterion_name", "is_rule_set",
    "load_rule_set", "replace_rule", "rule_set_of", "severity_of", "version_key",
]  # fmt: skip

CRITERION_SYSTEM = f"{CANONICAL}/CodeSystem/criterion"
#: What a rule set's status may be: FHIR's `unknown` says nothing that could be decided by.
STATUSES = ("draft", "active", "retired")

#: Criteria by which a result is this person's, is one at all, and hides no newer one: no rule set
#: may make less of them.
NEVER_LESS = frozenset({"identity-certain", "times-plausible", "report-final", "newest-first"})

_sorted = msgspec.json.Encoder(order="deterministic", decimal_format="string", enc_hook=str)


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


def _lists(plan_definition: Mapping[str, Any]) -> tuple[str, ...]:
    """What the rule set depends on, as far as it is a list of items."""
    artifacts = plan_definition.get("relatedArtifact") or ()
    named = (one.get("resource", "") for one in artifacts if one.get("type") == "depends-on")
    return tuple(dict.fromkeys(one for one in named if one.startswith(SYSTEM_ROOT)))


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
        text = f"{name} cannot be made less severe: it says whose result it is, or what is known"
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
