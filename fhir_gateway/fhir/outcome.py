"""OperationOutcome: how every refusal looks (hl7.org/fhir/R4/operationoutcome.html)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fhir_gateway.errors import Issue
from fhir_gateway.fhir.wire import render


def operation_outcome(issues: Sequence[Issue]) -> bytes:
    """An OperationOutcome of these issues as JSON. An empty list says that all is well."""
    return render(outcome_resource(issues))


def outcome_resource(issues: Sequence[Issue]) -> dict[str, Any]:
    """The same as a dict, for answers that carry an outcome inside."""
    lines = [_line(issue) for issue in issues] or [
        {"severity": "information", "code": "informational", "diagnostics": "All OK"}
    ]
    return {"resourceType": "OperationOutcome", "issue": lines}


def _line(issue: Issue) -> dict[str, Any]:
    line: dict[str, Any] = {"severity": issue.severity, "code": issue.code}
    if issue.rule:
        line["details"] = {"text": issue.rule}
    if issue.diagnostics:
        line["diagnostics"] = issue.diagnostics
    if issue.expression:
        line["expression"] = [issue.expression]
    return line
