"""FHIRPath compiled to closures, as invariants use it (hl7.org/fhirpath/N1, fhir/R4/fhirpath.html).

Two kinds of closures: a Step gives a collection, a Test gives true, false or None (nothing). What
is asked most (`a.exists()`, `a.empty() or b = 'c'`) never builds a collection. Names that a type
does not have give nothing, as the language wants it. `fhir.path` is for search parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.fhirpath_syntax import Node, parse_fhirpath
from fhir_gateway.fhir.fhirpath_values import (
    FALSE,
    NOTHING,
    TRUE,
    Item,
    Items,
    Trouble,
    boolean,
    children,
    number_of,
    single,
    spellings,
    truth,
)
from fhir_gateway.fhir.profile_context import Library, Run

UCUM = "http://unitsofmeasure.org"
#: Operators whose result is true or false (fhir.fhirpath_logic).
LOGIC = frozenset(
    {"and", "or", "xor", "implies", "=", "!=", "~", "!~", "<", "<=", ">", ">=", "in", "contains"}
)
BUDGET = 300_000  # items that one evaluation may look at


class Env:
    """What an evaluation sees beside its focus: the run, the element that %context names, the
    definitions, and how much it may still look at."""

    __slots__ = ("context", "known", "left", "run")

    def __init__(self, run: Run, context: Item, known: Library) -> None:
        self.run, self.context, self.known = run, context, known
        self.left = BUDGET

    def spend(self, number: int) -> None:
        """Raises Trouble when an evaluation looks at too much."""
        self.left -= number
        if self.left < 0:
            raise Trouble("there is too much to look at")


Step = Callable[[Env, Items], Items]
Test = Callable[[Env, Items], bool | None]


@lru_cache(maxsize=4_096)
def compile_test(expression: str) -> Test:
    """A function that says whether an expression holds for a focus; None when it gives nothing.

    Raises Invalid for what is not FHIRPath or calls functions that are not known here. The
    function raises Trouble where it cannot be evaluated.
    """
    run: Test = _guarded(parse_fhirpath(expression), as_test)
    return run


@lru_cache(maxsize=512)
def compile_items(expression: str) -> Step:
    """The same for the collection that an expression gives."""
    run: Step = _guarded(parse_fhirpath(expression), as_items)
    return run


def _guarded(node: Node, compiled: Callable[[Node], Any]) -> Any:
    try:
        run = compiled(node)
    except RecursionError:
        raise Invalid("Nested too deep", rule="fhirpath") from None

    def guarded(env: Env, focus: Items) -> Any:
        try:
            return run(env, focus)
        except RecursionError:
            raise Trouble("it is nested too deep") from None

    return guarded


def as_items(node: Node) -> Step:
    """The Step of a node."""
    kind = node[0]
    if kind == "op" and node[1] in LOGIC:
        return _from_test(as_test(node))
    if kind == "member":
        return _member(as_items(node[1]), node[2])
    make = _STEPS.get(kind)
    if make is None:
        raise Invalid(f"{kind} is not understood", rule="fhirpath")
    return make(node)


def as_test(node: Node) -> Test:
    """The Test of a node."""
    if node[0] == "op" and node[1] in LOGIC:
        return _logic(node)
    if node[0] == "literal" and node[1] == "boolean":
        value: bool = node[2]
        return lambda env, focus: value
    call, left = _called(node)
    if call is not None and not call[2]:
        if call[1] in ("exists", "empty"):
            return _presence(left, call[1] == "exists")
        if call[1] == "not":
            return negated(as_test(left) if left is not None else _truth_of(_this))
    return _truth_of(as_items(node))


def _logic(node: Node) -> Test:
    from fhir_gateway.fhir.fhirpath_logic import TESTS  # noqa: PLC0415  # it compiles too

    return TESTS[node[1]](node[2], node[3])


def negated(test: Test) -> Test:
    """True for false, false for true, nothing for nothing."""

    def inverse(env: Env, focus: Items) -> bool | None:
        value = test(env, focus)
        return None if value is None else not value

    return inverse


def _called(node: Node) -> tuple[Node | None, Node | None]:
    """The call that a node ends in, and what it is called on (None: the focus)."""
    if node[0] == "call":
        return node, None
    if node[0] == "member" and node[2][0] == "call":
        return node[2], node[1]
    return None, None


def _truth_of(step: Step) -> Test:
    return lambda env, focus: truth(step(env, focus))


def _from_test(test: Test) -> Step:
    return lambda env, focus: boolean(test(env, focus))


def _this(env: Env, focus: Items) -> Items:
    return focus


# -- presence: no collection is built where a name is enough --------------------------------------


def _presence(left: Node | None, wanted: bool) -> Test:
    if left is None:
        return lambda env, focus: bool(focus) == wanted
    if left[0] == "name" and not left[1][:1].isupper():
        return _has(left[1], wanted)
    step = as_items(left)
    return lambda env, focus: bool(step(env, focus)) == wanted


def _has(name: str, wanted: bool) -> Test:
    """Whether the focus has an element: in sound JSON, whether a key is there."""
    keys: dict[str, tuple[str, ...]] = {}

    def test(env: Env, focus: Items) -> bool:
        for type, value, beside in focus:
            holder = value if value.__class__ is dict else beside
            if holder is None or not isinstance(holder, dict):
                continue
            found = keys.get(type)
            if found is None:
                spelled = spellings(type, name)
                found = tuple(member for member, _, _ in spelled)
                found += tuple(f"_{member}" for member, _, primitive in spelled if primitive)
                keys[type] = found
            for key in found:
                if key in holder:
                    return wanted
        return not wanted

    return test


# -- steps ---------------------------------------------------------------------------------------


def _name(node: Node) -> Step:
    """A name at the beginning: the type of the focus, or an element of it."""
    name: str = node[1]
    if name[:1].isupper() and name in definitions().types:
        is_a = definitions().is_a
        return lambda env, focus: [item for item in focus if is_a(item[0], name)]
    return child(_this, name)


def child(left: Step, name: str) -> Step:
    """The elements of this name below a collection."""

    def step(env: Env, focus: Items) -> Items:
        items = left(env, focus)
        if len(items) == 1:
            return children(items[0], name)
        found: list[Item] = []
        for item in items:
            found += children(item, name)
        env.spend(len(found))
        return found

    return step


def _member(left: Step, right: Node) -> Step:
    if right[0] == "name":
        return child(left, right[1])
    if right[0] == "this":
        return left
    return call(left, right)


def call(left: Step, node: Node) -> Step:
    """A function called on a collection."""
    from fhir_gateway.fhir.fhirpath_functions import function  # noqa: PLC0415  # it compiles too

    return function(left, node[1], node[2])


def _variable(node: Node) -> Step:
    name: str = node[1]
    fixed = {
        "ucum": UCUM, "sct": "http://snomed.info/sct", "loinc": "http://loinc.org",
    }.get(name)  # fmt: skip
    if name.startswith("vs-"):
        fixed = f"http://hl7.org/fhir/ValueSet/{name[3:]}"
    elif name.startswith("ext-"):
        fixed = f"http://hl7.org/fhir/StructureDefinition/{name[4:]}"
    if fixed is not None:
        value: Items = (("string", fixed, None),)
        return lambda env, focus: value
    if name == "context":
        return lambda env, focus: (env.context,)
    if name == "resource":
        return lambda env, focus: _resource(env.run.resource)
    if name == "rootResource":
        return lambda env, focus: _resource(env.run.root)
    raise Invalid(f"The variable %{name} is not known here", rule="fhirpath")


def _resource(value: Mapping[str, Any]) -> Items:
    return ((str(value.get("resourceType")), value, None),)


def _literal(node: Node) -> Step:
    value: Items = ((node[1], node[2], None),)
    return lambda env, focus: value


def _index(node: Node) -> Step:
    left, index = as_items(node[1]), as_items(node[2])

    def step(env: Env, focus: Items) -> Items:
        number = number_of(index(env, focus))
        if not isinstance(number, int) or number < 0:
            return NOTHING
        return left(env, focus)[number : number + 1]

    return step


def is_type(type: str, wanted: str) -> bool:
    """Whether a type is another one or made of it, in any of the spellings of a type."""
    name = wanted.rpartition(".")[2] if wanted.startswith(("FHIR.", "System.")) else wanted
    is_a = definitions().is_a
    return is_a(type, name) or is_a(type, name[:1].lower() + name[1:])


def check_type(wanted: str) -> str:
    """A type's name as R4 has it. Raises Invalid for a name that is no type."""
    name = wanted.rpartition(".")[2] if wanted.startswith(("FHIR.", "System.")) else wanted
    for known in (name, name[:1].lower() + name[1:]):
        if known in definitions().types:
            return known
    raise Invalid(f"{wanted} is not a type of R4", rule="fhirpath")


