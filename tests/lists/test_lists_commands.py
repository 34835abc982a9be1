"""`fhir-gateway catalogue`, as an operator uses it, on both stores."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from databases import Databases
from openpyxl import Workbook

from fhir_gateway.cli import main
from fhir_gateway.fhir.validate import issues
from fhir_gateway.settings import CANONICAL

FOLDER = Path(__file__).parents[2] / "terminology"
HEADER = "项目编码,类别,项目名称,标本类型,单位,互认时限\n"
FIRST = HEADER + "B1,生化,钾,血清,mmol/L,7天\nB2,生化,钠,血清,mmol/L,7天\nB3,免疫,甲胎蛋白,,,30天\n"
SECOND = HEADER + "B1,生化,钾,血清,mmol/L,14天\nB3,免疫,甲胎蛋白,,,30天\nB4,生化,氯,血清,,7天\n"
ABOUT = ("--list", "some-city", "--kind", "lab")
OF_FIRST = (*ABOUT, "--edition", "2026", "--effective", "2026-01-01", "--publisher", "某市")
OF_SECOND = (*ABOUT, "--edition", "2099", "--effective", "2099-01-01")

Operator = Callable[..., Result]


@pytest.fixture
def operator(database: Databases, tmp_path: Path) -> Operator:
    """Runs a subcommand on a database of the test's own; texts become files."""
    database.running("g").close()

    def run(name: str, *arguments: str, **files: str | bytes) -> Result:
        for file, content in files.items():
            raw = content if isinstance(content, bytes) else content.encode()
            (tmp_path / file.replace("_", ".")).write_bytes(raw)
        placed = [str(tmp_path / one) if _is_file(one) else one for one in arguments]
        command = ["catalogue", name, *placed, "--database", database.url("g")]
        return CliRunner().invoke(main, command)

    return run


def _is_file(argument: str) -> bool:
    return argument.endswith((".csv", ".xlsx", ".tgz", ".toml")) and "/" not in argument


def imported(operator: Operator, *options: str) -> Result:
    done = operator("import", "a.csv", *OF_FIRST, *options, a_csv=FIRST)
    assert done.exit_code == 0, done.output
    return done


def listed(operator: Operator, name: str = "some-city") -> list[dict[str, Any]]:
    rows = json.loads(operator("list", "--json").output)
    return [row for row in rows if row["list"] == name]


def test_a_list_is_imported_once_and_shown(operator: Operator) -> None:
    assert "some-city 2026 would be created: 3 items" in imported(operator, "--dry-run").output
    assert listed(operator) == []
    assert "some-city 2026 created: 3 items, 0 retired" in imported(operator).output
    assert "some-city 2026 unchanged" in imported(operator).output
    (row,) = listed(operator)
    assert (row["holds"], row["items"], row["joined"], row["publisher"]) == (True, 3, 2, "某市")
    shown = operator("show", "B1").output
    assert "joined to: L001 钾" in shown
    assert "互认时限 (window): 7" in shown
    assert "panels: electrolytes 电解质" in operator("show", "L001").output
    assert "covers: 胸腹盆, 胸部" in operator("show", "I043").output
    assert json.loads(operator("show", "B1", "--json").output)[0]["list"] == "some-city"
    assert "No list has an item Z9" in operator("show", "Z9").output


def test_editions_follow_each_other_and_codes_are_kept(operator: Operator) -> None:
    imported(operator)
    done = operator("import", "b.csv", *OF_SECOND, b_csv=SECOND.encode("gb18030"))
    assert done.exit_code == 0, done.output
    assert "b.csv is not UTF-8 and was read as GB 18030" in done.output
    assert "互认时限由7天改为14天" in done.output
    first, second = listed(operator)
    assert (first["holds"], second["holds"]) == (True, False)
    assert (second["items"], second["retired"], second["publisher"]) == (3, 1, "某市")
    told = operator("diff", "some-city@2026", "some-city", "--format", "json")
    assert [(one["change"], one["code"]) for one in json.loads(told.output)] == [
        ("retired", "B2"), ("added", "B4"), ("window", "B1"),
    ]  # fmt: skip
    said = operator("diff", "some-city@2026", "some-city@2099", "--language", "en").output
    assert "B1 钾: window changed from 7 days to 14 days" in said
    assert operator("diff", "a.csv", "some-city@2026").output == "两版内容相同\n"
    reuse = HEADER + "B2,生化,钙,血清,,7天\n"
    options = (*ABOUT, "--edition", "2100", "--effective", "2100-01-01")
    refused = operator("import", "c.csv", *options, c_csv=reuse)
    assert refused.exit_code == 1
    assert (
        "c.csv, row 2, column C (项目名称): B2: name was “钠” and would be “钙”" in refused.output
    )
    assert len(listed(operator)) == 2


