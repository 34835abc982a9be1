"""One person with several homes: aliases, who is who at a commit, proposals, and what is refused.

docs/adr/0023-identity.md, docs/adr/0026-links.md
"""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from store_builders import change, delete, fact, observation, patient

from fhir_gateway.errors import Unprocessable
from fhir_gateway.security.actor import Access
from fhir_gateway.store.changes import Derived, Put, Reindex

ALL = Access()
KEY, OTHER_KEY, DOCUMENT = b"a" * 16, b"b" * 16, b"d" * 16
LIVE = " WHERE t_to = 9223372036854775807"


def linkage(id, *patients, active=True, **members):
    """A Linkage that says that the first of the Patients is the same as each of the others."""
    first, *others = patients
    pairs = [(first, other, "linkage") for other in others] if active else []
    return Put("Linkage", id, "update", 0, b'},"active":true}', patient=first,
               derived=Derived(aliases=pairs), **members)  # fmt: skip


def task(id, one, other, grade="probable", *, open=True):
    pairs = [(one, other, grade)] if open else []
    return Put("Task", id, "update", 0, b'},"status":"requested"}', patient=one,
               derived=Derived(proposals=pairs))  # fmt: skip


def observed(id, whom, item="L001", **members):
    derived = Derived(facts=[fact(item, 10, f"Observation/{id}")])
    return observation(id, whom, derived=derived, **members)


async def person(store, id, as_of=None):
    async with store.snapshot(ALL) as reader:
        return await reader.person(id, as_of)


async def people(store, *ids):
    """The records of the person of each of these Patients."""
    async with store.snapshot(ALL) as reader:
        homes = [(await reader.person(id)).homes for id in ids]
        return ["".join(await reader.person_records(one)) for one in homes]


async def fill(store, count, start=0):
    await store.commit(change(*(patient(f"{letter}") for letter in "abcdefghijkl"[start:count])))


def test_a_person_of_one_home_has_it_alone(play):
    async def scenario(store):
        keys = ((KEY, 1), (DOCUMENT, 2))
        committed = await store.commit(
            change(patient("p1", *keys), patient("p2", *keys), patient("p3"))
        )
        homes = [one.home for one in committed.results]
        async with store.snapshot(ALL) as reader:
            return (
                homes,
                await reader.person("p1"),
                await reader.person_records([homes[0]]),
                await reader.person_records([homes[2], homes[0]]),
            )

    homes, found, records, both = play(scenario)
    assert (found.homes, found.doubtful, found.rivals) == ((homes[0],), False, ())
    assert records == ["p1", "p2"]
    assert both == ["p1", "p2", "p3"]


def test_a_link_makes_two_homes_one_persons_and_taking_it_back_restores_them(play, rows):
    async def scenario(store):
        await fill(store, 3)
        before = await people(store, "a", "b", "c")
        await store.commit(change(linkage("l", "a", "b")))
        linked = await people(store, "a", "b", "c")
        await store.commit(change(linkage("l", "a", "b", active=False)))
        return before, linked, await people(store, "a", "b", "c")

    assert play(scenario) == (["a", "b", "c"], ["ab", "ab", "c"], ["a", "b", "c"])
    assert rows("SELECT home FROM person" + LIVE) == []


def test_a_snapshot_as_of_an_earlier_commit_sees_who_was_who(play):
    async def scenario(store):
        await fill(store, 2)
        first = await store.commit(change(linkage("l", "a", "b")))
        second = await store.commit(change(delete("Linkage", "l")))
        times = (first.t - 1, first.t, second.t - 1, second.t, None)
        return [len((await person(store, "a", t)).homes) for t in times]

    assert play(scenario) == [1, 2, 2, 1, 1]


def test_chains_of_links_join_and_fall_apart(play):
    async def scenario(store):
        await fill(store, 4)
        await store.commit(
            change(linkage("1", "a", "b"), linkage("2", "c", "d"), linkage("3", "b", "c"))
        )
        whole = await people(store, *"abcd")
        await store.commit(change(delete("Linkage", "3")))
        return whole, await people(store, *"abcd")

    assert play(scenario) == (["abcd"] * 4, ["ab", "ab", "cd", "cd"])


