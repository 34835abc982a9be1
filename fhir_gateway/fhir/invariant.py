"""Invariants of profiles (hl7.org/fhir/R4/conformance-rules.html#constraints)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_gateway.fhir.profile_context import Judge, Library


def invariant(constraint: Mapping[str, Any], type: str, known: Library) -> Judge | str | None:
    """What judges a value by an invariant; why it cannot, or None when it is judged elsewhere."""
    return None
