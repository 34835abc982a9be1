"""What an institution owns, piece by piece; and rows derived again only while a guard holds."""

from __future__ import annotations

import pytest
from store_builders import body, change, delete, patient

from fhir_gateway.errors import Conflict, Internal
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.changes import ChangeSet, Derived, Exists, Put, Reindex, Settled

MINE, OTHERS = 11, 22


def result(name, owner, subject="p1"):
    put = Put("Observation", name, "create", 0, body(name), patient=subject)
    put.owner = owner
    return put


async def everything(store, *, visit):
    found, after, calls = [], 0, 0
    while True:
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            page, after = await reader.owned("Observation", MINE, after_rid=after, visit=visit)
        found += page
        calls += 1
        if not after:
            return [(one.id, one.version, one.owner) for one in found], calls


@pytest.mark.parametrize(("visit", "calls"), [(1, 8), (3, 3), (7, 2), (100, 1)])
def test_an_institution_s_resources_come_each_once_in_bounded_pieces(play, visit, calls):
    async def scenario(store):
        await store.commit(change(patient("p1"), patient("p2")))
        for number in range(6):
            owner = MINE if number % 3 == 0 else OTHERS
            await store.commit(change(result(f"o{number}", owner, f"p{number % 2 + 1}")))
        await store.commit(change(result("gone", MINE)))
        await store.commit(change(delete("Observation", "gone")))
        await store.commit(change(result("o3", MINE, "p2")))
        return await everything(store, visit=visit)

    assert play(scenario) == ([("o0", 1, MINE), ("o3", 2, MINE)], calls)


def test_nothing_is_owned_in_an_empty_store(play):
    async def scenario(store):
        return await everything(store, visit=5)

    assert play(scenario) == ([], 1)


def test_rows_are_derived_again_only_while_what_they_rest_on_stays(play, rows):
    async def scenario(store):
        seen = await store.commit(change(patient("p1"), result("o1", MINE)))
        guard = Settled(("ConceptMap",), (), seen.t)
        wanted = Reindex("Observation", "o1", 1, Derived(ints=[(7, 8, 9)]))
        await store.commit(ChangeSet(b"", guards=[guard], reindex=[wanted]))
        await store.commit(change(Put("ConceptMap", "m", "create", 0, body("m"))))
        later = Reindex("Observation", "o1", 1, Derived(ints=[(7, 8, 10)]))
        with pytest.raises(Conflict) as caught:
            await store.commit(ChangeSet(b"", guards=[guard], reindex=[later]))
        assert (caught.value.guard, caught.value.issues[0].rule) == (0, "overtaken")

    play(scenario)
    assert rows("SELECT v2 FROM px WHERE parameter = 7") == [(9,)]


def test_a_set_without_an_id_has_no_other_guard(play):
    async def scenario(store):
        with pytest.raises(Internal):
            await store.commit(ChangeSet(b"", guards=[Exists("Patient/p1", "Observation")]))

    play(scenario)