def test_a_second_link_of_two_homes_outlives_the_first(play):
    async def scenario(store):
        await fill(store, 2)
        await store.commit(change(linkage("1", "a", "b")))
        await store.commit(change(linkage("2", "b", "a")))
        await store.commit(change(delete("Linkage", "1")))
        one = await people(store, "a")
        await store.commit(change(delete("Linkage", "2")))
        return one, await people(store, "a")

    assert play(scenario) == (["ab"], ["a"])


def test_eight_homes_are_one_person_and_the_ninth_is_refused(play, rows):
    async def scenario(store):
        await fill(store, 9)
        await store.commit(change(linkage("l", *"abcdefgh")))
        with pytest.raises(Unprocessable) as refused:
            await store.commit(change(linkage("m", "c", "i"), patient("z")))
        eight = len((await person(store, "h")).homes)
        nobody = await person(store, "z")
        await store.commit(change(linkage("l", *"abcdefg")))
        await store.commit(change(linkage("m", "c", "i")))
        return refused.value.issues[0].rule, eight, nobody, await people(store, "i", "h")

    assert play(scenario) == ("person-too-wide", 8, None, ["abcdefgi", "h"])
    assert len(rows("SELECT DISTINCT home FROM person" + LIVE)) == 8


def test_two_groups_that_are_too_wide_together_stay_two(play):
    async def scenario(store):
        await fill(store, 10)
        await store.commit(change(linkage("l", *"abcde"), linkage("m", *"fghij")))
        with pytest.raises(Unprocessable, match="more than 8 homes"):
            await store.commit(change(linkage("n", "a", "f")))
        return await people(store, "a", "f")

    assert play(scenario) == ["abcde", "fghij"]


def test_of_links_that_come_at_once_those_that_fit_are_kept(play):
    async def scenario(store):
        await fill(store, 12)
        links = [linkage(f"l{other}", "a", other) for other in "bcdefghijkl"]
        told = await asyncio.gather(
            *(store.commit(change(one)) for one in links), return_exceptions=True
        )
        refused = [one for one in told if isinstance(one, Unprocessable)]
        return len(refused), len((await person(store, "a")).homes), len(told)

    assert play(scenario) == (4, 8, 11)


def test_a_link_to_nobody_is_refused_and_leaves_nothing(play, rows):
    async def scenario(store):
        await fill(store, 1)
        with pytest.raises(Unprocessable, match="not stored here"):
            await store.commit(change(linkage("l", "a", "nobody")))
        async with store.snapshot(ALL) as reader:
            return await reader.read("Linkage", "l")

    assert play(scenario) is None
    assert rows("SELECT * FROM alias") == []


def test_a_link_and_its_patients_may_come_together(play):
    async def scenario(store):
        await store.commit(change(linkage("l", "a", "b"), patient("b"), patient("a")))
        return await people(store, "a", "b")

    assert sorted(play(scenario)[0]) == ["a", "b"]


def test_a_link_within_one_batch_that_is_taken_back_at_once_never_was(play, rows):
    async def scenario(store):
        await fill(store, 3)
        put = [linkage("l", "a", "b"), linkage("l", "a", "b", active=False), linkage("m", "b", "c")]
        await asyncio.gather(*(store.commit(change(one)) for one in put))
        return await people(store, "a", "b", "c")

    assert play(scenario) == ["a", "bc", "bc"]
    assert len(rows("SELECT home FROM person" + LIVE)) == 2


# -- what a person's records say ---------------------------------------------------------------


def test_facts_and_records_of_all_homes_are_read_together_under_the_access(play):
    async def scenario(store):
        await fill(store, 3)
        await store.commit(
            change(observed("1", "a", owner=1), observed("2", "b", owner=2), observed("3", "c"))
        )
        await store.commit(change(linkage("l", "a", "b")))
        told = []
        for access in (ALL, Access(owners=frozenset({1}))):
            async with store.snapshot(access) as reader:
                homes = (await reader.person("a")).homes
                found = await reader.facts(homes, ["L001"], reader.t)
                told.append([one.fact.source for one in found])
        return told

    both, own = play(scenario)
    assert sorted(both) == ["Observation/1", "Observation/2"]
    assert own == ["Observation/1"]


