"""Where each element of a Bundle came from: which field of the message, and by which table or rule.

No mapper knows of it. One field after the other is taken away or changed a little, the message is
mapped again, and what differs follows from that field. What the texts share says how (copied, by a
table, a time); what no field changes is from the institution's entry or always so. A refusal while
a field is missing says that it is required. So an explanation cannot disagree with the mapping.

Pure, and the same each time. The work is bounded: beyond it fields are left out and named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, NamedTuple, Protocol

from fhir_gateway.errors import GatewayError
from fhir_gateway.mapping.origins_diff import Leaf, differing, leaves, shown
from fhir_gateway.mapping.origins_how import is_key, relation
from fhir_gateway.mapping.origins_vary import other_codes, variants
from fhir_gateway.mapping.tables import Lookup, Table, heard, normal

#: Fields of a message times the readings of it: about two seconds.
WORK = 300_000


class Atom(NamedTuple):
    """The smallest part of a message that says something: its place, its content, and where the
    source keeps it. A `whole` is a segment, a row or an element, which can only be taken away;
    `read` is what the source itself makes of the content, "" where it takes it as it is. `inside`
    is the place of a whole of which nothing needs to be looked at where nothing follows from it."""

    place: str
    text: str
    where: tuple[Any, ...]
    whole: bool = False
    read: str = ""
    inside: str = ""


class Source(Protocol):
    """A message that can be read otherwise than it came: v2, rows of a table, a document."""

    @property
    def atoms(self) -> Sequence[Atom]:
        """All that it says, in its order."""

    @property
    def tables(self) -> Mapping[str, Table]:
        """The tables that it may be read by."""

    def map(self, atom: Atom | None, text: str) -> list[dict[str, Any]]:
        """The resources where the content of `atom` is this text, "" for nothing; None: as it
        came. Raises GatewayError as the mapping does."""

    def elsewhere(self) -> list[tuple[str, list[dict[str, Any]]]]:
        """The resources, were something else another that is told of the sender once and for all
        (its entry in the registry, the constants of a map): what it is, and the resources."""


class Origin(NamedTuple):
    """Where one value came from. `sources` say it, `also` have a say in whether and how."""

    resource: str  # "Observation/id"
    number: int  # its place in the Bundle
    path: str  # "valueQuantity.value"
    value: str
    how: str  # of HOW
    detail: str
    sources: tuple[Atom, ...]
    also: tuple[Atom, ...]

    @property
    def element(self) -> str:
        """`Observation.valueQuantity.value`."""
        return f"{self.resource.partition('/')[0]}.{self.path}"


@dataclass(slots=True)
class Seen:
    """What was seen of one field: what differs by it, and what refused the message without it."""

    atom: Atom
    changed: dict[Leaf, str | None] = field(default_factory=dict)
    removed: dict[Leaf, str | None] = field(default_factory=dict)
    lookups: list[Lookup] = field(default_factory=list)
    required: GatewayError | None = None
    checked: GatewayError | None = None

    @property
    def is_used(self) -> bool:
        """Whether anything follows from it."""
        return bool(self.changed or self.removed or self.required or self.checked)


class Explained(NamedTuple):
    """The resources, the origin of each of their values, what was seen of each field, and the
    fields that were left out because the message is too large."""

    resources: list[dict[str, Any]]
    origins: list[Origin]
    fields: list[Seen]
    left_out: list[Atom]


#: Adds what the gateway adds to mapped resources (catalogue codings), in place.
Finish = Callable[[list[dict[str, Any]]], None]


def explain(
    source: Source, *, finish: Finish | None = None, only: Iterable[Atom] | None = None,
    work: int = WORK,
) -> Explained:  # fmt: skip
    """The origins of all values of a message; with `only`, as far as these fields tell.

    Raises GatewayError where the message as it came is refused.
    """
    steps = explaining(source, finish=finish, only=only, work=work)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: Explained = end.value
            return found


def explaining(
    source: Source, *, finish: Finish | None = None, only: Iterable[Atom] | None = None,
    work: int = WORK,
) -> Generator[None, None, Explained]:  # fmt: skip
    """The same in steps of a few readings, for whoever has other work to do in between."""
    resources, lookups = _read(source, None, "")
    plain = {(n, path) for n, one in enumerate(resources) for path, _ in leaves(one)}
    if finish is not None:
        finish(resources)
    probe = _Probe(source, finish, resources, lookups)
    asked = list(source.atoms if only is None else only)
    seen: list[Seen] = []
    left_out: list[Atom] = []
    idle: set[str] = set()  # wholes from which nothing follows
    for atom in asked:
        if atom.inside in idle:
            seen.append(Seen(atom))
        elif probe.readings * len(source.atoms) > work:
            left_out.append(atom)
        else:
            seen.append(probe.of(atom))
        if atom.whole and seen and seen[-1].atom is atom and not seen[-1].is_used:
            idle.add(atom.place)
        yield
    institution = probe.institution() if only is None else {}
    origins = yield from _origins(resources, seen, institution, plain)
    if left_out:  # what nobody looked at is not said to be always so
        origins = [
            one._replace(how="unseen") if one.how == "rule" and not one.sources else one
            for one in origins
        ]
    return Explained(resources, origins, seen, left_out)


def _read(
    source: Source, atom: Atom | None, text: str
) -> tuple[list[dict[str, Any]], list[Lookup]]:
    with heard() as lookups:
        resources = source.map(atom, text)
    return resources, lookups


class _Probe:
    """Reads a message again and again, each time otherwise in one field."""

    def __init__(
        self, source: Source, finish: Finish | None, base: list[dict[str, Any]],
        lookups: list[Lookup],
    ) -> None:  # fmt: skip
        self.source, self.finish, self.base, self.lookups = source, finish, base, lookups
        self.readings = 1

    def of(self, atom: Atom) -> Seen:
        """What follows from one field."""
        seen = Seen(atom)
        seen.removed, seen.required, _ = self._differing(atom, "")
        if atom.whole:
            return seen
        others = [*variants(atom.text)]
        others += other_codes(atom.read or atom.text, self.lookups, dict(self.source.tables))
        for text in others:
            found, refusal, heard_of = self._differing(atom, text)
            seen.lookups += self._own(atom, heard_of, refused=refusal is not None)
            seen.checked = seen.checked or refusal
            for leaf, value in found.items():
                if seen.changed.get(leaf) is None:
                    seen.changed[leaf] = value
        return seen

    def _differing(
        self, atom: Atom, text: str
    ) -> tuple[dict[Leaf, str | None], GatewayError | None, list[Lookup]]:
        self.readings += 1
        with heard() as lookups:
            try:
                resources = self.source.map(atom, text)
            except GatewayError as refusal:
                return {}, refusal, lookups
        return self._beside(resources), None, lookups

    def _own(self, atom: Atom, lookups: list[Lookup], *, refused: bool) -> list[Lookup]:
        """What tables are asked only for the atom's own content: with another one they are not.
        A refusal ends a reading, so that of what was not asked any more only the first counts."""
        key = normal(atom.read or atom.text)
        if refused:
            pairs = zip_longest(self.lookups, lookups)
            missing = [next((one for one, other in pairs if one != other), None)]
        else:
            missing = [*(Counter(self.lookups) - Counter(lookups))]
        return [one for one in missing if one is not None and one.received == key and one.row]

    def _beside(self, resources: list[dict[str, Any]]) -> dict[Leaf, str | None]:
        if self.finish is not None:
            self.finish(resources)
        return differing(self.base, resources)

    def institution(self) -> dict[Leaf, str]:
        """The leaves that are otherwise where the institution's entry is another, by its part."""
        found: dict[Leaf, str] = {}
        for part, resources in self.source.elsewhere():
            for leaf in self._beside(resources):
                found.setdefault(leaf, part)
        return found


