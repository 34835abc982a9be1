"""A list for people and for other systems: CSV, XLSX, FHIR package.

The CSV is what `catalogue import` reads: written again after an import it is the same to the byte.
The same edition always gives the same bytes, in every form.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from openpyxl import Workbook
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.utils import get_column_letter

from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import Item, Kind
from fhir_gateway.terminology.catalogue_join import Joins
from fhir_gateway.terminology.edition import Edition
from fhir_gateway.terminology.package import fhir_package
from fhir_gateway.terminology.sheet_text import guarded

_COLUMNS: Mapping[Kind, tuple[str, ...]] = {
    "lab": (
        "code", "name_zh", "name_en", "abbreviation", "class", "specimen", "scale", "ucum_unit",
        "loinc", "loinc_relation", "validity_days", "validity_source", "item", "retired",
    ),
    "imaging": (
        "code", "name_zh", "name_en", "class", "modality", "body_part_zh", "body_part_dicom",
        "laterality", "contrast", "loinc", "loinc_relation", "validity_days", "validity_source",
        "default_recognition", "item", "retired",
    ),
}  # fmt: skip
#: Headers of the workbook, in words; each is one that `catalogue import` knows.
_HEADERS: Mapping[str, str] = {
    "code": "编码", "name_zh": "名称", "name_en": "英文名称", "abbreviation": "缩写",
    "class": "类别", "specimen": "标本", "scale": "结果类型", "ucum_unit": "单位",
    "loinc": "LOINC", "loinc_relation": "LOINC关系", "validity_days": "互认时限（天）",
    "validity_source": "时限来源", "item": "参考目录编码", "retired": "停用日期",
    "modality": "检查类型", "body_part_zh": "部位", "body_part_dicom": "DICOM部位",
    "laterality": "侧别", "contrast": "增强方式", "default_recognition": "提示方式",
}  # fmt: skip
_WIDTHS = {"name_zh": 32, "name_en": 42, "validity_source": 22, "specimen": 16, "class": 14}
#: No clock: a workbook of the same edition is the same bytes.
_NO_TIME = datetime(2000, 1, 1)


def columns_of(kind: Kind) -> Sequence[str]:
    """The columns in which a list of this kind is written."""
    return _COLUMNS[kind]


def as_csv(edition: Edition, joins: Joins) -> bytes:
    """The edition as CSV in UTF-8 with a byte order mark, which spreadsheets need for Chinese."""
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\r\n")
    table.writerow(_COLUMNS[edition.kind])
    for item in edition.all_items().values():
        table.writerow([guarded(text) for text in _texts(item, joins)])
    return b"\xef\xbb\xbf" + written.getvalue().encode()


def _texts(item: Item, joins: Joins) -> list[str]:
    return [_text(item, name, joins) for name in _COLUMNS[item.kind]]


def _text(item: Item, name: str, joins: Joins) -> str:
    if name == "item":
        return ";".join(joins.get(item.code, ()))
    if name == "class":
        return item.item_class
    if name == "validity_days":
        return str(item.validity_days) if item.validity_days else ""
    return str(getattr(item, name))


# -- XLSX ------------------------------------------------------------------------------------------


def as_xlsx(edition: Edition, joins: Joins) -> bytes:
    """The edition as a workbook for people: header that stays, filter, widths, text cells."""
    book = Workbook()
    sheet = book.active
    sheet.title = _sheet_name(edition)
    names = _COLUMNS[edition.kind]
    sheet.append([_HEADERS[name] for name in names])
    for item in edition.all_items().values():
        sheet.append([guarded(text) for text in _texts(item, joins)])
    _format(sheet, names)
    about = book.create_sheet("说明")
    for row in _about(edition):
        about.append([guarded(text) for text in row])
    about.column_dimensions["A"].width, about.column_dimensions["B"].width = 14, 100
    book.properties.created = book.properties.modified = _NO_TIME
    book.properties.creator = ""
    return _without_times(book)


def _sheet_name(edition: Edition) -> str:
    return re.sub(r"[\[\]:*?/\\]", "-", edition.id)[:31]


def _format(sheet: Any, names: Sequence[str]) -> None:
    sheet.freeze_panes = "C2"
    sheet.auto_filter.ref = sheet.dimensions
    for number, name in enumerate(names, 1):
        sheet.column_dimensions[get_column_letter(number)].width = _WIDTHS.get(name, 12)
        top = sheet.cell(1, number)
        top.font, top.fill = Font(bold=True), PatternFill("solid", fgColor="DDE7F0")
        top.alignment = Alignment(wrap_text=True, vertical="top")
    for row in sheet.iter_rows(min_row=2):
        for cell in row:
            cell.number_format = "@"  # text: nothing is made a date or loses its zeros
            cell.data_type = "s" if cell.value is not None else cell.data_type


def _about(edition: Edition) -> list[tuple[str, str]]:
    return [
        ("名称", edition.title or edition.name),
        ("版本", edition.edition),
        ("生效日期", edition.effective),
        ("终止日期", edition.until),
        ("发布者", edition.publisher),
        ("代码系统", edition.url),
        ("说明", edition.description),
        ("版权", edition.notice),
    ]


def _without_times(book: Workbook) -> bytes:
    """The workbook with fixed times in its zip and its properties."""
    made, fixed = io.BytesIO(), io.BytesIO()
    book.save(made)
    with zipfile.ZipFile(made) as old, zipfile.ZipFile(fixed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in sorted(old.namelist(), key=lambda name: (name != "[Content_Types].xml", name)):
            content = old.read(name)
            if name == "docProps/core.xml":
                content = _MODIFIED.sub(rb"\g<1>2000-01-01T00:00:00Z\g<2>", content)
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o600 << 16
            new.writestr(entry, content)
    return fixed.getvalue()


_MODIFIED = re.compile(rb"(<dcterms:(?:modified|created)[^>]*>)[^<]*(</dcterms)")


# -- FHIR package ----------------------------------------------------------------------------------


def as_package(
    resources: Sequence[Mapping[str, Any]],
    *,
    name: str,
    version: str,
    title: str,
    author: str,
    notices: Sequence[str],
) -> bytes:
    """CodeSystems, ValueSets and ConceptMaps as a FHIR package, with the notices they carry."""
    about = {
        "canonical": CANONICAL,
        "author": author,
        "description": f"{title}. See other/NOTICE.txt for what has to be said of its codes.",
    }
    return fhir_package(name, version, title, resources, about=about, notices=notices)


def package_version(date: str) -> str:
    """The day of an edition as a semantic version: 2026-11-01 is 2026.11.1."""
    return ".".join(str(int(part)) for part in date[:10].split("-"))
