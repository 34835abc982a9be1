"""The terminology service (FHIR R4 terminology-service.html): what codes mean, without I/O.

A Terminology is a value: the code systems, value sets and concept maps that are known. It answers
the same every time and never guesses: what rests on a system that is not here is told as such.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

from fhir_gateway.errors import NotFound
from fhir_gateway.terminology.compose import NO_PINS, compile_value_set
from fhir_gateway.terminology.compose_filters import subsumed
from fhir_gateway.terminology.compose_members import contains, is_open
from fhir_gateway.terminology.compose_parts import Composed
from fhir_gateway.terminology.expansion import PLAIN, Expanding, expansion
from fhir_gateway.terminology.expansion_members import Listing
from fhir_gateway.terminology.resource_system import ResourceSystem
from fhir_gateway.terminology.service_library import Library, Resource, canonical
from fhir_gateway.terminology.service_names import display_of
from fhir_gateway.terminology.service_validate import CHECKED, Checking, Coding, Verdict, judge
from fhir_gateway.terminology.system import Concept, System
from fhir_gateway.terminology.translation import Translated, Translating, translated

Subsumption = Literal["equivalent", "subsumes", "subsumed-by", "not-subsumed"]


class Looked(NamedTuple):
    """A concept that was looked up: in which system, and how it is called in the language."""

    system: System
    concept: Concept
    display: str


@dataclass(frozen=True, eq=False)  # the same is only itself: comparing all of it is no use
class Terminology:
    """Everything that is known. `today` is the day on which editions must hold, "" for any."""

    systems: Sequence[System] = field(default=(), repr=False)  # a repr of it all takes 100 ms
    value_sets: Sequence[Resource] = field(default=(), repr=False)
    concept_maps: Sequence[Resource] = field(default=(), repr=False)
    today: str = ""
    brought: Sequence[Any] = field(default=(), repr=False)
    _listings: dict[str, Listing] = field(default_factory=dict, repr=False, compare=False)
    _codes: dict[str, frozenset[tuple[str, str]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @cached_property
    def library(self) -> Library:
        """The same, by canonical url and version."""
        return Library(self.systems, self.value_sets, self.concept_maps,
                       today=self.today, brought=self.brought)  # fmt: skip

    def beside(self, resources: Sequence[Resource]) -> Terminology:
        """The same with more CodeSystems, ValueSets and ConceptMaps, which go before what is here
        wherever no other version is named: for one question alone (tx-resource, codeSystem)."""
        resources = [one for one in resources if one.get("content") != "supplement"]
        if not resources:
            return self
        of = {type: [one for one in resources if one.get("resourceType") == type]
              for type in ("CodeSystem", "ValueSet", "ConceptMap")}  # fmt: skip
        systems = list(map(ResourceSystem, of["CodeSystem"]))
        return Terminology(
            [*self.systems, *systems],
            [*self.value_sets, *of["ValueSet"]],
            [*self.concept_maps, *of["ConceptMap"]],
            self.today,
            (*self.brought, *systems, *of["ValueSet"], *of["ConceptMap"]),
        )

    def system(self, url: str, version: str = "", *, date: str = "") -> System:
        """A code system. Raises NotFound."""
        found = self.library.system(url, version, date=date)
        if found is None:
            known = self.library.versions(url)
            raise NotFound(
                f"Version {version[:80]} of {url[:300]} is not here; known: {_told(known)}"
                if known
                else f"The code system {url[:300]} is not known here",
                expression="system",
                rule="cs-unknown",
            )
        return found

    def value_set(self, named: str | Resource, *, date: str = "") -> Resource:
        """A value set by url|version, or the resource itself. Raises NotFound."""
        if not isinstance(named, str):
            return named
        url, version = canonical(named)
        found = self.library.value_set(url, version, date=date)
        if found is None:
            raise NotFound(
                f"The value set {named[:300]} is not known here", expression="url",
                rule="vs-unknown",
            )  # fmt: skip
        return found

    def lookup(
        self, system: str, code: str, *, version: str = "", date: str = "", language: str = ""
    ) -> Looked:
        """What a code means. Raises NotFound for an unknown system, version or code."""
        found = self.system(system, version, date=date)
        concept = found.find(code)
        if concept is None:
            part = "" if found.content == "complete" else ", of which not everything is here"
            raise NotFound(
                f"There is no such code in {found.url[:300]}{part}",
                expression="code",
                rule="invalid-code",
            )
        return Looked(found, concept, display_of(concept, found, language))

    def validate_code(
        self,
        codings: Coding | Sequence[Coding],
        value_set: str | Resource = "",
        checking: Checking = CHECKED,
    ) -> Verdict:
        """Whether a code, or one of several, is right: in its system, and in the value set when
        one is named. Raises NotFound for an unknown value set, Unprocessable for a broken one."""
        several = [codings] if isinstance(codings, Coding) else codings
        composed = self._listing(value_set, checking).composed if value_set else None
        return judge(several, composed, self.library, checking)

    def expand(self, value_set: str | Resource, expanding: Expanding = PLAIN) -> dict[str, Any]:
        """The value set with its expansion. Raises NotFound, Unprocessable, and TooCostly for what
        is too long or cannot be listed."""
        return expansion(self._listing(value_set, expanding), expanding)

    def codes_of(self, value_set: str) -> frozenset[tuple[str, str]]:
        """Every (system, code) of a value set. Raises NotFound, also when there may be more than
        those that are here, Unprocessable, TooCostly."""
        found = self._codes.get(value_set)
        if found is None:
            listing = self._listing(value_set, PLAIN)
            if is_open(listing.composed):
                raise NotFound(
                    f"Only a part of the codes of {value_set[:300]} is here",
                    expression="url",
                    rule="cs-unknown",
                )
            found = self._codes[value_set] = frozenset(one.key for one in listing.members)
        return found

    def is_member(self, value_set: str, system: str, code: str) -> bool | None:
        """Whether a code is in a value set; None when that cannot be known here.

        An empty `system` asks for the code in any system, as a FHIR `code` element is bound.
        Raises Unprocessable for a value set that contradicts itself.
        """
        listing = self._known(value_set)
        if listing is None:
            return None
        composed = listing.composed
        if system:
            return contains(composed, system, code)
        answers = {contains(composed, one, code) for one in systems_of(composed)}
        return True if True in answers else (None if None in answers else False)

    def is_quick(self, value_set: str) -> bool:
        """Whether a question about a value set is answered at once, because its codes are listed
        already and not many; another one is better asked in a thread."""
        found = self._listings.get(value_set)
        return found is not None and found.is_quick

    def is_compiled(self, value_set: str) -> bool:
        """Whether a value set was asked about before, so that one code is judged at once."""
        return value_set in self._listings

    def subsumed(self, system: str, code: str) -> frozenset[str]:
        """The codes at and below a code. Raises NotFound for an unknown system or code."""
        return subsumed(self.lookup(system, code).system, code)

    def subsumes(
        self, system: str, code_a: str, code_b: str, *, version: str = "", date: str = ""
    ) -> Subsumption:
        """How two codes of one system stand to one another. Raises NotFound."""
        first = self.lookup(system, code_a, version=version, date=date)
        second = self.lookup(system, code_b, version=version, date=date)
        if first.concept.code == second.concept.code:
            return "equivalent"
        if second.concept.code in subsumed(first.system, code_a):
            return "subsumes"
        if first.concept.code in subsumed(first.system, code_b):
            return "subsumed-by"
        return "not-subsumed"

    def translate(self, coding: Coding, translating: Translating) -> Translated:
        """What a code is in another system, by concept maps. Raises NotFound for an unknown map,
        Unprocessable for maps that lead to one another in a circle."""
        return translated(coding, translating, self.library)

    def _known(self, url: str) -> Listing | None:
        """A value set that is here, compiled once for all questions."""
        found = self._listings.get(url)
        if found is None:
            named = canonical(url)
            resource = self.library.value_set(named.url, named.version)
            if resource is None:
                return None
            found = self._listings[url] = Listing(compile_value_set(resource, self.library))
        return found

    def _listing(self, named: str | Resource, asked: Expanding | Checking) -> Listing:
        if asked.pins == NO_PINS and not asked.date and isinstance(named, str):
            found = self._known(named)
            if found is not None:
                return found
        resource = self.value_set(named, date=asked.date)
        return Listing(compile_value_set(resource, self.library, asked.pins))


def _told(versions: Sequence[str]) -> str:
    return ", ".join(one or "one without a version" for one in versions)


def systems_of(composed: Composed) -> Sequence[str]:
    """The code systems that a value set takes codes from."""
    found: dict[str, None] = {}
    stack = [composed]
    while stack:
        for part in stack.pop().includes:
            if part.system:
                found[part.system] = None
            stack.extend(one for one in part.within if one is not None)
    return list(found)


def of_resources(
    resources: Sequence[Mapping[str, Any]], systems: Sequence[System] = (), *, today: str = ""
) -> Terminology:
    """A Terminology of CodeSystem, ValueSet and ConceptMap resources beside other systems."""
    return Terminology(systems, today=today).beside(resources)
