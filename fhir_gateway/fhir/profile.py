"""Profiles compiled to closures: cardinality, types, values, bindings, slices, invariants, targets
(hl7.org/fhir/R4/profiling.html, elementdefinition.html).

A profile judges what it adds to R4: the types themselves are judged by `fhir.walk` and
`fhir.profile_base`. Only elements about which a profile says something are ever looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from fhir_gateway.errors import Issue
from fhir_gateway.fhir.definitions import UNBOUNDED, Element, definitions
from fhir_gateway.fhir.invariant import NotJudged, invariant
from fhir_gateway.fhir.primitives import PRIMITIVES
from fhir_gateway.fhir.profile_context import (
    Context,
    Enough,
    Judge,
    Library,
    Place,
    Resource,
    Run,
)
from fhir_gateway.fhir.profile_tree import Node, tree_of
from fhir_gateway.fhir.profile_values import value_judges
from fhir_gateway.fhir.slicing import Found, Slicing, slicing_of

NO_CONTEXT = Context()

#: Notes what is wrong with all values of one element of a parent.
ElementJudge = Callable[[Run, Mapping[str, Any], Place], None]


class Profile:
    """A compiled profile. `doubts` say what of its definition cannot be judged, and why."""

    __slots__ = ("_judge", "doubts", "type", "url", "version")

    def __init__(
        self, url: str, version: str, type: str, judge: Judge | None, doubts: tuple[Issue, ...]
    ) -> None:
        self.url, self.version, self.type = url, version, type
        self.doubts = doubts
        self._judge = judge

    def issues(self, resource: Resource, context: Context = NO_CONTEXT) -> list[Issue]:
        """What is wrong with a resource by this profile: errors first, each in document order.

        The resource must be sound by R4 (`fhir.validate`). At most 100 issues and one that says
        that there are more.
        """
        run = Run(resource, context)
        type = str(resource.get("resourceType") or self.type)
        try:
            self.judge(run, resource, None, Place(None, type, -1, type))
        except Enough:
            run.cut = True
        return run.issues()

    def judge(self, run: Run, value: Any, sibling: Any, place: Place) -> None:
        """Notes what is wrong with a value by this profile. What is judged by it already, further
        out, is taken for sound: profiles may name each other in circles."""
        key = (id(value), self.url)
        if key in run.active:
            return
        if self.doubts:
            run.add(place, "not-supported", "profile-definition", self._doubtful(), "warning")
        if not definitions().is_a(place.type, self.type):
            run.add(place, "invalid", "profile-type", f"must be {self.type}, as {self.url} is of")
            return
        if self._judge is not None:
            run.active.add(key)
            try:
                self._judge(run, value, sibling, place)
            finally:
                run.active.discard(key)

    def _doubtful(self) -> str:
        says = "; ".join(doubt.diagnostics for doubt in self.doubts[:3])
        return f"cannot be judged by all of {self.url}: {says}"


def compile_profile(structure_definition: Resource, *, known: Library) -> Profile:
    """The profile of a StructureDefinition. Never fails: what is wrong with the definition stands
    in `doubts`, and the rest is judged."""
    tree = tree_of(structure_definition, known)
    compiler = _Compiler(known, tree.doubts)
    judge = compiler.value(tree.root, tree.type, None) if tree.type else None
    url, version = structure_definition.get("url"), structure_definition.get("version")
    return Profile(str(url or ""), str(version or ""), tree.type, judge, tuple(compiler.doubts))


class _Compiler:
    """Turns nodes into closures; gathers what it cannot turn."""

    def __init__(self, known: Library, doubts: list[Issue]) -> None:
        self.known = known
        self.doubts = doubts

    def doubt(self, node: Node, says: str, rule: str = "") -> None:
        """Notes what of the definition cannot be judged."""
        if len(self.doubts) < 50:
            at = node.at or "StructureDefinition"
            self.doubts.append(Issue("invalid", f"{at} {says}", at, rule or "profile-definition"))

    def value(self, node: Node, type: str, element: Element | None) -> Judge | None:
        """What judges one value of a type at a node; None when there is nothing to judge."""
        judges = list(value_judges(node, type, element, self.known))
        if type == "Resource":
            inner = self.resource(node)
        else:
            judges += self.invariants(node, type)
            inner = self.children(node, type)
        if inner is not None:
            judges.append(inner)
        if not judges:
            return None
        if len(judges) == 1:
            return judges[0]
        steps = tuple(judges)

        def judge(run: Run, value: Any, sibling: Any, place: Place) -> None:
            for step in steps:
                step(run, value, sibling, place)

        return judge

    def resource(self, node: Node) -> Judge | None:
        """What judges a resource inside of another one, by the type that it turns out to be."""
        if not node.children and not node.facts.get("constraint"):
            return None
        plain = replace(node, facts={"constraint": node.facts.get("constraint", ())})
        made: dict[str, Judge | None] = {}

        def judge(run: Run, value: Any, sibling: Any, place: Place) -> None:
            if place.type not in made:
                made[place.type] = self.value(plain, place.type, None)
            inner, outer = made[place.type], run.resource
            if inner is not None:
                run.resource = value
                inner(run, value, sibling, place)
                run.resource = outer

        return judge

    def invariants(self, node: Node, type: str) -> Iterator[Judge]:
        """The constraints of a node."""
        for constraint in node.facts.get("constraint", ()):
            made = invariant(constraint, type, self.known)
            if isinstance(made, NotJudged):
                self.doubt(Node("", constraint.get("at", node.at)), made.says, made.rule)
            elif made is not None:
                yield made

    def children(self, node: Node, type: str) -> Judge | None:
        """The elements below a node."""
        made = [self.element(child, type) for child in node.children.values()]
        steps = tuple(one for one in made if one is not None)
        if not steps:
            return None
        primitive = type in PRIMITIVES

        def judge(run: Run, value: Any, sibling: Any, place: Place) -> None:
            parent = sibling if primitive else value
            parent = parent if isinstance(parent, dict) else {}
            for step in steps:
                step(run, parent, place)

        return judge

    def element(self, node: Node, parent: str) -> ElementJudge | None:
        """What judges all values of an element below a parent of this type."""
        spelled = _spelled(node.name, parent)
        if spelled is None:
            self.doubt(node, f"names {node.name}, which {parent} does not have")
            return None
        element, members = spelled
        chosen = self._chosen(node, element, parent)
        judges = self._by_type(node, [type for _, type in members], element)
        steps = {type: judge for type, judge in judges.items() if judge is not None}
        low, high = node.low(), node.high()
        base_high = None if element.high == UNBOUNDED else element.high
        exact = node.name != element.name and not node.name.endswith("[x]")
        low = low if low > element.low or exact else 0
        high = None if high == base_high else high
        slicing = self._slicing(node, element, parent)
        if not (steps or low or high is not None or slicing or chosen):
            return None
        count = _Count(element.name, low, high)
        return _element(_gatherer(element, members), steps, count, slicing, chosen)

    def _by_type(self, node: Node, types: list[str], element: Element) -> dict[str, Judge | None]:
        """What judges a value, by type. An element that some types of a choice have is no fault."""
        doubts, judges, found = self.doubts, {}, list[list[Issue]]()
        for type in types:
            self.doubts = []
            judges[type] = self.value(node, type, element)
            found.append(self.doubts)
        everywhere = set.intersection(*({doubt.expression for doubt in one} for one in found))
        self.doubts = doubts
        doubts += [doubt for doubt in found[0] if doubt.expression in everywhere]
        return judges

    def _chosen(self, node: Node, element: Element, parent: str) -> list[ElementJudge]:
        """Slices of a choice that are one type each (value[x]:valueQuantity)."""
        chosen = []
        spelled = {member for member, _ in element.members()} if element.choice else ()
        for name in [name for name in node.slices if name in spelled]:
            judge = self.element(replace(node.slices[name], name=name), parent)
            if judge is not None:
                chosen.append(judge)
        return chosen

    def _slicing(self, node: Node, element: Element, parent: str) -> Slicing | None:
        spelled = dict(element.members()) if element.choice else {}
        left = {name: slice for name, slice in node.slices.items() if name not in spelled}
        if node.facts.get("slicing", {}).get("rules") == "closed":  # to other types too
            left |= {
                name: Node(name, facts={"type": [{"code": spelled[name]}]})
                for name in node.slices.keys() & spelled.keys()
            }
        if not left and "slicing" not in node.facts:
            return None
        node = replace(node, slices=left)

        def value(slice: Node, type: str) -> Judge | None:
            return self.value(slice, type, element)

        return slicing_of(node, element, parent, value, self)


class _Count(NamedTuple):
    """How many values of an element a profile wants."""

    name: str
    low: int
    high: int | None

    def check(self, run: Run, number: int, place: Place) -> None:
        """Notes too few and too many."""
        if number < self.low:
            says = "is missing" if self.low == 1 else f"must be there {self.low} times or more"
            run.add(Place(place, self.name, -1, ""), "required", "cardinality", says)
        elif self.high is not None and number > self.high:
            most = "must not be there" if not self.high else f"may be there {self.high} times"
            run.add(Place(place, self.name, -1, ""), "structure", "cardinality", most)


def _spelled(name: str, parent: str) -> tuple[Element, tuple[tuple[str, str], ...]] | None:
    """An element of a type by the name in a path, and how JSON spells it."""
    definition = definitions().types[parent]
    plain = name.removesuffix("[x]")
    element = definition.elements.get(plain)
    if element is not None:
        return element, element.members()
    found = definition.members.get(name)
    return None if found is None else (found[0], ((name, found[1]),))


def _gatherer(
    element: Element, members: tuple[tuple[str, str], ...]
) -> Callable[[Mapping[str, Any], Place], list[Found]]:
    """All values of an element that a parent has."""
    many, name = element.many, element.name

    def gather(parent: Mapping[str, Any], place: Place) -> list[Found]:
        found: list[Found] = []
        for member, type in members:
            value = parent.get(member)
            beside = parent.get(f"_{member}") if type in PRIMITIVES else None
            if value is None and beside is None:
                continue
            if not many:
                found.append(Found(value, beside, _placed(place, name, -1, type, value)))
                continue
            values = value if isinstance(value, list) else ()
            siblings = beside if isinstance(beside, list) else ()
            for number in range(max(len(values), len(siblings))):
                one = values[number] if number < len(values) else None
                side = siblings[number] if number < len(siblings) else None
                found.append(Found(one, side, _placed(place, name, number, type, one)))
        return found

    return gather


def _placed(place: Place, name: str, number: int, type: str, value: Any) -> Place:
    if type == "Resource" and isinstance(value, dict):
        type = str(value.get("resourceType"))
    return Place(place, name, number, type)


def _element(
    gather: Callable[[Mapping[str, Any], Place], list[Found]],
    steps: Mapping[str, Judge],
    count: _Count,
    slicing: Slicing | None,
    chosen: list[ElementJudge],
) -> ElementJudge:
    of_resources = steps.get("Resource")

    def judge(run: Run, parent: Mapping[str, Any], place: Place) -> None:
        found = gather(parent, place)
        count.check(run, len(found), place)
        for value, sibling, where in found:
            step = steps.get(where.type) or of_resources
            if step is not None:
                step(run, value, sibling, where)
        if slicing is not None:
            slicing.judge(run, found, place)
        for one in chosen:
            one(run, parent, place)

    return judge