def _origins(
    resources: list[dict[str, Any]], seen: Sequence[Seen], institution: Mapping[Leaf, str],
    plain: set[Leaf],
) -> Generator[None, None, list[Origin]]:  # fmt: skip
    by_leaf: dict[Leaf, list[Seen]] = {}
    for one in seen:
        for leaf in one.changed.keys() | one.removed.keys():
            by_leaf.setdefault(leaf, []).append(one)
    said: dict[str, list[Atom]] = {}
    for one in seen:
        if len(one.atom.text) > 1:
            said.setdefault(normal(one.atom.text), []).append(one.atom)
    origins = []
    for n, resource in enumerate(resources):
        name = f"{resource['resourceType']}/{resource.get('id', '')}"
        for path, value in leaves(resource):
            leaf = n, path
            ground = _Ground(leaf, shown(value), by_leaf.get(leaf, []), institution.get(leaf, ""))
            how, detail, sources = ground.judge(is_plain=leaf in plain)
            if how == "rule" and len(alike := said.get(normal(ground.value), ())) > 1:
                how, sources = "equal", tuple(alike)
            also = tuple(one.atom for one in ground.seen if one.atom not in sources)
            also = tuple(atom for atom in also if not atom.whole)
            origins.append(Origin(name, n, path, ground.value, how, detail, sources, also))
        yield
    return origins


class _Ground(NamedTuple):
    """What is known of one value: the fields that it differs by, and the institution's part."""

    leaf: Leaf
    value: str
    seen: Sequence[Seen]
    institution: str

    def judge(self, *, is_plain: bool) -> tuple[str, str, tuple[Atom, ...]]:
        """How the value came about, by what, and of which fields."""
        strong = [one for one in self.seen if one.changed.get(self.leaf) is not None]
        if not is_plain:
            return "added", "", self._atoms(strong or self.seen)
        if is_key(self.leaf[1]) and strong:
            return "key", "", self._atoms(strong)
        if found := self._related(strong):
            return found
        if strong:
            return "computed", self.institution, self._atoms(strong)
        if self.institution:
            return "institution", self.institution, ()
        occasions = [one for one in self.seen if not one.atom.whole] or self.seen
        return "rule", "", self._atoms(occasions)

    def _related(self, strong: Sequence[Seen]) -> tuple[str, str, tuple[Atom, ...]] | None:
        """By the first way in which the text of a field shows itself in the value; what is put
        together has all fields as its source that change it."""
        told = [
            (one, *relation(one.atom.read or one.atom.text, self.value, one.lookups))
            for one in self.seen
            if not one.atom.whole and one.atom.text
        ]
        for ways in (("copied",), ("table",), ("time", "number", "unit"), ("joined",), ("part",)):
            found = [row for row in told if row[1] in ways]
            if found:
                own = [one for one, _, _ in found]
                if ways == ("joined",):
                    own = [one for one in self.seen if one in own or one in strong]
                return found[0][1], found[0][2], self._atoms(own)
        return None

    @staticmethod
    def _atoms(seen: Iterable[Seen]) -> tuple[Atom, ...]:
        return tuple(one.atom for one in seen)
