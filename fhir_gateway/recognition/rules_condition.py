"""`condition@1`: a FHIRPath expression of a rule set, for what no criterion covers.

The expression stands in PlanDefinition.action.condition (hl7.org/fhir/R4/plandefinition.html) and
is compiled when the rule set is loaded, so that what is not understood is a fault of publication,
with its character. It must hold for a result to be recognised: false is *fail*, nothing and what
cannot be evaluated is *unknown*. A decision is never an error for it.

What it sees is made of the facts that `decide` has, and of nothing else: the earlier result
(%context, %resource: an Observation, or for imaging a DiagnosticReport), contained in the order
(%rootResource: a ServiceRequest whose reasonCode is the patient's situation and whose authoredOn is
the moment of the question). now() and today() are refused: a decision would not replay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from fhir_gateway.errors import GatewayError, Invalid
from fhir_gateway.fhir.fhirpath import Env, Test, compile_test
from fhir_gateway.fhir.fhirpath_syntax import Node, parse_fhirpath
from fhir_gateway.fhir.fhirpath_values import Trouble
from fhir_gateway.fhir.profile_context import Context, Judgement, Run
from fhir_gateway.fhir.wire import instant
from fhir_gateway.recognition.criteria import PASSED, Criterion, Finding
from fhir_gateway.recognition.model import CRITICAL, Candidate
from fhir_gateway.recognition.situation import Situation
from fhir_gateway.recognition.values import Values
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import IMAGING_SYSTEM, LAB_SYSTEM

NAME = "condition@1"
LANGUAGE = "text/fhirpath"
MAX_EXPRESSION = 1_000
CONTEXT_SYSTEM = f"{CANONICAL}/CodeSystem/recognition-context"

#: What would make a decision depend on more than its own facts, or on the hour it is replayed.
REFUSED = frozenset(
    {"now", "today", "timeOfDay", "resolve", "memberOf", "conformsTo", "htmlChecks", "trace"}
)

_FAIL: Finding = ("fail", "condition-not-met", None)
_NOTHING: Finding = ("unknown", "condition-unknown", None)
_TROUBLE: Finding = ("unknown", "condition-trouble", None)


class Condition(msgspec.Struct, frozen=True):
    """An expression with its compiled form, and the rule's titles for its line."""

    expression: str
    test: Test
    zh: str = ""
    en: str = ""


class _NoLibrary:
    """No definition can be asked for: functions that would are refused when it is compiled."""

    def find(self, canonical: str) -> None:
        return None

    def profile(self, canonical: str) -> Judgement | None:
        return None


_LIBRARY = _NoLibrary()
_CONTEXT = Context()


def compile_condition(expression: str) -> Test:
    """The test of an expression. Raises Invalid, which names the character where there is one."""
    if len(expression) > MAX_EXPRESSION:
        raise Invalid(f"A condition has at most {MAX_EXPRESSION} characters", rule="condition")
    refused = sorted(REFUSED.intersection(_called(parse_fhirpath(expression))))
    if refused:
        raise Invalid(
            f"{refused[0]}() at character {expression.find(refused[0]) + 1} cannot stand in a "
            "condition: it sees the result and the order alone, the moment of the question is "
            "%rootResource.authoredOn",
            rule="condition",
        )
    return compile_test(expression)


def _called(node: Node) -> Iterator[str]:
    """The names of all functions that a tree calls."""
    waiting: list[Any] = [node]
    while waiting:
        one = waiting.pop()
        if one and one[0] == "call":
            yield one[1]
        waiting += [part for part in one if isinstance(part, tuple)]


def is_constant(expression: str) -> bool:
    """Whether it looks at nothing, so that it always says the same."""
    names = {"name", "this", "variable", "call"}
    waiting: list[Any] = [parse_fhirpath(expression)]
    while waiting:
        one = waiting.pop()
        if one and one[0] in names:
            return False
        waiting += [part for part in one if isinstance(part, tuple)]
    return True


def holds(s: Situation, c: Candidate, p: Condition) -> Finding:
    """The expression holds for the result and the order."""
    order = order_of(s)
    result = result_of(s, c)
    run = Run(order, _CONTEXT)
    run.resource = result
    item = (str(result["resourceType"]), result, None)
    try:
        met = p.test(Env(run, item, _LIBRARY), (item,))
    except (Trouble, GatewayError, ArithmeticError, ValueError, TypeError):
        return _TROUBLE  # whatever an expression does to itself, the question is answered
    if met is None:
        return _NOTHING
    return PASSED if met else _FAIL


def order_of(s: Situation) -> dict[str, Any]:
    """The order line as a ServiceRequest: what was asked, when, and the patient's situation."""
    query, line = s.query, s.ordered
    system = IMAGING_SYSTEM if s.entry is not None and s.entry.kind == "imaging" else LAB_SYSTEM
    codings = [{"system": CONTEXT_SYSTEM, "code": code} for code in sorted(query.context)]
    order: dict[str, Any] = {
        "resourceType": "ServiceRequest",
        "status": "draft",
        "intent": "order",
        "code": _concept(system, line.item or "", line.display),
        "subject": {"reference": f"Patient/{query.patient}"} if query.patient else None,
        "authoredOn": instant(query.as_of_us),
        "requester": _organization(query.receiver),
        "reasonCode": [{"coding": [one]} for one in codings],
        "bodySite": [{"text": line.laterality}] if line.laterality else None,
    }
    return {name: value for name, value in order.items() if value}


def result_of(s: Situation, c: Candidate) -> dict[str, Any]:
    """The earlier result as an Observation, or as a DiagnosticReport for imaging."""
    lab = c.kind == "lab"
    result: dict[str, Any] = {
        "resourceType": "Observation" if lab else "DiagnosticReport",
        "status": c.status,
        "code": _concept(LAB_SYSTEM if lab else IMAGING_SYSTEM, c.item, ""),
        "effectiveDateTime": instant(c.time) if c.time and c.time == c.time_high else None,
        "issued": instant(c.issued) if c.issued else None,
        "performer": [one] if (one := _organization(c.issuer)) else None,
    }
    if lab:
        result["specimen"] = {"display": c.specimen} if c.specimen else None
        result["method"] = {"text": c.method} if c.method else None
        result |= _value(c)
        if c.flags & CRITICAL:
            result["interpretation"] = [{"coding": [{"code": "AA"}], "text": "critical"}]
    return {name: value for name, value in result.items() if value}


def _value(c: Candidate) -> Mapping[str, Any]:
    number = _number(c.value)
    if number is None:
        return {"valueString": c.value} if c.value else {}
    unit = {"unit": c.unit, "system": "http://unitsofmeasure.org", "code": c.unit} if c.unit else {}
    return {"valueQuantity": {"value": number, **unit}}


def _number(text: str) -> int | Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _concept(system: str, code: str, text: str) -> dict[str, Any]:
    concept: dict[str, Any] = {"coding": [{"system": system, "code": code}]} if code else {}
    return {**concept, "text": text} if text else concept


def _organization(id: str) -> dict[str, str]:
    return {"reference": f"Organization/{id}"} if id else {}


def _values(s: Situation, c: Candidate, p: Condition) -> Values:
    return {"title": p.zh, "title_en": p.en or p.zh}


#: The row of the table of criteria; its parameters come from the action's own condition.
CONDITION = Criterion(holds, Condition, "view-only", explain=_values)