def test_records_that_may_not_be_seen_are_not_named(play):
    async def scenario(store):
        await store.commit(change(patient("a", owner=1), patient("b", owner=2)))
        await store.commit(change(linkage("l", "a", "b")))
        async with store.snapshot(Access(owners=frozenset({1}))) as reader:
            found = await reader.person("a")
            return await reader.person_records(found.homes), await reader.person("b")

    assert play(scenario) == (["a"], None)


def test_a_confirmed_link_settles_a_document_under_two_names(play):
    async def scenario(store):
        await store.commit(
            change(
                patient("a", (KEY, 1), (DOCUMENT, 2)), patient("b", (OTHER_KEY, 1), (DOCUMENT, 2))
            )
        )
        before = await person(store, "a")
        await store.commit(change(linkage("l", "a", "b")))
        linked = await person(store, "a"), await person(store, "b")
        await store.commit(change(patient("c", (b"c" * 16, 1), (DOCUMENT, 2))))
        return before, linked, await person(store, "a")

    before, linked, third = play(scenario)
    assert (before.documented, before.contested) == (True, True)
    assert [(one.documented, one.contested) for one in linked] == [(True, False)] * 2
    assert third.contested


# -- shared documents ---------------------------------------------------------------------------


def test_a_document_that_comes_later_joins_and_parts_when_it_goes(play, rows):
    async def scenario(store):
        keys = (KEY, 1), (DOCUMENT, 2)
        await store.commit(change(patient("a", *keys), patient("b")))
        await store.commit(change(patient("b", *keys)))
        joined = await person(store, "b")
        both = await people(store, "a", "b")
        await store.commit(change(patient("b", text="x")))
        return joined, both, await people(store, "a", "b")

    joined, both, parted = play(scenario)
    assert (joined.documented, joined.contested) == (True, False)
    assert (both, parted) == (["ab", "ab"], ["a", "b"])
    assert rows("SELECT home FROM alias" + LIVE) == []


def test_the_connection_also_parts_when_the_other_loses_the_document(play):
    async def scenario(store):
        await store.commit(change(patient("a", (KEY, 1)), patient("b")))
        await store.commit(change(patient("b", (KEY, 1))))
        both = await people(store, "a", "b")
        await store.commit(change(delete("Patient", "a")))
        return both, (await person(store, "b")).homes

    both, alone = play(scenario)
    assert both == ["ab", "ab"]
    assert len(alone) == 1


def test_another_record_of_the_home_that_keeps_the_document_keeps_the_connection(play):
    async def scenario(store):
        await store.commit(change(patient("a", (KEY, 1)), patient("c", (KEY, 1)), patient("b")))
        await store.commit(change(patient("b", (KEY, 1))))
        await store.commit(change(patient("a", text="x")))
        kept = len((await person(store, "b")).homes)
        await store.commit(change(patient("c", text="x")))
        return kept, len((await person(store, "b")).homes)

    assert play(scenario) == (2, 1)


def test_a_new_patient_with_keys_of_two_homes_joins_them(play):
    async def scenario(store):
        await store.commit(change(patient("a", (KEY, 1)), patient("b", (OTHER_KEY, 1))))
        await store.commit(change(patient("c", (KEY, 1), (OTHER_KEY, 1))))
        return (await person(store, "c")).homes == (await person(store, "b")).homes

    assert play(scenario)


def test_the_same_number_under_another_name_connects_nobody(play, rows):
    async def scenario(store):
        await store.commit(change(patient("a", (KEY, 1), (DOCUMENT, 2)), patient("b")))
        await store.commit(change(patient("b", (OTHER_KEY, 1), (DOCUMENT, 2))))
        return await person(store, "b")

    found = play(scenario)
    assert (found.contested, len(found.homes)) == (True, 1)
    assert rows("SELECT * FROM alias") == []


