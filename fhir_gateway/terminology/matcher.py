"""Proposals for local codes that no map knows: which item a name probably means, and why.

A proposal is for a person to accept; nothing is mapped by it. Its score is how often names that
were worth as much were right, so 0.95 means one in twenty is wrong. Below the threshold it is not
sure, and what contradicts the name (specimen, unit, modality, contrast, side) never is.
docs/local-codes.md
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from fhir_gateway.terminology.catalogue import Catalogue, Item
from fhir_gateway.terminology.matcher_imaging import Imaging
from fhir_gateway.terminology.matcher_lab import Candidate, Laboratory
from fhir_gateway.terminology.matcher_score import Step, load_steps, score
from fhir_gateway.terminology.matcher_text import Folder, Scanner, key
from fhir_gateway.terminology.synonyms import Words, load_words
from fhir_gateway.terminology.unmapped import Local

#: A proposal of at least this score, which nothing contradicts, is sure.
SURE = 0.95

#: What a panel's name is worth: what is in it differs between hospitals.
_PANEL = 0.5


#: What a candidate is worth, its items, and the candidate.
Worth = tuple[float, tuple[Item, ...], Candidate]


class Proposal(NamedTuple):
    """What a local code may mean: an item, or the items of a panel.

    `score` is 0..1; `reasons` are sentences for a person, `against` what contradicts.
    """

    items: tuple[Item, ...]
    score: float
    reasons: tuple[str, ...]
    against: tuple[str, ...]
    sure: bool

    @property
    def codes(self) -> str:
        """The codes of its items, as a table has them."""
        return ";".join(item.code for item in self.items)


class Matcher:
    """A catalogue and its words, ready to be asked. Pure; made once, about 50 ms."""

    def __init__(self, catalogue: Catalogue, words: Words, steps: tuple[Step, ...]) -> None:
        folder = Folder(words.characters)
        self._folder, self._steps = folder, steps
        self._laboratory = Laboratory(catalogue, words, folder)
        self._imaging = Imaging(catalogue, words, folder)
        cut = ("noise", "scale")
        self._cut = Scanner((one for one in words.laboratory if one[0] in cut), folder)
        self._panels = {
            key(folder.fold(name)): tuple(catalogue.items[code] for code in codes)
            for name, codes in words.panels
        }

    def propose(
        self, local: Local, *, rejected: Collection[str] = (), limit: int = 3
    ) -> list[Proposal]:
        """What a local code may mean, the likeliest first; `rejected` are items left out."""
        found = [
            Proposal(
                items=items,
                score=score(worth, self._steps),
                reasons=tuple(one.reasons),
                against=tuple(one.against),
                sure=False,
            )
            for worth, items, one in self.worths(local)
            if items[0].code not in rejected or len(items) > 1
        ][:limit]
        return [
            one._replace(sure=number == 0 and one.score >= SURE and not one.against)
            for number, one in enumerate(found)
        ]

    def worths(self, local: Local) -> list[Worth]:
        """Candidates by what they are worth before they are calibrated, the best first."""
        signature = self._imaging.read(local.name)
        candidates: list[Candidate] = []
        if not (local.specimen or local.unit) and self._imaging.is_imaging(signature):
            candidates += self._imaging.candidates(signature)
        if not (candidates and signature.regions and not candidates[0].against):
            candidates += self._laboratory.candidates(local)
        found: list[Worth] = [(one.worth, (one.item,), one) for one in candidates]
        if local.use == "order" and (panel := self._panel(local.name)) is not None:
            said = Candidate(panel[0], _PANEL, ["a panel: look at what it contains here"])
            found.append((_PANEL, panel, said))
        return sorted(found, key=lambda one: -one[0])

    def _panel(self, name: str) -> tuple[Item, ...] | None:
        folded = self._folder.fold(name)
        tokens, _ = self._cut.scan(folded)
        bare = folded
        for token in reversed(tokens):
            bare = bare[: token.start] + bare[token.end :]
        for one in (folded, folded.partition("(")[0], bare, bare.partition("(")[0]):
            if found := self._panels.get(key(one)):
                return found
        return None


def load_matcher(folder: Path | str, catalogue: Catalogue) -> Matcher:
    """The matcher of a terminology folder. Raises Unprocessable with the faults of its tables."""
    return Matcher(catalogue, load_words(folder, catalogue), load_steps(folder))
