"""The parameters of a rule: extensions of its action, read into the criterion's own value.

StructureDefinition/criterion-parameter: a name, a value, and a key where the parameter is a table.
What a criterion does not take, or not so, is a fault of the rule set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from fhir_gateway.errors import Issue
from fhir_gateway.settings import CANONICAL

PARAMETER_URL = f"{CANONICAL}/StructureDefinition/criterion-parameter"
SEVERITY_URL = f"{CANONICAL}/StructureDefinition/rule-severity"


class Given(NamedTuple):
    """The parameters of a rule, and the names of those that it states: the others are defaults."""

    parameters: msgspec.Struct
    stated: frozenset[str]


def fault(expression: str, text: str, rule: str) -> Issue:
    """A fault of a rule set."""
    return Issue("invalid", text, expression, rule)


def read_parameters(
    model: type[msgspec.Struct], action: Mapping[str, Any], path: str, issues: list[Issue]
) -> Given:
    """The parameters of an action; faults are added to `issues`."""
    types = get_type_hints(model, include_extras=True)
    given: dict[str, list[tuple[str, Any]]] = {}
    for number, extension in enumerate(action.get("extension", ())):
        where = f"{path}.extension[{number}]"
        if extension.get("url") == SEVERITY_URL:
            continue
        if extension.get("url") != PARAMETER_URL:
            issues.append(fault(where, "This extension is not known here", "unknown-extension"))
            continue
        name, key, value = parts_of(extension)
        if name in types:
            given.setdefault(name, []).append((key, value))
        else:
            text = f"{name or 'Nothing'} is not a parameter of this criterion"
            issues.append(fault(where, text, "unknown-parameter"))
    values: dict[str, Any] = {}
    for name, pairs in given.items():
        try:
            values[name] = msgspec.convert(_shape(types[name], pairs), types[name])
        except (msgspec.ValidationError, ValueError) as error:
            text = f"Parameter {name} has a wrong value: {error}"
            issues.append(fault(f"{path}.extension", text, "parameter-type"))
    return Given(model(**values), frozenset(given))


def parts_of(extension: Mapping[str, Any]) -> tuple[str, str, Any]:
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
