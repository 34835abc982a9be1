"""A StructureDefinition as a tree of elements and slices (elementdefinition.html, profiling.html).

A differential is laid over the tree of its base, down to R4's own type, of which nothing stands in
the tree: that is judged already. Where only a snapshot is there, or the base is not known, the
snapshot is taken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fhir_gateway.errors import Issue
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.profile_context import Library, Resource

BASE = "http://hl7.org/fhir/StructureDefinition/"
MAX_ELEMENTS = 20_000
MAX_CHAIN = 16
MAX_DEPTH = 40

_SEGMENT = re.compile(r"([A-Za-z][A-Za-z0-9]*(?:\[x\])?)(?::([^.]+))?")
#: What only readers need: not kept.
_PROSE = frozenset(
    {"short", "definition", "comment", "requirements", "alias", "mapping", "example", "label"}
)
#: What JSON shows of the parts that are read.
_SHAPES: Mapping[str, type] = {
    "min": int, "max": str, "maxLength": int, "slicing": dict, "binding": dict, "sliceName": str,
}  # fmt: skip


@dataclass(slots=True)
class Node:
    """What profiles say of one element or slice: `facts` is its ElementDefinition, laid over that
    of its base. `at` is the FHIRPath of the ElementDefinition, for complaints about it."""

    name: str
    at: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    children: dict[str, Node] = field(default_factory=dict)
    slices: dict[str, Node] = field(default_factory=dict)

    def low(self) -> int:
        """`min`, 0 when nothing is said."""
        low = self.facts.get("min")
        return low if isinstance(low, int) else 0

    def high(self) -> int | None:
        """`max` as a number; None for * and where nothing is said."""
        high = self.facts.get("max")
        return int(high) if isinstance(high, str) and high.isdecimal() else None

    def value(self, prefix: str) -> tuple[str, Any] | None:
        """The value of a choice of the ElementDefinition, such as fixed[x], with its name."""
        for name, value in self.facts.items():
            if name.startswith(prefix) and name[len(prefix) :][:1].isupper():
                return name[len(prefix) :], value
        return None


@dataclass(slots=True)
class Tree:
    """The root of a profile's type, and why parts of it cannot be judged."""

    type: str
    root: Node
    doubts: list[Issue] = field(default_factory=list)


def tree_of(structure: Resource, known: Library) -> Tree:
    """The tree of a profile. What cannot be understood stands in its doubts."""
    type = structure.get("type")
    if not isinstance(type, str) or type not in definitions().types:
        return Tree("", Node(""), [_doubt("StructureDefinition.type", "names no type of R4")])
    tree = Tree(type, Node(type))
    for one in _chain(structure, known, tree.doubts):
        _lay(one, tree, known)
    return tree


def _chain(structure: Resource, known: Library, doubts: list[Issue]) -> list[Resource]:
    """The profile and its bases, the most general first."""
    chain, seen = [structure], {str(structure.get("url"))}
    base = structure.get("baseDefinition")
    while isinstance(base, str) and not is_base(base):
        found = known.find(base)
        where = "StructureDefinition.baseDefinition"
        if found is None:
            if "snapshot" not in chain[-1]:
                doubts.append(
                    _doubt(where, "names a definition that is not known here", "profile-base")
                )
            break
        if str(found.get("url")) in seen or len(chain) >= MAX_CHAIN:
            doubts.append(_doubt(where, "leads back to itself, or through too many definitions"))
            break
        seen.add(str(found.get("url")))
        chain.append(found)
        base = found.get("baseDefinition")
    return chain[::-1]


def is_base(canonical: str) -> bool:
    """Whether a canonical names R4's own definition of a type, by which everything is judged."""
    url, _, version = canonical.partition("|")
    name = url.removeprefix(BASE)
    known = url.startswith(BASE) and name in definitions().types
    return known and version in ("", "4.0", "4.0.1")


