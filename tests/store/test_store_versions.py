"""What a commit does to versions, homes, facts and the change log."""

from __future__ import annotations

import os

import pytest
from store_builders import body, change, delete, fact, fresh, observation, patient

from fhir_gateway.errors import Unprocessable
from fhir_gateway.security.actor import SYSTEM_ACCESS, Access
from fhir_gateway.store.blobs import pack
from fhir_gateway.store.changes import (
    Credential,
    Derived,
    Evaluation,
    Put,
    Received,
    ReportLink,
)

ALL = Access()


def outcomes(committed):
    return [(result.version, result.outcome) for result in committed.results]


def test_a_create_and_its_updates_are_numbered_and_all_stay_readable(play):
    async def scenario(store):
        await store.commit(change(patient("p1", text="one")))
        await store.commit(change(patient("p1", text="two")))
        async with store.snapshot(ALL) as reader:
            return (
                await reader.read("Patient", "p1"),
                await reader.vread("Patient", "p1", 1),
                await reader.vread("Patient", "p1", 3),
                await reader.history("Patient", "p1"),
                await reader.read("Patient", "p2"),
            )

    current, first, third, history, missing = play(scenario)
    assert (current.version, current.tail) == (2, body("two"))
    assert (first.version, first.tail, third, missing) == (1, body("one"), None, None)
    assert history == [current, first]


def test_the_whole_resource_is_spliced_from_columns(play):
    async def scenario(store):
        await store.commit(change(patient("p1", text="one")))
        async with store.snapshot(ALL) as reader:
            return await reader.read("Patient", "p1")

    assert play(scenario).whole() == (
        b'{"resourceType":"Patient","id":"p1","meta":{"versionId":"1",'
        b'"lastUpdated":"2026-09-21T14:13:20.000Z"},"language":"one"}'
    )


def test_a_delete_is_a_version_and_an_update_brings_the_resource_back(play):
    async def scenario(store):
        await store.commit(change(patient("p1", text="one")))
        deleted = await store.commit(change(delete("Patient", "p1")))
        again = await store.commit(change(delete("Patient", "p1")))
        never = await store.commit(change(delete("Patient", "nobody")))
        async with store.snapshot(ALL) as reader:
            gone = await reader.read("Patient", "p1")
        back = await store.commit(change(patient("p1", text="two")))
        async with store.snapshot(ALL) as reader:
            history = await reader.history("Patient", "p1")
        return deleted, again, never, gone, back, history

    deleted, again, never, gone, back, history = play(scenario)
    assert outcomes(deleted) == outcomes(again) == [(2, "deleted")]
    assert outcomes(never) == [(0, "deleted")]
    assert (gone.deleted, gone.tail) == (True, b"")
    assert outcomes(back) == [(3, "created")]
    assert [version.deleted for version in history] == [False, True, False]


def test_the_same_content_makes_no_new_version_when_asked(play):
    async def scenario(store):
        await store.commit(change(patient("p1", text="x" * 300)))
        enc, packed = pack(body("x" * 300))
        same = Put("Patient", "p1", "update", enc, packed, patient="p1", only_if_changed=True)
        other = patient("p1", text="y", only_if_changed=True)
        return await store.commit(change(same)), await store.commit(change(other))

    same, other = play(scenario)
    assert outcomes(same) == [(1, "unchanged")]
    assert outcomes(other) == [(2, "updated")]


def test_time_never_goes_backwards(play, clock):
    async def scenario(store):
        first = await store.commit(change(patient("p1")))
        clock.time -= 3_600_000_000
        second = await store.commit(change(patient("p2")))
        clock.time += 2 * 3_600_000_000
        third = await store.commit(change(patient("p3")))
        return first, second, third

    first, second, third = play(scenario)
    assert second.updated == first.updated
    assert third.updated == first.updated + 3_600_000_000
    assert [first.t, second.t, third.t] == [first.t, first.t + 1, first.t + 2]


# -- homes -------------------------------------------------------------------------------------

DOCUMENT_AND_NAME, OTHER_NAME, DOCUMENT = b"a" * 16, b"b" * 16, b"d" * 16


