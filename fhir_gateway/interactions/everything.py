"""Patient/[id]/$everything: the whole record of one patient, page by page.

hl7.org/fhir/R4/patient-operation-everything.html. First the Patient, then all of the person's home
that names this Patient, whatever its type, then the same for every other record of the person, last
what all these refer to outside of any person's home (Practitioner, Organization, Medication …),
each once. A page goes on from the place where the one before ended; the link that says so is bound
to caller, question and records. AuditEvents and decisions are not part: search them by patient.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Deleted, Invalid, NotFound, NotSupported
from fhir_gateway.fhir import bundle
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.interactions.audit import disclose_search
from fhir_gateway.interactions.care_dates import care_dates
from fhir_gateway.interactions.operation_definitions import MANY, Call, Definition
from fhir_gateway.interactions.operation_definitions import Parameter as P
from fhir_gateway.interactions.paging import holder_of
from fhir_gateway.interactions.people import People, person_of
from fhir_gateway.interactions.permits import check_types
from fhir_gateway.interactions.references import JOURNAL_TYPES
from fhir_gateway.interactions.search_answer import of_persons, said_of
from fhir_gateway.search.page import next_link, resume, self_link
from fhir_gateway.search.plan import SearchPlan, Sort
from fhir_gateway.search.results import CURSOR, PERSON
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.people_sql import PersonRecord
from fhir_gateway.store.store import Dates, Reader, Stored

EVERYTHING = Definition(
    code="everything",
    title="The whole record of one patient",
    says=(
        "A searchset of the Patient, of all resources that name this Patient, of all other records "
        "of the person, and of what they refer to (practitioners, organizations, medications …), "
        "paged by next links. AuditEvent and GuidanceResponse are not part of it."
    ),
    types=("Patient",),
    levels=("instance",),
    takes=(
        P("start", "date", "First day of care; what has no care date is in every range"),
        P("end", "date", "Last day of care; what has no care date is in every range"),
        P("_since", "instant", "Only what was stored at or after this time, and the Patient"),
        P("_type", "code", "Only these resource types; a comma stands between them", 0, MANY),
        P("_count", "integer", "Resources on a page; the server's limit when left out"),
        P(PERSON, "boolean", "false: this Patient's record alone, not the whole person's"),
        P(CURSOR, "string", "Where the page before ended; stands in next links only"),
    ),
    gives=(P("return", "Bundle", "A searchset", 1),),
    standard="Patient-everything",
)

#: Places in the order of a record, as cursors say them after the id of the record: before the
#: Patient itself, before its first resource, or a (type, rid). No id: a name of what is shared.
_PATIENT, _START, _SHARED = "", "*", ""

#: Resources that are looked through at once for what they refer to.
_PIECE = 500

#: Before the name of another resource: in a Reference, and in an Attachment.
_BEFORE = (b'"reference":"', b'"url":"')
_NAME = re.compile(rb"([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})(?:/_history/.{1,64})?")

Name = tuple[str, str]


class Wanted(NamedTuple):
    """What of the record is asked for."""

    types: frozenset[str] | None
    since: int | None
    dates: Dates | None
    most: int  # resources on a page
    persons: bool  # all records of the person

    def has(self, type: str) -> bool:
        """True when resources of the type are wanted."""
        return self.types is None or type in self.types


class Found(NamedTuple):
    """One page, and the place of its end when there is more."""

    matches: list[Stored]
    shared: list[Stored]
    next: tuple[str, str, int] | None


async def everything(gateway: Gateway, actor: Actor, call: Call) -> bytes:
    """One page as a searchset. Raises NotFound, Deleted, Invalid for parameters and link."""
    wanted = _wanted(gateway, call)
    check_types(gateway, actor, wanted.types or (), expression="_type")
    holder = holder_of(gateway, actor)
    async with gateway.store.snapshot(actor.access) as reader:
        patient = await reader.read("Patient", call.id)
        if patient is None:
            raise NotFound("There is no such Patient", rule="unknown-id")
        if patient.deleted:
            raise Deleted("This Patient is deleted", rule="deleted")
        own = PersonRecord(patient.id, patient.home, patient.rid, patient.owner)
        person = People(patient.id, [own])
        if wanted.persons:
            person = await person_of(reader, patient.id)
        records = sorted(person.records, key=lambda one: one.id != patient.id)
        plan = of_persons(_plan(call, wanted), [person])
        plan = resume(plan, holder)
        place = plan.after or (patient.id, _PATIENT, 0)
        found = await _matches(reader, records, wanted, place)
        said = await said_of(gateway, reader, actor, plan, [person], [patient])
    if found.next is None:
        found = await _and_shared(gateway, actor, records, wanted, place, found)
    asked = self_link("", plan).removeprefix("/")
    await disclose_search(
        gateway,
        actor,
        asked=asked,
        bound=person.ids,
        matches=found.matches,
        included=found.shared,
        interaction="operation",
    )
    links = [("self", self_link(call.base, plan))]
    if found.next is not None:
        link = next_link(call.base, plan, found.next, holder)
        links.append(("next", link))
    return bundle.searchset([*_hits(call.base, found), *said], links=links)


def _wanted(gateway: Gateway, call: Call) -> Wanted:
    zone, limit = gateway.settings.zone, gateway.settings.page_limit
    start, end, since = (call.value(name) for name in ("start", "end", "_since"))
    low = date_range(start, zone)[0] if start else None
    high = date_range(end, zone)[1] if end else None
    if low is not None and high is not None and low > high:
        raise Invalid("start must not be after end", expression="start", rule="range")
    count = call.value("_count")
    if count is not None and count < 1:
        raise Invalid("_count must be at least 1", expression="_count", rule="search-count")
    return Wanted(
        types=_types(call.values("_type")),
        since=date_range(since, zone)[0] if since else None,
        dates=care_dates(low, high),
        most=min(count or limit, limit),
        persons=call.value(PERSON) is not False,
    )


def _types(texts: Iterable[str]) -> frozenset[str] | None:
    names = [name for text in texts for name in text.split(",")]
    for name in names:
        if name not in definitions().resource_type_set:
            raise Invalid("_type names resource types of R4", expression="_type", rule="type")
        if name in JOURNAL_TYPES:
            raise NotSupported(
                f"{name} is not part of $everything; search {name}?patient=",
                expression="_type",
                rule="type",
            )
    return frozenset(names) or None


def _plan(call: Call, wanted: Wanted) -> SearchPlan:
    """The question in the form by which links are made and cursors are bound (search.page)."""
    applied = [(name, call.value(name)) for name in ("start", "end", "_since")]
    applied.append(("_type", ",".join(sorted(wanted.types or ()))))
    if call.value("_count") is not None:
        applied.append(("_count", str(wanted.most)))
    if call.value(PERSON) is not None:
        applied.append((PERSON, "true" if wanted.persons else "false"))
    return SearchPlan(
        f"Patient/{call.id}/$everything",
        sort=(Sort(0, "id"), Sort(0, "id")),  # a place is three values
        people=(call.id,),
        applied=tuple(pair for pair in applied if pair[1]),
        cursor=call.value(CURSOR),
    )


async def _matches(
    reader: Reader,
    records: Sequence[PersonRecord],
    wanted: Wanted,
    place: tuple[int | str, ...],
) -> Found:
    """What the records hold from a place on, as far as the page has room."""
    matches: list[Stored] = []
    ids = [one.id for one in records]
    if place[0] == _SHARED or place[0] not in ids:
        return Found(matches, [], None)
    for record in records[ids.index(str(place[0])) :]:
        type, rid = (str(place[1]), int(place[2])) if record.id == place[0] else (_PATIENT, 0)
        if type == _PATIENT and wanted.has("Patient"):
            if len(matches) == wanted.most:
                return Found(matches, [], (record.id, _PATIENT, 0))
            patient = await reader.read("Patient", record.id)
            matches += [patient] if patient is not None else []
        room = wanted.most - len(matches)
        rows = await reader.record(
            record.home,
            record.id,
            after=None if type in (_PATIENT, _START) else (type, rid),
            limit=room + 2,  # one that shows whether there are more, and the Patient itself
            types=None if wanted.types is None else sorted(wanted.types),
            since=wanted.since,
            dates=wanted.dates,
        )
        rows = [one for one in rows if one.type != "Patient"]
        matches += rows[:room]
        if len(rows) > room:
            last = rows[room - 1] if room else None
            end = (record.id, last.type, last.rid) if last else (record.id, _START, 0)
            if not room and type not in (_PATIENT, _START):
                end = (record.id, type, rid)
            return Found(matches, [], end)
    return Found(matches, [], None)


async def _and_shared(
    gateway: Gateway,
    actor: Actor,
    records: Sequence[PersonRecord],
    wanted: Wanted,
    place: tuple[int | str, ...],
    found: Found,
) -> Found:
    """The page with what the whole record refers to, now that the record is at its end."""
    if wanted.types is None and place == (records[0].id, _PATIENT, 0):  # all of it is here
        names = _names(found.matches)
    else:
        names = set[Name]()
        for record in records:
            names |= await _names_of_record(gateway, actor, record, wanted)
    done = str(place[1]) if place[0] == _SHARED else ""
    ahead = [name for name in names if wanted.has(name[0]) and "/".join(name) > done]
    async with gateway.store.snapshot(actor.access) as reader:
        stored = await reader.shared(ahead)
    room = wanted.most - len(found.matches)
    if len(stored) <= room:
        return Found(found.matches, stored, None)
    end = f"{stored[room - 1].type}/{stored[room - 1].id}" if room else ""
    return Found(found.matches, stored[:room], (_SHARED, end, 0))


async def _names_of_record(
    gateway: Gateway, actor: Actor, record: PersonRecord, wanted: Wanted
) -> set[Name]:
    """What a record refers to, `_type` apart; read again, since a page remembers nothing."""
    if wanted.types == frozenset({"Patient"}):
        return set()
    async with gateway.store.snapshot(actor.access) as reader:
        patient = await reader.read("Patient", record.id)
    names = _names([patient] if patient is not None and not patient.deleted else [])
    after: tuple[str, int] | None = None
    while True:
        async with gateway.store.snapshot(actor.access) as reader:
            rows = await reader.record(
                record.home,
                record.id,
                after=after,
                limit=_PIECE,
                since=wanted.since,
                dates=wanted.dates,
            )
        names |= _names(rows)
        if len(rows) < _PIECE:
            return names
        after = (rows[-1].type, rows[-1].rid)


def _names(resources: Iterable[Stored]) -> set[Name]:
    """The local references of resources, found in their bytes: no resource is parsed for it."""
    texts: set[bytes] = set()
    whole = b"".join(one.tail for one in resources)
    for before in _BEFORE:
        texts.update(part[: part.find(b'"')] for part in whole.split(before)[1:])
    found = (match for text in texts if (match := _NAME.fullmatch(text)))
    names = {(match[1].decode(), match[2].decode()) for match in found}
    return {
        name
        for name in names
        if name[0] in definitions().resource_type_set and name[0] not in JOURNAL_TYPES
    }


def _hits(base: str, found: Found) -> list[bundle.Hit]:
    hits = [bundle.Hit(f"{base}/{one.type}/{one.id}", one.whole()) for one in found.matches]
    hits += [
        bundle.Hit(f"{base}/{one.type}/{one.id}", one.whole(), "include") for one in found.shared
    ]
    return hits
