"""$expand: a value set with the list of its codes (FHIR R4 valueset-operation-expand.html).

Codes come in the order of the definition; with a filter, those that fit best first. A page has a
place in that order which does not move, so pages neither repeat a code nor drop one. Codes are
nested as their system nests them, but for a page, a filter and excludeNested, which are flat.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from fhir_gateway.errors import TooCostly
from fhir_gateway.terminology.compose import NO_PINS, Pins
from fhir_gateway.terminology.compose_filters import values_of
from fhir_gateway.terminology.compose_members import Member, is_open
from fhir_gateway.terminology.expansion_members import Listing
from fhir_gateway.terminology.service_names import display_of, names_of, speaks
from fhir_gateway.terminology.system import PropertyValue, System

#: Codes in one answer.
MOST_ANSWERED = 10_000

#: Codes below one another in an answer; a deeper one is flat. An object in a body may lie 64 deep.
MOST_NESTED = 25

#: Codes above one that are looked at to find the next one that is shown.
_MOST_ABOVE = 200

_R5 = "http://hl7.org/fhir/5.0/StructureDefinition/extension-ValueSet.expansion."
_UNCLOSED = "http://hl7.org/fhir/StructureDefinition/valueset-unclosed"
_LANGUAGES = "urn:ietf:bcp:47"
#: Elements that an expansion does not repeat unless the definition is asked for.
_DEFINITION = ("compose", "contained")
_OUTSIDE = ("id", "meta", "text", "expansion", "implicitRules")

Json = dict[str, Any]
Key = tuple[str, str]


class Expanding(NamedTuple):
    """What is asked of an expansion; the names are those of R4's parameters, `most` is count."""

    filter: str = ""
    offset: int | None = None
    most: int | None = None
    active_only: bool = False
    include_designations: bool = False
    designations: tuple[str, ...] = ()
    include_definition: bool = False
    exclude_nested: bool = False
    exclude_not_for_ui: bool = False
    display_language: str = ""
    properties: tuple[str, ...] = ()
    pins: Pins = NO_PINS
    date: str = ""
    identifier: str = ""
    timestamp: str = ""


PLAIN = Expanding()


def expansion(listing: Listing, asked: Expanding) -> Json:
    """The ValueSet with its expansion. Raises TooCostly, NotFound."""
    found: Sequence[Member] = (
        listing.matching(asked.filter) if asked.filter.strip() else listing.members
    )
    if asked.active_only:
        found = [one for one in found if not one.concept.inactive]
    if asked.exclude_not_for_ui:
        found = [one for one in found if not one.concept.abstract]
    offset, shown = asked.offset or 0, found
    if asked.most is not None or offset:
        end = None if asked.most is None else offset + asked.most
        shown = found[offset:end]
    if len(shown) > MOST_ANSWERED:
        raise TooCostly(
            f"The answer would have {len(shown)} codes, {MOST_ANSWERED} at most; ask for pages by "
            "offset and count, or for less by filter",
            expression="count",
            rule="expansion-size",
        )
    body: Json = {
        "extension": _extensions(listing, asked),
        "identifier": asked.identifier,
        "timestamp": asked.timestamp,
        "total": len(found),
        "offset": asked.offset if asked.offset is not None or asked.most is None else 0,
        "parameter": list(_parameters(listing, asked)),
        "contains": _contains(shown, asked),
    }
    kept = {name: value for name, value in body.items() if value not in ("", [], None)}
    return {**_head(listing, asked), "expansion": kept}


def _head(listing: Listing, asked: Expanding) -> Json:
    """What the value set says of itself, and the notices of the systems whose codes are shown."""
    resource = listing.composed.resource
    left_out = _OUTSIDE if asked.include_definition else (*_OUTSIDE, *_DEFINITION)
    head = {name: value for name, value in resource.items() if name not in left_out}
    notices = dict.fromkeys([resource.get("copyright", ""), *_notices(listing)])
    said = "\n\n".join(one for one in notices if one)
    if said:
        head["copyright"] = said
    return {"resourceType": "ValueSet", "status": "active", **head}


def _notices(listing: Listing) -> Iterator[str]:
    for system in listing.systems().values():
        if system is not None:
            yield system.notice


def _extensions(listing: Listing, asked: Expanding) -> list[Json]:
    found: list[Json] = []
    systems = [one for one in listing.systems().values() if one is not None]
    if is_open(listing.composed) or any(one.content != "complete" for one in systems):
        found.append({"url": _UNCLOSED, "valueBoolean": True})
    for name in asked.properties:
        inner = [{"url": "code", "valueCode": name}]
        found.append({"url": f"{_R5}property", "extension": inner})
    return found


def _parameters(listing: Listing, asked: Expanding) -> Iterator[Json]:
    """What controlled the expansion, and which systems it used (R4: version)."""
    plain: Sequence[tuple[str, str, Any]] = (
        ("filter", "valueString", asked.filter),
        ("activeOnly", "valueBoolean", asked.active_only),
        ("includeDesignations", "valueBoolean", asked.include_designations),
        ("excludeNested", "valueBoolean", asked.exclude_nested),
        ("excludeNotForUI", "valueBoolean", asked.exclude_not_for_ui),
        ("displayLanguage", "valueCode", asked.display_language),
    )
    for name, element, value in plain:
        if value:
            yield {"name": name, element: value}
    for name, number in (("offset", asked.offset), ("count", asked.most)):
        if number is not None:
            yield {"name": name, "valueInteger": number}
    if asked.date:
        yield {"name": "date", "valueDateTime": asked.date}
    for name, texts in (("designation", asked.designations), ("property", asked.properties)):
        yield from ({"name": name, "valueString": one} for one in texts)
    yield from _pinned(asked.pins)
    for system, version in listing.systems():
        named = f"{system}|{version}" if version else system
        yield {"name": "used-codesystem", "valueUri": named}
        if version:
            yield {"name": "version", "valueUri": named}


