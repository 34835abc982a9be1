"""Named points of the store at which a test's child process may be stopped.

In production `reached` does nothing and nothing outside the code can make it do anything: a crash
test starts its own process, which puts another function in its place before it opens the store.
"""

from __future__ import annotations

POINTS = (
    "migration-statement",  # one statement of a migration was executed
    "batch-begun",  # the write transaction is open
    "change-set-applied",  # the rows of one change set are written, not committed
    "before-commit",
    "after-commit",  # durable, nobody told
    "after-answer",  # the first caller of the batch was told
    "log-tiles-written",  # leaves and nodes of the audit log, not their head; not committed
    "journal-drained",  # a piece of the journal got its index rows, not committed
)


def reached(name: str) -> None:
    """A point was reached; `name` is one of POINTS."""
