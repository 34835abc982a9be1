"""Writes under scopes: what a token's scopes let be created, changed and deleted.

A scope with a query, or of one Patient, is kept on both sides of a change: what stands must be
within it and what will stand too, so that nobody moves a resource into or out of a scope. A
condition finds only what the scopes let be searched (SMART 2.2.0, the letters c, u, d and s; u
alone allows an update that creates). Every door writes by interactions.write, which asks here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden, GatewayError
from fhir_gateway.fhir.home import home_of
from fhir_gateway.interactions.narrowing import insufficient, narrow_of, own_records, scopes_of
from fhir_gateway.interactions.steps import Step
from fhir_gateway.search.narrow import lets_through
from fhir_gateway.security import scopes as smart
from fhir_gateway.security.actor import Actor, Narrow, Ways

_LETTERS = {"create": "c", "update": "u", "delete": "d"}


@dataclass(frozen=True, slots=True)
class WriteScopes:
    """What the scopes let one request write: by letter, and the records of the token's Patient."""

    narrow: Mapping[str, Narrow | None]
    ids: frozenset[str]
    homes: frozenset[int]

    def check(self, gateway: Gateway, steps: Sequence[Step]) -> None:
        """Raises Forbidden for a step that changes what is outside of the scopes, or would store
        what is; the steps are located and their references resolved."""
        for step in steps:
            narrow = self.narrow[_LETTERS[step.op]]
            ways = narrow.ways(step.type) if narrow is not None else ()
            if ways == () or step.matched:
                continue
            if not self._passes(gateway, step, ways or ()):
                raise step.placed(
                    Forbidden(
                        "What this would change or store is outside of the scopes of the token",
                        expression=step.root,
                        rule="scope-query",
                    )
                )

    def _passes(self, gateway: Gateway, step: Step, ways: Ways) -> bool:
        current, new = step.current, step.resource
        if current is not None and not current.deleted and step.op != "create":
            own = current.home <= 0 or current.home in self.homes
            stored = msgspec.json.decode(current.whole())
            if not _lets(gateway, ways, current.id, stored, own):
                return False
        return new is None or _lets(gateway, ways, step.id, new, self._is_own(step, new))

    def _is_own(self, step: Step, resource: dict[str, Any]) -> bool:
        """Whether a resource will be in the record of the token's Patient, or in no person's."""
        if step.type == "Patient":
            return step.id in self.ids
        place = home_of(resource)
        return place.patient in self.ids if place.patient is not None else not place.follow


def _lets(
    gateway: Gateway, ways: Ways, id: str, resource: dict[str, Any], is_patients: bool
) -> bool:
    rows = gateway.extractor.rows(resource["resourceType"], resource)
    return lets_through(ways, id, rows, is_patients=is_patients)


async def judge_of(gateway: Gateway, actor: Actor, steps: Sequence[Step]) -> Callable[[], None]:
    """What judges these steps by the caller's scopes, once they are located; it raises Forbidden.

    Conditions of the steps are narrowed to what may be searched. Raises InsufficientScope for a
    step that no scope grants.
    """
    if actor.scopes is None:
        return _all_is_granted
    texts, levels = scopes_of(gateway, actor), smart.levels_of(actor)
    for step in steps:
        letters = _LETTERS[step.op] + ("s" if step.condition is not None else "")
        grant = smart.allowed(texts, step.type, letters, levels)
        if isinstance(grant, smart.Refused):
            raise _placed(step, insufficient(grant.needs), grant.needs)
    ids: frozenset[str] = frozenset()
    homes: frozenset[int] = frozenset()
    if actor.patient:
        ids, homes = await own_records(gateway, actor)
    narrow = {letter: narrow_of(gateway, actor, letter, homes) for letter in "cuds"}
    for step in steps:
        _narrow_condition(step, narrow["s"])
    return partial(WriteScopes(narrow, ids, homes).check, gateway, steps)


def _all_is_granted() -> None:
    """The token has no scopes: the rights of the role alone hold."""


def _placed(step: Step, error: GatewayError, needs: str) -> GatewayError:
    placed = step.placed(error)
    vars(placed)["scope"] = needs
    return placed


def _narrow_condition(step: Step, narrow: Narrow | None) -> None:
    """The condition of a step finds what may be searched and nothing else; it is then no longer
    guarded by an identifier alone, which others may bear unseen."""
    if step.condition is None or narrow is None:
        return
    plan = msgspec.structs.replace(step.condition.plan, narrow=narrow)
    step.condition = step.condition._replace(plan=plan, absent=None)
