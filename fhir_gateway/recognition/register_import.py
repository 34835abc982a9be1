"""A table of evaluations, as a spreadsheet has it: read row by row, every fault told at once.

A row says of one institution that it passed or failed for an item (a code of the catalogue, a
class of it, or * for all), in an area, from a first to a last day, and which body judged. Pure: the
registered institutions, bodies and what the register says already are arguments. What becomes of
the rows beside what is stored is worked out in register_plan.py. docs/evaluations.md
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from fhir_gateway.errors import Issue, Unprocessable
from fhir_gateway.recognition.register import Entry
from fhir_gateway.security.evaluating_body import EvaluatingBody
from fhir_gateway.security.institution import Institution
from fhir_gateway.terminology.area import Areas
from fhir_gateway.terminology.catalogue import Catalogue, Item
from fhir_gateway.terminology.evaluation import is_day, why_not
from fhir_gateway.terminology.sheet import Cell, Row, Sheet

#: The columns, in the order in which they are exported, and what official tables call them.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "institution": ("机构", "医疗机构", "机构编码", "实验室", "机构名称"),
    "item": ("项目", "项目编码", "互认项目", "项目代码"),
    "area": ("范围", "互认范围", "地区", "区域"),
    "start": ("起始日期", "开始日期", "有效期起", "生效日期"),
    "end": ("截止日期", "结束日期", "有效期止", "失效日期"),
    "passed": ("结果", "评价结果", "是否通过", "是否合格"),
    "evaluator": ("评价机构", "质控机构", "质控中心", "评价单位"),
    "round": ("轮次", "批次", "评价轮次", "评价批次"),
    "score": ("成绩", "得分", "分数", "评价成绩"),
    "city_wide": ("全市", "全市范围", "按市级标准"),
}
#: Those without which a table says nothing.
REQUIRED = ("institution", "item", "area", "start", "passed", "evaluator")

_TRUTH = {"true": True, "1": True, "yes": True, "通过": True, "合格": True, "是": True}
_TRUTH |= {"false": False, "0": False, "no": False, "未通过": False, "不合格": False, "否": False}
_TRUTH |= {"不通过": False}
_SAID = " or ".join(("true", "false", "合格", "不合格", "通过", "未通过"))

_HEADER_WITHIN = 20
_SEPARATED = re.compile(r"(\d{4})[/.年-](\d{1,2})[/.月-](\d{1,2})日?")
_PACKED = re.compile(r"(\d{4})(\d\d)(\d\d)")
_LONGEST = {"round": 100, "score": 40}


class Registered(NamedTuple):
    """What a table is read against."""

    catalogue: Catalogue
    areas: Areas
    institutions: Mapping[str, Institution]
    bodies: Mapping[str, EvaluatingBody]


class Stated(NamedTuple):
    """An entry, and the row of the table that says so."""

    row: int
    entry: Entry


class Reading:
    """A table being read: its entries, faults and notices."""

    def __init__(self, sheet: Sheet, known: Registered) -> None:
        """Finds the header. Raises Unprocessable for a table that has none."""
        self.sheet = sheet
        self.known = known
        self.issues: list[Issue] = []
        self.notices = list(sheet.notices)
        self.stated: dict[tuple[str, ...], Stated] = {}
        self.rows = 0
        self._header, self._columns = _find_header(sheet)
        self._institutions = _named((one.id, one.name) for one in known.institutions.values())
        self._bodies = _named((one.id, one.name) for one in known.bodies.values())

    def read(self) -> None:
        """Reads every row. Raises Unprocessable with every fault of the table."""
        for row in self.sheet.rows:
            if row.number > self._header:
                self.rows += 1
                self._read_row(row)
        if not self.rows:
            self.issues.append(self.sheet.issue("evaluation-row", "the table has no rows"))
        self.check()

    def check(self) -> None:
        """Raises Unprocessable with every fault noted so far."""
        if self.issues:
            raise Unprocessable(issues=tuple(self.issues))

    @property
    def entries(self) -> list[Entry]:
        """What the table says."""
        return [one.entry for one in self.stated.values()]

    def fault(self, row: int, column: str, sentence: str, rule: str = "evaluation-row") -> None:
        """Notes a fault of a row, at one of its columns."""
        place = self._columns.get(column)
        self.issues.append(self.sheet.issue(rule, sentence, row, place, column))

    # -- one row ---------------------------------------------------------------------------

    def _read_row(self, row: Row) -> None:
        before = len(self.issues)
        cells = {name: self._cell(row, name) for name in COLUMNS}
        for name in REQUIRED:
            if not cells[name]:
                self.fault(row.number, name, "must not be empty")
        institution = self._one_of(row, "institution", cells, self._institutions)
        body = self._body(row, cells)
        area = self._area(row, cells, body)
        start, end = self._day(row, "start", cells), self._day(row, "end", cells)
        if start and end and end < start:
            self.fault(row.number, "end", "lies before the start")
        passed = self._truth(row, "passed", cells)
        items = self._items(row, cells)
        for name, longest in _LONGEST.items():
            if len(cells[name]) > longest:
                self.fault(row.number, name, f"has more than {longest} characters")
        if len(self.issues) > before or body is None or passed is None:
            return
        for item in items:
            entry = Entry(
                institution=institution, item=item.code, kind=item.kind, area=area,
                start=start, end=end, passed=passed, evaluator=body.name, body=body.id,
                round=cells["round"], score=cells["score"],
                city_wide=bool(cells["city_wide"]) and _TRUTH[cells["city_wide"].lower()],
                display=item.name_zh,
            )  # fmt: skip
            self._state(row.number, entry)

    def _cell(self, row: Row, name: str) -> str:
        place = self._columns.get(name)
        cell = row.cell(place) if place is not None else Cell("")
        if name in ("start", "end") and is_day(cell.text):
            return cell.text  # what a workbook keeps as a date is one here
        if cell.wrong:
            self.fault(row.number, name, cell.wrong)
        return cell.text

    def _one_of(
        self, row: Row, name: str, cells: Mapping[str, str], known: Mapping[str, list[str]]
    ) -> str:
        """The id that a cell names, by id or by name; "" with a fault when there is not one."""
        text = cells[name]
        found = known.get(_folded(text), [])
        if len(found) == 1:
            return found[0]
        if found:
            self.fault(row.number, name, f"{text} is the name of {', '.join(found)}: say the id")
        elif text:
            what, command = _WHAT[name]
            self.fault(
                row.number, name, f"no {what} {text} is registered: fhir-gateway {command} add"
            )
        return ""

    def _body(self, row: Row, cells: Mapping[str, str]) -> EvaluatingBody | None:
        id = self._one_of(row, "evaluator", cells, self._bodies)
        body = self.known.bodies.get(id)
        if body is not None and not body.active:
            self.fault(row.number, "evaluator", f"{body.name} is not active any more")
        return body

    def _area(self, row: Row, cells: Mapping[str, str], body: EvaluatingBody | None) -> str:
        text, areas = cells["area"], self.known.areas
        code = text if areas.known(text) else areas.of_mark(text)
        city_wide = self._truth(row, "city_wide", cells)
        if not text:
            return ""
        if not code:
            self.fault(row.number, "area", f"{text} is no code and no name of the table of areas")
        elif body and (why := why_not(body, code, areas, city_wide=bool(city_wide))):
            self.fault(row.number, "area", why, "evaluation-area")
        return code

    def _day(self, row: Row, name: str, cells: Mapping[str, str]) -> str:
        text = cells[name]
        found = _SEPARATED.fullmatch(text) or _PACKED.fullmatch(text)
        day = "-".join(part.zfill(2) for part in found.groups()) if found else text
        if day and not is_day(day):
            self.fault(row.number, name, f"{text} is no day: write it as 2026-01-31")
            return ""
        return day

    def _truth(self, row: Row, name: str, cells: Mapping[str, str]) -> bool | None:
        text = cells[name]
        found = _TRUTH.get(text.lower())
        if text and found is None:
            self.fault(row.number, name, f"must be {_SAID}")
        return found

    def _items(self, row: Row, cells: Mapping[str, str]) -> list[Item]:
        text, items = cells["item"], self.known.catalogue.items
        if text in items:
            return [items[text]]
        found = [one for one in items.values() if text in ("*", one.item_class)]
        if not found:
            found = [one for one in items.values() if text == one.name_zh]
            if len(found) > 1:
                codes = ", ".join(one.code for one in found)
                self.fault(row.number, "item", f"{text} is the name of {codes}: say the code")
        if text and not found:
            self.fault(row.number, "item", f"{text} is no item and no class of the catalogue")
        return found

    def _state(self, row: int, entry: Entry) -> None:
        """Adds an entry; the same one twice is told, two that disagree are a fault."""
        key = (*entry.family, entry.item)
        other = self.stated.get(key)
        if other is None:
            self.stated[key] = Stated(row, entry)
        elif other.entry.said != entry.said:
            self.fault(
                row,
                "passed" if other.entry.passed != entry.passed else "start",
                f"row {other.row} says something else of {entry.item} in the same round",
                "evaluation-contradicts",
            )
        elif (text := f"row {row} says the same as row {other.row}") not in self.notices:
            self.notices.append(text)


_WHAT = {
    "institution": ("institution", "institution"),
    "evaluator": ("evaluating body", "evaluations body"),
}


def _named(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Ids by id and by name."""
    found: dict[str, list[str]] = {}
    names: dict[str, list[str]] = {}
    for id, name in pairs:
        found[_folded(id)] = [id]
        if name:
            names.setdefault(_folded(name), []).append(id)
    return names | found


