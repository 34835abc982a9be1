"""Who works at the command line: what a command does is that person's act in the audit log."""

from __future__ import annotations

from contextvars import ContextVar

#: The name of the operator while a command runs; "" in a serving process, whose own work nobody
#: ordered.
OPERATOR: ContextVar[str] = ContextVar("operator", default="")
