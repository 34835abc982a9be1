"""What each step of access control costs alone, with it and without: µs of processor time a call.

A step under the shipped policy is measured beside the same step under the open one, in small
interleaved blocks; the least of each counts, since a busy machine only ever adds.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from bench.people import ITEMS
from bench.security_store import House, issued_token, provider_token
from fhir_gateway.audit.events import decision_event
from fhir_gateway.cds_hooks.trust import caller
from fhir_gateway.interactions.audit import ORIGIN, Origin, call_of, entry
from fhir_gateway.interactions.narrowing import scoped
from fhir_gateway.interactions.permits import Asked, permit_door
from fhir_gateway.recognition.ordering import openings, ordering
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.changes import ChangeSet

BLOCKS, CALLS = 9, 60
_ADDRESS = "http://127.0.0.1/cds-services/recognition-order-sign"
_HOOK = Asked("operation", "ServiceRequest", operation="cds-services")

Work = Callable[[], Awaitable[object]]


class Step(NamedTuple):
    """A step under the open policy, and under the shipped one."""

    name: str
    floor: Work
    shipped: Work


async def steps(floor: House, issued: House, signed: House, people: int) -> list[str]:
    """The lines of a table."""
    ORIGIN.set(Origin("bench", "127.0.0.1"))
    static = {"authorization": f"Bearer {floor.static}"}
    ours = {"authorization": f"Bearer {await issued_token(issued)}"}
    theirs = {"authorization": f"Bearer {provider_token(signed)}"}
    nobody = await caller(floor.gateway, static, _ADDRESS)
    client = await caller(issued.gateway, ours, _ADDRESS)
    doctor = await caller(signed.gateway, theirs, _ADDRESS)
    told = [
        Step("token check, remembered", _token(floor, static), _token(signed, theirs)),
        Step("token of ours, looked up again (each 5 s)",
             _token(floor, static, again=True), _token(issued, ours, again=True)),
        Step("provider's token, looked up again (each 5 s)",
             _token(floor, static, again=True), _token(signed, theirs, again=True)),
        Step("rights of the door, scopes, ordering", _rights(floor, nobody),
             _rights(signed, doctor)),
        Step("who it is and the facts, asserted consent", _reading(floor, nobody, people),
             _reading(issued, client, people)),
        Step("who it is and the facts, Consents on file", _reading(floor, nobody, people),
             _reading(signed, doctor, people)),
        Step("commit, with an opening for the first time", _commit(floor, nobody, people),
             _commit(signed, doctor, people)),
        Step("commit, opened before", _commit(floor, nobody, 1), _commit(signed, doctor, 1)),
        Step("AuditEvent, with user, client, purpose, basis", _event(floor, nobody),
             _event(signed, doctor)),
    ]  # fmt: skip
    lines = [f"\n  {'step, alone':<48}{'floor us':>9}{'shipped us':>12}{'more':>8}"]
    for step in told:
        low, high = await _least(step)
        lines.append(f"  {step.name:<48}{low:9.1f}{high:12.1f}{high - low:8.1f}")
    return lines


async def _least(step: Step) -> tuple[float, float]:
    """The least of each of both, in turn."""
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(BLOCKS):
        for work, costs in zip((step.floor, step.shipped), found, strict=True):
            began = time.process_time()
            for _ in range(CALLS):
                await work()
            costs.append((time.process_time() - began) / CALLS * 1e6)
    return min(found[0]), min(found[1])


def _token(house: House, headers: dict[str, str], *, again: bool = False) -> Work:
    async def work() -> None:
        if again:
            house.gateway.tokens.clear()
        await caller(house.gateway, headers, _ADDRESS)

    return work


def _rights(house: House, actor: Actor) -> Work:
    async def work() -> Actor:
        await permit_door(house.gateway, actor, "hooks")
        asking = await scoped(house.gateway, actor, _HOOK)
        return ordering(house.gateway, asking)

    return work


def _reading(house: House, actor: Actor, people: int) -> Work:
    chance = random.Random(3)

    async def work() -> None:
        patient = f"p{chance.randrange(people):07d}"
        items = chance.sample(ITEMS, 5)
        asking = ordering(house.gateway, await scoped(house.gateway, actor, _HOOK))
        async with house.gateway.store.snapshot(asking.access) as reader:
            person = await reader.person(patient, reader.t)
            assert person is not None
            await reader.facts(person.home, items, reader.t)

    return work


def _commit(house: House, actor: Actor, people: int) -> Work:
    chance, gateway = random.Random(5), house.gateway

    async def work() -> None:
        home = 1 + chance.randrange(people)
        opened = openings(gateway, actor, [home], gateway.clock.now())
        event = entry(gateway, decision_event(call_of(gateway, actor), id="x", patient=None,
                                              operation="order-sign"), home=home)  # fmt: skip
        await gateway.store.commit(
            ChangeSet(id=gateway.random(16), journal=[event], urgent=True, openings=opened)
        )

    return work


def _event(house: House, actor: Actor) -> Work:
    async def work() -> None:
        event = decision_event(
            call_of(house.gateway, actor), id="x", patient="p", operation="order-sign",
            summary="recognize 5", resources=[f"Observation/{n}/_history/1" for n in range(5)],
        )  # fmt: skip
        entry(house.gateway, event, home=1)

    return work
