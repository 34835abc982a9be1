"""What `load` reads, in pieces that are stored one by one: lines of NDJSON, or a whole file.

Files come in an order in which most references are stored before they are needed; what still
waits for something is tried again at the end, line by line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence, Set
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from fhir_gateway.cli import load_files
from fhir_gateway.cli.load_files import File
from fhir_gateway.errors import GatewayError

#: Lines of NDJSON that are stored together.
LINES = 500

#: Types in the order of their references; those that are not named come before Observation.
_BEFORE = (
    "Organization", "Location", "Practitioner", "PractitionerRole", "HealthcareService",
    "Endpoint", "Medication", "Substance", "Patient", "RelatedPerson", "Device", "EpisodeOfCare",
    "Encounter", "Condition", "ServiceRequest", "Specimen", "ImagingStudy",
)  # fmt: skip
_AFTER = (
    "Observation", "DiagnosticReport", "DocumentReference", "Composition", "ExplanationOfBenefit",
    "Task", "List", "Group", "Linkage", "Bundle", "Provenance",
)  # fmt: skip
_RANKS = {type: rank for rank, type in enumerate(_BEFORE)}
_RANKS |= {type: len(_BEFORE) + 1 + rank for rank, type in enumerate(_AFTER)}

_TYPE = re.compile(rb'"resourceType"\s*:\s*"([A-Za-z]+)"')


class Piece(NamedTuple):
    """A part of a file: some of its lines with their numbers, or all of it. `size` is what it takes
    on the disk, as far as that is known."""

    path: Path
    size: int
    is_lines: bool = False
    numbers: tuple[int, ...] = ()
    lines: tuple[bytes, ...] = ()


class Todo(NamedTuple):
    """A file to be loaded: all of it, or those of its lines that waited."""

    file: File
    only: Set[int] | None = None


def steps(files: Sequence[File]) -> list[list[Todo]]:
    """The files in the order in which they are loaded; those of one step side by side."""
    ranked = sorted((_rank(file), place, file) for place, file in enumerate(files))
    return [
        [Todo(file) for _, _, file in group] for _, group in groupby(ranked, lambda one: one[0])
    ]


def _rank(file: File) -> tuple[int, int]:
    """By its name, and a file of NDJSON by the type of its first resource."""
    try:
        if load_files.kind_of(file.path) != "ndjson":
            return file.rank, len(_BEFORE)
        head = load_files.read_head(file.path)
    except GatewayError:
        return file.rank, len(_BEFORE)
    found = _TYPE.search(head)
    return 0 if found else file.rank, _RANKS.get(found[1].decode() if found else "", len(_BEFORE))


def pieces(todo: Todo) -> Iterator[Piece]:
    """The pieces of a file, read as they are asked for. Raises Structure, TooLong."""
    file, only = todo
    try:
        is_whole = load_files.kind_of(file.path) != "ndjson"
    except GatewayError:
        is_whole = True  # whoever loads it says what is wrong
    if is_whole:
        yield Piece(file.path, file.size)
        return
    numbers: list[int] = []
    lines: list[bytes] = []
    before = 0
    for number, line, place in load_files.read_lines(file.path):
        if only is not None and number not in only:
            continue
        numbers.append(number)
        lines.append(line)
        if len(lines) == LINES:
            yield Piece(file.path, place - before, True, tuple(numbers), tuple(lines))
            numbers, lines, before = [], [], place
    if lines:
        rest = max(0, file.size - before)
        yield Piece(file.path, rest, True, tuple(numbers), tuple(lines))
