"""Reading the Parameters of our operations (hl7.org/fhir/R4/parameters.html), all faults at once.

A parameter is described by a row: name, the value elements it may carry, how often it may stand.
What is not in the table is refused: a misspelt parameter must never become a weaker question.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fhir_gateway.errors import Invalid, Issue

ONE, MANY = 1, 1_000


class Taken(NamedTuple):
    """One parameter: where it stands, which value element it carries, and the value."""

    expression: str
    element: str
    value: Any


class Row(NamedTuple):
    """What a parameter may look like. `elements` such as valueReference, or resource."""

    elements: tuple[str, ...]
    most: int = ONE


Table = Mapping[str, Row]


def take(parameters: Mapping[str, Any], table: Table) -> dict[str, list[Taken]]:
    """The parameters by name, each name of the table present. Raises Invalid with every fault."""
    found: dict[str, list[Taken]] = {name: [] for name in table}
    issues: list[Issue] = []
    for number, parameter in enumerate(parameters.get("parameter", ())):
        name, where = parameter.get("name", ""), f"Parameters.parameter[{number}]"
        row = table.get(name)
        if row is None:
            text = f"Known parameters are {', '.join(table)}"
            issues.append(Issue("not-supported", text, f"{where}.name", "unknown-parameter"))
            continue
        element = next((element for element in row.elements if element in parameter), "")
        if not element:
            text = f"{name} carries {' or '.join(row.elements)}"
            issues.append(Issue("invalid", text, where, "parameter-type"))
            continue
        found[name].append(Taken(f"{where}.{element}", element, parameter[element]))
        if len(found[name]) > row.most:
            text = f"{name} may stand {row.most} times"
            issues.append(Issue("invalid", text, where, "parameter-repeated"))
    if issues:
        raise Invalid(issues=tuple(issues))
    return found


def single(found: Mapping[str, list[Taken]], name: str) -> Taken | None:
    """The one value of a parameter that may stand once."""
    return found[name][0] if found[name] else None


def local_id(taken: Taken, type: str) -> str:
    """The logical id in a reference to a resource of ours. Raises Invalid for another."""
    text = taken.value.get("reference", "")
    found, _, id = text.partition("/")
    if found != type or not id or "/" in id:
        raise Invalid(
            f"This must be a reference {type}/id", expression=taken.expression, rule="reference"
        )
    return str(id)
