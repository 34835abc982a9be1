"""Proposals: which pairs of records a reviewer is asked about, and when a question is asked again.

A pair is compared by compare.py and score.py. Probable ones become questions of the code
confirm-identity, one document under two names a question of settle-identity; what is only possible
is left to `$match`. A question that was answered with no is asked again only when the comparison
says something else than it did then; an open one is withdrawn when nothing speaks for it any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from fhir_gateway.audit.events import GATEWAY_NAME
from fhir_gateway.context import Gateway
from fhir_gateway.fhir.wire import instant, parse
from fhir_gateway.identity.candidates import blocks, candidates
from fhir_gateway.identity.link import (
    CONFIRM,
    SETTLE,
    Question,
    Resource,
    linkage,
    pair,
    pair_id,
    patients_of,
)
from fhir_gateway.identity.person_records import replaced
from fhir_gateway.identity.record import Record, record_of
from fhir_gateway.identity.review_store import (
    ATTEMPTS,
    Asked,
    Records,
    asked,
    commit,
    guards_of,
    hints_of,
    overtaken,
    put_of,
    put_of_task,
    records_of_pair,
)
from fhir_gateway.identity.score import GRADES, Grade, Match, match
from fhir_gateway.search.planner import plan_search
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS
from fhir_gateway.store.store import Stored

#: Links and proposals of one record that are looked through.
MOST_LINKS = 200

#: What became of a proposal.
ASKED, AGAIN, CHANGED, WITHDRAWN, KEPT = "asked", "asked again", "changed", "withdrawn", "unchanged"


class Proposal(NamedTuple):
    """Two records that may be one person's. `code` is "" when nothing speaks for it."""

    records: tuple[str, str]
    code: str
    grade: Grade
    score: float
    levels: str
    source: str = GATEWAY_NAME
    edition: str = ""
    gone: bool = False  # one of the two was merged away or deleted: it is not compared any more


@lru_cache(maxsize=1)
def edition() -> str:
    """The edition of the weights: the beginning of their SHA-256."""
    return sha256(Path(__file__).with_name("weights.json").read_bytes()).hexdigest()[:12]


async def compare_with_all(gateway: Gateway, stored: Stored) -> Counter[str]:
    """Compares a Patient with those that the index leads to; says what became of the proposals."""
    patient = parse(stored.whole())
    found: dict[str, Stored] = {}
    record = record_of(patient, gateway.extractor.naming)
    if not replaced(stored):
        wanted = blocks(patient, record)
        others = (await candidates(gateway, SYSTEM_ACCESS, wanted)).found if wanted else ()
        found = {one.id: one for one in (*others, *await hints_of(gateway, patient))}
    for one in (*await _rivals(gateway, stored), *await _linked(gateway, stored)):
        found.setdefault(one.id, one)
    counts: Counter[str] = Counter()
    for other in found.values():
        if other.id != stored.id and other.home != stored.home:
            proposal = _judged(gateway, (stored, record), other)
            counts[await propose(gateway, proposal)] += 1
    return counts


async def withdraw(gateway: Gateway, id: str) -> Counter[str]:
    """Withdraws what was asked about a Patient that was deleted."""
    counts: Counter[str] = Counter()
    for found in await _linkages(gateway, id):
        records = patients_of(found)
        if len(records) == 2:
            nothing = Proposal(pair(*records), "", "certainly-not", 0.0, "", gone=True)
            counts[await propose(gateway, nothing)] += 1
    return counts


async def _linkages(gateway: Gateway, id: str) -> list[Resource]:
    """The links and proposals of a record."""
    plan = plan_search(
        "Linkage",
        [("item", f"Patient/{id}"), ("_count", str(MOST_LINKS))],
        secret=gateway.store.index_key,
        zone=gateway.settings.zone,
        page_limit=MOST_LINKS,
        naming=gateway.extractor.naming,
    )
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return [parse(one.whole()) for one in (await reader.search(plan)).matches]


