"""The one place where a request is held against the table of rights, whatever door it came by.

`rest/routes.py` asks for each request, batch and transaction for each entry, a search for each type
that it names beside its own. What is refused does not depend on what is stored: it is said before
anything is read, with the row of the table that says so. security/rights.py, faults 47 and 57
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple
from urllib.parse import urlencode

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden
from fhir_gateway.interactions.audit import refused
from fhir_gateway.interactions.types import interactions_of
from fhir_gateway.search.plan import AllOf, AnyOf, Chain, Condition, Has, Include, SearchPlan
from fhir_gateway.search.registry import searchables
from fhir_gateway.security.actor import Actor
from fhir_gateway.security.rights import Rights

#: What the base offers beside its operations.
_AT_BASE = frozenset({"search-system", "history-system", "transaction", "batch"})


class Asked(NamedTuple):
    """A request as rights judge it. `type` and `id` are those of the address; in a compartment
    `member` is the type that is searched, "*" for all, each judged alone. `operation` is "$name".
    """

    interaction: str
    type: str = ""
    id: str = ""
    member: str = ""
    pairs: Sequence[tuple[str, str]] = ()
    operation: str = ""


def why_not(rights: Rights, role: str, asked: Asked) -> Forbidden | None:
    """The refusal of a request; None when the role may ask for it.

    What is no resource type, or is not offered for its type, is not judged here: it is answered by
    404 or 405 to everybody.
    """
    if asked.operation:
        if rights.may(role, asked.type, "operation", asked.operation):
            return None
        return rights.refusal(role, asked.type, asked.operation)
    type = asked.member or asked.type
    if rights.may(role, type, asked.interaction) or type == "*":
        return None
    if asked.interaction not in (interactions_of(type) if type else _AT_BASE):
        return None
    if type and type not in rights.files.groups:
        return None
    return rights.refusal(role, type, asked.interaction)


async def permit(gateway: Gateway, actor: Actor, asked: Asked) -> None:
    """Raises Forbidden, on record, when the caller's role may not ask for this."""
    error = why_not(gateway.rights, actor.role, asked)
    if error is not None:
        await refuse(gateway, actor, asked, error)


async def refuse(gateway: Gateway, actor: Actor, asked: Asked, error: Forbidden) -> None:
    """Puts a refusal on record and raises it."""
    target = f"{asked.type}/{asked.id}" if asked.id and not asked.member else ""
    query = f"{asked.type}?{urlencode(asked.pairs)}" if asked.pairs else ""
    await refused(
        gateway,
        actor,
        error,
        interaction="operation" if asked.operation else asked.interaction,
        target=target if asked.type in gateway.rights.files.groups else "",
        query=query if not target else "",
        operation=asked.operation,
    )
    vars(error)["audited"] = True
    raise error


async def permit_door(gateway: Gateway, actor: Actor, door: str) -> None:
    """Raises Forbidden, on record, when the caller's role may not come by this door."""
    if not gateway.rights.may(actor.role, "door", door):
        error = gateway.rights.refusal(actor.role, "door", door)
        await refuse(gateway, actor, Asked("operation"), error)


# -- what a search names beside its own type -------------------------------------------------------


def check_types(gateway: Gateway, actor: Actor, types: Iterable[str], *, expression: str) -> None:
    """Raises Forbidden when a type is asked for by name that the role may not search."""
    rights = gateway.rights
    for type in types:
        if not rights.may(actor.role, type, "search-type"):
            raise rights.refusal(actor.role, type, "search-type", expression)


def searched(gateway: Gateway, actor: Actor, types: Iterable[str]) -> list[str]:
    """Those of the types that the role may search."""
    return [type for type in types if gateway.rights.may(actor.role, type, "search-type")]


def check_plan(gateway: Gateway, actor: Actor, plan: SearchPlan) -> None:
    """Raises Forbidden for an include, a chain or a _has by a type that the role may not see.

    What names no type (a wildcard, a chain of several targets) leaves such types out instead.
    """
    barred = gateway.rights.barred(actor.role)
    if not barred or not (plan.includes or plan.conditions):
        return
    for expression, types in (*_included(plan.includes), *_reached(plan.conditions)):
        if types and barred.issuperset(types):
            raise gateway.rights.refusal(actor.role, min(types), "search-type", expression or None)


def _included(includes: Iterable[Include]) -> Iterator[tuple[str, frozenset[str]]]:
    """By parameter, the types each include may bring: it is refused when it may bring no other."""
    for one in includes:
        name = "_revinclude" if one.reverse else "_include"
        yield name, frozenset({one.source})
        if one.target is not None:
            yield name, frozenset({one.target})
        elif not one.reverse and not one.wildcard:
            yield name, frozenset(searchables(one.source)[one.code].targets)


def _reached(conditions: Iterable[Condition]) -> Iterator[tuple[str, frozenset[str]]]:
    """The types that chains and _has lead to."""
    for one in conditions:
        if isinstance(one, AnyOf | AllOf):
            yield from _reached(one.conditions)
        elif isinstance(one, Chain):
            yield "", frozenset(branch.type for branch in one.targets)
            for branch in one.targets:
                yield from _reached(branch.conditions)
        elif isinstance(one, Has):
            yield "_has", frozenset({one.source})
            yield from _reached(one.conditions)
