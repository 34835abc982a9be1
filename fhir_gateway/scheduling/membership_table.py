"""A table of memberships of consortia, as a spreadsheet has it: read row by row, and compared.

A row says that an institution belongs to the consortium of a hospital, of which kind and for which
days. A table speaks for the consortia that it names: a membership of theirs that it does not list
any more has ended. Pure: institutions, areas and what is stored are arguments; every fault is told
at once, by row and column. docs/scheduling-fhir.md
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from itertools import pairwise
from typing import NamedTuple

from fhir_gateway.errors import Issue, Unprocessable
from fhir_gateway.scheduling.membership import KINDS, Membership
from fhir_gateway.security.institution import Institution
from fhir_gateway.terminology.area import Areas
from fhir_gateway.terminology.evaluation import is_day
from fhir_gateway.terminology.sheet import Row, Sheet

#: The columns, in the order in which they are exported, and what Chinese tables call them.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "consortium": ("医联体编号", "医联体代码"),
    "name": ("医联体", "医联体名称"),
    "kind": ("类别", "医联体类别", "类型"),
    "core": ("核心医院", "牵头医院", "牵头单位"),
    "member": ("成员单位", "成员机构", "机构"),
    "start": ("起始日期", "开始日期", "加入日期"),
    "end": ("截止日期", "结束日期", "退出日期"),
    "district": ("区县", "地区", "行政区划"),
    "specialty": ("专科", "专业"),
}
#: Those without which a table says nothing.
REQUIRED = ("consortium", "name", "kind", "core", "member", "start")

_NUMBER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.\-]{0,39}")
_DAY = re.compile(r"(\d{4})[/.年-](\d{1,2})[/.月-](\d{1,2})日?")
_PACKED = re.compile(r"(\d{4})(\d\d)(\d\d)")
_LONGEST = {"name": 100, "specialty": 60}
_HEADER_WITHIN = 20


class Stated(NamedTuple):
    """A membership, and the row of the table that says so."""

    row: int
    membership: Membership


class Change(NamedTuple):
    """What an import does to one membership: joined, changed or left."""

    what: str
    membership: Membership
    before: Membership | None


class Plan(NamedTuple):
    """What an import would do."""

    changes: tuple[Change, ...]
    unchanged: int

    def count(self, what: str) -> int:
        """How many memberships joined, changed or left."""
        return sum(1 for one in self.changes if one.what == what)


class Reading:
    """A table being read: its memberships and faults."""

    def __init__(self, sheet: Sheet, institutions: Mapping[str, Institution], areas: Areas) -> None:
        """Finds the header. Raises Unprocessable for a table that has none."""
        self.sheet = sheet
        self.areas = areas
        self.issues: list[Issue] = []
        self.notices = list(sheet.notices)
        self.stated: dict[tuple[str, ...], Stated] = {}
        self.rows = 0
        self._institutions = institutions
        self._ids = _ids(institutions.values())
        self._kinds = {_folded(name): kind for kind, name in KINDS.items()}
        self._kinds |= {_folded(kind): kind for kind in KINDS}
        self._said: dict[str, Stated] = {}
        self._header, self._columns = _find_header(sheet)

    def read(self) -> None:
        """Reads every row. Raises Unprocessable with every fault of the table."""
        for row in self.sheet.rows:
            if row.number > self._header:
                self.rows += 1
                self._read_row(row)
        if not self.rows:
            self.issues.append(self.sheet.issue("consortium-row", "the table has no rows"))
        self._check_overlaps()
        if self.issues:
            raise Unprocessable(issues=tuple(self.issues))

    @property
    def memberships(self) -> list[Membership]:
        """What the table says."""
        return [one.membership for one in self.stated.values()]

    def fault(self, row: int, column: str, sentence: str) -> None:
        """Notes a fault of a row, at one of its columns."""
        place = self._columns.get(column)
        self.issues.append(self.sheet.issue("consortium-row", sentence, row, place, column))

    def _read_row(self, row: Row) -> None:
        before = len(self.issues)
        cells = {name: self._cell(row, name) for name in COLUMNS}
        for name in REQUIRED:
            if not cells[name]:
                self.fault(row.number, name, "must not be empty")
        kind = self._kind(row, cells)
        core = self._institution(row, "core", cells)
        member = self._institution(row, "member", cells)
        if core and core == member:
            self.fault(row.number, "member", "a hospital is no member of its own consortium")
        start, end = self._day(row, "start", cells), self._day(row, "end", cells)
        if start and end and end < start:
            self.fault(row.number, "end", "lies before the start")
        self._check_words(row, cells)
        if len(self.issues) == before:
            self._state(row.number, Membership(
                cells["consortium"], cells["name"], kind, core, member, start, end,
                cells["district"], cells["specialty"],
            ))  # fmt: skip

    def _kind(self, row: Row, cells: Mapping[str, str]) -> str:
        kind = self._kinds.get(_folded(cells["kind"]), "")
        if cells["kind"] and not kind:
            known = ", ".join(f"{one} {name}" for one, name in KINDS.items())
            self.fault(row.number, "kind", f"{cells['kind']} is none of {known}")
        return kind

    def _check_words(self, row: Row, cells: Mapping[str, str]) -> None:
        if cells["consortium"] and not _NUMBER.fullmatch(cells["consortium"]):
            self.fault(row.number, "consortium", "must be up to 40 letters, digits, - and .")
        if cells["district"] and not self.areas.known(cells["district"]):
            self.fault(row.number, "district", f"{cells['district']} is no area (GB/T 2260)")
        for name, longest in _LONGEST.items():
            if len(cells[name]) > longest:
                self.fault(row.number, name, f"has more than {longest} characters")

    def _cell(self, row: Row, name: str) -> str:
        place = self._columns.get(name)
        if place is None:
            return ""
        cell = row.cell(place)
        if cell.wrong:
            self.fault(row.number, name, cell.wrong)
        return cell.text.strip()

    def _institution(self, row: Row, name: str, cells: Mapping[str, str]) -> str:
        """The id that a cell names, by id or by name; "" with a fault when there is not one."""
        text = cells[name]
        found = self._ids.get(_folded(text), []) if text else []
        if len(found) > 1:
            self.fault(row.number, name, f"{text} is the name of {', '.join(found)}: say the id")
        elif text and not found:
            sentence = f"no institution {text} is registered: fhir-gateway institution add"
            self.fault(row.number, name, sentence)
        return found[0] if len(found) == 1 else ""

    def _day(self, row: Row, name: str, cells: Mapping[str, str]) -> str:
        text = cells[name]
        found = _DAY.fullmatch(text) or _PACKED.fullmatch(text)
        day = "-".join((found[1], found[2].zfill(2), found[3].zfill(2))) if found else text
        if day and not is_day(day):
            self.fault(row.number, name, f"{text} is no day, write it as 2027-01-31")
            return ""
        return day

    def _state(self, row: int, one: Membership) -> None:
        """Adds a membership; rows that disagree about a consortium or a membership are a fault."""
        other = self._said.setdefault(one.consortium, Stated(row, one))
        for name in ("name", "kind"):
            if getattr(other.membership, name) != getattr(one, name):
                sentence = f"row {other.row} says something else of consortium {one.consortium}"
                self.fault(row, name, sentence)
        same = self.stated.setdefault(one.key, Stated(row, one))
        if same.row != row and same.membership != one:
            self.fault(row, "start", f"row {same.row} says something else of this membership")
        elif same.row != row:
            self.notices.append(f"row {row} says the same as row {same.row}")

    def _check_overlaps(self) -> None:
        """The same two institutions are joined once at a time in a consortium."""
        rows: dict[tuple[str, ...], list[Stated]] = {}
        for one in self.stated.values():
            rows.setdefault(one.membership.key[:3], []).append(one)
        for several in rows.values():
            several.sort(key=lambda one: one.membership.start)
            for former, later in pairwise(several):
                end = former.membership.end
                if not end or end >= later.membership.start:
                    sentence = f"holds already by row {former.row}: end that one before"
                    self.fault(later.row, "start", sentence)


def plan_import(reading: Reading, stored: Iterable[Membership], today: str) -> Plan:
    """The changes that make the store say what the table says.

    What the table does not list any more ends yesterday; what had not begun yet is withdrawn.
    """
    named = {one.consortium for one in reading.memberships}
    now = {one.key: one for one in stored if one.consortium in named}
    changes: list[Change] = []
    unchanged = 0
    for one in reading.memberships:
        before = now.pop(one.key, None)
        if before == one:
            unchanged += 1
        else:
            joined = before is None or not before.active
            changes.append(Change("joined" if joined else "changed", one, before))
    changes += (Change("left", after, before) for before, after in _ended(now.values(), today))
    return Plan(tuple(changes), unchanged)


def _ended(gone: Iterable[Membership], today: str) -> Iterator[tuple[Membership, Membership]]:
    yesterday = (date.fromisoformat(today) - timedelta(days=1)).isoformat()
    for one in gone:
        if not one.active or (one.end and one.end < today):
            continue  # it is over already
        if one.start >= today:
            yield one, one._replace(active=False)
        else:
            yield one, one._replace(end=yesterday)


def _ids(institutions: Iterable[Institution]) -> dict[str, list[str]]:
    """Ids by id, by name and by the two national codes; an id wins over everything else."""
    names: dict[str, list[str]] = {}
    ids: dict[str, list[str]] = {}
    for one in institutions:
        ids[_folded(one.id)] = [one.id]
        for name in {one.name, one.institution_code, one.credit_code} - {""}:
            names.setdefault(_folded(name), []).append(one.id)
    return names | ids


def _folded(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split()).lower()


def _find_header(sheet: Sheet) -> tuple[int, dict[str, int]]:
    """Number of the header's row, and the place of each column that the table has."""
    names = {_folded(name): column for column, others in COLUMNS.items()
             for name in (column, *others)}  # fmt: skip
    best: tuple[int, dict[str, int]] = (0, {})
    for row in sheet.rows[:_HEADER_WITHIN]:
        found: dict[str, int] = {}
        for place, cell in enumerate(row.cells):
            column = names.get(_folded(cell.text))
            if column is not None and column in found:
                sentence = f"two columns are {column}: keep one"
                issue = sheet.issue("consortium-columns", sentence, row.number, place)
                raise Unprocessable(issues=(issue,))
            if column is not None:
                found[column] = place
        if len(found) > len(best[1]):
            best = row.number, found
    missing: Sequence[str] = [name for name in REQUIRED if name not in best[1]]
    if missing:
        raise Unprocessable(
            f"{sheet.where()}: no column for {', '.join(missing)}; a table has the columns "
            f"{', '.join(COLUMNS)}, or their Chinese names (docs/scheduling-fhir.md)",
            rule="consortium-columns",
        )
    return best
