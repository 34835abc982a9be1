"""The words of the matcher: names of the items, and the words that names are made of.

Tables in the terminology folder, edited with a spreadsheet; docs/local-codes.md tells their
columns. A site that has another catalogue brings its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fhir_gateway.terminology.catalogue import Catalogue
from fhir_gateway.terminology.table import Table

#: Kinds of synonyms that are no plain name of the item: one that says it only where the specimen
#: is known, and one that several items share.
WITHIN, SHARED = "within specimen", "shared"

_KINDS = frozenset({"name", "abbreviation", "older name", "colloquial", WITHIN, SHARED})
_LANGUAGES = frozenset({"zh", "en"})
_ASPECTS: Mapping[str, frozenset[str]] = {
    "synonyms-laboratory.csv": frozenset(
        {"specimen", "scale", "method", "brand", "noise", "mark", "soft"}
    ),
    "synonyms-imaging.csv": frozenset(
        {"modality", "region", "contrast", "side", "technique", "view", "noise"}
    ),
}


@dataclass(frozen=True, slots=True)
class Synonym:
    """A name of an item."""

    item: str
    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class Words:
    """Everything the tables say. Words are (aspect, value) by word; panels items by name."""

    synonyms: tuple[Synonym, ...]
    laboratory: tuple[tuple[str, str, str], ...]
    imaging: tuple[tuple[str, str, str], ...]
    panels: tuple[tuple[str, tuple[str, ...]], ...]
    characters: Mapping[int, str]


def load_words(folder: Path | str, catalogue: Catalogue) -> Words:
    """The words in this folder. Raises Unprocessable with every fault: file, row, column."""
    folder = Path(folder)
    names = Table(folder / "synonyms.csv", ("item", "language", "synonym", "kind"))
    synonyms = [
        Synonym(cells["item"], cells["synonym"], cells["kind"])
        for line, cells in names.rows()
        if _is_synonym(names, line, cells, catalogue)
    ]
    panels, found = _panels(folder, catalogue)
    tables = [names, panels]
    parts = []
    for name, aspects in _ASPECTS.items():
        table = Table(folder / name, ("aspect", "value", "word"))
        parts.append(_words(table, aspects))
        tables.append(table)
    letters = Table(folder / "synonyms-characters.csv", ("traditional", "simplified"))
    characters = {
        ord(cells["traditional"]): cells["simplified"]
        for line, cells in letters.rows()
        if _is_pair(letters, line, cells)
    }
    for table in (*tables[1:], letters):
        names.issues += table.issues
    names.check()
    return Words(tuple(synonyms), parts[0], parts[1], found, characters)


def _is_synonym(table: Table, line: int, cells: dict[str, str], catalogue: Catalogue) -> bool:
    before = len(table.issues)
    if cells["item"] not in catalogue.items:
        table.fault(line, "item", "is not in the catalogue", rule="synonym-item")
    if not cells["synonym"]:
        table.fault(line, "synonym", "the cell is empty", rule="synonym-empty")
    if cells["language"] not in _LANGUAGES:
        table.fault(line, "language", "must be zh or en", rule="synonym-language")
    if cells["kind"] not in _KINDS:
        kinds = ", ".join(sorted(_KINDS))
        table.fault(line, "kind", f"must be one of {kinds}", rule="synonym-kind")
    return len(table.issues) == before


def _panels(
    folder: Path, catalogue: Catalogue
) -> tuple[Table, tuple[tuple[str, tuple[str, ...]], ...]]:
    table = Table(folder / "synonyms-panels.csv", ("name", "items"))
    panels = []
    for line, cells in table.rows():
        items = tuple(code.strip() for code in cells["items"].split(";") if code.strip())
        unknown = [code for code in items if code not in catalogue.items]
        if unknown or not items:
            text = f"not in the catalogue: {', '.join(unknown)}" if unknown else "the cell is empty"
            table.fault(line, "items", text, rule="synonym-item")
        panels.append((cells["name"], items))
    return table, tuple(panels)


def _words(table: Table, aspects: frozenset[str]) -> tuple[tuple[str, str, str], ...]:
    words = []
    for line, cells in table.rows():
        if cells["aspect"] not in aspects:
            known = ", ".join(sorted(aspects))
            table.fault(line, "aspect", f"must be one of {known}", rule="synonym-aspect")
        elif not cells["word"]:
            table.fault(line, "word", "the cell is empty", rule="synonym-empty")
        words.append((cells["aspect"], cells["value"], cells["word"]))
    return tuple(words)


def _is_pair(table: Table, line: int, cells: dict[str, str]) -> bool:
    if len(cells["traditional"]) == len(cells["simplified"]) == 1:
        return True
    table.fault(line, "traditional", "one character in each column", rule="synonym-character")
    return False
