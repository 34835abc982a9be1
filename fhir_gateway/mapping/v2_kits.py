"""What is read of an OBX beside its value, remembered: the next report says the same of an item.

Code, status, unit, range, flags and method of a result come again, letter by letter, with every
report of a laboratory. A kit holds what those fields gave. It is known by all that this depends
on: the fields as they were sent, the signs and the character set of the message, the institution
(whose own code system a code without one is of), and the very tables that were asked, so that a
table which is read anew gives new kits. Who explains a mapping hears every look into a table, so
then nothing is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeVar

from fhir_gateway.mapping.tables import Table, is_heard
from fhir_gateway.mapping.v2 import Segment
from fhir_gateway.mapping.v2_draft import Draft

T = TypeVar("T")

#: The parts of one kit by name, each made when it is first asked for.
Kit = dict[Hashable, Any]

#: The tables of mappings/v2 that parts of a kit are read by, with their fourth columns.
_TABLES = (
    ("observation-status", "effect"), ("coding-systems", ""), ("units", ""),
    ("abnormal-flags", ""), ("report-parts", ""),
)  # fmt: skip

#: Combinations of institution, signs and tables; kits of each; longest fields that are remembered.
_MOST_KINDS, _MOST, _LONGEST = 256, 4_096, 400


class _Kits(NamedTuple):
    """The kits of one kind. Holding the tables keeps their identity from being another's."""

    tables: tuple[Table, ...]
    kits: dict[tuple[Any, ...], Kit]


_kinds: dict[tuple[Any, ...], _Kits] = {}


def kit_of(draft: Draft, obx: Segment) -> Kit:
    """The kit of an OBX: an empty one for what was not met before."""
    if draft.kit is not None and draft.kit[0] is obx:
        return draft.kit[1]
    kit = _found(draft, obx)
    draft.kit = obx, kit
    return kit


def _found(draft: Draft, obx: Segment) -> Kit:
    fields = obx.fields
    said = (*fields[2:5], *fields[6:9], *fields[11:12], *fields[17:19])
    key = len(fields), said  # the number of fields says which are not there
    kits = draft.kits
    if kits is None or draft.kits_of is not obx.delimiters:
        kits = draft.kits = _kits(draft, obx)
        draft.kits_of = obx.delimiters
    kit = kits.get(key)
    if kit is None:
        kit = {}
        if sum(map(len, said)) <= _LONGEST:
            if len(kits) >= _MOST:
                kits.clear()
            kits[key] = kit
    return kit


def part(kit: Kit, name: Hashable, make: Callable[..., T], *of: Any) -> T:
    """A part of a kit. What is no good raises each time, as it would without a kit."""
    if name in kit:
        found: T = kit[name]
        return found
    made = kit[name] = make(*of)
    return made


def _kits(draft: Draft, obx: Segment) -> dict[tuple[Any, ...], Kit]:
    if is_heard():
        return _Forgetful()
    tables = tuple(draft.rows(name, extra) for name, extra in _TABLES)
    key = (draft.institution.id, draft.folder, obx.delimiters, obx.codec, *map(id, tables))
    found = _kinds.get(key)
    if found is None:
        if len(_kinds) >= _MOST_KINDS:
            _kinds.clear()
        found = _kinds[key] = _Kits(tables, {})
    return found.kits


class _Forgetful(dict[tuple[Any, ...], Kit]):
    """Kits that are made anew each time."""

    def __setitem__(self, key: tuple[Any, ...], kit: Kit) -> None:
        """Keeps nothing."""
