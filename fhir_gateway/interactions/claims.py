"""What an institution may claim: it changes what is its own and speaks in its own name.

Marks and recognition rest on who issued a result, so the issuer is the credential's institution,
never another that the sender names; and a report says nothing of another institution's results.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden
from fhir_gateway.interactions.institutions import institutions_at
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
    gateway: Gateway, reader: Reader, actor: Actor, steps: Sequence[Step]
) -> None:
    """Raises Forbidden when an institution speaks for another, or enters itself as one."""
    if not actor.bound:
        return
    registry = await institutions_at(gateway, reader)
    for step in steps:
        if step.resource is None or step.matched:
            continue
        if step.type == "Organization" and (
            institution_of(step.resource) is not None or body_of(step.resource) is not None
        ):
            raise Forbidden(_REGISTRY, expression=step.root, rule="governed")
        _check_performers(actor, step, registry)
        if step.type == "DiagnosticReport":
            await _check_results(gateway, reader, actor, step, steps)


def _check_performers(actor: Actor, step: Step, registry: Mapping[str, Institution]) -> None:
    for performer in _performers(step):
        named = local(performer.get("reference") or "")
        if named is None or named.type != "Organization" or named.id == actor.institution:
            continue
        if named.id in registry:
            raise Forbidden(
                "An institution reports in its own name; the other one sends its own results",
                expression=f"{step.root}.performer",
                rule="performer",
            )


def _performers(step: Step) -> Iterator[dict[str, Any]]:
    """The elements from which the issuer of a result is read."""
    resource = step.resource or {}
    if step.type in ("Observation", "DiagnosticReport"):
        yield from resource.get("performer", ())
    elif step.type == "ImagingStudy":
        for series in resource.get("series", ()):
            for performer in series.get("performer", ()):
                yield performer.get("actor", {})


async def _check_results(
    gateway: Gateway, reader: Reader, actor: Actor, step: Step, steps: Sequence[Step]
) -> None:
    """A report lends its status to its results, so they must be the same institution's."""
    own = owner_of(actor)
    known = {other.name: other for other in steps}
    for place, result in enumerate((step.resource or {}).get("result", ())):
        named = local(result.get("reference") or "", gateway.settings.base_url)
        if named is None:
            continue
        other = known.get(f"{named.type}/{named.id}")
        if other is None:
            stored = await reader.read(named.type, named.id)
        else:
            stored = other.current
        if stored is not None and stored.owner != own:
            raise Forbidden(
                "This result belongs to another institution, which reports on it itself",
                expression=f"{step.root}.result[{place}]",
                rule="owner",
            )
