"""Records that were lawfully removed when their time was over: what is left of them in the log.

The row stays with its commitment, so that leaf, tree and proofs hold; the record's bytes are gone,
and an entry of the log says by what and when (see accountability). Here is only how such a row
is told from others.
"""

from __future__ import annotations

from typing import Any

#: `enc` of a journal row whose record was removed; its body is empty.
PURGED = 8


def is_purged(row: Any) -> bool:
    """Whether the record of a journal row was removed."""
    return bool(row.enc == PURGED and not row.body)