async def _linked(gateway: Gateway, stored: Stored) -> list[Stored]:
    """The records that somebody confirmed to be this person's. The index need not lead to them any
    more: one of the two may have turned out to be somebody else's."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        person = await reader.person(stored.id)
    if person is None or len(person.homes) < 2:
        return []
    confirmed = [one for one in await _linkages(gateway, stored.id) if one.get("active") is True]
    ids = dict.fromkeys(id for one in confirmed for id in patients_of(one) if id != stored.id)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        found = [await reader.read("Patient", id) for id in ids]
    return [one for one in found if one is not None and not one.deleted]


def _judged(gateway: Gateway, one: tuple[Stored, Record], other: Stored) -> Proposal:
    stored, record = one
    said = match(record, record_of(parse(other.whole()), gateway.extractor.naming))
    gone = replaced(stored) or replaced(other)
    return proposal_of(pair(stored.id, other.id), said, gone=gone)


def proposal_of(records: tuple[str, str], said: Match, *, gone: bool = False) -> Proposal:
    """What is proposed of two records by what was said of them."""
    code = ""
    if not gone and said.conflict and said.grade != "certainly-not":
        code = SETTLE
    elif not gone and said.grade in ("probable", "certain"):
        code = CONFIRM
    grade = min(said.grade, "probable", key=GRADES.index)
    return Proposal(
        records, code, grade, round(said.score, 4), levels_of(said), edition=edition(), gone=gone
    )


def levels_of(said: Match) -> str:
    """The comparison in one line: levels by field, and the rules that held the grade down."""
    levels = [f"{one.field}={one.level}" for one in said.reasons]
    return " ".join([*levels, *(f"rule={name}" for name in said.rules)])


async def _rivals(gateway: Gateway, stored: Stored) -> list[Stored]:
    """The records of those with whom a question is open."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        person = await reader.person(stored.id)
        ids = await reader.person_records(person.rivals) if person and person.rivals else []
        found = [await reader.read("Patient", id) for id in ids]
        open_ones = []
        for one in found:
            if one is not None:
                known = await asked(reader, pair(stored.id, one.id))
                if known.question is not None and known.question.is_open:
                    open_ones.append(one)
    return open_ones


async def propose(gateway: Gateway, proposal: Proposal) -> str:
    """Asks a reviewer, asks again, or withdraws what was asked; says what became of it.

    Raises Conflict when it was overtaken again and again.
    """
    for _ in range(ATTEMPTS):
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            known = await asked(reader, proposal.records)
            records = await records_of_pair(gateway, reader, proposal.records)
        if known.link and known.question is not None and records is not None:
            question, became = _doubted(gateway, known.question, proposal)
        else:
            question, became = _next(gateway, known, records, proposal)
        if question is None:
            return became
        if await _store(gateway, known, records, question):
            return became
    raise overtaken()


def _next(
    gateway: Gateway, known: Asked, records: Records | None, proposal: Proposal
) -> tuple[Question | None, str]:
    """The question as it is from now on, None when nothing changes."""
    before = known.question
    is_over = records is None or records.is_one or known.link
    if is_over or not proposal.code:
        if before is None or not before.is_open:
            return None, KEPT
        return before._replace(status="cancelled"), WITHDRAWN
    new = _question(gateway, proposal)
    if before is None:
        return new, ASKED
    same = (before.levels, before.code, before.grade) == (new.levels, new.code, new.grade)
    if before.is_open:
        changed = new._replace(status=before.status, authored=before.authored, owner=before.owner)
        return (None, KEPT) if same else (changed, CHANGED)
    if before.status == "rejected" and before.levels == new.levels:
        return None, KEPT
    return new._replace(owner=before.owner), AGAIN


def _doubted(gateway: Gateway, before: Question, proposal: Proposal) -> tuple[Question | None, str]:
    """The question about a link that holds: asked again when the records bear it out less than when
    it was confirmed, as when one of them has turned out to be somebody else's."""
    same = before.levels == proposal.levels
    new = _question(gateway, proposal)._replace(code=SETTLE, owner=before.owner)
    if proposal.gone:
        return None, KEPT
    if before.is_open and proposal.grade == "probable":
        return new._replace(status="completed", code=CONFIRM), WITHDRAWN
    if before.is_open:
        changed = new._replace(status=before.status, authored=before.authored)
        return (None, KEPT) if same else (changed, CHANGED)
    worse = GRADES.index(proposal.grade) < GRADES.index(before.grade)
    return (new, AGAIN) if worse and not same else (None, KEPT)


def _question(gateway: Gateway, proposal: Proposal) -> Question:
    return Question(
        id=pair_id(proposal.records),
        code=proposal.code,
        status="requested",
        records=proposal.records,
        grade=proposal.grade,
        score=proposal.score,
        levels=proposal.levels,
        edition=proposal.edition,
        source=proposal.source,
        authored=instant(gateway.clock.now()),
    )


async def _store(
    gateway: Gateway, known: Asked, records: Records | None, question: Question
) -> bool:
    institutions: Sequence[str] = records.institutions if records is not None else ()
    puts = [put_of_task(gateway, question, institutions)]
    if not known.linkage_version:
        author = {"display": question.source}
        puts.insert(0, put_of(gateway, linkage(question.records, active=False, author=author)))
    return await commit(
        gateway, GATEWAY, puts, guards_of(known, question.id), patient=question.records[0],
        versions={"Task": known.task_version, "Linkage": known.linkage_version},
    )  # fmt: skip


def counted(counts: Iterable[tuple[str, int]]) -> str:
    """The figures of many proposals, for people."""
    said = [f"{number} {became}" for became, number in sorted(counts) if became != KEPT]
    return ", ".join(said) or "nothing to ask"
