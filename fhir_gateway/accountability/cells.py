"""Texts as cells of a table that people open: no formula, no control character (fault 29)."""

from __future__ import annotations

from fhir_gateway.terminology.sheet_text import guarded


def cell(text: str) -> str:
    """The text as no spreadsheet takes for a formula, without what steers a terminal or ends a
    line."""
    if not text.isprintable():
        text = "".join(one if one.isprintable() else " " for one in text)
    return guarded(text) if text else text