def test_what_is_in_force_stays_and_what_is_to_come_may_be_replaced(operator: Operator) -> None:
    imported(operator)
    other = FIRST.replace("7天", "8天")
    refused = operator("import", "a.csv", *OF_FIRST, "--replace", a_csv=other)
    assert "is in force since 2026-01-01" in refused.output
    assert operator("import", "b.csv", *OF_SECOND, b_csv=SECOND).exit_code == 0
    changed = SECOND.replace("14天", "21天")
    assert "say --replace" in operator("import", "b.csv", *OF_SECOND, b_csv=changed).output
    done = operator("import", "b.csv", *OF_SECOND, "--replace", b_csv=changed)
    assert "some-city 2099 replaced" in done.output
    same_day = (*ABOUT, "--edition", "2099-2", "--effective", "2099-01-01")
    assert "begins on 2099-01-01, too" in operator("import", "b.csv", *same_day).output
    kind = (
        "--list",
        "some-city",
        "--kind",
        "imaging",
        "--edition",
        "x",
        "--effective",
        "2098-01-01",
    )
    assert "is a list of lab items" in operator("import", "b.csv", *kind).output


@pytest.mark.drivers("sqlite")
def test_faults_are_told_at_once_and_nothing_is_stored(operator: Operator) -> None:
    spoilt = FIRST.replace("7天", "soon", 1).replace("B2,", "B1,") + "B5,生化,镁,血清,,7\n"
    refused = operator("import", "a.csv", *OF_FIRST, "--map", "item=类别", a_csv=spoilt)
    assert refused.exit_code == 1
    assert [line.strip().partition(": ")[0] for line in refused.output.splitlines()] == [
        "Error", "a.csv, row 3, column A (项目编码)", "a.csv, row 4, column B (类别)",
        "a.csv, row 5, column B (类别)",
    ]  # fmt: skip
    assert listed(operator) == []


IMPOSSIBLE = (
    ({"--list": "catalogue-lab"}, "which is the project's own"),
    ({"--list": "City One"}, "must be up to 31 small letters"),
    ({"--list": "institution-level"}, "is the name of something else in the store"),
    ({"--edition": "2026版"}, "must be up to 31 letters, digits"),
    ({"--effective": "2026-02-30"}, "is no day"),
    ({"--until": "2025-01-01"}, "lies before --effective"),
    ({"--publisher": ""}, "say who published the list"),
    ({"--sheet": "x"}, "is a CSV file and has no sheet x"),
    ({"--encoding": "x"}, "is no charset"),
    ({"--map": "x"}, "is not COLUMN=HEADER"),
    ({"--columns": "none.toml"}, "cannot be read"),
    ({"--columns": "a.csv"}, "cannot be read"),
    ({"--same-meaning": "X"}, "the list has no such code"),
    ({"--joins": "none.csv"}, "none.csv cannot be read"),
)


@pytest.mark.drivers("sqlite")
def test_options_that_cannot_be_meant_are_refused(operator: Operator) -> None:
    for change, said in IMPOSSIBLE:
        options = dict(zip(OF_FIRST[::2], OF_FIRST[1::2], strict=True)) | change
        words = [word for pair in options.items() for word in pair]
        refused = operator("import", "a.csv", *words, a_csv=FIRST)
        assert (refused.exit_code, said in refused.output) == (1, True), refused.output
        assert isinstance(refused.exception, SystemExit)
    assert listed(operator) == []


