"""What is different between two editions, in words that a committee reads.

`compare` gives the changes as rows, `sentence` says one of them in Chinese or in English. A change
of meaning is told as what it is: such an edition would be refused.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from fhir_gateway.terminology.catalogue import Item
from fhir_gateway.terminology.catalogue_meaning import (
    COLUMNS,
    Difference,
    differences,
    other_meaning,
)
from fhir_gateway.terminology.edition import Edition
from fhir_gateway.terminology.sheet_text import guarded
from fhir_gateway.terminology.unit import compare_units

Language = Literal["zh", "en"]
Sort = Literal["meaning", "retired", "added", "reinstated", "renamed", "window", "unit", "other"]


class Change(NamedTuple):
    """One thing that is different. `column` is "" for an item as a whole.

    `comparable` says of another unit whether numbers can be set beside each other: None not known.
    """

    sort: Sort
    code: str
    name: str
    column: str = ""
    old: str = ""
    new: str = ""
    comparable: bool | None = None


#: Order and headings of the parts of a report.
SORTS: Mapping[Sort, tuple[str, str]] = {
    "meaning": ("代码改变含义（不予接收）", "Codes with another meaning (refused)"),
    "retired": ("停用", "Retired"),
    "added": ("新增", "Added"),
    "reinstated": ("恢复", "Reinstated"),
    "renamed": ("更名", "Renamed"),
    "window": ("互认时限变更", "Windows changed"),
    "unit": ("单位变更", "Units changed"),
    "other": ("其他变更", "Other changes"),
}


def compare(old: Edition, new: Edition, confirmed: Collection[str] = ()) -> list[Change]:
    """Every change from the old edition to the new one, sorted as a report shows them.

    `confirmed` are codes of which a person said that only the name is another; of an edition that
    is stored somebody did.
    """
    sure = frozenset(new.items) if new.stored else frozenset(confirmed)
    changes: list[Change] = []
    for code, item in new.items.items():
        before = old.items.get(code) or old.retired.get(code)
        if before is None:
            changes.append(Change("added", code, item.name_zh or item.name_en))
            continue
        if code not in old.items:
            changes.append(Change("reinstated", code, item.name_zh or item.name_en))
        changes += _changed(before, item, sure=code in sure)
    changes += [
        Change("retired", code, item.name_zh or item.name_en)
        for code, item in old.items.items()
        if code not in new.items
    ]
    order = list(SORTS)
    return sorted(changes, key=lambda one: order.index(one.sort))


def _changed(old: Item, new: Item, *, sure: bool) -> Iterator[Change]:
    refused = {one.column for one in other_meaning(old, new)} - ({"name_zh"} if sure else set())
    name = new.name_zh or new.name_en
    for one in differences(old, new):
        if one.column == "validity_source" and not (one.old and one.new):
            continue  # follows from whether there is a window at all
        sort = "meaning" if one.column in refused else _SORT_OF.get(one.column, "other")
        comparable = None
        if one.column == "ucum_unit":
            comparable = compare_units(one.old, one.new)
        yield Change(sort, new.code, name, *one, comparable)


_SORT_OF: Mapping[str, Sort] = {
    "name_zh": "renamed",
    "validity_days": "window",
    "ucum_unit": "unit",
}


# -- in words --------------------------------------------------------------------------------------


def sentence(change: Change, language: Language) -> str:
    """One change as a sentence."""
    column = COLUMNS[change.column][language == "en"] if change.column else ""
    which = f"{change.code} {change.name}"
    return _WORDS[change.sort](which, column, change, language)


def _window(days: str, language: Language) -> str:
    if days in ("", "0"):
        return "未规定" if language == "zh" else "none"
    return f"{days}天" if language == "zh" else f"{days} days"


def _quoted(text: str, language: Language) -> str:
    if not text:
        return "空" if language == "zh" else "nothing"
    return f"“{text}”"


_COMPARABLE: Mapping[Language, Mapping[bool | None, str]] = {
    "zh": {
        True: "数值可直接比较",
        False: "警告：数值不可直接比较，旧结果不会按新单位提示",
        None: "警告：两单位能否比较未知，请核对",
    },
    "en": {
        True: "the numbers can be compared",
        False: "warning: the numbers cannot be compared, old results are not reminded of",
        None: "warning: whether they can be compared is not known, please check",
    },
}  # fmt: skip


def _from_to(which: str, column: str, one: Change, language: Language) -> str:
    old, new = _quoted(one.old, language), _quoted(one.new, language)
    if language == "zh":
        return f"{which}：{column}由{old}改为{new}"
    return f"{which}: {column} changed from {old} to {new}"


def _meaning(which: str, column: str, one: Change, language: Language) -> str:
    said = _from_to(which, column, one, language)
    only_name = one.column == "name_zh"
    if language == "zh":
        hint = "；若仅名称变更，导入时请以--same-meaning确认" if only_name else ""
        return f"{said}，已用代码不得改作他用，请为新项目另编代码{hint}"
    hint = ", or confirm with --same-meaning that only the name is another" if only_name else ""
    return f"{said}; a code that was used keeps its meaning, give the new item its own{hint}"


def _window_words(which: str, column: str, one: Change, language: Language) -> str:
    old, new = _window(one.old, language), _window(one.new, language)
    if language == "zh":
        return f"{which}：{column}由{old}改为{new}"
    return f"{which}: {column} changed from {old} to {new}"


def _unit(which: str, column: str, one: Change, language: Language) -> str:
    said, remark = _from_to(which, column, one, language), _COMPARABLE[language][one.comparable]
    return f"{said}（{remark}）" if language == "zh" else f"{said} ({remark})"


def _whole(zh: str, en: str) -> Callable[[str, str, Change, Language], str]:
    def words(which: str, column: str, one: Change, language: Language) -> str:
        return f"{which}：{zh}" if language == "zh" else f"{which}: {en}"

    return words


_WORDS: Mapping[Sort, Callable[[str, str, Change, Language], str]] = {
    "meaning": _meaning,
    "retired": _whole("停用，代码保留，不再分配", "retired; its code is kept and not reused"),
    "added": _whole("新增", "added"),
    "reinstated": _whole("恢复使用", "on the list again"),
    "renamed": _from_to,
    "window": _window_words,
    "unit": _unit,
    "other": _from_to,
}


def report(changes: Sequence[Change], language: Language) -> str:
    """The changes as a text with a heading for each sort, and counts."""
    if not changes:
        return "两版内容相同\n" if language == "zh" else "The editions say the same\n"
    lines = []
    for sort, headings in SORTS.items():
        found = [one for one in changes if one.sort == sort]
        if found:
            count = f"（{len(found)}）" if language == "zh" else f" ({len(found)})"
            lines.append(headings[language == "en"] + count)
            lines += [f"  {sentence(one, language)}" for one in found]
    return "\n".join(lines) + "\n"


def as_rows(changes: Sequence[Change], language: Language) -> list[dict[str, str]]:
    """The changes as rows for a table or for JSON, each with its sentence."""
    return [
        {
            "change": one.sort,
            "code": one.code,
            "name": one.name,
            "column": one.column,
            "old": one.old,
            "new": one.new,
            "says": sentence(one, language),
        }
        for one in changes
    ]


def as_csv(changes: Sequence[Change], language: Language) -> str:
    """The changes as CSV with a header row, safe to open in a spreadsheet."""
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(("change", "code", "name", "column", "old", "new", "says"))
    for row in as_rows(changes, language):
        table.writerow([guarded(text) for text in row.values()])
    return written.getvalue()


def told(one: Difference, language: Language = "en") -> str:
    """A difference of one column, for the message of a refusal."""
    column = COLUMNS[one.column][language == "en"]
    return f"{column} was {_quoted(one.old, language)} and would be {_quoted(one.new, language)}"
