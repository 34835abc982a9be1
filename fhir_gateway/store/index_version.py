"""The version of the derived rows of a store, against that of this program.

The clock row has two numbers: `indexing`, the version of the newest program that has opened the
store, whose rows everything has that is stored from then on; and `indexed`, the version that the
rows of all resources have at least. An older program neither stores nor searches beside a newer
one; a newer one searches nothing before all is indexed again, because it would miss what was stored
earlier.
"""

from __future__ import annotations

from typing import NamedTuple

from fhir_gateway.errors import Unavailable
from fhir_gateway.search.plan import Ids, SearchPlan, Updated
from fhir_gateway.search.version import INDEX_VERSION


class Index(NamedTuple):
    """The two numbers of a store."""

    indexed: int
    indexing: int

    @property
    def is_current(self) -> bool:
        """True when every resource has the rows that this program looks for."""
        return self.indexed == self.indexing == INDEX_VERSION


STATE = "SELECT indexed, indexing FROM clock"

#: Whoever opens a store says so; one in which nothing was stored yet has no older rows.
RAISE = """
UPDATE clock SET indexed = CASE WHEN t = 0 THEN ?1 ELSE indexed END, indexing = ?1
WHERE indexing < ?1"""


def check_not_newer(index: Index) -> None:
    """Raises Unavailable when a newer version of the gateway has opened the store."""
    if index.indexing > INDEX_VERSION:
        raise Unavailable(
            f"The database has an index of version {index.indexing}, this version of the gateway "
            f"makes {INDEX_VERSION}: start a newer one",
            rule="index-newer",
        )


def check_current(index: Index) -> None:
    """Raises Unavailable when what rests on the index would miss something."""
    if index.is_current:
        return
    check_not_newer(index)
    raise Unavailable(
        "The database was indexed by an older version of the gateway, a search could miss what is "
        "stored; it is answered when the operator's `fhir-gateway reindex` is done",
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