def _folded(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split()).lower()


def _find_header(sheet: Sheet) -> tuple[int, dict[str, int]]:
    """Number of the header's row, and the place of each column that the table has."""
    names = {_folded(name): column for column, name in _headers()}
    best: tuple[int, dict[str, int]] = (0, {})
    for row in sheet.rows[:_HEADER_WITHIN]:
        columns: dict[str, int] = {}
        for place, cell in enumerate(row.cells):
            column = names.get(_folded(cell.text))
            if column is not None:
                if column in columns:
                    sentence = f"two columns are {column}: keep one"
                    issue = sheet.issue("evaluation-columns", sentence, row.number, place)
                    raise Unprocessable(issues=(issue,))
                columns[column] = place
        if len(columns) > len(best[1]):
            best = row.number, columns
    missing = [name for name in REQUIRED if name not in best[1]]
    if missing:
        sentence = (
            f"{sheet.where()}: no column for {', '.join(missing)}; a table has the columns "
            f"{', '.join(COLUMNS)}, or their Chinese names (docs/evaluations.md)"
        )
        raise Unprocessable(sentence, rule="evaluation-columns")
    return best


def _headers() -> Iterator[tuple[str, str]]:
    for column, others in COLUMNS.items():
        yield column, column
        for other in others:
            yield column, other
