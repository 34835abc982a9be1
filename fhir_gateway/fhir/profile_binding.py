"""Bindings by strength (hl7.org/fhir/R4/terminologies.html#strength): required is an error,
extensible a warning, preferred and example say nothing.

What cannot be known, because the value set or the code system is not here, is a warning in both:
never an error, and never silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fhir_gateway.fhir.definitions import Element, definitions
from fhir_gateway.fhir.profile_context import Judge, Place, Run

#: The types that can be bound, and how their codes are read.
_CODES = frozenset({"code", "uri", "string", "id", "canonical", "url", "oid"})
_CODED = frozenset({"Coding", "CodeableConcept", "Quantity"})


def binding_judge(
    binding: Mapping[str, Any], type: str, element: Element | None = None
) -> Judge | None:
    """What judges a value of a type by a binding; None where it says nothing, or nothing more
    than R4's own, which is judged already."""
    strength, canonical = binding.get("strength"), binding.get("valueSet")
    if strength not in ("required", "extensible") or not isinstance(canonical, str):
        return None
    if type not in _CODES and not any(definitions().is_a(type, coded) for coded in _CODED):
        return None
    plain = canonical.partition("|")[0]
    if element is not None and plain == element.binding and plain in definitions().codes:
        return None
    return bound(canonical, strength == "required", type)


def bound(canonical: str, required: bool, type: str) -> Judge:
    """What judges a value of a type by a value set."""

    def judge(run: Run, value: Any, sibling: Any, place: Place) -> None:
        codings = codings_of(value, type)
        if codings is None:
            return
        if not codings:
            if required:
                run.add(place, "code-invalid", "required-binding", f"needs a code of {canonical}")
            return
        answers = [run.context.member(canonical, system, code) for system, code in codings]
        if True in answers:
            return
        if None in answers:
            says = f"cannot be judged by {canonical}: the value set or code system is not here"
            run.add(place, "not-supported", "binding-unknown", says, "warning")
        elif required:
            says = f"must have a code of {canonical}"
            run.add(place, "code-invalid", "required-binding", says)
        elif _covered(run, canonical, codings):
            says = f"should have a code of {canonical}, which has codes of this system"
            run.add(place, "code-invalid", "extensible-binding", says, "warning")

    return judge


def _covered(run: Run, canonical: str, codings: Sequence[tuple[str, str]]) -> bool:
    """Whether a code is of a system from which the value set takes its codes: another one may
    stand for what the set has no code for."""
    systems = run.context.systems(canonical)
    return systems is None or any(not system or system in systems for system, _ in codings)


def codings_of(value: Any, type: str) -> list[tuple[str, str]] | None:
    """(system, code) pairs of a value; None when there is nothing to judge."""
    if value is None:
        return None
    if type in _CODES:
        return [("", value)] if isinstance(value, str) else None
    if not isinstance(value, dict):
        return None
    found = value.get("coding", ()) if type == "CodeableConcept" else (value,)
    return [
        (str(one.get("system") or ""), str(one["code"]))
        for one in found
        if isinstance(one, dict) and one.get("code")
    ]
