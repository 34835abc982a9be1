"""Invariants: an expression that must hold for every value of an element
(hl7.org/fhir/R4/conformance-rules.html#constraints).

What an expression gives nothing for is not broken by it: that cannot be known. Where it cannot be
evaluated at all a warning says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fhir_gateway.errors import Invalid, Severity
from fhir_gateway.fhir.fhirpath import Env, Test, compile_test
from fhir_gateway.fhir.fhirpath_foreign import compile_foreign
from fhir_gateway.fhir.fhirpath_values import Trouble
from fhir_gateway.fhir.invariants import Stated
from fhir_gateway.fhir.invariants_native import NATIVE
from fhir_gateway.fhir.profile_context import Judge, Library, Place, Run

#: Judged by the walker (fhir.walk) and the primitives: whatever gets here keeps them.
BY_WALKER = frozenset({"ele-1", "ext-1", "dom-2", "per-1", "ref-1", "txt-1", "txt-2"})


#: Advice, not a rule that data keeps: told as information.
GOOD_PRACTICE = frozenset({"dom-6"})


class NotJudged(NamedTuple):
    """Why an invariant cannot be judged, and the rule that says so."""

    says: str
    rule: str


def invariant(constraint: Mapping[str, Any], type: str, known: Library) -> Judge | NotJudged | None:
    """What judges a value by a constraint of a profile; why it cannot, or None for one of R4's own
    that is judged elsewhere."""
    key, expression = constraint.get("key"), constraint.get("expression")
    if not isinstance(key, str):
        return NotJudged("has no key", "profile-definition")
    if key in BY_WALKER or key in NATIVE:
        return None
    if not isinstance(expression, str):
        return NotJudged(f"{key} has no FHIRPath expression to judge by", "fhirpath-missing")
    severity = constraint.get("severity")
    human = constraint.get("human")
    stated = Stated(
        key,
        "warning" if severity == "warning" else "error",
        human if isinstance(human, str) else "",
        expression,
    )
    try:
        return judge_of(stated, type, known)
    except Invalid as error:
        why = error.issues[0]
        return NotJudged(f"{key} cannot be judged: {why.diagnostics}", why.rule or "fhirpath")


def judge_of(stated: Stated, type: str, known: Library) -> Judge:
    """What judges a value of a type by an invariant. Raises Invalid for an expression that is not
    understood."""
    native = NATIVE.get(stated.key)
    severity: Severity = "warning" if stated.severity == "warning" else "error"
    if stated.key in GOOD_PRACTICE:
        severity = "information"
    broken = f"breaks {stated.key}: {' '.join(stated.human.split())[:300]}"
    key = stated.key
    if native is not None:
        return _native(native, key, severity, broken)
    test = compiled(stated.expression, type)

    def judge(run: Run, value: Any, sibling: Any, place: Place) -> None:
        item = (place.type, value, sibling)
        try:
            holds = test(Env(run, item, known), (item,))
        except Trouble as trouble:
            says = f"could not be judged by {key}: {trouble}"
            run.add(place, "not-supported", "invariant-unknown", says, "warning")
            return
        if holds is False:
            run.add(place, "invariant", key, broken, severity)

    return judge


def compiled(expression: str, type: str) -> Test:
    """The test of an expression: ours, or where a function is not ours the library's."""
    try:
        return compile_test(expression)
    except Invalid as error:
        if error.issues[0].rule != "fhirpath-function":
            raise
        return compile_foreign(expression, type)


def _native(holds: Callable[[Any], bool], key: str, severity: Severity, says: str) -> Judge:
    told = severity == "information"

    def judge(run: Run, value: Any, sibling: Any, place: Place) -> None:
        if told and not run.hints:
            return
        if not holds(value):
            run.add(place, "invariant", key, says, severity)

    return judge
