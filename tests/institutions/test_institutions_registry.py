"""The registry: who sends results, whose token is whose, and how fresh each source is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fhir_gateway.context import Gateway
from fhir_gateway.errors import NotFound
from fhir_gateway.interactions.institutions import (
    has_token,
    institution,
    institution_of_facility,
    institutions,
    issue_token,
    register,
    revoke_token,
)
from fhir_gateway.interactions.sources import Source, sources
from fhir_gateway.search.index import Extractor, IndexRows
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.security.institution import Institution
from fhir_gateway.security.tokens import hash_token
from fhir_gateway.settings import Settings
from fhir_gateway.store.changes import ChangeSet, Put
from fhir_gateway.store.sqlite import open_sqlite

DAY = 86_400_000_000
START = 1_760_000_000_000_000
SECOND = Institution(
    id="demo-second", name="示范市第二医院", area="110102", facilities=("示范二院",)
)
CLINIC = Institution(id="demo-clinic", name="示范社区", level="社区", area="110105")


class StandingClock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> int:
        return self.time


@asynccontextmanager
async def opened(folder: Path, clock: StandingClock) -> AsyncIterator[Gateway]:
    made: list[Extractor] = []

    def rows(type: str, resource: dict[str, Any]) -> IndexRows:
        return made[0].rows(type, resource)

    store = await open_sqlite(folder / "g.sqlite", clock=clock, random=os.urandom, rows=rows)
    made.append(Extractor(store.index_key))
    try:
        yield Gateway(settings=Settings(), store=store, extractor=made[0], clock=clock)
    finally:
        await store.close()


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Callable[[Gateway, StandingClock], Awaitable[None]]], None]:
    """Runs a coroutine with an empty gateway."""

    def go(work: Callable[[Gateway, StandingClock], Awaitable[None]]) -> None:
        async def main() -> None:
            clock = StandingClock()
            async with opened(tmp_path, clock) as gateway:
                await work(gateway, clock)

        asyncio.run(main())

    return go


async def received(gateway: Gateway, id: str) -> None:
    """A commit of that institution."""
    put = Put(type="Basic", id=f"b-{gateway.random(4).hex()}", op="create", body=b"}}")
    await gateway.store.commit(ChangeSet(id=gateway.random(16), puts=[put], institution=id))


async def listed(gateway: Gateway) -> list[Source]:
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return await sources(gateway, reader)


def test_what_is_registered_is_found_by_id_and_by_facility(run: Any) -> None:
    async def work(gateway: Gateway, clock: StandingClock) -> None:
        assert await institutions(gateway) == {}
        assert (await register(gateway, SECOND)).outcome == "created"
        assert (await register(gateway, CLINIC)).outcome == "created"
        assert await institutions(gateway) == {"demo-second": SECOND, "demo-clinic": CLINIC}
        assert await institution(gateway, "demo-clinic") == CLINIC
        assert await institution(gateway, "nobody") is None
        assert await institution_of_facility(gateway, "示范二院") == SECOND
        assert await institution_of_facility(gateway, "demo-second") == SECOND
        assert await institution_of_facility(gateway, "别院") is None

    run(work)


def test_a_changed_entry_is_seen_at_once_and_an_unchanged_one_makes_no_version(run: Any) -> None:
    async def work(gateway: Gateway, clock: StandingClock) -> None:
        await register(gateway, SECOND)
        assert (await register(gateway, SECOND)).outcome == "unchanged"
        promoted = replace(SECOND, level="三级甲等")
        assert (await register(gateway, promoted)).outcome == "updated"
        assert await institution(gateway, "demo-second") == promoted

    run(work)


def test_a_facility_that_two_claim_belongs_to_neither(run: Any) -> None:
    async def work(gateway: Gateway, clock: StandingClock) -> None:
        await register(gateway, SECOND)
        await register(gateway, replace(CLINIC, facilities=("示范二院",)))
        assert await institution_of_facility(gateway, "示范二院") is None

    run(work)


def test_a_new_institution_gets_its_token_in_the_same_commit(run: Any) -> None:
    async def work(gateway: Gateway, clock: StandingClock) -> None:
        token = (await register(gateway, SECOND, with_token=True)).token
        again = await register(gateway, replace(SECOND, name="新名"), with_token=True)
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            assert await reader.credential(hash_token(token)) == "demo-second"
            assert await has_token(reader, "demo-second")
        assert again.token == ""

    run(work)


def test_tokens_live_side_by_side_until_they_are_revoked(run: Any) -> None:
    async def work(gateway: Gateway, clock: StandingClock) -> None:
        first = (await register(gateway, SECOND, with_token=True)).token
        second = await issue_token(gateway, "demo-second")
        assert await revoke_token(gateway, first) == "demo-second"
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            assert await reader.credential(hash_token(first)) is None
            assert await reader.credential(hash_token(second)) == "demo-second"
        with pytest.raises(NotFound):
            await revoke_token(gateway, first)

    run(work)


def test_a_token_needs_a_registered_institution(run: Any) -> None:
    async def work(gateway: Gateway, clock: StandingClock) -> None:
        with pytest.raises(NotFound):
            await issue_token(gateway, "nobody")
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            assert not await has_token(reader, "nobody")

    run(work)


def test_every_act_on_the_registry_is_audited(run: Any) -> None:
    async def work(gateway: Gateway, clock: StandingClock) -> None:
        await register(gateway, SECOND, with_token=True)
        await register(gateway, replace(SECOND, name="新名"))
        await revoke_token(gateway, await issue_token(gateway, "demo-second"))
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            assert (await reader.counts())["AuditEvent"] == 4

    run(work)


def test_sources_are_all_active_institutions_and_say_how_fresh_they_are(run: Any) -> None:
    async def work(gateway: Gateway, clock: StandingClock) -> None:
        await register(gateway, SECOND)
        await register(gateway, CLINIC)
        await register(gateway, replace(CLINIC, id="demo-closed", active=False))
        await received(gateway, "demo-second")
        assert await listed(gateway) == [
            Source("demo-clinic", "示范社区", None, stale=True),
            Source("demo-second", "示范市第二医院", START, stale=False),
        ]

    run(work)


def test_a_source_goes_stale_when_the_days_are_over(run: Any) -> None:
    async def work(gateway: Gateway, clock: StandingClock) -> None:
        await register(gateway, SECOND)
        await received(gateway, "demo-second")
        last = (await listed(gateway))[0].last_received_us
        assert last is not None
        clock.time = last + 3 * DAY
        assert [source.stale for source in await listed(gateway)] == [False]
        clock.time += 1_000_000
        assert [source.stale for source in await listed(gateway)] == [True]

    run(work)


def test_the_list_is_at_most_a_second_old(run: Any) -> None:
    async def work(gateway: Gateway, clock: StandingClock) -> None:
        await register(gateway, SECOND)
        before = await listed(gateway)
        assert await listed(gateway) is before
        clock.time += 400_000
        await received(gateway, "demo-second")
        assert await listed(gateway) is before
        clock.time += 700_000
        assert [source.last_received_us for source in await listed(gateway)] != [None]

    run(work)
