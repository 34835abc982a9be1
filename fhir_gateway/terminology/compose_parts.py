"""The parts of a compiled value set (FHIR R4 valueset.html#compositions), as they are asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fhir_gateway.terminology.compose_filters import Filter, Test
from fhir_gateway.terminology.service_library import Resource
from fhir_gateway.terminology.system import Concept, Designation, System


class Part(NamedTuple):
    """One include or exclude. `found` is the system, None when it is not here.

    `listed` are the codes that it lists, by key; None when it lists none. `tests` are its filters.
    `within` are the value sets that a code has to be in too, None for one that is not here.
    `lacks` is a sentence that says why nobody can tell its codes, "" when they can be told.
    """

    system: str
    version: str
    found: System | None
    listed: Mapping[str, Concept] | None
    filters: tuple[Filter, ...]
    tests: tuple[Test, ...]
    within: tuple[Composed | None, ...]
    imports: tuple[str, ...]
    expression: str
    lacks: str = ""


class Composed(NamedTuple):
    """A compiled value set. `inactive` False leaves retired codes out; `weight` is how many parts
    one code may have to be asked of, those of imported value sets included."""

    resource: Resource
    includes: tuple[Part, ...]
    excludes: tuple[Part, ...]
    inactive: bool
    weight: int = 1

    @property
    def url(self) -> str:
        """Its url, "" for one that has none."""
        url: str = self.resource.get("url", "")
        return url


def key_of(found: System | None, code: str) -> str:
    """A code as it is compared: without case where the system has none."""
    return code if found is None or found.case_sensitive else code.casefold()


def listed_codes(raw: Sequence[Resource], found: System | None) -> dict[str, Concept]:
    """The codes of a list, with what the system says of them. A code that a complete system does
    not have is none, whatever the list says."""
    listed: dict[str, Concept] = {}
    for one in raw:
        code = one.get("code", "")
        known = found.find(code) if found is not None else None
        if known is None and found is not None and found.content == "complete":
            continue
        listed.setdefault(key_of(found, code), _merged(one, known, found))
    return listed


def _merged(raw: Resource, known: Concept | None, found: System | None) -> Concept:
    """A listed code: the list's own name is shown, all the other names stay known."""
    own = tuple(
        Designation(one.get("language", ""), one.get("value", ""), _use(one))
        for one in raw.get("designation", ())
    )
    if known is None:
        return Concept(raw.get("code", ""), raw.get("display", ""), designations=own)
    display = raw.get("display") or known.display
    if display == known.display:
        return known._replace(designations=(*own, *known.designations)) if own else known
    language = found.language if found is not None else ""
    system_name = Designation(language, known.display)
    return known._replace(display=display, designations=(*own, system_name, *known.designations))


def _use(raw: Resource) -> tuple[str, str] | None:
    use = raw.get("use", {})
    return (use.get("system", ""), use.get("code", "")) if use.get("code") else None
