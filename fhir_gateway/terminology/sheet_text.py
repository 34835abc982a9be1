"""Texts of cells that leave for a spreadsheet, and come back from one.

A cell that begins with = + - @ is a formula to a spreadsheet. On its way out such a text is given
an apostrophe, as spreadsheets do themselves; on its way in one apostrophe is taken off again.
"""

from __future__ import annotations

import re

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"'+[=+\-@\t\r]")


def guarded(text: str) -> str:
    """The text as no spreadsheet takes for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def unguarded(text: str) -> str:
    """The text that `guarded` was given."""
    return text[1:] if _GUARDED.match(text) else text
