"""What may stand in the files of profiles/access: the keys of the policy, and its CSV tables.

Every fault is gathered and told with its place, so that a committee corrects a file once.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fhir_gateway.errors import Invalid, Issue


class Faults:
    """The faults of one file; `issues` may be added to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.issues: tuple[Issue, ...] = ()

    def add(self, where: str, sentence: str) -> None:
        """Notes a fault at a place of the file."""
        told = f"{self.name}: {where} {sentence}"
        self.issues += (Issue("invalid", told, where, "policy"),)

    def stop(self) -> None:
        """Raises Invalid with every fault, when there is one."""
        if self.issues:
            raise Invalid(issues=self.issues)


class Key(NamedTuple):
    """One key: its type, the values that a text may have, the bounds of a number."""

    type: type
    one_of: tuple[str, ...] = ()
    least: int = 0
    most: int = 1_000_000
    needed: bool = False


BASES = ("legal-duty", "emergency", "opt-in-per-encounter", "standing-opt-in", "opt-out")
_HOURS, _DAYS, _MINUTES = 24 * 366, 366 * 5, 7 * 1_440

_TOP = {
    "version": Key(str, needed=True),
    "basis": Key(str, BASES, needed=True),
    "guardian_age": Key(int, least=0, most=18),
    "consent_days": Key(int, least=1, most=_DAYS),
    "classes": Key(str),
    "purposes": Key(str),
}
#: The tables of the policy; `bases` holds one table for each legal basis.
TABLES: Mapping[str, Mapping[str, Key]] = {
    "bases": {
        "relation": Key(bool, needed=True),
        "permit": Key(bool, needed=True),
        "denials": Key(bool, needed=True),
        "permits": Key(str, ("none", "encounter", "all"), needed=True),
    },
    "relation": {
        "encounter_hours_after": Key(int, most=_HOURS),
        "encounter_days": Key(int, least=1, most=_DAYS),
        "episode_days": Key(int, least=1, most=_DAYS),
        "request_days": Key(int, least=1, most=_DAYS),
        "appointment_days_before": Key(int, most=_DAYS),
        "appointment_days_after": Key(int, most=_DAYS),
        "decision_hours": Key(int, most=_HOURS),
    },
    "break_glass": {
        "minutes": Key(int, least=5, most=_MINUTES),
        "usual_minutes": Key(int, least=5, most=_MINUTES),
        "sensitive": Key(bool),
        "roles": Key(list, ("clinician", "institution")),
        "alarm_user_hour": Key(int, least=1),
        "alarm_institution_hour": Key(int, least=1),
        "privacy_office": Key(list),
        "reasons": Key(list, needed=True),
    },
    "case": {
        "minutes": Key(int, least=5, most=_MINUTES),
        "usual_minutes": Key(int, least=5, most=_MINUTES),
        "sensitive": Key(bool),
    },
}
_OVERRIDE = {
    "basis": Key(str, BASES, needed=True),
    "institution": Key(str),
    "area": Key(str),
    "since": Key(str),
    "until": Key(str),
}
_REASON = {
    "code": Key(str, needed=True), "zh": Key(str, needed=True), "en": Key(str, needed=True),
}  # fmt: skip
_DAY = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")
_CODE = re.compile(r"[a-z][a-z0-9\-]{0,63}")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


def check_document(document: Mapping[str, Any], faults: Faults) -> None:
    """Notes every fault of a policy document; what is not faulty can be made a Policy."""
    top = {name: one for name, one in document.items() if name not in (*TABLES, "override")}
    _check_table(top, _TOP, "", faults)
    for name in TABLES:
        table = document.get(name, {})
        if not isinstance(table, dict):
            faults.add(name, "must be a table")
        elif name == "bases":
            _check_bases(table, faults)
        else:
            _check_table(table, TABLES[name], name, faults)
    overrides = document.get("override", [])
    if not isinstance(overrides, list):
        faults.add("override", "must be a list of tables: [[override]]")
        overrides = []
    for number, one in enumerate(overrides):
        _check_override(one, f"override[{number}]", faults)
    _check_used(document, overrides, faults)
    _check_break_glass(document.get("break_glass", {}), faults)
    for name in ("break_glass", "case"):
        _check_minutes(document.get(name, {}), name, faults)


def _check_bases(table: Mapping[str, Any], faults: Faults) -> None:
    for name, row in table.items():
        if name not in BASES:
            faults.add(f"bases.{name}", f"is none of {', '.join(BASES)}")
        elif not isinstance(row, dict):
            faults.add(f"bases.{name}", "must be a table")
        else:
            _check_table(row, TABLES["bases"], f"bases.{name}", faults)