def test_a_document_beyond_eight_homes_is_stored_and_connects_no_more(play):
    async def scenario(store):
        await fill(store, 9)
        await store.commit(change(linkage("l", *"abcdefgh")))
        await store.commit(change(patient("a", (KEY, 1), (DOCUMENT, 2), text="x")))
        await store.commit(change(patient("i", (KEY, 1), (DOCUMENT, 2), text="x")))
        found = await person(store, "i")
        return len(found.homes), found.contested

    assert play(scenario) == (1, True)


# -- proposals -----------------------------------------------------------------------------------


def test_an_open_probable_proposal_makes_doubtful_and_a_decided_one_does_not(play):
    async def scenario(store):
        await fill(store, 3)
        told = []
        for put in (task("t", "a", "b"), task("t", "a", "b", "possible"), task("t", "a", "b"),
                    linkage("l", "a", "b")):  # fmt: skip
            committed = await store.commit(change(put))
            told.append((await person(store, "b")).doubtful)
        rivals = (await person(store, "b", committed.t - 1)).rivals
        await store.commit(change(linkage("l", "a", "b", active=False)))
        await store.commit(change(task("t", "a", "b", open=False)))
        return told, rivals, (await person(store, "a")).home, await person(store, "b")

    told, rivals, home, decided = play(scenario)
    assert told == [True, False, True, False]
    assert rivals == (home,)
    assert (decided.doubtful, decided.rivals) == (False, ())


# -- again ---------------------------------------------------------------------------------------


def test_what_was_stored_before_there_were_links_gets_them_when_it_is_derived_again(play, rows):
    async def scenario(store):
        await store.commit(change(patient("a", (KEY, 1)), patient("b"), patient("c")))
        bare = Put("Linkage", "l", "update", 0, b'},"active":true}', patient="a")
        await store.commit(change(bare))
        again = [Reindex("Linkage", "l", 1, Derived(aliases=[("a", "c", "linkage")])),
                 Reindex("Patient", "b", 1, Derived(identity=[(KEY, 1)])),
                 Reindex("Patient", "a", 1, Derived(identity=[(KEY, 1)]))]  # fmt: skip
        for _ in range(2):
            await store.commit(change(reindex=again))
        return await people(store, "a", "b", "c")

    assert play(scenario) == ["abc"] * 3
    assert len(rows("SELECT home FROM alias")) == 4


def test_a_link_too_many_is_left_out_when_rows_are_derived_again(play):
    async def scenario(store):
        await fill(store, 9)
        await store.commit(change(linkage("l", *"abcdefgh")))
        bare = Put("Linkage", "m", "update", 0, b'},"active":true}', patient="a")
        await store.commit(change(bare))
        again = Reindex("Linkage", "m", 1, Derived(aliases=[("a", "i", "linkage")]))
        await store.commit(change(reindex=[again]))
        return len((await person(store, "a")).homes)

    assert play(scenario) == 8


# -- merges --------------------------------------------------------------------------------------


def merged(id, other, **members):
    """A Patient that says that another one of its institution took its place."""
    derived = Derived(aliases=[(id, other, "patient-link")])
    return Put("Patient", id, "update", 0, b'},"active":false}', patient=id, derived=derived,
               **members)  # fmt: skip


def test_a_merge_within_an_institution_joins_and_is_taken_back(play):
    async def scenario(store):
        await store.commit(change(patient("a", owner=1), patient("b", owner=1)))
        await store.commit(change(observed("1", "a", owner=1)))
        await store.commit(change(merged("a", "b", owner=1)))
        joined = await people(store, "b")
        async with store.snapshot(ALL) as reader:
            read = await reader.read("Observation", "1")
        await store.commit(change(patient("a", owner=1)))
        return joined, read.version, await people(store, "a", "b")

    assert play(scenario) == (["ab"], 1, ["a", "b"])


def test_a_merge_with_another_institutions_patient_is_refused(play, rows):
    async def scenario(store):
        await store.commit(change(patient("a", owner=1), patient("b", owner=2)))
        with pytest.raises(Unprocessable) as refused:
            await store.commit(change(merged("a", "b", owner=1)))
        async with store.snapshot(ALL) as reader:
            stored = await reader.read("Patient", "a")
        again = Reindex("Patient", "a", 1, Derived(aliases=[("a", "b", "patient-link")]))
        await store.commit(change(reindex=[again]))
        return refused.value.issues[0].rule, stored.version

    assert play(scenario) == ("merge-other-institution", 1)
    assert rows("SELECT * FROM alias") == []


