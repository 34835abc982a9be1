"""A workstation asks: who is it, what is known, which rules hold, what follows, on record, answer.

Everything is read in one snapshot `t`: the person, the facts of all ordered items in one covering
range, the evaluations of their issuers, the rule set in force. `decide` is pure. The decision and
its AuditEvent are durable before this returns; nothing is said that is not on record.
docs/flows/order.md, architecture 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

from msgspec.structs import replace

from fhir_gateway.audit.events import decision_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, TooCostly, Unavailable
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.audit import call_of, disclose, entry
from fhir_gateway.interactions.sources import Source
from fhir_gateway.recognition.answer_figures import reminded, reminders_as
from fhir_gateway.recognition.candidates import (
    Register,
    add_rows,
    candidates,
    evaluations_to_read,
    items_to_read,
)
from fhir_gateway.recognition.decide import decide
from fhir_gateway.recognition.known import Known, known
from fhir_gateway.recognition.model import (
    Candidate,
    Decision,
    Identity,
    ItemOutcome,
    OrderedItem,
    Query,
)
from fhir_gateway.recognition.ordering import are_seen, openings, ordering, seen_of
from fhir_gateway.recognition.past import commit_at, known_then
from fhir_gateway.recognition.record import (
    Inputs,
    Occasion,
    Sources,
    decision_number,
    logical_id,
    render_tail,
)
from fhir_gateway.recognition.rules import RuleSet
from fhir_gateway.recognition.vocabulary import areas_within
from fhir_gateway.security.actor import Access, Actor
from fhir_gateway.security.institution import Institution
from fhir_gateway.store.blobs import pack
from fhir_gateway.store.changes import ChangeSet, Entry, Received
from fhir_gateway.store.people_sql import of_homes
from fhir_gateway.store.record_sql import holds
from fhir_gateway.store.store import Person, Reader
from fhir_gateway.terminology.catalogue import Catalogue

#: Why nothing can be decided for anybody: the patient is not known here, or is two persons.
UNKNOWN, CONTRADICTORY = "patient-unknown", "identity-contradictory"


#: Stale sources that a record names; the answer lists them all.
MOST_STALE = 20


class Question(NamedTuple):
    """What a door asks. `patient` is a logical id; "" when nobody here is the patient.

    `contradictory` says that the caller's identifiers belong to different persons. `kept` are the
    bytes of the call, kept by hash so that it can be looked at again. `unless_known` is raised,
    before anything is recorded, when nobody here is the patient. `encounter` is a reference to the
    visit that the order belongs to: "Encounter/id" of ours, or an absolute address. `as_of` (µs)
    asks what would have been said then: from what was stored then, by the rules of then.
    `context_known` False says that nothing was said of the patient's situation; `born` is the
    patient's date of birth, where the door knows it. `asserted` says that the call answers for the
    patient's consent in this encounter.
    """

    patient: str
    items: tuple[OrderedItem, ...]
    receiver: str
    context: frozenset[str]
    occasion: Occasion
    contradictory: bool = False
    kept: bytes = b""
    unless_known: GatewayError | None = None
    encounter: str = ""
    as_of: int = 0
    context_known: bool = True
    born: str = ""
    asserted: bool = False


class Answer(NamedTuple):
    """What was decided and is on record.

    `id` is the logical id of the GuidanceResponse; its `number` makes the uuids of cards. The
    answer of a moment of the past is not recorded: its id is "" and `as_of` (µs) is not 0.
    """

    id: str
    number: int
    query: Query
    decision: Decision
    sources: Sequence[Source]
    stale: Sequence[Source]
    institutions: Mapping[str, Institution]
    as_of: int = 0
    tasks: bool = False  # whether answers or alerts of the person are on file
    asserted: str = ""  # who answered for the patient's consent: call or client


async def ask(gateway: Gateway, actor: Actor, question: Question) -> Answer:
    """The recorded answer to a question; one of a moment of the past is audited and no reminder.

    Raises `unless_known` for somebody unknown, Invalid for a moment that is to come or lies before
    the first commit, and Unavailable when it cannot be recorded: an answer that is not on record
    is not given.
    """
    actor = ordering(gateway, actor, asserted=question.asserted)
    # to the millisecond, as FHIR instants are spelled: what is recorded is what was decided by
    as_of = question.as_of or gateway.clock.now() // 1000 * 1000
    try:
        return await _asked(gateway, actor, question, as_of)
    except TooCostly:  # a list that every question needs: nothing to be narrowed by the caller
        raise Unavailable("The database is too slow to read", rule="deadline") from None


async def _asked(gateway: Gateway, actor: Actor, question: Question, as_of: int) -> Answer:
    """The answer, recorded or audited."""
    async with gateway.store.snapshot(actor.access) as reader:
        if question.as_of:
            t = await commit_at(gateway, reader, as_of, "Parameters.parameter.asOf")
            facts = await known_then(gateway, reader, as_of, question.receiver)
        else:
            t = reader.t
            facts = await known(gateway, reader, as_of, question.receiver)
        inputs = await inputs_of(gateway, reader, question, facts, (as_of, t), actor.access)
        rule_set = facts.rules.rule_set if facts.rules else None
        seen = await read_candidates(reader, inputs, facts.register, rule_set)
        if question.as_of and inputs.sight is not None:
            seen = await _open_today(reader, seen)
        homes = homes_of(inputs.query)
        tasks = bool(homes) and await reader.steps(lambda seen: holds(seen, homes, "Task"))
    decision = conclude(inputs, seen, rule_set, facts.view.catalogue)
    number = 0 if question.as_of else decision_number(gateway)
    answer = Answer(
        id=logical_id(number) if number else "",
        number=number,
        query=inputs.query,
        decision=decision,
        sources=facts.sources,
        stale=facts.stale,
        institutions=facts.institutions,
        as_of=question.as_of,
        tasks=tasks,
        asserted=_asserted(actor, question),
    )
    if question.as_of:
        await _tell(gateway, actor, question, answer)
    else:
        await _record(gateway, actor, question, inputs, answer)
    return answer


def _asserted(actor: Actor, question: Question) -> str:
    """Who answered for the patient's consent, as it stands in the audit log; "" for nobody."""
    if actor.access.sight is None or not actor.access.sight.permit:
        return ""
    return "call" if question.asserted else "client" if actor.asserts_consent else ""