def _lay(structure: Resource, tree: Tree, known: Library) -> None:
    """Lays the elements of one definition over the tree."""
    base = structure.get("baseDefinition")
    rooted = isinstance(base, str) and (is_base(base) or known.find(base) is not None)
    for view in ("differential", "snapshot") if rooted else ("snapshot", "differential"):
        part = structure.get(view)
        elements = part.get("element") if isinstance(part, dict) else None
        if isinstance(elements, Sequence) and elements:
            break
    else:
        return
    if len(elements) > MAX_ELEMENTS:
        says = f"has more than {MAX_ELEMENTS} elements"
        tree.doubts.append(_doubt(f"StructureDefinition.{view}", says))
        return
    slices: dict[str, str] = {}  # by path: the slice that is spoken of
    for number, element in enumerate(elements):
        at = f"StructureDefinition.{view}.element[{number}]"
        steps = _steps(element, slices)
        if steps is None or len(steps) > MAX_DEPTH or steps[0][0] != tree.type:
            tree.doubts.append(_doubt(at, "has no path below the type of the profile"))
            continue
        _merge(_reach(tree.root, steps[1:]), element, at)


def _steps(element: Any, slices: dict[str, str]) -> list[tuple[str, str]] | None:
    """(name, slice) of every segment of an element's place; None when it has none.

    The id says it all. Where it is missing or odd, path and sliceName say it, with the slices
    that came before.
    """
    path = element.get("path") if isinstance(element, dict) else None
    if not isinstance(path, str):
        return None
    names = path.split(".")
    steps = _by_id(element.get("id"), names)
    if steps is None:
        if not all(_SEGMENT.fullmatch(name) for name in names):
            return None
        above = (".".join(names[: n + 1]) for n in range(len(names)))
        steps = [(name, slices.get(place, "")) for name, place in zip(names, above, strict=True)]
        steps[-1] = (names[-1], str(element.get("sliceName") or ""))
    for old in [place for place in slices if place.startswith(f"{path}.")]:
        del slices[old]
    slices[path] = steps[-1][1]
    return steps


def _by_id(id: Any, names: Sequence[str]) -> list[tuple[str, str]] | None:
    if not isinstance(id, str):
        return None
    parts = id.split(".")
    if len(parts) != len(names):
        return None
    steps = []
    for part, name in zip(parts, names, strict=True):
        match = _SEGMENT.fullmatch(part)
        if match is None:
            return None
        # path Observation.valueQuantity, id Observation.value[x]:valueQuantity
        chosen = match[1].endswith("[x]") and not name.endswith("[x]")
        steps.append((name, "") if chosen else (match[1], match[2] or ""))
    return steps


def _reach(node: Node, steps: Sequence[tuple[str, str]]) -> Node:
    for name, slice in steps:
        node = node.children.setdefault(name, Node(name))
        if not slice:
            continue
        head, _, reslice = slice.partition("/")
        node = node.slices.setdefault(head, Node(name))
        if reslice:
            node = node.slices.setdefault(reslice, Node(name))
    return node


def _merge(node: Node, element: Mapping[str, Any], at: str) -> None:
    """What an ElementDefinition says replaces what its base said; constraints are added. A part
    of another shape than R4 gives it says nothing."""
    facts = {name: value for name, value in element.items() if _is_shaped(name, value)}
    constraints = {one["key"]: one for one in node.facts.get("constraint", ())}
    for number, one in enumerate(facts.pop("constraint", ())):
        if isinstance(one.get("key"), str):
            constraints[one["key"]] = {**one, "at": f"{at}.constraint[{number}]"}
    node.at = at
    node.facts.update(facts)
    if constraints:
        node.facts["constraint"] = list(constraints.values())


def _is_shaped(name: str, value: Any) -> bool:
    if name in _PROSE:
        return False
    if name in ("type", "constraint"):
        return isinstance(value, list) and all(isinstance(one, dict) for one in value)
    shape = _SHAPES.get(name)
    return shape is None or (isinstance(value, shape) and not isinstance(value, bool))


def _doubt(at: str, says: str, rule: str = "profile-definition") -> Issue:
    return Issue("invalid", f"{at} {says}", at, rule)
