"""A write without its commit: everything is looked up and checked, nothing is stored.

What the store would judge under its write lock is judged here on a snapshot, so the answer holds
for this moment only; a real write may still be overtaken.
"""

from __future__ import annotations

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Unprocessable
from fhir_gateway.interactions.extras import Extras
from fhir_gateway.interactions.prepare import add_codings
from fhir_gateway.interactions.references import slots
from fhir_gateway.interactions.steps import Guards, Step
from fhir_gateway.interactions.write import plan_write
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.changes import Exists, Put
from fhir_gateway.store.store import Reader


async def rehearse(gateway: Gateway, actor: Actor, step: Step, *, base: str = "") -> None:
    """Returns when the step could be stored. Raises what the write would raise."""
    if step.resource is not None:
        step.coding = add_codings(gateway, step.resource, actor.institution)
        step.slots = slots(step.resource)
    guards = Guards()
    await plan_write(gateway, actor, [step], guards, Extras(base=base))
    async with gateway.store.snapshot(actor.access) as reader:
        for guard in guards.all:
            if isinstance(guard, Exists):
                await _check_exists(reader, guard, step)
        if step.put is not None and step.put.op != "delete":
            await _check_home(reader, step.put, step)


async def _check_exists(reader: Reader, guard: Exists, step: Step) -> None:
    type, _, id = guard.reference.partition("/")
    if guard.reference == step.name:
        return
    stored = await reader.read(type, id)
    if stored is None or stored.deleted:
        raise Unprocessable(
            "This reference names a resource that is not stored here",
            expression=guard.expression,
            rule="reference-unknown",
        )


async def _check_home(reader: Reader, put: Put, step: Step) -> None:
    """A stored resource stays in its home: the store would refuse to move it."""
    current = step.current
    if current is None or step.type == "Patient":
        return
    home: int | None = put.home
    if put.patient is not None:
        home = await reader.home("Patient", put.patient)
    elif put.follow is not None:
        type, _, id = put.follow.partition("/")
        home = await reader.home(type, id) if current.home else current.home
    if home is not None and home != current.home:
        raise Unprocessable(
            "The subject of a stored resource may not become another person or institution: "
            "store a new one and set this one to entered-in-error",
            expression=step.root,
            rule="subject-changed",
        )
