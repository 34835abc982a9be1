"""The table of attack cases of docs/security.md names files that hold tests of those numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "security.md"
#: Cases that have to be met, whatever else is not.
STARRED = {31, 35, 47, 53, 55, 62, 64, 66, 67, 68, 147, 152}
#: Cases without a test, each with the words that its row has to say.
WITHOUT = {
    41: "there are none", 49: "the proxy's", 70: "there are none", 73: "not prevented",
    74: "not refused",
}  # fmt: skip


def rows() -> Iterator[tuple[list[int], bool, str]]:
    """The numbers of each row, whether it bears a star, and what it says of the test."""
    section = (
        PAGE.read_text("utf-8").split("## Cases of attack and their tests")[1].split("\n## ")[0]
    )
    for line in (one for one in section.splitlines() if one.startswith("| ")):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if numbers := [int(number) for number in re.findall(r"\d+", cells[0])]:
            yield numbers, "★" in cells[0], cells[2]


def test_every_case_of_the_table_has_a_test_of_its_number() -> None:
    files: list[str] = []
    seen: set[int] = set()
    for numbers, starred, said in rows():
        seen.update(numbers)
        assert starred == (numbers[0] in STARRED), numbers
        if numbers[0] in WITHOUT:
            assert WITHOUT[numbers[0]] in said
            continue
        files = re.findall(r"`([a-z0-9_/]+(?:\.py|/))`", said) or (
            files if "the same" in said else []
        )
        assert files, numbers
        for file in files:
            place = TESTS / file
            texts = [one.read_text("utf-8") for one in (
                place.rglob("test_*.py") if place.is_dir() else [place])]  # fmt: skip
            name = rf"^(?:async )?def test_(\d{{3}}_)*{numbers[0]:03d}_"
            assert any(re.search(name, text, re.MULTILINE) for text in texts), (numbers, file)
    assert seen == {*range(31, 75), *range(145, 158)}
