"""Which results a caller wants: by item, class, day, institution and status. Pure.

Dates compare ranges as searches do (hl7.org/fhir/R4/search.html, 3.1.1.4.5): a result whose time is
only partly known is a range too, so that no filter hides what might be meant by `ge` or `le`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.recognition.model import COMING, PENDING
from fhir_gateway.store.results_sql import ResultRow
from fhir_gateway.terminology.catalogue import Catalogue, Item

#: Statuses of what is taken back: shown as such, never hidden by itself.
VOID = frozenset({"cancelled", "entered-in-error"})

#: By prefix: does a result's time low..high meet the day low..high that was asked for?
_COMPARE: Mapping[str, Callable[[int, int, int, int], bool]] = {
    "eq": lambda low, high, first, last: first <= low and high <= last,
    "ne": lambda low, high, first, last: not (first <= low and high <= last),
    "gt": lambda low, high, first, last: high > last,
    "lt": lambda low, high, first, last: low < first,
    "ge": lambda low, high, first, last: high >= first,
    "le": lambda low, high, first, last: low <= last,
    "sa": lambda low, high, first, last: low > last,
    "eb": lambda low, high, first, last: high < first,
}


class Filter(NamedTuple):
    """What is wanted; what is None or empty asks for nothing in particular."""

    items: frozenset[str] | None = None
    classes: frozenset[str] = frozenset()
    dates: Sequence[tuple[str, int, int]] = ()
    institutions: frozenset[str] = frozenset()
    statuses: frozenset[str] = frozenset()

    @property
    def is_open(self) -> bool:
        """True when every result is wanted."""
        return self == ANY

    def has(self, one: ResultRow, catalogue: Catalogue) -> bool:
        """Whether a result is wanted. All kinds of filter must be met, any value of each."""
        if self.items is not None and one.item not in self.items:
            return False
        if self.institutions and one.issuer not in self.institutions:
            return False
        if self.statuses and shown_status(one.status, one.report_status) not in self.statuses:
            return False
        if self.classes and not self.classes & classes_of(one, entry_of(catalogue, one.item)):
            return False
        return all(
            _COMPARE[prefix](one.time, one.time_high, low, high) for prefix, low, high in self.dates
        )


ANY = Filter()


def shown_status(status: str, report_status: str) -> str:
    """The status of a result: void as soon as it or its report is, else the report's own."""
    if status in VOID:
        return status
    return report_status or status


def is_void(status: str, report_status: str) -> bool:
    """Whether a result was taken back, by itself or with its report."""
    return status in VOID or report_status in VOID


def is_pending(flags: int, report_status: str) -> bool:
    """Whether a result is still to come."""
    return bool(flags & PENDING) or report_status in COMING


def entry_of(catalogue: Catalogue, item: str) -> Item | None:
    """The catalogue's entry of an item, also of one that has left the list."""
    return catalogue.items.get(item) or catalogue.retired.get(item)


def classes_of(one: ResultRow, entry: Item | None) -> frozenset[str]:
    """The words by which a class is asked for: lab or imaging, the class, the modality."""
    words = {one.kind} | ({entry.item_class, entry.modality} if entry is not None else set())
    return frozenset(words - {""})


def items_of(names: Iterable[str], catalogue: Catalogue) -> frozenset[str]:
    """The items that codes of items or of panels name. Raises Invalid for an unknown one."""
    found: set[str] = set()
    for name in names:
        panel = catalogue.panels.get(name)
        if panel is not None:
            found.update(panel.items)
        elif entry_of(catalogue, name) is not None:
            found.add(name)
        else:
            raise Invalid(
                "item is a code of the catalogue, of an item or of a panel: see "
                "CodeSystem/catalogue-lab and CodeSystem/catalogue-imaging",
                expression="item",
                rule="unknown-item",
            )
    return frozenset(found)


def known_classes(catalogue: Catalogue) -> frozenset[str]:
    """Every word that `class` may be."""
    entries = (*catalogue.items.values(), *catalogue.retired.values())
    words = {"lab", "imaging", *(one.item_class for one in entries)}
    return frozenset((words | {one.modality for one in entries}) - {""})


def dates_of(texts: Iterable[str], zone: str) -> tuple[tuple[str, int, int], ...]:
    """Days or times with their prefixes. Raises Invalid for what is none."""
    found = []
    for text in texts:
        prefix = text[:2] if text[:2] in _COMPARE else ""
        try:
            low, high = date_range(text[len(prefix) :], zone)
        except (Invalid, ValueError):
            raise Invalid(
                "date is a day or a time, with a prefix such as ge or le: ge2026-01-31",
                expression="date",
                rule="search-value",
            ) from None
        found.append((prefix or "eq", low, high))
    return tuple(found)
