"""Every way of reading shows what the rule says: compared with the rule in plain Python."""

from __future__ import annotations

from access_world import NOW, PEOPLE, TOKEN, TYPES, World, accesses
from effort import examples
from hypothesis import HealthCheck, given, settings

from fhir_gateway.search.plan import Ids, SearchPlan, Token
from fhir_gateway.store import people_sql, results_sql
from fhir_gateway.store.walk_sql import FIRST

WORLD = World()
EVERY = 10_000


async def fill(store, clock):
    clock.time = NOW
    await WORLD.fill(store)


def names(found):
    return {f"{one.type}/{one.id}" for one in found}


def versions_seen(access, type, id):
    """(version, is current) of what is seen of one resource; nothing where its own row is not."""
    kept = WORLD.versions[type, id]
    if not WORLD.sees(access, kept[-1]):
        return []
    return [n for n, row in enumerate(kept, 1) if WORLD.sees(access, row)]


asked = settings(
    max_examples=examples(14), suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@asked
@given(access=accesses)
def test_one_resource_and_its_versions(look, access):
    async def scenario(store):
        async with store.snapshot(access) as reader:
            for number, (type, id) in enumerate(WORLD.versions):
                if number % 5 and type not in ("AuditEvent", "GuidanceResponse"):
                    continue
                told = versions_seen(access, type, id)
                read = await reader.read(type, id)
                assert (read is not None) == bool(told), (type, id)
                assert [one.version for one in await reader.history(type, id)] == told[::-1]
                count = len(WORLD.versions[type, id])
                found = [n for n in range(1, count + 1) if await reader.vread(type, id, n)]
                assert found == told
                assert await reader.home(type, id) == (read.home if read else None)
                page = await reader.changes(type=type, id=id, limit=EVERY)
                assert [one.stored.version for one in page] == told[::-1]

    look(scenario)


@asked
@given(access=accesses)
def test_lists_of_a_type_of_changes_and_of_everything(look, access):
    async def scenario(store):
        async with store.snapshot(access) as reader:
            every = WORLD.seen(access)
            walked = await reader.walk(FIRST, until_home=1 << 62, limit=EVERY)
            assert names(walked) == every
            for type in TYPES:
                seen = WORLD.seen(access, type=type)
                found = await reader.scan(type, until_t=reader.t, limit=EVERY)
                assert names(found) == seen
                told = [(name, n) for name, id in WORLD.versions if name == type
                        for n in versions_seen(access, name, id)]  # fmt: skip
                page = await reader.changes(type=type, limit=EVERY)
                assert len(page) == len(told)
            owner = next(iter(access.owners or ()), 11)
            found, _ = await reader.owned("Observation", owner, after_rid=0, visit=EVERY)
            own = {
                f"{type}/{id}"
                for (type, id), kept in WORLD.versions.items()
                if type == "Observation" and kept[-1].owner == owner
            }
            assert names(found) == own & every
            counts = await reader.counts()
            assert {type: counts.get(type, 0) for type in TYPES} == {
                type: len(WORLD.seen(access, type=type)) for type in TYPES
            }
            some = [("Organization", f"org{n}") for n in range(4)] + [("Patient", "p1")]
            assert names(await reader.shared(some)) == WORLD.seen(access, type="Organization")

    look(scenario)


@asked
@given(access=accesses)
def test_searches(look, access):
    async def scenario(store):
        async with store.snapshot(access) as reader:
            observations = WORLD.seen(access, type="Observation")
            ids = tuple(id for type, id in WORLD.versions if type == "Observation")
            plan = SearchPlan("Observation", (Ids(ids),), count=200, total="accurate")
            page = await reader.search(plan)
            assert names(page.matches) == observations
            assert page.total == len(observations)
            for n in range(3):
                token = Token(TOKEN, ((n, 0),))
                plan = SearchPlan(
                    "Observation", (token,), global_parameters=frozenset({TOKEN}), count=200
                )
                found = names((await reader.search(plan)).matches)
                assert found == {one for one in observations if one.endswith(f"-{n}")}
            for person in range(1, PEOPLE + 1):
                plan = SearchPlan("Observation", patients=(f"p{person}",), by_patient=True)
                found = names((await reader.search(plan)).matches)
                assert found == {one for one in observations if f"/o{person}-" in one}

    look(scenario)


@asked
@given(access=accesses)
def test_a_person_and_its_record(look, access):
    async def scenario(store):
        async with store.snapshot(access) as reader:
            patients = WORLD.seen(access, type="Patient")
            for person in range(1, PEOPLE + 1):
                found = await reader.person(f"p{person}")
                assert (found is not None) == (f"Patient/p{person}" in patients)
                record = await reader.record(person, f"p{person}", limit=EVERY)
                of_person = {
                    f"{type}/{id}" for (type, id), kept in WORLD.versions.items()
                    if kept[-1].home == person and type not in ("AuditEvent", "GuidanceResponse")
                }  # fmt: skip
                assert names(record) == WORLD.seen(access) & of_person
            homes = list(range(1, PEOPLE + 1))
            records = await reader.person_records(homes)
            assert {f"Patient/{id}" for id in records} == patients
            told = await reader.steps(lambda seen: people_sql.of_homes(seen, homes))
            assert {f"Patient/{one.id}" for one in told} == patients

    look(scenario)


def carried(access):
    """Facts that are seen, each with its report where that is seen too."""
    reports = WORLD.seen(access, type="DiagnosticReport")
    found = {}
    for name in WORLD.seen(access, type="Observation"):
        report = f"DiagnosticReport/d{name.partition('/o')[2].partition('-')[0]}"
        found[name] = report if report in reports else ""
    return found


@asked
@given(access=accesses)
def test_facts_and_the_reports_that_carry_them(look, access):
    items, homes = ["L0", "L1", "L2"], list(range(1, PEOPLE + 1))

    async def scenario(store):
        async with store.snapshot(access) as reader:
            told = carried(access)
            one_by_one = []
            for home in homes:
                one_by_one += await reader.facts(home, items, reader.t)
            together = await reader.facts(homes, items, reader.t)
            for found in (one_by_one, together):
                assert {one.fact.source: one.report_source for one in found} == told
            t = reader.t
            rows = await reader.steps(lambda seen: results_sql.results(seen, homes, t))
            assert {row.source: row.report_source for row in rows} == told
            rows = await reader.steps(lambda seen: results_sql.results(seen, [7], t, items))
            of_one = {one: report for one, report in told.items() if "/o7-" in one}
            assert {row.source: row.report_source for row in rows} == of_one

    look(scenario)
