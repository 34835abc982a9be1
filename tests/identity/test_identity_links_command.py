"""`fhir-gateway links`: list, show, answer, export and import, on both stores."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from review_cases import Hospitals

from fhir_gateway.cli import main
from fhir_gateway.errors import GatewayError
from fhir_gateway.identity.link import pair, pair_id
from fhir_gateway.identity.review_table import read_table
from fhir_gateway.terminology.sheet import read_sheet


@pytest.fixture(scope="module")
def hospitals(client):
    return Hospitals(client)


@pytest.fixture
def links(hospitals, shared_database):
    def run(*arguments: str, code: int = 0) -> Result:
        """The command beside the gateway, which writes for it."""
        given = ["links", *arguments, "--database", shared_database.url("gateway")]
        work = asyncio.to_thread(CliRunner().invoke, main, given)
        result: Result = hospitals.running.run(work)
        assert result.exit_code == code, result.output
        return result

    return run


def listed(links: Any, *arguments: str) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in json.loads(links("list", "--json", *arguments).stdout)}


def test_open_questions_are_listed_shown_and_answered(hospitals, links):
    one, other = hospitals.pair("listed")
    id = pair_id(pair(one, other))
    assert listed(links)[id]["records"] == sorted([one, other])
    assert listed(links, "--patient", f"Patient/{one}").keys() == {id}
    assert id not in listed(links, "--code", "settle-identity")
    assert one in links("list").stdout
    shown = links("show", id).stdout
    assert "birth=same" in shown and "王" not in shown
    assert "linked" in links("confirm", id, "--by", "赵审核", "--comment", "电话").stdout
    assert hospitals.homes(one) == 2
    assert id not in listed(links)
    assert listed(links, "--all")[id]["status"] == "completed"
    told = json.loads(links("show", id, "--json").stdout)
    assert (told["active"], told["history"][0]["author"]) == (True, "赵审核")
    links("unlink", id, "--by", "钱审核")
    assert hospitals.homes(one) == 1
    assert "not active" in links("show", id).stdout


def test_a_rejection_needs_a_name(hospitals, links):
    one, other = hospitals.pair("named")
    id = pair_id(pair(one, other))
    assert "must name the person" in links("reject", id, "--by", " ", code=1).output
    assert json.loads(links("reject", id, "--by", "赵", "--json").stdout)["status"] == "rejected"
    assert "already" in links("confirm", id, "--by", "赵", code=1).output


def test_the_operator_gives_a_question_to_a_third_hospital(hospitals, links):
    one, other = hospitals.pair("given")
    id = pair_id(pair(one, other))
    assert "No institution nobody" in links("assign", id, "--to", "nobody", code=1).output
    assert "given to east" in links("assign", id, "--to", "east").stdout
    assert hospitals.question(one, other)["owner"] == {"reference": "Organization/east"}
    assert hospitals.answer("reject-identity", one, other, at="east").status_code == 200
    assert "already" in links("assign", id, code=1).output


def test_records_are_compared_on_demand(hospitals, links):
    someone = hospitals.someone()
    hospitals.compare()
    assert "nothing is new" in links("compare").stdout
    for id, at in (("demand-n", "north"), ("demand-s", "south")):
        hospitals.store(id, someone, at)
    assert "2 records compared: 1 asked" in links("compare").stdout
    assert "nothing to ask" in links("compare", "--all").stdout


def test_what_is_not_there_is_said(links):
    assert "no question" in links("show", "nothing", code=1).output
    assert "no question" in links("confirm", "nothing", "--by", "赵", code=1).output
    assert "no such link" in links("unlink", "nothing", "--by", "赵", code=1).output


def test_the_pairs_of_a_batch_tool_become_questions_and_never_links(hospitals, links, tmp_path):
    someone, stranger = hospitals.someone(), hospitals.someone()
    for id, who, at in (("tool-1", someone, "north"), ("tool-2", stranger, "south"),
                        ("tool-3", {**someone, "gender": "male"}, "south")):  # fmt: skip
        assert hospitals.store(id, who, at).status_code == 201
    file = tmp_path / "pairs.csv"
    file.write_text(
        "match_weight,match_probability,unique_id_l,unique_id_r\n"
        "12.1,0.999,tool-1,tool-2\n3,0.99,tool-3,tool-1\n"
    )
    dry = links("import", str(file), "--source", "splink 4", "--dry-run", "--json")
    assert json.loads(dry.stdout)["stored"] is False
    assert hospitals.question("tool-1", "tool-2") == {}
    told = json.loads(links("import", str(file), "--source", "splink 4", "--json").stdout)
    assert (told["pairs"], told["asked"]) == (2, 2)
    task = hospitals.question("tool-1", "tool-2")
    assert task["requester"] == {"display": "splink 4"}
    grades = [
        hospitals.question("tool-1", other)["businessStatus"]["coding"][0]["code"]
        for other in ("tool-2", "tool-3")
    ]
    assert grades == ["possible", "possible"]  # two names, two sexes: our own rules hold them
    assert hospitals.homes("tool-1") == 1
    again = json.loads(links("import", str(file), "--source", "splink 4", "--json").stdout)
    assert (again["unchanged"], again.get("asked", 0)) == (2, 0)


def test_an_export_can_be_imported_again(hospitals, links, tmp_path):
    one, other = hospitals.pair("exported")
    file = tmp_path / "questions.csv"
    links("export", str(file))
    rows = list(csv.DictReader(file.read_text("utf-8-sig").splitlines()))
    [row] = [row for row in rows if row["record"] in (one, other)]
    assert (row["status"], row["code"]) == ("requested", "confirm-identity")
    assert "王" not in file.read_text("utf-8-sig")
    assert "is there" in links("export", str(file), code=1).output
    links("export", str(file), "--open", "--force")
    before = hospitals.question(one, other)["meta"]["versionId"]
    links("import", str(file), "--source", "again")
    assert hospitals.question(one, other)["meta"]["versionId"] == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "columns record, other, score are missing"),
        ("record,other,score\nx,x,0.9\n", "names one record twice"),
        ("record,other,score\nx,y,2\n", "is no probability"),
        ("record,other,score\nx,,0.5\n", "names no record"),
    ],
)
def test_faults_of_a_table_are_named(text, said):
    with pytest.raises(GatewayError, match=said):
        read_table(read_sheet(text.encode(), "pairs.csv"))


def test_records_that_are_not_stored_are_named(links, tmp_path):
    file = tmp_path / "pairs.csv"
    file.write_text("record,other,score\nnobody-1,nobody-2,0.9\n")
    refused = links("import", str(file), "--source", "tool", code=1)
    assert "no Patient/nobody-1 is stored here" in refused.output


def test_a_database_that_is_not_there_is_refused(tmp_path: Path):
    missing = f"sqlite:///{tmp_path}/none.db"
    for arguments in (["list"], ["show", "x"], ["confirm", "x", "--by", "赵"],
                      ["export", str(tmp_path / "x.csv")]):  # fmt: skip
        result = CliRunner().invoke(main, ["links", *arguments, "--database", missing])
        assert result.exit_code == 1
    assert list(tmp_path.iterdir()) == []
