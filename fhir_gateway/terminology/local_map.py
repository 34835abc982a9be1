"""The local codes of one institution and what they mean: rows, and finding the one that fits.

Rows come from two layers: the table that is installed with the gateway, and ConceptMaps that were
stored by API or accepted from the work list. docs/adr/0018 says how the two go together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import Item
from fhir_gateway.terminology.specimen import compare_specimens
from fhir_gateway.terminology.unit import compare_units

Use = Literal["result", "order"]
USES: tuple[Use, ...] = ("result", "order")

#: A row without a system fits a code of any system but these: nobody's own codes live there.
_STANDARD = (
    "http://loinc.org", "http://snomed.info", "http://hl7.org/", "http://terminology.hl7.org/",
    "http://dicom.nema.org/", "http://unitsofmeasure.org", "urn:oid:2.16.840.1.113883.6.",
    f"{CANONICAL}/CodeSystem/",
)  # fmt: skip


#: Ends the url of the system of an institution's own codes, where it has named none.
LOCAL_SUFFIX = "-items"


#: What is said of each item of a panel where nobody has said more.
PART_OF_PANEL = "One item of the panel"


@dataclass(frozen=True, slots=True)
class Row:
    """One row. No items: the code is known and stands for nothing in the catalogue.

    It holds from the day `start` to the day `end`, both included; "" is no bound. `source` is the
    canonical of the ConceptMap that it stands in, `stored` whether that is in the store.
    """

    use: Use
    system: str
    code: str
    name: str
    items: tuple[Item, ...]
    specimen: str = ""
    unit: str = ""
    method: str = ""
    note: str = ""
    start: str = ""
    end: str = ""
    source: str = ""
    stored: bool = False


@dataclass(frozen=True, slots=True)
class Stated:
    """What a resource says beside its code; it tells rows of the same code apart."""

    specimen: str = ""
    unit: str = ""
    method: str = ""
    day: str = ""  # a FHIR date as spelled, also a partial one; "" when none is stated


class Meaning(NamedTuple):
    """What a code means: its items, none for nothing in the catalogue, and who says so."""

    items: tuple[Item, ...]
    source: str


@dataclass(frozen=True, slots=True)
class LocalMap:
    """The rows of one institution, of both layers."""

    institution: str
    rows: tuple[Row, ...]
    _index: Mapping[tuple[str, str], tuple[Row, ...]] = field(repr=False)

    def find(self, use: Use, concept: Mapping[str, Any], stated: Stated) -> Meaning | None:
        """What a CodeableConcept means here; without items when the map says it means none.

        None when no row fits, when it is not known whether one does, and when several fit that
        mean different things: a doubt is not decided by the order of rows.
        """
        fitting = [row for row in self._named(use, concept) if _fits(row, stated)]
        if len(fitting) > 1:
            fitting = _best(fitting, stated)
        if not fitting or any(_holds(row, stated.day) is None for row in fitting):
            return None
        meaning = fitting[0].items
        if any(row.items != meaning for row in fitting):
            return None
        return Meaning(meaning, fitting[0].source)

    def rows_of(self, use: Use, system: str, code: str) -> list[Row]:
        """The rows that are about a code, whatever else they ask for."""
        return list(self._named(use, {"coding": [{"system": system, "code": code}]}))

    def effective(self) -> list[Row]:
        """The rows that count: those of the table only where no stored row goes before them."""
        return [
            row
            for row in self.rows
            if row.stored
            or not any(
                _replaces(newer, row, "") and newer.system in ("", row.system)
                for newer in self._index.get((row.use, row.code or f"={row.name}"), ())
                if newer.stored
            )
        ]

    def _named(self, use: Use, concept: Mapping[str, Any]) -> Iterable[Row]:
        codings = concept.get("coding", ())
        for coding in codings:
            system = coding.get("system", "")
            for row in self._index.get((use, coding.get("code", "")), ()):
                if system == row.system if row.system else not is_standard(system):
                    yield row
        if not any(coding.get("code") for coding in codings):
            names = {concept.get("text"), *(coding.get("display") for coding in codings)}
            for name in names:
                yield from self._index.get((use, f"={name}"), ())

    def counts(self) -> tuple[int, int]:
        """(rows that count and have an item, those without)."""
        rows = self.effective()
        mapped = sum(1 for row in rows if row.items)
        return mapped, len(rows) - mapped


def local_map(institution: str, rows: Sequence[Row]) -> LocalMap:
    """The map of these rows."""
    index: dict[tuple[str, str], tuple[Row, ...]] = {}
    for row in rows:
        key = (row.use, row.code or f"={row.name}")
        index[key] = (*index.get(key, ()), row)
    return LocalMap(institution, tuple(rows), index)


def is_standard(system: str) -> bool:
    """Whether a code system is a published one, so that its codes are nobody's own."""
    return system.startswith(_STANDARD) and not system.endswith(LOCAL_SUFFIX)