def is_of(left: Step, name: str) -> Step:
    """Whether the one item of a collection is of a type."""
    wanted = check_type(name)

    def step(env: Env, focus: Items) -> Items:
        one = single(left(env, focus))
        return NOTHING if one is None else TRUE if is_type(one[0], wanted) else FALSE

    return step


def of_type(left: Step, wanted: str) -> Step:
    """The items of a type."""
    name = check_type(wanted)
    return lambda env, focus: [item for item in left(env, focus) if is_type(item[0], name)]


def _minus(node: Node) -> Step:
    inner = as_items(node[1])

    def step(env: Env, focus: Items) -> Items:
        number = number_of(inner(env, focus))
        return NOTHING if number is None else ((_number_type(-number), -number, None),)

    return step


def _number_type(value: Any) -> str:
    return "integer" if isinstance(value, int) else "decimal"


def _operator(node: Node) -> Step:
    from fhir_gateway.fhir.fhirpath_operators import operator  # noqa: PLC0415  # it compiles too

    return operator(node[1], as_items(node[2]), as_items(node[3]))


_STEPS: dict[str, Callable[[Node], Step]] = {
    "name": _name,
    "this": lambda node: _this,
    "nothing": lambda node: lambda env, focus: NOTHING,
    "literal": _literal,
    "variable": _variable,
    "call": lambda node: call(_this, node),
    "index": _index,
    "is": lambda node: is_of(as_items(node[1]), node[2]),
    "as": lambda node: of_type(as_items(node[1]), node[2]),
    "minus": _minus,
    "op": _operator,
}
