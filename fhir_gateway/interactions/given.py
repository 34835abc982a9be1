"""Reading the parameters of an operation, all faults at once (hl7.org/fhir/R4/operations.html).

They come as a Parameters resource or, where all are primitive, as a query. What is not in the
operation's definition is refused: a misspelt parameter must never become a weaker question.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fhir_gateway.errors import Invalid, Issue
from fhir_gateway.fhir.primitives import PRIMITIVES, checker
from fhir_gateway.interactions.operation_definitions import MANY, Definition, Parameter, Taken

#: A parameter that may repeat has a limit all the same.
_MOST = 1_000

_INTEGER = re.compile(r"-?[0-9]{1,10}")

Pair = tuple[str, str]


class Given(NamedTuple):
    """The parameters by name, each name of the definition present, and the search parameters."""

    parameters: dict[str, list[Taken]]
    pairs: tuple[Pair, ...] = ()


class _Raw(NamedTuple):
    """A parameter before it is judged: its name, where the name and the value stand."""

    name: str
    named: str
    where: str
    members: Mapping[str, Any] | str  # of Parameters.parameter, or the text in a query


def take(parameters: Mapping[str, Any], definition: Definition) -> Given:
    """The parameters of a Parameters resource. Raises Invalid with every fault."""
    raw = []
    for number, member in enumerate(parameters.get("parameter", ())):
        where = f"Parameters.parameter[{number}]"
        raw.append(_Raw(member.get("name", ""), f"{where}.name", where, member))
    return _judge(raw, definition, "Parameters.parameter")


def take_query(pairs: Sequence[Pair], definition: Definition) -> Given:
    """The parameters of a query. Raises Invalid with every fault."""
    return _judge([_Raw(name, name, name, text) for name, text in pairs], definition, None)


def _judge(raw: list[_Raw], definition: Definition, whole: str | None) -> Given:
    rows = {row.name: row for row in definition.takes}
    given = Given({name: [] for name in rows})
    pairs: list[Pair] = []
    issues: list[Issue] = []
    for one in raw:
        row = rows.get(one.name)
        if row is None:
            pair = _pair(one) if definition.search else None
            if pair is None:
                issues.append(_unknown(one, rows))
            else:
                pairs.append(pair)
            continue
        taken = _taken(one, row)
        if isinstance(taken, Issue):
            issues.append(taken)
            continue
        found = given.parameters[row.name]
        found.append(taken)
        most = _MOST if row.high == MANY else row.high
        if len(found) == most + 1:  # said once, however many there are
            text = f"{row.name} may stand {most} times"
            issues.append(Issue("invalid", text, one.where, "parameter-repeated"))
    issues += _missing(given, rows.values(), whole)
    if issues:
        raise Invalid(issues=tuple(issues))
    return given._replace(pairs=tuple(pairs))


def _unknown(one: _Raw, rows: Mapping[str, Parameter]) -> Issue:
    known = f"Known parameters are {', '.join(rows)}" if rows else "It takes no parameters"
    shown = one.named if one.named.isprintable() and len(one.named) <= 64 else None
    return Issue("not-supported", known, shown, "unknown-parameter")


def _missing(given: Given, rows: Sequence[Parameter] | Any, whole: str | None) -> Iterator[Issue]:
    for row in rows:
        if len(given.parameters[row.name]) < row.low:
            text = f"{row.name} is required: {row.says}"
            yield Issue("invalid", text, whole or row.name, row.missing)


def _taken(one: _Raw, row: Parameter) -> Taken | Issue:
    if isinstance(one.members, str):
        return _of_text(one, row, one.members)
    if row.parts:
        return _with_parts(one, row, one.members)
    for element in row.elements:
        if element in one.members:
            return Taken(f"{one.where}.{element}", element, one.members[element])
    text = f"{row.name} carries {' or '.join(row.elements)}"
    return Issue("invalid", text, one.where, "parameter-type")


def _with_parts(one: _Raw, row: Parameter, members: Mapping[str, Any]) -> Taken | Issue:
    """A parameter that consists of others: its value is each name's list of them."""
    rows = {part.name: part for part in row.parts}
    found: dict[str, list[Taken]] = {name: [] for name in rows}
    for number, member in enumerate(members.get("part", ())):
        where = f"{one.where}.part[{number}]"
        raw = _Raw(member.get("name", ""), f"{where}.name", where, member)
        if raw.name not in rows:
            return _unknown(raw, rows)
        taken = _taken(raw, rows[raw.name])
        if isinstance(taken, Issue):
            return taken
        found[raw.name].append(taken)
    for name, part in rows.items():
        most = _MOST if part.high == MANY else part.high
        if not part.low <= len(found[name]) <= most:
            text = f"{row.name} has {part.low} to {most} of its part {name}"
            return Issue("invalid", text, one.where, "required")
    return Taken(one.where, "part", found)


def _of_text(one: _Raw, row: Parameter, text: str) -> Taken | Issue:
    """A parameter of a query, as the primitive that it is."""
    type = row.primitive
    if not type:
        says = f"{row.name} cannot stand in a query; send it by POST, in Parameters"
        return Issue("invalid", says, one.where, "parameter-type")
    value: Any = text
    if PRIMITIVES[type].json == "boolean":
        value = {"true": True, "false": False}.get(text, text)
    elif PRIMITIVES[type].json == "integer" and _INTEGER.fullmatch(text):
        value = int(text)
    if not checker(type)(value):
        says = f"{row.name} must be {PRIMITIVES[type].says}"
        return Issue("invalid", says, one.where, "parameter-type")
    return Taken(one.where, f"value{type[0].upper()}{type[1:]}", value)


def _pair(one: _Raw) -> Pair | None:
    """A search parameter: its text in the query, or a text in Parameters."""
    if isinstance(one.members, str):
        return one.name, one.members
    texts = [value for name, value in one.members.items() if name.startswith("value")]
    return (one.name, texts[0]) if len(texts) == 1 and isinstance(texts[0], str) else None


def local_id(taken: Taken, type: str) -> str:
    """The logical id in a reference to a resource of ours. Raises Invalid for another."""
    text = taken.value.get("reference", "")
    found, _, id = text.partition("/")
    if found != type or not id or "/" in id:
        raise Invalid(
            f"This must be a reference {type}/id", expression=taken.expression, rule="reference"
        )
    return str(id)
