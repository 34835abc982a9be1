"""Reading members of a JSON object so that every fault is told at once, with its path."""

from __future__ import annotations

import re
from typing import Any

from fhir_gateway.errors import Issue

_TYPES: dict[Any, str] = {str: "a text", dict: "an object", list: "an array"}


class Faults:
    """Collects issues; `take` reads a member of an object and notes what is wrong with it."""

    def __init__(self) -> None:
        self.issues: list[Issue] = []

    def add(self, rule: str, expression: str, diagnostics: str) -> None:
        """Notes a fault."""
        self.issues.append(Issue("invalid", diagnostics, expression, rule))

    def take(
        self, holder: dict[str, Any], name: str, kind: type, at: str, *, required: bool = True
    ) -> Any:
        """The member when it is of its kind and not empty; else an empty value, and a fault."""
        value = holder.get(name)
        if isinstance(value, kind) and (value or kind is list):
            return value
        path = f"{at}.{name}" if at else name
        if name not in holder:
            if required:
                self.add("required", path, f"{path} is required")
        elif isinstance(value, kind):
            self.add("empty", path, f"{path} must not be empty")
        else:
            self.add("type", path, f"{path} must be {_TYPES[kind]}")
        return kind()

    def text(
        self,
        holder: dict[str, Any],
        name: str,
        at: str,
        pattern: re.Pattern[str] | None = None,
        *,
        required: bool = True,
    ) -> str:
        """The member as a text of this form; else "", and a fault."""
        value: str = holder.get(name, "")
        if type(value) is str and value and (pattern is None or pattern.fullmatch(value)):
            return value  # the usual case
        value = self.take(holder, name, str, at, required=required)
        if value and pattern is not None and not pattern.fullmatch(value):
            path = f"{at}.{name}" if at else name
            self.add("format", path, f"{path} has not the form that CDS Hooks asks for")
        return value
