"""A day's messages once more, into a fresh store: what came of them must come of them again.

Messages are taken from the register in the order of their commits, each from its kept bytes, by its
own door, at the time that was recorded; what institutions and tables said of themselves meanwhile
is carried over between them. Then both stores are compared: every version that the messages made,
byte for byte, and every fact. docs/trace.md, docs/adr/0046
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple, TypeVar

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, GatewayError
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.fhir.wire import parse, splice
from fhir_gateway.interactions.dead_letters import RETRIES, Letter
from fhir_gateway.interactions.institutions import institution
from fhir_gateway.interactions.intake_bundle import is_bundle, receive_bundle, receive_resources
from fhir_gateway.interactions.prepare import put_of
from fhir_gateway.mapping.v2_messages import asks
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.messages import Message, received_bytes
from fhir_gateway.store.query import Steps
from fhir_gateway.store.replay_sql import Version, fact_steps, messages_steps, version_steps

T = TypeVar("T")

#: Rows that are read at a time, and differences that are told word for word.
PAGE, MOST = 500, 50

#: Told after each message: messages that are done, messages in all.
Progress = Callable[[int, int], None]


class Recorded:
    """A clock that stands at what was recorded."""

    def __init__(self, at: int = 0) -> None:
        self.at = at

    def now(self) -> int:
        """Microseconds since 1970 UTC."""
        return self.at


class Difference(NamedTuple):
    """Something that is not the same in both stores: what (a resource and version, a message, a
    fact), and how."""

    what: str
    how: str


@dataclass(slots=True)
class Outcome:
    """What a replay has found. `before` are the hash of the recorded versions and facts, `after`
    that of the replayed ones; equal where nothing differs."""

    messages: int = 0
    versions: int = 0
    facts: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    resting: int = 0
    differences: list[Difference] = field(default_factory=list)
    more: int = 0
    before: str = ""
    after: str = ""

    def differ(self, what: str, how: str) -> None:
        """Notes a difference."""
        if len(self.differences) < MOST:
            self.differences.append(Difference(what, how))
        else:
            self.more += 1

    @property
    def is_same(self) -> bool:
        """Whether the two stores agree."""
        return not self.differences


class Made(NamedTuple):
    """What messages made of a store: (name, version) -> hash, and the homes of the names."""

    versions: dict[tuple[str, int], str]
    homes: dict[str, int]


async def replay(
    source: Gateway, target: Gateway, clock: Recorded, *, since: int, until: int,
    progress: Progress = lambda done, total: None,
) -> Outcome:  # fmt: skip
    """Replays what came in from `since` until before `until` (µs). `clock` is the clock of the
    target's store.

    Raises Conflict when the target has messages already, and 5xx of either store.
    """
    if await _messages(target, 0, _EVER):
        raise Conflict("The store to replay into has messages already: name a fresh one",
                       rule="replay-target")  # fmt: skip
    outcome = Outcome()
    recorded = await _messages(source, since, until)
    log = [one async for one in _versions(source)]
    plan = Recorded()
    run = _Run(source, replace(target, clock=plan), clock, plan, outcome)
    carried = [one for one in log if one.home <= 0 and not one.source and one.op != "delete"]
    at, planned = _times(log)
    for number, (_, one) in enumerate(recorded, start=1):
        place = (one.t, one.n)
        while carried and carried[0].place[:2] < place:
            await run.carry(carried.pop(0))
        clock.at = at.get(place, one.received)
        plan.at = planned.get(place, clock.at)
        await run.message(one)
        progress(number, len(recorded))
    await _compare(source, target, recorded, log, outcome)
    return outcome


_EVER = 1 << 62


def _times(log: Iterable[Version]) -> tuple[dict[tuple[int, int], int], dict[tuple[int, int], int]]:
    """For each commit its time, and the time at which it was planned, where it left word of it."""
    names = {type_key("Provenance"): "recorded", type_key("Task"): "authoredOn"}
    at: dict[tuple[int, int], int] = {}
    planned: dict[tuple[int, int], int] = {}
    for one in log:
        at[one.place[:2]] = one.updated
        if one.type in names and one.tail:
            said = _resource(one).get(names[one.type], "")
            if said:
                moment = datetime.fromisoformat(said).timestamp()
                planned[one.place[:2]] = round(moment * 1_000) * 1_000
    return at, planned


def _resource(one: Version) -> dict[str, str]:
    return parse(splice(_type(one), one.id, one.version, one.updated, one.tail))


def _type(one: Version) -> str:
    return next(name for name in definitions().resource_types if type_key(name) == one.type)


class _Run:
    """The replay of one period: `target` plans by `plan`, its store commits by `clock`."""

    def __init__(
        self, source: Gateway, target: Gateway, clock: Recorded, plan: Recorded, outcome: Outcome
    ) -> None:
        self.source, self.target, self.outcome = source, target, outcome
        self.clock, self.plan = clock, plan

    async def carry(self, one: Version) -> None:
        """What the gateway decides by, as it stood in between: stored where it is another."""
        type = _type(one)
        async with self.target.store.snapshot(SYSTEM_ACCESS) as reader:
            stored = await reader.read(type, one.id)
        if stored is not None and stored.tail == one.tail:
            return
        self.clock.at = self.plan.at = one.updated
        resource = parse(splice(type, one.id, one.version, one.updated, one.tail))
        put = put_of(self.target, _bare(resource), op="update", owner=one.owner)
        await self.target.store.commit(ChangeSet(id=self.target.random(16), puts=[put]))

    async def message(self, one: Message) -> None:
        """One message by its own door. What is refused is compared by the register."""
        if asks(one.kind):
            self.outcome.left_out["requests for bookings: seats are not replayed"] += 1
            return
        async with self.source.store.snapshot(SYSTEM_ACCESS) as reader:
            kept = await received_bytes(reader, one.hash)
        if kept is None:
            self.outcome.left_out["bytes are not kept (any more)"] += 1
            return
        if sha256(kept[1]).digest() != one.hash:
            self.outcome.differ(f"message {one.id} ({one.name})",
                                "its kept bytes are not those that were received")  # fmt: skip
            return
        sender = await institution(self.target, one.institution)
        if sender is None:
            self.outcome.left_out["their institution is not in the registry"] += 1
            return
        letter = Letter(one, sender, kept[1])
        try:
            if one.door in RETRIES:
                await RETRIES[one.door](self.target, letter, "", False)
            elif one.kind.startswith("file"):
                await self._file(letter)
            else:
                self.outcome.left_out[f"door {one.door}: bytes without their request"] += 1
                return
        except GatewayError as error:
            if error.status >= 500:
                raise
        self.outcome.messages += 1

    async def _file(self, letter: Letter) -> None:
        actor = Actor("institution", "load", institution=letter.sender.id)
        if is_bundle(letter.raw):
            await receive_bundle(self.target, actor, letter.raw)
        else:
            await receive_resources(self.target, actor, letter.raw.split(b"\n"))


def _bare(resource: dict[str, object]) -> dict[str, object]:
    """Without what the store itself adds to meta."""
    meta = resource.get("meta")
    if not isinstance(meta, dict):
        return resource
    kept = {k: v for k, v in meta.items() if k not in ("versionId", "lastUpdated")}
    bare = {**resource, "meta": kept}
    if not kept:
        del bare["meta"]
    return bare


# -- reading and comparing -------------------------------------------------------------------------


def _given(steps: Steps[T]) -> Callable[[object], Steps[T]]:
    """Statements that do not depend on an Access."""
    return lambda _: steps


async def _messages(gateway: Gateway, since: int, until: int) -> list[tuple[bytes, Message]]:
    found: list[tuple[bytes, Message]] = []
    after = (-1, -1, b"")
    while True:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            page = await reader.steps(_given(messages_steps(after, since, until, PAGE)))
        found += page
        if len(page) < PAGE:
            return found
        id, last = page[-1]
        after = (last.t, last.n, id)


async def _versions(gateway: Gateway) -> AsyncIterator[Version]:
    after = (-1, -1, -1)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        until = reader.t
    while True:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            page = await reader.steps(_given(version_steps(after, until, PAGE)))
        for one in page:
            if one.type:
                yield one
        if len(page) < PAGE:
            return
        after = page[-1].place


def _made(log: Iterable[Version], messages: Iterable[Message]) -> Made:
    """The versions that messages made, what the gateway added to them in the same commits too."""
    commits = {(one.t, one.n) for one in messages if one.outcome != "refused"}
    hashes = {one.hash for one in messages}
    made = Made({}, {})
    for one in log:
        if one.place[:2] in commits or one.source in hashes:
            name = f"{_type(one)}/{one.id}"
            said = b"%s %d %s" % (one.op.encode(), one.owner, one.tail)
            made.versions[name, one.version] = sha256(said).hexdigest()
            made.homes[name] = one.home
    return made


async def _compare(
    source: Gateway, target: Gateway, recorded: list[tuple[bytes, Message]], log: list[Version],
    outcome: Outcome,
) -> None:  # fmt: skip
    again = await _messages(target, 0, _EVER)
    _compare_messages(dict(recorded), dict(again), outcome)
    before = _made(log, [one for _, one in recorded])
    after = _made([one async for one in _versions(target)], [one for _, one in again])
    first: dict[str, int] = {}
    for name, version in before.versions:
        first[name] = min(version, first.get(name, version))
    resting = {name for name, version in first.items() if version > 1}
    outcome.resting = len(resting)
    for key in sorted(before.versions.keys() | after.versions.keys()):
        if key[0] in resting:
            continue
        was, is_now = before.versions.get(key), after.versions.get(key)
        if was != is_now:
            outcome.differ(f"{key[0]}/_history/{key[1]}", _how(was, is_now))
    outcome.versions = sum(key[0] not in resting for key in before.versions)
    facts_before = await _facts(source, before, resting)
    facts_after = await _facts(target, after, resting)
    for fact in sorted((facts_before - facts_after).elements()):
        outcome.differ(f"fact {fact}", "not there after the replay")
    for fact in sorted((facts_after - facts_before).elements()):
        outcome.differ(f"fact {fact}", "there after the replay only")
    outcome.facts = facts_before.total()
    outcome.before = _hash(before, facts_before, resting)
    outcome.after = _hash(after, facts_after, resting)


def _how(was: str | None, is_now: str | None) -> str:
    if was is None:
        return "there after the replay only"
    return "not there after the replay" if is_now is None else "another content"


def _compare_messages(
    before: dict[bytes, Message], after: dict[bytes, Message], outcome: Outcome
) -> None:
    """What the register says of each message that was replayed."""
    for id, one in before.items():
        again = after.get(id)
        if again is not None and (again.outcome, again.rule) != (one.outcome, one.rule):
            was, is_now = (f"{row.outcome} {row.rule}".strip() for row in (one, again))
            outcome.differ(f"message {one.id} ({one.name})", f"{was}, and now {is_now}")


async def _facts(gateway: Gateway, made: Made, resting: set[str]) -> Counter[str]:
    """The facts of these resources, as texts that mean the same in every store."""
    names = made.homes.keys() - resting
    homes = sorted({made.homes[name] for name in names if made.homes[name] > 0})
    found: Counter[str] = Counter()
    for home in homes:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            rows = await reader.steps(_given(fact_steps(home)))
        for row in rows:
            if row[14] in names:
                found[json.dumps(row, ensure_ascii=False)] += 1
    return found


def _hash(made: Made, facts: Counter[str], resting: set[str]) -> str:
    digest = sha256()
    for (name, version), said in sorted(made.versions.items()):
        if name not in resting:
            digest.update(f"{name}\t{version}\t{said}\n".encode())
    for fact in sorted(facts.elements()):
        digest.update(f"{fact}\n".encode())
    return digest.hexdigest()
