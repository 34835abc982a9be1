"""What a code system is to the terminology service (FHIR R4 codesystem.html, terminology-service).

A resource with its concepts, a table of this folder or a grammar such as UCUM: each is a System.
The service asks nothing else, so a system that cannot be listed is as good as one that can.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, Protocol

#: CodeSystem.content: whether what is here is all of it.
Content = Literal["complete", "fragment", "not-present"]

PropertyValue = str | int | bool | float


class Designation(NamedTuple):
    """One name of a concept. `language` is a BCP-47 tag or ""; `use` a (system, code) or None."""

    language: str
    value: str
    use: tuple[str, str] | None = None


class Property(NamedTuple):
    """One property of a concept, `type` as in CodeSystem.property.type."""

    code: str
    type: str
    value: PropertyValue


class Concept(NamedTuple):
    """A concept of a code system. `abstract` is for grouping only; `inactive` was retired."""

    code: str
    display: str
    definition: str = ""
    designations: tuple[Designation, ...] = ()
    properties: tuple[Property, ...] = ()
    abstract: bool = False
    inactive: bool = False


class System(Protocol):
    """A code system in one version. Pure: answers from memory, the same every time."""

    @property
    def url(self) -> str:
        """The canonical url, which is Coding.system."""

    @property
    def version(self) -> str:
        """The business version; "" when it has none."""

    @property
    def title(self) -> str:
        """A name to show."""

    @property
    def content(self) -> Content:
        """Whether an unknown code is wrong (complete) or may exist elsewhere (fragment)."""

    @property
    def case_sensitive(self) -> bool:
        """Whether codes that differ in case are other codes."""

    @property
    def language(self) -> str:
        """The language of the displays, a BCP-47 tag; "" when it is not said."""

    @property
    def notice(self) -> str:
        """The copyright notice that has to go with its codes, "" for none."""

    def find(self, code: str) -> Concept | None:
        """The concept of a code, in the spelling of the system; None when there is none."""

    def concepts(self) -> Iterable[Concept] | None:
        """All concepts in their order; None when they cannot be listed (a grammar)."""

    def parents(self, code: str) -> Sequence[str]:
        """The codes directly above; none for a root, a flat system or an unknown code."""

    def children(self, code: str) -> Sequence[str]:
        """The codes directly below."""