def test_the_same_document_and_name_share_a_home_and_others_do_not(play):
    async def scenario(store):
        keys = (DOCUMENT_AND_NAME, 1), (DOCUMENT, 2)
        committed = await store.commit(
            change(patient("p1", *keys), patient("p2", *keys), patient("p3"))
        )
        later = await store.commit(change(patient("p4", *keys)))
        return [result.home for result in (*committed.results, *later.results)]

    one, two, three, four = play(scenario)
    assert one == two == four != three


def test_a_document_under_two_names_is_contested(play):
    async def scenario(store):
        await store.commit(change(patient("p1", (DOCUMENT_AND_NAME, 1), (DOCUMENT, 2))))
        async with store.snapshot(ALL) as reader:
            before = await reader.person("p1")
        await store.commit(change(patient("p2", (OTHER_NAME, 1), (DOCUMENT, 2)), patient("p3")))
        async with store.snapshot(ALL) as reader:
            after = [await reader.person(id) for id in ("p1", "p2", "p3", "p4")]
        await store.commit(change(delete("Patient", "p2")))
        async with store.snapshot(ALL) as reader:
            return before, after, await reader.person("p1"), await reader.person("p2")

    before, (one, two, three, four), settled, deleted = play(scenario)
    assert (before.documented, before.contested) == (True, False)
    assert (one.contested, two.contested, one.home != two.home) == (True, True, True)
    assert (three.documented, three.contested, four) == (False, False, None)
    assert (settled.contested, deleted) == (False, None)


def test_the_same_person_under_one_name_is_not_contested(play):
    async def scenario(store):
        keys = (DOCUMENT_AND_NAME, 1), (DOCUMENT, 2)
        await store.commit(change(patient("p1", *keys), patient("p2", *keys)))
        async with store.snapshot(ALL) as reader:
            return await reader.person("p2")

    assert play(scenario).contested is False


def test_results_live_in_the_home_of_their_patient_whatever_the_order(play):
    async def scenario(store):
        await store.commit(change(patient("p0")))
        committed = await store.commit(
            change(
                observation("o1", "p1"),
                Put("Provenance", "v1", "create", 0, body(), follow="Observation/o2"),
                patient("p1"),
                observation("o2", "p0"),
                Put("Slot", "s1", "create", 0, body(), home=-7),
                Put("Provenance", "v2", "create", 0, body(), follow="Observation/unknown"),
            )
        )
        return [result.home for result in committed.results]

    assert play(scenario) == [2, 1, 2, 1, -7, 0]


def test_what_follows_keeps_its_home_when_the_other_comes_later(play):
    async def scenario(store):
        follower = Put("Provenance", "v1", "update", 0, body("1"), follow="Observation/o1")
        await store.commit(change(follower))
        await store.commit(change(patient("p1"), observation("o1", "p1")))
        committed = await store.commit(change(follower))
        return committed.results[0]

    result = play(scenario)
    assert (result.home, result.version) == (0, 2)


def test_an_unknown_subject_is_refused_and_nothing_is_stored(play):
    async def scenario(store):
        with pytest.raises(Unprocessable) as refused:
            await store.commit(change(patient("p1"), observation("o1", "stranger")))
        async with store.snapshot(ALL) as reader:
            return refused.value.issues[0], await reader.read("Patient", "p1")

    issue, stored = play(scenario)
    assert (issue.rule, issue.expression, stored) == ("subject-unknown", "Observation", None)


def test_a_subject_may_not_become_another_person(play):
    async def scenario(store):
        await store.commit(change(patient("p1"), patient("p2"), observation("o1", "p1")))
        with pytest.raises(Unprocessable) as refused:
            await store.commit(change(observation("o1", "p2")))
        return refused.value.issues[0].rule

    assert play(scenario) == "subject-changed"


def test_a_resource_named_twice_is_refused(play):
    async def scenario(store):
        with pytest.raises(Unprocessable) as refused:
            await store.commit(change(patient("p1"), patient("p1")))
        return refused.value.issues[0].rule

    assert play(scenario) == "named-twice"


# -- facts, links and the register ---------------------------------------------------------------


def with_facts(id, *facts, text="", **members):
    return observation(id, "p1", text, derived=Derived(facts=list(facts)), **members)


