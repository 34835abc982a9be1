"""Rows of an official list, read into items; every fault by row and column, all at once.

What a list leaves open stays open: a missing specimen, unit or window is "" here and no guess.
What it says in words that recognition needs in others (1个月, 平扫+增强, MRI) is read by small
tables, and a word outside them is a fault that names the words that are known.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from fhir_gateway.errors import Issue, Unprocessable
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import GROUP, Item, Kind, is_date, is_group
from fhir_gateway.terminology.catalogue_columns import Header
from fhir_gateway.terminology.catalogue_diff import told
from fhir_gateway.terminology.catalogue_meaning import folded
from fhir_gateway.terminology.edition import Edition, reused
from fhir_gateway.terminology.sheet import Row, Sheet
from fhir_gateway.terminology.unit import canonical_unit

#: FHIR's code without blanks, of a length that fits every index.
_CODE = re.compile(r"[^\s|]{1,40}")
_LOINC = re.compile(r"\d{1,7}-\d")
_DAYS = re.compile(
    r"(\d{1,5})(天|日|d|days?|小时|h|hours?|周|星期|weeks?|个?月|months?|年|years?)?"
)
_NOTE = re.compile(r"(注|备注|说明|附注|填表说明|note)", re.IGNORECASE)
_NO_WINDOW = frozenset({"", "-", "/", "无", "不限", "—", "–", "不规定", "按病情"})

#: Length in days of the units in which windows are written.
_LENGTH = {
    "天": 1, "日": 1, "d": 1, "day": 1, "days": 1, "周": 7, "星期": 7, "week": 7, "weeks": 7,
    "个月": 30, "月": 30, "month": 30, "months": 30, "年": 365, "year": 365, "years": 365,
}  # fmt: skip
_HOURS = frozenset({"小时", "h", "hour", "hours"})
_CALENDAR = frozenset({"个月", "月", "month", "months", "年", "year", "years"})

#: Words of a column -> ours.
_WORDS: Mapping[str, Mapping[str, str]] = {
    "contrast": {
        "none": "none", "平扫": "none", "无": "none", "否": "none", "普通": "none",
        "with": "with", "增强": "with", "强化": "with", "造影": "with", "是": "with",
        "without-with": "without-with", "平扫+增强": "without-with", "平扫及增强": "without-with",
        "平扫加增强": "without-with", "平扫、增强": "without-with",
    },
    "laterality": {
        "unpaired": "unpaired", "无": "unpaired", "不分": "unpaired", "不区分": "unpaired",
        "b": "B", "双侧": "B", "双": "B", "r/l": "R/L", "单侧": "R/L", "左/右": "R/L",
        "r/l/b": "R/L/B", "单侧或双侧": "R/L/B", "左/右/双": "R/L/B",
    },
    "modality": {
        "ct": "CT", "mr": "MR", "mri": "MR", "磁共振": "MR", "核磁": "MR", "核磁共振": "MR",
        "dx": "DX", "dr": "DX", "cr": "DX", "x线": "DX", "x光": "DX", "x线摄影": "DX", "普放": "DX",
        "us": "US", "超声": "US", "彩超": "US", "b超": "US",
        "nm": "NM", "核医学": "NM", "spect": "NM", "ect": "NM", "pt": "PT", "pet": "PT",
        "pet/ct": "PT", "pet-ct": "PT", "rf": "RF", "造影": "RF", "消化道造影": "RF",
        "mg": "MG", "钼靶": "MG", "乳腺钼靶": "MG", "bmd": "BMD", "骨密度": "BMD", "px": "PX",
        "全景片": "PX",
    },
    "scale": {
        "quantitative": "quantitative", "定量": "quantitative", "ordinal": "ordinal",
        "半定量": "ordinal", "等级": "ordinal", "qualitative": "qualitative", "定性": "qualitative",
    },
    "loinc_relation": {"exact": "exact", "broader": "broader", "none": "none"},
    "default_recognition": {
        "remind": "remind", "提示": "remind", "view-only": "view-only", "仅供参考": "view-only",
        "仅查看": "view-only",
    },
}  # fmt: skip


class Entry(NamedTuple):
    """One item of a list, the row it stands in, and the catalogue codes that it joins it to."""

    item: Item
    row: int
    joined: tuple[str, ...]


@dataclass(slots=True)
class Reading:
    """A sheet being read: entries, faults, and what a person should look at.

    `codes` are all codes and the first row of each, those of rows with faults too.
    """

    sheet: Sheet
    header: Header
    entries: list[Entry] = field(default_factory=list)
    codes: dict[str, int] = field(default_factory=dict)
    issues: list[Issue] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def fault(self, row: Row, name: str, sentence: str, rule: str) -> None:
        """Notes a fault of a cell; a column that is not there is told by its name alone."""
        column = self.header.columns.get(name)
        header = self.header.name(column) if column is not None else ""
        self.issues.append(self.sheet.issue(rule, sentence, row.number, column, header))

    def check(self) -> None:
        """Raises Unprocessable with every fault."""
        if self.issues:
            raise Unprocessable(issues=tuple(self.issues))


def read_entries(sheet: Sheet, header: Header, kind: Kind, *, name: str, edition: str) -> Reading:
    """Every item of the sheet; faults are kept in the Reading, for `check` to raise at once.

    `name` is that of the list, which owns the codes and is the source of its windows.
    """
    reading = Reading(sheet, header, notices=list(sheet.notices))
    for row in sheet.rows[header.first :]:
        if _is_remark(row, header):
            text = next(cell.text for cell in row.cells if cell.text)
            reading.notices.append(
                f"{sheet.where(row.number)} is a remark and left out: {text[:60]}"
            )
            continue
        entry = _entry(reading, row, kind, name, edition)
        if entry is not None:
            reading.entries.append(entry)
    _check_names(reading)
    _relate_loinc(reading)
    if not reading.entries and not reading.issues:
        reading.issues.append(sheet.issue("list-empty", "there is no item below the column names"))
    return reading


def _is_remark(row: Row, header: Header) -> bool:
    """A title between rows, or a note below them: one text alone, perhaps over merged cells."""
    texts = [cell for cell in row.cells if cell.text]
    own = [cell for cell in texts if not cell.merged]
    if len(own) != 1:
        return False
    if _NOTE.match(own[0].text):
        return True
    same = sum(1 for cell in texts if cell.merged and cell.text == own[0].text)
    return same >= max(1, len(header.columns) - 1)


def _entry(reading: Reading, row: Row, kind: Kind, name: str, edition: str) -> Entry | None:
    before = len(reading.issues)
    cells = {column: _text(reading, row, column) for column in reading.header.columns}
    if len(reading.issues) == before:
        _check_identity(reading, row, cells)
    texts = {
        column: text
        for column, text in cells.items()
        if column not in ("item", "validity_days", "validity_source", "ucum_unit", *_WORDS)
    }
    for column in _WORDS.keys() & cells.keys():
        texts[column] = _word(reading, row, column, cells[column])
    if "ucum_unit" in cells:
        texts["ucum_unit"] = _unit(reading, row, cells["ucum_unit"])
    days = _days(reading, row, cells.get("validity_days", ""))
    if len(reading.issues) > before:
        return None
    fields: dict[str, Any] = {column: text for column, text in texts.items() if text}
    source = cells.get("validity_source") or (f"published:{name}" if days else "")
    item = Item(
        kind=kind,
        edition=edition,
        list_system=f"{CANONICAL}/CodeSystem/{name}",
        validity_days=days,
        validity_source=source,
        **{"name_en": "", **fields},
    )
    codes = (part.strip() for part in re.split("[;；]", cells.get("item", "")))
    return Entry(item, row.number, tuple(dict.fromkeys(code for code in codes if code)))


def _text(reading: Reading, row: Row, name: str) -> str:
    """The text of a cell; a cell that cannot be trusted is a fault."""
    cell = row.cell(reading.header.columns[name])
    if name == "retired" and is_date(cell.text):
        return cell.text
    if cell.wrong:
        reading.fault(row, name, cell.wrong, "list-cell")
        return ""
    if cell.merged and name in ("code", "name_zh"):
        sentence = "is merged with another row: every item needs a code and a name of its own"
        reading.fault(row, name, sentence, "list-merged")
        return ""
    return unicodedata.normalize("NFC", cell.text)


def _check_identity(reading: Reading, row: Row, cells: Mapping[str, str]) -> None:
    """Code and name of an item, and what else has to have a certain form."""
    code = cells["code"]
    first = reading.codes.setdefault(code, row.number) if code else row.number
    if first != row.number:
        sentence = f"the code {code} stands in row {first} already"
        reading.fault(row, "code", sentence, "list-twice")
    if not cells["name_zh"]:
        reading.fault(row, "name_zh", "the item has no name", "list-name")
    if not code:
        reading.fault(row, "code", "the item has no code", "list-code")
    elif not _CODE.fullmatch(code) or is_group(code):
        sentence = f"a code has up to 40 characters without blanks and |, and no {GROUP} in front"
        reading.fault(row, "code", sentence, "list-code")
    if cells.get("loinc") and not _LOINC.fullmatch(cells["loinc"]):
        reading.fault(row, "loinc", f"{cells['loinc'][:20]} is no LOINC code", "list-loinc")
    if cells.get("retired") and not is_date(cells["retired"]):
        reading.fault(row, "retired", "must be a day, as 2026-11-01", "list-date")


def _word(reading: Reading, row: Row, name: str, text: str) -> str:
    """Our word for what a cell says; a kind of examination that we have no word for stays."""
    words = _WORDS[name]
    key = unicodedata.normalize("NFKC", "".join(text.split())).casefold()
    if not key or key in words:
        return words.get(key, "")
    if name == "modality":
        return text
    reading.fault(row, name, f"{text} is not known; known are {', '.join(words)}", "list-word")
    return ""


def _unit(reading: Reading, row: Row, text: str) -> str:
    unit = canonical_unit(text)
    if text and not unit:
        where = reading.sheet.where(row.number, reading.header.columns["ucum_unit"])
        reading.notices.append(f"{where}: the unit {text} is not known and compares with nothing")
    return unit or text


def _days(reading: Reading, row: Row, text: str) -> int:
    """A window in days; 0 where the list gives none."""
    key = unicodedata.normalize("NFKC", "".join(text.split())).casefold()
    if key in _NO_WINDOW:
        return 0
    match = _DAYS.fullmatch(key)
    if match is None:
        sentence = f"{text} is no window: write days, as 7 or 30天"
        reading.fault(row, "validity_days", sentence, "list-window")
        return 0
    number, unit = int(match[1]), match[2] or "天"
    if unit in _HOURS:
        if number % 24:
            sentence = f"{text} is no whole number of days: windows are counted in days"
            reading.fault(row, "validity_days", sentence, "list-window")
            return 0
        number, unit = number // 24, "天"
    days = number * _LENGTH[unit]
    if not 0 < days <= 3_650:
        reading.fault(row, "validity_days", f"{text} is no window", "list-window")
        return 0
    if unit in _CALENDAR:
        where = reading.sheet.where(row.number, reading.header.columns["validity_days"])
        reading.notices.append(f"{where}: {text} was read as {days} days")
    return days


# -- the list as a whole ---------------------------------------------------------------------------


def _check_names(reading: Reading) -> None:
    """The same name under two codes may be meant (two specimens), so it is told and no fault."""
    seen: dict[tuple[str, ...], Entry] = {}
    for entry in reading.entries:
        item = entry.item
        key = (folded(item.name_zh), item.specimen, item.modality, item.contrast, item.laterality)
        first = seen.setdefault(key, entry)
        if first is not entry:
            reading.notices.append(
                f"{reading.sheet.where(entry.row)}: {item.name_zh} stands in row {first.row} with "
                f"the code {first.item.code} too"
            )


def _relate_loinc(reading: Reading) -> None:
    """Without a column that says so, a LOINC code is exact where the list has it once."""
    if "loinc_relation" in reading.header.columns:
        return
    codes: Sequence[str] = [entry.item.loinc for entry in reading.entries]
    reading.entries = [
        entry._replace(item=replace(entry.item, loinc_relation=_relation(entry.item.loinc, codes)))
        for entry in reading.entries
    ]


def _relation(code: str, codes: Sequence[str]) -> str:
    if not code:
        return "none"
    return "exact" if codes.count(code) == 1 else "broader"


def check_meaning(
    reading: Reading, editions: Sequence[Edition], effective: str, confirmed: Sequence[str]
) -> None:
    """Adds a fault by row and column for every code that had another meaning in the list.

    `confirmed` are codes of which a person said that only the name is another.
    """
    rows = {entry.item.code: entry.row for entry in reading.entries}
    by_number = {row.number: row for row in reading.sheet.rows}
    for one in reused((entry.item for entry in reading.entries), editions, effective, confirmed):
        for difference in one.differences:
            hint = (
                f", or say --same-meaning {one.code} when only the name is another"
                if difference.column == "name_zh"
                else ""
            )
            sentence = (
                f"{one.code}: {told(difference)}. Edition {one.edition} gave the code its meaning, "
                f"which it keeps: give the new item a code of its own{hint}"
            )
            reading.fault(by_number[rows[one.code]], difference.column, sentence, "list-meaning")
    for code in confirmed:
        if code not in reading.codes:
            sentence = f"--same-meaning {code}: the list has no such code"
            reading.issues.append(reading.sheet.issue("list-code", sentence))