def comment_of(row: Row) -> str:
    """The note of a row; R4 wants one where a target is but a part (cmd-1)."""
    return row.note or (PART_OF_PANEL if len(row.items) > 1 else "")


def note_in(comment: str) -> str:
    """What somebody noted; "" for what `comment_of` says by itself."""
    return "" if comment == PART_OF_PANEL else comment


def overlap(one: Row, other: Row) -> bool:
    """Whether two rows of the same key can hold on the same day."""
    return not (
        (one.end and other.start and one.end < other.start)
        or (other.end and one.start and other.end < one.start)
    )


def day_of(resource: Mapping[str, Any]) -> str:
    """The date by which a resource is judged, as spelled: when it is effective, else when it was
    issued, ordered or begun; "" when it names none."""
    period = resource.get("effectivePeriod", {})
    return str(
        resource.get("effectiveDateTime")
        or resource.get("effectiveInstant")
        or period.get("start")
        or min(resource.get("effectiveTiming", {}).get("event", ()), default="")
        or resource.get("issued")
        or resource.get("authoredOn")
        or resource.get("started")
        or period.get("end")
        or ""
    )


def _fits(row: Row, stated: Stated) -> bool:
    """No cell of the row is contradicted."""
    if row.specimen and compare_specimens(stated.specimen, row.specimen) is False:
        return False
    if row.unit and compare_units(stated.unit, row.unit) is False:
        return False
    if row.method and stated.method and row.method != stated.method:
        return False
    return _holds(row, stated.day) is not False


def _holds(row: Row, day: str) -> bool | None:
    """Whether a row holds on a day; None when the day is not known well enough."""
    if not (row.start or row.end):
        return True
    day = day[:10]
    if not day:
        return None
    first, last = (day + "-01-01")[:10], (day + "-12-31" if len(day) == 4 else day + "-31")[:10]
    if (row.start and last < row.start) or (row.end and first > row.end):
        return False
    if (not row.start or row.start <= first) and (not row.end or last <= row.end):
        return True
    return None


def _best(fitting: list[Row], stated: Stated) -> list[Row]:
    """The rows that the resource confirms most, without those that a stored row replaces."""
    stored = [row for row in fitting if row.stored]
    if stored and len(stored) < len(fitting):
        fitting = [
            row
            for row in fitting
            if row.stored or not any(_replaces(newer, row, stated.day) for newer in stored)
        ]
    confirmed = [_confirmed(row, stated) for row in fitting]
    best = max(confirmed)
    return [row for row, sure in zip(fitting, confirmed, strict=True) if sure == best]


def _replaces(newer: Row, row: Row, day: str) -> bool:
    """Whether a stored row says all that a row of the table does: it asks for nothing more."""
    asked = ((newer.specimen, row.specimen), (newer.unit, row.unit), (newer.method, row.method))
    return all(not new or new == old for new, old in asked) and _holds(newer, day) is True


def _confirmed(row: Row, stated: Stated) -> int:
    """How many cells of the row the resource states itself."""
    return (
        (bool(row.specimen) and compare_specimens(stated.specimen, row.specimen) is True)
        + (bool(row.unit) and compare_units(stated.unit, row.unit) is True)
        + (bool(row.method) and row.method == stated.method)
    )
