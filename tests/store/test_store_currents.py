"""Many resources read by one statement are what each is that is read by itself."""

from __future__ import annotations

import pytest
from store_builders import change, observation, patient

from fhir_gateway.security.actor import RESTRICTED, Access
from fhir_gateway.store.changes import Put
from fhir_gateway.store.currents_sql import currents

OURS, THEIRS = 11, 22
NAMES = [
    ("Patient", "p1"), ("Observation", "open"), ("Observation", "ours"), ("Observation", "theirs"),
    ("Observation", "secret"), ("Observation", "gone"), ("Observation", "never"),
    ("Observation", "p1"), ("Observation", "open"),
]  # fmt: skip


@pytest.mark.parametrize(
    "access",
    [Access(), Access(owners=frozenset({OURS})), Access(max_class=RESTRICTED),
     Access(homes=frozenset())],
)  # fmt: skip
def test_they_are_what_each_is_by_itself(play, access):
    async def scenario(store):
        await store.commit(change(
            patient("p1"), observation("open", "p1"), observation("ours", "p1", owner=OURS),
            observation("theirs", "p1", owner=THEIRS),
            observation("secret", "p1", owner=OURS, sensitivity=1), observation("gone", "p1"),
        ))  # fmt: skip
        await store.commit(change(observation("ours", "p1", "second", owner=OURS)))
        await store.commit(change(Put("Observation", "gone", "delete")))
        async with store.snapshot(access) as reader:
            together = await reader.steps(lambda seen: currents(seen, NAMES))
            none = await reader.steps(lambda seen: currents(seen, []))
            single = {name: await reader.read(*name) for name in NAMES}
        return together, none, {name: one for name, one in single.items() if one is not None}

    together, none, single = play(scenario)
    assert together == single
    assert none == {}
