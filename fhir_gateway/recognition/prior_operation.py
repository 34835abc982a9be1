"""Patient/[id]/$prior-results: what a workstation shows of earlier results, page by page.

definitions of its parameters, and the reading of a call; `prior_results.py` answers it and
`prior_told.py` writes the Parameters. docs/prior-results.md, docs/adr/0027
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden, Invalid
from fhir_gateway.fhir.datatypes import Reference, parse_reference
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.operation_definitions import MANY, Call, Definition, Taken
from fhir_gateway.interactions.operation_definitions import Parameter as P
from fhir_gateway.interactions.paging import holder_of
from fhir_gateway.interactions.people import person_of
from fhir_gateway.interactions.search_answer import of_persons
from fhir_gateway.recognition.prior_filter import Filter, dates_of, items_of, known_classes
from fhir_gateway.recognition.prior_results import COUNT, PriorQuestion, prior_results
from fhir_gateway.recognition.prior_told import told
from fhir_gateway.recognition.vocabulary import catalogue_of, vocabulary_of
from fhir_gateway.search.page import next_link, resume, self_link
from fhir_gateway.search.plan import SearchPlan, Sort
from fhir_gateway.search.results import CURSOR, PERSON
from fhir_gateway.security.actor import Actor

_RESULT = (
    P("reference", "Reference", "The result, report or study, with its version", 1),
    P("patient", "Reference", "The record that it names, where the person has several"),
    P("time", "dateTime", "Collection or examination, as exactly as it is known"),
    P("time-of", "code", "Which time that is: collected, performed, started or issued"),
    P("zone-known", "boolean", "false: the zone of the time is not known"),
    P("issued", "instant", "When the report was issued"),
    P("status", "code", "Status of the report, or of the result without one", 1),
    P("void", "boolean", "true: it was taken back; show it struck through"),
    P("pending", "boolean", "true: it is still to come"),
    P("flag", "code", "critical or abnormal"),
    P("value", "string", "Value and unit as spelled"),
    P("quantity", "Quantity", "The number in the catalogue's unit, where it converts exactly"),
    P("issuer", "Reference", "The institution that issued it"),
    P("mark", "code", "evaluated, or why no mark reaches the receiver from the day of the exam", 1),
    P("window-end", "date dateTime", "Until when the window lasts"),
    P("days-left", "integer", "Days until then; negative when it has ended"),
    P("in-window", "boolean", "Whether the window has not ended"),
    P("report", "Reference", "The report that carries it"),
    P("study", "Reference", "An imaging study of the report", 0, MANY),
    P("specimen", "string", "Class of the specimen"),
    P("method", "string", "Method"),
    P("instrument", "string", "Class of the instrument"),
    P("laterality", "code", "R, L or B"),
    P("region", "string", "Body regions of the images, as DICOM names them"),
    P("contrast", "code", "none, with or without-with"),
    P("panel", "code", "The panel whose report carries it"),
    P("interval", "code", "Kind of the reference interval"),
    P("door", "code", "How it came in: fhir, v2, dicom, cda or table"),
    P("images", "boolean", "Whether the images can be fetched; absent when that is not known"),
    P("outcome", "code", "Its own outcome; with evaluate=true only"),
)
_ITEM = (
    P("item", "Coding", "The item of the catalogue", 1),
    P("kind", "code", "lab or imaging", 1),
    P("class", "string", "The class of the item in the catalogue"),
    P("modality", "code", "Modality of an examination"),
    P("unit", "code", "UCUM unit of every quantity of the item"),
    P("count", "integer", "How many results of the item meet the question", 1),
    P("window-days", "integer", "How long a result may be used"),
    P("window-source", "string", "published: and the list, compiled (our own) or rule-set"),
    P("outcome", "code", "What the rules in force would answer now; with evaluate=true only"),
    P("reason", "code", "The deciding reason; with evaluate=true only"),
    P("text", "string", "The outcome as a sentence; with evaluate=true only"),
    P("result", "", "A result, newest first", 1, MANY, parts=_RESULT),
)
_SOURCE = (
    P("institution", "Reference", "The institution", 1),
    P("last-received", "instant", "When it last sent anything"),
    P("stale", "boolean", "Whether that is too long ago", 1),
    P("asked", "boolean", "false: the caller may not see what it has", 1),
)

PRIOR_RESULTS = Definition(
    code="prior-results",
    title="The earlier results of a person at all institutions",
    says=(
        "Results, reports and imaging studies of all records of the person, by item, the newest "
        "first, with issuer, mark, window and a number in the catalogue's unit. Results whose code "
        "is not mapped to the catalogue are not part of it: search Observation. An empty answer "
        "says that nothing is available to the caller, never that there is nothing."
    ),
    types=("Patient",),
    levels=("instance",),
    takes=(
        P("item", "code", "Only this item, or the items of this panel", 0, MANY),
        P("class", "string", "Only lab or imaging, a class, or a modality", 0, MANY),
        P("date", "string", "Only this day of collection or examination; eq, ne, gt, lt, ge, le, "
          "sa or eb may stand before it", 0, MANY),
        P("institution", "string", "Only what this institution issued: id or Organization/id",
          0, MANY),
        P("status", "code", "Only this status of the report or result", 0, MANY),
        P("receiver", "string", "The institution that the patient is at, whose area marks must "
          "reach: id or Organization/id; the caller's own when left out"),
        P("encounter", "string", "The visit whose institution is the receiver: id or Encounter/id"),
        P("evaluate", "boolean", "true: also what the rules in force would answer"),
        P(PERSON, "boolean", "false: this Patient's record alone, not the whole person's"),
        P("_count", "integer", f"Results on a page; {COUNT} when left out"),
        P(CURSOR, "string", "Where the page before ended; stands in next links only"),
    ),
    gives=(
        P("patient", "Reference", "The Patient that was asked for", 1),
        P("identity", "code", "documented, undocumented, contested or doubtful", 1),
        P("as-of", "instant", "The moment by which windows are counted", 1),
        P("total", "integer", "How many results meet the question", 1),
        P("rule-set", "canonical", "The rule set in force, whose windows these are"),
        P("record", "", "A record of the person in this answer", 0, MANY, parts=(
            P("patient", "Reference", "The Patient", 1),
            P("institution", "string", "Whose record it is"),
        )),
        P("text", "string", "What an empty answer means, in Chinese"),
        P("text-en", "string", "The same in English"),
        P("self", "uri", "The question as it was understood", 1),
        P("next", "uri", "The next page; absent on the last one"),
        P("item", "", "An item with its results; the one with the newest result comes first",
          0, MANY, parts=_ITEM),
        P("source", "", "An institution that the answer could have come from", 0, MANY, _SOURCE),
    ),
)  # fmt: skip


async def prior_results_operation(gateway: Gateway, actor: Actor, call: Call) -> bytes:
    """One page. Raises Invalid for parameters and page link, NotFound and Deleted for the Patient
    and the visit, Forbidden when an institution asks on behalf of another."""
    wanted = _filter(gateway, call)
    receiver = await _receiver(gateway, actor, call)
    count = _count(gateway, call)
    holder = holder_of(gateway, actor)
    is_person = call.value(PERSON) is not False
    plan = _plan(call)
    if is_person:
        async with gateway.store.snapshot(actor.access) as reader:
            plan = of_persons(plan, [await person_of(reader, call.id)])
    plan = resume(plan, holder)
    t, offset = (int(one) for one in plan.after or (0, 0))
    question = PriorQuestion(
        call.id, receiver, wanted, bool(call.value("evaluate")), is_person, count, offset, t,
        self_link("", plan).removeprefix("/"),
    )  # fmt: skip
    prior = await prior_results(gateway, actor, question)
    links = [("self", self_link(call.base, plan))]
    if prior.end:
        after = (prior.query.t, prior.end)
        links.append(("next", next_link(call.base, plan, after, holder)))
    return told(prior, links, vocabulary_of(gateway))


def _plan(call: Call) -> SearchPlan:
    """The question in the form by which links are made and cursors are bound (search.page)."""
    taken = {row.name: call.values(row.name) for row in PRIOR_RESULTS.takes if row.name != CURSOR}
    return SearchPlan(
        f"Patient/{call.id}/$prior-results",
        sort=(Sort(0, "id"),),  # a place is a commit and an offset
        applied=tuple((name, _text(value)) for name, found in taken.items() for value in found),
        cursor=call.value(CURSOR),
        people=(call.id,),
    )


def _text(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _count(gateway: Gateway, call: Call) -> int:
    count = call.value("_count")
    if count is not None and count < 1:
        raise Invalid("_count must be at least 1", expression="_count", rule="search-count")
    return min(count or COUNT, gateway.settings.page_limit)


def _filter(gateway: Gateway, call: Call) -> Filter:
    catalogue = catalogue_of(gateway)
    classes = frozenset(call.values("class"))
    if classes and not classes <= known_classes(catalogue):
        known = ", ".join(sorted(known_classes(catalogue)))
        raise Invalid(f"class is one of {known}", expression="class", rule="unknown-class")
    items = call.values("item")
    return Filter(
        items_of(items, catalogue) if items else None,
        classes,
        dates_of(call.values("date"), gateway.settings.zone),
        frozenset(_ids(call.parameters.get("institution", ()), "Organization")),
        frozenset(call.values("status")),
    )


def _ids(taken: Iterable[Taken], type: str) -> Iterator[str]:
    """The logical ids of references to resources of ours, or of bare ids."""
    for one in taken:
        text = str(one.value)
        reference = parse_reference(text if "/" in text else f"{type}/{text}")
        if not isinstance(reference, Reference) or reference.type != type:
            raise Invalid(f"This must be an id or {type}/id", expression=one.expression,
                          rule="reference")  # fmt: skip
        yield reference.id


async def _receiver(gateway: Gateway, actor: Actor, call: Call) -> str:
    """The institution that the patient is at: that which is named, that of the visit, the
    caller's own. Who is an institution asks for itself only."""
    named = call.one("receiver")
    receiver = next(_ids([named] if named else (), "Organization"), "")
    visit = call.one("encounter")
    if visit is not None and not receiver:
        receiver = await _of_visit(gateway, actor, next(_ids([visit], "Encounter")), visit)
    if named is not None and actor.institution and receiver != actor.institution:
        raise Forbidden(
            "An institution asks for itself only", expression=named.expression, rule="receiver"
        )
    return actor.institution or receiver


async def _of_visit(gateway: Gateway, actor: Actor, id: str, visit: Taken) -> str:
    """The institution that serves a visit. Raises Invalid for a visit that is not known here."""
    async with gateway.store.snapshot(actor.access) as reader:
        stored = await reader.read("Encounter", id)
    if stored is None or stored.deleted:
        raise Invalid("There is no such Encounter", expression=visit.expression, rule="unknown-id")
    encounter: Mapping[str, Any] = parse(stored.whole())
    text = encounter.get("serviceProvider", {}).get("reference", "")
    reference = parse_reference(text) if text else None
    is_one = isinstance(reference, Reference) and reference.type == "Organization"
    return reference.id if is_one and isinstance(reference, Reference) else ""
