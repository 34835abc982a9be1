"""The parameters that criteria take from a rule set, one frozen value for each kind.

The defaults are part of the criterion's version. `recognition.rules` refuses a rule set that names
a parameter or a type that is not here.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec


class NoParameters(msgspec.Struct, frozen=True):
    """A criterion that takes none."""


class Listed(msgspec.Struct, frozen=True):
    """`classes`: only items of these classes (empty: all); `negative`: items taken out."""

    classes: frozenset[str] = frozenset()
    negative: frozenset[str] = frozenset()


class ReportStates(msgspec.Struct, frozen=True):
    """Status codes that count as final, and those that make a result void."""

    final: frozenset[str] = frozenset({"final", "amended", "corrected", "appended"})
    void: frozenset[str] = frozenset({"entered-in-error", "cancelled"})
    report_required: bool = False


class WindowRule(msgspec.Struct, frozen=True):
    """Length in days by item, else the catalogue's; counted from `clinical` time or `issued`."""

    start: Literal["clinical", "issued"] = "clinical"
    override: dict[str, Annotated[int, msgspec.Meta(ge=0, le=36_500)]] = {}
    override_source: str = "rule-set"
    use_catalogue: bool = True


class Interchangeable(msgspec.Struct, frozen=True):
    """Specimen classes that may stand for each other when the catalogue entry names both."""

    interchangeable: frozenset[str] = frozenset()


class MethodItems(msgspec.Struct, frozen=True):
    """Items whose method must be stated and be the same."""

    items: frozenset[str] = frozenset()


class AlwaysRepeat(msgspec.Struct, frozen=True):
    """For a patient context, the items that are done anew whatever is on record."""

    repeat: dict[str, frozenset[str]] = {}
    ground: str = "N3"


class PatientContext(msgspec.Struct, frozen=True):
    """For a patient context, the lawful ground that it points to."""

    lower: dict[str, str] = {}


class PrintedMark(msgspec.Struct, frozen=True):
    """Whether a mark must be printed on the report; otherwise it is only compared."""

    printed_mark_required: bool = False


class DefaultView(msgspec.Struct, frozen=True):
    """Items that are reminded of although the catalogue says view-only."""

    remind: frozenset[str] = frozenset()


class PublishedSources(msgspec.Struct, frozen=True):
    """Beginnings of a window's source that count as published by an authority."""

    prefixes: tuple[str, ...] = ("published:",)
