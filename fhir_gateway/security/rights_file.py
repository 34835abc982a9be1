"""The files of the table of rights, read and judged: every fault is told, with its row.

`profiles/access/groups.csv` puts every resource type into one group; `profiles/access/rights.csv`
has one row for what is asked of which group, type, operation, door or relation, and one column for
each role. FHIR R4 security.html#authorization: the rules of access are the site's.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, get_args

from fhir_gateway.errors import Invalid, Issue
from fhir_gateway.fhir.home import HOME_RULES
from fhir_gateway.security.actor import Role

ROLES: tuple[str, ...] = get_args(Role)
RIGHTS, GROUPS = "rights.csv", "groups.csv"
REACHES = ("all", "own", "related", "self", "none")
READS = ("read", "vread", "history-instance", "history-type", "search-type")
WRITES = ("create", "update", "patch", "delete")

#: Names in the column `interaction` that stand for several.
SETS: Mapping[str, tuple[str, ...]] = {"reads": READS, "writes": WRITES}

#: What is no resource type: the base of the server, its doors, the kinds of treatment relations.
SYSTEM, DOOR, RELATION, EVERYWHERE = "system", "door", "relation", "*"

#: What the gateway reads for all callers alike, under the Access of whoever asks first.
_PUBLIC = frozenset({"CodeSystem", "ConceptMap", "Organization", "PlanDefinition", "ValueSet"})

_OPERATION = re.compile(r"\$[a-z][a-z-]*")
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_GROUP_COLUMNS = ("group", "types", "what it is")
_RIGHT_COLUMNS = ("what", "interaction", *ROLES, "reason")


class Row(NamedTuple):
    """One row of the table: who reaches how far with one interaction on one thing, and why."""

    what: str
    act: str
    reaches: Mapping[str, str]
    reason: str


class Files(NamedTuple):
    """Both files, free of faults. `groups` is type -> group, `says` group -> what it is, `rows`
    (what, interaction) -> row, `lines` the rows as they stand."""

    groups: Mapping[str, str]
    says: Mapping[str, str]
    rows: Mapping[tuple[str, str], Row]
    lines: tuple[Mapping[str, str], ...]


class _Reading:
    """What was read so far, and what is wrong with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.issues: list[Issue] = []

    def fault(self, file: str, line: int, sentence: str) -> None:
        where = f"{file}, row {line}: " if line else f"{file}: "
        self.issues.append(Issue("invalid", where + sentence, rule="rights"))

    def table(self, file: str, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
        """The rows with their numbers; nothing of a file that cannot be read."""
        try:
            text = (self.folder / file).read_text(encoding="utf-8-sig")
            reader = csv.DictReader(text.splitlines(), strict=True)
            rows = list(reader)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            self.fault(file, 0, f"cannot be read as CSV in UTF-8 ({type(error).__name__})")
            return
        if tuple(reader.fieldnames or ()) != columns:
            self.fault(file, 1, f"its columns must be {', '.join(columns)}")
            return
        for line, row in enumerate(rows, 2):
            if None in row or None in row.values():
                self.fault(file, line, f"it has {len(columns)} cells")
            else:
                yield line, {name: value.strip() for name, value in row.items()}


def read_files(folder: Path) -> Files:
    """Both files of a folder. Raises Invalid with every fault of either."""
    reading = _Reading(folder)
    groups, says = _groups(reading)
    lines, rows = _rights(reading, groups, says)
    if not reading.issues:
        _check_whole(reading, groups, rows)
    if reading.issues:
        raise Invalid(issues=tuple(reading.issues))
    return Files(groups, says, rows, tuple(lines))


def _groups(reading: _Reading) -> tuple[dict[str, str], dict[str, str]]:
    file, groups, says = GROUPS, dict[str, str](), dict[str, str]()
    for line, row in reading.table(file, _GROUP_COLUMNS):
        name = row["group"]
        if not _NAME.fullmatch(name) or name in (SYSTEM, DOOR, RELATION):
            reading.fault(file, line, "a group is named in small letters, as no other thing is")
        elif name in says:
            reading.fault(file, line, f"{name} stands twice")
        says[name] = row["what it is"]
        for type in row["types"].split():
            if type not in HOME_RULES:
                reading.fault(file, line, f"{type} is no resource type of R4")
            elif type in groups:
                reading.fault(file, line, f"{type} is in {groups[type]} already")
            groups[type] = name
    missing = sorted(HOME_RULES.keys() - groups.keys())
    if missing:
        reading.fault(file, 0, f"in no group: {', '.join(missing)}")
    return groups, says


def _rights(
    reading: _Reading, groups: Mapping[str, str], says: Mapping[str, str]
) -> tuple[list[Mapping[str, str]], dict[tuple[str, str], Row]]:
    file, rows = RIGHTS, dict[tuple[str, str], Row]()
    lines: list[Mapping[str, str]] = []
    for line, cells in reading.table(file, _RIGHT_COLUMNS):
        lines.append(cells)
        for role in ROLES:
            if cells[role] not in REACHES:
                reading.fault(file, line, f"{role} is one of {', '.join(REACHES)}")
        if not cells["reason"]:
            reading.fault(file, line, "a row has a reason that people understand")
        reaches = {role: cells[role] for role in ROLES}
        for what in cells["what"].split():
            if not _is_known(what, groups, says):
                reading.fault(file, line, f"{what} is no group, resource type or other thing")
                continue
            for act in _acts(reading, line, what, cells["interaction"]):
                if (what, act) in rows:
                    reading.fault(file, line, f"{what} {act} stands twice")
                rows[what, act] = Row(what, act, reaches, cells["reason"])
    return lines, rows


def _is_known(what: str, groups: Mapping[str, str], says: Mapping[str, str]) -> bool:
    return what in groups or what in says or what in (SYSTEM, DOOR, RELATION, EVERYWHERE)


def _acts(reading: _Reading, line: int, what: str, cell: str) -> Iterator[str]:
    """The interactions that a cell names."""
    for name in cell.split():
        if _on_types(what) and name in SETS:
            yield from SETS[name]
        elif _is_act(what, name):
            yield name
        else:
            reading.fault(RIGHTS, line, f"{name} is no interaction with {what}")


def _on_types(what: str) -> bool:
    return what not in (SYSTEM, DOOR, RELATION, EVERYWHERE)


def _is_act(what: str, name: str) -> bool:
    if what in (DOOR, RELATION):
        return _NAME.fullmatch(name) is not None
    if _OPERATION.fullmatch(name):
        return True
    if what == SYSTEM:
        return _NAME.fullmatch(name) is not None
    return what != EVERYWHERE and name in (*READS, *WRITES)


def _check_whole(
    reading: _Reading, groups: Mapping[str, str], rows: Mapping[tuple[str, str], Row]
) -> None:
    """Every interaction with every type must have a row; what has none is nobody's decision."""
    for type in sorted(_PUBLIC & groups.keys()):
        row = rows.get((type, "read")) or rows.get((groups[type], "read"))
        if row is not None and set(row.reaches.values()) != {"all"}:
            reading.fault(RIGHTS, 0, f"every role reads {type}: the gateway decides by it")
    missing = dict.fromkeys(
        f"{group} {act}"
        for type, group in groups.items()
        for act in (*READS, *WRITES)
        if (type, act) not in rows and (group, act) not in rows
    )
    if missing:
        reading.fault(RIGHTS, 0, f"no row for {', '.join(missing)}")
