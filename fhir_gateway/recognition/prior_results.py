"""The earlier results of a person at all institutions, as a workstation lists them.

Everything comes from the facts, in one covering read; no resource is parsed. What is told of each
result is a fact of that result (value, status, issuer, images) or follows from a register at the
day of the examination (mark, window). Whether it may be recognised is decided on request only, by
the rules in force and for information: no decision is recorded, since nothing was ordered.
docs/prior-results.md, docs/adr/0027
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from fhir_gateway.audit.events import search_event
from fhir_gateway.audit.query import masked
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Deleted, NotFound
from fhir_gateway.interactions.audit import call_of, disclose, entry
from fhir_gateway.interactions.people import People, person_of
from fhir_gateway.interactions.people_told import Told, told_sources
from fhir_gateway.recognition.candidates import add_rows, candidates, evaluations_to_read
from fhir_gateway.recognition.decide import decide
from fhir_gateway.recognition.examinations import UNCODED, examinations
from fhir_gateway.recognition.known import Known, known
from fhir_gateway.recognition.model import (
    Candidate,
    Identity,
    ItemOutcome,
    OrderedItem,
    Query,
)
from fhir_gateway.recognition.prior_filter import ANY, Filter
from fhir_gateway.recognition.vocabulary import areas_within
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.people_sql import PersonRecord
from fhir_gateway.store.results_sql import ResultRow, results
from fhir_gateway.store.store import Person, Reader, StoredFact

#: Results on a page when the caller does not say how many.
COUNT = 200


class PriorQuestion(NamedTuple):
    """What is asked. `patient` is a logical id; `person` false means that record alone.

    `receiver` is the institution that asks: marks are judged by whether they reach it. `t` is the
    commit of the first page, 0 on it: all pages show what was stored then. `asked` is the address,
    as the audit log keeps it.
    """

    patient: str
    receiver: str = ""
    wanted: Filter = ANY
    evaluate: bool = False
    person: bool = True
    most: int = COUNT
    offset: int = 0
    t: int = 0
    asked: str = "Patient/$prior-results"


class Group(NamedTuple):
    """The results of one item on the page, newest first, of so `many` altogether."""

    item: str
    many: int
    results: Sequence[ResultRow]
    outcome: ItemOutcome | None = None


class Examination(NamedTuple):
    """An imaging result as its report and its studies tell it together."""

    candidate: Candidate
    studies: Sequence[str]  # "ImagingStudy/id"


class Prior(NamedTuple):
    """The answer: groups in the order of their newest result.

    `total` counts what meets the question, `end` is the offset of the next page, 0 on the last.
    `examinations` are the imaging results put together with their studies.
    """

    person: People
    identity: Person
    query: Query
    groups: Sequence[Group]
    total: int
    end: int
    facts: Known
    told: Told
    examinations: Mapping[tuple[str, str], Examination]


async def prior_results(gateway: Gateway, actor: Actor, question: PriorQuestion) -> Prior:
    """One page of the earlier results of a person, audited for each record before it is told.

    Raises NotFound and Deleted for the Patient, and Unavailable when it cannot be audited.
    """
    now = gateway.clock.now() // 1000 * 1000
    async with gateway.store.snapshot(actor.access) as reader:
        t = question.t or reader.t
        person, identity = await _who(reader, question, t)
        facts = await known(gateway, reader, now, question.receiver)
        query = _query(gateway, question, identity, facts, now, t)
        rows = await _rows(reader, person, question.wanted, facts, t)
        await _learn(reader, rows, facts)
        rows, exams = _joined(rows, facts)
        asked = _asked(rows, question.wanted, facts)
        groups, end = _page(asked, question)
        if question.evaluate:
            identity = await _doubt(reader, identity, groups, t)
            groups = _evaluated(query, identity, groups, rows, exams, facts)
        told = await told_sources(gateway, reader, actor.access)
    shown = sum(len(group.results) for group in groups)
    await _audit(gateway, actor, question, person, shown)
    return Prior(person, identity, query, groups, len(asked), end, facts, told, exams)


async def _who(reader: Reader, question: PriorQuestion, t: int) -> tuple[People, Person]:
    identity = await reader.person(question.patient, t)
    if identity is None:
        stored = await reader.read("Patient", question.patient)
        if stored is not None and stored.deleted:
            raise Deleted("This Patient is deleted", rule="deleted")
        raise NotFound("There is no such Patient", rule="unknown-id")
    person = await person_of(reader, question.patient)
    if not question.person:
        own = [one for one in person.records if one.id == question.patient]
        person = person._replace(records=own)
    return person, identity


def _query(
    gateway: Gateway, question: PriorQuestion, identity: Person, facts: Known, now: int, t: int
) -> Query:
    """What marks and windows are judged by, in the form that criteria take it."""
    receiver = facts.institutions.get(question.receiver)
    area = receiver.area if receiver else gateway.settings.area
    return Query(
        patient=question.patient,
        home=identity.home,
        items=(),
        receiver=question.receiver,
        receiver_area=area,
        as_of_us=now,
        zone=gateway.settings.zone,
        identity=Identity(identity.documented, identity.contested),
        t=t,
        receiver_within=areas_within(gateway, area),
        homes=identity.homes if len(identity.homes) > 1 else (),
        context_known=False,
    )


async def _rows(
    reader: Reader, person: People, wanted: Filter, facts: Known, t: int
) -> list[ResultRow]:
    """The facts of these records; what other records of a home say is not theirs."""
    homes = sorted({one.home for one in person.records})
    items = _to_read(wanted, facts)
    rows = await reader.steps(lambda seen: results(seen, homes, t, items))
    ids = {one.id for one in person.records}
    return [one for one in rows if one.patient in ids]


def _to_read(wanted: Filter, facts: Known) -> set[str] | None:
    """The items to read: those asked for, the wider ones that may answer for them, and studies
    without an item, which lend reports their images. None for all."""
    if wanted.items is None:
        return None
    wider = facts.rules.rule_set.wider if facts.rules else {}
    more = {one for item in wanted.items for one in wider.get(item, ())}
    return {UNCODED, *wanted.items, *more}


async def _learn(reader: Reader, rows: Sequence[ResultRow], facts: Known) -> None:
    """Reads what the register lacks of these issuers and images."""
    pairs = {(one.issuer, one.item): None for one in rows if one.issuer and one.item}
    pairs |= dict.fromkeys(evaluations_to_read(_imaging(rows)))
    missing = [pair for pair in pairs if pair not in facts.register]
    if missing:
        add_rows(facts.register, missing, await reader.evaluations(missing, reader.t))


def _imaging(rows: Iterable[ResultRow]) -> list[StoredFact]:
    """The rows of examinations, newest first, as candidates are made of them."""
    found = [one.stored() for one in rows if one.kind == "imaging"]
    found.sort(key=lambda one: (-one.fact.time, -one.rid))
    return found


def _joined(
    rows: Sequence[ResultRow], facts: Known
) -> tuple[list[ResultRow], dict[tuple[str, str], Examination]]:
    """The rows newest first, with one row for each examination, and the examinations by (result,
    item)."""
    imaging = _imaging(rows)
    exams: dict[tuple[str, str], Examination] = {}
    if imaging:
        joined = examinations(imaging)
        studies = {
            one.fact.source: list(dict.fromkeys(s.fact.source for s in joined.studies(one)))
            for one in imaging
        }
        for one in candidates(imaging, facts.register):
            exams[one.source, one.item] = Examination(one, studies.get(one.source, ()))
    found = [one for one in rows if one.kind != "imaging"]
    for row in rows:
        exam = exams.get((row.source, row.item)) if row.kind == "imaging" else None
        if exam is not None:
            told = exam.candidate
            found.append(row._replace(time=told.time, time_high=told.time_high, flags=told.flags))
    found.sort(key=_newest_first)
    return found, exams


def _newest_first(one: ResultRow) -> tuple[int, int, int, str, int]:
    return (-one.time, -one.time_high, -one.issued, one.source, one.ordinal)


def _asked(rows: list[ResultRow], wanted: Filter, facts: Known) -> list[ResultRow]:
    if wanted.is_open:
        return rows
    catalogue = facts.view.catalogue
    return [one for one in rows if wanted.has(one, catalogue)]


def _page(asked: Iterable[ResultRow], question: PriorQuestion) -> tuple[list[Group], int]:
    """The groups of the page, in the order of the newest result of each, and where it ends."""
    by_item: dict[str, list[ResultRow]] = {}
    for one in asked:
        by_item.setdefault(one.item, []).append(one)
    groups, passed = [], 0
    first, last = question.offset, question.offset + question.most
    for item, members in by_item.items():
        begin, end = max(first - passed, 0), max(last - passed, 0)
        if members[begin:end]:
            groups.append(Group(item, len(members), members[begin:end]))
        passed += len(members)
    return groups, last if last < passed else 0


async def _doubt(reader: Reader, identity: Person, groups: Sequence[Group], t: int) -> Person:
    """The identity; doubtful only where the other person has a result of one of these items."""
    if not identity.rivals:
        return identity._replace(doubtful=False)
    items = {group.item for group in groups}
    rivals = identity.rivals
    theirs = await reader.steps(lambda seen: results(seen, rivals, t, items))
    return identity._replace(doubtful=bool(theirs))


def _evaluated(
    query: Query,
    identity: Person,
    groups: Sequence[Group],
    rows: Iterable[ResultRow],
    exams: Mapping[tuple[str, str], Examination],
    facts: Known,
) -> list[Group]:
    """The groups with what the rules in force would answer if the item were ordered now."""
    rule_set = facts.rules.rule_set if facts.rules else None
    items = tuple(OrderedItem(one.item, one.item) for one in groups)
    who = Identity(identity.documented, identity.contested, identity.doubtful)
    lab = candidates([one.stored() for one in rows if one.kind != "imaging"], facts.register)
    seen = [*lab, *(one.candidate for one in exams.values())]
    asked = replace(query, items=items, identity=who)
    decision = decide(asked, seen, rule_set, facts.view.catalogue)
    return [
        group._replace(outcome=outcome)
        for group, outcome in zip(groups, decision.items, strict=True)
    ]


async def _audit(
    gateway: Gateway, actor: Actor, question: PriorQuestion, person: People, count: int
) -> None:
    """One event for each record of which something is told, also that nothing is there."""
    if not gateway.audit:
        return
    call = call_of(gateway, actor)
    query = masked(question.asked, gateway.store.index_key)
    await disclose(
        gateway,
        [
            entry(
                gateway,
                search_event(call, query=query, patient=one, count=count, interaction="operation"),
                patient=one,
            )
            for one in person.ids
        ],
    )


def records_by_owner(prior: Prior) -> list[tuple[PersonRecord, str]]:
    """The records of the answer, each with the name of its institution, "" when nobody owns it."""
    return [(one, prior.told.names.get(one.owner, "")) for one in prior.person.records]
