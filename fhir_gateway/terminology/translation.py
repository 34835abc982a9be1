"""$translate: what a code is in another system (FHIR R4 conceptmap-operation-translate.html).

A target that depends on other elements (specimen, unit, method) is a match only when these were
given and fit; what could have matched with more said is told, and never guessed. A target that
does not hold today (mapping-period) is none. An institution's map of its own codes speaks for that
institution: where no map is named, others' are left out. What a map says
of codes that it does not list (unmapped) is followed, through other maps as far as it leads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fhir_gateway.errors import NotFound, TooCostly, Unprocessable
from fhir_gateway.terminology.local_map_reading import about
from fhir_gateway.terminology.local_map_resource import PERIOD_URL
from fhir_gateway.terminology.service_library import Library, Resource, canonical
from fhir_gateway.terminology.service_names import display_of
from fhir_gateway.terminology.service_validate import Coding

#: Maps that are followed for one code, by unmapped and other-map.
_MOST_MAPS = 20

#: Equivalence is said of the target; from the target's side it reads the other way round.
_REVERSED: Mapping[str, str] = {
    "wider": "narrower", "narrower": "wider",
    "subsumes": "specializes", "specializes": "subsumes",
}  # fmt: skip
_NO_MATCH = frozenset({"unmatched", "disjoint"})


class Dependency(NamedTuple):
    """Something that is known beside the code: an element, and the values that it has."""

    element: str
    values: frozenset[tuple[str, str]]  # (system, code); a text has no system


class Translating(NamedTuple):
    """What is asked. `map` is one map; without it all maps count that `source` and `target` (value
    sets) and `target_system` let through. Of maps of local codes those of `institution` count,
    with None those of all."""

    map: Resource | None = None
    url: str = ""
    version: str = ""
    source: str = ""
    target: str = ""
    target_system: str = ""
    dependencies: tuple[Dependency, ...] = ()
    reverse: bool = False
    language: str = ""
    institution: str | None = None


class Product(NamedTuple):
    """A further value that a mapping gives for another element."""

    element: str
    coding: Coding


class Match(NamedTuple):
    """One answer. `coding` is None where a map says that there is no match."""

    equivalence: str
    coding: Coding | None
    products: tuple[Product, ...]
    source: str
    comment: str = ""


class Translated(NamedTuple):
    """`result` is True when something matched; `message` says why not, or what would be needed."""

    result: bool
    message: str
    matches: tuple[Match, ...]


def translated(coding: Coding, asked: Translating, library: Library) -> Translated:
    """The translations of a code. Raises NotFound for an unknown map, Unprocessable for maps that
    lead to one another in a circle."""
    maps = list(_maps(asked, library))
    finder = _Finder(asked, library)
    for one in maps:
        finder.follow(one, coding, ())
    matches = tuple(dict.fromkeys(finder.found))
    result = any(one.coding is not None and one.equivalence not in _NO_MATCH for one in matches)
    return Translated(result, finder.message(maps, coding, result), matches)


def _maps(asked: Translating, library: Library) -> Iterator[Resource]:
    if asked.map is not None:
        yield asked.map
        return
    if asked.url:
        url, version = canonical(asked.url)
        found = library.concept_map(url, version or asked.version)
        if found is None:
            raise NotFound(
                f"The concept map {asked.url[:300]} is not known here", expression="url",
                rule="map-unknown",
            )  # fmt: skip
        yield found
        return
    source, target = ("target", "source") if asked.reverse else ("source", "target")
    for one in library.concept_maps():
        if not _is_for(asked.institution, one):
            continue
        if _speaks_of(one, source, asked.source) and _speaks_of(one, target, asked.target):
            yield one


def _is_for(institution: str | None, map: Resource) -> bool:
    told = about(map)
    if told is None:
        return True
    return told.status == "active" and institution in (None, told.institution)


def _speaks_of(map: Resource, side: str, value_set: str) -> bool:
    """Whether a map is from, or to, a value set; every map is when none is asked for."""
    if not value_set:
        return True
    named = map.get(f"{side}Uri") or map.get(f"{side}Canonical") or ""
    return canonical(named).url == canonical(value_set).url


class _Finder:
    """Gathers the matches of one code in one map after another."""

    def __init__(self, asked: Translating, library: Library) -> None:
        self._asked = asked
        self._library = library
        self._followed = 0
        self.found: list[Match] = []
        self.needed: dict[str, None] = {}
        self.listed = False

    def message(self, maps: Sequence[Resource], coding: Coding, result: bool) -> str:
        """Why there is no match, or what would have to be said for more."""
        if self.needed:
            names = ", ".join(self.needed)
            return f"There are mappings that depend on {names}; send it as dependency"
        if result:
            return ""
        if not maps:
            return "No concept map here fits what was asked"
        if self.listed:
            return "The code is mapped to nothing"
        return f"No concept map that was asked knows this code of {coding.system[:200] or '?'}"

    def follow(self, map: Resource, coding: Coding, trail: tuple[str, ...]) -> None:
        """Adds the matches of a map and of those that it hands the code on to."""
        self._followed += 1
        if self._followed > _MOST_MAPS * max(1, len(self._library.concept_maps())):
            raise TooCostly("The code is handed on through too many maps", rule="map-circular")
        name = f"{map.get('url', '#')}|{map.get('version', '')}".rstrip("|")
        if name in trail or len(trail) >= _MOST_MAPS:
            raise Unprocessable(
                f"These concept maps lead to one another in a circle: "
                f"{' → '.join([*trail, name])[:600]}",
                expression="ConceptMap.group.unmapped.url",
                rule="map-circular",
            )
        for group in map.get("group", ()):
            if self._asked.reverse:
                self._backward(map, group, coding)
            elif self._is_meant(group, coding):
                self._forward(map, group, coding, (*trail, name))

    def _is_meant(self, group: Resource, coding: Coding) -> bool:
        source, target = group.get("source", ""), group.get("target", "")
        if coding.system and source and source != coding.system:
            return False
        return not self._asked.target_system or target in ("", self._asked.target_system)

    # -- from source to target -------------------------------------------------------------------

    def _forward(
        self, map: Resource, group: Resource, coding: Coding, trail: tuple[str, ...]
    ) -> None:
        elements = [
            one
            for one in group.get("element", ())
            if self._is_same(group.get("source", ""), one.get("code"), coding.code)
        ]
        if not elements:
            self._unmapped(map, group, coding, trail)
        for element in elements:
            self.listed = True
            for target in element.get("target", ()):
                if self._holds(target) and self._fits(target.get("dependsOn", ())):
                    self._match(map, group, target)

    def _holds(self, target: Resource) -> bool:
        """Whether a target holds today; a map whose targets do not say when holds always."""
        today = self._library.today
        return not today or all(
            said.get("start", "")[:10] <= today <= (said.get("end", "")[:10] or today)
            for one in target.get("extension", ())
            if one.get("url") == PERIOD_URL and (said := one.get("valuePeriod", {}))
        )

    def _is_same(self, system: str, code: Any, other: str) -> bool:
        if code == other:
            return True
        found = self._library.system(system) if system else None
        if found is None or found.case_sensitive or not isinstance(code, str):
            return False
        return code.casefold() == other.casefold()

    def _match(self, map: Resource, group: Resource, target: Resource) -> None:
        equivalence = target.get("equivalence", "equivalent")
        coding = None
        if target.get("code"):
            coding = self._named(
                group.get("target", ""), group.get("targetVersion", ""), target["code"],
                target.get("display", ""),
            )  # fmt: skip
        products = tuple(_product(one) for one in target.get("product", ()))
        self._add(map, equivalence, coding, products, target.get("comment", ""))

    def _add(
        self,
        map: Resource,
        equivalence: str,
        coding: Coding | None,
        products: tuple[Product, ...] = (),
        comment: str = "",
    ) -> None:
        named = f"{map.get('url', '')}|{map.get('version', '')}".rstrip("|")
        self.found.append(Match(equivalence, coding, products, named, comment))

    def _named(self, system: str, version: str, code: str, display: str) -> Coding:
        """A code with the name that it has here, or that the map gives it."""
        found = self._library.system(system, version) or self._library.system(system)
        concept = found.find(code) if found is not None else None
        if concept is not None and (self._asked.language or not display):
            display = display_of(concept, found, self._asked.language)
        return Coding(system, code, version, display)

    # -- from target to source -------------------------------------------------------------------

    def _backward(self, map: Resource, group: Resource, coding: Coding) -> None:
        source, system = group.get("source", ""), group.get("target", "")
        if coding.system and system and system != coding.system:
            return
        if self._asked.target_system not in ("", source):
            return
        for element in group.get("element", ()):
            for target in element.get("target", ()):
                if not self._is_same(system, target.get("code"), coding.code):
                    continue
                self.listed = True
                if self._holds(target) and self._fits(target.get("product", ())):
                    equivalence = target.get("equivalence", "equivalent")
                    products = tuple(_product(one) for one in target.get("dependsOn", ()))
                    named = self._named(
                        source, group.get("sourceVersion", ""), element.get("code", ""),
                        element.get("display", ""),
                    )  # fmt: skip
                    turned = _REVERSED.get(equivalence, equivalence)
                    self._add(map, turned, named, products, target.get("comment", ""))

    # -- dependencies ----------------------------------------------------------------------------

    def _fits(self, conditions: Iterable[Resource]) -> bool:
        """Whether what is known beside the code meets every condition; what is not known does
        not, and is told."""
        fits = True
        for one in conditions:
            element = one.get("property", "")
            given = [known for known in self._asked.dependencies if known.element == element]
            if not given:
                self.needed[element] = None
                fits = False
            elif not any(_meets(one, known) for known in given):
                fits = False
        return fits

    # -- codes that a map does not list ----------------------------------------------------------

    def _unmapped(
        self, map: Resource, group: Resource, coding: Coding, trail: tuple[str, ...]
    ) -> None:
        unmapped = group.get("unmapped")
        if not unmapped:
            return
        mode = unmapped.get("mode")
        if mode == "provided":
            self.listed = True
            found = self._named(group.get("target", ""), group.get("targetVersion", ""),
                                coding.code, coding.display)  # fmt: skip
            self._add(map, "equivalent", found)
        elif mode == "fixed" and unmapped.get("code"):
            self.listed = True
            found = self._named(group.get("target", ""), group.get("targetVersion", ""),
                                unmapped["code"], unmapped.get("display", ""))  # fmt: skip
            self._add(map, "inexact", found)
        elif mode == "other-map":
            url, version = canonical(unmapped.get("url", ""))
            other = self._library.concept_map(url, version)
            if other is None:
                raise NotFound(
                    f"The concept map {url[:300]}, which this one hands the code on to, is not "
                    "here",
                    expression="ConceptMap.group.unmapped.url",
                    rule="map-unknown",
                )
            self.follow(other, coding, trail)


def _product(one: Resource) -> Product:
    coding = Coding(one.get("system", ""), one.get("value", ""), "", one.get("display", ""))
    return Product(one.get("property", ""), coding)


def _meets(condition: Resource, known: Dependency) -> bool:
    """Whether one of the values of an element is the one that a mapping depends on."""
    system, value = condition.get("system", ""), condition.get("value", "")
    return any(
        code == value and (not system or not other or canonical(system).url == other)
        for other, code in known.values
    )
