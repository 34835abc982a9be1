"""From stored facts to candidates: joins a report, its images and the issuer's evaluations.

One examination is one candidate: a study that a report refers to lends the report its images,
side and time. Nothing is read here; `recognition.ask` reads what these functions ask for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, cast

from fhir_gateway.recognition.model import (
    IMAGES,
    NO_IMAGES,
    Candidate,
    Query,
)
from fhir_gateway.store.changes import Evaluation, Fact
from fhir_gateway.store.store import StoredFact

#: Studies without a catalogue coding stand under this item; they lend reports their images.
UNCODED = ""
#: No item is answered for by another.
NOTHING_WIDER: Mapping[str, Sequence[str]] = MappingProxyType({})


def items_to_read(query: Query, wider: Mapping[str, Sequence[str]] = NOTHING_WIDER) -> list[str]:
    """The items whose facts a Query needs: the ordered ones, each once, and uncoded studies.

    `wider` names the examinations that answer for an item, where the rule set has any.
    """
    items = dict.fromkeys(line.item for line in query.items if line.item)
    for item in list(items) if wider else ():
        items.update(dict.fromkeys(wider.get(item, ())))
    return [*items, UNCODED] if items else []


def evaluations_to_read(facts: Iterable[StoredFact]) -> list[tuple[str, str]]:
    """The (institution, item) pairs of the register that the facts' candidates need."""
    pairs = {
        (stored.fact.issuer, stored.fact.item): None
        for stored in facts
        if stored.fact.item and stored.fact.issuer
    }
    return list(pairs)


#: Rows of the register by (institution, item), each in the order of `add_rows`.
Register = dict[tuple[str, str], tuple[Evaluation, ...]]


def add_rows(
    register: Register, pairs: Iterable[tuple[str, str]], rows: Iterable[Evaluation]
) -> None:
    """Adds what was read for these pairs, also that there is nothing."""
    found: dict[tuple[str, str], list[Evaluation]] = {pair: [] for pair in pairs}
    for row in rows:
        found[row.institution, row.item].append(row)
    for pair, own in found.items():
        register[pair] = tuple(sorted(own, key=_row_order))


def candidates(facts: Sequence[StoredFact], register: Register) -> list[Candidate]:
    """One candidate for every result of an item, in the order of the facts."""
    studies: dict[str, list[StoredFact]] = {}
    reports: set[tuple[str, str]] = set()
    for stored in facts:
        fact = stored.fact
        if fact.kind != "imaging":
            continue
        if fact.source.startswith("ImagingStudy/"):
            if stored.report_source:
                studies.setdefault(stored.report_source, []).append(stored)
        else:
            reports.add((fact.source, fact.item))
    return [
        _candidate(stored, studies.get(stored.fact.source, ()), register)
        for stored in facts
        if stored.fact.item != UNCODED and (stored.report_source, stored.fact.item) not in reports
    ]


def _candidate(
    stored: StoredFact,
    studies: Sequence[StoredFact],
    register: Register,
) -> Candidate:
    fact = stored.fact
    time, high, side = fact.time, fact.time_high, fact.laterality
    if studies:
        time, high = _time(fact, studies)
        side = _laterality(fact, studies)
    return Candidate(
        source=fact.source,
        rid=stored.rid,
        version=stored.version,
        patient=stored.patient,
        item=fact.item,
        kind=cast(Literal["lab", "imaging"], fact.kind),
        time=time,
        time_high=high,
        issued=fact.issued,
        status=fact.status,
        report_status=stored.report_status,
        report_source=stored.report_source,
        issuer=fact.issuer,
        specimen=fact.specimen,
        unit=fact.unit,
        method=fact.method,
        value=fact.value,
        laterality=side,
        flags=fact.flags,
        mark=fact.mark,
        images=_images(fact, studies),
        evaluations=register.get((fact.issuer, fact.item), ()),
        t_from=stored.t_from,
    )


def _row_order(row: Evaluation) -> tuple[str, str, str, str, bool]:
    return (row.start, row.end, row.area, row.round, row.passed)


def _time(fact: Fact, studies: Sequence[StoredFact]) -> tuple[int, int]:
    """The report's own time; that of its studies when it states none."""
    started = [study.fact for study in studies if study.fact.time]
    if fact.time or not started:
        return fact.time, fact.time_high
    return min(s.time for s in started), max(s.time_high for s in started)


def _laterality(fact: Fact, studies: Sequence[StoredFact]) -> str:
    sides = {study.fact.laterality for study in studies} - {""}
    if fact.laterality or not sides:
        return fact.laterality
    return sides.pop() if len(sides) == 1 else "B"


def _images(fact: Fact, studies: Sequence[StoredFact]) -> bool | None:
    """True when any study's images can be fetched, False when all say there are none."""
    if not studies and fact.kind != "imaging":
        return True if fact.flags & IMAGES else None
    facts = [fact, *(study.fact for study in studies)]
    if any(one.flags & IMAGES for one in facts):
        return True
    told = [one for one in facts if one.source.startswith("ImagingStudy/")]
    return False if told and all(one.flags & NO_IMAGES for one in told) else None
