"""A resource cut to what was asked for: _summary and _elements (hl7.org/fhir/R4/search.html
#summary, #elements).

What is cut away is known by HL7's own definitions (isSummary, isModifier, cardinality). Elements
that change the meaning of others and mandatory ones always stay, and so do id and meta. A resource
that lost anything carries the tag SUBSETTED, and may not be written back. Only the members of the
levels that are cut are looked at; everything else stays the stored bytes, numbers as spelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.errors import Invalid, Unprocessable
from fhir_gateway.fhir.definitions import Element, TypeDefinition, definitions
from fhir_gateway.fhir.wire import render
from fhir_gateway.search.params import parse_parameter, shown
from fhir_gateway.search.results import elements
from fhir_gateway.store.store import Stored

SUBSETTED = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "SUBSETTED",
    "display": "subsetted",
}

#: Members of every resource that no cut takes away.
_ALWAYS = frozenset({"resourceType", "id", "meta"})
#: Members of every datatype that stay as they are: an extension may say what a value lacks.
_WITH_DATA = frozenset({"id", "extension", "modifierExtension"})
_TAG = render(SUBSETTED)

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_array = msgspec.json.Decoder(list[msgspec.Raw])


class Shape(NamedTuple):
    """What to show of each resource: one of the two, or everything."""

    summary: str = ""
    elements: tuple[str, ...] = ()

    @property
    def cuts(self) -> bool:
        """True when resources may lose something."""
        return bool(self.elements) or self.summary in ("true", "text", "data")


WHOLE = Shape()


def read_shape(type: str, pairs: Sequence[tuple[str, str]]) -> Shape:
    """The shape that a read asks for.

    Raises Invalid for any other parameter, for what is given twice, for both together, and for
    elements that the type does not have.
    """
    given: dict[str, str] = {}
    for name, text in pairs:
        if name not in ("_summary", "_elements"):
            raise Invalid(
                f"A read takes _summary, _elements, _format and _pretty, not {shown(name)}",
                expression=shown(name),
                rule="parameter",
            )
        if name in given:
            raise Invalid(f"{name} is given twice", expression=name, rule="parameter")
        given[name] = text
    if len(given) == 2:
        raise Invalid("Ask for _summary or for _elements", expression="_elements", rule="shape")
    summary = given.get("_summary", "")
    if "_summary" in given and summary not in ("true", "text", "data", "false"):
        raise Invalid(
            "_summary of a read is true, text, data or false", expression="_summary", rule="shape"
        )
    if "_elements" not in given:
        return Shape(summary)
    names = parse_parameter("_elements", given["_elements"]).values
    return Shape(elements=elements(type, names))


def shape(stored: Stored, *, summary: str = "", elements: tuple[str, ...] = ()) -> bytes:
    """A stored resource as JSON, cut as asked; whole when nothing is.

    `elements` keeps the elements of these names, as far as the type has them. `summary` is one of
    _summary; count and false cut nothing here.
    """
    whole = stored.whole()
    if elements:
        return _cut(whole, _by_name(stored.type, elements))
    if summary == "true":
        return _cut(whole, _summary(stored.type))
    if summary == "text":
        return _cut(whole, _text(stored.type))
    if summary == "data":
        return _without_text(whole)
    return whole


def cut(stored: Stored, wanted: Shape) -> Stored:
    """A stored resource with a tail that is cut as asked: what `shape` gives, as a Stored."""
    if not wanted.cuts:
        return stored
    shown = shape(stored, summary=wanted.summary, elements=wanted.elements)
    head = len(stored.whole()) - len(stored.tail)  # id, version and time: no cut changes them
    return stored._replace(tail=shown[head:])


def check_whole(resource: Mapping[str, Any], root: str) -> None:
    """Raises Unprocessable for a resource that was cut: stored, it would lose the rest.

    `root` is where it stands in the request.
    """
    meta = resource.get("meta")
    if meta is None or "tag" not in meta:
        return
    for tag in meta["tag"]:
        if tag.get("code") == SUBSETTED["code"] and tag.get("system") == SUBSETTED["system"]:
            raise Unprocessable(
                "This resource was read in part (its tag SUBSETTED says so) and would lose what it "
                "does not show; read it whole and change that",
                expression=f"{root}.meta.tag",
                rule="subsetted",
            )


# -- what stays ------------------------------------------------------------------------------


class _Kept(NamedTuple):
    """The members of one level that stay; `inside` are the types of those that are cut too."""

    members: frozenset[str]
    inside: Mapping[str, str]


@lru_cache(maxsize=1_024)
def _by_name(type: str, names: tuple[str, ...]) -> _Kept:
    chosen = frozenset(names)

    def stays(element: Element, member: str) -> bool:
        return element.name in chosen or member in chosen or _matters(element)

    definition = definitions().types[type]
    kept = {name for name, (element, _) in definition.members.items() if stays(element, name)}
    return _Kept(_with_twins(kept | _ALWAYS), {})


@lru_cache(maxsize=256)
def _text(type: str) -> _Kept:
    members = definitions().types[type].members
    kept = {name for name, (element, _) in members.items() if _matters(element)}
    return _Kept(_with_twins(kept | _ALWAYS | {"text"}), {})


@lru_cache(maxsize=1_024)
def _summary(type: str) -> _Kept:
    definition = definitions().types[type]
    data = _is_data(type)
    kept, inside = set(_WITH_DATA if data else ()), dict[str, str]()
    for name, (element, child) in definition.members.items():
        if name in _WITH_DATA and data:
            continue
        if element.summary or _matters(element):
            kept.add(name)
            if not _is_plain(child):
                inside[name] = child
    if definition.kind == "resource":
        kept |= _ALWAYS
        inside.pop("meta", None)
    return _Kept(_with_twins(kept), inside)


def _is_data(type: str) -> bool:
    """True for a datatype and what is inside one, not for the parts of a resource."""
    return definitions().types[type.partition(".")[0]].kind == "datatype"


def _matters(element: Element) -> bool:
    """True for what no cut may take: mandatory, or changing the meaning of the rest."""
    return element.low > 0 or element.modifier


def _with_twins(members: set[str] | frozenset[str]) -> frozenset[str]:
    """With the members that carry the extensions of primitives."""
    return frozenset(members) | {f"_{name}" for name in members}


@lru_cache(maxsize=1_024)
def _is_plain(type: str) -> bool:
    """True for a type of which a summary takes nothing away, at any depth."""
    return _all_plain(type, set())


def _all_plain(type: str, seen: set[str]) -> bool:
    definition = definitions().types.get(type)
    if definition is None or type in seen or not _is_cut(definition):
        return True
    seen.add(type)
    data = _is_data(type)
    return all(
        (data and element.name in _WITH_DATA)
        or (
            (element.summary or _matters(element))
            and all(_all_plain(t, seen) for t in element.types)
        )
        for element in definition.elements.values()
    )


def _is_cut(definition: TypeDefinition) -> bool:
    """True for types whose members a summary looks at: what is inside an extension that stays,
    or a resource inside another, stays whole."""
    return definition.kind in ("datatype", "backbone") and definition.name != "Extension"


# -- cutting ---------------------------------------------------------------------------------


def _cut(whole: bytes, kept: _Kept) -> bytes:
    members = _object.decode(whole)
    shown = _members(members, kept)
    return whole if shown is None else tagged(shown)


def _members(members: dict[str, msgspec.Raw], kept: _Kept) -> dict[str, msgspec.Raw] | None:
    """The members that stay; None when all of them do, as they are."""
    shown = {name: value for name, value in members.items() if name in kept.members}
    changed = len(shown) < len(members)
    for name in kept.inside.keys() & shown.keys():
        value = _value(bytes(shown[name]), kept.inside[name])
        if value is not None:
            shown[name], changed = msgspec.Raw(value), True
    return shown if changed else None


def _value(value: bytes, type: str) -> bytes | None:
    """A cut value of one type, or a list of them; None when nothing is cut away."""
    if value[:1] == b"[":
        before = _array.decode(value)
        after = [_value(bytes(one), type) for one in before]
        if not any(one is not None for one in after):
            return None
        pairs = zip(before, after, strict=True)
        return render([old if new is None else msgspec.Raw(new) for old, new in pairs])
    if value[:1] != b"{":
        return None  # null, in a list of primitives with extensions
    shown = _members(_object.decode(value), _summary(type))
    return render(shown) if shown else None  # nothing would be left: it stays as it is


def _without_text(whole: bytes) -> bytes:
    members = _object.decode(whole)
    if members.pop("text", None) is None:
        return whole
    return tagged(members)


def tagged(members: dict[str, msgspec.Raw]) -> bytes:
    """The members as JSON, with the tag that says that others are missing."""
    meta = _object.decode(members["meta"])
    tags = _array.decode(meta["tag"]) if "tag" in meta else []
    meta["tag"] = msgspec.Raw(render([*tags, msgspec.Raw(_TAG)]))
    return render({**members, "meta": msgspec.Raw(render(meta))})
