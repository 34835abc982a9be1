"""Quantities (hl7.org/fhir/R4/search.html#quantity).

A row is v1 = the value as a sortable integer, v2 = the key of its unit. The unit key is made of
system and code; a second row, with no system, carries the printed unit where it differs, and the
code where its system is not UCUM. So `5.4||mg` asks for UCUM's mg or a printed mg, and one row is
enough for most results. A value in a UCUM unit has one more row under a parameter of its own, in
base units: 5.4 g/L finds 540 mg/dL. A Range gives rows for each of its ends; SampledData has no
single value and no row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from fhir_gateway.fhir.datatypes import sortable
from fhir_gateway.fhir.keys import key64
from fhir_gateway.search.context import Context
from fhir_gateway.search.params import Parameter, parts, refusal
from fhir_gateway.search.plan import AnyOf, Comparator, Quantity
from fhir_gateway.search.registry import Searchable
from fhir_gateway.search.types.number import Limits, limits
from fhir_gateway.search.types.prefix import prefixed
from fhir_gateway.terminology.ucum import Canonical, canonical

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


def _in_base_units(value: Any, context: Context) -> Iterable[Pair]:
    if value.get("system") != UCUM or value.get("value") is None:
        return ()
    base = _base(value.get("code", ""), context)
    return ((sortable(base.form.times(value["value"])), base.unit),) if base else ()


def _ends_in_base_units(value: Any, context: Context) -> Iterator[Pair]:
    for end in ("low", "high"):
        yield from _in_base_units(value.get(end, {}), context)


class _Base(NamedTuple):
    """The canonical form of a unit, and the key of its base units."""

    form: Canonical
    unit: int


@lru_cache(maxsize=4_096)
def _base(code: str, context: Context) -> _Base | None:
    form = canonical(code)
    return form and _Base(form, _unit("base", form.units, context))


#: The row of a value in base units, by datatype.
CANONICAL: Mapping[str, Any] = {
    **dict.fromkeys(("Quantity", "Age", "Count", "Distance", "Duration"), _in_base_units),
    "SimpleQuantity": _in_base_units,
    "Range": _ends_in_base_units,
}

_Asked = tuple[Comparator, Limits, tuple[int, ...], _Base | None]


def condition(searchable: Searchable, parameter: Parameter, context: Context) -> Quantity | AnyOf:
    """Any of `number`, `number|system|code`, `number||code`, each under its prefix.

    A unit of UCUM finds what is measured in other units of its kind too.
    """
    asked = [_asked(parameter, value, context) for value in parameter.values]
    plain = Quantity(
        searchable.number,
        tuple((comparator, *limits.keys(), units) for comparator, limits, units, _ in asked),
    )
    converted = tuple(
        (comparator, *limits.keys(base.form.times), (base.unit,))
        for comparator, limits, _, base in asked
        if base is not None
    )
    if not converted:
        return plain
    return AnyOf((plain, Quantity(searchable.canonical_number, converted)))


def _asked(parameter: Parameter, value: str, context: Context) -> _Asked:
    pieces = parts(value)
    comparator, text = prefixed(pieces[0])
    meant = limits(parameter.name.base, comparator, text)
    if len(pieces) == 1:
        return comparator, meant, (), None
    if len(pieces) != 3 or not pieces[2]:
        raise refusal(parameter.name.base, "must be number, number|system|code or number||code",
                      rule="search-quantity")  # fmt: skip
    system, code = pieces[1], pieces[2]
    systems = (system,) if system else ("", UCUM)
    base = _base(code, context) if UCUM in systems else None
    return comparator, meant, tuple(_unit(one, code, context) for one in systems), base
