"""The small FHIRPath that SearchParameter expressions use, compiled to closures.

Paths, `|`, `as`, `is`, `and`, `=`, `!=`, `[n]`, `$this`, `where()`, `exists()`, `as()`, `ofType()`
and `resolve() is Type` (hl7.org/fhirpath, hl7.org/fhir/R4/fhirpath.html). Every name is checked
against the definitions when it is compiled, so a misspelt path fails at start and not silently.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.definitions import definitions

Item = tuple[str, Any]  # (FHIR type, JSON value)
Items = list[Item]
Path = Callable[[dict[str, Any]], Items]
_Step = Callable[[Items], Items]
_Table = dict[str, tuple[tuple[str, str], ...]]  # parent type: (JSON name, type) of a child

#: Search parameters of R4 that have no path here, by "Type.code", with the reason.
NOT_COMPILED = {
    "Resource._content": "special: full text, has no expression",
    "Resource._filter": "special: a filter language, has no expression",
    "Resource._query": "special: a named query, has no expression",
    "DomainResource._text": "special: full text, has no expression",
    "MolecularSequence.chromosome-variant-coordinate": "its components leave the item (%resource)",
    "MolecularSequence.referenceseqid-variant-coordinate": "the same",
}

_TRUE: Items = [("boolean", True)]
_FALSE: Items = [("boolean", False)]
_TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z_]\w*)|'(?P<text>[^']*)'|(?P<int>\d+)|(?P<mark>!=|\S))")
_REFERENCE_TYPE = re.compile(r"(?:^|/)([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/[^/]+)?$")


class _Compiled(NamedTuple):
    """A step and the FHIR types that can come out of it."""

    step: _Step
    types: frozenset[str]
    narrow: Callable[[frozenset[str]], _Step] | None = None  # the same step for some types only


@lru_cache(maxsize=8_192)
def compile_path(expression: str, type: str) -> Path:
    """A function from a value of this type to its (FHIR type, JSON value) pairs, in order.

    `type` is a resource, a datatype or a backbone path such as Observation.component. Raises
    Invalid when the expression is outside the small language or names what R4 does not have.
    """
    step = _Parser(expression, type).whole().step

    def run(value: dict[str, Any]) -> Items:
        return step([(type, value)])

    return run


def result_types(expression: str, type: str) -> frozenset[str]:
    """The FHIR types that can come out of an expression. Raises Invalid as compile_path does."""
    return _Parser(expression, type).whole().types


class _Parser:
    """Recursive descent over the tokens of one expression; compiles as it reads."""

    def __init__(self, expression: str, root: str) -> None:
        self.expression = expression
        self.tokens = [match for match in _TOKEN.finditer(expression.strip())]
        self.place = 0
        self.root = root
        self.context = _Compiled(_same, frozenset({root}))

    def whole(self) -> _Compiled:
        compiled = self.conjunction()
        if self.place < len(self.tokens):
            self.refuse("ends too late")
        return compiled

    def peek(self) -> str:
        if self.place == len(self.tokens):
            return ""
        return self.tokens[self.place][0].strip()

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            self.refuse(f"lacks {expected or 'an operand'}")
        self.place += 1
        return token

    def refuse(self, why: str) -> NoReturn:
        raise Invalid(f"The path {self.expression!r} {why}", rule="path")

    def conjunction(self) -> _Compiled:
        left = self.equality()
        while self.peek() == "and":
            self.take()
            left = _Compiled(_and(left.step, self.equality().step), frozenset({"boolean"}))
        return left

    def equality(self) -> _Compiled:
        left = self.union()
        if self.peek() not in ("=", "!="):
            return left
        negated = self.take() == "!="
        return _Compiled(_equals(left.step, self.union().step, negated), frozenset({"boolean"}))

    def union(self) -> _Compiled:
        operands = [self.typed()]
        while self.peek() == "|":
            self.take()
            operands.append(self.typed())
        if len(operands) == 1:
            return operands[0]
        steps = tuple(operand.step for operand in operands)
        return _Compiled(_union(steps), frozenset().union(*(o.types for o in operands)))

    def typed(self) -> _Compiled:
        left = self.postfix()
        while self.peek() in ("as", "is"):
            operator, type = self.take(), self.type_name()
            left = self.as_type(left, type) if operator == "as" else self.is_type(left, type)
        return left

    def postfix(self) -> _Compiled:
        left = self.primary()
        while self.peek() in (".", "["):
            if self.take() == "[":
                left = _Compiled(_at(left.step, int(self.take())), left.types)
                self.take("]")
            else:
                left = self.member(left)
        return left

    def primary(self) -> _Compiled:
        token = self.peek()
        if token == "(":  # noqa: S105  # a token of the language, not a password
            self.take()
            inner = self.conjunction()
            self.take(")")
            return inner
        if token.startswith("'"):
            return _constant("string", self.take()[1:-1])
        if token in ("true", "false"):
            return _constant("boolean", self.take() == "true")
        if token == "$":  # noqa: S105  # the same
            self.take()
            self.take("this")
            return self.context
        if self.root and definitions().is_a(self.root, token):
            self.take()
            return self.context
        return self.member(self.context)

    def member(self, left: _Compiled) -> _Compiled:
        name = self.take()
        if self.peek() != "(":
            return self.child(left, name)
        self.take("(")
        compiled = self.function(left, name)
        self.take(")")
        return compiled

    def function(self, left: _Compiled, name: str) -> _Compiled:
        if name in ("as", "ofType"):
            return self.as_type(left, self.type_name())
        if name == "exists":
            return _Compiled(_exists(left.step), frozenset({"boolean"}))
        if name == "resolve":
            return _Compiled(_resolve(left.step), definitions().resource_type_set)
        if name == "where":
            return self.where(left)
        self.refuse(f"calls {name}(), which is not in the small language")

    def where(self, left: _Compiled) -> _Compiled:
        """The criterion is compiled against the items, then the outer context comes back."""
        outer, self.context = self.context, _Compiled(_same, left.types)
        root, self.root = self.root, ""
        criterion = self.conjunction()
        self.context, self.root = outer, root
        return _Compiled(_where(left.step, criterion.step), left.types)

    def type_name(self) -> str:
        name = self.take()
        for known in (name, name[0].lower() + name[1:]):
            if known in definitions().types:
                return known
        self.refuse(f"names the type {name}, which R4 does not have")

    def as_type(self, left: _Compiled, type: str) -> _Compiled:
        kept = frozenset(t for t in left.types if definitions().is_a(t, type))
        if "Resource" in left.types and type in definitions().resource_type_set:
            kept |= {type}  # what is contained may be of any type, and says itself of which
            return _Compiled(_of_types(left.step, kept), kept)
        if not kept:
            self.refuse(f"can never be {type}")
        return _Compiled(left.narrow(kept) if left.narrow else _of_types(left.step, kept), kept)

    def is_type(self, left: _Compiled, type: str) -> _Compiled:
        kept = frozenset(t for t in left.types if definitions().is_a(t, type))
        return _Compiled(_is(left.step, kept), frozenset({"boolean"}))

    def child(self, left: _Compiled, name: str) -> _Compiled:
        table = {type: _spellings(type, name) for type in left.types}
        types = frozenset(type for spelled in table.values() for _, type in spelled)
        if not types:
            self.refuse(f"names {name}, which {' or '.join(sorted(left.types)[:3])} does not have")

        def narrow(kept: frozenset[str]) -> _Step:
            return _child(left.step, _narrowed(table, kept))

        return _Compiled(_child(left.step, table), types, narrow)


def _spellings(type: str, name: str) -> tuple[tuple[str, str], ...]:
    """(JSON name, type) pairs under which an element can stand in a value of this type."""
    definition = definitions().types[type]
    element = definition.elements.get(name)
    return element.members() if element else ()


def _narrowed(table: _Table, kept: frozenset[str]) -> _Table:
    return {
        parent: tuple(spelling for spelling in spelled if spelling[1] in kept)
        for parent, spelled in table.items()
    }


def _same(items: Items) -> Items:
    return items


def _constant(type: str, value: Any) -> _Compiled:
    result: Items = [(type, value)]
    return _Compiled(lambda _: result, frozenset({type}))


def _child(before: _Step, table: _Table) -> _Step:
    spelled = next(iter(table.values()))
    if len(table) == 1 and len(spelled) == 1 and spelled[0][1] != "Resource":
        return _plain_child(before, *spelled[0])

    def step(items: Items) -> Items:
        found: Items = []
        for parent, value in before(items):
            for name, type in table.get(parent, ()):
                child = value.get(name)
                if child is not None:
                    _collect(found, type, child)
        return found

    return step


def _plain_child(before: _Step, name: str, type: str) -> _Step:
    """The common case: one parent type, one way to spell the element."""

    def step(items: Items) -> Items:
        found: Items = []
        for _, value in before(items):
            child = value.get(name)
            if child is None:
                continue
            if child.__class__ is not list:
                found.append((type, child))
            else:
                found.extend([(type, one) for one in child if one is not None])
        return found

    return step


def _collect(found: Items, type: str, child: Any) -> None:
    for one in child if isinstance(child, list) else (child,):
        if one is not None:
            found.append((one["resourceType"] if type == "Resource" else type, one))


def _union(steps: tuple[_Step, ...]) -> _Step:
    """All operands in turn. Equal items stay: index rows are a set anyway, and time is linear."""

    def step(items: Items) -> Items:
        found: Items = []
        for operand in steps:
            found.extend(operand(items))
        return found

    return step


def _of_types(before: _Step, types: frozenset[str]) -> _Step:
    return lambda items: [item for item in before(items) if item[0] in types]


def _is(before: _Step, types: frozenset[str]) -> _Step:
    def step(items: Items) -> Items:
        return [("boolean", type in types) for type, _ in before(items)]

    return step


def _at(before: _Step, index: int) -> _Step:
    return lambda items: before(items)[index : index + 1]


def _exists(before: _Step) -> _Step:
    return lambda items: _TRUE if before(items) else _FALSE


def _where(before: _Step, criterion: _Step) -> _Step:
    return lambda items: [item for item in before(items) if criterion([item]) == _TRUE]


def _and(left: _Step, right: _Step) -> _Step:
    """Three-valued: false wins over unknown, unknown over true."""

    def step(items: Items) -> Items:
        sides = (left(items), right(items))
        if _FALSE in sides:
            return _FALSE
        return _TRUE if sides == (_TRUE, _TRUE) else []

    return step


def _equals(left: _Step, right: _Step, negated: bool) -> _Step:
    def step(items: Items) -> Items:
        mine, other = left(items), right(items)
        if not mine or not other:
            return []
        same = _values(mine) == _values(other)
        return _TRUE if same != negated else _FALSE

    return step


def _values(items: Iterable[Item]) -> list[tuple[bool, Any]]:
    """Values to compare; a boolean is never equal to a number."""
    return [(isinstance(value, bool), value) for _, value in items]


def _resolve(before: _Step) -> _Step:
    """What a reference says of its target's type; the target itself is not read."""

    def step(items: Items) -> Items:
        found: Items = []
        for _, value in before(items):
            type = reference_type(value)
            if type:
                found.append((type, value))
        return found

    return step


def reference_type(reference: dict[str, Any] | str) -> str | None:
    """The resource type that a Reference, uri or canonical names; None when it does not say."""
    if isinstance(reference, str):
        match = _REFERENCE_TYPE.search(reference.partition("|")[0])
        return match[1] if match else None
    match = _REFERENCE_TYPE.search(reference.get("reference") or "")
    return match[1] if match else reference.get("type")
