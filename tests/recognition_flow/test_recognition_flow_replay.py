"""Replay: the same inputs, the same commit, the same rules, the same bytes; or the difference."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from city import COMPILED, EVALUATED, POTASSIUM, City, said
from click.testing import CliRunner
from databases import Databases
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from running import Running

from fhir_gateway.cli import main
from fhir_gateway.fhir.wire import parse
from fhir_gateway.recognition import publish
from fhir_gateway.recognition.recorded import recorded_of
from fhir_gateway.recognition.replay import Replayed, replay_recorded
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.settings import Settings
from fhir_gateway.terminology.catalogue import load_catalogue

EDITION = load_catalogue(Settings().terminology).edition


def replayed(city: City, decision: str) -> Any:
    answer = city.operate(f"{decision}/$replay")
    assert answer.status_code == 200, answer.text
    return answer.json()


def decided(city: City, patient: str, *items: str) -> str:
    return str(said(city.recognize(patient, *items), "decision")["reference"])


def test_a_decision_replays_to_the_byte(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    answer = replayed(city, decided(city, patient, POTASSIUM, COMPILED))
    assert said(answer, "agrees") is True
    assert said(answer, "rule-set").endswith("/PlanDefinition/recognition|1.0.0")


def test_what_happens_later_does_not_change_a_decision(start: Callable[..., Any]) -> None:
    town = City(start())
    patient = town.patient()
    observation = town.result(patient, ago=3)
    before = decided(town, patient, POTASSIUM)
    town.result(patient, ago=1, value="9.9")
    town.evaluate("sender", EVALUATED, status="val-fail")
    town.running.delete(f"/fhir/{observation}", headers=town.sender)
    town.running.run(publish.retire(town.gateway, "1.0.0"))
    after = decided(town, patient, POTASSIUM)
    assert said(replayed(town, before), "agrees") is True
    assert said(replayed(town, after), "agrees") is True


def test_somebody_unknown_is_replayed_too(city: City) -> None:
    assert said(replayed(city, decided(city, "nobody-here", POTASSIUM)), "agrees") is True


def _tampered(city: City, decision: str, old: bytes, new: bytes) -> Replayed:
    """The replay of a record in which some bytes are others."""

    async def again() -> Replayed:
        async with city.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            stored = await reader.read("GuidanceResponse", decision.partition("/")[2])
        assert stored is not None and old in stored.tail
        recorded = recorded_of(stored._replace(tail=stored.tail.replace(old, new)))
        assert recorded is not None
        return await replay_recorded(city.gateway, recorded)

    result: Replayed = city.running.run(again())
    return result


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        (
            b'"outcome","valueCode":"recognize"',
            b'"outcome","valueCode":"view-only"',
            "L001 L001 outcome: recorded view-only, now recognize",
        ),
        (
            b'"reason","valueCode":"usable"',
            b'"reason","valueCode":"unusable"',
            "L001 L001 reason: recorded unusable, now usable",
        ),
        (b" critical-value@1", b" critical-value@2", "the lines of the rules differ"),
        (
            b'\\"digest\\":\\"',
            b'\\"digest\\":\\"0',
            "rule set PlanDefinition/recognition-1.0.0/_history/2 has other rules than it had",
        ),
        (
            b"recognition-1.0.0/_history/2",
            b"recognition-1.0.0/_history/9",
            "rule set PlanDefinition/recognition-1.0.0/_history/9 is not in the store",
        ),
        (
            f'"catalogue","valueString":"{EDITION}"'.encode(),
            b'"catalogue","valueString":"1999"',
            f"catalogue edition: recorded 1999, now {EDITION}",
        ),
        (
            b'{\\"key\\":\\"L001\\",\\"item\\":\\"L001\\"}',
            b'{\\"key\\":\\"L001\\",\\"item\\":\\"L001\\"},{\\"key\\":\\"L2\\",\\"item\\":\\"L002\\"}',
            "the ordered items differ",
        ),
    ],
)
def test_every_altered_record_is_reported(
    city: City, old: bytes, new: bytes, difference: str
) -> None:
    patient = city.patient()
    city.result(patient)
    result = _tampered(city, decided(city, patient, POTASSIUM), old, new)
    assert not result.agrees
    assert result.differences[0] == difference


@pytest.mark.parametrize("left_out", [0, 1])
def test_a_record_that_asks_for_less_than_it_answers_is_reported(city: City, left_out: int) -> None:
    patient = city.patient()
    city.result(patient)
    decision = decided(city, patient, POTASSIUM, COMPILED)
    asked = [rf"{{\"key\":\"{one}\",\"item\":\"{one}\"}}" for one in (POTASSIUM, COMPILED)]
    kept = asked[1 - left_out]
    result = _tampered(city, decision, ",".join(asked).encode(), kept.encode())
    assert result.differences[0] == "the ordered items differ"


RESULTS = st.lists(
    st.fixed_dictionaries(
        {
            "item": st.sampled_from(EVALUATED),
            "ago": st.integers(0, 40),
            "value": st.sampled_from(("3.95", "4.10", "1e2", "0.0")),
            "report": st.sampled_from(("", "final", "preliminary", "cancelled", "corrected")),
            "status": st.sampled_from(("final", "amended", "entered-in-error", "unknown")),
        }
    ),
    max_size=4,
)


@settings(max_examples=examples(12), deadline=None)
@given(first=RESULTS, later=RESULTS, documented=st.booleans())
def test_replay_equals_decision_whatever_was_and_came(
    city: City, first: list[dict[str, Any]], later: list[dict[str, Any]], documented: bool
) -> None:
    patient = city.patient(documented=documented)
    for result in first:
        city.result(patient, **result)
    decision = decided(city, patient, *EVALUATED, "L088")
    for result in later:
        city.result(patient, **result)
    assert said(replayed(city, decision), "agrees") is True


# -- the command line ------------------------------------------------------------------------------


@pytest.fixture
def decisions(database: Databases) -> str:
    """The address of a closed store with two decisions and the rule set in force."""
    one = Running(database.url("gateway"))
    city = City(one)
    patient = city.patient()
    city.result(patient)
    decided(city, patient, POTASSIUM)
    decided(city, city.patient(), POTASSIUM)
    one.close()
    return database.url("gateway")


def command(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.output


def test_the_command_line_replays_every_decision(decisions: str) -> None:
    assert command("replay", "--all", "--database", decisions) == (0, "2 decisions, 0 differ\n")
    code, output = command("replay", "no-such-decision", "--database", decisions)
    assert (code, output) == (1, "Error: There is no such decision\n")
    assert command("replay", "--database", decisions)[0] == 2


def test_the_command_line_lists_and_retires_rule_sets(decisions: str) -> None:
    listed = command("rules", "list", "--database", decisions)[1]
    assert listed.startswith("* 1.0.0")
    code, output = command("rules", "retire", "1.0.0", "--database", decisions)
    assert (code, output.splitlines()[0]) == (0, "1.0.0 retired")
    assert "None is in force" in command("rules", "list", "--database", decisions)[1]
    code, output = command("rules", "activate", "1.0.0", "--database", decisions)
    assert code == 1
    assert "publish a new version" in output
    code, output = command("rules", "activate", "9.9.9", "--database", decisions)
    assert (code, output) == (1, "Error: There is no rule set 9.9.9; known: 1.0.0\n")


def test_the_command_line_checks_and_shows_a_rule_set(decisions: str, tmp_path: Path) -> None:
    code, output = command("rules", "check", "1.0.0", "--database", decisions)
    assert (code, output.rpartition(": ")[2]) == (0, f"{_rules(decisions)} rules, nothing wrong\n")
    shown = command("rules", "show", "1.0.0", "--database", decisions)[1]
    assert "quality-evaluation@2" in shown
    source = Path(__file__).parents[2] / "profiles/PlanDefinition/recognition-1.0.0.json"
    broken = parse(source.read_bytes())
    broken["action"][0].pop("documentation")
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(broken), encoding="utf-8")
    code, output = command("rules", "check", str(path), "--database", decisions)
    assert code == 1
    assert "PlanDefinition.action[0].documentation" in output


def _rules(decisions: str) -> int:
    shown = command("rules", "show", "1.0.0", "--database", decisions)[1]
    return len(shown.splitlines()) - 1