def test_facts_are_read_as_they_stood_at_a_commit(play):
    async def scenario(store):
        first = await store.commit(
            change(patient("p1"), with_facts("o1", fact("L001", 10, "Observation/o1", value="5")))
        )
        second = await store.commit(
            change(with_facts("o1", fact("L001", 10, "Observation/o1", value="6")))
        )
        third = await store.commit(change(delete("Observation", "o1")))
        async with store.snapshot(ALL) as reader:
            return [
                [(found.fact.value, found.version, found.t_from, found.patient)
                 for found in await reader.facts(1, ["L001"], committed.t)]
                for committed in (first, second, third)
            ], first.t, second.t  # fmt: skip

    (first, second, third), t1, t2 = play(scenario)
    assert first == [("5", 1, t1, "p1")]
    assert second == [("6", 2, t2, "p1")]
    assert third == []


def test_facts_of_several_items_come_newest_first(play):
    async def scenario(store):
        await store.commit(
            change(
                patient("p1"),
                with_facts("o1", fact("L001", 10, "Observation/o1")),
                with_facts("o2", fact("L002", 30, "Observation/o2")),
                with_facts(
                    "o3",
                    fact("L001", 20, "Observation/o3", laterality="L"),
                    fact("L001", 20, "Observation/o3", laterality="R"),
                ),
                with_facts("o4", fact("L009", 40, "Observation/o4")),
            )
        )
        async with store.snapshot(ALL) as reader:
            found = await reader.facts(1, ["L001", "L002", "L003", "L001"], reader.t)
            many = await reader.facts(1, [f"L{n:03}" for n in range(200)], reader.t)
            return [each.fact.source for each in found], len(many)

    found, many = play(scenario)
    assert found == ["Observation/o2", "Observation/o3", "Observation/o3", "Observation/o1"]
    assert many == 5


def test_a_fact_bears_the_status_of_the_report_issued_last(play):
    from fhir_gateway.fhir.keys import key64

    def report(id, status, issued):
        link = ReportLink(key64("Observation/o1"), status, issued)
        return Put("DiagnosticReport", id, "update", 0, body(status), patient="p1",
                   derived=Derived(links=[link]))  # fmt: skip

    async def scenario(store):
        first = await store.commit(
            change(
                patient("p1"), with_facts("o1", fact("L001", 10, "Observation/o1")),
                report("r1", "preliminary", 5),
            )
        )  # fmt: skip
        second = await store.commit(change(report("r2", "final", 7)))
        third = await store.commit(change(report("r1", "amended", 9)))
        async with store.snapshot(ALL) as reader:
            return [
                (found.report_status, found.report_source)
                for committed in (first, second, third)
                for found in await reader.facts(1, ["L001"], committed.t)
            ]

    assert play(scenario) == [
        ("preliminary", "DiagnosticReport/r1"),
        ("final", "DiagnosticReport/r2"),
        ("amended", "DiagnosticReport/r1"),
    ]


def test_two_versions_in_one_batch_leave_one_valid_fact(play):
    import asyncio

    async def scenario(store):
        await store.commit(change(patient("p1")))
        sets = [
            change(with_facts("o1", fact("L001", 10, "Observation/o1", value=str(n)), text=str(n)))
            for n in range(3)
        ]
        committed = await asyncio.gather(*map(store.commit, sets))
        async with store.snapshot(ALL) as reader:
            facts = await reader.facts(1, ["L001"], reader.t)
        return {each.t for each in committed}, [(each.version, each.fact.value) for each in facts]

    batches, facts = play(scenario)
    assert len(batches) == 1
    assert facts == [(3, "2")]


def test_the_register_is_read_as_it_stood(play):
    def evaluation(passed):
        row = Evaluation("h1", "L001", "110000", "2026-01-01", "2026-12-31", passed, "NCCL", "1")
        return Put("Basic", "e1", "update", 0, body(str(passed)),
                   derived=Derived(evaluations=[row]), raises_epoch=True)  # fmt: skip

    async def scenario(store):
        first = await store.commit(change(evaluation(True)))
        second = await store.commit(change(evaluation(False)))
        async with store.snapshot(ALL) as reader:
            pairs = [("h1", "L001"), ("h1", "L002"), ("h1", "L001")]
            return (
                await reader.evaluations(pairs, first.t),
                await reader.evaluations(pairs, second.t),
                reader.epoch,
            )

    before, after, epoch = play(scenario)
    assert [row.passed for row in before] == [True]
    assert [row.passed for row in after] == [False]
    assert epoch == 2


