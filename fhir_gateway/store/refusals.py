"""Refusals of the store as data: they cross the socket and stand in the record of change sets."""

from __future__ import annotations

import msgspec

from fhir_gateway import errors
from fhir_gateway.errors import (
    GatewayError,
    Invalid,
    Issue,
    MultipleMatches,
    PreconditionFailed,
)
from fhir_gateway.store.claim_refusals import ClaimLost, ClaimRefused

Match = tuple[str, str]  # (type, logical id)


class AlreadyThere(PreconditionFailed):
    """If-None-Exist found one resource; `matches` names it."""

    matches: list[Match]


class SeveralThere(MultipleMatches):
    """If-None-Exist found several resources; `matches` names the first few."""

    matches: list[Match]


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """A GatewayError. `guard` is the index of the guard that failed, -1 when it was none."""

    name: str
    issues: list[tuple[str, str, str | None, str | None]]
    matches: list[Match] = []
    guard: int = -1


def no_database(where: str) -> Invalid:
    """The refusal of a command that looks at a store and was given an address without one."""
    return Invalid(
        f"There is no store {where}. Check the address; `fhir-gateway serve`, `load` and "
        "`institution add` begin a new one",
        rule="no-database",
    )


def refusal_of(error: GatewayError, *, guard: int = -1) -> Refusal:
    """The error as data."""
    return Refusal(
        name=type(error).__name__,
        issues=[
            (issue.code, issue.diagnostics, issue.expression, issue.rule) for issue in error.issues
        ],
        matches=getattr(error, "matches", []),
        guard=getattr(error, "guard", guard),
    )


def error_of(refusal: Refusal) -> GatewayError:
    """The error again, with its issues, `guard` and, where it has them, `matches`."""
    kind = _KINDS.get(refusal.name, errors.Internal)
    error: GatewayError = kind(issues=tuple(Issue(*issue) for issue in refusal.issues))
    if isinstance(error, AlreadyThere | SeveralThere):
        error.matches = list(refusal.matches)
    vars(error)["guard"] = refusal.guard
    return error


#: Refusals that only the store makes.
_OF_STORE = (AlreadyThere, SeveralThere, ClaimLost, ClaimRefused)

_KINDS: dict[str, type[GatewayError]] = {
    kind.__name__: kind
    for kind in (*vars(errors).values(), *_OF_STORE)
    if isinstance(kind, type) and issubclass(kind, GatewayError)
}
