"""Loading tables: the same record as from a message, once, corrected, resumed, refused by row."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from intake_cases import SECOND, Opened, opened, report
from tabular_cases import HEADER, RESULTS, STUDIES, TYPES, Ward, bare, file, loading, row, table

from fhir_gateway.cli.tabular import command
from fhir_gateway.errors import GatewayError
from fhir_gateway.interactions import intake_tabular_load
from fhir_gateway.interactions.institutions import register
from fhir_gateway.interactions.intake_tabular_load import Order, load_table
from fhir_gateway.interactions.intake_tabular_marks import loads
from fhir_gateway.mapping.ids import business_id

BOTH = (row(), row(item="CREA", value="79.0"))
_numbers = count(1)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    with opened(tmp_path_factory.mktemp("tables")) as one:
        yield one


@pytest.fixture
def ward(shared: Opened, tmp_path: Path) -> Ward:
    return Ward(shared, f"ward-{next(_numbers)}", tmp_path)


def test_a_table_and_a_message_become_the_same_record(ward: Ward) -> None:
    loaded = ward.load(file(*BOTH))
    assert (loaded.figures.stored, loaded.figures.refusals) == (1, [])
    parts = [*((type, "ALT") for type in TYPES), ("Observation", "CREA")]
    by_table = [ward.one(*part) for part in parts]
    assert by_table[2]["meta"]["source"].endswith("/door/table")
    ward.send(report())
    by_message = [ward.one(*part) for part in parts]
    assert ward.stored()[:4] == [1, 1, 2, 1]
    assert by_message[2]["meta"]["source"].endswith("/door/v2")
    assert [bare(one) for one in by_table] == [bare(one) for one in by_message]


def test_a_file_sent_again_stores_nothing(ward: Ward) -> None:
    ward.load(file(*BOTH))
    before = ward.stored()
    second = ward.load(file(*BOTH))
    anew = ward.load(file(*BOTH), again=True)
    assert (second.figures.unchanged, anew.figures.unchanged) == (1, 1)
    assert ward.stored() == before


def test_without_watermark_the_very_file_is_passed_over_and_told_so(ward: Ward) -> None:
    named = ward.mapped(RESULTS.replace('watermark = "更新时间"', ""))
    assert not ward.load(file(*BOTH), named).whole
    again = ward.load(file(*BOTH), named)
    assert (again.whole, again.figures.stored) == (True, 1)


def test_a_changed_row_supersedes_and_history_is_kept(ward: Ward) -> None:
    ward.load(file(*BOTH))
    new = {"status": "已更正", "issued": "2026-11-18 12:30:00", "marked": "2026-11-18 12:31:00"}
    ward.load(file(row(value="33", **new)))
    found = ward.one("Observation")
    assert (found["meta"]["versionId"], found["status"]) == ("2", "corrected")
    assert str(found["valueQuantity"]["value"]) == "33"
    assert ward.one("Observation", "CREA")["status"] == "entered-in-error"


def test_a_value_that_changes_there_and_back_is_stored_each_time(ward: Ward) -> None:
    for value in ("32", "33", "32"):
        ward.load(file(row(value=value)), again=True)
    found = ward.one("Observation")
    assert (found["meta"]["versionId"], str(found["valueQuantity"]["value"])) == ("3", "32")


def test_rows_are_kept_as_they_came_with_their_header(ward: Ward) -> None:
    content = file(*BOTH)
    ward.load(content)
    assert ward.opened.received(sha256(content).digest()) == ("text/csv", content)


def test_one_bad_row_refuses_its_report_and_not_the_file(ward: Ward) -> None:
    loaded = ward.load(file(*BOTH, row(2, status="?", person=1), row(3, person=2)))
    assert (loaded.figures.stored, loaded.figures.refused) == (2, 1)
    (refusal,) = loaded.figures.refusals
    assert (refusal.place, refusal.rule) == ("line 4, column 状态", "v2-field")
    assert "张示一" not in refusal.reason


def test_a_patient_number_of_another_person_names_its_column(ward: Ward) -> None:
    ward.load(file(*BOTH))
    other = row(2).replace("119900195803120010", "119900198507300029")
    (refusal,) = ward.load(file(other), again=True).figures.refusals
    assert (refusal.place, refusal.rule) == ("line 2, column 病案号", "patient-identity")


def test_what_was_refused_holds_the_watermark_back(ward: Ward) -> None:
    bad = row(2, status="?", person=1, marked="2026-11-18 10:00:00")
    good = row(3, person=2, marked="2026-11-19 10:00:00")
    first = ward.load(file(*BOTH, bad, good))
    assert first.load is not None and first.load.watermark == "2026-11-18T10:00:00"
    second = ward.load(file(*BOTH, bad.replace("?", "已审核"), good))
    assert (second.figures.stored, second.figures.refused) == (1, 0)
    third = ward.load(file(*BOTH, good))
    assert (third.survey.passed, third.figures.unchanged) == (1, 1)


def test_a_dry_run_says_what_would_become_of_it_and_stores_nothing(ward: Ward) -> None:
    loaded = ward.load(file(*BOTH), dry_run=True)
    assert loaded.figures.resources == {
        "Patient created": 1, "ServiceRequest created": 1, "Observation created": 2,
        "DiagnosticReport created": 1,
    }  # fmt: skip
    assert ward.stored() == [0, 0, 0, 0, 0]
    real = ward.load(file(*BOTH))
    assert real.figures.resources == loaded.figures.resources
    assert real.figures.unmapped == loaded.figures.unmapped
    changed = ward.load(file(row(value="40"), BOTH[1]), dry_run=True, again=True)
    assert changed.figures.resources["Observation updated"] == 1
    assert changed.figures.resources["Observation unchanged"] == 1


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (file(*BOTH, codec="utf-8"), "table-code-page"),
        (file(*BOTH)[:-30] + b"\xff\xff" + file(*BOTH)[-30:], "table-code-page"),
        ((HEADER + "\n" + row() + "\n").encode("utf-16"), "table-code-page"),
        (file(*BOTH).replace("病案号".encode("gb18030"), b"X"), "table-header"),
    ],
    ids=["utf-8", "wrong bytes", "utf-16", "column missing"],
)
def test_a_file_of_another_code_page_or_header_is_refused_whole(
    ward: Ward, content: bytes, rule: str
) -> None:
    with pytest.raises(GatewayError) as refused:
        ward.load(content)
    assert refused.value.issues[0].rule == rule
    assert ward.stored() == [0, 0, 0, 0, 0]


def test_utf8_with_its_mark_is_read(ward: Ward) -> None:
    loaded = ward.load(b"\xef\xbb\xbf" + file(*BOTH, codec="utf-8"))
    assert (loaded.figures.stored, loaded.figures.refusals) == (1, [])
    assert ward.one("Patient")["name"] == [{"text": "张示一"}]


def test_a_report_whose_row_cannot_be_read_is_refused(ward: Ward) -> None:
    torn = row(item="CREA", value='"79.0')  # a quotation mark that is never closed
    loaded = ward.load(file(row(), torn, row(2), row(9, person=1)))
    assert (loaded.figures.stored, loaded.figures.refused) == (1, 2)
    assert {one.rule for one in loaded.figures.refusals} == {"table-row", "table-neighbour"}
    assert loaded.load is not None and loaded.load.watermark == ""


def test_a_file_that_ends_within_a_line_refuses_its_last_report(ward: Ward) -> None:
    loaded = ward.load(file(*BOTH, row(2, person=1)).rstrip())
    assert (loaded.figures.stored, loaded.figures.refused) == (1, 1)
    assert [one.rule for one in loaded.figures.refusals] == ["table-cut"]


def test_rows_of_one_report_need_not_stand_together(ward: Ward) -> None:
    loaded = ward.load(file(BOTH[0], row(2, person=1), BOTH[1]))
    assert (loaded.figures.stored, loaded.figures.refused) == (2, 0)
    assert len(ward.one("DiagnosticReport")["result"]) == 2


def studies(*rows: str) -> bytes:
    return "\n".join(["patient,study,date,name,series,modality,images", *rows, ""]).encode()


def test_studies_add_series_and_stay_with_their_patient(ward: Ward) -> None:
    named = ward.mapped(STUDIES)
    first, second = (f"7,1.2.3,2026-11-18 08:00,胸部CT,1.2.3.{n},CT,{n}0" for n in (1, 2))
    assert ward.load(studies(first), named).figures.refusals == []
    assert ward.load(studies(second), named).figures.resources["ImagingStudy updated"] == 1
    found = ward.opened.read("ImagingStudy", business_id(ward.id, "ImagingStudy", "1.2.3"))
    assert (found["numberOfSeries"], found["numberOfInstances"]) == (2, 30)
    assert found["meta"]["source"].endswith("/door/table")
    assert ward.load(studies(first), named, again=True).figures.unchanged == 1
    (refusal,) = ward.load(studies(first.replace("7,", "8,", 1)), named).figures.refusals
    assert (refusal.place, refusal.rule) == ("line 2, column study", "dicom-study")


def test_a_load_that_is_broken_off_goes_on_with_its_figures(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_tabular_load, "PIECE", 2)
    content = file(row(status="?"), *(row(n, person=n % 3) for n in range(2, 8)))
    seen = 0

    def stop(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == 2:
            raise InterruptedError

    order, hospital = Order("results.csv", ward.map), ward.opened
    with pytest.raises(InterruptedError):
        hospital.runner.run(load_table(hospital.gateway, lambda: BytesIO(content), order, stop))
    assert ward.stored()[3] == 3
    rest = ward.load(content)
    assert (rest.pieces, rest.figures.stored, rest.figures.refused) == (2, 6, 1)
    assert [one.place for one in rest.figures.refusals] == ["line 2, column 状态"]
    assert ward.stored()[1:4] == [6, 6, 6]


_KILLED = """
import os, signal, sys
from click.testing import CliRunner
from fhir_gateway.interactions import intake_tabular_load as load
from fhir_gateway.cli.tabular import command
load.PIECE = 2
real, seen = load.receive_group, 0
async def counted(*given, **named):
    global seen
    became = await real(*given, **named)
    seen += 1
    if seen == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return became
