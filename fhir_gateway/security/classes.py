"""Sensitive classes: what a resource is about that is not shown beside ordinary results.

One CSV table that the site keeps, profiles/access/classes.csv: a class is items of the catalogue,
LOINC codes, diagnoses by the beginning of their ICD-10 code, whole resource types, and what its
institution labels so (meta.security, codes of v3 ActCode such as PSY). Its number
is the `sensitivity` of a stored row; of several classes the highest number counts, so the table
is in order of strictness. Every coding of a resource is looked at, wherever it stands. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.security.actor import RESTRICTED
from fhir_gateway.security.policy_file import Faults, rows_of
from fhir_gateway.settings import CANONICAL

#: The code system of the classes, in Consent.provision.class and in what is told of a row.
CLASS_SYSTEM = f"{CANONICAL}/CodeSystem/sensitive-class"
#: The catalogue's own code systems (terminology/): items of both kinds, and panels.
_CATALOGUE = frozenset(f"{CANONICAL}/CodeSystem/catalogue-{n}" for n in ("lab", "imaging", "panel"))

#: Longest bytes of a member whose class is remembered, and how many.
_LONGEST, _MOST = 320, 8_192

_COLUMNS = (
    "number",
    "code",
    "name_zh",
    "name_en",
    "on",
    "items",
    "loinc",
    "icd10",
    "types",
    "labels",
)
_CODE = re.compile(r"[a-z][a-z0-9\-]{0,63}")
_LOINC = "http://loinc.org"
_ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
#: ICD-10 and its national editions; GB/T 14396 is China's.
_ICD10 = re.compile(r"icd-?10|14396", re.IGNORECASE)


class SensitiveClass(NamedTuple):
    """One class of the table."""

    number: int
    code: str
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes that are on, and what belongs to each. The empty value has none: every row is
    ordinary."""

    rows: tuple[SensitiveClass, ...] = ()
    items: Mapping[str, int] = field(default_factory=dict)  # catalogue code -> number
    loinc: Mapping[str, int] = field(default_factory=dict)
    icd10: tuple[tuple[str, int], ...] = ()  # (beginning of a code, number)
    types: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)  # code of v3 ActCode -> number
    kept: dict[bytes, int] = field(default_factory=dict, compare=False, repr=False)

    def of(self, resource: Mapping[str, Any], spelled: Mapping[str, bytes] | None = None) -> int:
        """The number of the strictest class that a resource belongs to, 0 when it is ordinary.

        `spelled` are its members as JSON, where they are at hand: what a member says is remembered.
        """
        if not self.rows:
            return 0
        number = self.types.get(str(resource.get("resourceType", "")), 0)
        if spelled is None or ("code" in resource and "system" in resource):
            for coding in _codings(resource):
                number = max(number, self.of_coding(coding))
            return number
        kept = self.kept
        for name, said in spelled.items():
            if b'"system"' in said:
                found = kept[said] if said in kept else self._of_member(said, resource[name])
                if found:  # of most there is no class
                    number = max(number, found)
        return number

    def _of_member(self, said: bytes, value: Any) -> int:
        """The same for one member that was not met before."""
        number = max((self.of_coding(coding) for coding in _codings(value)), default=0)
        if len(said) <= _LONGEST:
            if len(self.kept) >= _MOST:
                self.kept.clear()
            self.kept[said] = number
        return number

    def of_coding(self, coding: Mapping[str, Any]) -> int:
        """The number of the class of one coding, 0 for an ordinary one."""
        system, code = coding.get("system"), coding.get("code")
        if not isinstance(system, str) or not isinstance(code, str):
            return 0
        if system in _CATALOGUE:
            return self.items.get(code, 0)
        if system == _LOINC:
            return self.loinc.get(code, 0)
        if system == _ACT_CODE:
            return self.labels.get(code, 0)
        if _ICD10.search(system):
            found = (number for start, number in self.icd10 if code.upper().startswith(start))
            return max(found, default=0)
        return 0

    def of_item(self, item: str) -> int:
        """The number of the class of an item of the catalogue."""
        return self.items.get(item, 0)

    def numbered(self, code: str) -> int | None:
        """The number of a class by its code, None when there is no such class."""
        return next((one.number for one in self.rows if one.code == code), None)


def _codings(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every coding in a resource, wherever it stands."""
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, dict):
            if "code" in one and "system" in one:
                yield one
            stack += [inner for inner in one.values() if isinstance(inner, (dict, list))]
        else:
            stack += [inner for inner in one if isinstance(inner, (dict, list))]


def load_classes(path: Path) -> Classes:
    """The classes in a table. Raises Invalid with every fault of it."""
    faults = Faults(path.name)
    known = _Known()
    for line, row in rows_of(path, _COLUMNS, faults):
        _read_row(row, f"row {line}", known, faults)
    faults.stop()
    return Classes(
        tuple(known.rows), known.items, known.loinc, tuple(known.icd10), known.types, known.labels
    )


class _Known:
    """A table being read."""

    def __init__(self) -> None:
        self.rows: list[SensitiveClass] = []
        self.seen: set[str] = set()
        self.items: dict[str, int] = {}
        self.loinc: dict[str, int] = {}
        self.icd10: list[tuple[str, int]] = []
        self.types: dict[str, int] = {}
        self.labels: dict[str, int] = {}


def _read_row(row: Mapping[str, str], where: str, known: _Known, faults: Faults) -> None:
    number = int(row["number"]) if row["number"].isdecimal() else 0
    _check_row(row, number, where, known, faults)
    known.seen |= {row["number"], row["code"]}
    if row["on"] != "yes":
        return
    known.rows.append(SensitiveClass(number, row["code"], row["name_zh"], row["name_en"]))
    for name, table in (
        ("items", known.items),
        ("loinc", known.loinc),
        ("types", known.types),
        ("labels", known.labels),
    ):
        for code in row[name].split():
            table[code] = max(table.get(code, 0), number)
    known.icd10 += [(start, number) for start in row["icd10"].split()]


def _check_row(
    row: Mapping[str, str], number: int, where: str, known: _Known, faults: Faults
) -> None:
    if not 0 < number < RESTRICTED:
        faults.add(where, f"must have a number between 1 and {RESTRICTED - 1}")
    if not _CODE.fullmatch(row["code"]):
        faults.add(where, "must have a code of small letters, digits and -")
    if {row["number"], row["code"]} & known.seen:
        faults.add(where, "says a number or a code again")
    if row["on"] not in ("yes", "no"):
        faults.add(where, "must say yes or no in column on")
    for type in row["types"].split():
        if type not in definitions().resource_types:
            faults.add(where, f"names {type}, which is no resource type of FHIR R4")
    if not any(row[name] for name in ("items", "loinc", "icd10", "types")):
        faults.add(where, "has nothing that belongs to it")
