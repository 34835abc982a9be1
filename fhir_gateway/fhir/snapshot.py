"""Snapshots: all elements of a profile, made of its differential and the profile that it rests on.

A differential names what it changes; a snapshot says everything, so that a validator need not look
elsewhere (hl7.org/fhir/R4/profiling.html#snapshot, elementdefinition.html). Elements are found by
their id. Where a differential walks into a type (`Patient.identifier:idCard.system`) the elements
of the type are unfolded there. Pure: definitions come from `resolve`.

What is inherited stays as it is, documentation too; constraints, conditions and aliases add up, all
else is replaced. A slice begins with what its element was before this profile, and need not be
there unless it says so. `valueQuantity` in a path means the slice of value[x] with that type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fhir_gateway.errors import Issue, Unprocessable

BASE = "http://hl7.org/fhir/StructureDefinition/"
Element = dict[str, Any]
Resolve = Callable[[str], Mapping[str, Any] | None]

#: Of an element: what a more specific definition adds to, and never replaces.
_ADDED = ("constraint", "condition", "alias", "mapping")
#: Of an element: what is laid over what is inherited, member by member.
_LAID_OVER = ("binding", "slicing")
#: Of an element: what says where it stands, and is not inherited from a type or an element.
_PLACE = ("id", "path", "sliceName")
_TYPE_SLICING = {"discriminator": [{"type": "type", "path": "$this"}], "ordered": False}
_URL_SLICING = {
    "discriminator": [{"type": "value", "path": "url"}], "ordered": False, "rules": "open",
}  # fmt: skip


def snapshot(
    structure: Mapping[str, Any], resolve: Resolve, *, within: tuple[str, ...] = ()
) -> list[Element]:
    """The elements of the snapshot of a constraint. `resolve` gives a StructureDefinition by url;
    `within` are the urls of those that are being made and need this one.

    Raises Unprocessable with every fault of the differential: elements that the base has not, a
    base or a type that is not known, limits that are wider than the base's, a profile that rests
    on itself.
    """
    own, url = str(structure.get("url", "")), str(structure.get("baseDefinition", ""))
    if own in within:
        raise Unprocessable(
            f"{own} rests on itself: {' < '.join((*within, own))}",
            expression="StructureDefinition.baseDefinition",
            rule="profile-base",
        )
    chain = (*within, own)
    base = resolve(url)
    if base is None:
        raise Unprocessable(
            f"The base definition {url or '(none)'} is not known here",
            expression="StructureDefinition.baseDefinition",
            rule="profile-base",
        )
    draft = _Draft(elements_of(base, resolve, within=chain), resolve, chain)
    for number, given in enumerate(structure.get("differential", {}).get("element", ())):
        draft.where = f"StructureDefinition.differential.element[{number}]"
        draft.apply(given)
    if draft.issues:
        raise Unprocessable(issues=tuple(draft.issues))
    return draft.elements


def elements_of(
    structure: Mapping[str, Any], resolve: Resolve, *, within: tuple[str, ...] = ()
) -> list[Element]:
    """The elements of a definition: its snapshot as copies, generated when it has none."""
    found = structure.get("snapshot", {}).get("element")
    if not found:
        return snapshot(structure, resolve, within=within)
    source = structure.get("url", "")
    return [_sourced(_copy(one), str(source)) for one in found]


class _Draft:
    """A snapshot that is being made. `base` holds every element as it was before this profile."""

    def __init__(self, elements: list[Element], resolve: Resolve, chain: tuple[str, ...]) -> None:
        self.elements = elements
        self.base = {one["id"]: _copy(one) for one in elements}
        self.resolve, self.chain, self.where = resolve, chain, ""
        self.issues: list[Issue] = []

    def apply(self, given: Mapping[str, Any]) -> None:
        """Merges one element of the differential."""
        id = str(given.get("id") or given.get("path", ""))
        found = self.find(id)
        if found is None:
            name = id.rpartition(".")[2] or "(no id)"
            self.fault(f"There is no element {id}: {name} is not an element of what it stands in")
            return
        self.check(found, given)
        merge(found, given, self.chain[-1])

    def fault(self, sentence: str) -> None:
        """Notes a fault of the differential's element."""
        self.issues.append(Issue("invalid", sentence, self.where, "profile-element"))

    def check(self, found: Element, given: Mapping[str, Any]) -> None:
        """Limits may only become narrower (profiling.html#cardinality)."""
        low, high = found.get("min", 0), str(found.get("max", "*"))
        new_low, new_high = given.get("min", low), str(given.get("max", high))
        narrower = _number(new_high) <= _number(high) and (
            new_low >= low or "sliceName" in given or ":" in found["id"]
        )
        if not narrower:
            self.fault(
                f"{found['id']} is {low}..{high} in the base and cannot become "
                f"{new_low}..{new_high}: a profile only narrows"
            )

    # -- finding, unfolding, slicing -------------------------------------------------------------

    def index(self, id: str) -> int:
        """The place of an element, -1 when it is not there."""
        return next((n for n, one in enumerate(self.elements) if one["id"] == id), -1)

    def find(self, id: str) -> Element | None:
        """The element of an id; it is unfolded or sliced into being. None when it cannot be."""
        place = self.index(id)
        if place >= 0:
            return self.elements[place]
        parent, _, last = id.rpartition(".")
        if not parent:
            return None
        holder = self.find(parent)
        if holder is None:
            return None
        self.unfold(holder)
        holder_id, (name, _, slice) = holder["id"], last.partition(":")
        element = self.find_child(holder_id, name)
        if element is None or not slice:
            return element
        place = self.index(f"{element['id']}:{slice}") if ":" not in element["id"] else -1
        return self.elements[place] if place >= 0 else self.slice(element, slice)

    def find_child(self, parent: str, name: str) -> Element | None:
        """The child of this name; valueQuantity finds or makes the slice of value[x]."""
        place = self.index(f"{parent}.{name}")
        if place >= 0:
            return self.elements[place]
        for one in self.children(parent):
            stem = one["id"].rpartition(".")[2].removesuffix("[x]")
            if not one["id"].endswith("[x]") or not name.startswith(stem):
                continue
            for type in one.get("type", ()):
                if f"{stem}{type['code'][0].upper()}{type['code'][1:]}" == name:
                    return self.only(one, name, type)
        return None

    def only(self, choice: Element, name: str, type: Mapping[str, Any]) -> Element:
        """The slice of a choice that a path like valueQuantity means: the one type there is."""
        place = self.index(f"{choice['id']}:{name}")
        if place >= 0:
            return self.elements[place]
        choice["slicing"] = {**_TYPE_SLICING, "rules": "closed"}
        choice["type"] = [_copy(type)]
        return self.slice(choice, name, low=choice.get("min", 0))

    def children(self, parent: str) -> Iterator[Element]:
        """The elements that stand directly in one, slices too."""
        for one in self.elements:
            before, _, last = one["id"].rpartition(".")
            if before == parent and last:
                yield one

    def unfold(self, element: Element) -> None:
        """Puts the elements of its type below an element that has none yet."""
        id = element["id"]
        if any(True for _ in self.children(id)):
            return
        inner = self.inside(element)
        if not inner:
            return
        root = inner[0]["id"]
        made = [_moved(one, root, id, element["path"]) for one in inner[1:]]
        place = self.index(id) + 1
        self.elements[place:place] = made
        self.base |= {one["id"]: _copy(one) for one in made}

    def inside(self, element: Element) -> list[Element]:
        """The element that is unfolded, with what stands in it; empty when nothing does."""
        if reference := element.get("contentReference"):
            id = str(reference).rpartition("#")[2]
            return [_copy(one) for one in self.base.values() if _within(one["id"], id)]
        types = element.get("type", ())
        if len(types) != 1 or "/" in types[0]["code"]:
            return []
        code, profiles = types[0]["code"], types[0].get("profile", ())
        for url in (*profiles[:1], BASE + code):
            definition = self.resolve(url)
            if definition is not None:
                return elements_of(definition, self.resolve, within=self.chain)
        self.fault(f"{element['id']} is a {code}, which is not known here")
        return []

    def slice(self, element: Element, name: str, *, low: int = 0) -> Element:
        """A new slice after all that stands in the element and its other slices."""
        id = element["id"]
        before = self.base.get(id, element)
        inside = [one for key, one in self.base.items() if key.startswith(f"{id}.")]
        made = [_moved(one, id, f"{id}:{name}", element["path"]) for one in (before, *inside)]
        head = made[0]
        head.pop("slicing", None)
        head |= {"sliceName": name, "min": low}
        stem, _, _ = id.rpartition(".")[2].partition("[x]")
        if id.endswith("[x]"):
            kept = [t for t in element["type"] if _member(stem, t["code"]) == name]
            head["type"] = [_copy(one) for one in kept or element["type"]]
            element.setdefault("slicing", {**_TYPE_SLICING, "rules": "open"})
        elif id.endswith("xtension"):
            element.setdefault("slicing", _copy(_URL_SLICING))
        place = max(n for n, one in enumerate(self.elements) if _within(one["id"], id)) + 1
        self.elements[place:place] = made
        self.base |= {one["id"]: _copy(one) for one in made}
        return self.elements[place]


