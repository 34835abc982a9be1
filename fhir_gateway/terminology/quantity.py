"""A measured value in another unit of the same kind, exactly or not at all.

Only units that measure the same kind of quantity are turned into each other, by their UCUM factors
as fractions (ucum.org/ucum, sections 2 to 4): mg/dL into g/L, never into mmol/L, for that needs the
substance; nor haemoglobin A1c in percent into mmol/mol, which is no factor. A result that has no
end as a decimal is none.
"""

from __future__ import annotations

from decimal import Decimal, Inexact, InvalidOperation, localcontext
from fractions import Fraction
from functools import lru_cache

from fhir_gateway.terminology.ucum import canonical
from fhir_gateway.terminology.unit import canonical_unit, compare_units, property_of

#: Digits of a value; no laboratory has more.
_DIGITS = 24


@lru_cache(maxsize=4_096)
def convert(value: str, unit: str, target: str) -> str:
    """A value as spelled decimal in the unit `target`; "" when it cannot be said exactly.

    A value that is in a unit of the same size keeps its spelling.
    """
    number = _number(value)
    ratio = _ratio(unit, target) if number is not None else None
    if number is None or ratio is None:
        return ""
    return value if ratio == 1 else _times(number, ratio)


def _number(value: str) -> Decimal | None:
    if not value or len(value) > _DIGITS or not value.isascii():
        return None
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) <= _DIGITS else None


@lru_cache(maxsize=4_096)
def _ratio(unit: str, target: str) -> Fraction | None:
    """What numbers in `unit` are multiplied by; None when that is not known for certain."""
    if compare_units(unit, target):
        return Fraction(1)
    kind, wanted = property_of(unit), property_of(target)
    if kind != wanted:
        return None
    own, other = canonical_unit(unit) or unit, canonical_unit(target) or target
    if not kind and ("{" in own or "{" in other):
        return None  # what a note says may be another kind
    found, expected = canonical(own), canonical(other)
    if found is None or expected is None or found.units != expected.units:
        return None
    if found.units == "1" and not kind:
        return None  # numbers of two things are not of one kind because they have no unit
    return Fraction(found.factor) / Fraction(expected.factor)


def _times(number: Decimal, ratio: Fraction) -> str:
    """The product as spelled decimal without an exponent; "" when it has no end."""
    with localcontext() as context:
        context.prec, context.traps[Inexact] = 2 * _DIGITS, True
        try:
            if ratio.denominator == 1:
                product = number * ratio.numerator
            else:
                product = number * (Decimal(ratio.numerator) / Decimal(ratio.denominator))
        except Inexact:
            return ""
        return format(product, "f")
