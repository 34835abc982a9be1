"""`fhir-gateway pools check` and `plan`: what a pool manager reads before anything is stored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from fhir_gateway.cli import main
from fhir_gateway.scheduling.site_files import FOLDER

PROFILES = Path(__file__).resolve().parents[2] / "profiles"


def run(*words):
    return CliRunner().invoke(main, ["pools", *words])


@pytest.fixture
def site(tmp_path):
    """A copy of the shipped files of supply."""
    shutil.copytree(PROFILES / FOLDER, tmp_path / FOLDER)
    return tmp_path


def test_what_is_shipped_has_no_fault():
    done = run("check")
    assert done.exit_code == 0, done.output
    assert "0 faults" in done.output
    assert "demo-first.toml: 8 templates of demo-first" in done.output


def test_every_fault_of_every_file_is_told_in_one_run(site):
    def spoil(name, old, new):
        file = site / FOLDER / name
        text = file.read_text("utf-8")
        assert old in text
        file.write_text(text.replace(old, new), encoding="utf-8")

    spoil("templates/demo-first.toml", "duration = 10\n", "duration = 7\n")
    spoil("quotas/visits-level-3.toml", 'at_least = "30%"', 'at_least = "130%"')
    spoil("limits.toml", "renewals = 2", "renewals = -1")
    spoil("channels.toml", 'reach = "any"', 'reach = "all"')
    done = run("check", "--profiles", str(site))
    assert done.exit_code == 1
    for told in (
        "demo-first.toml, line 90: 240 minutes are no whole number of slots of 7",
        "visits-level-3.toml, line 21: at_least must be a share",
        "limits.toml, line 17: renewals must be",
        "[template-duration]",
        "4 faults",
    ):
        assert told in done.output, done.output


def test_a_department_under_two_tables_and_a_broken_calendar_are_faults(site):
    file = site / FOLDER / "templates" / "demo-first.toml"
    text = file.read_text("utf-8").replace(
        'department = "radiology-mr"', 'department = "endoscopy"'
    )
    file.write_text(text, encoding="utf-8")
    done = run("check", "--profiles", str(site))
    assert (done.exit_code, "[department-mixed]" in done.output) == (1, True)
    assert run("plan", "demo-first", "--profiles", str(site)).exit_code == 1
    holidays = site / FOLDER / "holidays.csv"
    holidays.write_text(holidays.read_text("utf-8") + "2026,x,y,holiday,a,b\n", encoding="utf-8")
    done = run("check", "--profiles", str(site))
    assert (done.exit_code, "[calendar-day]" in done.output) == (1, True)


def test_a_plan_names_sessions_seats_channels_and_release_times():
    done = run("plan", "demo-first", "--from", "2026-12-07", "--to", "2026-12-07")
    assert done.exit_code == 0, done.output
    assert "2026-12-07 to 2026-12-13" in done.output
    line = next(
        one for one in done.output.splitlines()
        if one.startswith("demo-first|cardiology|2026-12-07")
        and one.split()[3:5] == ["expert", "grassroots-referral"]
    )  # fmt: skip
    assert line.split()[-5:] == ["2026-11-16", "07:00", "2026-11-30", "07:00", "ordinary"]


def test_a_plan_as_json_is_exact_and_the_same_twice():
    words = ("plan", "demo-first", "--from", "2026-12-07", "--to", "2026-12-08", "--json")
    one, two = run(*words), run(*words)
    assert one.output == two.output
    told = json.loads(one.stdout)
    seats = sum(slot["capacity"] for slot in told["slots"])
    assert sum(row["seats"] for one in told["buckets"] for row in one["channels"]) == seats
    assert told["notes"] == []


def test_a_plan_into_a_year_without_notice_says_so():
    done = run("plan", "demo-first", "--from", "2026-12-31", "--to", "2026-12-31")
    assert "note [calendar-unknown]" in done.output


@pytest.mark.parametrize(("words", "said"), [
    (("plan", "nobody"), "there are demo-first"),
    (("plan", "demo-first", "--from", "soon"), "--from must be a day"),
    (("plan", "demo-first", "--from", "2026-12-07", "--to", "2026-12-01"), "--to must be"),
    (("plan", "demo-first", "--profiles", "/nowhere"), "must be a folder"),
    (("check", "--profiles", "/nowhere"), "must be a folder"),
])  # fmt: skip
def test_a_wrong_word_is_answered_with_what_would_do(words, said):
    done = run(*words)
    assert done.exit_code == 1
    assert said in done.output


def test_slots_are_stored_compared_and_withdrawn(tmp_path, monkeypatch):
    monkeypatch.setenv("FHIR_GATEWAY_DATABASE", f"sqlite:///{tmp_path}/gateway.sqlite")
    file = tmp_path / "h-1.toml"
    text = (PROFILES / FOLDER / "templates" / "demo-first.toml").read_text("utf-8")
    begin, end = text.index('[[templates]]\nid = "cardiology-expert"'), text.index("[[closures]]")
    weekend = text.index('[[templates]]\nid = "cardiology-weekend"')
    file.write_text(text[:begin] + text[weekend : text.index('[[templates]]\nid = "ct-day"')],
                    encoding="utf-8")  # fmt: skip
    assert begin < weekend < end
    days = (str(file), "--from", "2031-06-07", "--to", "2031-06-08")

    def told(*words):
        done = run(*words)
        assert done.exit_code == 0, done.output
        return next(one for one in done.stdout.splitlines() if one.startswith("demo-first, "))

    add = ["institution", "add", "demo-first", "h", "--level", "3A", "--area", "110105"]
    assert CliRunner().invoke(main, add).exit_code == 0
    assert "16 created" in told("diff", *days)
    assert "16 created" in told("generate", *days)
    assert "0 created" in told("generate", *days)
    assert "16 the same, 0 begun already; 0 commits" in told("diff", *days)
    assert "8 withdrawn" in told("withdraw", *days[:3], "--to", days[2], "--yes")  # not the period
    assert "2031-06-08 to 2031-06-08: 0 created, 0 changed, 8 withdrawn" in told(
        "withdraw", *days[:2], days[4], "--to", days[4], "--yes"
    )
    assert " 0 withdrawn" in told("withdraw", *days, "--yes")
    assert "16 changed" in told("generate", *days)
    assert "16 withdrawn" in told("withdraw", *days, "--yes")
    assert run("diff", *days[:1], "--from", "soon").exit_code == 1
    assert run("diff", *days[:3], "--to", "2031-01-01").exit_code == 1


def test_a_closure_is_written_only_when_the_file_stays_sound(site, monkeypatch):
    monkeypatch.setenv("FHIR_GATEWAY_PROFILES", str(site))
    file = site / FOLDER / "templates" / "demo-first.toml"
    before = file.read_text("utf-8")
    words = ("close", "demo-first", "--first", "2026-12-07", "--reason", '设备"检修"')
    for wrong in (("--department", "nobody"), ("--last", "2026-12-01"), ("--to", "25:00")):
        done = run(*words, *wrong)
        assert (done.exit_code, file.read_text("utf-8")) == (1, before), done.output
        assert "demo-first.toml, line 1" in done.output
    done = run(*words, "--department", "radiology-ct")
    assert done.output == "demo-first.toml: radiology-ct closed from 2026-12-07 to 2026-12-07\n"
    assert file.read_text("utf-8").startswith(before)
    plan = run("plan", "demo-first", "--from", "2026-12-07", "--to", "2026-12-07", "--json")
    assert '设备"检修"' in {one["reason"] for one in json.loads(plan.stdout)["closed"]}
    assert sorted(one.name for one in file.parent.iterdir()) == ["demo-first.toml"]