def merge(element: Element, given: Mapping[str, Any], url: str) -> None:
    """Changes an element by what a differential says of it; `url` is the source of constraints."""
    for name, value in given.items():
        if name in _PLACE:
            continue
        if name in _ADDED:
            _add(element, name, value, url)
        elif (name == "binding" and "binding" in element) or (
            name == "slicing" and name in element
        ):
            element[name] = {**element[name], **_copy(value)}
        else:
            _replace(element, name, value)
    if "sliceName" in given:
        element["sliceName"] = given["sliceName"]


def _replace(element: Element, name: str, value: Any) -> None:
    """One of fixed[x], pattern[x], minValue[x], … pushes out its sisters; the rest is replaced.
    Text that begins with ... goes on after what is inherited (elementdefinition.html#interp)."""
    for stem in ("fixed", "pattern", "minValue", "maxValue", "defaultValue"):
        if name.startswith(stem) and name[len(stem) :][:1].isupper():
            for other in [key for key in element if key.startswith(stem)]:
                del element[other]
    if isinstance(value, str) and value.startswith("...") and name in element:
        value = f"{element[name]}\n{value[3:]}"
    element[name] = _copy(value)


def _add(element: Element, name: str, value: Any, url: str) -> None:
    added = list(element.get(name, ()))
    keys = {one["key"]: n for n, one in enumerate(added)} if name == "constraint" else {}
    for one in value:
        if name == "constraint":
            new = {**one, "source": one.get("source", url)}
            if one["key"] in keys:
                added[keys[one["key"]]] = new
            else:
                added.append(new)
        elif one not in added:
            added.append(_copy(one))
    element[name] = added


def _moved(element: Element, root: str, id: str, path: str) -> Element:
    """A copy that stands below another element; path is that of the id without slice names."""
    tail = element["id"][len(root) :]
    plain = ".".join(part.partition(":")[0] for part in tail.split("."))
    moved = {**_copy(element), "id": id + tail, "path": path + plain}
    return {**{name: moved[name] for name in ("id", "path")}, **moved}


def _within(id: str, root: str) -> bool:
    """Whether an id is that of an element, of one of its slices, or of what stands in them."""
    return id == root or (id.startswith(root) and id[len(root)] in ".:")


def _member(stem: str, code: str) -> str:
    return f"{stem}{code[:1].upper()}{code[1:]}"


def _number(high: str) -> float:
    return float("inf") if high == "*" else float(high)


def _sourced(element: Element, url: str) -> Element:
    for one in element.get("constraint", ()):
        one.setdefault("source", url)
    return element


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copy(one) for name, one in value.items()}
    return [_copy(one) for one in value] if isinstance(value, list) else value