async def inputs_of(
    gateway: Gateway,
    reader: Reader,
    question: Question,
    facts: Known,
    at: tuple[int, int],
    access: Access,
) -> Inputs:
    """The question as `decide` takes it, and all by which its facts can be read again; `at` is the
    moment (µs) and the commit of the question."""
    as_of, t = at
    named = question.patient and not question.contradictory
    person = await reader.person(question.patient, t) if named else None
    if person is None and question.unless_known is not None:
        raise question.unless_known
    receiver = facts.institutions.get(question.receiver)
    area = receiver.area if receiver else gateway.settings.area
    query = Query(
        patient=question.patient if person else "",
        home=person.home if person else 0,
        items=question.items,
        receiver=question.receiver,
        receiver_area=area,
        as_of_us=as_of,
        zone=gateway.settings.zone,
        context=question.context,
        identity=Identity(person.documented, person.contested) if person else Identity(),
        t=t,
        receiver_within=areas_within(gateway, area),
        context_known=question.context_known,
        born=question.born,
        homes=person.homes if person and len(person.homes) > 1 else (),
    )
    rule_set = facts.rules.rule_set if facts.rules else None
    if query.homes and access.owners is not None:
        query = await _homes_seen(reader, query, rule_set)
    if person is not None and person.rivals:
        query = await _in_doubt(reader, query, person, rule_set)
    return Inputs(
        query,
        facts.rules.version if facts.rules else "",
        facts.rules.rule_set.digest if facts.rules else "",
        access.max_class,
        tuple(sorted(access.owners)) if access.owners is not None else None,
        CONTRADICTORY if question.contradictory else _why_nobody(person, access),
        facts.view.versions,
        seen_of(access, reader.at),
        tuple(sorted(access.homes)) if access.homes is not None else None,
    )


def _why_nobody(person: Person | None, access: Access) -> str:
    """Whoever looks through a sight is told the same of nobody and of somebody who is hidden."""
    return "" if person is not None or access.sight is not None else UNKNOWN


async def _open_today(reader: Reader, seen: Sequence[Candidate]) -> list[Candidate]:
    """Those of the past that the caller may see now: what was permitted then may be withdrawn."""
    return [
        one
        for one in seen
        if await are_seen(reader, [name for name in (one.source, one.report_source) if name])
    ]


async def _homes_seen(reader: Reader, query: Query, rule_set: RuleSet | None) -> Query:
    """The query without the homes in which the caller may see neither a Patient nor a result of an
    ordered item: it is told, and leaves on record, nothing of their being."""
    seen = {one.home for one in await reader.steps(lambda seen: of_homes(seen, query.homes))}
    items = items_to_read(query, rule_set.wider if rule_set is not None else {})
    for home in query.homes:
        if home not in seen and items and await reader.facts([home], items, query.t):
            seen.add(home)
    homes = tuple(home for home in query.homes if home in seen)
    return replace(query, homes=homes if len(homes) > 1 else ())


async def _in_doubt(
    reader: Reader, query: Query, person: Person, rule_set: RuleSet | None
) -> Query:
    """The query, doubtful when another person's record that an open proposal names has a result of
    an ordered item: what the caller may not see raises no doubt."""
    items = items_to_read(query, rule_set.wider if rule_set is not None else {})
    if not items or not await reader.facts(person.rivals, items, query.t):
        return query
    return replace(query, identity=replace(query.identity, doubtful=True))


def homes_of(query: Query) -> tuple[int, ...]:
    """The homes of the person, none for somebody unknown."""
    return query.homes or ((query.home,) if query.home else ())


