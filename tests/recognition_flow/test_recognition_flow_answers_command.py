"""`fhir-gateway answers`, the figures of institutions, and what /metrics says, on both stores."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from city import POTASSIUM, SODIUM, City, Json, said
from click.testing import CliRunner
from databases import Databases
from running import Running

from fhir_gateway.cli import main
from fhir_gateway.recognition.answer_figures import Figures, figures


def answered(city: City, outcome: str, *more: Json, items: tuple[str, ...] = (POTASSIUM,)) -> Any:
    """A patient with a result, the decision, and the logical id of the Task."""
    patient = city.patient()
    observation = city.result(patient)
    decision = said(city.recognize(patient, *items), "decision")["reference"]
    line = [{"name": "line", "valueString": POTASSIUM}]
    body = [{"name": "outcome", "valueCode": outcome}, *line, *more]
    done = city.operate(f"{decision}/$answer", body)
    assert done.status_code == 200, done.text
    reference = said(done.json(), "answer")["reference"]
    return patient, observation, decision, reference.split("/")[1]


class Closed(NamedTuple):
    """A store that nobody serves: a repeat without a ground, and an alert."""

    address: str
    patient: str
    decision: str
    repeat: str
    accepted: str

    def run(self, *arguments: str, code: int = 0) -> str:
        """What a command prints."""
        result = CliRunner().invoke(main, ["answers", *arguments, "--database", self.address])
        assert result.exit_code == code, result.output
        return result.output


@pytest.fixture
def closed(database: Databases) -> Closed:
    one = Running(database.url("gateway"))
    city = City(one)
    doctor = {"name": "practitioner", "valueReference": {"display": "示例医师"}}
    patient, _, decision, repeat = answered(city, "repeated", doctor)
    _, observation, _, accepted = answered(city, "accepted")
    one.delete(f"/fhir/{observation}", headers=city.sender)
    one.close()
    return Closed(database.url("gateway"), patient, decision, repeat, accepted)


def test_the_command_line_lists_completes_and_closes(closed: Closed) -> None:
    run, id = closed.run, closed.repeat
    listed = json.loads(run("list", "--patient", closed.patient, "--json"))
    assert [(one["id"], one["flags"]) for one in listed] == [(id, ["reason-missing"])]
    chosen = ("--institution", "receiver", "--doctor", "示例医师", "--item", POTASSIUM)
    assert run("list", *chosen, "--answer", "repeated", "--since", "2020-01-01").count(id) == 1
    assert run("list", "--until", "2020-01-01", "--reason", "N1") == "0 answers\n"
    said_so = ("complete", id, "--by", "质控科", "--reason", "N1", "--informed")
    assert run(*said_so).endswith("\ncompleted\n")
    assert run(*said_so).endswith("\nnothing has changed\n")
    versions = json.loads(run("show", f"Task/{id}", "--json"))
    assert [one.get("flags") for one in versions] == [None, ["reason-missing"]]
    assert (versions[0]["completed_by"], versions[0]["informed"]) == ("质控科", True)
    assert id in run("show", closed.decision)
    (alert,) = json.loads(run("alerts", "--json"))
    assert (alert["answer"], alert["changes"][0][0]) == (f"Task/{closed.accepted}", "deleted")
    close = ("alerts", "--acknowledge", alert["id"], "--by", "示例医师", "--text", "已复查")
    assert "was acknowledged by 示例医师" in run(*close)
    assert run("alerts", "--institution", "receiver") == "0 open alerts\n"
    assert "job relied_" in run("alerts", "--check")
    told = json.loads(run("figures", "--json"))["receiver"]
    assert (told["recognised"], told["repeated"], told["not_given"]) == (1, {"N1": 1}, 0)


@pytest.mark.drivers("sqlite")
def test_the_command_line_says_what_is_wrong(closed: Closed) -> None:
    for arguments, says in (
        (("list", "--since", "yesterday"), "is no day"),
        (("show", "nothing"), "is no decision and no answer"),
        (("complete", "none", "--by", "x"), "is no answer"),
        (("complete", closed.accepted, "--by", "x", "--text", "y"), "was recognised"),
        (("alerts", "--acknowledge", "none", "--by", "x"), "There is no such alert"),
        (("alerts", "--acknowledge", "none"), "names the person"),
    ):
        assert says in closed.run(*arguments, code=1)


def test_the_figures_of_an_institution_are_counts(city: City) -> None:
    def now() -> Figures:
        counted = city.running.run(
            figures(city.gateway, start=0, end=1 << 62, institution="receiver")
        )
        return counted.get("receiver", Figures())  # type: ignore[no-any-return]  # a dict of Figures

    before = now()
    n1 = {"name": "reason", "valueCode": "N1"}
    p8 = {"name": "reason", "valueCode": "P8"}
    other = {"name": "reason", "valueCoding": {"system": "urn:his", "code": "x"}}
    answered(city, "accepted")
    answered(city, "cited", items=(POTASSIUM, SODIUM))
    answered(city, "viewed")
    for more in ((n1,), (p8,), (other,), ()):
        *_, decision, _ = answered(city, "repeated", *more)
    city.operate(f"{decision}/$answer", [{"name": "outcome", "valueCode": "revoked"}])
    answered(city, "repeated")
    after = now()
    assert after.recognised - before.recognised == 1
    assert after.cited - before.cited == 1
    assert after.viewed - before.viewed == 1
    assert after.revoked - before.revoked == 1
    assert after.not_given - before.not_given == 1
    assert after.repeated - before.repeated == {"N1": 1, "P8": 1, "other": 1, "reason-missing": 1}
    assert after.refused - before.refused == 3  # images that were not supplied are no refusal
    assert after.reminded - before.reminded == 8
    assert after.unanswered - before.unanswered == 3  # cited, viewed, revoked
    assert after.recognizable >= after.recognised


def test_the_same_order_asked_twice_is_one_reminder(city: City) -> None:
    def reminded() -> int:
        counted = city.running.run(figures(city.gateway, start=0, end=1 << 62))
        return int(counted["receiver"].reminded)

    patient = city.patient()
    city.result(patient)
    city.recognize(patient, POTASSIUM)
    before = reminded()
    city.recognize(patient, POTASSIUM)
    assert reminded() == before
    city.recognize(city.patient(), POTASSIUM)  # there is nothing to be reminded of
    assert reminded() == before


def test_metrics_count_by_institution_answer_and_ground(city: City) -> None:
    answered(city, "repeated", {"name": "reason", "valueCode": "N2"})
    page = city.running.metrics()
    labels = 'institution="receiver",answer="repeated",ground="N2"'
    lines = [one for one in page.splitlines() if one.startswith("fhir_gateway_answers_total")]
    assert any(
        set(labels.split(",")) <= set(one.split("{")[1].split("}")[0].split(",")) for one in lines
    )
    assert 'fhir_gateway_reminders_total{institution="receiver"}' in page
    assert "answers|" not in page  # fmt: skip
