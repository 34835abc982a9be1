"""What a code of a list means, and whether another row still means it.

A code that was once served stands in results for ever, so it is never given another meaning. What
it means is the analyte or examination: name, specimen, kind of examination, region, side, contrast
and LOINC code. A window, a unit, a discipline may change; a name may be spelled another way.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from fhir_gateway.terminology.catalogue import Item
from fhir_gateway.terminology.specimen import specimen_classes

#: Columns in their order, with how a committee calls them (zh, en).
COLUMNS: Mapping[str, tuple[str, str]] = {
    "name_zh": ("名称", "name"),
    "name_en": ("英文名称", "English name"),
    "abbreviation": ("缩写", "abbreviation"),
    "item_class": ("类别", "class"),
    "loinc": ("LOINC", "LOINC code"),
    "loinc_relation": ("LOINC关系", "relation to LOINC"),
    "specimen": ("标本", "specimen"),
    "scale": ("结果类型", "scale"),
    "ucum_unit": ("单位", "unit"),
    "modality": ("检查类型", "modality"),
    "body_part_zh": ("部位", "region"),
    "body_part_dicom": ("DICOM部位", "region (DICOM)"),
    "laterality": ("侧别", "side"),
    "contrast": ("增强方式", "contrast"),
    "validity_days": ("互认时限", "window"),
    "validity_source": ("时限来源", "source of the window"),
    "default_recognition": ("提示方式", "default recognition"),
}
#: Columns that say what the code means. English names and DICOM terms follow from them.
MEANING = frozenset(
    {"name_zh", "specimen", "modality", "body_part_zh", "laterality", "contrast", "loinc"}
)
#: Columns that decide something: within one edition they stay as they were served.
DECIDING = frozenset({"validity_days", "ucum_unit", "default_recognition", "item_class"})

_UNSPELLED = re.compile(r"[\s\-‐-―·•・_,，、;；:：.。/()（）\[\]【】{}<>《》\"'“”‘’]+")


class Difference(NamedTuple):
    """One column of a row that is not as it was."""

    column: str
    old: str
    new: str


def folded(name: str) -> str:
    """A name without what is only spelling: width, case, blanks, hyphens, brackets."""
    return _UNSPELLED.sub("", unicodedata.normalize("NFKC", name).casefold())


def differences(old: Item, new: Item) -> Iterator[Difference]:
    """Every column in which two rows of one code differ."""
    for column in COLUMNS:
        before, after = str(getattr(old, column)), str(getattr(new, column))
        if before != after:
            yield Difference(column, before, after)


def other_meaning(old: Item, new: Item) -> list[Difference]:
    """The columns by which the new row means another thing; empty when it means the same.

    A cell that was empty may be filled, and one that is left out says nothing new.
    """
    return [one for one in differences(old, new) if one.column in MEANING and _contradicts(one)]


def _contradicts(one: Difference) -> bool:
    if not one.old or not one.new:
        return False
    if one.column == "specimen":
        before, after = specimen_classes(one.old), specimen_classes(one.new)
        if before and after:
            return before != after
    return folded(one.old) != folded(one.new)
