"""Patient/[id]/$accesses: who looked at a person's data, when, why, and what was told to them.

Personal Information Protection Law of China, articles 44 and 45; IHE BALP. A person sees every
access to the own data, an institution its own acts, the regulator all. It is read from the journal
itself, with every export whose files named the person, and of all records of the person; what is
told here is an access too and is on record before it is told. docs/accountability.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fhir_gateway.accountability.journal import END, Place, Recorded, of_person
from fhir_gateway.accountability.words import KINDS, act_words, is_emergency, purpose_words
from fhir_gateway.audit.events_parts import PERSONS_NAMED, PURPOSES
from fhir_gateway.audit.events_read import Act
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden, Invalid, NotFound
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.wire import render
from fhir_gateway.interactions.audit import disclose_search, owner_of
from fhir_gateway.interactions.export_ledger import job_key
from fhir_gateway.interactions.operation_definitions import MANY, Call, Definition
from fhir_gateway.interactions.operation_definitions import Parameter as P
from fhir_gateway.interactions.paging import holder_of
from fhir_gateway.interactions.people import person_of
from fhir_gateway.search.page import next_link, resume, self_link
from fhir_gateway.search.plan import SearchPlan, Sort
from fhir_gateway.search.results import CURSOR
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor

_COUNTED = P("count", "integer", "How many of them the event names", 1)

ACCESSES = Definition(
    code="accesses",
    title="Who looked at a person's data",
    says=(
        "Every act that concerned any record of the person, the newest first: who, of which "
        "institution, when, for which purpose, and what was told. Exports whose files name the "
        "person are among them, with every download. A person sees all, an institution its own "
        "acts, the regulator all."
    ),
    types=("Patient",),
    levels=("instance",),
    takes=(
        P("start", "date dateTime", "Only what was recorded on or after it"),
        P("end", "date dateTime", "Only what was recorded on or before it"),
        P("institution", "string", "Only acts of this institution: id or Organization/id"),
        P("kind", "code", "Only acts of this kind, such as read or break-glass", 0, MANY),
        P("_count", "integer", "Acts on a page; 50 when left out, 500 at most"),
        P(CURSOR, "string", "Where the page before ended; stands in next links only"),
    ),
    gives=(
        P("patient", "Reference", "A record of the person", 0, MANY),
        P("self", "uri", "The question as it was understood", 1),
        P("next", "uri", "The next page; absent on the last one"),
        P("access", "", "An act", 0, MANY, parts=(
            P("event", "Reference", "The AuditEvent that records it", 1),
            P("when", "instant", "When it was recorded", 1),
            P("kind", "code", "What was done", 1),
            P("text", "string", "The same in Chinese", 1),
            P("text-en", "string", "The same in English", 1),
            P("outcome", "code", "0 done, 4 or 8 refused or failed", 1),
            P("who", "string", "The person or system that acted", 1),
            P("institution", "Reference", "Its institution"),
            P("client", "string", "The registered client that was used"),
            P("purpose", "Coding", "Purpose of use, in Chinese"),
            P("purpose-en", "string", "The same in English", 1),
            P("basis", "code", "Legal basis by the policy of the site"),
            P("break-glass", "boolean", "Whether it was an emergency access", 1),
            P("operation", "string", "Interaction or operation", 1),
            P("query", "string", "What was searched for, without what identifies people"),
            P("said", "string", "Counts and codes of the answer"),
            P("what", "", "What the event names", 0, MANY, parts=(
                P("type", "code", "Resource type", 1), _COUNTED,
            )),
            P("export", "string", "The export whose files name the person"),
            P("types", "string", "Resource types in that export"),
            P("download", "", "A file of it that was handed out", 0, MANY, parts=(
                P("file", "string", "Name of the file", 1),
                P("when", "instant", "When it was handed out", 1),
                P("who", "string", "To whom", 1),
            )),
        )),
    ),
)  # fmt: skip

_COUNT, _MOST = 50, 500

#: Rows of the journal that are read at once; what a filter leaves out is read over.
_PIECE = 500


class Whose(NamedTuple):
    """The person that is asked about, and whose acts the caller may see (None: everybody's)."""

    homes: tuple[int, ...]
    ids: tuple[str, ...]
    owners: frozenset[int] | None


class Filter(NamedTuple):
    """Which acts are wanted; "", () and the ends of time leave it open."""

    start: int
    end: int
    institution: str
    kinds: frozenset[str]

    def takes(self, act: Act) -> bool:
        """Whether an act is one of them, its time apart."""
        return self.institution in ("", act.institution) and (
            not self.kinds or act.kind in self.kinds
        )


class Access_(NamedTuple):
    """An act that concerned the person, and the downloads of an export."""

    place: Place
    act: Act
    downloads: tuple[Act, ...] = ()


async def accesses(gateway: Gateway, actor: Actor, call: Call) -> bytes:
    """One page as Parameters. Raises NotFound, Forbidden, Invalid for parameters and page link."""
    whose = await _whose(gateway, actor, call.id)
    wanted, count = _filter(gateway, call), _count(call)
    holder = holder_of(gateway, actor)
    plan = resume(_plan(call), holder)
    t, n, i, _ = (int(one) for one in plan.after or (*END, 0))
    page, more = await page_of(gateway, whose, wanted, before=(t, n, i), count=count)
    await disclose_search(
        gateway, actor, asked=self_link("", plan).removeprefix("/"), bound=whose.ids, matches=(),
        interaction="operation",
    )  # fmt: skip
    links = [("self", self_link(call.base, plan))]
    if more:
        after = (*page[-1].place, 0)
        links.append(("next", next_link(call.base, plan, after, holder)))
    told = [{"name": "patient", "valueReference": {"reference": f"Patient/{id}"}}
            for id in whose.ids]  # fmt: skip
    told += [{"name": name, "valueUri": link} for name, link in links]
    told += [_told(gateway, one) for one in page]
    return render({"resourceType": "Parameters", "parameter": told})


async def page_of(
    gateway: Gateway, whose: Whose, wanted: Filter, *, before: Place, count: int
) -> tuple[list[Access_], bool]:
    """The next acts, newest first, and whether there are more."""
    found: list[Access_] = []
    while True:
        rows = await _rows(gateway, whose, before)
        for row in rows:
            if row.updated < wanted.start:
                return found, False
            act = row.act
            if row.updated <= wanted.end and wanted.takes(act) and _is_about(act, whose):
                if len(found) == count:
                    return found, True
                found.append(Access_(row.place, act, await _downloads(gateway, act)))
        if len(rows) < _PIECE:
            return found, False
        before = rows[-1].place


async def _rows(gateway: Gateway, whose: Whose, before: Place) -> list[Recorded]:
    owners = None if whose.owners is None else sorted(whose.owners)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return await reader.steps(
            lambda seen: of_person(seen, whose.homes, owners=owners, before=before, limit=_PIECE)
        )


async def _downloads(gateway: Gateway, act: Act) -> tuple[Act, ...]:
    """When the files of an export were handed out; () for every other act."""
    if dict(act.details).get(PERSONS_NAMED) is None:
        return ()
    rows: list[Recorded] = []
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        rows = await reader.steps(
            lambda seen: of_person(seen, [job_key(act.file)], owners=None, before=END, limit=_PIECE)
        )
    acts = [row.act for row in rows]
    return tuple(one for one in acts if one.file.startswith(f"{act.file}/"))


def _is_about(act: Act, whose: Whose) -> bool:
    """Whether an act that stands in the home is about one of the person's own records: a home that
    came apart holds acts about others too."""
    if named := dict(act.details).get(PERSONS_NAMED):
        return not whose.ids or any(id in whose.ids for id in named.split())
    return not act.patients or any(one.partition("/")[2] in whose.ids for one in act.patients)


async def _whose(gateway: Gateway, actor: Actor, id: str) -> Whose:
    """Whose accesses, and how many of them the caller may see. Raises NotFound, Forbidden."""
    owners = owners_of(actor)
    access = SYSTEM_ACCESS if owners is None and actor.access.homes is None else actor.access
    async with gateway.store.snapshot(access) as reader:
        person = await person_of(reader, id)
        homes = tuple(dict.fromkeys(one.home for one in person.records))
        if not homes and access is SYSTEM_ACCESS:  # deleted, and still accounted for
            home = await reader.home("Patient", id)
            homes = (home,) if home is not None and home > 0 else ()
    if not homes:
        raise NotFound("There is no such Patient", rule="unknown-id")
    if owners is not None and not owners:
        raise Forbidden("This caller has no acts of its own to account for", rule="accesses")
    return Whose(homes, person.ids, owners)


def owners_of(actor: Actor) -> frozenset[int] | None:
    """Whose acts a caller may see: its institution's own, whatever else the policy opens to it;
    None, everybody's, for the regulator and for the person."""
    if actor.role in _OWN:
        return frozenset({owner_of(actor.institution)} if actor.institution else ())
    return None


#: Roles that account for the acts of their institution alone (the table of rights says the same).
_OWN = frozenset({"institution", "clinician", "evaluator"})


def _filter(gateway: Gateway, call: Call) -> Filter:
    zone = gateway.settings.zone
    since, until = call.value("start"), call.value("end")
    start = date_range(since, zone)[0] if since else 0
    end = date_range(until, zone)[1] if until else 1 << 62
    if end < start:  # "nobody" would be no answer to it
        raise Invalid("end lies before start", expression="end", rule="period")
    if not KINDS.issuperset(call.values("kind")):
        known = ", ".join(sorted(KINDS))
        raise Invalid(f"kind is one of {known}", expression="kind", rule="unknown-kind")
    institution = str(call.value("institution") or "").removeprefix("Organization/")
    return Filter(start, end, institution, frozenset(call.values("kind")))


def _count(call: Call) -> int:
    count = call.value("_count")
    if count is not None and count < 1:
        raise Invalid("_count must be at least 1", expression="_count", rule="search-count")
    return min(count or _COUNT, _MOST)


def _plan(call: Call) -> SearchPlan:
    """The question in the form by which links are made and cursors are bound (search.page)."""
    taken = {row.name: call.values(row.name) for row in ACCESSES.takes if row.name != CURSOR}
    return SearchPlan(
        f"Patient/{call.id}/$accesses",
        sort=(Sort(0, "id"), Sort(0, "id"), Sort(0, "id")),  # a place is three values
        applied=tuple((name, str(value)) for name, found in taken.items() for value in found),
        cursor=call.value(CURSOR),
        people=(call.id,),
    )


# -- in words --------------------------------------------------------------------------------------


def _told(gateway: Gateway, one: Access_) -> dict[str, Any]:
    act = one.act
    words, why = act_words(act), purpose_words(gateway.policy, act)
    details = dict(act.details)
    in_export = PERSONS_NAMED in details
    parts: list[dict[str, Any] | None] = [
        {"name": "event", "valueReference": {"reference": f"AuditEvent/{act.id}"}},
        {"name": "when", "valueInstant": act.recorded},
        {"name": "kind", "valueCode": act.kind},
        _text("text", words.zh),
        _text("text-en", words.en),
        {"name": "outcome", "valueCode": act.outcome},
        _text("who", act.who or "-"),
        _institution(act),
        _text("client", act.client),
        _purpose(act, why.zh),
        _text("purpose-en", why.en),
        {"name": "basis", "valueCode": act.basis} if act.basis else None,
        {"name": "break-glass", "valueBoolean": is_emergency(act)},
        _text("operation", act.name),
        _text("query", act.query),
        _text("said", "" if in_export else act.said),
        *(_what(type, count) for type, count in act.types().items()),
        _text("export", act.file if in_export else ""),
        _text("types", details.get("types", "") if in_export else ""),
        *map(_download, one.downloads),
    ]
    return {"name": "access", "part": [part for part in parts if part is not None]}


def _text(name: str, text: str) -> dict[str, Any] | None:
    return {"name": name, "valueString": text} if text else None


def _institution(act: Act) -> dict[str, Any] | None:
    if not act.institution:
        return None
    reference = {"reference": f"Organization/{act.institution}", "display": act.institution_name}
    return {
        "name": "institution",
        "valueReference": {name: value for name, value in reference.items() if value},
    }


def _purpose(act: Act, text: str) -> dict[str, Any] | None:
    if not act.purpose:
        return None
    coding = {"system": PURPOSES, "code": act.purpose, "display": text}
    return {"name": "purpose", "valueCoding": coding}


def _what(type: str, count: int) -> dict[str, Any]:
    parts: list[Mapping[str, Any]] = [
        {"name": "type", "valueCode": type}, {"name": "count", "valueInteger": count},
    ]  # fmt: skip
    return {"name": "what", "part": parts}


def _download(act: Act) -> dict[str, Any]:
    parts = [
        _text("file", act.file.partition("/")[2]),
        {"name": "when", "valueInstant": act.recorded},
        _text("who", act.who or "-"),
    ]
    return {"name": "download", "part": parts}
