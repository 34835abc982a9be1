"""What an interaction did or found: the values between the interactions and the doors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from fhir_gateway.errors import GatewayError, Issue
from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.fhir.wire import splice
from fhir_gateway.store.blobs import unpack
from fhir_gateway.store.changes import Committed, Put
from fhir_gateway.store.store import Stored

#: `existing`: a conditional create found its resource, nothing was stored. `known`: the caller has
#: this version already.
Kind = Literal["created", "updated", "unchanged", "deleted", "existing", "found", "known"]


class Outcome(NamedTuple):
    """One resource and what became of it. `body` is the whole resource, empty for a deletion;
    `issues` are what it breaks of profiles, though it was stored."""

    kind: Kind
    type: str
    id: str
    version: int
    updated: int
    enc: int = 0
    packed: bytes = b""
    issues: tuple[Issue, ...] = ()

    def body(self) -> bytes:
        """The resource as JSON."""
        if self.kind == "deleted":
            return b""
        tail = unpack(self.enc, self.packed)
        return splice(self.type, self.id, self.version, self.updated, tail)


def outcome_of(kind: Kind, put: Put, version: int, updated: int) -> Outcome:
    """The outcome of a Put that was committed."""
    return Outcome(kind, put.type, put.id, version, updated, put.enc, put.body)


def found(stored: Stored, kind: Kind = "found") -> Outcome:
    """The outcome that shows a stored version as it is."""
    return Outcome(kind, stored.type, stored.id, stored.version, stored.updated, 0, stored.tail)


class Refused(bytes):
    """An OperationOutcome as JSON, in place of the Bundle or resource that a GET asked for."""

    status: int


def refused_read(error: GatewayError) -> Refused:
    """The result of a GET entry that was refused."""
    refused = Refused(operation_outcome(error.issues))
    refused.status = error.status
    return refused


@dataclass(frozen=True, slots=True)
class TransactionOutcome:
    """What became of a transaction's entries, in their order.

    `committed` is None when nothing had to be written. When `committed.repeated` is true, the
    change set had been stored before: `results` is empty and `committed.response` is the answer
    that was kept then. An entry that reads may have a Bundle or a `Refused`
    in `results`.
    """

    results: list[Outcome | bytes]
    committed: Committed | None
    unmapped: int = 0
    coded: int = 0
