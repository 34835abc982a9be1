"""What stands of the resources that a write names: all of them by one statement."""

from __future__ import annotations

from collections.abc import Sequence

from fhir_gateway.interactions.steps import Step
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.currents_sql import currents
from fhir_gateway.store.store import Reader

#: From so many on they are read together; one is found faster by itself.
_TOGETHER = 3


async def read_named(reader: Reader, actor: Actor, steps: Sequence[Step]) -> None:
    """Gives each step that names a resource the current version, as this snapshot sees it."""
    named = [step for step in steps if step.condition is None and step.op != "create"]
    if actor.access.narrow is not None or len(named) < _TOGETHER:
        for step in named:
            step.current = await reader.read(step.type, step.id)
        return
    names = [(step.type, step.id) for step in named]
    found = await reader.steps(lambda seen: currents(seen, names))
    for step in named:
        step.current = found.get((step.type, step.id))
