"""UCUM as a code system (hl7.org/fhir/R4/ucum.html): every valid expression is a code.

The grammar is that of ucum.org/ucum, section 2, over the atoms of the essence file. Codes cannot
be listed, and a display is put together from the names of the atoms. A unit that a laboratory
spells in its own way is no code; `near` says which one it probably means.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from fhir_gateway.terminology.system import Concept, Content, Designation, Property
from fhir_gateway.terminology.ucum import canonical
from fhir_gateway.terminology.ucum_essence import essence
from fhir_gateway.terminology.unit import canonical_unit

UCUM = "http://unitsofmeasure.org"

#: A longer unit is nobody's, nor is one of deeper brackets.
LONGEST, DEEPEST = 200, 10

_TOKEN = re.compile(
    r"(?P<note>\{[!-z|~]*\})|(?P<mark>[./()])"
    r"|(?P<unit>10[*^]|(?:[^0-9./(){}\[\]+\-\s]|\[[^\[\]\s]*\])+)|(?P<number>[+-]?[1-9][0-9]*)"
)
_POWERS = {"2": "square {}", "3": "cubic {}"}

_NOTICE = (
    "UCUM is copyright © 1999–2024 Regenstrief Institute, Inc. All rights reserved. Used under the "
    "UCUM Copyright Notice and License, version 1.1 (https://unitsofmeasure.org/license)."
)


class UcumSystem:
    """A System (terminology.system) whose codes are the expressions of a grammar."""

    url = UCUM
    version = ""
    title = "Unified Code for Units of Measure (UCUM)"
    content: Content = "complete"
    case_sensitive = True
    language = "en"
    notice = _NOTICE
    value_set = "http://hl7.org/fhir/ValueSet/ucum-units"

    def find(self, code: str) -> Concept | None:
        """The unit with its name in words; None when it is not written as UCUM has it."""
        return _unit(code)

    def near(self, code: str) -> str:
        """The code that a laboratory's spelling probably means, "" for none."""
        found = canonical_unit(code)
        return found if found != code and self.find(found) is not None else ""

    def concepts(self) -> None:
        """Nobody can list them."""

    def parents(self, code: str) -> Sequence[str]:
        """None: units form no hierarchy."""
        return ()

    def children(self, code: str) -> Sequence[str]:
        """None."""
        return ()


@lru_cache(maxsize=4_096)
def _unit(code: str) -> Concept | None:
    if not 0 < len(code) <= LONGEST:
        return None
    try:
        name = _Reader(code).whole()
    except _NoUnit:
        return None
    named = () if name == code else (Designation("", code),)
    base = canonical(code)
    properties = () if base is None else (Property("canonical", "string", _units(base.units)),)
    return Concept(code, name, designations=named, properties=properties)


def _units(bases: str) -> str:
    """Base units as UCUM writes them: g.m-3 for g1.m-3."""
    return re.sub(r"(?<=[a-zA-Z\]])1(?=\.|$)", "", bases)


class _NoUnit(Exception):
    """The text is no unit."""


class _Atoms(NamedTuple):
    """Names by code: of prefixes, of units, and which units take a prefix."""

    prefixes: Mapping[str, str]
    units: Mapping[str, str]
    metric: frozenset[str]


@lru_cache(maxsize=1)
def _atoms() -> _Atoms:
    root = essence().root
    units, metric = dict[str, str](), set[str]()
    for kind in ("base-unit", "unit"):
        for one in root.findall(f".//{{*}}{kind}"):
            code = one.attrib["Code"]
            units[code] = one.findtext("{*}name") or code
            if kind == "base-unit" or one.attrib.get("isMetric") == "yes":
                metric.add(code)
    prefixes = {
        one.attrib["Code"]: one.findtext("{*}name") or "" for one in root.findall(".//{*}prefix")
    }
    return _Atoms(prefixes, units, frozenset(metric))


class _Reader:
    """Recursive descent over one expression; what it returns is the expression in words."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        self.depth = place = 0
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise _NoUnit
            self.tokens.append((str(match.lastgroup), match[0]))
            place = match.end()
        self.place = 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.place] if self.place < len(self.tokens) else ("", "")

    def take(self) -> tuple[str, str]:
        token = self.peek()
        self.place += 1
        return token

    def whole(self) -> str:
        name = self.term()
        if self.place < len(self.tokens):
            raise _NoUnit
        return name

    def term(self) -> str:
        """Components from left to right, after a slash at the beginning or none."""
        words = ""
        if self.peek() != ("mark", "/"):
            words = self.component()
        while self.peek()[1] in (".", "/"):
            joint = "per" if self.take()[1] == "/" else "times"
            words = f"{words} {joint} {self.component()}".strip()
        return words

    def component(self) -> str:
        kind, text = self.take()
        if kind == "mark" and text == "(":
            return self.noted(f"({self.inner()})")
        if kind == "unit":
            words = _atom(text)
        elif kind == "note":
            return text
        elif kind == "number" and text[0] not in "+-":
            return self.noted(text)
        else:
            raise _NoUnit
        if self.peek()[0] == "number":
            words = _power(words, self.take()[1])
        return self.noted(words)

    def inner(self) -> str:
        self.depth += 1
        if self.depth > DEEPEST:
            raise _NoUnit
        words = self.term()
        if self.take() != ("mark", ")"):
            raise _NoUnit
        self.depth -= 1
        return words

    def noted(self, words: str) -> str:
        return f"{words} {self.take()[1]}" if self.peek()[0] == "note" else words


def _power(words: str, exponent: str) -> str:
    if words == _atoms().units["10*"]:
        return f"10^{exponent.lstrip('+')}"
    return _POWERS.get(exponent, "{} to the power " + exponent).format(words)


def _atom(text: str) -> str:
    atoms = _atoms()
    if text in atoms.units:
        return atoms.units[text]
    for length in (2, 1):
        prefix, rest = text[:length], text[length:]
        if prefix in atoms.prefixes and rest in atoms.metric:
            return atoms.prefixes[prefix] + atoms.units[rest]
    raise _NoUnit
