"""Golden cases: every message type, event, OBX-2, OBX-11, charset, habit and refusal, and every row
of every table of mappings/v2 (golden_cases.py)."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from golden_cases import CASES, facts_of
from mapping_cases import HEADER, ORDER, PERSON, TABLES, message

from fhir_gateway.mapping import v2_charset, v2_draft
from fhir_gateway.mapping.tables import Row, normal, table
from fhir_gateway.mapping.v2 import parse


@pytest.mark.parametrize("case", CASES, ids=[path.stem for path in CASES])
def test_a_message_becomes_what_was_agreed(case: Path) -> None:
    assert facts_of(case.read_bytes()) == case.with_suffix(".facts").read_text(encoding="utf-8")


def test_there_is_a_case_for_whatever_is_taken_in() -> None:
    names = {path.stem for path in CASES}
    assert {path.stem for path in CASES[0].parent.glob("*.facts")} == names
    assert len(names) >= 60


#: Rows that no case reads, and why.
UNREAD = {
    "charsets": "test_every_name_of_a_character_set_is_read",
    "field-names": "names for people: nothing of a message is looked up in it",
}


class _Recorded(dict[str, Row]):
    """A table that remembers which rows were found."""

    def __init__(self, rows: Any, found: set[str]) -> None:
        super().__init__(rows)
        self._found = found

    def get(self, key: str, default: Any = None) -> Any:
        if key in self:
            self._found.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Row:
        self._found.add(key)
        return super().__getitem__(key)


def test_every_row_of_every_table_is_read_by_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, set[str]] = defaultdict(set)

    def recorded(folder: str, name: str, extra: str = "") -> _Recorded:
        return _Recorded(table(folder, name, extra), found[name])

    monkeypatch.setattr(v2_draft, "table", recorded)
    for case in CASES:
        facts_of(case.read_bytes())
    unread = {
        (path.stem, row["received"])
        for path in sorted(Path(TABLES).glob("*.csv"))
        if path.stem not in UNREAD
        for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())
        if found[path.stem].isdisjoint({normal(row["received"])})
    }
    assert unread == set()


@pytest.mark.parametrize("label", table(TABLES, "charsets"))
def test_every_name_of_a_character_set_is_read(label: str) -> None:
    codec = table(TABLES, "charsets")[label].code
    name = "ZHANG" if codec in ("ascii", "latin-1", "iso8859-1", "iso8859-15") else "张示一"
    raw = message(
        HEADER.replace("UNICODE UTF-8", label),
        PERSON.replace("张示一", name),
        ORDER.replace("生化全套", "Panel"),
        codec="utf-8" if name == "ZHANG" else codec,
    )
    found = parse(raw, default_charset="UTF-8", folder=TABLES)
    assert found.segments[1].text(5) == name
    assert v2_charset.codec_of(label, TABLES) == codec
