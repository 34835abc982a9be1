"""What an institution may claim: it changes what is its own and speaks in its own name.

Marks and recognition rest on who issued a result, so the issuer is the credential's institution,
never another that the sender names; and a report says nothing of another institution's results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden
from fhir_gateway.fhir.datatypes import Reference
from fhir_gateway.fhir.home import home_of
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.interactions.own_name import (
    STANDS_FOR,
    by_number,
    drop_owned,
    named_by,
    names_itself,
)
from fhir_gateway.interactions.references import local
from fhir_gateway.interactions.steps import Step
from fhir_gateway.interactions.types import owner_of
from fhir_gateway.security.actor import Actor
from fhir_gateway.security.evaluating_body import body_of
from fhir_gateway.security.institution import Institution, institution_of
from fhir_gateway.store.store import Reader

_MARKERS = (b"/StructureDefinition/institution-", b"/StructureDefinition/evaluating-body")
_REGISTRY = "An institution of the registry is changed by the gateway's operator"


def check_registry(actor: Actor, tail: bytes, step: Step) -> None:
    """Raises Forbidden when an institution would change a stored entry of the registry."""
    if actor.bound and any(marker in tail for marker in _MARKERS):
        raise Forbidden(_REGISTRY, expression=step.root, rule="governed")


async def check_claims(
    gateway: Gateway,
    reader: Reader,
    actor: Actor,
    steps: Sequence[Step],
    *,
    is_fhir: bool = True,
) -> None:
    """Raises Forbidden when an institution speaks for another, or enters itself as one, and when a
    patient would write of anybody else; takes out what the gateway alone says of what `is_fhir`.
    """
    if not actor.bound:
        return
    registry = await institutions_at(gateway, reader)
    own = f"Organization/{actor.institution}" if actor.institution in registry else ""
    for step in steps:
        if step.resource is None or step.matched:
            continue
        if is_fhir and drop_owned(step.resource, _stored(step)):
            gateway.count("server_owned", 1)
        if step.type == "Organization" and (
            institution_of(step.resource) is not None or body_of(step.resource) is not None
        ):
            raise Forbidden(_REGISTRY, expression=step.root, rule="governed")
        if not (own and names_itself(step.resource, own)):
            await _check_names(gateway, reader, actor, step, registry)
        if step.type == "DiagnosticReport":
            await _check_results(gateway, reader, actor, step, steps)
        if actor.role == "patient":
            await _check_own_record(reader, actor, step)


def _stored(step: Step) -> Mapping[str, Any]:
    """What stands, where the new version says anything that might be the gateway's."""
    current, meta = step.current, (step.resource or {}).get("meta", {})
    if current is None or current.deleted or not meta.keys() & {"source", "security", "tag"}:
        return {}
    return parse(current.whole())


async def _check_names(
    gateway: Gateway,
    reader: Reader,
    actor: Actor,
    step: Step,
    registry: Mapping[str, Institution],
) -> None:
    """Raises Forbidden when a resource says that another institution made it or answers for it."""
    for named in named_by(step.resource or {}):
        others = {by_number(named.reference, registry)}
        target = local(named.reference.get("reference") or "", gateway.settings.base_url)
        if target is not None and target.type == "Organization" and target.id in registry:
            others.add(target.id)
        elif target is not None and target.type in STANDS_FOR:
            others.add(await _owner_of(reader, actor, target))
        if others - {None, actor.institution}:
            raise Forbidden(
                "An institution reports in its own name; the other one sends its own results",
                expression=f"{step.root}.{named.element}",
                rule="performer",
            )


async def _owner_of(reader: Reader, actor: Actor, target: Reference) -> str | None:
    """ "" for what belongs to another institution, None for what is one's own, or of nobody."""
    stored = await reader.read(target.type, target.id)
    return None if stored is None or stored.owner in (0, owner_of(actor)) else ""


async def _check_own_record(reader: Reader, actor: Actor, step: Step) -> None:
    """A patient speaks of the own record alone, and changes there what nobody else recorded."""
    patient = home_of(step.resource or {}).patient
    home = await reader.home("Patient", patient) if patient is not None else None
    if home is None or home not in (actor.access.homes or ()):
        raise Forbidden(
            "A patient writes of the own record alone", expression=step.root, rule="own-record"
        )


async def _check_results(
    gateway: Gateway, reader: Reader, actor: Actor, step: Step, steps: Sequence[Step]
) -> None:
    """A report lends its status to its results, so they must be the same institution's."""
    own = owner_of(actor)
    known = {other.name: other for other in steps}
    for place, result in enumerate((step.resource or {}).get("result", ())):
        text = result.get("reference") or ""
        if text in known:
            stored = known[text].current
        else:
            named = local(text, gateway.settings.base_url)
            if named is None:
                continue
            other = known.get(f"{named.type}/{named.id}")
            stored = other.current if other else await reader.read(named.type, named.id)
        if stored is not None and stored.owner != own:
            raise Forbidden(
                "This result belongs to another institution, which reports on it itself",
                expression=f"{step.root}.result[{place}]",
                rule="owner",
            )