def _check_table(
    table: Mapping[str, Any], keys: Mapping[str, Key], where: str, faults: Faults
) -> None:
    """Unknown keys, missing ones, wrong types, values out of their bounds."""
    prefix = f"{where}." if where else ""
    for name in table:
        if name not in keys:
            faults.add(f"{prefix}{name}", f"is none of {', '.join(keys)}")
    for name, key in keys.items():
        if name in table:
            _check_value(table[name], key, f"{prefix}{name}", faults)
        elif key.needed:
            faults.add(f"{prefix}{name}", "is required")


def _check_value(value: Any, key: Key, where: str, faults: Faults) -> None:
    if key.type is not type(value):
        faults.add(where, f"must be of type {key.type.__name__}")
        return
    given: Any = value
    if key.type is int and not key.least <= given <= key.most:
        faults.add(where, f"must lie between {key.least} and {key.most}")
    elif key.one_of and key.type is str and given not in key.one_of:
        faults.add(where, f"must be one of {', '.join(key.one_of)}")
    elif key.one_of and key.type is list and not set(map(str, given)) <= set(key.one_of):
        faults.add(where, f"must be of {', '.join(key.one_of)}")


def _check_override(one: Any, where: str, faults: Faults) -> None:
    if not isinstance(one, dict):
        faults.add(where, "must be a table")
        return
    _check_table(one, _OVERRIDE, where, faults)
    if bool(one.get("institution")) == bool(one.get("area")):
        faults.add(where, "names either an institution or an area")
    for name in ("since", "until"):
        if one.get(name) and not _DAY.fullmatch(str(one[name])):
            faults.add(f"{where}.{name}", "must be a day such as 2026-01-31")
    if one.get("since") and one.get("until") and str(one["until"]) < str(one["since"]):
        faults.add(f"{where}.until", "lies before since")


def _check_used(document: Mapping[str, Any], overrides: Sequence[Any], faults: Faults) -> None:
    """A basis that is chosen must be described."""
    bases = document.get("bases", {})
    described = set(bases) if isinstance(bases, dict) else set()
    for where, one in [
        ("basis", document),
        *((f"override[{n}]", o) for n, o in enumerate(overrides)),
    ]:
        name = one.get("basis") if isinstance(one, dict) else None
        if name in BASES and name not in described:
            faults.add(where, f"names {name}, and there is no table [bases.{name}]")


def _check_break_glass(glass: Any, faults: Faults) -> None:
    reasons = glass.get("reasons", []) if isinstance(glass, dict) else []
    codes: list[str] = []
    for number, one in enumerate(reasons if isinstance(reasons, list) else []):
        where = f"break_glass.reasons[{number}]"
        if not isinstance(one, dict):
            faults.add(where, "must be a table with code, zh and en")
            continue
        _check_table(one, _REASON, where, faults)
        code = str(one.get("code", ""))
        if code and not _CODE.fullmatch(code):
            faults.add(f"{where}.code", "must be of small letters, digits and -")
        if code in codes:
            faults.add(f"{where}.code", "stands there twice")
        codes.append(code)
    if isinstance(reasons, list) and not codes and isinstance(glass, dict) and "reasons" in glass:
        faults.add("break_glass.reasons", "must hold at least one, or no emergency has a ground")
    for number, id in enumerate(_listed(glass, "privacy_office")):
        if not isinstance(id, str) or not _ID.fullmatch(id):
            faults.add(f"break_glass.privacy_office[{number}]", "must be the id of an Organization")


def _listed(table: Any, name: str) -> list[Any]:
    found = table.get(name, []) if isinstance(table, dict) else []
    return found if isinstance(found, list) else []


def _check_minutes(table: Any, name: str, faults: Faults) -> None:
    if not isinstance(table, dict):
        return
    most, usual = table.get("minutes"), table.get("usual_minutes")
    if isinstance(most, int) and isinstance(usual, int) and usual > most:
        faults.add(f"{name}.usual_minutes", "is more than minutes allows")


def rows_of(
    path: Path, columns: Sequence[str], faults: Faults
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, cells) of every row of a CSV table; faults of the file as a whole are noted."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                faults.add("row 1", f"has no column {', '.join(missing)}")
                return
            for row in reader:
                if row.get(None):  # DictReader keeps the overflow under None
                    faults.add(f"row {reader.line_num}", "has more cells than columns")
                    continue
                yield reader.line_num, {name: (row[name] or "").strip() for name in columns}
    except OSError:
        faults.add("file", "cannot be read")
    except (UnicodeDecodeError, csv.Error) as error:
        faults.add("file", f"is no CSV in UTF-8: {error}")
