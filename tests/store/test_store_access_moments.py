"""When openings and consents hold: half-open times, the next snapshot, the commit of a replay."""

from __future__ import annotations

from dataclasses import replace

import pytest
from store_builders import change, delete, fact, observation, patient

from fhir_gateway.errors import Unavailable
from fhir_gateway.fhir.keys import key64
from fhir_gateway.security.actor import Access, Sight
from fhir_gateway.store.changes import ConsentRow, Derived, Opening, Put, ReportLink

NOW = 1_790_000_000_000_000
HOUR = 3_600_000_000
OURS, THEIRS = 11, 22
SIGHT = Sight(OURS, relation=True, permit=True)
LOOKS = Access(owners=frozenset({OURS}), sight=SIGHT)


def theirs(id="o1", patient="p", **members):
    derived = Derived(facts=[fact("L1", 1, f"Observation/{id}")])
    return observation(id, patient, owner=THEIRS, derived=derived, **members)


def opening(until=NOW + HOUR, **members):
    return Opening(**{"home": 1, "party": OURS, "kind": "decision", "grade": 0, "since": NOW,
                      "until": until, **members})  # fmt: skip


def consent(id, *rows):
    derived = Derived(consents=list(rows))
    return Put("Consent", id, "update", 0, b"}}", patient="p", derived=derived)


def said(permit, *, owner=0, class_=-1, rank=0, until=NOW + 9 * HOUR):
    return ConsentRow(0, owner, class_, rank, permit, NOW - HOUR, until)


async def sees(store, access=LOOKS, id="o1"):
    async with store.snapshot(access) as reader:
        found = await reader.read("Observation", id)
        facts = await reader.facts(1, ["L1"], reader.t)
        told = f"Observation/{id}" in {one.fact.source for one in facts}
        assert told == (found is not None)
        return told


@pytest.mark.parametrize(
    ("since", "until", "open"),
    [
        (NOW, NOW + 1, True),
        (NOW + 1, NOW + 2, False),
        (NOW - 1, NOW, False),
        (NOW - 1, NOW + 1, True),
    ],
)
def test_an_opening_holds_from_its_beginning_until_before_its_end(play, since, until, open):
    async def scenario(store):
        await store.commit(change(patient("p"), theirs(), openings=[opening(until, since=since)]))
        return await sees(store)

    assert play(scenario) is open


def test_an_opening_lapses_by_the_clock_alone(play, clock):
    async def scenario(store):
        await store.commit(change(patient("p"), theirs(), openings=[opening()]))
        told = []
        for now in (NOW, NOW + HOUR - 1, NOW + HOUR):
            clock.time = now
            told.append(await sees(store))
        return told

    assert play(scenario) == [True, True, False]


def test_a_clock_that_is_behind_the_last_commit_does_not_count(play, clock):
    async def scenario(store):
        await store.commit(change(patient("p"), theirs(), openings=[opening()]))
        clock.time = NOW - 5 * HOUR
        return await sees(store)

    assert play(scenario)


def test_a_withdrawn_consent_is_effective_in_the_next_snapshot(play):
    async def scenario(store):
        await store.commit(change(patient("p"), theirs(), openings=[opening()]))
        told = [await sees(store)]
        for put in (
            consent("c", said(False)), consent("c", said(True, class_=0)), delete("Consent", "c"),
        ):  # fmt: skip
            await store.commit(change(put))
            told.append(await sees(store))
        return told

    assert play(scenario) == [True, False, True, True]


def test_a_snapshot_that_is_open_does_not_change(play):
    async def scenario(store):
        await store.commit(change(patient("p"), theirs(), openings=[opening()]))
        async with store.snapshot(LOOKS) as reader:
            await store.commit(change(consent("c", said(False))))
            before = await reader.read("Observation", "o1")
        return before is not None, await sees(store)

    assert play(scenario) == (True, False)


@pytest.mark.parametrize(
    ("rows", "open"),
    [
        ([said(False), said(True, class_=0)], False),  # at equal rank a denial
        ([said(False), said(True, class_=0, rank=1)], True),
        ([said(False, rank=2), said(True, class_=0, rank=1)], False),
        ([said(False, owner=THEIRS)], False),
        ([said(False, owner=33)], True),
        ([said(False, class_=1)], True),
        ([said(False, until=NOW)], True),
    ],
)
def test_the_most_particular_sentence_of_a_consent_decides(play, rows, open):
    async def scenario(store):
        await store.commit(
            change(patient("p"), theirs(), consent("c", *rows), openings=[opening()])
        )
        return await sees(store)

    assert play(scenario) is open


