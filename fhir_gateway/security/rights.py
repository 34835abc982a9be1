"""The table of rights: what each role may do, and the Access that follows from it.

One table in data (profiles/access/rights.csv, docs/rights.md) says for every role how far it
reaches with which interaction on which resource type, operation or door. It is compiled once into
sets, because every request asks. What is in no row is forbidden. FHIR R4 security.html, faults 47.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from fhir_gateway.errors import Forbidden
from fhir_gateway.fhir.home import PERSONAL_TYPES
from fhir_gateway.fhir.keys import key64
from fhir_gateway.security.actor import SYSTEM_ACCESS, Access, Role, Sight
from fhir_gateway.security.rights_file import (
    DOOR,
    EVERYWHERE,
    GROUPS,
    READS,
    RIGHTS,
    ROLES,
    SYSTEM,
    WRITES,
    Files,
    Row,
    read_files,
)

#: Below the ordinary class: rows of nobody in a person's home are not seen either.
_NOTHING = -1
_MOST = 10_000
_SHIPPED = Path(__file__).resolve().parents[2] / "profiles" / "access"


class Sights(Protocol):
    """What the site's policy (security.policy) says of rows of others."""

    def sight(self, institution: str, areas: tuple[str, ...] = (), day: str = "") -> Sight | None:
        """How they open to an institution; None where nothing is asked for at all."""


@dataclass(frozen=True, slots=True)
class Rights:
    """The table, compiled. `files` is what it was compiled from."""

    files: Files
    allowed: Mapping[str, frozenset[tuple[str, str]]]  # role -> (type, interaction or $operation)
    unseen: Mapping[str, frozenset[str]] = field(default_factory=dict)  # role -> types
    _accesses: dict[tuple[object, ...], Access] = field(default_factory=dict)

    def may(self, role: str, type: str, interaction: str, operation: str = "") -> bool:
        """Whether a role may do this at all, by the table; which rows it reaches is Access's.

        `type` is a resource type, "" or "system" for the base, or "door"; `interaction` as the
        CapabilityStatement spells it, or the name of the door; `operation` "$name".
        """
        return (type, operation or interaction) in self.allowed[role]

    def refusal(self, role: str, type: str, act: str, expression: str | None = None) -> Forbidden:
        """What is said to whom the table forbids this: the role, the act, and the row's reason."""
        row = self.row(type, act)
        where = "" if type in ("", SYSTEM, DOOR) else f" of {type}"
        because = row.reason if row is not None else "what is in no row is allowed to nobody"
        return Forbidden(
            f"The role {role} may not do this: {act}{where}. Table of rights: {because}",
            expression=expression,
            rule="rights",
        )

    def barred(self, role: str) -> frozenset[str]:
        """The types of which a role sees nothing at all."""
        return self.unseen[role]

    def row(self, type: str, act: str) -> Row | None:
        """The row that decides: of the type, else of its group, else of everything."""
        rows = self.files.rows
        if type in ("", SYSTEM):
            return rows.get((SYSTEM, act)) or rows.get((EVERYWHERE, act))
        found = rows.get((type, act)) or rows.get((self.files.groups.get(type, type), act))
        return found or (rows.get((EVERYWHERE, act)) if type in self.files.groups else None)

    def reach(self, role: str, type: str, act: str) -> str:
        """How far a role reaches: all, own, related, self or none."""
        row = self.row(type, act)
        return row.reaches[role] if row is not None else "none"

    def access_for(
        self,
        role: Role,
        *,
        institution: str | None = None,
        homes: frozenset[int] | None = None,
        policy: Sights | None = None,
        areas: tuple[str, ...] = (),
        day: str = "",
    ) -> Access:
        """What a role sees, for every read of the store.

        `institution` is the logical id of the caller's Organization, `homes` the homes of the
        person that the caller is, or is bound to. Without a policy, or with one that asks for
        nothing, an institution sees what it always saw: the ordinary rows of all, but of the audit
        log what the table grants.
        """
        sight = policy.sight(institution or "", areas, day) if policy is not None else None
        key = (role, institution, homes, sight)
        known = self._accesses.get(key)
        if known is None:
            if len(self._accesses) >= _MOST:
                self._accesses.clear()
            known = self._accesses[key] = self._access(role, institution, homes, sight)
        return known

    def _access(
        self,
        role: Role,
        institution: str | None,
        homes: frozenset[int] | None,
        sight: Sight | None,
    ) -> Access:
        if role == "system":
            return SYSTEM_ACCESS
        if role == "open":
            return Access(homes=homes)
        treats = role in ("institution", "clinician")
        if treats and sight is None and institution:
            return Access(homes=homes, acts=self._acts(role, institution))
        has_rows = treats or role == "evaluator"  # of an operator or regulator nothing is stored
        own = {key64(f"Organization/{institution}")} if institution and has_rows else ()
        if role == "patient":
            homes = homes or frozenset()
        return Access(
            max_class=0 if has_rows else _NOTHING,
            owners=frozenset(own),
            sight=self._sight(role, institution, sight),
            homes=homes,
            whole=self._of_reach(role, "all") & PERSONAL_TYPES,
            closed=self._of_reach(role, "none", "own", *(["self"] if role == "patient" else [])),
        )

    def _acts(self, role: Role, institution: str) -> frozenset[int] | None:
        """Whose AuditEvents are seen where a policy asks for nothing; None for everybody's."""
        reach = self.reach(role, "AuditEvent", "read")
        if reach == "all":
            return None
        return frozenset(() if reach == "none" else {key64(f"Organization/{institution}")})

    @staticmethod
    def _sight(role: Role, institution: str | None, sight: Sight | None) -> Sight | None:
        """A regulator sees a record by an opened case alone, whatever the policy is for doctors."""
        if not institution or role not in ("institution", "clinician", "regulator"):
            return None
        if role == "regulator":
            return Sight(case_party(institution), relation=True, permit=False)
        return sight

    def _of_reach(self, role: str, *reaches: str) -> frozenset[str]:
        """The types whose reads reach so far."""
        groups = self.files.groups
        return frozenset(type for type in groups if self.reach(role, type, "read") in reaches)