async def read_candidates(
    reader: Reader, inputs: Inputs, register: Register, rule_set: RuleSet | None
) -> list[Candidate]:
    """The person's results of the ordered items, as they were at commit `query.t`, and of the
    wider examinations that the rule set lets answer for them.

    `register` holds rows that were true then; what it lacks is read and added.
    """
    query = inputs.query
    wider = rule_set.wider if rule_set is not None else {}
    items = items_to_read(query, wider) if query.patient and not inputs.unknown else []
    if not items:
        return []
    stored = await reader.facts(query.homes or query.home, items, query.t)
    missing = [pair for pair in evaluations_to_read(stored) if pair not in register]
    if missing:
        add_rows(register, missing, await reader.evaluations(missing, query.t))
    return candidates(stored, register)


def conclude(
    inputs: Inputs,
    seen: Sequence[Candidate],
    rule_set: RuleSet | None,
    catalogue: Catalogue,
) -> Decision:
    """The decision on recorded inputs: the same whenever it is asked for. Pure."""
    query = inputs.query
    if not inputs.unknown:
        return decide(query, seen, rule_set, catalogue)
    outcomes = tuple(
        ItemOutcome(line.key, line.item, "cannot-decide", inputs.unknown) for line in query.items
    )
    name = rule_set.canonical if rule_set else ""
    layers = rule_set.layers if rule_set else ()
    return Decision(outcomes, name, query.as_of_us, query.t, catalogue.edition, layers)


async def _record(
    gateway: Gateway, actor: Actor, question: Question, inputs: Inputs, answer: Answer
) -> None:
    """One commit: the GuidanceResponse, its AuditEvent, the kept call. Durable on return."""
    occasion, received = question.occasion._replace(encounter=question.encounter), []
    if question.kept:
        digest = sha256(question.kept).digest()
        occasion = occasion._replace(received=digest.hex())
        received = [Received(digest, "application/json", *pack(question.kept))]
    tail = render_tail(inputs, answer.decision, occasion, _in_short(answer))
    enc, body = pack(tail)
    query = answer.query
    owner = key64(f"Organization/{query.receiver}") if query.receiver else 0
    journal = [
        Entry(
            "GuidanceResponse",
            answer.id,
            query.home,
            enc,
            body,
            owner,
            patient=query.patient or None,
        )
    ]
    if gateway.audit:
        journal.append(_event(gateway, actor, occasion, answer, owner))
    opened = openings(gateway, actor, homes_of(query), query.as_of_us)
    change_set = ChangeSet(
        id=gateway.random(16), journal=journal, received=received, urgent=True, openings=opened
    )
    await gateway.store.commit(change_set)
    gateway.count("decisions", 1)
    if lines := reminded(answer.decision):
        gateway.count(reminders_as(answer.query.receiver), lines)


async def _tell(gateway: Gateway, actor: Actor, question: Question, answer: Answer) -> None:
    """Audits an answer of the past. It reminds nobody, so there is no decision to record."""
    if gateway.audit:
        owner = key64(f"Organization/{answer.query.receiver}") if answer.query.receiver else 0
        event = _event(gateway, actor, question.occasion, answer, owner)
        await disclose(gateway, [event])


def _event(gateway: Gateway, actor: Actor, occasion: Occasion, answer: Answer, owner: int) -> Entry:
    """The AuditEvent of an answer."""
    query, summary = answer.query, _summary(answer.decision)
    if answer.asserted:
        summary = f"{summary}; consent asserted by the {answer.asserted}"
    if answer.as_of:
        summary = f"as of {instant(answer.as_of)}, commit {query.t}, not recorded: {summary}"
    event = decision_event(
        call_of(gateway, actor)._replace(user=occasion.user),
        id=answer.id,
        patient=query.patient or None,
        operation=occasion.operation,
        summary=summary,
        resources=named_results(answer.decision),
    )
    return entry(gateway, event, home=query.home, owner=owner)


def _in_short(answer: Answer) -> Sources:
    shown = " ".join([source.institution for source in answer.stale[:MOST_STALE]])
    more = len(answer.stale) - MOST_STALE
    return Sources(len(answer.sources), f"{shown} and {more} more" if more > 0 else shown)


def named_results(decision: Decision) -> list[str]:
    """The results that the answer names, as they are told in the audit event."""
    names: dict[str, None] = {}
    for item in decision.items:
        if item.chosen is not None:
            names[f"{item.chosen.source}/_history/{item.chosen.version}"] = None
        for newer in item.newer:
            names[f"{newer.candidate.source}/_history/{newer.candidate.version}"] = None
    return list(names)


def _summary(decision: Decision) -> str:
    counts: dict[str, int] = {}
    for item in decision.items:
        counts[item.outcome] = counts.get(item.outcome, 0) + 1
    return ", ".join(f"{outcome} {count}" for outcome, count in counts.items())