@pytest.mark.drivers("sqlite")
def test_a_workbook_as_offices_write_it(operator: Operator) -> None:
    book = Workbook()
    sheet = book.active
    for row in (
        ["某市检查检验结果互认项目目录（2026年版）"], [],
        ["序号", "项目编码", "类别", "项目名称", "标本类型", "互认时限"],
        [1, 101, "生化", "钾", "血清", 7], [2, 102, None, "钠", "血清", "7天"], [],
        [3, 103, None, "氯", "血清", "1周"], ["注：急诊除外"],
    ):  # fmt: skip
        sheet.append(row)
    sheet.merge_cells("A1:F1")
    sheet.merge_cells("C4:C7")
    written = io.BytesIO()
    book.save(written)
    done = operator("import", "a.xlsx", *OF_FIRST, "--json", a_xlsx=written.getvalue())
    said = json.loads(done.output)
    assert (said["items"], said["joined"], said["outcome"]) == (3, 3, "created")
    assert json.loads(operator("show", "103", "--json").output)[0]["item_class"] == "生化"
    columns = 'name_zh = "类别"\n'
    refused = operator("import", "a.xlsx", *OF_FIRST, "--columns", "c.toml", c_toml=columns)
    assert "row 5, column C (类别): is merged with another row" in refused.output


@pytest.mark.drivers("sqlite")
def test_joins_are_reviewed_accepted_and_kept(operator: Operator, tmp_path: Path) -> None:
    imported(operator, "--review", str(tmp_path / "review.csv"))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "review.csv").read_text("utf-8-sig"))))
    assert [(row["code"], row["item"]) for row in rows] == [("B3", "L140")]
    accepted = (tmp_path / "review.csv").read_text("utf-8-sig").rstrip("\n") + "是\n"
    done = operator("join", "some-city", "r.csv", "--dry-run", r_csv=accepted)
    assert "1 accepted, 3 of 3 joined, nothing stored" in done.output
    assert "3 of 3 joined\n" in operator("join", "some-city", "r.csv").output
    assert "nothing stored" in operator("join", "some-city", "r.csv").output
    assert listed(operator)[0]["joined"] == 3
    operator("import", "b.csv", *OF_SECOND, b_csv=SECOND)
    assert "joined to: L140 甲胎蛋白" in operator("show", "B3").output
    assert listed(operator)[1]["joined"] == 3
    assert "is the catalogue itself" in operator("join", "catalogue-lab", "r.csv").output
    assert "There is no list nowhere" in operator("join", "nowhere", "r.csv").output
    assert "known: 2026, 2099" in operator("join", "some-city", "r.csv", "--edition", "1").output


@pytest.mark.drivers("sqlite")
def test_what_is_exported_is_imported_again_unchanged(operator: Operator, tmp_path: Path) -> None:
    imported(operator)
    operator("import", "b.csv", *OF_SECOND, b_csv=SECOND)
    for name in ("out.csv", "out.xlsx"):
        assert operator("export", name, "--list", "some-city").exit_code == 0
        assert "unchanged" in operator("import", name, *OF_SECOND).output
        assert operator("diff", name, "some-city").output == "两版内容相同\n"
    assert (
        "name another file, or say --force"
        in operator("export", "out.csv", "--list", "some-city").output
    )
    before = (tmp_path / "out.csv").read_bytes()
    operator("export", "out.csv", "--list", "some-city", "--force")
    assert (tmp_path / "out.csv").read_bytes() == before
    assert "Say which list" in operator("export", "x.csv").output
    assert "name it .csv, .xlsx or .tgz" in operator("export", str(tmp_path / "x.pdf")).output
    missing = str(tmp_path / "no" / "x.csv")
    assert "cannot be written" in operator("export", missing, "--kind", "lab").output


def unpacked(path: Path) -> dict[str, Any]:
    with tarfile.open(path) as tar:
        files = {one.name: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]
    return {name: json.loads(raw) if name.endswith("json") else raw for name, raw in files.items()}


@pytest.mark.drivers("sqlite")
def test_a_package_holds_the_lists_with_their_notice(operator: Operator, tmp_path: Path) -> None:
    imported(operator)
    assert operator("export", "all.tgz").exit_code == 0
    files = unpacked(tmp_path / "all.tgz")
    about = files["package/package.json"]
    assert about["name"].endswith(".catalogue")
    assert about["version"] == "2026.11.1"
    resources = {name: one for name, one in files.items() if isinstance(one, dict) and "id" in one}
    assert {f"package/{name}.json" for name in (
        "CodeSystem-catalogue-lab", "CodeSystem-catalogue-panel", "CodeSystem-some-city-2026",
        "ConceptMap-some-city-2026", "ValueSet-some-city-2026",
    )} <= resources.keys()  # fmt: skip
    assert [name for name, one in resources.items() if issues(one)] == []
    assert not any("meta" in one for one in resources.values())
    assert "LOINC" in files["package/other/NOTICE.txt"].decode()
    one = (tmp_path / "all.tgz").read_bytes()
    operator("export", "all.tgz", "--force")
    assert (tmp_path / "all.tgz").read_bytes() == one
    assert operator("export", "one.tgz", "--list", "some-city", "--package", "x.y").exit_code == 0
    assert unpacked(tmp_path / "one.tgz")["package/package.json"]["name"] == "x.y"
    assert "is no package name" in operator("export", "two.tgz", "--package", "X").output