def case_party(institution: str) -> int:
    """To whom a case opens a record: the body as a regulator. A referral to the same Organization,
    or a consent that names it, opens nothing to it."""
    return key64(f"Organization/{institution} as regulator")


@lru_cache(maxsize=16)
def rights_of(profiles: str) -> Rights:
    """The table in `access/` of a folder of profiles, read once for each process; the shipped one
    where a site has none of its own. Raises Invalid with every fault of the files.
    """
    folder = Path(profiles) / "access"
    own = any((folder / name).exists() for name in (RIGHTS, GROUPS))
    return compile_rights(read_files(folder if own else _SHIPPED))


def compile_rights(files: Files) -> Rights:
    """The table as sets, so that a question costs one look-up."""
    rights = Rights(files, {}, {})
    acts = {act for _, act in files.rows}
    operations = [act for act in acts if act[0] == "$"]
    asked = [
        *((type, act) for type in files.groups for act in (*READS, *WRITES, *operations)),
        *((what, act) for what, act in files.rows if what not in files.says),
        *((base, act) for base in ("", SYSTEM) for act in _at_base(files, operations)),
    ]
    rows = [(one, row) for one in asked if (row := rights.row(*one)) is not None]
    allowed = {
        role: frozenset(one for one, row in rows if row.reaches[role] != "none") for role in ROLES
    }
    unseen = {
        role: frozenset(t for t in files.groups if (t, "read") not in allowed[role])
        for role in ROLES
    }
    return Rights(files, allowed, unseen)


def _at_base(files: Files, operations: list[str]) -> list[str]:
    return [*operations, *(act for what, act in files.rows if what == SYSTEM)]
