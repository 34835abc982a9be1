"""Openings and consents as rows: begun, extended, ended with what says them, the same on both."""

from __future__ import annotations

import asyncio

import pytest
from store_builders import change, delete, observation, patient

from fhir_gateway.fhir.keys import key64
from fhir_gateway.store.changes import (
    ChangeSet,
    ConsentRow,
    Derived,
    Opening,
    Put,
    Reindex,
)

ENDLESS = (1 << 63) - 1
NOW = 1_790_000_000_000_000
HOUR = 3_600_000_000

OPENINGS = 'SELECT home, party, kind, grade, since, "until", rid > 0, t_from, t_to FROM opening'
CONSENTS = 'SELECT home, party, owner, class, rank, permit, "until", t_from, t_to FROM consent'


def stay(party=7, until=NOW + HOUR, **members):
    """An opening that a resource gives rise to."""
    return Opening(0, party, "encounter", 0, NOW, until, **members)


def asked(until=NOW + HOUR, *, since=NOW, party=7, grade=0, home=1):
    """An opening that no resource stands for."""
    return Opening(home, party, "decision", grade, since, until)


def said(permit=False, *, party=0, owner=0, class_=-1, rank=0):
    """A sentence of a consent."""
    return ConsentRow(party, owner, class_, rank, permit, NOW, ENDLESS)


def encounter(id, *openings, consents=()):
    derived = Derived(openings=list(openings), consents=list(consents))
    return Put("Encounter", id, "update", 0, b"}}", patient="p", derived=derived)


def test_what_a_resource_says_holds_as_long_as_its_version(play, rows):
    async def scenario(store):
        await store.commit(change(patient("p"), encounter("e", stay(), stay(party=8))))
        await store.commit(change(encounter("e", stay(until=NOW + 2 * HOUR), consents=[said()])))
        await store.commit(change(delete("Encounter", "e")))
        await store.commit(change(encounter("e", stay())))

    play(scenario)
    assert sorted(rows(OPENINGS), key=lambda row: row[7:] + row[1:2]) == [
        (1, 7, "encounter", 0, NOW, NOW + HOUR, True, 1, 2),
        (1, 8, "encounter", 0, NOW, NOW + HOUR, True, 1, 2),
        (1, 7, "encounter", 0, NOW, NOW + 2 * HOUR, True, 2, 3),
        (1, 7, "encounter", 0, NOW, NOW + HOUR, True, 4, ENDLESS),
    ]
    assert rows(CONSENTS) == [(1, 0, 0, -1, 0, 0, ENDLESS, 2, 3)]
    assert {source for (source,) in rows("SELECT source FROM opening")} == {key64("Encounter/e")}


def test_what_stands_in_no_persons_home_opens_nothing(play, rows):
    async def scenario(store):
        derived = Derived(openings=[stay()], consents=[said()])
        await store.commit(change(observation("o", None, derived=derived)))
        await store.commit(change(openings=[asked(home=0), asked(home=-5)]))

    play(scenario)
    assert rows(OPENINGS) == rows(CONSENTS) == []


def test_two_versions_in_one_batch_leave_the_rows_of_the_second(play, rows):
    async def scenario(store):
        await store.commit(change(patient("p")))
        await together(store, change(encounter("e", stay())), change(encounter("e", stay(party=8))))

    play(scenario)
    live = [row for row in rows(OPENINGS) if row[-1] == ENDLESS]
    assert [row[1] for row in live] == [8]


async def together(store, *change_sets):
    """Commits these at once, as a rule in one batch."""
    await asyncio.gather(*(store.commit(one) for one in change_sets))


def live(rows):
    return [row[:6] for row in rows(OPENINGS) if row[-1] == ENDLESS]


def test_an_opening_that_holds_is_extended_and_never_shortened(play, rows):
    async def scenario(store):
        await store.commit(change(patient("p")))
        for until in (NOW + HOUR, NOW + 3 * HOUR, NOW + 2 * HOUR):
            await store.commit(change(openings=[asked(until)]))

    play(scenario)
    assert rows(OPENINGS) == [(1, 7, "decision", 0, NOW, NOW + 3 * HOUR, False, 2, ENDLESS)]


def test_an_opening_that_has_lapsed_stays_and_another_begins(play, rows, clock):
    async def scenario(store):
        await store.commit(change(patient("p"), openings=[asked()]))
        clock.time = NOW + 5 * HOUR
        later = asked(NOW + 6 * HOUR, since=NOW + 5 * HOUR)
        await store.commit(change(openings=[later]))

    play(scenario)
    assert sorted(rows(OPENINGS)) == [
        (1, 7, "decision", 0, NOW, NOW + HOUR, False, 1, 2),
        (1, 7, "decision", 0, NOW + 5 * HOUR, NOW + 6 * HOUR, False, 2, ENDLESS),
    ]


def test_an_opening_is_closed_by_one_that_holds_no_time(play, rows):
    async def scenario(store):
        await store.commit(change(patient("p"), openings=[asked()]))
        await store.commit(change(openings=[asked(NOW), asked(NOW, party=8)]))

    play(scenario)
    assert live(rows) == []


def test_another_grade_takes_the_place_of_the_first(play, rows):
    async def scenario(store):
        await store.commit(change(patient("p"), openings=[asked()]))
        await store.commit(change(openings=[asked(grade=2)]))

    play(scenario)
    assert live(rows) == [(1, 7, "decision", 2, NOW, NOW + HOUR)]


def test_one_batch_may_name_an_opening_many_times(play, rows):
    async def scenario(store):
        await store.commit(change(patient("p")))
        sets = [change(openings=[asked(NOW + n * HOUR), asked(NOW)]) for n in (1, 2)]
        sets += [change(openings=[asked(NOW + n * HOUR)]) for n in (3, 5, 4)]
        sets.append(change(openings=[asked(NOW + 2 * HOUR, grade=1)]))
        sets.append(ChangeSet(b"", openings=[asked(NOW + 9 * HOUR, grade=1)]))
        await together(store, *sets)

    play(scenario)
    assert live(rows) == [(1, 7, "decision", 1, NOW, NOW + 9 * HOUR)]


@pytest.mark.parametrize("times", [1, 2])
def test_openings_and_consents_are_derived_again(play, rows, times):
    async def scenario(store):
        first = encounter("e", stay(), stay(party=8), consents=[said(), said(True, class_=0)])
        await store.commit(change(patient("p"), first, openings=[asked()]))
        derived = Derived(
            openings=[stay(party=8), stay(party=9)], consents=[said(), said(True, class_=3)]
        )
        for _ in range(times):
            await store.commit(ChangeSet(b"", reindex=[Reindex("Encounter", "e", 1, derived)]))

    play(scenario)
    openings = {row[1]: row[-2:] for row in rows(OPENINGS) if row[6]}
    assert openings == {7: (1, 2), 8: (1, ENDLESS), 9: (2, ENDLESS)}
    consents = {row[3]: row[-2:] for row in rows(CONSENTS)}
    assert consents == {-1: (1, ENDLESS), 0: (1, 2), 3: (2, ENDLESS)}
    assert [row[-1] for row in rows(OPENINGS) if not row[6]] == [ENDLESS]
