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


# -- of later versions, and of criteria that came later ------------------------------------------

#: A number as a committee writes it: a percentage, or an amount in the catalogue's unit.
Amount = Annotated[str, msgspec.Meta(pattern=r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,8})?$")]


class CountedWindow(WindowRule, frozen=True):
    """A window of calendar `days`, day 0 being that of the start, or of n times 24 `hours`."""

    count: Literal["days", "hours"] = "days"


class IdentityRule(msgspec.Struct, frozen=True):
    """What is read into agreement and conflict of identity documents.

    `conflict`: the document under another name leaves it undecided, or refuses the result.
    `own_record`: without a document the receiver's own results of this very record count.
    """

    conflict: Literal["undecided", "refused"] = "undecided"
    own_record: bool = True


class AlwaysRepeatUnlessKnown(AlwaysRepeat, frozen=True):
    """`unless_known`: items that are done anew, too, where nobody says what the patient has."""

    unless_known: frozenset[str] = frozenset()


class ContrastRule(msgspec.Struct, frozen=True):
    """`stated`: the images or the report must say the contrast; else the item's own counts."""

    stated: bool = False


class RegionRule(msgspec.Struct, frozen=True):
    """For a body part of the catalogue (DICOM), other body parts that images of it may name."""

    same: dict[str, frozenset[str]] = {}


class RetrievableImages(msgspec.Struct, frozen=True):
    """The ground that images point to which cannot be fetched."""

    ground: str = "P8"


class WiderExaminations(msgspec.Struct, frozen=True):
    """For a wider examination, the narrower items that it answers for."""

    covers: dict[str, frozenset[str]] = {}


class ChangeLimits(msgspec.Struct, frozen=True):
    """By item, how far a newer value may be from an older one without lowering it.

    `percent` is of the older value, `absolute` in the catalogue's unit; where both stand the wider
    counts. Any newer value of an item without a limit lowers, unless it is the same. `source` says
    where the limits are from.
    """

    percent: dict[str, Amount] = {}
    absolute: dict[str, Amount] = {}
    source: str = ""