# -- what else a commit keeps --------------------------------------------------------------------


def test_credentials_received_bytes_and_sources_are_kept(play):
    async def scenario(store):
        await store.commit(
            change(
                credentials=[Credential(b"h" * 32, "org1")],
                received=[Received(b"r" * 32, "x-application/hl7-v2+er7", *pack(b"MSH" * 99))],
                institution="org1",
            )
        )
        async with store.snapshot(ALL) as reader:
            seen = (
                await reader.credential(b"h" * 32),
                await reader.received(b"r" * 32),
                await reader.last_received(),
                reader.epoch,
            )
        await store.commit(change(credentials=[Credential(b"h" * 32, "org1", False)]))
        async with store.snapshot(ALL) as reader:
            return seen, await reader.credential(b"h" * 32), await reader.received(b"x")

    (institution, received, last, epoch), revoked, unknown = play(scenario)
    assert (institution, revoked, unknown, epoch) == ("org1", None, None, 1)
    assert received == ("x-application/hl7-v2+er7", b"MSH" * 99)
    assert last == {"org1": 1_790_000_000_000_000}


def test_index_rows_follow_the_current_version(play, rows):
    def named(text, number):
        return Put("Organization", "g1", "update", 0, body(text), derived=Derived(
            ints=[(5, number, 0), (5, number, 0)], texts=[(6, text)],
            global_ints=[(7, number, 1)], global_texts=[(8, text)],
        ))  # fmt: skip

    def index():
        return [
            rows(statement)
            for statement in (
                "SELECT parameter, v1, v2 FROM px ORDER BY 1", "SELECT parameter, text FROM "
                "px_text ORDER BY 1", "SELECT parameter, v1, v2 FROM gx",
                "SELECT parameter, text FROM gx_text",
            )
        ]  # fmt: skip

    async def scenario(store):
        await store.commit(change(named("one", 1)))
        first = index()
        await store.commit(change(named("two", 2)))
        second = index()
        await store.commit(change(delete("Organization", "g1")))
        return first, second, index()

    first, second, third = play(scenario)
    assert first == [[(5, 1, 0), (7, 1, 1)], [(6, "one"), (8, "one")], [(7, 1, 1)], [(8, "one")]]
    assert second == [[(5, 2, 0), (7, 2, 1)], [(6, "two"), (8, "two")], [(7, 2, 1)], [(8, "two")]]
    assert third == [[], [], [], []]


def test_a_large_change_set_is_one_commit_and_gives_the_loop_its_turns(play):
    import asyncio
    import time

    async def scenario(store):
        puts = [patient("p1")] + [
            observation(fresh("o"), "p1", derived=Derived(ints=[(n, n, n) for n in range(12)]))
            for _ in range(1_500)
        ]
        turns, running = 0, True

        async def watch():
            nonlocal turns
            while running:
                before = time.thread_time()
                await asyncio.sleep(0)
                turns += time.thread_time() - before > 0.0005  # between which something was done

        watcher = asyncio.create_task(watch())
        committed = await store.commit(change(*puts))
        running = False
        await watcher
        return committed, turns

    committed, turns = play(scenario)
    assert len(committed.results) == 1_501
    assert turns > 8  # about one for each 25 resources, whatever each takes


def test_counts_are_of_what_is_there(play):
    from store_builders import event

    async def scenario(store):
        await store.commit(change(patient("p1"), patient("p2"), observation("o1", "p1")))
        await store.commit(change(delete("Patient", "p2"), journal=[event("e1")]))
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            before = await reader.counts()
        await store.drain()
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            return before, await reader.counts()

    before, after = play(scenario)
    assert before == after == {"AuditEvent": 1, "Observation": 1, "Patient": 1}


def test_index_keys_are_made_with_the_store_and_stay(play):
    async def scenario(store):
        return store.index_key

    assert play(scenario, random=lambda n: b"k" * n) == b"k" * 32
    assert play(scenario, random=os.urandom) == b"k" * 32
