"""`fhir-gateway codes`: what a person sees, decides and takes away in a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from databases import Databases

from fhir_gateway.cli import main
from fhir_gateway.terminology.catalogue import load_catalogue
from fhir_gateway.terminology.concept_map import load_concept_map

ROOT = Path(__file__).parents[2]
OWN = "urn:hospital:lab"
PERSON = ("--person", "李四")

#: What is stored is the same on both (test_interactions_local_codes_work.py); commands are slow.
pytestmark = pytest.mark.drivers("sqlite")
Run = Callable[..., Result]


def observation(code: str, name: str, **more: Any) -> dict[str, Any]:
    coding = {"system": OWN, "code": code, "display": name}
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [coding]},
        "effectiveDateTime": "2026-11-20T08:00:00+08:00",
        **more,
    }


class Hospital:
    """An institution; the gateway runs between commands only, as a command may be the writer."""

    def __init__(self, database: Databases) -> None:
        self.database = database
        with closing(database.running("gateway")) as server:
            self.headers = server.institution("first", "第一医院")

    def send(self, *resources: dict[str, Any]) -> list[dict[str, Any]]:
        with closing(self.database.running("gateway")) as server:
            answers = [
                server.post("/fhir/Observation", one, headers=self.headers) for one in resources
            ]
        assert [one.status_code for one in answers] == [201] * len(answers)
        return [one.json() for one in answers]

    def means(self, code: str) -> list[str]:
        (stored,) = self.send(observation(code, "?"))
        return [one["code"] for one in stored["code"]["coding"] if one["system"] != OWN]


def filled(database: Databases) -> Hospital:
    one = Hospital(database)
    serum = {"display": "血清"}
    one.send(
        observation("A1", "谷丙转氨酶", specimen=serum),
        observation("A1", "谷丙转氨酶", specimen=serum),
        observation("A2", "=神秘指标", specimen=serum),
        observation("A3", "肌酐", specimen=serum),
    )
    return one


def runs(database: Databases, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("FHIR_GATEWAY_DATABASE", database.url("gateway"))

    def invoke(*words: str) -> Result:
        return CliRunner().invoke(main, ["codes", *words])

    return invoke


@pytest.fixture
def hospital(database: Databases) -> Hospital:
    return filled(database)


@pytest.fixture
def run(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> Run:
    return runs(hospital.database, monkeypatch)


@pytest.fixture(scope="module")
def shared(shared_database: Databases) -> Hospital:
    """One that nobody decides anything of."""
    return filled(shared_database)


@pytest.fixture
def ask(shared: Hospital, monkeypatch: pytest.MonkeyPatch) -> Run:
    return runs(shared.database, monkeypatch)


def said(done: Result) -> str:
    assert done.exit_code == 0, done.output
    return done.output


def test_the_list_is_shown_and_a_proposal_explained(ask: Run) -> None:
    lines = said(ask("worklist", "first")).splitlines()
    assert "A1" in lines[1]
    assert "L016" in lines[1]
    assert "… and 2 more" in said(ask("worklist", "first", "--limit", "1"))
    why = said(ask("propose", "first", "A1"))
    assert "L016 丙氨酸氨基转移酶" in why
    assert "sure" in why
    assert "L022" not in why
    tried = said(ask("propose", "first", "--name", "胸部CT平扫", "--use", "order"))
    assert "I022 胸部CT平扫" in tried
    assert "nothing in the catalogue" in said(ask("propose", "first", "--name", "神秘指标"))
    found = json.loads(said(ask("worklist", "first", "--json")))
    assert [(one["code"], one["count"]) for one in found] == [("A1", 2), ("A2", 1), ("A3", 1)]


def test_a_code_is_accepted_rejected_or_nothing(run: Run, hospital: Hospital) -> None:
    assert "decided by 李四" in said(run("accept", "first", "A1", "L016", *PERSON))
    assert hospital.means("A1") == ["L016"]
    assert said(run("reject", "first", "A3", "L027", *PERSON))
    assert "L027" not in said(run("propose", "first", "A3"))
    assert said(run("nothing", "first", "A2", *PERSON))
    left = json.loads(said(run("worklist", "first", "--json")))
    assert [one["code"] for one in left] == ["A3"]


def test_sure_ones_are_accepted_at_once_and_the_others_left(run: Run, hospital: Hospital) -> None:
    assert "2 decided by 李四" in said(run("accept", "first", "--accept-above", "0.95", *PERSON))
    assert hospital.means("A1") == ["L016"]
    assert hospital.means("A2") == []
    again = said(run("accept", "first", "--accept-above", "0.95", *PERSON))
    assert again == "Nothing to decide.\n"


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_a_table_goes_out_and_comes_back(
    run: Run, hospital: Hospital, tmp_path: Path, encoding: str
) -> None:
    path = tmp_path / "work.csv"
    said(run("worklist", "first", "--csv", str(path), "--encoding", encoding))
    text = path.read_bytes().decode("utf-8-sig" if encoding == "utf-8" else encoding)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["local_name"] for row in rows] == ["谷丙转氨酶", "'=神秘指标", "肌酐"]
    assert [row["item"] for row in rows] == ["L016", "", "L027"]
    assert "is there" in run("worklist", "first", "--csv", str(path)).output
    for row, word in zip(rows, ("接受", "nothing", ""), strict=True):
        row["decision"] = word
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(out.getvalue().encode(encoding))
    assert "2 decided" in said(run("accept", "first", "--table", str(path), *PERSON))
    assert hospital.means("A1") == ["L016"]
    left = json.loads(said(run("worklist", "first", "--json")))
    assert [one["code"] for one in left] == ["A3"]


def test_a_wrong_table_decides_nothing(ask: Run, shared: Hospital, tmp_path: Path) -> None:
    path = tmp_path / "work.csv"
    header = "decision,kind,local_system,local_code,local_name,item\n"
    path.write_text(
        header
        + f"accept,result,{OWN},A1,甲,L016\n"
        + f"perhaps,result,{OWN},A3,乙,L027\n",
        "utf-8",
    )  # fmt: skip
    done = ask("accept", "first", "--table", str(path), *PERSON)
    assert done.exit_code == 1
    assert "row 3, column A (decision): must be one of" in done.output
    path.write_text(header + f"accept,result,{OWN},A1,甲,L016\naccept,result,,A3,,L999\n", "utf-8")
    done = ask("accept", "first", "--table", str(path), *PERSON)
    assert "row 3: item: L999 is not in the catalogue" in done.output
    path.write_text("a,b\n1,2\n", "utf-8")
    done = ask("accept", "first", "--table", str(path), *PERSON)
    assert "these columns are missing: decision, kind, local_code" in done.output
    assert [one["code"] for one in json.loads(said(ask("worklist", "first", "--json")))] == [
        "A1", "A2", "A3",
    ]  # fmt: skip


def test_coverage_is_told_for_results_and_orders(run: Run) -> None:
    run("accept", "first", "A1", "L016", *PERSON)
    found = json.loads(said(run("coverage", "first", "--json")))
    assert found["result"]["codes"] == 3
    assert found["result"]["codes_mapped"] == 1
    assert found["result"]["volume_share"] == 0.5
    assert found["order"] == {
        "codes": 0, "codes_mapped": 0, "codes_share": None,
        "volume": 0, "volume_mapped": 0, "volume_share": None,
    }  # fmt: skip
    shown = said(run("coverage", "first")).splitlines()
    assert shown[1].split() == ["results", "1", "3", "33.3%", "2", "4", "50.0%"]
    later = json.loads(said(run("coverage", "first", "--since", "2199-01-01", "--json")))
    assert later["result"]["volume"] == 0


def test_the_map_is_exported_as_a_table_that_can_be_loaded(run: Run, tmp_path: Path) -> None:
    run("accept", "first", "A1", "L016", "--from", "2026-01-01", "--note", "=1+1", *PERSON)
    run("accept", "first", "A3", "L027", "--specimen", "血清", *PERSON)
    run("nothing", "first", "A2", *PERSON)
    path = tmp_path / "first.csv"
    assert "3 rows" in said(run("export", "first", str(path)))
    found = load_concept_map(path, load_catalogue(ROOT / "terminology"))
    rows = {row.code: row for row in found.rows}
    assert [one.code for one in rows["A1"].items] == ["L016"]
    assert (rows["A1"].start, rows["A1"].system) == ("2026-01-01", OWN)
    assert (rows["A3"].specimen, rows["A2"].items) == ("血清", ())
    assert "'=1+1" in path.read_text("utf-8-sig")


def test_a_stored_map_is_a_map_to_those_who_look_after_institutions(
    run: Run, hospital: Hospital
) -> None:
    checked = CliRunner().invoke(main, ["institution", "check", "first"])
    assert "fhir-gateway codes worklist first" in checked.output
    run("accept", "first", "A1", "L016", *PERSON)
    checked = CliRunner().invoke(main, ["institution", "check", "first", "--json"])
    maps = [one for one in json.loads(checked.output)["checks"] if one["check"] == "code map"]
    assert [one["verdict"] for one in maps] == ["pass"], checked.output
    listed = CliRunner().invoke(main, ["institution", "list", "--json"])
    assert [one["mapped"] for one in json.loads(listed.output)] == [1]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("worklist", "nobody"), 1, "No institution nobody is registered"),
        (("accept", "first", "A1", "L016"), 2, "Missing option '--person'"),
        (("accept", "first", "A1", "L016", "--person", " "), 1, "Name the person who decides"),
        (("accept", "first", *PERSON), 1, "Name a code and its items, or --accept-above"),
        (("accept", "first", "A1", *PERSON), 1, "A1: item: name an item"),
        (("accept", "first", "A1", "L016", "L017", *PERSON), 1, "a result is one item"),
        (("accept", "first", "A1", "L016", "--unit", "斤", *PERSON), 1, "is not a known unit"),
        (("accept", "first", "A1", "L016", "--to", "soon", *PERSON), 1, "must be a day"),
        (("accept", "first", "A1", "L016", "--system", "http://loinc.org", *PERSON), 1,
         "is a published code system"),
        (("propose", "first"), 1, "Name a code of the work list, or --name"),
        (("propose", "first", "A9"), 1, "A9 is not in the work list"),
        (("coverage", "first", "--since", "yesterday"), 1, "date"),
        (("export", "nobody", "x.csv"), 1, "No institution nobody"),
        (("worklist", "first", "--encoding", "latin-1"), 2, "is not one of"),
    ],
)  # fmt: skip
def test_a_mistake_is_told(ask: Run, words: tuple[str, ...], code: int, message: str) -> None:
    done = ask(*words)
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == code
    assert message in done.output
    assert "Traceback" not in done.output
