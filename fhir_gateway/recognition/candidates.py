"""From stored facts to candidates: joins a report, its images and the issuer's evaluations.

One examination is one candidate (recognition.examinations). A laboratory result takes status, mark
and panel of the report that carries it. Nothing is read here; `recognition.ask` reads what these
functions ask for. docs/facts.md
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, cast

from msgspec.structs import replace

from fhir_gateway.recognition.examinations import (
    UNCODED,
    Examinations,
    Register,
    contrast,
    endpoint_pairs,
    exam_time,
    examinations,
    images,
    region,
    retrievable,
    side,
    zone_known,
)
from fhir_gateway.recognition.facts_more import SAME, More, link_more_of, more_of
from fhir_gateway.recognition.model import PRINTED_MARK, Candidate, Query
from fhir_gateway.store.changes import Evaluation
from fhir_gateway.store.store import StoredFact

__all__ = ["UNCODED", "Register", "add_rows", "candidates", "evaluations_to_read", "items_to_read"]

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
    """The (institution, item) pairs of the register that the facts' candidates need, and those in
    which it stands whether images can be fetched."""
    pairs: dict[tuple[str, str], None] = {}
    for stored in facts:
        fact = stored.fact
        if fact.item and fact.issuer:
            pairs[fact.issuer, fact.item] = None
        if fact.kind == "imaging" and fact.more:
            pairs.update(dict.fromkeys(endpoint_pairs([fact])))
    return list(pairs)


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
    exams = examinations(facts)
    reports = {
        (stored.fact.source, stored.fact.item)
        for stored in facts
        if stored.fact.kind == "imaging" and not stored.fact.source.startswith("ImagingStudy/")
    }
    found = [
        _candidate(stored, exams, register)
        for stored in facts
        if stored.fact.item != UNCODED
        and (stored.report_source, stored.fact.item) not in reports
        and not exams.is_told(stored)
    ]
    return _in_one_unit(found, facts)


def _candidate(stored: StoredFact, exams: Examinations, register: Register) -> Candidate:
    fact = stored.fact
    more = more_of(fact.more)
    report = link_more_of(stored.report_more)
    studies = exams.studies(stored) if fact.kind == "imaging" else ()
    time, high, time_of = exam_time(fact, studies)
    mark = fact.mark or report.mark
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
        laterality=side(fact, studies),
        flags=fact.flags | exams.flags(stored) | (PRINTED_MARK if mark else 0),
        mark=mark,
        images=images(fact, studies),
        evaluations=register.get((fact.issuer, fact.item), ()),
        t_from=stored.t_from,
        time_of=time_of,
        zone_known=zone_known(fact, studies),
        quantity=fact.value if more.quantity == SAME else more.quantity,
        instrument=more.instrument,
        region=region(fact, studies),
        contrast=contrast(fact, studies),
        accession=more.accession,
        panel=report.panel,
        interval=more.interval,
        door=_door(fact.more, more),
        retrievable=retrievable(fact, studies, register),
    )


def _door(packed: str, more: More) -> str:
    """The door; "" for a row from before it was told."""
    return more.door or ("fhir" if packed else "")


def _in_one_unit(found: list[Candidate], facts: Sequence[StoredFact]) -> list[Candidate]:
    """Quantities of an item are in one unit, that of the newest row: where the catalogue's unit
    was another one once, rows from then have none until they are derived again."""
    units: dict[str, tuple[int, str]] = {}
    of: dict[tuple[str, str, int], str] = {}
    for stored in facts:
        more = more_of(stored.fact.more)
        if more.quantity:
            unit = stored.fact.unit if more.unit == SAME else more.unit
            of[stored.fact.item, stored.fact.source, stored.version] = unit
            units[stored.fact.item] = max(
                units.get(stored.fact.item, (-1, "")), (stored.t_from, unit)
            )
    if all(unit == units[key[0]][1] for key, unit in of.items()):
        return found
    return [
        replace(one, quantity="")
        if of.get((one.item, one.source, one.version), "") != units.get(one.item, (0, ""))[1]
        else one
        for one in found
    ]


def _row_order(row: Evaluation) -> tuple[str, str, str, str, bool]:
    return (row.start, row.end, row.area, row.round, row.passed)
