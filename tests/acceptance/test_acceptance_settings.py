"""What an operator mistypes: a sentence that says what to do, and nothing starts."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from fhir_gateway.cli import main
from fhir_gateway.errors import Invalid
from fhir_gateway.settings import load_settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PAGE_LIMIT", "0"),
        ("BODY_LIMIT", "-1"),
        ("BUNDLE_LIMIT", "0"),
        ("SEARCH_BUDGET", "-5"),
        ("EXPORT_HOURS", "0"),
        ("STALE_AFTER_DAYS", "-1"),
        ("PORT", "-1"),
        ("ZONE", "Mars"),
        ("ZONE", ""),
        ("ZONE", "../../etc/passwd"),
        ("BASE_URL", "gw.example/fhir"),
        ("BASE_URL", "https://gw.example/fhir?x=1"),
        ("BASE_URL", "https://"),
        ("MAPPINGS", "/nowhere/mappings"),
        ("TERMINOLOGY", "/nowhere/terminology"),
        ("PROFILES", __file__),
    ],
)
def test_a_value_that_cannot_be_meant_stops_the_start(name: str, value: str) -> None:
    with pytest.raises(Invalid) as caught:
        load_settings({f"FHIR_GATEWAY_{name}": value})
    assert caught.value.issues[0].rule == "setting-value"
    assert caught.value.issues[0].diagnostics.startswith(f"FHIR_GATEWAY_{name} must be ")


def test_values_at_the_edge_are_taken() -> None:
    taken = load_settings({
        "FHIR_GATEWAY_PAGE_LIMIT": "1", "FHIR_GATEWAY_PORT": "0", "FHIR_GATEWAY_ZONE": "UTC",
        "FHIR_GATEWAY_STALE_AFTER_DAYS": "0", "FHIR_GATEWAY_BASE_URL": "https://gw.example/r4/",
    })  # fmt: skip
    assert (taken.page_limit, taken.zone, taken.base_url) == (1, "UTC", "https://gw.example/r4/")


#: Words, exit code, and what is said.
MISTAKES = (
    ((), 2, "Usage:"),
    (("nonsense",), 2, "No such command"),
    (("serve", "--port", "99999"), 2, "not in the range"),
    (("check", "--database", "mysql://x"), 1, "database must be sqlite:///PATH or"),
    (("worker", "--database", "mysql://x"), 2, "cannot work: database must be"),
    (("jobs", "show", "nope"), 1, "there is no job nope"),
    (("jobs", "cancel", "nope"), 1, "there is no job nope"),
    (("jobs", "list", "--state", "odd"), 2, "'odd' is not one of"),
    (("load",), 2, "Missing argument"),
    (("load", "{folder}/nothing"), 1, "This is neither a file nor a folder"),
    (("institution", "token", "nope"), 1, "No institution nope is registered"),
    (("institution", "add", "bad id!", "x", "--area", "1"), 1, "The id must be 1 to 64"),
    (("evaluations", "import", "{folder}/nothing"), 1, "No such file"),
    (("rules", "activate", "9.9.9"), 1, "There is no rule set 9.9.9; known: 1.0.0"),
    (("rules", "retire", "9.9.9"), 1, "There is no rule set 9.9.9"),
    (("remap",), 2, "Missing argument"),
    (("remap", "nope"), 2, "cannot remap: No institution nope is registered"),
    (("replay",), 2, "Name decisions, or say --since or --all"),
    (("replay", "nope"), 1, "There is no such decision"),
    (("backup", "{folder}/a", "--database", "sqlite:///{folder}/none"), 1, "there is no store"),
    (("backup", "{folder}/a", "--database", "postgresql://x/y"), 1, "pg_dump"),
    (("copy", "--from", "sqlite:///{folder}/none", "--to", "sqlite:///{folder}/b"), 1,
     "There is no such file to copy from"),
    (("copy", "--from", "a", "--to", "b"), 1, "a store is sqlite:///PATH or"),
)  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda one: " ".join(one[0]) or "nothing")
def test_a_mistaken_command_says_so(mistake, tmp_path_factory, monkeypatch) -> None:
    words, code, said = mistake
    folder = tmp_path_factory.getbasetemp() / "mistakes"
    monkeypatch.setenv("FHIR_GATEWAY_DATABASE", f"sqlite:///{folder}/gateway.sqlite")
    if not folder.exists():
        folder.mkdir()
        begun = CliRunner().invoke(main, ["institution", "add", "h1", "医院", "--area", "110105"])
        assert begun.exit_code == 0, begun.output
    done = CliRunner().invoke(main, [word.format(folder=folder) for word in words])
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == code
    assert said in done.output
    assert "Traceback" not in done.output


def test_check_finds_both_kinds_of_stores_sound(database) -> None:
    done = CliRunner().invoke(main, ["check", "--json", "--database", database.url()])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert {name for name, one in found.items() if not one["ok"]} == set()
