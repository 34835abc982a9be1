"""The house rules that a machine can check: sizes, names, one canonical root, pages in step."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fhir_gateway.settings import CANONICAL, load_settings

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "fhir_gateway").rglob("*.py"))
DATA = [
    path
    for folder in ("fhir_gateway", "profiles", "mappings", "terminology", "demo")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".json", ".csv", ".md"} and "r4" not in path.parts
]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            yield f"{path.relative_to(ROOT)}:{node.name}", node.end_lineno - node.lineno + 1


def test_every_module_is_under_400_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in SOURCES
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert long == {}


def test_every_function_is_under_50_lines() -> None:
    long = {name: lines for path in SOURCES for name, lines in functions(path) if lines > 50}
    assert long == {}


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_the_canonical_root_is_spelled_once() -> None:
    spelled = [
        str(path.relative_to(ROOT))
        for path in DATA
        if CANONICAL.removesuffix("/fhir") in path.read_text(encoding="utf-8")
    ]
    assert spelled == ["fhir_gateway/settings.py"]


def test_generated_pages_are_in_step() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "docs.generate", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_readme_stays_under_150_lines() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


def test_links_of_the_pages_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)} -> {target}"
        for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_lock_files_name_hashes_and_no_addresses() -> None:
    for name in ("requirements.lock", "requirements-dev.lock", "definitions.lock"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "--hash=sha256:" in text
        assert "://" not in text


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("FHIR_GATEWAY_PORTT", "1", "unknown-setting"),
        ("FHIR_GATEWAY_PORT", "eighty", "setting-type"),
        ("FHIR_GATEWAY_OPEN_ACCESS", "yes", "setting-type"),
    ],
)
def test_a_wrong_setting_stops_the_start(name: str, value: str, rule: str) -> None:
    with pytest.raises(Exception) as caught:
        load_settings({name: value})
    assert caught.value.issues[0].rule == rule


def test_every_bench_still_finds_what_it_measures() -> None:
    names = [path.stem for path in sorted((ROOT / "bench").glob("*.py")) if path.stem != "__init__"]
    words = "; ".join(f"import bench.{name}" for name in names)
    told = [sys.executable, "-c", words]
    done = subprocess.run(told, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
