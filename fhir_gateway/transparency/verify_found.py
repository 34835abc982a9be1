"""What a check of the audit log finds, each with the record that it is about."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

#: Kinds of findings: changed, removed, added, reordered, signature, consistency, witness, damage …


class Finding(NamedTuple):
    """One thing that is not as it was signed. `where` names the record, `what` says what is wrong;
    `kind` is one word for programs."""

    kind: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.what}"


#: More of them are counted and not kept.
MOST = 1_000


@dataclass
class Report:
    """What a check has looked at and found."""

    size: int = 0  # of the newest head
    leaves: int = 0  # records that were hashed again
    heads: int = 0
    nodes: int = 0
    purged: int = 0  # records that were lawfully removed
    unsigned: int = 0  # records behind the newest head
    witnessed: int = 0  # heads of the witness file
    recoveries: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    more: int = 0  # findings that were not kept

    def add(self, finding: Finding) -> None:
        """Takes note of a finding."""
        if len(self.findings) < MOST:
            self.findings.append(finding)
        else:
            self.more += 1

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings
