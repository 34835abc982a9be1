"""One snapshot under two Accesses: what the caller sees, and what there is, without a second
connection. Whoever held one snapshot and waited for another could wait for ever.
"""

from __future__ import annotations

from typing import Any

from fhir_gateway.security.actor import Access
from fhir_gateway.store.narrowed_reader import NarrowedReader

#: What a Reader has of its transaction.
_SHARED = ("t", "epoch", "_clock", "_session", "_connection")


class SecondSight:
    """What both Readers are besides."""

    def under(self, access: Access) -> Any:
        """A Reader of this very snapshot under another Access; it ends with this one. It does not
        read journal entries, for which a snapshot may have to begin anew."""
        mine: Any = self
        other = type(mine)(
            mine._pool, access, drain=mine._drain, search_budget=mine._budget, now=mine._now
        )
        here = vars(mine)
        vars(other).update({name: here[name] for name in _SHARED if name in here})
        other._begun()
        return other if access.narrow is None else NarrowedReader(other, access.narrow)
