"""Imaging names: modality, region, contrast, technique, views and side, read out of the words.

A name is cut into known words, and so are the names of the items; two names of the same examination
have the same signature, however their words are ordered. What a hospital leaves unsaid (contrast of
a CT, views of a radiograph) leaves a doubt; what it says otherwise is a contradiction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from fhir_gateway.terminology.catalogue import Catalogue, Item
from fhir_gateway.terminology.matcher_lab import Candidate
from fhir_gateway.terminology.matcher_text import Folder, Scanner, is_chinese, key
from fhir_gateway.terminology.synonyms import Words

#: The most that a name may be worth which something speaks against.
MODALITY_CAP, REGION_CAP, CONTRAST_CAP, SIDE_CAP, VIEW_CAP, TECHNIQUE_CAP = (
    0.1, 0.25, 0.25, 0.25, 0.3, 0.3,
)  # fmt: skip
_NAMED, _SAME, _UNSAID, _UNKNOWN = 0.98, 0.94, 0.55, 0.12

#: What a technique says of the modality, when none is named.
_MODALITY_OF: Mapping[str, str] = {
    "diffusion": "MR", "susceptibility": "MR", "spectroscopy": "MR", "myelography": "MR",
    "hepatospecific": "MR", "calcium": "CT", "low-dose": "CT", "colonography": "CT",
    "transvaginal": "US", "tcd": "US", "echo": "US", "transesophageal": "US", "residual": "US",
    "elastography": "US", "fluoroscopy": "RF", "barium": "RF", "enema": "RF", "ivu": "RF",
    "vcug": "RF", "hsg": "RF", "bone-scan": "NM", "mibg": "NM", "bone-age": "DX",
}  # fmt: skip
#: Modalities that give way to another that is named: PET/CT is no CT, a mammogram no radiograph.
_WIDE = ("RF", "DX", "CT", "NM")

#: Techniques that say nothing of what is examined, unless an item is told apart by them.
_OPTIONAL = frozenset({"3d", "localisation"})
#: Techniques that settle whether contrast is given.
_SETTLES = frozenset({
    "angiography", "venography", "contrast-angiography", "perfusion", "diffusion", "urography",
    "susceptibility", "spectroscopy", "mrcp", "enterography", "myelography", "colonography", "hrct",
    "low-dose", "calcium", "qct", "cbct", "three-phase", "hepatospecific", "vessel-wall", "3d",
})  # fmt: skip
_WITH_CONTRAST = ("CT", "MR")
_WITH_VIEWS = ("DX",)


class Signature(NamedTuple):
    """What a name says. `rest` are characters that no word covers."""

    modality: str
    regions: frozenset[str]
    contrast: str  # none, with, without-with; "" where it is not said
    techniques: frozenset[str]
    views: frozenset[str]
    side: str  # L, R, B, S (one, not said which); "" where it is not said
    rest: str
    item: str = ""  # whose name it is, letter by letter


class Imaging:
    """The imaging items and words, ready to be asked."""

    def __init__(self, catalogue: Catalogue, words: Words, folder: Folder) -> None:
        self._folder = folder
        self._scanner = Scanner(words.imaging, folder)
        regions = [one for one in words.imaging if one[0] == "region"]
        self._regions = Scanner(regions, folder)
        self._modal = [
            (folder.fold(word), value)
            for aspect, value, word in words.imaging
            if aspect == "modality"
        ]
        self._named: dict[str, str] = {}
        self._modalities = {value for aspect, value, _ in words.imaging if aspect == "modality"}
        self._items: list[tuple[Item, list[Signature]]] = []
        named: dict[str, list[str]] = {}
        for synonym in words.synonyms:
            named.setdefault(synonym.item, []).append(synonym.text)
        for item in catalogue.of("imaging"):
            texts = [item.name_zh, *named.get(item.code, ())]
            self._items.append((item, [self._of_item(item, text) for text in texts]))
            self._named |= {key(folder.fold(text)): item.code for text in texts}

    def read(self, name: str) -> Signature:
        """What a name says."""
        text = self._folder.fold(name)
        tokens, rest = self._scanner.scan(text)
        inside = []
        for token in tokens:
            if token.aspect in ("technique", "modality", "region", "view"):
                inside += [("modality", value) for word, value in self._modal if word in token.text]
            if token.aspect in ("technique", "modality"):
                inside += [("region", one.value) for one in self._regions.scan(token.text)[0]]
        said = [(token.aspect, token.value) for token in tokens]
        return _signature([*said, *inside], rest, self._named.get(key(text), ""))

    def is_imaging(self, signature: Signature) -> bool:
        """Whether a name speaks of an examination at all."""
        return bool(signature.modality or signature.views or signature.techniques - _OPTIONAL)

    def candidates(self, signature: Signature) -> list[Candidate]:
        """The items of the same examination, the likeliest first, and those that are near."""
        found = []
        for item, signatures in self._items:
            best = max(
                (one for other in signatures for one in _compared(item, signature, other)),
                key=lambda one: one.worth,
                default=None,
            )
            if best is not None:
                found.append(best)
        found.sort(key=lambda one: (-one.worth, one.item.code))
        _doubt(found)
        return sorted(found[:20], key=lambda one: (-one.worth, one.item.code))

    def _of_item(self, item: Item, text: str) -> Signature:
        said = self.read(text)
        modality = item.modality if item.modality in self._modalities else said.modality
        contrast = item.contrast if modality in _WITH_CONTRAST else said.contrast
        return said._replace(
            modality=modality or item.modality, contrast=contrast, rest="", item=""
        )


def _signature(said: list[tuple[str, str]], rest: str, item: str) -> Signature:
    values: dict[str, set[str]] = {}
    for aspect, value in said:
        values.setdefault(aspect, set()).add(value)
    techniques, views = values.get("technique", set()), values.get("view", set())
    contrast, sides = values.get("contrast", set()), values.get("side", set())
    modality = _modality(values.get("modality", set()), techniques)
    if not modality and views:
        modality = "DX"
    side = "B" if "B" in sides or {"L", "R"} <= sides else next(iter(sorted(sides)), "")
    return Signature(
        modality=modality,
        regions=frozenset(values.get("region", ())),
        contrast="without-with" if contrast == {"none", "with"} else next(iter(contrast), ""),
        techniques=frozenset(techniques),
        views=frozenset(views),
        side=side,
        rest="".join(c for c in rest if is_chinese(c) or c.isalpha()),
        item=item,
    )


def _modality(named: set[str], techniques: set[str]) -> str:
    """The one that is named, the narrowest of several; else what the technique says."""
    named = named or {_MODALITY_OF[one] for one in techniques if one in _MODALITY_OF}
    for wide in _WIDE:
        if len(named) > 1:
            named = named - {wide}
    return next(iter(named)) if len(named) == 1 else ""


def _compared(item: Item, local: Signature, other: Signature) -> Iterator[Candidate]:
    """How well a signature of an item fits; nothing where it is another region altogether."""
    if local.item == item.code:
        yield Candidate(item, _NAMED, ["this is a name of it"])
        return
    shared = local.regions & other.regions or local.regions == other.regions
    if not shared and (
        (local.regions and other.regions) or not local.techniques & other.techniques
    ):
        return
    candidate = Candidate(item, _SAME, [])
    _modalities(candidate, local, other)
    _regions(candidate, local, other)
    _techniques(candidate, local, other)
    if other.modality in _WITH_CONTRAST:
        _contrast(candidate, local, other)
    if other.modality in _WITH_VIEWS:
        _views(candidate, local, other)
    _side(candidate, local, item)
    if local.rest:
        candidate.worth -= _UNKNOWN * len(local.rest)
        candidate.reasons.append(f"but what is {local.rest}?")
        if len(local.rest) > 1:
            candidate.cap(REGION_CAP, f"{local.rest} is not understood")
    candidate.worth = max(candidate.worth, 0.0)
    yield candidate


def _modalities(candidate: Candidate, local: Signature, other: Signature) -> None:
    if not local.modality:
        candidate.worth -= _SAME - _UNSAID
        candidate.reasons.append("but the modality is not said")
    elif local.modality != other.modality:
        candidate.cap(MODALITY_CAP, f"{local.modality} is not {other.modality}")
    else:
        candidate.reasons.append(local.modality)


def _regions(candidate: Candidate, local: Signature, other: Signature) -> None:
    if local.regions == other.regions:
        if local.regions:
            candidate.reasons.append("、".join(sorted(local.regions)))
        return
    more, less = local.regions - other.regions, other.regions - local.regions
    what = "、".join(sorted(more | less))
    candidate.cap(REGION_CAP, f"another region: {what}")


def _techniques(candidate: Candidate, local: Signature, other: Signature) -> None:
    more, less = local.techniques - other.techniques, other.techniques - local.techniques
    optional = _OPTIONAL | ({"fluoroscopy"} if other.modality == "RF" else set())
    if not (more - optional or less - optional):
        if local.techniques & other.techniques:
            candidate.reasons.append("、".join(sorted(local.techniques & other.techniques)))
        candidate.worth -= 0.03 * len(more | less)
        return
    what = "、".join(sorted((more | less) - optional))
    candidate.cap(TECHNIQUE_CAP, f"another technique: {what}")


def _contrast(candidate: Candidate, local: Signature, other: Signature) -> None:
    if local.contrast == other.contrast:
        candidate.reasons.append(f"contrast: {other.contrast}")
    elif local.contrast:
        if local.techniques & other.techniques & _SETTLES and not (
            local.contrast == "none" or other.contrast == "none"
        ):
            return
        candidate.cap(CONTRAST_CAP, f"contrast: {local.contrast}, not {other.contrast}")
    elif not local.techniques & other.techniques & _SETTLES:
        candidate.worth = min(candidate.worth, _UNSAID if other.contrast == "none" else 0.35)
        candidate.reasons.append("but whether contrast is given is not said")


def _views(candidate: Candidate, local: Signature, other: Signature) -> None:
    if local.views == other.views:
        if local.views:
            candidate.reasons.append("、".join(sorted(local.views)))
    elif not local.views:
        candidate.worth = min(candidate.worth, _UNSAID)
        candidate.reasons.append("but the views are not said")
    elif not other.views:
        candidate.worth = min(candidate.worth, _UNSAID + 0.2)
        candidate.reasons.append("the item names no views")
    else:
        candidate.cap(VIEW_CAP, f"views: {'、'.join(sorted(local.views ^ other.views))}")


def _side(candidate: Candidate, local: Signature, item: Item) -> None:
    allowed = {"R/L": "LRS", "R/L/B": "LRBS", "B": "B", "unpaired": ""}.get(item.laterality, "LRBS")
    if local.side and local.side not in allowed:
        if local.side == "B":  # both sides of what has two, or of what has none
            return
        candidate.cap(SIDE_CAP, "one side is not both" if allowed == "B" else "it has no sides")


def _doubt(found: list[Candidate]) -> None:
    """Several items that the name fits as well: none of them is likely."""
    if not found or found[0].worth < _UNSAID:
        return
    rivals = [one for one in found if not one.against and found[0].worth - one.worth < 0.02]
    if len(rivals) > 1:
        for one in rivals:
            others = ", ".join(other.item.name_zh for other in rivals if other is not one)
            one.worth -= 0.3
            one.reasons.append(f"but so could be {others}")