load.receive_group = counted
CliRunner().invoke(command, sys.argv[1:], catch_exceptions=False)
"""


def test_a_kill_in_the_middle_loses_nothing_and_stores_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_tabular_load, "PIECE", 2)
    content = file(*(row(n, person=n % 3) for n in range(1, 8)))
    (tmp_path / "results.csv").write_bytes(content)
    with opened(tmp_path) as hospital:
        ward = Ward(hospital, "ward", tmp_path)
    arguments = ["load", f"{tmp_path}/results.toml", f"{tmp_path}/results.csv",
                 "--database", f"sqlite:///{tmp_path}/gateway.sqlite", "--quiet"]  # fmt: skip
    killed = subprocess.run([sys.executable, "-c", _KILLED, *arguments], check=False)
    assert killed.returncode == -signal.SIGKILL
    with opened(tmp_path) as hospital:
        ward.opened = hospital
        assert ward.stored()[3] >= 3
        rest = ward.load(content)
        assert (rest.pieces, rest.figures.stored + rest.figures.unchanged) == (1, 7)
        assert ward.stored()[:4] == [3, 7, 7, 7]
        assert ward.one("Observation")["meta"]["versionId"] == "1"


def test_the_command_checks_loads_reports_and_tells(tmp_path: Path) -> None:
    with opened(tmp_path) as hospital:
        database = Ward(hospital, "ward", tmp_path).opened.settings.database
    named = str(tmp_path / "results.toml")
    (tmp_path / "a.csv").write_bytes(file(*BOTH, row(2, status="?", person=1)))
    settings = ["--database", database]

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(command, [*arguments, *settings])

    assert run("check", named).exit_code == 0
    for suffix in ("json", "csv"):
        path = tmp_path / f"report.{suffix}"
        found = run("load", named, str(tmp_path / "a.csv"), "--report", str(path), "--again")
        assert found.exit_code == 1
        assert "refused: line 4, column 状态" in found.output
    (said,) = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["files"]
    assert (said["rows"], said["stored"], said["refused"]) == (3, 1, 1)
    assert "line 4" in (tmp_path / "report.csv").read_text(encoding="utf-8-sig")
    told = run("status", named)
    assert "a.csv" in told.output and "2026-11-18T11:31:00" in told.output
    assert run("load", "nobody", str(tmp_path / "a.csv")).exit_code == 2


def test_both_stores_take_a_table_in(start: Callable[..., Any], tmp_path: Path) -> None:
    running = start()
    running.run(register(running.gateway, SECOND))
    named, content = table(tmp_path), file(*BOTH)
    first = running.run(loading(running.gateway, content, named))
    again = running.run(loading(running.gateway, content, named, again=True))
    assert (first.figures.stored, again.figures.unchanged) == (1, 1)
    (last, before) = running.run(loads(running.gateway, SECOND.id, named.name, 10))
    assert (last.number, before.number, before.file) == (2, 1, "results.csv")
