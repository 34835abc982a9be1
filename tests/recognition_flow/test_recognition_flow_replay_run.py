"""Replay of many decisions: a time, a page, several processes, what was erased, what differs."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from city import POTASSIUM, SODIUM, City, day, parts, said
from click.testing import CliRunner
from databases import Databases
from running import Running

from fhir_gateway.cli import main
from fhir_gateway.cli.replay import State, _asked, begun
from fhir_gateway.recognition import replay_run
from fhir_gateway.recognition.replay import Difference, Replayed, Replayer
from fhir_gateway.recognition.replay_run import (
    Piece,
    Scope,
    Tally,
    extent,
    pieces,
    replay_piece,
)
from fhir_gateway.settings import load_settings

SINCE = day(2)[:10]


def decided(city: City, patient: str, *items: str) -> str:
    return str(said(city.recognize(patient, *items), "decision")["reference"])


def replay(city: City, *parameters: dict[str, Any], **options: Any) -> Any:
    answer = city.operate("GuidanceResponse/$replay", parameters, **options)
    assert answer.status_code == 200, answer.text
    return answer.json()


def since(text: str = SINCE) -> dict[str, Any]:
    return {"name": "since", "valueDateTime": text}


def counted(answer: Any) -> tuple[int, ...]:
    names = ("decisions", "agree", "differ", "erased-evidence")
    return tuple(said(answer, name) for name in names)


@pytest.fixture(scope="module")
def town(shared_database: Databases) -> Any:
    """A city of its own with five decisions."""
    one = Running(shared_database.url("replayed"))
    city = City(one)
    patient = city.patient()
    city.result(patient)
    for items in ((POTASSIUM,), (POTASSIUM, SODIUM), (SODIUM,), ("L088",)):
        decided(city, patient, *items)
    decided(city, "nobody-here", POTASSIUM)
    yield city
    one.close()


def test_decisions_of_a_time_are_counted_by_rule_set(town: City) -> None:
    answer = replay(town, since())
    assert counted(answer) == (5, 5, 0, 0)
    (row,) = parts(answer, "by-rule-set")
    assert said(row, "rule-set").endswith("/PlanDefinition/recognition|1.0.0")
    assert said(row, "decisions") == 5
    assert parts(answer, "result") == parts(answer, "next") == []
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert town.operate("GuidanceResponse/$replay", [since(tomorrow)]).status_code == 400
    before = {"name": "until", "valueDateTime": day(1)[:10]}
    assert counted(replay(town, since(), before)) == (0, 0, 0, 0)


def test_pages_follow_each_other_and_miss_nothing(town: City) -> None:
    seen, after = 0, None
    for _ in range(4):
        more = [{"name": "after", "valueString": after}] if after else []
        answer = replay(town, since(), {"name": "count", "valueInteger": 2}, *more)
        seen += said(answer, "decisions")
        after = said(answer, "next")
        if after is None:
            break
    assert (seen, after) == (5, None)


def test_a_piece_is_read_page_by_page(town: City, monkeypatch: pytest.MonkeyPatch) -> None:
    async def tally() -> Tally:
        piece = await extent(town.gateway, Scope(0, town.gateway.clock.now() + 1))
        return await replay_piece(town.gateway, Replayer(town.gateway), piece)

    whole = town.running.run(tally())
    assert whole.decisions >= 5
    monkeypatch.setattr(replay_run, "PAGE", 2)
    assert town.running.run(tally()) == whole


def test_decisions_are_named_by_id(town: City) -> None:
    patient = town.patient()
    ids = [decided(town, patient, POTASSIUM).partition("/")[2] for _ in range(2)]
    answer = replay(town, *({"name": "id", "valueId": id} for id in ids))
    assert counted(answer) == (2, 2, 0, 0)
    query = "&".join(f"id={id}" for id in ids)
    got = town.running.get(f"/fhir/GuidanceResponse/$replay?{query}", headers=town.receiver)
    assert got.json() == answer


def test_an_institution_replays_its_own_decisions_only(town: City) -> None:
    path = f"/fhir/GuidanceResponse/$replay?since={SINCE}"
    assert counted(town.running.get(path, headers=town.sender).json()) == (0, 0, 0, 0)
    other = town.running.get(f"{path}&institution=receiver", headers=town.sender)
    assert other.status_code == 403
    own = decided(town, town.patient(), POTASSIUM).partition("/")[2]
    named = town.running.get(f"/fhir/GuidanceResponse/$replay?id={own}", headers=town.sender)
    assert named.status_code == 404


def test_who_is_no_institution_replays_those_of_all_or_of_one(
    start: Callable[..., Running],
) -> None:
    city = City(start(open_access=True))
    decided(city, city.patient(), POTASSIUM)
    path = f"/fhir/GuidanceResponse/$replay?since={SINCE}"
    for more, number in (("", 1), ("&institution=receiver", 1), ("&institution=sender", 0)):
        answer = city.running.get(path + more)
        assert answer.status_code == 200, answer.text
        assert counted(answer.json()) == (number, number, 0, 0), more


@pytest.mark.parametrize(
    ("query", "said_of"),
    [
        ("", None),
        ("since=2026-01-02&until=2026-01-01", "until"),
        ("since=2026-01-01&count=501", "count"),
        ("since=2026-01-01&after=here", "after"),
        ("since=2026-01-01&id=x", "since"),
    ],
)
def test_what_cannot_be_replayed_is_refused_by_element(
    town: City, query: str, said_of: str | None
) -> None:
    path = f"/fhir/GuidanceResponse/$replay?{query}"
    answer = town.running.get(path, headers=town.receiver)
    assert answer.status_code == 400, answer.text
    assert answer.json()["issue"][0].get("expression", [None])[0] == said_of


def test_of_one_decision_nothing_else_may_be_said(town: City) -> None:
    own = decided(town, town.patient(), POTASSIUM)
    answer = town.operate(f"{own}/$replay", [since()])
    assert answer.status_code == 400
    assert said(town.operate(f"{own}/$replay").json(), "verdict") == "agrees"


# -- evidence that is gone -------------------------------------------------------------------------


def erase(database: Databases, source: str, *, keep_resource: bool = False) -> None:
    database.execute(f"DELETE FROM fact WHERE source = '{source}'", "gateway")
    if not keep_resource:
        id = source.partition("/")[2]
        for table in ("resource", "locator"):
            database.execute(f"DELETE FROM {table} WHERE id = '{id}'", "gateway")


def test_erased_evidence_is_an_answer_and_no_difference(
    start: Callable[..., Running], database: Databases
) -> None:
    city = City(start())
    patient = city.patient()
    gone, kept = city.result(patient), city.result(patient, SODIUM)
    decision = decided(city, patient, POTASSIUM, SODIUM)
    erase(database, gone)
    answer = city.operate(f"{decision}/$replay").json()
    assert (said(answer, "agrees"), said(answer, "verdict")) == (False, "erased")
    assert [part["valueString"] for part in parts(answer, "erased")] == [gone]
    assert parts(answer, "difference") == []
    assert counted(replay(city, since())) == (1, 0, 0, 1)
    # what is left must agree: a fact that was taken away beside its resource is a difference
    erase(database, kept, keep_resource=True)
    answer = city.operate(f"{decision}/$replay").json()
    assert said(answer, "verdict") == "differs"
    assert parts(answer, "difference")[0]["valueString"].startswith("L002 L002 outcome: recorded")
    whole = replay(city, since())
    assert counted(whole) == (1, 0, 1, 0)
    (result,) = parts(whole, "result")
    assert said(result, "decision") == {"reference": decision}
    texts = [said(one, "text") for one in parts(whole, "by-difference")]
    assert "outcome: recorded recognize, now not-recognizable" in texts


# -- the command line ------------------------------------------------------------------------------


def command(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["replay", *arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def store(database: Databases) -> tuple[str, list[str], str]:
    """The address of a closed store with six decisions, their ids, and a result of the last."""
    one = Running(database.url("gateway"))
    city = City(one)
    patient = city.patient()
    result = city.result(patient)
    ids = [decided(city, city.patient(), POTASSIUM) for _ in range(5)]
    ids.append(decided(city, patient, POTASSIUM))
    one.close()
    return database.url("gateway"), [id.partition("/")[2] for id in ids], result


@pytest.mark.drivers("sqlite")  # what a process does is what the tests around do
def test_processes_share_a_run(store: tuple[str, list[str], str]) -> None:
    code, output, progress = command(
        "--since", SINCE, "--jobs", "2", "--institution", "receiver", "--database", store[0]
    )
    assert (code, output) == (0, "6 decisions, 0 differ\n")
    assert "6 decisions, 0 differ, 0 erased" in progress.splitlines()[-1]
    other = command("--since", SINCE, "--institution", "sender", "--database", store[0])
    assert other[:2] == (0, "0 decisions, 0 differ\n")
    assert command("--since", SINCE, "--all", "--database", store[0])[0] == 2
    assert command("--since", SINCE, "--until", SINCE, "--database", store[0])[0] == 1


def test_a_difference_ends_in_failure_and_erased_evidence_does_not(
    store: tuple[str, list[str], str], database: Databases
) -> None:
    address, ids, result = store
    erase(database, result)
    code, output, _ = command("--since", SINCE, "--json", "--database", address)
    told = json.loads(output)
    assert (code, told["decisions"], told["agree"], told["erased"]) == (0, 6, 5, 1)
    assert told["gone"] == ids[-1:]
    code, output, _ = command(ids[-1], "--database", address)
    assert (code, output.splitlines()[0]) == (0, f"{ids[-1]}: erased: {result}")


def test_a_missing_fact_is_named_and_exits_with_one(
    store: tuple[str, list[str], str], database: Databases
) -> None:
    address, ids, result = store
    erase(database, result, keep_resource=True)
    code, output, _ = command("--since", SINCE, "--database", address)
    assert code == 1
    assert output.splitlines()[-1] == "6 decisions, 1 differ"
    assert f"1 outcome: recorded recognize, now not-recognizable ({ids[-1]})" in output


def test_a_run_that_was_stopped_goes_on_where_it_was(
    store: tuple[str, list[str], str], tmp_path: Path
) -> None:
    address, path = store[0], tmp_path / "state"
    words = ("--since", SINCE, "--state", str(path), "--database", address)
    assert command(*words)[:2] == (0, "6 decisions, 0 differ\n")
    assert not path.exists()
    path.write_text("nothing of ours")
    code, _, error = command(*words)
    assert code == 1
    assert "another replay" in error
    path.unlink()
    interrupted(address, path)
    code, output, _ = command(*words)
    assert code == 0
    assert 100 < int(output.split()[0]) < 106  # what was done is not done again
    assert not path.exists()
    interrupted(address, path)
    assert command("--since", day(1)[:10], *words[2:])[0] == 1  # of another time


def interrupted(address: str, path: Path) -> None:
    """The state of a run that was stopped after its newest commits, with a hundred decisions."""
    options = {"since": SINCE, "until": "", "institution": "", "jobs": 2, "state": str(path)}
    asked = _asked(load_settings(database=address), as_json=False, quiet=True, **options)
    state = begun(asked.settings, asked.scope, asked.jobs)
    state = State(state.scope, state.left[1:], Tally(decisions=100))
    path.write_bytes(msgspec.json.encode(state))


def test_differences_of_too_many_kinds_are_counted_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replay_run, "MOST_KINDS", 2)
    tally = Tally()
    for id, kind in enumerate(("a", "b", "c", "a")):
        tally.count(Replayed(f"d{id}", "rules|1", (Difference(kind),)))
    assert [(kind, row.count) for kind, row in tally.by_frequency()] == [("a", 2), ("b", 1)]
    assert (tally.differ, tally.more) == (4, 1)
    other = Tally()
    for id in range(2):
        other.count(Replayed(f"e{id}", "rules|1", (Difference("d"),)))
    tally.add(other)
    assert (tally.differ, tally.more, tally.rule_sets["rules|1"].differ) == (6, 3, 6)


@pytest.mark.drivers("sqlite")
@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("commits", [0, 1, 5, 2_000, 10_001, 5_000_000])
def test_pieces_are_all_commits_once(driver: str, commits: int, jobs: int) -> None:
    cut = pieces(Piece(7, 6 + commits), jobs)
    assert len(cut) <= 512
    covered = [(one.low, one.high) for one in reversed(cut)]
    assert sum(high - low + 1 for low, high in covered) == commits
    assert all(a[1] + 1 == b[0] for a, b in pairwise(covered))
