"""The guard that a search still means what it meant: it never misses a change."""

from __future__ import annotations

import pytest
from store_builders import change, delete, observation, patient

from fhir_gateway.errors import Conflict
from fhir_gateway.store.changes import Settled


async def _passes(store, *guarded):
    try:
        await store.commit(change(patient("after"), guards=list(guarded)))
    except Conflict as error:
        assert (error.guard, error.issues[0].rule) == (len(guarded) - 1, "overtaken")
        return False
    return True


@pytest.mark.parametrize(
    ("types", "passes"),
    [
        (("Observation",), False),
        (("Encounter", "Observation"), False),
        (("Encounter",), True),
        (("Patient",), True),
    ],
)
def test_a_version_of_a_named_type_fails_it(play, types, passes):
    async def scenario(store):
        before = await store.commit(change(patient("p1")))
        await store.commit(change(observation("o1", "p1")))
        return await _passes(store, Settled(types, (), before.t))

    assert play(scenario) is passes


def test_what_the_search_saw_does_not_fail_it(play):
    async def scenario(store):
        await store.commit(change(patient("p1")))
        seen = await store.commit(change(observation("o1", "p1")))
        return await _passes(store, Settled(("Observation", "Patient"), (), seen.t))

    assert play(scenario) is True


def test_a_deletion_is_a_change(play):
    async def scenario(store):
        seen = await store.commit(change(patient("p1"), observation("o1", "p1")))
        await store.commit(change(delete("Observation", "o1")))
        return await _passes(store, Settled(("Observation",), (), seen.t))

    assert play(scenario) is False


def test_other_homes_do_not_matter_when_homes_are_named(play):
    async def scenario(store):
        one = await store.commit(change(patient("p1")))
        other = await store.commit(change(patient("p2")))
        homes = (one.results[0].home, other.results[0].home)
        await store.commit(change(observation("o1", "p2")))
        mine = await _passes(store, Settled(("Observation",), homes[:1], other.t))
        return mine, await _passes(store, Settled(("Observation",), homes, other.t))

    assert play(scenario) == (True, False)


def test_requests_of_one_batch_see_each_other(play):
    """Both searched before either wrote: one of them must search again."""

    async def scenario(store):
        import asyncio

        seen = await store.commit(change(patient("p1")))
        guards = [Settled(("Observation",), (), seen.t)]
        sets = [change(observation(id, "p1"), guards=list(guards)) for id in ("o1", "o2", "o3")]
        answers = await asyncio.gather(*map(store.commit, sets), return_exceptions=True)
        return [isinstance(answer, Conflict) for answer in answers]

    assert sorted(play(scenario)) == [False, True, True]
