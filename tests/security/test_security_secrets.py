"""Secrets come from files or the environment, and are in nothing that is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.errors import Invalid
from fhir_gateway.settings import Settings, load_settings, masked

ROOT = Path(__file__).resolve().parents[2]
SECRET = "S3CRET-CANARY"
ADDRESS = f"postgresql://gateway:{SECRET}@127.0.0.1:1/gateway"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fhir_gateway", *arguments], cwd=ROOT, check=False,
        capture_output=True, text=True, timeout=60, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_setting_may_stand_in_a_file(tmp_path: Path, end: str) -> None:
    file = tmp_path / "database"
    file.write_text(ADDRESS + end, newline="")
    loaded = load_settings({"FHIR_GATEWAY_DATABASE_FILE": str(file)})
    assert loaded.database == ADDRESS
    (tmp_path / "port").write_text("99\n")
    assert load_settings({"FHIR_GATEWAY_PORT_FILE": str(tmp_path / "port")}).port == 99


def test_a_file_that_is_none_and_a_value_given_twice_stop_the_start(tmp_path: Path) -> None:
    file = tmp_path / "database"
    file.write_text(ADDRESS)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for environment, says in (
        ({"FHIR_GATEWAY_DATABASE_FILE": str(tmp_path / "none")}, "a file of UTF-8"),
        ({"FHIR_GATEWAY_DATABASE_FILE": str(tmp_path)}, "a file of UTF-8"),
        ({"FHIR_GATEWAY_DATABASE_FILE": str(tmp_path / "binary")}, "a file of UTF-8"),
        ({"FHIR_GATEWAY_DATABASE_FILE": str(file), "FHIR_GATEWAY_DATABASE": ADDRESS}, "not both"),
        ({"FHIR_GATEWAY_NONE_FILE": str(file)}, "is not a setting"),
        ({"FHIR_GATEWAY_PORT_FILE": str(file)}, "a whole number"),
    ):
        with pytest.raises(Invalid, match=says) as refusal:
            load_settings(environment)
        assert SECRET not in str(refusal.value)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (ADDRESS, "postgresql://gateway:***@127.0.0.1:1/gateway"),
        ("postgresql://u:p@ss/w:örd@h/db", "postgresql://u:***@h/db"),
        ("postgres://u:p@h:5432/db?sslmode=require", "postgres://u:***@h:5432/db?sslmode=require"),
        ("postgresql://u@h/db?a=1&password=x%26y&b=2", "postgresql://u@h/db?a=1&password=***&b=2"),
        ("postgresql://u@h/db", "postgresql://u@h/db"),
        ("sqlite:///var/gateway.sqlite", "sqlite:///var/gateway.sqlite"),
        ("https://gw.example/fhir", "https://gw.example/fhir"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_its_password(address: str, shown: str) -> None:
    assert masked(address) == shown


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=3, max_size=20)
)
@settings(max_examples=examples(60))
def test_no_password_shows_whatever_it_is_made_of(password: str) -> None:
    secret = f"§{password}§"
    for form in (f"postgresql://user:{secret}@host/name", f"postgresql://user:{secret}@h:1/n?a=b"):
        assert "§" not in masked(form)
        assert secret not in repr(Settings(database=form))


def test_settings_show_what_was_chosen_and_no_password() -> None:
    chosen = repr(Settings(database=ADDRESS, open_access=True))
    assert chosen == (
        "Settings(database='postgresql://gateway:***@127.0.0.1:1/gateway', open_access=True)"
    )
    assert SECRET not in f"{Settings(database=ADDRESS)!s} {[Settings(database=ADDRESS)]}"


@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("check",), ("worker",)])
def test_a_store_that_is_not_there_is_told_without_its_password(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "database"
    file.write_text(ADDRESS)
    done = run(*command, FHIR_GATEWAY_DATABASE_FILE=str(file))
    assert done.returncode != 0
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_password_among_the_arguments_is_warned_of() -> None:
    """Everybody on the machine reads the list of processes."""
    done = run("serve", "--port", "0", "--database", ADDRESS)
    first = json.loads(done.stderr.splitlines()[0])
    assert first["event"] == "secret-in-arguments"
    assert "FHIR_GATEWAY_DATABASE_FILE" in first["advice"]
    assert SECRET not in done.stdout + done.stderr


def test_the_pages_of_the_documentation_show_no_password_of_ours() -> None:
    for page in [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]:
        text = page.read_text("utf-8")
        for word in text.split():
            if "://" in word and "postgres" in word:
                assert masked(word) == word or "PASSWORD" in word or "…" in word, (page, word)
