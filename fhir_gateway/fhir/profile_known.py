"""The StructureDefinitions that are known: those that are handed in, and R4's own profiles.

Each is compiled when it is first asked for, and once.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from fhir_gateway.fhir.profile import Profile, compile_profile
from fhir_gateway.fhir.profile_context import Resource
from fhir_gateway.fhir.structures import structure, structure_urls


class Known:
    """Definitions by canonical url. Where several versions of one url are known, a canonical
    without version means the one that was handed in last."""

    def __init__(self, structures: Iterable[Resource] = ()) -> None:
        self._found: dict[str, Resource] = {}
        self._own: list[str] = []
        for one in structures:
            url, version = one.get("url"), one.get("version")
            if not isinstance(url, str):
                continue
            if url not in self._found:
                self._own.append(url)
            self._found[url] = one
            self._found[f"{url}|{version or ''}"] = one
        self._profiles: dict[str, Profile | None] = {}

    def find(self, canonical: str) -> Resource | None:
        """The definition of a canonical url, also with |version; None when it is not known."""
        found = self._found.get(canonical)
        return found if found is not None else _r4(canonical)

    def profile(self, canonical: str) -> Profile | None:
        """The same compiled; None when it is not known."""
        if canonical not in self._profiles:
            found = self.find(canonical)
            made = None if found is None else compile_profile(found, known=self)
            if found is None:
                return None  # whoever asks for what is not there must not fill the memory
            self._profiles[canonical] = made
        return self._profiles[canonical]

    def urls(self) -> list[str]:
        """The canonical urls of all that is known, R4's own last."""
        return [*self._own, *sorted(_r4_urls())]


@cache
def _r4_urls() -> frozenset[str]:
    return frozenset(structure_urls())


def _r4(canonical: str) -> Resource | None:
    """R4's own definition, in the versions that mean R4."""
    url, _, version = canonical.partition("|")
    return structure(url) if url in _r4_urls() and version in ("", "4.0", "4.0.1") else None
