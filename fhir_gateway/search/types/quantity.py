"""Quantities (hl7.org/fhir/R4/search.html#quantity).

A row is v1 = the value as a sortable integer, v2 = the key of its unit. The unit key is made of
system and code; a second row, with no system, carries the printed unit where it differs, and the
code where its system is not UCUM. So `5.4||mg` asks for UCUM's mg or a printed mg, and one row is
enough for most results. Values are not converted. A Range gives one row for each of its ends;
SampledData has no single value and no row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fhir_gateway.fhir.datatypes import sortable
from fhir_gateway.fhir.keys import key64
from fhir_gateway.search.context import Context
from fhir_gateway.search.params import Parameter, parts, refusal
from fhir_gateway.search.plan import Comparator, Quantity
from fhir_gateway.search.registry import Searchable
from fhir_gateway.search.types.number import bounds
from fhir_gateway.search.types.prefix import prefixed

Pair = tuple[int, int]

UCUM = "http://unitsofmeasure.org"
CURRENCY = "urn:iso:std:iso:4217"


def _unit(system: str, code: str, context: Context) -> int:
    return key64(f"{system}|{code}", context.secret)


def _quantity(value: Any, context: Context) -> Iterator[Pair]:
    if value.get("value") is None:
        return
    number = sortable(value["value"])
    system, code, unit = value.get("system", ""), value.get("code", ""), value.get("unit", "")
    if code:
        yield number, _unit(system, code, context)
    if code and system != UCUM:
        yield number, _unit("", code, context)
    if unit != code or not code:
        yield number, _unit("", unit, context)


def _money(value: Any, context: Context) -> Iterator[Pair]:
    if value.get("value") is not None:
        number, currency = sortable(value["value"]), value.get("currency", "")
        yield number, _unit(CURRENCY, currency, context)
        yield number, _unit("", currency, context)


def _range(value: Any, context: Context) -> Iterator[Pair]:
    for end in ("low", "high"):
        yield from _quantity(value.get(end, {}), context)


#: How a value of a datatype becomes rows.
ROWS: Mapping[str, Any] = {
    **dict.fromkeys(("Quantity", "Age", "Count", "Distance", "Duration"), _quantity),
    "SimpleQuantity": _quantity,
    "Money": _money,
    "Range": _range,
}


def condition(searchable: Searchable, parameter: Parameter, context: Context) -> Quantity:
    """Any of `number`, `number|system|code`, `number||code`, each under its prefix."""
    alternatives = tuple(_alternative(parameter, value, context) for value in parameter.values)
    return Quantity(searchable.number, alternatives)


def _alternative(
    parameter: Parameter, value: str, context: Context
) -> tuple[Comparator, int, int, tuple[int, ...]]:
    pieces = parts(value)
    comparator, text = prefixed(pieces[0])
    low, high = bounds(parameter.name.base, comparator, text)
    if len(pieces) == 1:
        return comparator, low, high, ()
    if len(pieces) != 3 or not pieces[2]:
        raise refusal(parameter.name.base, "must be number, number|system|code or number||code",
                      rule="search-quantity")  # fmt: skip
    system, code = pieces[1], pieces[2]
    asked = (system,) if system else ("", UCUM)
    return comparator, low, high, tuple(_unit(one, code, context) for one in asked)