@pytest.mark.parametrize(
    ("grade", "sensitivity", "open"),
    [(0, 0, False), (1, 0, True), (1, 1, False), (2, 0, True), (2, 1, True)],
)
def test_an_emergency_opens_what_its_grade_reaches(play, grade, sensitivity, open):
    async def scenario(store):
        found = theirs(sensitivity=sensitivity)
        broken = opening(kind="break-glass", grade=grade)
        await store.commit(
            change(patient("p"), found, consent("c", said(False, rank=9)), openings=[broken])
        )
        return await sees(store)

    assert play(scenario) is open


def test_an_emergency_opens_no_home_that_is_linked_afterwards(play):
    """Else a glass broken on a record of nobody's would open a person's, and nobody be told."""

    async def scenario(store):
        broken = opening(kind="break-glass", grade=2)
        await store.commit(
            change(patient("p"), theirs(), patient("q"), theirs("o2", "q"), openings=[broken])
        )
        joined = Derived(aliases=[("p", "q", "linkage")])
        denied = consent("c", said(False, rank=9))
        await store.commit(change(Put("Linkage", "l", "update", 0, b"}}", derived=joined), denied))
        async with store.snapshot(LOOKS) as reader:
            return [await reader.read("Observation", id) is not None for id in ("o1", "o2")]

    assert play(scenario) == [True, False]


def test_a_past_question_is_judged_by_its_moment_and_its_commit(play, clock):
    async def scenario(store):
        first = await store.commit(change(patient("p"), theirs(), openings=[opening()]))
        clock.time = NOW + 3 * HOUR
        later = opening(NOW + 4 * HOUR, since=NOW + 3 * HOUR)
        second = await store.commit(change(consent("c", said(False)), openings=[later]))
        told = {}
        for name, at, t in (
            ("then", NOW, first.t), ("lapsed", NOW + 2 * HOUR, first.t),
            ("denied", NOW + 3 * HOUR, second.t), ("not yet linked", NOW, 0),
        ):  # fmt: skip
            access = replace(LOOKS, sight=replace(SIGHT, at=at))
            async with store.snapshot(access) as reader:
                told[name] = len(await reader.facts(1, ["L1"], t))
        return told

    assert play(scenario) == {"then": 1, "lapsed": 0, "denied": 0, "not yet linked": 0}


def test_a_denial_in_one_home_holds_for_the_whole_person(play):
    async def scenario(store):
        await store.commit(change(patient("p"), patient("q"), theirs("o2", "q")))
        joined = Derived(aliases=[("p", "q", "linkage")])
        await store.commit(
            change(Put("Linkage", "l", "update", 0, b"}}", derived=joined), openings=[opening()])
        )
        told = []
        for put in (None, consent("c", said(False)), delete("Linkage", "l")):
            if put is not None:
                await store.commit(change(put))
            async with store.snapshot(LOOKS) as reader:
                told.append(await reader.read("Observation", "o2") is not None)
        return told

    assert play(scenario) == [True, False, False]


def test_a_report_that_is_hidden_tells_nothing_of_itself_by_its_results(play):
    async def scenario(store):
        link = Derived(links=[ReportLink(key64("Observation/o1"), "final", 1)])
        report = Put("DiagnosticReport", "d", "update", 0, b"}}", patient="p", owner=33,
                     sensitivity=1, derived=link)  # fmt: skip
        await store.commit(change(patient("p"), theirs(), report, openings=[opening()]))
        told = []
        for access in (LOOKS, Access(), Access(max_class=1)):
            async with store.snapshot(access) as reader:
                (found,) = await reader.facts(1, ["L1"], reader.t)
                told.append((found.report_status, found.report_source))
        return told

    hidden = ("", "")
    assert play(scenario) == [hidden, hidden, ("final", "DiagnosticReport/d")]


def test_a_store_of_an_earlier_version_refuses_to_look_through_a_sight(play, database):
    async def fill(store):
        await store.commit(change(patient("p"), theirs(), openings=[opening()]))

    async def scenario(store):
        async with store.snapshot(Access()) as reader:
            found = await reader.read("Observation", "o1")
        with pytest.raises(Unavailable) as caught:
            async with store.snapshot(LOOKS):
                raise AssertionError("it opened")
        async with store.snapshot(Access()) as reader:  # and the connection is free again
            return found is not None, caught.value.issues[0].rule, reader.t

    play(fill)
    database.execute("UPDATE clock SET indexed = 3")
    assert play(scenario) == (True, "reindex-needed", 1)