@pytest.mark.drivers("sqlite")
def test_folders_of_the_catalogue_are_compared(operator: Operator, tmp_path: Path) -> None:
    other = tmp_path / "terminology"
    shutil.copytree(FOLDER, other)
    table = other / "lab-items.csv"
    first = table.read_text("utf-8").splitlines()[1]
    text = table.read_text("utf-8").replace(first, first.replace(",7,", ",30,"))
    table.write_text(text.replace("L002,钠", "L002,镁"), "utf-8")
    assert operator("diff", str(FOLDER), "reference-2026-11").output == "两版内容相同\n"
    told = operator("diff", str(FOLDER), str(other))
    assert told.exit_code == 1
    assert "L001 钾：互认时限由7天改为30天" in told.output
    assert "L002 镁：名称由“钠”改为“镁”，已用代码不得改作他用" in told.output
    assert "different kinds" in operator("diff", "catalogue-lab", "catalogue-imaging").output
    assert "There is no file" in operator("diff", "nothing.csv", "catalogue-lab").output
    assert "There is no list nothing" in operator("diff", "nothing", "catalogue-lab").output


# -- the catalogue of the project ------------------------------------------------------------------


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "own"))


def changed(tables: Path, name: str, *pairs: tuple[str, str]) -> None:
    text = (tables / name).read_text("utf-8")
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    (tables / name).write_text(text, "utf-8")


NEXT = (('edition = "reference-2026-11"', 'edition = "next"'),
        ('effective = "2026-11-01"', 'effective = "2026-11-02"'))  # fmt: skip


def served(database: Databases, tables: Path) -> dict[str, Any]:
    running = database.running("g", terminology=str(tables), open_access=True)
    url = f"{CANONICAL}/CodeSystem/catalogue-lab"
    answer = running.get("/fhir/CodeSystem", params={"url": url}).json()
    running.close()
    return {one["resource"]["version"]: one["resource"] for one in answer["entry"]}


def codes(resource: dict[str, Any]) -> dict[str, Any]:
    return {one["code"]: one for group in resource["concept"] for one in group["concept"]}


def test_a_new_edition_of_the_catalogue_keeps_the_old_one(
    database: Databases, tables: Path
) -> None:
    assert list(served(database, tables)) == ["reference-2026-11"]
    changed(tables, "catalogue.toml", *NEXT)
    lines = (tables / "lab-items.csv").read_text("utf-8").splitlines(keepends=True)
    (tables / "lab-items.csv").write_text("".join(lines[:-1]), "utf-8")
    found = served(database, tables)
    assert set(found) == {"reference-2026-11", "next"}
    assert found["next"]["id"] == "catalogue-lab"
    assert found["reference-2026-11"]["id"] == "catalogue-lab-reference-2026-11"
    last = lines[-1].partition(",")[0]
    assert "inactive" not in {
        p["code"] for p in codes(found["reference-2026-11"])[last]["property"]
    }
    retired = {p["code"]: p for p in codes(found["next"])[last]["property"]}
    assert retired["deprecationDate"]["valueDateTime"] == "2026-11-02"
    again = served(database, tables)
    assert again["next"]["meta"]["versionId"] == found["next"]["meta"]["versionId"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lab-items.csv": [("L001,钾", "L001,钙")], "catalogue.toml": NEXT}, "name was “钾”"),
        (
            {"lab-items.csv": [("exact,血清/血浆", "exact,尿液")], "catalogue.toml": NEXT},
            "specimen",
        ),
        ({"lab-items.csv": [(",7,published", ",9,published")]}, "name a new edition"),
    ],
)
def test_tables_that_give_a_served_code_another_meaning_stop_the_start(
    database: Databases, tables: Path, changes: dict[str, Any], said: str
) -> None:
    served(database, tables)
    for name, pairs in changes.items():
        changed(tables, name, *pairs)
    with pytest.raises(Exception) as caught:
        database.running("g", terminology=str(tables), open_access=True)
    assert said in str(caught.value)
    assert list(served(database, FOLDER)) == ["reference-2026-11"]
