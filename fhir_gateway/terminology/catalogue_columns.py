"""Which column of a list is what: names that official lists use, and a mapping that a person gives.

The header is the first row, within the first rows of a sheet, in which the name of the item is
known. Blanks, line breaks, width and remarks in brackets make no difference to a header.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from fhir_gateway.errors import Issue, Unprocessable
from fhir_gateway.terminology.catalogue import Kind
from fhir_gateway.terminology.sheet import Row, Sheet, letter

#: Rows of a sheet in which the header is looked for: a title and a remark may stand before it.
_HEADER_WITHIN = 20

_COMMON: Mapping[str, str] = {
    "code": "编码 代码 项目编码 项目代码 互认项目编码 互认项目代码 目录编码 项目编号 code",
    "name_zh": (
        "名称 项目名称 中文名称 项目中文名称 检验项目 检验项目名称 检查项目 检查项目名称 "
        "互认项目 互认项目名称 项目 name name_zh"
    ),
    "name_en": "英文名称 英文名 项目英文名称 englishname name_en",
    "item_class": "类别 分类 专业 专业类别 专业分类 项目类别 项目分类 学科 class category",
    "loinc": "loinc loinc编码 loinc代码 loinc码 loinccode",
    "loinc_relation": "loinc关系 loinc_relation",
    "validity_days": (
        "互认时限 互认期限 互认时间 互认周期 互认有效期 时限 有效期 参考时限 "
        "window validity validity_days"
    ),
    "validity_source": "时限来源 validity_source",
    "item": "参考目录编码 参考目录代码 对应参考目录 目录项目 item catalogue_item",
    "retired": "停用日期 retired",
}
_OF_KIND: Mapping[Kind, Mapping[str, str]] = {
    "lab": {
        "abbreviation": "缩写 英文缩写 简称 abbreviation",
        "specimen": "标本 标本类型 标本种类 样本 样本类型 specimen sample",
        "scale": "结果类型 scale",
        "ucum_unit": "单位 计量单位 结果单位 unit ucum_unit",
    },
    "imaging": {
        "modality": "检查类型 设备类型 检查方式 检查类别 检查设备 模态 modality",
        "body_part_zh": "部位 检查部位 bodypart body_part_zh",
        "body_part_dicom": "dicom部位 body_part_dicom",
        "laterality": "侧别 方位侧 side laterality",
        "contrast": "增强方式 扫描方式 增强 对比剂 contrast",
        "default_recognition": "提示方式 default_recognition",
    },
}
#: What a list must have for every item.
REQUIRED = ("code", "name_zh")

_BRACKETS = re.compile(r"\(.*?\)|\[.*?\]")


class Header(NamedTuple):
    """Where the columns of a sheet are. `first` is the position of the first row below it."""

    columns: Mapping[str, int]
    names: tuple[str, ...]
    first: int

    def name(self, column: int) -> str:
        """The header of a column as it stands in the file."""
        return self.names[column] if column < len(self.names) else ""

    def shown(self) -> list[str]:
        """How the columns were understood, for a person to check."""
        lines = [
            f"{field}: column {letter(column)} {self.name(column)}"
            for field, column in sorted(self.columns.items(), key=lambda pair: pair[1])
        ]
        used = set(self.columns.values())
        unread = [name for n, name in enumerate(self.names) if name and n not in used]
        return [*lines, *([f"not read: {', '.join(unread)}"] if unread else [])]


def fields_of(kind: Kind) -> list[str]:
    """The columns that a list of this kind may have."""
    return [*_COMMON, *_OF_KIND[kind]]


def find_header(
    sheet: Sheet, kind: Kind, given: Mapping[str, str] = MappingProxyType({})
) -> Header:
    """The header of a sheet; `given` maps our columns to headers of the file.

    Raises Unprocessable with every fault: no header, a header that is not there, two columns that
    could be the same one, a column that a list must have.
    """
    unknown = [field for field in given if field not in fields_of(kind)]
    if unknown:
        known = ", ".join(fields_of(kind))
        raise Unprocessable(
            f"{', '.join(unknown)}: no column of a list of {kind} items; they are {known}",
            rule="list-column",
        )
    aliases = _aliases(kind)
    for position, row in enumerate(sheet.rows[:_HEADER_WITHIN]):
        names = tuple(cell.text for cell in row.cells)
        if _is_header(names, aliases, given):
            return _header(sheet, row, names, position, aliases, given)
    first = sheet.rows[0] if sheet.rows else None
    seen = ", ".join(cell.text for cell in first.cells if cell.text) if first else ""
    raise Unprocessable(
        issues=(
            sheet.issue(
                "list-header",
                "there is no row of column names with a name of the item. Say which they are: "
                f"--map name_zh=… --map code=…; the first row reads: {seen[:200] or 'nothing'}",
            ),
        )
    )


def _aliases(kind: Kind) -> dict[str, str]:
    named = {**_COMMON, **_OF_KIND[kind]}
    found = {fold_header(name): field for field, names in named.items() for name in names.split()}
    return found | {fold_header(field): field for field in named}


def fold_header(text: str) -> str:
    """A header without what makes no difference."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return "".join(_BRACKETS.sub("", text).split()).strip(":*：")


def _is_header(names: Sequence[str], aliases: Mapping[str, str], given: Mapping[str, str]) -> bool:
    folded = {fold_header(name) for name in names if name}
    if "name_zh" in given:
        return fold_header(given["name_zh"]) in folded
    known = {aliases[name] for name in folded if name in aliases}
    return "name_zh" in known and len(known) + len(given) > 1


def _header(
    sheet: Sheet,
    row: Row,
    names: tuple[str, ...],
    position: int,
    aliases: Mapping[str, str],
    given: Mapping[str, str],
) -> Header:
    places = _places(names, aliases, given)
    issues: list[Issue] = []
    has = ", ".join(one for one in names if one)
    for field, name in given.items():
        if field not in places:
            sentence = f"there is no column {name}: {has}"
            issues.append(sheet.issue("list-column", sentence, row.number))
    for field, found in places.items():
        if len(found) > 1 and not all(row.cell(one).merged for one in found[1:]):
            named = " and ".join(f"{letter(one)} {names[one]}" for one in found)
            sentence = f"{named} could both be {field}: say --map {field}=… or rename one"
            issues.append(sheet.issue("list-column", sentence, row.number))
    for field in REQUIRED:
        if field not in places and field not in given:
            issues.append(sheet.issue("list-column", _missing(field), row.number))
    if issues:
        raise Unprocessable(issues=tuple(issues))
    columns = {field: found[0] for field, found in places.items()}
    below = position + 1
    while below < len(sheet.rows) and sheet.rows[below].cell(columns["name_zh"]).merged:
        below += 1  # a header over several rows
    return Header(MappingProxyType(columns), names, below)


def _places(
    names: Sequence[str], aliases: Mapping[str, str], given: Mapping[str, str]
) -> dict[str, list[int]]:
    """The columns that could be each of ours; what a person says goes before what is usual."""
    spoken = {fold_header(name): field for field, name in given.items()}
    places: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        folded = fold_header(name)
        field = spoken.get(folded) or aliases.get(folded)
        if field and (folded in spoken or field not in given):
            places.setdefault(field, []).append(column)
    return places


def _missing(field: str) -> str:
    if field == "code":
        return (
            "there is no column of codes. A list needs codes that stay the same from edition to "
            "edition; running numbers (序号) are codes only when they do: --map code=序号"
        )
    return f"there is no column {field}: say which it is with --map {field}=…"
