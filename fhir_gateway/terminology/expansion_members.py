"""The codes of a value set in a list, made once and searched often.

What is not bounded is refused: a value set that looks at too many concepts, and one of a system
that cannot be listed (a grammar such as UCUM), is too costly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fhir_gateway.terminology import compose_budget
from fhir_gateway.terminology.compose_budget import Purse
from fhir_gateway.terminology.compose_members import Member, members
from fhir_gateway.terminology.compose_parts import Composed
from fhir_gateway.terminology.service_text import Haystack, haystack, rank, words_of
from fhir_gateway.terminology.system import System

#: Codes whose texts are made in a few milliseconds.
_FEW = 1_000


class Listing:
    """A compiled value set and, as soon as they are asked for, its codes."""

    def __init__(self, composed: Composed) -> None:
        self.composed = composed
        self._members: Sequence[Member] | None = None
        self._hay: Sequence[Haystack] | None = None
        self._systems: Mapping[tuple[str, str], System | None] | None = None

    @property
    def is_quick(self) -> bool:
        """Whether the codes are there already, and few enough to be searched in between."""
        return self._members is not None and (
            len(self._members) < _FEW or (self._hay is not None and len(self._hay) < 20 * _FEW)
        )

    @property
    def members(self) -> Sequence[Member]:
        """All codes in the order of the definition. Raises TooCostly, NotFound.

        No cached_property here: its lock would have all value sets wait for the largest one.
        """
        if self._members is None:
            self._members = list(members(self.composed, Purse(compose_budget.MOST_SEEN)))
        return self._members

    def _haystacks(self) -> Sequence[Haystack]:
        if self._hay is None:
            self._hay = [haystack(one.concept, one.found) for one in self.members]
        return self._hay

    def matching(self, text: str) -> list[Member]:
        """The codes that a filter finds, those that fit best first."""
        words, whole = words_of(text)
        found: list[tuple[int, int]] = []
        for place, hay in enumerate(self._haystacks()):
            fits = rank(words, whole, hay)
            if fits is not None:
                found.append((fits, place))
        found.sort()
        return [self.members[place] for _, place in found]

    def systems(self) -> Mapping[tuple[str, str], System | None]:
        """The systems of the codes with their versions, in the order of their first code."""
        if self._systems is None:
            found: dict[tuple[str, str], System | None] = {}
            for one in self.members:
                found.setdefault((one.system, one.version), one.found)
            self._systems = found
        return self._systems
