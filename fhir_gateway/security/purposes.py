"""Purposes of use: which a role may state, and which holds for a role that states none.

Codes of v3 PurposeOfUse (terminology.hl7.org/ValueSet/v3-PurposeOfUse); one CSV table that the
site keeps, profiles/access/purposes.csv.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fhir_gateway.security.policy_file import Faults, rows_of

_COLUMNS = ("code", "name_zh", "name_en", "opens", "roles", "usual_for")
_CODE = re.compile(r"[A-Z][A-Za-z0-9]{1,31}")
_ROLES = frozenset({
    "institution", "clinician", "patient", "regulator", "administrator", "evaluator", "system",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Purposes:
    """The purposes of a site. Without a table nothing is asked for, and any may be stated.

    `names` are code -> (Chinese, English); `opening` are those for which what other institutions
    hold is opened at all.
    """

    by_role: Mapping[str, frozenset[str]] = field(default_factory=dict)
    usual: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    opening: frozenset[str] = frozenset()

    def allows(self, role: str, code: str) -> bool:
        """Whether a role may state this purpose."""
        return not self.names or code in self.by_role.get(role, frozenset())

    def usual_of(self, role: str) -> str:
        """The purpose of a role that states none, "" for none."""
        return self.usual.get(role, "")

    def opens(self, code: str) -> bool:
        """Whether outside results are opened to who states this purpose."""
        return not self.names or code in self.opening


def load_purposes(path: Path) -> Purposes:
    """The purposes in a table. Raises Invalid with every fault of it."""
    faults = Faults(path.name)
    by_role: dict[str, set[str]] = {}
    usual: dict[str, str] = {}
    names: dict[str, tuple[str, str]] = {}
    opening: set[str] = set()
    for line, row in rows_of(path, _COLUMNS, faults):
        where, code = f"row {line}", row["code"]
        _check_code(code, names, row["opens"], where, faults)
        names[code] = (row["name_zh"], row["name_en"])
        if row["opens"] == "yes":
            opening.add(code)
        _read_roles(row, code, where, by_role, usual, faults)
    if not names and not faults.issues:
        faults.add("file", "holds no purpose")
    faults.stop()
    allowed = {role: frozenset(codes) for role, codes in by_role.items()}
    return Purposes(allowed, usual, names, frozenset(opening))


def _check_code(
    code: str, names: Mapping[str, object], opens: str, where: str, faults: Faults
) -> None:
    if not _CODE.fullmatch(code):
        faults.add(where, "must have a code of v3 PurposeOfUse, such as TREAT")
    if code in names:
        faults.add(where, f"says {code} again")
    if opens not in ("yes", "no"):
        faults.add(where, "must say yes or no in column opens")


def _read_roles(
    row: Mapping[str, str],
    code: str,
    where: str,
    by_role: dict[str, set[str]],
    usual: dict[str, str],
    faults: Faults,
) -> None:
    roles, usual_for = row["roles"].split(), row["usual_for"].split()
    for role in {*roles, *usual_for} - _ROLES:
        faults.add(where, f"names {role}, which is no role")
    for role in roles:
        by_role.setdefault(role, set()).add(code)
    for role in usual_for:
        if role in usual or role not in roles:
            faults.add(where, f"cannot be usual for {role}: it has one, or may not state this")
        usual[role] = code
