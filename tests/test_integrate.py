"""The pages for vendors: every command exists, and the first day runs as it is printed."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

import click
import httpx
import pytest
from click.testing import CliRunner
from integrate_pages import PAGES, ROOT, Step, pattern, steps_of

from fhir_gateway.app import build
from fhir_gateway.cli import main
from fhir_gateway.settings import load_settings

FIRST_DAY = ROOT / "docs" / "integrate" / "first-day.md"


def commands() -> list[tuple[str, tuple[str, ...]]]:
    found = [
        (page.name, step.words[1:])
        for page in PAGES
        for step in steps_of(page)
        if step.words and step.words[0] == "fhir-gateway"
    ]
    assert len(found) > 15
    return found


def check_exists(words: tuple[str, ...]) -> None:
    """Raises click's UsageError for a command or an option that is not there."""
    command: click.Command = main
    context = click.Context(main)
    rest = list(words)
    while isinstance(command, click.Group):
        found = command.get_command(context, rest.pop(0))
        assert found is not None, words
        command = found
    known = {text for one in command.params for text in (*one.opts, *one.secondary_opts)}
    for word in rest:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, (words, word)


def test_every_command_of_the_pages_exists() -> None:
    for _, words in commands():
        check_exists(words)


def test_pages_name_files_that_are_there() -> None:
    for page in PAGES:
        for link in _links(page):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def _links(page: Path) -> list[str]:
    found = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    return [link for link in found if "://" not in link]


def test_the_first_day_runs_as_it_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "mappings", tmp_path / "mappings")
    (tmp_path / "var").mkdir()
    monkeypatch.setenv("FHIR_GATEWAY_DATABASE", f"sqlite:///{tmp_path}/var/first-day.sqlite")
    monkeypatch.setenv("FHIR_GATEWAY_MAPPINGS", "mappings")
    known: dict[str, str] = {}
    ran = 0
    for step in steps_of(FIRST_DAY):
        if step.path:
            Path(step.path).write_text(step.content, "utf-8")
            continue
        output = carry_out(step, known)
        ran += 1
        for line in (step.shown or "").splitlines():
            assert any(pattern(line).fullmatch(one) for one in output.splitlines()), (
                f"{' '.join(step.words)}\nshows no line\n{line}\nbut\n{output}"
            )
    assert ran > 8


def carry_out(step: Step, known: dict[str, str]) -> str:
    """The output of a command; `known` are the variables of the shell."""
    words = [_filled(word, known) for word in step.words]
    if words[0] == "curl":
        body = Path(next(word[1:] for word in words if word.startswith("@"))).read_bytes()
        return asyncio.run(post(words, body))
    if words[0] == "fhir-gateway" and words[1] != "serve":
        found = CliRunner().invoke(main, words[1:])
        assert found.exit_code in (0, 1) and not isinstance(found.exception, ValueError), found
        for line in found.output.splitlines():
            if line.startswith("fgw_"):
                known["A"] = line.strip()
        return found.output
    assert words[0] in ("alias", "export", "fhir-gateway") or "=" in words[0], words
    return ""


def _filled(word: str, known: dict[str, str]) -> str:
    for name, value in {"GW": "http://127.0.0.1:8080", **known}.items():
        word = word.replace(f"${name}", value)
    return word


async def post(words: list[str], body: bytes) -> str:
    """What curl would print: the body, CR as a line end."""
    headers = dict(word.split(": ", 1) for at, word in enumerate(words) if words[at - 1] == "-H")
    url = next(word for word in words if word.startswith("http"))
    application = await build(load_settings())
    try:
        transport = httpx.ASGITransport(app=application.asgi)
        async with httpx.AsyncClient(transport=transport) as client:
            answer = await client.post(url, content=body, headers=headers)
    finally:
        await application.close()
    return f"{answer.text.replace(chr(13), chr(10))}\nHTTP {answer.status_code}\n"
