"""A code system whose concepts are rows of a list: those of R4, our tables, countries, DICOM.

Its concepts are made when the first one is asked for, and not before: a process that never looks
into the tables of HL7 v2 does not hold them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from fhir_gateway.fhir.terminology import ConceptRow
from fhir_gateway.terminology.system import Concept, Content, Designation, Property


@dataclass(frozen=True)  # no slots: cached_property needs a __dict__
class ListedSystem:
    """A System (terminology.system) over rows that `load` gives once."""

    url: str
    title: str
    load: Callable[[], Iterable[ConceptRow]] = field(repr=False, compare=False)
    version: str = ""
    content: Content = "complete"
    case_sensitive: bool = True
    language: str = "en"
    notice: str = ""
    value_set: str = ""  # the url that stands for all of its codes
    identifiers: frozenset[str] = frozenset()  # other names of the system, as urn:oid:…

    @cached_property
    def _rows(self) -> Mapping[str, ConceptRow]:
        return {row.code: row for row in self.load()}

    @cached_property
    def _folded(self) -> Mapping[str, str]:
        return {} if self.case_sensitive else {code.casefold(): code for code in self._rows}

    @cached_property
    def _below(self) -> Mapping[str, tuple[str, ...]]:
        below: dict[str, list[str]] = {}
        for row in self._rows.values():
            for parent in row.parents:
                below.setdefault(parent, []).append(row.code)
        return {code: tuple(children) for code, children in below.items()}

    @property
    def property_codes(self) -> frozenset[str] | None:
        """The properties that its concepts may have; None for a fragment, which may lack some."""
        return frozenset(("status", "replacedBy")) if self.content == "complete" else None

    @cached_property
    def _concepts(self) -> tuple[Concept, ...]:
        return tuple(_concept(row) for row in self._rows.values())

    def find(self, code: str) -> Concept | None:
        """The concept of a code; None when the list has none."""
        row = self._row(code)
        return None if row is None else _concept(row)

    def _row(self, code: str) -> ConceptRow | None:
        row = self._rows.get(code)
        if row is None and not self.case_sensitive:
            row = self._rows.get(self._folded.get(code.casefold(), ""))
        return row

    def concepts(self) -> Sequence[Concept]:
        """All concepts in the order of the list."""
        return self._concepts

    def parents(self, code: str) -> Sequence[str]:
        """The codes directly above that the list has too."""
        row = self._row(code)
        return () if row is None else tuple(one for one in row.parents if one in self._rows)

    def children(self, code: str) -> Sequence[str]:
        """The codes directly below."""
        row = self._row(code)
        return () if row is None else self._below.get(row.code, ())


def _concept(row: ConceptRow) -> Concept:
    properties = [
        Property(name, "code", value)
        for name, value in (("status", row.status), ("replacedBy", row.replaced_by))
        if value
    ]
    return Concept(
        row.code,
        row.display,
        row.definition,
        tuple(Designation(language, name) for language, name in row.names.items()),
        tuple(properties),
        abstract=row.abstract,
        inactive=row.status == "retired",
    )
