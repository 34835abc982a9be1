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
from fhir_gateway.recognition.facts_more import SAME, link_more_of, more_of
from fhir_gateway.recognition.model import IMAGES, PRINTED_MARK, Candidate, Query
from fhir_gateway.store.changes import Evaluation
from fhir_gateway.store.store import StoredFact

__all__ = ["UNCODED", "Register", "add_rows", "candidates", "evaluations_to_read", "items_to_read"]

_Kind = Literal["lab", "imaging"]

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
    imaging = [stored for stored in facts if stored.fact.kind == "imaging"]
    exams = examinations(imaging)
    reports = {
        (stored.fact.source, stored.fact.item)
        for stored in imaging
        if not stored.fact.source.startswith("ImagingStudy/")
    }
    found = [
        _result(stored, register)
        if stored.fact.kind != "imaging"
        else _examination(stored, exams, register)
        for stored in facts
        if stored.fact.item != UNCODED
        and (not reports or (stored.report_source, stored.fact.item) not in reports)
        and not (imaging and exams.is_told(stored))
    ]
    return found if _is_in_one_unit(facts) else _in_one_unit(found, facts)


def _result(stored: StoredFact, register: Register) -> Candidate:
    """A laboratory result. Most rows are one: nothing is called here that it does not need."""
    fact = stored.fact
    more, report = more_of(fact.more), link_more_of(stored.report_more)
    mark = fact.mark or report.mark
    return Candidate(
        source=fact.source,
        rid=stored.rid,
        version=stored.version,
        patient=stored.patient,
        item=fact.item,
        kind=cast(_Kind, fact.kind),
        time=fact.time,
        time_high=fact.time_high,
        issued=fact.issued,
        status=fact.status,
        report_status=stored.report_status,
        report_source=stored.report_source,
        issuer=fact.issuer,
        specimen=fact.specimen,
        unit=fact.unit,
        method=fact.method,
        value=fact.value,
        laterality=fact.laterality,
        flags=fact.flags | PRINTED_MARK if mark else fact.flags,
        mark=mark,
        images=True if fact.flags & IMAGES else None,
        evaluations=register.get((fact.issuer, fact.item), ()),
        t_from=stored.t_from,
        time_of=more.time_of,
        zone_known=not more.zone,
        quantity=fact.value if more.quantity == SAME else more.quantity,
        instrument=more.instrument,
        panel=report.panel,
        interval=more.interval,
        door=more.door or ("fhir" if fact.more else ""),
    )


def _examination(stored: StoredFact, exams: Examinations, register: Register) -> Candidate:
    """A report or a study, with what belongs to it."""
    fact = stored.fact
    studies = exams.studies(stored)
    time, high, time_of = exam_time(fact, studies)
    return replace(
        _result(stored, register),
        time=time,
        time_high=high,
        time_of=time_of,
        zone_known=zone_known(fact, studies),
        laterality=side(fact, studies),
        flags=fact.flags | exams.flags(stored) | (PRINTED_MARK if fact.mark else 0),
        mark=fact.mark,
        images=images(fact, studies),
        region=region(fact, studies),
        contrast=contrast(fact, studies),
        accession=more_of(fact.more).accession,
        panel="",
        retrievable=retrievable(fact, studies, register),
    )


def _unit(stored: StoredFact) -> str:
    """The unit of a row's quantity, "" when it has none."""
    more = more_of(stored.fact.more)
    return (stored.fact.unit if more.unit == SAME else more.unit) if more.quantity else ""


def _is_in_one_unit(facts: Sequence[StoredFact]) -> bool:
    """Whether the quantities of each item are in one unit, as they are but for a moment."""
    units: dict[str, str] = {}
    for stored in facts:
        fact = stored.fact
        more = more_of(fact.more)
        if more.quantity:
            unit = fact.unit if more.unit == SAME else more.unit
            if units.setdefault(fact.item, unit) != unit:
                return False
    return True


def _in_one_unit(found: list[Candidate], facts: Sequence[StoredFact]) -> list[Candidate]:
    """Quantities in the unit of the newest row of their item: where the catalogue's unit was
    another one once, rows from then have none until they are derived again."""
    newest: dict[str, tuple[int, str]] = {}
    units: dict[tuple[str, str, int], str] = {}
    for stored in facts:
        if unit := _unit(stored):
            item = stored.fact.item
            units[item, stored.fact.source, stored.version] = unit
            newest[item] = max(newest.get(item, (-1, "")), (stored.t_from, unit))
    return [
        replace(one, quantity="")
        if one.quantity and units[one.item, one.source, one.version] != newest[one.item][1]
        else one
        for one in found
    ]


def _row_order(row: Evaluation) -> tuple[str, str, str, str, bool]:
    return (row.start, row.end, row.area, row.round, row.passed)
