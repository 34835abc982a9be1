"""The pages of docs/integrate as data: their commands, the files they write, what they show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGES = (*sorted((ROOT / "docs" / "integrate").glob("*.md")), ROOT / "docs" / "messages.md")

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_FILE = re.compile(r"cat > (\S+) <<'EOF'\n(.*?)\nEOF\n?", re.S)
_JOINED = re.compile(r"\\\n\s*")


class Step(NamedTuple):
    """A file that is written, or a command with what the page shows of its output (None: nothing
    is shown)."""

    words: tuple[str, ...]
    path: str = ""
    content: str = ""
    shown: str | None = None


def steps_of(page: Path) -> Iterator[Step]:
    """The steps of a page's sh blocks, in order; a plain block behind one is the output of its
    last command."""
    blocks = _FENCE.findall(page.read_text("utf-8"))
    for number, (kind, text) in enumerate(blocks):
        if kind != "sh":
            continue
        after = blocks[number + 1] if number + 1 < len(blocks) else ("sh", "")
        steps = list(_steps(text))
        if steps and after[0] == "":
            steps[-1] = steps[-1]._replace(shown=after[1])
        yield from steps


def _steps(text: str) -> Iterator[Step]:
    rest = text
    while found := _FILE.search(rest):
        yield from _commands(rest[: found.start()])
        yield Step((), found[1], found[2] + "\n")
        rest = rest[found.end() :]
    yield from _commands(rest)


def _commands(text: str) -> Iterator[Step]:
    for line in _JOINED.sub(" ", text).splitlines():
        words = tuple(shlex.split(line, comments=True))
        if words:
            yield Step(words)


def pattern(line: str) -> re.Pattern[str]:
    """What a shown line stands for: ids, times, sizes and … may be others."""
    said = re.escape(line.rstrip()).replace("…", ".*")
    said = re.sub(r"(?:\\ )+", r"\\s+", said)
    for one in _OTHERS:
        said = re.sub(one, r"\\S+", said)
    said = re.sub(r"\d+\\s\+(?:d|h|min|s)\b", r"-?\\d+\\s+\\w+", said)  # how late
    return re.compile(said + r"\s*")


#: In an escaped line: ids of the register, days, times, times and control ids of v2.
_OTHERS = (
    r"\b[a-z2-7]{26}\b", r"\d{4}\\-\d\d\\-\d\d", r"\d\d:\d\d:\d\d", r"\b\d{14}\\\+\d{4}",
    r"(?<=\|)[0-9a-z]{20}(?=\\\|)",
)  # fmt: skip
