"""Editions in the store: two imports at once, foreign resources, a server that follows, search."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from databases import Databases
from running import Running

from fhir_gateway.cli import main
from fhir_gateway.errors import Conflict
from fhir_gateway.interactions.lists import (
    Plan,
    commit_join,
    commit_plan,
    join_of,
    plan_import,
    stored_editions,
)
from fhir_gateway.recognition.vocabulary import catalogue_of
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import IMAGING_SYSTEM, LAB_SYSTEM, Item
from fhir_gateway.terminology.catalogue_join import join_map
from fhir_gateway.terminology.catalogue_resource import LIST_KIND
from fhir_gateway.terminology.edition import Edition

TABLE = "code,name_zh,specimen\nB1,钾,血清\n"


def edition(name: str, day: str) -> Edition:
    item = Item(
        kind="lab", code="B1", name_zh="钾", name_en="", edition=day,
        list_system=f"{CANONICAL}/CodeSystem/{name}",
    )  # fmt: skip
    return Edition(
        name=name, kind="lab", edition=day, effective=day, title="t", publisher="p",
        description="d", items={"B1": item},
    )  # fmt: skip


async def planned(gateway: Any, one: Edition) -> Plan:
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        stored = await stored_editions(reader)
    return plan_import(one, {}, stored, catalogue_of(gateway), day="2000-01-01")


async def editions(gateway: Any, name: str) -> list[str]:
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return [one.edition for one in await stored_editions(reader) if one.name == name]


def test_of_two_imports_from_the_same_state_one_is_stored(client: Running) -> None:
    gateway = client.gateway

    async def race() -> list[Any]:
        plans = [await planned(gateway, edition("race", day)) for day in DAYS]
        return await asyncio.gather(
            *(commit_plan(gateway, plan) for plan in plans), return_exceptions=True
        )

    told = client.run(race())
    assert sorted(type(one).__name__ for one in told) == ["Conflict", "Conflict", "NoneType"]
    assert len(client.run(editions(gateway, "race"))) == 1
    plan = client.run(planned(gateway, edition("race", "2028-01-01")))
    client.run(commit_plan(gateway, plan))
    assert len(client.run(editions(gateway, "race"))) == 2


DAYS = ("2027-01-01", "2027-02-01", "2027-03-01")


def test_an_import_that_was_planned_before_another_does_not_overwrite_it(client: Running) -> None:
    """Both said "created", and the second had replaced the first without --replace."""
    gateway, one = client.gateway, edition("late", "2027-01-01")
    early = client.run(planned(gateway, one))
    client.run(commit_plan(gateway, client.run(planned(gateway, one))))
    with pytest.raises(Conflict, match="import again"):
        client.run(commit_plan(gateway, early))
    assert client.get("/fhir/CodeSystem/late-2027-01-01").json()["meta"]["versionId"] == "1"


def test_joins_that_were_read_before_another_do_not_drop_it(client: Running) -> None:
    gateway, one = client.gateway, edition("lost", "2027-01-01")
    client.run(commit_plan(gateway, client.run(planned(gateway, one))))
    catalogue, seen = catalogue_of(gateway), "ConceptMap/lost-2027-01-01/_history/1"
    first, second = (join_map(one, {"B1": (code,)}, catalogue) for code in ("L001", "L002"))
    assert client.run(commit_join(gateway, one, first, seen=seen)) is True
    with pytest.raises(Conflict, match="do it again"):
        client.run(commit_join(gateway, one, second, seen=seen))


def test_an_edition_that_was_deleted_may_come_again(client: Running) -> None:
    gateway = client.gateway
    for _ in range(2):
        plan = client.run(planned(gateway, edition("again", "2027-01-01")))
        client.run(commit_plan(gateway, plan))
        assert client.run(editions(gateway, "again")) == ["2027-01-01"]
        for type in ("CodeSystem", "ValueSet", "ConceptMap"):
            assert client.delete(f"/fhir/{type}/again-2027-01-01").status_code in (200, 204)
        assert client.run(editions(gateway, "again")) == []


def test_the_join_is_guarded_too(client: Running) -> None:
    gateway, one = client.gateway, edition("joined", "2027-01-01")
    client.run(commit_plan(gateway, client.run(planned(gateway, one))))

    async def race() -> list[Any]:
        catalogue = catalogue_of(gateway)
        maps = [join_map(one, {"B1": (code,)}, catalogue) for code in ("L001", "L002")]
        work = (commit_join(gateway, one, each) for each in maps)
        return await asyncio.gather(*work, return_exceptions=True)

    told = client.run(race())
    assert sorted(type(each).__name__ for each in told) == ["Conflict", "bool"]

    async def joins() -> Any:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            return await join_of(reader, one)

    found, version = client.run(joins())
    assert list(found) == ["B1"]
    assert version.endswith("/_history/2")


@pytest.mark.parametrize(
    "broken",
    [
        {"concept": [{"code": "A", "property": [{"code": "specimen"}]}]},
        {"concept": [{"code": "A", "property": [{"code": "deprecationDate", "valueCode": "x"}]}]},
        {"extension": [{"url": LIST_KIND, "valueCode": "poetry"}]},
        {"url": "http://example.org/not-ours"},
        {},
    ],
)
def test_a_code_system_that_only_says_it_is_a_list_breaks_nothing(
    client: Running, broken: dict[str, Any]
) -> None:
    resource = {
        "resourceType": "CodeSystem", "id": "posing", "status": "active", "content": "complete",
        "url": f"{CANONICAL}/CodeSystem/posing",
        "extension": [{"url": LIST_KIND, "valueCode": "lab"}], **broken,
    }  # fmt: skip
    client.put("/fhir/CodeSystem/posing", resource)
    assert client.run(editions(client.gateway, "catalogue-lab"))


def test_a_list_does_not_take_what_is_another_ones(client: Running) -> None:
    gateway = client.gateway
    foreign = {
        "resourceType": "CodeSystem", "id": "taken-2027-01-01", "status": "active",
        "content": "complete", "url": "http://example.org/foreign",
    }  # fmt: skip
    assert client.put("/fhir/CodeSystem/taken-2027-01-01", foreign).status_code == 201
    plan = client.run(planned(gateway, edition("taken", "2027-01-01")))
    with pytest.raises(Conflict, match="is the name of something else"):
        client.run(commit_plan(gateway, plan))
    assert client.run(editions(gateway, "taken")) == []
    url = {"url": f"{CANONICAL}/ValueSet/taken"}
    assert "entry" not in client.get("/fhir/ValueSet", params=url).json()


def test_a_serving_process_follows_an_import_of_another(
    database: Databases, tmp_path: Path
) -> None:
    serving = database.running("g", open_access=True)
    try:
        coding = {"system": f"{CANONICAL}/CodeSystem/other-process", "code": "B1"}
        resource = {
            "resourceType": "ServiceRequest", "status": "active", "intent": "order",
            "subject": {"display": "示例"}, "code": {"coding": [coding]},
        }  # fmt: skip
        before = serving.post("/fhir/ServiceRequest", resource).json()
        assert len(before["code"]["coding"]) == 1
        (tmp_path / "a.csv").write_text(TABLE, "utf-8")
        command = [
            "catalogue", "import", str(tmp_path / "a.csv"), "--list", "other-process",
            "--kind", "lab", "--edition", "1", "--effective", "2026-01-01", "--publisher", "p",
            "--database", database.url("g"),
        ]  # fmt: skip
        done = in_a_process(serving, command)
        assert "other-process 1 created: 1 items" in done
        after = serving.post("/fhir/ServiceRequest", resource).json()
        added = after["code"]["coding"][1]
        assert (added["system"], added["code"]) == (LAB_SYSTEM, "L001")
        found = serving.get(
            "/fhir/CodeSystem/other-process-1/_history/1",
        ).json()
        assert found["version"] == "1"
    finally:
        serving.close()


def in_a_process(serving: Running, command: list[str]) -> str:
    """What a command says that runs while the server's loop turns, in a thread of its own."""

    async def run() -> Any:
        return await asyncio.to_thread(CliRunner().invoke, main, command)

    done = serving.run(run())
    assert done.exit_code == 0, done.output
    return str(done.output)


