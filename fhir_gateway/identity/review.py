"""The answers of a reviewer: `Task/[id]/$confirm-identity`, `$reject-identity`, and taking a link
back, `Linkage/[id]/$unlink`.

Whoever decides is a person with a name; a Provenance keeps it with the version of the Linkage. An
institution decides about its own records and what it was asked (Task.owner), the operator about
all. Nothing is linked by a score. hl7.org/fhir/R4/provenance.html; docs/identity.md
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from fhir_gateway.context import Gateway, new_id
from fhir_gateway.errors import Conflict, Forbidden, Invalid, NotFound
from fhir_gateway.fhir.wire import instant, parse
from fhir_gateway.identity.link import (
    Question,
    Resource,
    linkage,
    patients_of,
    read_question,
    task,
)
from fhir_gateway.identity.review_store import (
    ATTEMPTS,
    Asked,
    asked,
    commit,
    guards_of,
    overtaken,
    put_of,
    put_of_task,
    records_of_pair,
)
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.interactions.operation_definitions import Call, Definition
from fhir_gateway.interactions.operation_definitions import Parameter as P
from fhir_gateway.interactions.types import owner_of
from fhir_gateway.security.actor import GATEWAY, Actor
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import Exists, Guard, Put, VersionIs
from fhir_gateway.store.store import Reader, Stored

DECISION_SYSTEM = f"{CANONICAL}/CodeSystem/identity-decision"
_PARTICIPANT = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
_NAMED = re.compile(r"\s*(?P<name>[^()]*?)\s*(?:\((?P<who>Practitioner(?:Role)?/[^()\s]+)\))?\s*")

_BY = P(
    "by", "string", "Who decides: a person's name, or `Name (Practitioner/id)`", 1,
    missing="reviewer",
)  # fmt: skip
_COMMENT = P("comment", "string", "Why, in words; kept with the decision")

CONFIRM = Definition(
    code="confirm-identity",
    title="Two records are one person's",
    says=(
        "A named person confirms a proposal: the Linkage becomes active, from now on every answer "
        "about one record rests on both, and a Provenance keeps who said so."
    ),
    types=("Task",),
    levels=("instance",),
    takes=(_BY, _COMMENT),
    gives=(P("return", "Task", "The question, completed", 1),),
    affects=True,
)

REJECT = Definition(
    code="reject-identity",
    title="Two records are two persons'",
    says=(
        "A named person rejects a proposal. The pair is proposed again only when the comparison "
        "of the two records says something else than it did."
    ),
    types=("Task",),
    levels=("instance",),
    takes=(_BY, _COMMENT),
    gives=(P("return", "Task", "The question, rejected", 1),),
    affects=True,
)

UNLINK = Definition(
    code="unlink",
    title="Take a link back",
    says=(
        "A named person takes a link back: the Linkage is not active any more, and its records are "
        "two persons' again. What was decided meanwhile stays as it was."
    ),
    types=("Linkage",),
    levels=("instance",),
    takes=(_BY, _COMMENT),
    gives=(P("return", "Linkage", "The Linkage, not active", 1),),
    affects=True,
)

Verb = Literal["confirm", "reject", "unlink"]


class Reviewer(NamedTuple):
    """Who decides: a name, and a reference where there is one; why, in words."""

    name: str
    reference: str = ""
    comment: str = ""

    @property
    def who(self) -> dict[str, str]:
        """The person as a Reference."""
        named = {"reference": self.reference} if self.reference else {}
        return {**named, "display": self.name}


def reviewer(text: str, comment: str = "") -> Reviewer:
    """The person that a caller names. Raises Invalid for nobody."""
    found = _NAMED.fullmatch(text)
    if found is None or not found["name"]:
        raise Invalid(
            "by must name the person who decides, as `Name` or `Name (Practitioner/id)`",
            expression="by",
            rule="reviewer",
        )
    return Reviewer(found["name"], found["who"] or "", comment.strip())


def _reviewer_of(call: Call) -> Reviewer:
    return reviewer(call.value("by"), call.value("comment") or "")


async def confirm_identity(gateway: Gateway, actor: Actor, call: Call) -> Resource:
    """The Task after it was confirmed. Raises as `decide` does."""
    return await decide(gateway, actor, call.id, "confirm", _reviewer_of(call))


async def reject_identity(gateway: Gateway, actor: Actor, call: Call) -> Resource:
    """The Task after it was rejected. Raises as `decide` does."""
    return await decide(gateway, actor, call.id, "reject", _reviewer_of(call))


async def unlink_records(gateway: Gateway, actor: Actor, call: Call) -> Resource:
    """The Linkage after it was taken back. Raises as `unlink` does."""
    return await unlink(gateway, actor, call.id, _reviewer_of(call))


async def decide(
    gateway: Gateway, actor: Actor, id: str, verb: Literal["confirm", "reject"], by: Reviewer
) -> Resource:
    """The Task of a question after the answer, which is durable.

    Raises NotFound for no question, Forbidden for one that is not the caller's to answer, Conflict
    for one that is answered already, Unprocessable when the person would have too many homes.
    """
    for _ in range(ATTEMPTS):
        async with gateway.store.snapshot(actor.access) as reader:
            question = await question_of(reader, id)
            known = await asked(reader, question.records)
            records = await records_of_pair(gateway, reader, question.records)
        if records is None:
            raise Conflict("One of the two records is not there any more", rule="record-gone")
        _check_actor(actor, records.stored, question.owner)
        if not question.is_open:
            raise Conflict(
                f"This question is {question.status} already; a link that was wrong is taken back "
                "by Linkage/[id]/$unlink",
                rule="question-decided",
            )
        status = "completed" if verb == "confirm" else "rejected"
        after = question._replace(status=status)
        puts = [put_of_task(gateway, after, records.institutions)]
        puts += _said(gateway, actor, known, question.records, verb, by)
        guards = [*guards_of(known, id), *_named(by)]
        versions = {"Task": known.task_version, "Linkage": known.linkage_version}
        if await commit(
            gateway, actor, puts, guards, patient=question.records[0], versions=versions
        ):
            gateway.count(f"identity_{verb}", 1)
            return task(after, records.institutions, modified=instant(gateway.clock.now()))
    raise overtaken()


async def unlink(gateway: Gateway, actor: Actor, id: str, by: Reviewer) -> Resource:
    """The Linkage after it was taken back, which is durable; its question counts as answered with
    no, so that it is not asked again at once.

    Raises NotFound, Forbidden as `decide`, Conflict for a link that is not active.
    """
    for _ in range(ATTEMPTS):
        async with gateway.store.snapshot(actor.access) as reader:
            stored = await reader.read("Linkage", id)
            if stored is None or stored.deleted:
                raise NotFound("There is no such link", rule="link-unknown")
            before = parse(stored.whole())
            records = patients_of(before)
            found = [await reader.read("Patient", one) for one in records]
            known = await asked(reader, records)
            pair = await records_of_pair(gateway, reader, records) if len(records) == 2 else None
        _check_actor(actor, [one for one in found if one is not None])
        if before.get("active") is not True:
            raise Conflict("This link is not active", rule="link-inactive")
        after = before | {"active": False, "author": by.who}
        del after["meta"]
        puts = [put_of(gateway, after), _provenance(gateway, actor, id, "unlink", by)]
        guards: list[Guard] = [VersionIs("Linkage", id, stored.version), *_named(by)]
        if known.question is not None and known.question.id == id:
            institutions = pair.institutions if pair is not None else ()
            rejected = known.question._replace(status="rejected")
            puts.append(put_of_task(gateway, rejected, institutions))
            guards += guards_of(known, id, linkage=False)
        versions = {"Linkage": stored.version, "Task": known.task_version}
        if await commit(gateway, actor, puts, guards, patient=records[0], versions=versions):
            gateway.count("identity_unlink", 1)
            return after
    raise overtaken()


async def assign(gateway: Gateway, id: str, institution: str) -> Resource:
    """The Task of an open question after the operator gave it to an institution, "" for nobody.

    Raises NotFound for no question or no institution, Conflict for one that is answered.
    """
    for _ in range(ATTEMPTS):
        async with gateway.store.snapshot(GATEWAY.access) as reader:
            question = await question_of(reader, id)
            known = await asked(reader, question.records)
            records = await records_of_pair(gateway, reader, question.records)
            if institution and institution not in await institutions_at(gateway, reader):
                raise NotFound(f"No institution {institution} is registered", rule="institution")
        if not question.is_open:
            raise Conflict(f"This question is {question.status} already", rule="question-decided")
        given = question._replace(owner=institution)
        institutions = records.institutions if records is not None else ()
        if await commit(
            gateway, GATEWAY, [put_of_task(gateway, given, institutions)],
            guards_of(known, id, linkage=False), patient=question.records[0],
            versions={"Task": known.task_version},
        ):  # fmt: skip
            return task(given, institutions, modified=instant(gateway.clock.now()))
    raise overtaken()


async def question_of(reader: Reader, id: str) -> Question:
    """The question of a Task. Raises NotFound when it asks none."""
    stored = await reader.read("Task", id)
    resource = parse(stored.whole()) if stored is not None and not stored.deleted else {}
    question = read_question(resource)
    if question is None:
        raise NotFound("There is no question about identity of this id", rule="question-unknown")
    return question


def _check_actor(actor: Actor, records: Sequence[Stored], owner: str = "") -> None:
    """Raises Forbidden when the records are others' and the question was given to others."""
    if not actor.bound:
        return
    mine = owner_of(actor)
    if actor.institution != owner and all(one.owner != mine for one in records):
        raise Forbidden(
            "Both records are other institutions'; their reviewers decide, or the operator",
            rule="review-other-institution",
        )