# -- against a model -----------------------------------------------------------------------------


class Model:
    """Who is who by the definition: links and shared keys connect, at most eight homes."""

    def __init__(self, ids):
        self.links: dict[str, tuple[str, str]] = {}
        self.keys: dict[str, str] = dict.fromkeys(ids, "")
        self.shared: set[frozenset[str]] = set()

    def group(self, id, links=None):
        edges = [*map(frozenset, (self.links if links is None else links).values()), *self.shared]
        found, before = {id}, set()
        while found != before:
            before = set(found)
            found |= {one for edge in edges if edge & found for one in edge}
        return frozenset(found)

    def link(self, name, one, other):
        """False when the person would have too many homes."""
        after = {**self.links, name: (one, other)}
        fits = len(self.group(one, after)) <= 8
        if fits:
            self.links = after
        return fits

    def bear(self, id, key):
        self.keys[id] = key
        self.shared = {edge for edge in self.shared
                       if len({self.keys[one] for one in edge} - {""}) == 1
                       and all(self.keys[one] for one in edge)}  # fmt: skip
        for other in sorted(self.keys):
            if key and other != id and self.keys[other] == key:
                edge = frozenset((id, other))
                self.shared.add(edge)
                if len(self.group(id)) > 8:
                    self.shared.discard(edge)


def test_groups_are_those_of_a_model_now_and_at_every_earlier_commit(play):
    ids = "abcdefghijkl"

    async def scenario(store):
        await store.commit(change(*(patient(id) for id in ids)))
        model, chance, seen = Model(ids), Random(5), []
        for step in range(45):
            one, other = chance.sample(ids, 2)
            name = f"l{chance.randrange(14)}"
            if chance.random() < 0.3:
                key = chance.choice(["", "", "k", "m"])
                model.bear(one, key)
                put = patient(one, *([(key.encode() * 16, 1)] if key else []), text=f"{step}")
            elif chance.random() < 0.3:
                model.links.pop(name, None)
                put = linkage(name, "a", "b", active=False)
                put.patient = None
            else:
                fits = model.link(name, one, other)
                put = linkage(name, one, other)
                put.patient = None
                if not fits:
                    with pytest.raises(Unprocessable):
                        await store.commit(change(put))
                    continue
            committed = await store.commit(change(put))
            seen.append((committed.t, {id: len(model.group(id)) for id in ids}))
        assert await sizes(store) == seen[-1][1]
        return [(await sizes(store, t)) == then for t, then in seen]

    async def sizes(store, as_of=None):
        async with store.snapshot(ALL) as reader:
            return {id: len((await reader.person(id, as_of)).homes) for id in ids}

    agrees = play(scenario)
    assert len(agrees) > 25
    assert all(agrees)


def test_a_hidden_record_makes_a_document_contested_too(play):
    # a doubt about the caller's own record: a wrong match harms more than it tells
    async def scenario(store):
        await store.commit(
            change(
                patient("a", (KEY, 1), (DOCUMENT, 2), owner=1),
                patient("b", (OTHER_KEY, 1), (DOCUMENT, 2), owner=2),
                patient("c", owner=1),
            )
        )
        await store.commit(change(linkage("l", "a", "c")))
        told = []
        for access in (ALL, Access(owners=frozenset({1})), Access(owners=frozenset({1, 2}))):
            async with store.snapshot(access) as reader:
                told.append((await reader.person("a")).contested)
        return told

    assert play(scenario) == [True, True, True]


def test_hidden_records_of_one_home_come_apart_too(play):
    async def scenario(store):
        await store.commit(change(patient("a", (KEY, 1), owner=1), patient("b", (KEY, 1), owner=2)))
        await store.commit(change(patient("b", (OTHER_KEY, 1), owner=2)))
        told = []
        for access in (ALL, Access(owners=frozenset({1})), Access(owners=frozenset({1, 2}))):
            async with store.snapshot(access) as reader:
                told.append((await reader.person("a")).contested)
        return told

    assert play(scenario) == [True, True, True]
