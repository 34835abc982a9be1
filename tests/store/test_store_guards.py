"""Guards: judged in order under the lock; a loser is dropped alone and its refusal is kept."""

from __future__ import annotations

import asyncio

import pytest
from store_builders import body, change, delete, event, observation, patient

from fhir_gateway.errors import (
    Conflict,
    Duplicate,
    GatewayError,
    MultipleMatches,
    PreconditionFailed,
    Unprocessable,
)
from fhir_gateway.security.actor import SYSTEM_ACCESS, Access
from fhir_gateway.store.changes import (
    Absent,
    Counter,
    Derived,
    Exists,
    Once,
    Put,
    Unique,
    VersionIs,
)

ALL = Access()


async def refusal(store, change_set):
    with pytest.raises(GatewayError) as refused:
        await store.commit(change_set)
    return refused.value


def organization(id, *tokens, op="update"):
    derived = Derived(global_ints=[(9, *token) for token in tokens])
    return Put("Organization", id, op, 0, body(id), derived=derived)


@pytest.mark.parametrize(
    ("version", "passes"),
    [
        (("Patient", "p1", 2), True),
        (("Patient", "p1", 1), False),
        (("Patient", "p1", 3), False),
        (("Patient", "p1", -1), True),
        (("Patient", "p1", 0), False),
        (("Patient", "new", 0), True),
        (("Patient", "new", -1), False),
        (("Patient", "new", 1), False),
        (("Patient", "gone", 0), True),
        (("Patient", "gone", -1), False),
    ],
)
def test_the_version_must_be_the_current_one(play, version, passes):
    async def scenario(store):
        await store.commit(change(patient("p1", text="1"), patient("gone")))
        await store.commit(change(patient("p1", text="2"), delete("Patient", "gone")))
        guarded = change(patient("p9"), guards=[VersionIs(*version)])
        if passes:
            return (await store.commit(guarded)).results[0].outcome
        return type(await refusal(store, guarded))

    assert play(scenario) == ("created" if passes else PreconditionFailed)


def test_absent_names_what_it_found(play):
    async def scenario(store):
        first = change(organization("g1", (1, 10)), guards=[Absent("Organization", 9, 1, 10)])
        await store.commit(first)
        again = change(organization("g2", (1, 10)), guards=[Absent("Organization", 9, 1, 10)])
        one = await refusal(store, again)
        await store.commit(change(organization("g3", (1, 11))))
        several = await refusal(
            store, change(guards=[Unique("k", b"1"), Absent("Organization", 9, 1, None)])
        )
        other = await store.commit(change(guards=[Absent("Organization", 9, 1, 12)]))
        await store.commit(change(delete("Organization", "g1")))
        freed = await store.commit(change(guards=[Absent("Organization", 9, 1, 10)]))
        return one, several, other, freed

    one, several, other, freed = play(scenario)
    assert isinstance(one, PreconditionFailed)
    assert (one.matches, one.guard) == ([("Organization", "g1")], 0)
    assert isinstance(several, MultipleMatches)
    assert sorted(several.matches) == [("Organization", "g1"), ("Organization", "g3")]
    assert several.guard == 1
    assert freed.t > other.t


def test_a_reference_must_be_stored_or_put_in_the_same_set(play):
    async def scenario(store):
        await store.commit(change(patient("p1"), patient("gone")))
        await store.commit(change(delete("Patient", "gone")))
        guards = [Exists("Patient/p1", "a"), Exists("Observation/o1", "b")]
        await store.commit(change(observation("o1", "p1"), guards=guards))
        missing = await refusal(store, change(guards=[Exists("Patient/x", "Observation.subject")]))
        gone = await refusal(store, change(guards=[Exists("Patient/gone", "c")]))
        leaving = await refusal(
            store, change(delete("Observation", "o2"), guards=[Exists("Observation/o2", "d")])
        )
        return missing, gone, leaving

    missing, gone, leaving = play(scenario)
    assert isinstance(missing, Unprocessable)
    assert missing.issues[0].expression == "Observation.subject"
    assert [gone.issues[0].expression, leaving.issues[0].expression] == ["c", "d"]


def test_a_business_key_is_used_once_for_ever(play):
    async def scenario(store):
        await store.commit(change(guards=[Unique("report", b"r1"), Unique("order", b"r1")]))
        used = await refusal(store, change(patient("p1"), guards=[Unique("report", b"r1")]))
        twice = await refusal(store, change(guards=[Unique("report", b"r2")] * 2))
        await store.commit(change(guards=[Unique("report", b"r2")]))
        return type(used), type(twice)

    assert play(scenario) == (Duplicate, Duplicate)