def _named(by: Reviewer) -> list[Guard]:
    return [Exists(by.reference, "by")] if by.reference else []


def _said(
    gateway: Gateway, actor: Actor, known: Asked, records: tuple[str, str], verb: Verb, by: Reviewer
) -> list[Put]:
    """The Linkage as it is from now on, and who said so."""
    link = linkage(records, active=verb == "confirm", author=by.who)
    return [put_of(gateway, link), _provenance(gateway, actor, link["id"], verb, by)]


def _provenance(gateway: Gateway, actor: Actor, id: str, verb: Verb, by: Reviewer) -> Put:
    agent: dict[str, Any] = {
        "type": {"coding": [{"system": _PARTICIPANT, "code": "verifier", "display": "Verifier"}]},
        "who": by.who,
    }
    if actor.institution:
        agent["onBehalfOf"] = {"reference": f"Organization/{actor.institution}"}
    resource: dict[str, Any] = {
        "resourceType": "Provenance",
        "id": new_id(gateway),
        "target": [{"reference": f"Linkage/{id}"}],
        "recorded": instant(gateway.clock.now()),
        "activity": {"coding": [{"system": DECISION_SYSTEM, "code": verb}]},
        "agent": [agent],
    }
    if by.comment:
        resource["reason"] = [{"text": by.comment}]
    return put_of(gateway, resource)
