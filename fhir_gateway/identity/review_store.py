"""Reading and storing links and questions: one change set for a Linkage, its Task, and who said so.

The gateway writes them itself, as nobody's institution (link.REVIEW), under the guard that both are
as they were read; whoever was overtaken reads again. docs/adr/0026
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from fhir_gateway.audit.events import create_event, update_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, PreconditionFailed, TooCostly, Unavailable
from fhir_gateway.fhir.wire import instant, parse
from fhir_gateway.identity.link import (
    QUESTIONS,
    REVIEW,
    TASK_SYSTEM,
    Question,
    Resource,
    links_of,
    pair_id,
    read_question,
    task,
)
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.interactions.deriving import owner_key
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.search.planner import plan_search
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.changes import ChangeSet, Entry, Guard, Put, VersionIs
from fhir_gateway.store.store import Reader, Stored

#: How often a question that others change meanwhile is read again.
ATTEMPTS = 16

_PAGE = 500


class Asked(NamedTuple):
    """The Linkage and the Task of two records as they stand; `link` says whether the Linkage is
    active. Versions are 0 where there is none."""

    question: Question | None
    task_version: int
    link: bool
    linkage_version: int


class Records(NamedTuple):
    """Two records, whose they are, and whether they are one person's by now."""

    stored: tuple[Stored, Stored]
    institutions: tuple[str, ...]
    is_one: bool


async def asked(reader: Reader, records: Sequence[str]) -> Asked:
    """What was asked and said of two records."""
    id = pair_id(records)
    one, link = await reader.read("Task", id), await reader.read("Linkage", id)
    question = None
    if one is not None and not one.deleted:
        question = read_question(parse(one.whole()))
    active = link is not None and not link.deleted and parse(link.whole()).get("active") is True
    return Asked(question, one.version if one else 0, active, link.version if link else 0)


async def records_of_pair(
    gateway: Gateway, reader: Reader, records: Sequence[str]
) -> Records | None:
    """The two records as they stand; None when one is not there any more."""
    stored = [await reader.read("Patient", id) for id in records]
    person = await reader.person(records[0])
    one, other = stored
    if one is None or other is None or one.deleted or other.deleted or person is None:
        return None
    registry = await institutions_at(gateway, reader)
    keys = {owner_key(id): id for id in registry}
    owners = dict.fromkeys(keys[stored.owner] for stored in (one, other) if stored.owner in keys)
    return Records((one, other), tuple(owners), other.home in person.homes)


async def questions(gateway: Gateway) -> AsyncIterator[Question]:
    """All questions, open and decided, in the order in which they were asked first.

    Found by their codes in the index: Tasks of other kinds are many more. Where there are more than
    a search may visit, or while the index is made anew, all Tasks are looked through.
    """
    try:
        found = await _by_code(gateway)
    except (TooCostly, Unavailable):
        async for question in _looked_through(gateway):
            yield question
        return
    for question in found:
        yield question


async def _by_code(gateway: Gateway) -> list[Question]:
    """Raises TooCostly and Unavailable as a search does."""
    plan = plan_search(
        "Task",
        [("code", ",".join(f"{TASK_SYSTEM}|{code}" for code in sorted(QUESTIONS))),
         ("_count", str(_PAGE))],
        secret=gateway.store.index_key,
        zone=gateway.settings.zone,
        page_limit=_PAGE,
        naming=gateway.extractor.naming,
    )  # fmt: skip
    found: dict[int, Question] = {}
    while True:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            page = await reader.search(plan)
        for stored in page.matches:
            question = read_question(parse(stored.whole()))
            if question is not None:
                found[stored.rid] = question
        if page.next is None:
            return [found[rid] for rid in sorted(found)]
        plan = replace(plan, after=page.next)


async def _looked_through(gateway: Gateway) -> AsyncIterator[Question]:
    after, until = 0, -1
    while True:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            until = reader.t if until < 0 else until
            page = await reader.scan("Task", until_t=until, after_rid=after, limit=_PAGE)
        if not page:
            return
        for stored in page:
            if TASK_SYSTEM.encode() in stored.tail:
                question = read_question(parse(stored.whole()))
                if question is not None:
                    yield question
        after = page[-1].rid


def put_of_task(gateway: Gateway, question: Question, institutions: Sequence[str]) -> Put:
    """The Task of a question, as it is from now on."""
    modified = instant(gateway.clock.now())
    return put_of(gateway, task(question, institutions, modified=modified))


def put_of(gateway: Gateway, resource: Resource) -> Put:
    """One resource of the review, nobody's institution's."""
    put = prepare(gateway, resource, op="update", institution=None)
    put.owner = REVIEW
    return put


def guards_of(known: Asked, id: str, *, linkage: bool = True) -> list[Guard]:
    """That Task and Linkage stand as they were read."""
    found: list[Guard] = [VersionIs("Task", id, known.task_version)]
    if linkage:
        found.append(VersionIs("Linkage", id, known.linkage_version))
    return found


async def commit(
    gateway: Gateway,
    actor: Actor,
    puts: Sequence[Put],
    guards: Sequence[Guard],
    *,
    patient: str,
    versions: Mapping[str, int],
) -> bool:
    """Stores and audits all of it in one commit; False when somebody was faster.

    `versions` are those that stood before, by type; what is not in it is new.
    """
    journal = []
    if gateway.audit:
        journal = [_event(gateway, actor, put, versions.get(put.type, 0), patient) for put in puts]
    change_set = ChangeSet(id=gateway.random(16), guards=[*guards], puts=[*puts], journal=journal)
    try:
        await gateway.store.commit(change_set)
    except PreconditionFailed:
        return False
    return True


def _event(gateway: Gateway, actor: Actor, put: Put, before: int, patient: str) -> Entry:
    call = call_of(gateway, actor)
    if before:
        event = update_event(call, type=put.type, id=put.id, version=before + 1, patient=patient)
    else:
        event = create_event(call, type=put.type, id=put.id, patient=patient)
    return entry(gateway, event, patient=patient)


def overtaken() -> Conflict:
    """Others were faster again and again."""
    return Conflict("Others change the same link; send it again", rule="overtaken")


async def hints_of(gateway: Gateway, patient: Mapping[str, Any]) -> list[Stored]:
    """The records that a Patient names by a link of type seealso."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        named = [await reader.read("Patient", id) for kind, id in links_of(patient)
                 if kind in ("seealso", "refer")]  # fmt: skip
    return [one for one in named if one is not None and not one.deleted]
