"""One person with several homes: aliases, who is who at a commit, proposals, and what is refused.

docs/adr/0023-identity.md, docs/adr/0026-links.md
"""

from __future__ import annotations

from store_builders import change, patient

from fhir_gateway.security.actor import Access

ALL = Access()


def test_a_person_of_one_home_has_it_alone(play):
    async def scenario(store):
        keys = ((b"a" * 16, 1), (b"d" * 16, 2))
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

    homes, person, records, both = play(scenario)
    assert (person.homes, person.doubtful, person.rivals) == ((homes[0],), False, ())
    assert records == ["p1", "p2"]
    assert both == ["p1", "p2", "p3"]