@pytest.mark.parametrize(
    ("steps", "last_passes"),
    [
        ([2, 1], True),
        ([2, 1, 1], False),
        ([3], True),
        ([4], False),
        ([1, -1, 3], True),
        ([-1], False),
    ],
)
def test_a_counter_stays_between_nothing_and_its_cap(play, steps, last_passes):
    async def scenario(store):
        *before, last = (change(guards=[Counter(b"slot", by, 3)]) for by in steps)
        for change_set in before:
            await store.commit(change_set)
        if last_passes:
            return bool(await store.commit(last))
        return isinstance(await refusal(store, last), Conflict)

    assert play(scenario) is True


def test_two_counters_of_one_set_are_counted_together(play):
    async def scenario(store):
        both = [Counter(b"slot", 2, 3), Counter(b"slot", 2, 3)]
        return type(await refusal(store, change(guards=both)))

    assert play(scenario) is Conflict


def test_a_loser_is_dropped_alone_and_its_refusal_is_kept(play):
    async def scenario(store):
        await store.commit(change(patient("p1")))
        winner, loser, third = (
            change(
                patient(f"new{n}"),
                guards=[Unique("seat", key)],
                journal=[event(f"done{n}")],
                refusal=event(f"refused{n}"),
            )
            for n, key in enumerate((b"1", b"1", b"2"))
        )
        results = await asyncio.gather(
            *map(store.commit, (winner, loser, third)), return_exceptions=True
        )
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            patients = [await reader.read("Patient", f"new{n}") for n in range(3)]
            events = [
                await reader.read("AuditEvent", f"{what}{n}")
                for n in range(3)
                for what in ("done", "refused")
            ]
        return results, [each is not None for each in (*patients, *events)]

    (first, second, third), there = play(scenario)
    assert isinstance(second, Duplicate)
    assert (first.t, first.n, third.t, third.n) == (third.t, 0, first.t, 2)  # one batch
    assert there == [True, False, True, True, False, False, True, True, False]


def test_guards_are_judged_in_their_order(play):
    async def scenario(store):
        error = await refusal(
            store, change(guards=[VersionIs("Patient", "x", -1), Counter(b"c", 5, 1)])
        )
        other = await refusal(
            store, change(guards=[Counter(b"c", 5, 1), VersionIs("Patient", "x", -1)])
        )
        return type(error), type(other), error.guard

    assert play(scenario) == (PreconditionFailed, Conflict, 0)


# -- repeats -----------------------------------------------------------------------------------


def test_a_change_set_sent_again_has_no_second_effect(play):
    async def scenario(store):
        once = change(patient("p1"), guards=[Counter(b"c", 1, 9)], journal=[event("e1")])
        first = await store.commit(once)
        again = await store.commit(once)
        async with store.snapshot(ALL) as reader:
            return first, again, await reader.read("Patient", "p1")

    first, again, stored = play(scenario)
    assert (again.repeated, again.t, again.n, again.results) == (
        True, first.t, first.n, first.results,
    )  # fmt: skip
    assert stored.version == 1


def test_a_refused_change_set_sent_again_is_refused_the_same(play):
    async def scenario(store):
        await store.commit(change(guards=[Unique("k", b"1")]))
        loser = change(guards=[Unique("k", b"1")], refusal=event("e1"))
        first, again = await refusal(store, loser), await refusal(store, loser)
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            return first.issues == again.issues, type(again), await reader.counts()

    assert play(scenario) == (True, Duplicate, {"AuditEvent": 1})


def test_a_once_key_gives_every_repeat_the_stored_answer(play):
    async def scenario(store):
        first = await store.commit(change(patient("p1"), once=Once("hl7", b"MSG1", b"AA")))
        repeat = await store.commit(
            change(patient("p1", text="other"), once=Once("hl7", b"MSG1", b"never"))
        )
        other = await store.commit(change(patient("p2"), once=Once("rest", b"MSG1", b"BB")))
        async with store.snapshot(ALL) as reader:
            answers = [await reader.once(*key) for key in (("hl7", b"MSG1"), ("hl7", b"MSG2"))]
            return first, repeat, other, answers, await reader.history("Patient", "p1")

    first, repeat, other, answers, history = play(scenario)
    assert (repeat.repeated, repeat.response, repeat.t, repeat.updated) == (
        True, b"AA", first.t, first.updated,
    )  # fmt: skip
    assert (first.repeated, other.repeated) == (False, False)
    assert (answers, len(history)) == ([b"AA", None], 1)


def test_ids_of_change_sets_are_forgotten_after_a_day(play, clock, rows):
    async def scenario(store):
        await store.commit(change(patient("p1")))
        clock.time += 25 * 3_600_000_000
        await store.commit(change(patient("p2")))
        for _ in range(100):
            left = rows("SELECT t FROM change_set")
            if len(left) == 1:
                break
            await asyncio.sleep(0.05)
        return left

    assert play(scenario) == [(2,)]
