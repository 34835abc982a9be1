"""UCUM units as a factor and base units, exact: mg/dL is 10 g/m³ (ucum.org/ucum, sections 2 to 4).

Beside hl7.org/fhir/R4/search.html#quantity ("canonical units"). Factors are fractions, so that
5.4 g/L and 540 mg/dL are the same number. Units on a scale of their own (Cel, pH, B), and mere
annotations ({INR}), have no canonical form. The definitions are those of ucumvert, except where
following them would equate what medicine tells apart: see _APART.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, Inexact, localcontext
from fractions import Fraction
from functools import lru_cache
from math import inf
from typing import Any, NamedTuple

from fhir_gateway.terminology.ucum_essence import essence

_LONGEST, _STEEPEST, _BITS = 48, 20, 800
#: Base units of their own: a mole is not turned into a count, an equivalent is no mole (one of
#: calcium is half a mole), a microscope's field is no number. UCUM does so with arbitrary units.
_APART = frozenset({"mol", "eq", "osm", "[HPF]", "[LPF]", "[hnsf'U]"})
_TOKEN = re.compile(
    r"(?P<note>\{[!-z|~]*\})|(?P<mark>[./()])"
    r"|(?P<unit>10[*^]|(?:[^0-9./(){}\[\]+\-\s]|\[[^\[\]\s]*\])+)|(?P<number>[+-]?[1-9][0-9]*)"
)


_NOTES = re.compile(r"\{[^}]*\}")


class Unit(NamedTuple):
    """A factor and the base units it multiplies, each with its exponent."""

    factor: Fraction
    bases: tuple[tuple[str, int], ...] = ()


class Canonical(NamedTuple):
    """What a value in a unit is multiplied by, and the name of its base units."""

    factor: Decimal | Fraction
    units: str

    def times(self, value: Decimal | float) -> float:
        """A value in base units. Decimal where the factor ends: it is exact, and much faster."""
        number = value if isinstance(value, Decimal) else Decimal(str(value))
        if isinstance(self.factor, Decimal):
            return float(number * self.factor)
        try:
            return float(Fraction(number) * self.factor)
        except OverflowError:  # beyond binary64, as float says of a Decimal
            return inf if number > 0 else -inf


class _Atoms(NamedTuple):
    """The atoms of UCUM: prefixes, base units, and definitions as (factor, unit) by code."""

    prefixes: Mapping[str, Fraction]
    bases: frozenset[str]
    metric: frozenset[str]
    defined: Mapping[str, tuple[str, str]]


class _NoForm(Exception):
    """The text is no unit, or one without a canonical form."""


@lru_cache(maxsize=4_096)
def canonical(code: str) -> Canonical | None:
    """The canonical form of a UCUM unit; None when it has none or is no unit at all."""
    if len(code) > _LONGEST or not code.isascii() or not _NOTES.sub("", code):
        return None
    try:
        unit = _Reader(code).whole()
    except _NoForm:
        return None
    bases = ".".join(f"{name}{exponent}" for name, exponent in unit.bases)
    return Canonical(_decimal(unit.factor), bases or "1")


def _decimal(factor: Fraction) -> Decimal | Fraction:
    """The factor as a Decimal of few digits when it is one."""
    with localcontext() as context:
        context.prec, context.traps[Inexact] = 15, True
        try:
            return Decimal(factor.numerator) / Decimal(factor.denominator)
        except Inexact:
            return factor


class _Reader:
    """Recursive descent over one unit expression."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        place = 0
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise _NoForm
            self.tokens.append((str(match.lastgroup), match[0]))
            place = match.end()
        self.place = 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.place] if self.place < len(self.tokens) else ("", "")

    def take(self) -> tuple[str, str]:
        token = self.peek()
        self.place += 1
        return token

    def whole(self) -> Unit:
        unit = self.term()
        if self.place < len(self.tokens):
            raise _NoForm
        return unit

    def term(self) -> Unit:
        """Components from left to right; a slash divides by the next one alone."""
        unit = Unit(Fraction(1))
        if self.peek() != ("mark", "/"):
            unit = self.component()
        while self.peek()[1] in (".", "/"):
            sign = 1 if self.take()[1] == "." else -1
            unit = _times(unit, self.component(), sign)
        return unit

    def component(self) -> Unit:
        kind, text = self.take()
        if kind == "mark" and text == "(":
            unit = self.term()
            if self.take() != ("mark", ")"):
                raise _NoForm
        elif kind == "number" and text[0] not in "+-":
            unit = Unit(Fraction(int(text)))
        elif kind == "unit":
            unit = _atom(text)
        elif kind == "note":
            return Unit(Fraction(1))
        else:
            raise _NoForm
        if kind != "number" and self.peek()[0] == "number":
            unit = _power(unit, int(self.take()[1]))
        while self.peek()[0] == "note":
            self.take()
        return unit


def _atom(text: str) -> Unit:
    """A unit by its code, with a prefix or without."""
    atoms = _atoms()
    if text in atoms.bases or text in atoms.defined:
        return _known(text)
    for length in (2, 1):
        prefix, rest = text[:length], text[length:]
        if prefix in atoms.prefixes and rest in atoms.metric:
            unit = _known(rest)
            return Unit(unit.factor * atoms.prefixes[prefix], unit.bases)
    raise _NoForm


def _known(code: str) -> Unit:
    atoms = _atoms()
    if code in atoms.bases:
        return Unit(Fraction(1), ((code, 1),))
    if code not in atoms.defined:
        raise _NoForm
    factor, definition = atoms.defined[code]
    unit = _Reader(definition).whole()
    return Unit(unit.factor * Fraction(factor), unit.bases)


def _times(left: Unit, right: Unit, sign: int) -> Unit:
    if sign < 0:
        right = _power(right, -1)
    bases = dict(left.bases)
    for name, exponent in right.bases:
        bases[name] = bases.get(name, 0) + exponent
    kept = sorted((name, exponent) for name, exponent in bases.items() if exponent)
    return Unit(left.factor * right.factor, tuple(kept))


def _power(unit: Unit, exponent: int) -> Unit:
    bits = max(unit.factor.numerator.bit_length(), unit.factor.denominator.bit_length())
    if abs(exponent) > _STEEPEST or bits * abs(exponent) > _BITS:  # (Ym20)20 is nobody's unit
        raise _NoForm
    return Unit(
        unit.factor**exponent,
        tuple((name, own * exponent) for name, own in unit.bases if own * exponent),
    )


@lru_cache(maxsize=1)
def _atoms() -> _Atoms:
    """The atoms, from the essence file of UCUM as ucumvert reads it."""
    source = essence()
    prefixes = {one.attrib["Code"]: _prefix(one) for one in source.root.findall(".//{*}prefix")}
    bases = {*source.get_base_units(), *_APART}
    defined: dict[str, tuple[str, str]] = {}
    metric = set(source.get_base_units())
    for unit in source.get_units_with_full_definition():
        code = unit.code_cs
        if unit.is_metric:
            metric.add(code)
        if unit.is_arbitrary:
            bases.add(code)
        elif not unit.is_special and code not in bases:
            defined[code] = (str(unit.conversion_factor), unit.defining_unit)
    defined["[IU]"] = ("1", "[iU]")  # two spellings of one arbitrary unit
    return _Atoms(prefixes, frozenset(bases - {"[IU]"}), frozenset(metric), defined)


def _prefix(element: Any) -> Fraction:
    return next(Fraction(child.attrib["value"]) for child in element if "value" in child.attrib)
