"""The doctor's answer to a reminder: kept as a Task, once, however often it is sent.

A decision never changes; what the doctor does with an order line is a Task of its own, in the
patient's home, whose logical id follows from the decision, the line and what is answered
(docs/adr/0030). So the answer that stands is read by its id, a later one is its next version, and
of two posts at once the slower looks again. A missing ground is flagged and counted, never
refused: no order waits for it. docs/answers.md
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from fhir_gateway.audit.events import answer_event, document_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, Deleted, GatewayError, Issue, Unprocessable
from fhir_gateway.fhir.wire import instant, parse
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.recognition.alert_task import Alert
from fhir_gateway.recognition.answer_document import (
    FILED,
    digest_of,
    document,
    read_pieces,
    version_at,
)
from fhir_gateway.recognition.answer_fetch import may_be_told
from fhir_gateway.recognition.answer_figures import counted_as
from fhir_gateway.recognition.answer_model import DoctorAnswer
from fhir_gateway.recognition.answer_step import (
    Given,
    Now,
    Reply,
    check,
    is_said_before,
    refusal,
    step,
)
from fhir_gateway.recognition.answer_task import relied_on, task_of
from fhir_gateway.recognition.answered import (
    AnsweredLine,
    answered_lines,
    answers_of,
    read_answer,
)
from fhir_gateway.recognition.recorded import Recorded, read_decision
from fhir_gateway.recognition.relied_change import what_became
from fhir_gateway.recognition.relied_check import version_relied_on
from fhir_gateway.recognition.relied_watch import Changed, Told, put_of_task, tell
from fhir_gateway.recognition.vocabulary import catalogue_of, vocabulary_of
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import ChangeSet, Entry, Guard, Put, VersionIs
from fhir_gateway.store.store import Reader

__all__ = ["AnsweredLine", "Kept", "Reply", "answered_lines", "answers_of", "record_answers"]

#: An answer that others overtake so often is refused, and may be sent again.
ATTEMPTS = 16

#: The operation that hands the document out with its answer.
DISCLOSES = "$answer"

_PERSON = re.compile(r"(Practitioner|PractitionerRole)/[A-Za-z0-9\-.]{1,64}")
_VISIT = re.compile(r"Encounter/[A-Za-z0-9\-.]{1,64}")


class Kept(NamedTuple):
    """What became of one reply: the answer that stands, whether it is new, the document that goes
    with it (b"" for none), and an alert when what it relies on had changed already."""

    answer: DoctorAnswer
    changed: bool
    document: bytes = b""
    alert: Alert | None = None


class _Plan(NamedTuple):
    """What one attempt would store."""

    kept: list[Kept]
    puts: dict[str, Put]
    guards: list[Guard]
    journal: list[Entry]


async def record_answers(
    gateway: Gateway, actor: Actor, replies: Sequence[Reply], *, operation: str
) -> list[Kept]:
    """Stores the answers in one commit; what became of each reply, in order.

    Raises NotFound for a decision that is not this institution's, Unprocessable with every fault
    of every reply: nothing is stored then. Conflict when others were faster again and again.
    """
    for _ in range(ATTEMPTS):
        plan = await _plan(gateway, actor, replies, operation)
        change_set = ChangeSet(
            id=gateway.random(16),
            guards=plan.guards,
            puts=list(plan.puts.values()),
            journal=plan.journal if gateway.audit else [],
        )
        try:
            await gateway.store.commit(change_set)
        except GatewayError as error:
            if getattr(error, "guard", -1) < 0:
                raise
            continue
        for kept in plan.kept:
            if kept.changed:
                gateway.count(counted_as(kept.answer), 1)
        return plan.kept
    raise Conflict("Others answer the same order line; send it again", rule="overtaken")


async def _plan(gateway: Gateway, actor: Actor, replies: Sequence[Reply], operation: str) -> _Plan:
    grounds = vocabulary_of(gateway).reasons
    decisions: dict[str, Recorded] = {}
    plan = _Plan([], {}, [], [])
    async with gateway.store.snapshot(actor.access) as reader:
        for id in dict.fromkeys(reply.decision for reply in replies):
            decisions[id] = await read_decision(reader, actor, id)
    issues: list[Issue] = []
    given = [check(reply, decisions[reply.decision], grounds, issues) for reply in replies]
    if issues:
        raise Unprocessable(issues=tuple(issues))
    # what stands and what it relies on, whatever the caller may see of it
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        work = _Work(gateway, actor, reader, plan, operation, issues)
        for one in filter(None, given):  # each of them, as there is no issue
            await work.take(one)
    if issues:
        raise Unprocessable(issues=tuple(issues))
    return plan


class _Work:
    """One attempt on one snapshot: reply after reply, each on what the one before left."""

    def __init__(
        self,
        gateway: Gateway,
        actor: Actor,
        reader: Reader,
        plan: _Plan,
        operation: str,
        issues: list[Issue],
    ) -> None:
        self._gateway, self._actor, self._reader = gateway, actor, reader
        self._plan, self._operation, self._issues = plan, operation, issues
        self._standing: dict[str, DoctorAnswer | None] = {}
        self._versions: dict[str, int] = {}

    async def take(self, given: Given) -> None:
        """Plans what a reply does."""
        before = await self._read(given)
        if given.reply.answer and not _fits(given, before):
            text = "answer names an answer to this very order line of this decision"
            issue: Issue | None = Issue("not-found", text, given.reply.expression, "answer")
        else:
            issue = refusal(given, before)
        if issue is not None:
            self._issues.append(issue)
            return
        after = step(given, before, await self._now(given))
        if before is not None and after is not before and await self._again(given, after):
            after = before
        kept = await self._keep(given, before, after)
        self._standing[after.id] = kept.answer
        self._plan.kept.append(kept)
        self._audit(given, kept)

    async def _read(self, given: Given) -> DoctorAnswer | None:
        if given.id not in self._standing:
            stored = await self._reader.read("Task", given.id)
            answer = read_answer(stored) if stored is not None else None
            self._standing[given.id] = answer
            self._versions[given.id] = answer.version if answer is not None else 0
        return self._standing[given.id]

    async def _now(self, given: Given) -> Now:
        query, user = given.recorded.inputs.query, given.user
        known = _PERSON.fullmatch(user) and await self._is_here(user)
        visit = given.reply.encounter or given.recorded.encounter
        wanted = {*given.results, *(item.report for item in given.line.items if item.report)}
        versions = {name: await self._version(name, query.t) for name in sorted(wanted)}
        return Now(
            institution=self._actor.institution or query.receiver,
            instant=instant(self._gateway.clock.now()),
            practitioner=user if known else "",
            encounter_here=bool(_VISIT.fullmatch(visit)) and await self._is_here(visit),
            versions=versions,
        )

    async def _is_here(self, reference: str) -> bool:
        type, _, id = reference.partition("/")
        stored = await self._reader.read(type, id)
        return stored is not None and not stored.deleted

    async def _version(self, name: str, t: int) -> str:
        stored = await version_at(self._reader, name, t)
        return f"{name}/_history/{stored.version}" if stored is not None else name

    async def _again(self, given: Given, after: DoctorAnswer) -> bool:
        """Whether an earlier version said this at this very time: a post that came again, late."""
        if not given.reply.answered or not self._versions[given.id]:
            return False
        history = await self._reader.history("Task", given.id)
        earlier = [answer for one in history if (answer := read_answer(one)) is not None]
        return is_said_before(earlier, after)

    async def _keep(self, given: Given, before: DoctorAnswer | None, after: DoctorAnswer) -> Kept:
        body, changed = b"", after is not before
        if changed or self._operation == DISCLOSES:
            body, base = await self._document(given, after)
            if changed and body:
                after = after._replace(digest=digest_of(body), base=base)
            if body and not await self._may_be_told(given, after):
                body = b""  # the answer is kept all the same
        if not changed:
            return Kept(after, False, body)
        plan = self._plan
        if after.id not in plan.puts:
            plan.guards.append(VersionIs("Task", after.id, self._versions[after.id]))
        task = task_of(after, catalogue_of(self._gateway))
        plan.puts[after.id] = put_of_task(self._gateway, task, after)
        return Kept(after, True, body, await self._tell(after))

    async def _may_be_told(self, given: Given, answer: DoctorAnswer) -> bool:
        sight = given.recorded.inputs.sight
        asserted = sight is not None and sight.permit
        return await may_be_told(self._gateway, self._actor, answer, asserted=asserted)

    async def _document(self, given: Given, answer: DoctorAnswer) -> tuple[bytes, str]:
        """What is filed with an answer, and its address; nothing where nothing was adopted."""
        if answer.state not in FILED or not answer.results:
            return b"", ""
        query = given.recorded.inputs.query
        base = answer.base or base_of(self._gateway)
        try:
            pieces = await read_pieces(self._reader, answer, query.t, query.as_of_us)
        except Deleted:  # an answer is kept all the same
            return b"", ""
        return document(answer, pieces, catalogue_of(self._gateway), base), base

    async def _tell(self, answer: DoctorAnswer) -> Alert | None:
        """An alert at once, where what is relied on changed since it was decided; and guards that
        it does not change before this is stored."""
        changed: list[Changed] = []
        guards: dict[str, VersionIs] = {}
        for name in relied_on(answer):
            type, _, id = name.partition("/")
            now = await self._reader.read(type, id)
            then = await version_relied_on(self._reader, answer, name)
            if now is None or then is None:
                continue
            guards[name] = VersionIs(type, id, now.version)
            if then.version == now.version:
                continue
            after = None if now.deleted else parse(now.whole())
            if change := what_became(parse(then.whole()), after):
                changed.append(Changed(name, now.version, change))
        self._plan.guards.extend(one for one in guards.values() if one not in self._plan.guards)
        if not changed:
            return None
        told = Told([], [], [])
        await tell(self._gateway, self._reader, told, answer, changed)
        self._plan.guards.extend(told.guards)
        self._plan.puts.update((put.id, put) for put in told.puts)
        return told.alerts[0] if told.alerts else None

    def _audit(self, given: Given, kept: Kept) -> None:
        query = given.recorded.inputs.query
        call = call_of(self._gateway, self._actor)._replace(user=given.user)
        answer, patient = kept.answer, query.patient or None
        code = (answer.ground or {}).get("code", "")
        event = answer_event(
            call,
            id=answer.decision,
            patient=patient,
            operation=self._operation,
            summary=f"{given.reply.outcome} {code}".strip(),
        )
        self._plan.journal.append(entry(self._gateway, event, home=query.home))
        if kept.document and self._operation == DISCLOSES:
            event = document_event(
                call, id=answer.id, patient=patient, operation=self._operation,
                resources=(*answer.results, *answer.reports),
            )  # fmt: skip
            self._plan.journal.append(entry(self._gateway, event, home=query.home))


def _fits(given: Given, before: DoctorAnswer | None) -> bool:
    """Whether the answer that a revocation names is one to this order line."""
    reply = given.reply
    return before is not None and (before.decision, before.line) == (reply.decision, given.number)


def base_of(gateway: Gateway) -> str:
    """The address that the entries of a document are under: the same however one calls us."""
    return (gateway.settings.base_url or CANONICAL).rstrip("/")
