"""Laboratory names: which item a name could be, by its words, the specimen and the unit.

A name is looked up as a whole, without what says nothing of the item (method, brand, "测定"), and
in its parts: what stands in brackets, Chinese and Latin stretches. A part that nobody knows counts
against it, more so when it is a word that tells items apart (free, total, antibody, IgM, ratio).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rapidfuzz import fuzz, process

from fhir_gateway.terminology.catalogue import Catalogue, Item
from fhir_gateway.terminology.matcher_text import (
    Difference,
    Folder,
    Scanner,
    Token,
    difference,
    is_chinese,
    key,
    parts,
    runs,
    sounds_alike,
)
from fhir_gateway.terminology.specimen import compare_specimens
from fhir_gateway.terminology.synonyms import SHARED, WITHIN, Words
from fhir_gateway.terminology.unit import canonical_unit, compare_units
from fhir_gateway.terminology.unmapped import Local

#: What a finding is worth before anything else is looked at.
_WHOLE, _TOGETHER, _SLIP, _SLIPS, _PART, _NEAR = 0.92, 0.9, 0.8, 0.7, 0.7, 0.4
#: A name that is an abbreviation alone, by its length.
_SHORT = {1: 0.4, 2: 0.6, 3: 0.78}
#: The most that a name may be worth which something speaks against.
SPECIMEN_CAP, UNIT_CAP, SCALE_CAP, MARK_CAP = 0.1, 0.2, 0.45, 0.3
#: Names this alike are proposed, and how many of them are looked at.
_ALIKE, _LOOKED = 55.0, 12

#: What ends a name and is a method: "(苦味酸法)", "-化学发光法".
_METHOD = re.compile(r"[(-][^()-]{1,24}法\)?$|\([^()]{1,24}法\)")

_NUMERIC = frozenset({"quantitative"})


@dataclass(slots=True)
class Candidate:
    """An item that a name could be. `against` are contradictions: such a one is never sure."""

    item: Item
    worth: float
    reasons: list[str] = field(default_factory=list)
    against: list[str] = field(default_factory=list)

    def cap(self, most: float, why: str) -> None:
        """Something speaks against it."""
        self.worth = min(self.worth, most)
        self.against.append(why)


@dataclass(frozen=True, slots=True)
class _Read:
    """A name: its spellings from whole to bare, and what was taken out of it."""

    spellings: tuple[str, ...]
    specimen: str
    scale: str


class Laboratory:
    """The laboratory's items and names, ready to be asked."""

    def __init__(self, catalogue: Catalogue, words: Words, folder: Folder) -> None:
        self._folder = folder
        self._items = {item.code: item for item in catalogue.of("lab")}
        self._names: dict[str, dict[str, str]] = {}
        for item in self._items.values():
            for name in (item.name_zh, item.name_en, item.abbreviation):
                self._add(name, item.code, "name")
        for synonym in words.synonyms:
            if synonym.item in self._items:
                self._add(synonym.text, synonym.item, synonym.kind)
        self._pool = [name for name in self._names if is_chinese(name) and len(name) > 2]
        cut = ("method", "brand", "noise", "scale", "specimen")
        self._cut = Scanner((one for one in words.laboratory if one[0] in cut), folder)
        marks = (one for one in words.laboratory if one[0] == "mark")
        self._marks = tuple(folder.fold(word) for _, _, word in marks)
        soft = (folder.fold(word) for aspect, _, word in words.laboratory if aspect == "soft")
        self._soft = frozenset("".join(soft))

    def candidates(self, local: Local) -> list[Candidate]:
        """What the name could be, the likeliest first; none for a name of other things."""
        read = self._read(local.name)
        specimen = local.specimen or read.specimen
        found: dict[str, Candidate] = {}
        for one in self._found(read, specimen):
            other = found.get(one.item.code)
            if other is None or other.worth < one.worth:
                found[one.item.code] = one
        self._confirm_by_code(local.code, found)
        for candidate in found.values():
            self._weigh(candidate, specimen, local.unit, read.scale)
        best = sorted(found.values(), key=lambda one: (-one.worth, one.item.code))
        _doubt(best)
        return sorted(best, key=lambda one: (-one.worth, one.item.code))

    # -- reading -----------------------------------------------------------------------------

    def _add(self, name: str, code: str, kind: str) -> None:
        folded = self._folder.fold(name)
        for spelling in (folded, *(parts(folded)[:1] if kind == "name" else ())):
            if spelling:
                kinds = self._names.setdefault(key(spelling), {})
                if kinds.get(code) in (None, WITHIN):
                    kinds[code] = kind

    def _read(self, name: str) -> _Read:
        folded = self._folder.fold(name)
        tokens, _ = self._cut.scan(folded)
        said = {token.aspect: token.value for token in reversed(tokens)}
        bare = _METHOD.sub("", folded)
        while key(bare) not in self._names:  # a word of the item itself is not cut out of it
            tokens, _ = self._cut.scan(bare)
            cut = [one for one in tokens if one.aspect != "specimen"]
            if not cut:
                break
            bare = _without(bare, cut)
        spellings, named = [folded, bare], ""
        if key(bare) not in self._names:
            named, rest = self._specimen(bare)
            spellings.append(rest)
        unique = tuple(dict.fromkeys(one for one in spellings if one))
        return _Read(unique, named, said.get("scale", ""))

    def _specimen(self, bare: str) -> tuple[str, str]:
        """The specimen that a name begins or ends with, and the name without it."""
        tokens, _ = self._cut.scan(bare)
        for one in tokens:
            if one.aspect != "specimen" or len(bare) <= len(one.text) + 1:
                continue
            if one.start == 0:
                return one.value, bare[one.end :].lstrip("-")
            if one.end >= len(bare) - 1:
                return one.value, _without(bare, [one])
        return "", bare

    # -- finding -----------------------------------------------------------------------------

    def _found(self, read: _Read, specimen: str) -> Iterator[Candidate]:
        whole = False
        for spelling in read.spellings:
            for item, kind in self._look_up(spelling, specimen):
                whole = True
                worth = _WHOLE if kind != SHARED else _WHOLE - 0.02
                if not is_chinese(spelling):
                    worth = min(worth, _SHORT.get(len(key(spelling)), _WHOLE - 0.04))
                yield Candidate(item, worth, [f"{spelling} is a name of it"])
        for spelling in read.spellings:
            yield from self._by_parts(spelling, specimen)
        if not whole:
            for spelling in read.spellings:
                yield from self._turned(spelling, specimen)
                yield from self._alike(spelling, specimen)

    def _look_up(self, text: str, specimen: str) -> Iterator[tuple[Item, str]]:
        for code, kind in self._names.get(key(text), {}).items():
            item = self._items[code]
            if kind != WITHIN or compare_specimens(specimen, item.specimen) is True:
                yield item, kind

    def _turned(self, text: str, specimen: str) -> Iterator[Candidate]:
        """A name whose Chinese and Latin stretches stand in another order (CA199 糖类抗原)."""
        stretches = runs(text)
        ordered = "".join(sorted(stretches, key=lambda one: not is_chinese(one)))
        if len(stretches) > 1 and ordered != text:
            for item, _ in self._look_up(ordered, specimen):
                yield Candidate(item, _TOGETHER, [f"{ordered} is a name of it"])

    def _by_parts(self, text: str, specimen: str) -> Iterator[Candidate]:
        """By the parts that are names of an item; the others count against it."""
        pieces = [piece for part in parts(text) or [text] for piece in self._pieces(part)]
        if len(pieces) < 2:
            return
        known = {
            piece: {item.code for item, _ in self._look_up(piece, specimen)} for piece in pieces
        }
        for code in sorted(set().union(*known.values())):
            mine = [piece for piece in pieces if code in known[piece]]
            rest = [piece for piece in pieces if piece not in mine]
            cover = sum(map(len, mine)) / sum(map(len, pieces))
            candidate = Candidate(self._items[code], _TOGETHER if not rest else _PART * cover)
            candidate.reasons.append(f"{' and '.join(mine)}: names of it")
            if len(mine) > 1 and not rest:
                candidate.worth += 0.06
            self._object(candidate, rest, [piece for piece in rest if known[piece]])
            yield candidate

    def _pieces(self, part: str) -> list[str]:
        """A part as names that are known, where it can be cut into two of them; else its stretches
        of Chinese and Latin characters."""
        if key(part) in self._names:
            return [part]
        for place in range(len(part) - 1, 0, -1):
            one, other = part[:place].strip("-/+"), part[place:].strip("-/+")
            both = self._names.get(key(one), {}).keys() & self._names.get(key(other), {}).keys()
            if both:
                return [one, other]
        return runs(part)

    def _alike(self, text: str, specimen: str) -> Iterator[Candidate]:
        """By names that are spelled nearly so."""
        wanted = key(text)
        if len(wanted) < 3 or not is_chinese(wanted):
            return
        hits = process.extract(
            wanted, self._pool, scorer=fuzz.ratio, score_cutoff=_ALIKE, limit=_LOOKED
        )
        for name, alike, _ in hits:
            for item, _ in self._look_up(name, specimen):
                apart = difference(wanted, name)
                slips = self._slips(apart)
                if slips is not None and len(name) > slips + 2:
                    worth = _SLIP if slips == 1 else _SLIPS if slips == 2 else _NEAR
                    yield Candidate(item, worth, [f"spelled nearly as {name}"])
                    continue
                candidate = Candidate(item, _NEAR * alike / 100, [f"resembles {name}"])
                turned = "".join(one for one, _ in apart.turned)
                self._object(candidate, [apart.more + turned], [])
                yield candidate

    def _slips(self, apart: Difference) -> int | None:
        """How many slips of the pen explain the difference; None when they do not."""
        if any(one not in self._soft for one in apart.more + apart.less):
            return None
        if not all(sounds_alike(*pair) for pair in apart.turned):
            return None
        return len(apart.more) + len(apart.less) + len(apart.turned)

    def _object(self, candidate: Candidate, rest: Iterable[str], other: list[str]) -> None:
        """What is said beside the item's name, and is not part of it."""
        for piece in other:
            candidate.cap(MARK_CAP, f"{piece} is the name of another item")
        for piece in rest:
            if piece in other or not piece:
                continue
            mark = next((mark for mark in self._marks if mark in piece), None)
            if mark is not None or any(c.isascii() and c.isalnum() for c in piece):
                candidate.cap(MARK_CAP, f"{mark or piece} tells it apart")

    # -- weighing ----------------------------------------------------------------------------

    def _confirm_by_code(self, code: str, found: dict[str, Candidate]) -> None:
        """A local code that is an abbreviation confirms, and never contradicts."""
        for item in self._names.get(key(self._folder.fold(code)), {}) if code else ():
            if item in found:
                found[item].worth += 0.03
                found[item].reasons.append(f"its code {code} is an abbreviation of it")
            elif not found and len(code) > 2:
                found[item] = Candidate(
                    self._items[item], 0.3, [f"its code {code} is an abbreviation of it"]
                )

    def _weigh(self, candidate: Candidate, specimen: str, unit: str, scale: str) -> None:
        item = candidate.item
        same = compare_specimens(specimen, item.specimen) if specimen and item.specimen else None
        if same is False:
            candidate.cap(SPECIMEN_CAP, f"it is measured in {item.specimen}, not in {specimen}")
        elif same:
            candidate.worth += 0.02
            candidate.reasons.append(f"measured in {specimen}")
        if unit and item.ucum_unit:
            fits = compare_units(unit, item.ucum_unit)
            if fits is False:
                candidate.cap(UNIT_CAP, f"{unit} is not comparable with {item.ucum_unit}")
            elif fits:
                candidate.worth += 0.05
                candidate.reasons.append(f"{unit} is its unit")
        numbers = scale == "quantitative" or bool(canonical_unit(unit))
        if numbers and item.scale not in _NUMERIC and not item.ucum_unit:
            candidate.cap(SCALE_CAP, "it has no quantity")
        elif scale == "qualitative" and item.scale in _NUMERIC:
            candidate.cap(SCALE_CAP, "it is a quantity")
        candidate.worth = min(candidate.worth, 1.0)


def _doubt(best: list[Candidate]) -> None:
    """Several items that the name fits as well: none of them is likely."""
    if not best or best[0].worth < _NEAR + 0.1:
        return
    rivals = [one for one in best if not one.against and best[0].worth - one.worth < 0.04]
    if len(rivals) > 1:
        for one in rivals:
            others = ", ".join(other.item.name_zh for other in rivals if other is not one)
            one.worth -= 0.35
            one.reasons.append(f"but so could be {others}")


def _without(text: str, tokens: Iterable[Token]) -> str:
    """The text without these words, and without brackets that are empty then."""
    for token in sorted(tokens, key=lambda one: -one.start):
        text = text[: token.start] + text[token.end :]
    return text.replace("()", "").strip("-/+")
