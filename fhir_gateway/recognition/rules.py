"""Rule sets: a FHIR PlanDefinition whose actions name criteria, read into closed values.

An action's `code` names one criterion with its version; its parameters stand in extensions
(StructureDefinition/criterion-parameter), what it rests on in `documentation`. A rule set with a
criterion or a parameter that this gateway does not know is refused with all its faults, because a
rule that is silently left out would be a wider permission.
hl7.org/fhir/R4/plandefinition.html, docs/adr/0012-rule-sets-are-plan-definitions.md
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from fhir_gateway.errors import Issue, Unprocessable
from fhir_gateway.recognition.criteria import CRITERIA, Check, Criterion
from fhir_gateway.recognition.model import Effect, Line
from fhir_gateway.recognition.parameters import WindowRule
from fhir_gateway.recognition.situation import Window, period
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import Item
from fhir_gateway.terminology.edition import SYSTEM_ROOT

CRITERION_SYSTEM = f"{CANONICAL}/CodeSystem/criterion"
PARAMETER_URL = f"{CANONICAL}/StructureDefinition/criterion-parameter"
NO_WINDOW = Window(None, "")

#: How far an effect lowers the outcome; 2 does not.
RANK: Mapping[Effect, int] = MappingProxyType(
    {"not-recognizable": 0, "view-only": 1, "no-suggestion": 2, "information": 2}
)

_sorted = msgspec.json.Encoder(order="deterministic", decimal_format="string", enc_hook=str)


@dataclass(frozen=True, slots=True)
class Rule:
    """One action: a criterion, its parameters and the clause that it rests on.

    `passed` and `not_applicable` are its lines where it has nothing more to say.
    """

    name: str
    criterion: Criterion
    parameters: msgspec.Struct
    clause: str
    passed: Line
    not_applicable: Line


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
    without; none means the catalogue alone.
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

    @property
    def canonical(self) -> str:
        """`url|version`."""
        return f"{self.url}|{self.version}"

    def window(self, entry: Item | None) -> Window:
        """The window of an item: the rule set's own, else the catalogue's; days None without."""
        if self.window_rule is None or entry is None:
            return NO_WINDOW
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
    return max(valid, key=lambda r: (r.start, _version_key(r.version), r.url), default=None)


def _version_key(version: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in version.split("."))


def load_rule_set(plan_definition: Mapping[str, Any]) -> RuleSet:
    """The rule set in a PlanDefinition. Raises Unprocessable with every fault and its element."""
    issues: list[Issue] = []
    for name in ("url", "version", "status"):
        if not plan_definition.get(name):
            issues.append(_fault(f"PlanDefinition.{name}", "A rule set needs one", "required"))
    actions = plan_definition.get("action") or []
    if not actions:
        issues.append(_fault("PlanDefinition.action", "A rule set needs rules", "required"))
    rules = [rule for n, action in enumerate(actions) if (rule := _rule(n, action, issues))]
    issues += _repeated(rules)
    if issues:
        raise Unprocessable(issues=tuple(issues))
    period = plan_definition.get("effectivePeriod") or {}
    return RuleSet(
        url=plan_definition["url"],
        version=plan_definition["version"],
        status=plan_definition["status"],
        start=period.get("start", ""),
        end=period.get("end", ""),
        rules=tuple(rules),
        digest=_digest(plan_definition),
        window_rule=next(
            (r.parameters for r in rules if isinstance(r.parameters, WindowRule)), None
        ),
        by_kind=MappingProxyType({kind: _plan(rules, kind) for kind in ("lab", "imaging")}),
        lists=_lists(plan_definition),
    )


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
    name = _criterion_name(action)
    criterion = CRITERIA.get(name)
    if criterion is None:
        text = f"{name or 'Nothing'} is not a criterion of this gateway"
        issues.append(_fault(f"{path}.code", text, "unknown-criterion"))
        return None
    clause = _clause(action)
    if not clause:
        text = "A rule cites what it rests on, in documentation.label"
        issues.append(_fault(f"{path}.documentation", text, "clause-missing"))
    parameters = _parameters(criterion.parameters, action, path, issues)
    passed = Line(name, "pass", "", criterion.effect, "", clause)
    return Rule(
        name,
        criterion,
        parameters,
        clause,
        passed,
        msgspec.structs.replace(passed, verdict="not-applicable"),
    )


def _criterion_name(action: Mapping[str, Any]) -> str:
    """`code@version` of the coding of the criterion system; "" when the action has none."""
    for concept in action.get("code", ()):
        for coding in concept.get("coding", ()):
            if coding.get("system") == CRITERION_SYSTEM:
                return f"{coding.get('code', '')}@{coding.get('version', '')}"
    return ""


def _clause(action: Mapping[str, Any]) -> str:
    labels = (document.get("label", "") for document in action.get("documentation", ()))
    return "; ".join(label for label in labels if label)


def _repeated(rules: Sequence[Rule]) -> list[Issue]:
    """A criterion may stand once: two windows would leave it open which one counts."""
    names = [rule.name for rule in rules]
    return [
        _fault("PlanDefinition.action", f"{name} stands more than once", "criterion-repeated")
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]


def _parameters(
    model: type[msgspec.Struct], action: Mapping[str, Any], path: str, issues: list[Issue]
) -> msgspec.Struct:
    """The parameter value of an action; faults are added to `issues`."""
    types = get_type_hints(model, include_extras=True)
    given: dict[str, list[tuple[str, Any]]] = {}
    for number, extension in enumerate(action.get("extension", ())):
        where = f"{path}.extension[{number}]"
        if extension.get("url") != PARAMETER_URL:
            issues.append(_fault(where, "This extension is not known here", "unknown-extension"))
            continue
        name, key, value = _parts(extension)
        if name in types:
            given.setdefault(name, []).append((key, value))
        else:
            text = f"{name or 'Nothing'} is not a parameter of this criterion"
            issues.append(_fault(where, text, "unknown-parameter"))
    values: dict[str, Any] = {}
    for name, pairs in given.items():
        try:
            values[name] = msgspec.convert(_shape(types[name], pairs), types[name])
        except (msgspec.ValidationError, ValueError) as error:
            text = f"Parameter {name} has a wrong value: {error}"
            issues.append(_fault(f"{path}.extension", text, "parameter-type"))
    return model(**values)


def _parts(extension: Mapping[str, Any]) -> tuple[str, str, Any]:
    """Name, key and value of one criterion-parameter extension."""
    name = key = ""
    value: Any = None
    for part in extension.get("extension", ()):
        content = next((part[k] for k in part if k.startswith("value")), None)
        if part.get("url") == "name":
            name = str(content)
        elif part.get("url") == "key":
            key = str(content)
        elif part.get("url") == "value":
            value = content
    return name, key, value


def _shape(type_: Any, pairs: list[tuple[str, Any]]) -> Any:
    """Repeated (key, value) pairs as the one value that a parameter's type wants."""
    origin = get_origin(type_)
    if origin is dict:
        if get_origin(get_args(type_)[1]) is frozenset:
            grouped: dict[str, list[Any]] = {}
            for key, value in pairs:
                grouped.setdefault(key, []).append(value)
            return grouped
        if len({key for key, _ in pairs}) < len(pairs):
            raise ValueError("a key stands more than once")
        return dict(pairs)
    values = [value for _, value in pairs]
    if origin in (frozenset, tuple):
        return values
    if len(values) > 1:
        raise ValueError("it stands more than once")
    return values[0]


def _digest(plan_definition: Mapping[str, Any]) -> str:
    """What binds a recorded decision to these very rules; narrative and status are left out."""
    names = ("url", "version", "effectivePeriod", "action")
    head = {name: plan_definition[name] for name in names if name in plan_definition}
    if lists := _lists(plan_definition):
        head["lists"] = lists
    return hashlib.sha256(_sorted.encode(head)).hexdigest()


def _fault(expression: str, text: str, rule: str) -> Issue:
    return Issue("invalid", text, expression, rule)