def _pinned(pins: Pins) -> Iterator[Json]:
    for name, canonicals in (
        ("system-version", pins.default),
        ("check-system-version", pins.check),
        ("force-system-version", pins.force),
        ("exclude-system", pins.excluded),
    ):
        for pin in canonicals:
            yield {"name": name, "valueUri": f"{pin.url}|{pin.version}".rstrip("|")}


# -- codes ---------------------------------------------------------------------------------------


def _contains(shown: Sequence[Member], asked: Expanding) -> list[Json]:
    flat = asked.exclude_nested or asked.filter.strip() or asked.most is not None or asked.offset
    if flat:
        return [_told(one, asked) for one in shown]
    return _nested(shown, asked)


def _nested(shown: Sequence[Member], asked: Expanding) -> list[Json]:
    """Each code below the nearest one above it that is shown too; each code once. Flat when the
    codes lie too deep, which those of a hierarchy in a circle do without end."""
    told = {one.key: _told(one, asked) for one in shown}
    above = {one.key: key for one in shown if (key := _above(one, told)) is not None}
    if above and not _is_shallow(above):
        return list(told.values())
    tops: list[Json] = []
    for key, one in told.items():
        if key in above:
            told[above[key]].setdefault("contains", []).append(one)
        else:
            tops.append(one)
    return tops


def _is_shallow(above: Mapping[Key, Key]) -> bool:
    """Whether no code lies deeper than may be told."""
    for key in above:
        at: Key | None = key
        for _ in range(MOST_NESTED):
            at = above.get(at) if at is not None else None
        if at is not None:
            return False
    return True


def _above(one: Member, shown: Container[Key]) -> Key | None:
    if one.found is None:
        return None
    seen, level = {one.concept.code}, [one.concept.code]
    while level and len(seen) <= _MOST_ABOVE:
        parents = [up for code in level for up in one.found.parents(code) if up not in seen]
        for parent in parents:
            if (one.system, parent) in shown:
                return one.system, parent
        seen.update(parents)
        level = parents
    return None


def _told(one: Member, asked: Expanding) -> Json:
    concept = one.concept
    told: Json = {
        "extension": [
            {"url": f"{_R5}contains.property", "extension": property}
            for property in _properties(one, asked.properties)
        ],
        "system": one.system,
        "abstract": concept.abstract,
        "inactive": concept.inactive,
        "version": one.version,
        "code": concept.code,
        "display": display_of(concept, one.found, asked.display_language),
        "designation": list(_designations(one, asked)),
    }
    return {name: value for name, value in told.items() if value not in ("", [], False)}


def _designations(one: Member, asked: Expanding) -> Iterator[Json]:
    """The names that are asked for: all of them, or those of a language or a use."""
    if not asked.include_designations and not asked.designations:
        return
    for name in names_of(one.concept, one.found):
        if asked.designations and not any(_meant(name, token) for token in asked.designations):
            continue
        told: Json = {"language": name.language} if name.language else {}
        if name.use is not None:
            told["use"] = {"system": name.use[0], "code": name.use[1]}
            told["use"] = {key: value for key, value in told["use"].items() if value}
        yield told | {"value": name.value}


def _meant(name: Any, token: str) -> bool:
    system, _, code = token.rpartition("|")
    if system in ("", _LANGUAGES) and speaks(name.language, code):
        return True
    return name.use is not None and name.use[1] == code and system in ("", name.use[0])


def _properties(one: Member, names: Iterable[str]) -> Iterator[list[Json]]:
    system = one.found
    if system is None:
        return
    for name in names:
        types = {held.type for held in one.concept.properties if held.code == name}
        for value in values_of(one.concept, name, system):
            told = told_value(value, next(iter(types)) if len(types) == 1 else "", system, name)
            yield [{"url": "code", "valueCode": name}, {"url": "value", **told}]


#: FHIR types of properties that are told as they are.
_TYPES = {"code": "valueCode", "string": "valueString", "integer": "valueInteger",
          "boolean": "valueBoolean", "dateTime": "valueDateTime",
          "decimal": "valueDecimal"}  # fmt: skip


def told_value(value: PropertyValue, type: str, system: System, name: str = "") -> Json:
    """The value of a property as a value[x]."""
    if type == "coding" and isinstance(value, str):
        url, _, code = value.rpartition("|")
        return {"valueCoding": {"system": url or system.url, "code": code}}
    if isinstance(value, bool):
        return {"valueBoolean": value}
    if isinstance(value, int):
        return {"valueInteger": value}
    if isinstance(value, float | Decimal):
        return {"valueDecimal": value}
    if not type:
        type = "code" if name in ("concept", "code", "parent", "child") else "string"
    return {_TYPES.get(type, "valueString"): value}