# -- what clients see of the hierarchy -------------------------------------------------------------


def codes(answer: dict[str, Any]) -> set[str]:
    """The codes of an expansion, at all levels."""
    found, waiting = set(), list(answer["expansion"].get("contains", ()))
    while waiting:
        one = waiting.pop()
        found.add(one["code"])
        waiting += one.get("contains", ())
    return found


def test_groups_are_above_their_items_and_in_no_value_set(client: Running) -> None:
    everything = client.get(
        "/fhir/ValueSet/$expand", params={"url": f"{CANONICAL}/ValueSet/catalogue-lab"}
    ).json()
    catalogue = catalogue_of(client.gateway)
    assert codes(everything) == {one.code for one in catalogue.of("lab")}
    params = {"system": LAB_SYSTEM, "codeA": "group:临床化学", "codeB": "L001"}
    answer = client.get("/fhir/CodeSystem/$subsumes", params=params).json()
    assert answer["parameter"][0]["valueCode"] == "subsumes"


@pytest.mark.parametrize(
    ("system", "filter", "test"),
    [
        (LAB_SYSTEM, ("concept", "is-a", "group:血液学"), lambda c, i: i.item_class == "血液学"),
        (
            LAB_SYSTEM,
            ("panel", "=", "lipids"),
            lambda c, i: "lipids" in c.panels_of.get(i.code, ()),
        ),
        (LAB_SYSTEM, ("specimen", "=", "尿液"), lambda c, i: i.specimen == "尿液"),
        (IMAGING_SYSTEM, ("covers", "=", "盆腔"), lambda c, i: "盆腔" in c.covers(i)),
        (IMAGING_SYSTEM, ("contrast", "=", "with"), lambda c, i: i.contrast == "with"),
        (IMAGING_SYSTEM, ("laterality", "=", "R/L"), lambda c, i: i.laterality == "R/L"),
    ],
)
def test_items_are_found_by_group_panel_region_and_properties(
    client: Running, system: str, filter: tuple[str, str, str], test: Callable[[Any, Item], bool]
) -> None:
    named = dict(zip(("property", "op", "value"), filter, strict=True))
    value_set = {
        "resourceType": "ValueSet", "status": "active",
        "compose": {"include": [{"system": system, "filter": [named]}]},
    }  # fmt: skip
    parameters = {
        "resourceType": "Parameters",
        "parameter": [{"name": "valueSet", "resource": value_set}],
    }
    answer = client.post("/fhir/ValueSet/$expand", parameters).json()
    catalogue = catalogue_of(client.gateway)
    expected = {one.code for one in catalogue.items.values()
                if one.system == system and test(catalogue, one)}  # fmt: skip
    assert expected
    assert {code for code in codes(answer) if not code.startswith("group:")} == expected


def test_results_are_searched_by_their_group(client: Running) -> None:
    resource = {
        "resourceType": "Observation", "status": "final", "subject": {"display": "示例"},
        "code": {"coding": [{"system": LAB_SYSTEM, "code": "L058"}]},
    }  # fmt: skip
    assert client.post("/fhir/Observation", resource).status_code == 201
    for group, found in (("group:血液学", 1), ("group:免疫学", 0)):
        answer = client.get(
            "/fhir/Observation", params={"code:below": f"{LAB_SYSTEM}|{group}"}
        ).json()
        assert len(answer.get("entry", [])) == found, answer
