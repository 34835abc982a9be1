"""The version of the derived rows of a store, against that of this program.

The clock row has two numbers: `indexing`, the version of the program that opened the store last,
whose rows everything has that is stored from then on; and `indexed`, the version that the rows of
all resources have. An older program neither stores nor searches beside a newer one, and so does one
that knows other identifier systems than the one that came after it; a newer one searches nothing
before all is indexed again, because it would miss what was stored earlier.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from fhir_gateway.errors import Unavailable
from fhir_gateway.search.plan import Ids, SearchPlan, Updated
from fhir_gateway.search.version import INDEX_VERSION, again, is_same, program_of


class Index(NamedTuple):
    """The two numbers of a store, and the version of rows that this process makes; 0 for a command
    that makes none."""

    indexed: int
    indexing: int
    ours: int = INDEX_VERSION

    @property
    def is_current(self) -> bool:
        """True when every resource has the rows that this program looks for."""
        return self.indexed == self.indexing and self.is_ours

    @property
    def is_ours(self) -> bool:
        """True when what is stored from now on has the rows that this process makes."""
        return not self.ours or is_same(self.indexing, self.ours)


def index_of(row: Iterable[int], ours: int) -> Index:
    """The value of the two columns, for a process that makes rows of this version."""
    indexed, indexing = row
    return Index(indexed, indexing, ours)


STATE = "SELECT indexed, indexing FROM clock"

#: Whoever opens a store says so, in the place of what it found there; one in which nothing was
#: stored yet has no older rows.
RAISE = """
UPDATE clock SET indexed = CASE WHEN t = 0 THEN ?1 ELSE indexed END, indexing = ?1
WHERE indexing = ?2"""


def raised(index: Index) -> tuple[int, int] | None:
    """The values for RAISE by a process that opens the store; None when it says what stands.

    Raises Unavailable as `check_not_newer` does.
    """
    check_not_newer(index)
    if index.is_ours:
        return None
    version = index.ours
    if program_of(index.indexing) == program_of(version):
        version = again(version, index.indexing)
    return version, index.indexing


def check_not_newer(index: Index) -> None:
    """Raises Unavailable when a newer version of the gateway has opened the store."""
    if program_of(index.indexing) > INDEX_VERSION:
        raise Unavailable(
            f"The database has an index of version {program_of(index.indexing)}, this version of "
            f"the gateway makes {INDEX_VERSION}: start a newer one",
            rule="index-newer",
        )


def check_ours(index: Index) -> None:
    """Raises Unavailable when another program has opened the store since, whose rows differ."""
    check_not_newer(index)
    if not index.is_ours and program_of(index.indexing) == program_of(index.ours):
        raise Unavailable(
            "Another process has opened the database with other identifier systems "
            "(profiles/NamingSystem); start this one again with the same",
            rule="index-other",
        )


def check_current(index: Index) -> None:
    """Raises Unavailable when what rests on the index would miss something."""
    if index.is_current:
        return
    check_ours(index)
    raise Unavailable(
        "The database was indexed by an older version of the gateway or with other identifier "
        "systems, a search could miss what is stored; it is answered when the operator's "
        "`fhir-gateway reindex` is done",
        rule="reindex-needed",
    )


#: Rows of this version and later say who may look into a person's home.
_WITH_ACCESS = 4


def check_access(index: Index) -> None:
    """Raises Unavailable while openings and consents of what was stored earlier are not known."""
    if program_of(index.indexed) < _WITH_ACCESS:
        raise Unavailable(
            "The database was indexed by an older version of the gateway, which kept no consents "
            "and treatment relations; what other institutions hold is shown when the operator's "
            "`fhir-gateway reindex` is done",
            rule="reindex-needed",
        )


def rests_on_index(plan: SearchPlan) -> bool:
    """False when a search needs nothing but the rows of resources themselves."""
    return bool(
        any(not isinstance(one, Ids | Updated) for one in plan.conditions)
        or any(key.kind not in ("id", "updated") for key in plan.sort)
        or plan.includes
        or plan.patients
        or plan.follows
        or plan.compartment
    )
