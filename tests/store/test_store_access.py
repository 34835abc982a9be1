"""Every read applies its Access: owner and sensitivity class."""

from __future__ import annotations

import pytest
from store_builders import body, change, event, fact, observation, patient

from fhir_gateway.security.actor import RESTRICTED, Access
from fhir_gateway.store.changes import Derived

OURS, THEIRS = 11, 22

SEES = [
    (Access(), {"open", "ours", "theirs"}),
    (Access(owners=frozenset()), {"open"}),
    (Access(owners=frozenset({OURS})), {"open", "ours"}),
    (Access(owners=frozenset({OURS, THEIRS})), {"open", "ours", "theirs"}),
    (Access(max_class=RESTRICTED), {"open", "ours", "theirs", "secret"}),
    (Access(max_class=RESTRICTED, owners=frozenset({OURS})), {"open", "ours", "secret"}),
]
ROWS = {"open": (0, 0), "ours": (OURS, 0), "theirs": (THEIRS, 0), "secret": (OURS, 1)}


def result(id, owner, sensitivity, text=""):
    derived = Derived(facts=[fact("L001", 1, f"Observation/{id}")])
    return observation(id, "p1", text, owner=owner, sensitivity=sensitivity, derived=derived)


@pytest.mark.parametrize(("access", "visible"), SEES)
def test_a_reader_sees_what_its_access_says(play, access, visible):
    async def scenario(store):
        await store.commit(change(patient("p1"), *(result(id, *acl) for id, acl in ROWS.items())))
        await store.commit(change(*(result(id, *acl, text="second") for id, acl in ROWS.items())))
        await store.commit(
            change(journal=[event(f"a-{id}", owner=owner) for id, (owner, _) in ROWS.items()])
        )
        async with store.snapshot(access) as reader:
            seen = {
                "read": {id for id in ROWS if await reader.read("Observation", id)},
                "vread": {id for id in ROWS if await reader.vread("Observation", id, 1)},
                "history": {id for id in ROWS if len(await reader.history("Observation", id)) == 2},
                "home": {id for id in ROWS if await reader.home("Observation", id)},
                "facts": {
                    found.fact.source.removeprefix("Observation/")
                    for found in await reader.facts(1, ["L001"], reader.t)
                },
            }
            events = {id for id, acl in ROWS.items() if await reader.read("AuditEvent", f"a-{id}")}
            return seen, (await reader.counts())["Observation"], events

    seen, count, events = play(scenario)
    assert seen == dict.fromkeys(("read", "vread", "history", "home", "facts"), visible)
    assert count == len(visible)
    assert events == {
        id for id, (owner, _) in ROWS.items()
        if access.owners is None or owner == 0 or owner in access.owners
    }  # fmt: skip


def test_a_patient_that_is_not_visible_has_no_person(play):
    async def scenario(store):
        await store.commit(change(patient("p1", owner=OURS), patient("p2", sensitivity=1)))
        async with store.snapshot(Access(owners=frozenset({THEIRS}))) as reader:
            return await reader.person("p1"), await reader.person("p2")

    assert play(scenario) == (None, None)


def test_old_versions_of_what_became_restricted_are_not_shown(play):
    async def scenario(store):
        await store.commit(change(patient("p1"), observation("o1", "p1", "plain")))
        await store.commit(change(observation("o1", "p1", "secret", sensitivity=1)))
        async with store.snapshot(Access()) as reader:
            return await reader.vread("Observation", "o1", 1), await reader.history(
                "Observation", "o1"
            )

    assert play(scenario) == (None, [])


def test_a_snapshot_does_not_move(play):
    async def scenario(store):
        await store.commit(change(patient("p1", text="one")))
        async with store.snapshot(Access()) as reader:
            await store.commit(change(patient("p1", text="two"), patient("p2")))
            inside = await reader.read("Patient", "p1"), await reader.read("Patient", "p2")
            t = reader.t
        async with store.snapshot(Access()) as reader:
            return inside, t, (await reader.read("Patient", "p1")).tail, reader.t

    (inside, absent), t, after, later = play(scenario)
    assert (inside.tail, absent, after) == (body("one"), None, body("two"))
    assert later == t + 1
