"""Simulations: an offer that is lost alone, and a run that was stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
import pytest
from city import POTASSIUM, SODIUM, City, day
from click.testing import CliRunner
from databases import Databases
from running import Running

from fhir_gateway.cli import main
from fhir_gateway.cli.rules_simulate import State, moment
from fhir_gateway.recognition import publish, simulate
from fhir_gateway.recognition.rules import load_rule_set
from fhir_gateway.recognition.simulate import Scope, Simulation

LATE = 4_000_000_000_000_000


def definition(city: City) -> Any:
    (shipped,) = city.running.run(publish.rule_sets(city.gateway))
    return deepcopy(shipped.definition)


def run(city: City, simulation: Simulation) -> Any:
    async def whole() -> Any:
        while await simulation.page(city.gateway):
            pass
        return simulation.tally

    return city.running.run(whole())


def test_an_offer_that_is_lost_alone_is_counted(start: Callable[..., Running]) -> None:
    city = City(start())
    patient = city.patient()
    city.result(patient)
    city.recognize(patient, POTASSIUM, SODIUM)
    draft = definition(city)
    (rule,) = [
        action
        for action in draft["action"]
        if action["code"][0]["coding"][0]["code"] == "window-published"
    ]
    (parameter,) = rule["extension"]
    parameter["extension"][1]["valueString"] = "somebody-else:"
    tally = run(city, Simulation(load_rule_set(draft), Scope(0, LATE)))
    assert (tally.decisions, tally.changed, tally.offers, tally.no_offers) == (1, 0, 0, 1)


@pytest.mark.parametrize("stopped", [0, 2])
def test_a_simulation_that_was_stopped_goes_on_where_it_was(
    database: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: int
) -> None:
    address, path = database.url("gateway"), tmp_path / "state"
    city = City(Running(address))
    for _ in range(3):
        city.recognize(city.patient(), POTASSIUM)
    rule_set, since = load_rule_set(definition(city)), day(2)[:10]
    monkeypatch.setattr(simulate, "PAGE", 1)
    scope = Scope(moment(since, "--since", city.gateway.settings.zone), LATE)
    simulation = Simulation(rule_set, scope)
    for _ in range(stopped):
        city.running.run(simulation.page(city.gateway))
    tally = simulation.tally
    tally.items += 100  # what was done before is kept, and not done again
    state = State(rule_set.digest, scope, simulation.cursor, tally)
    path.write_bytes(msgspec.json.encode(state))
    city.running.close()
    words = ["rules", "simulate", "1.0.0", "--since", since, "--state", str(path)]
    result = CliRunner().invoke(main, [*words, "--format", "json", "--database", address])
    told = json.loads(result.stdout)
    assert (result.exit_code, told["decisions"], told["items"]) == (0, 3, 103)
    assert told["offers"] == {"gained": 0, "lost": 0}
    assert not path.exists()
