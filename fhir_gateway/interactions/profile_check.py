"""Validation on write: what a resource breaks of R4 and of profiles, and what becomes of it.

By the mode of the institution that writes (docs/validation.md): `refuse` refuses it with all that
is wrong, `accept-and-flag` stores it with a tag, `learn` stores it as it is. Definitions never get
the tag, which would travel with them. Who has chosen none is
served as by accept-and-flag, and judged by R4 and by the profiles that the resource claims.
Structure and required bindings of R4 are refused long before, in every mode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Issue, Unprocessable
from fhir_gateway.fhir.profile import compile_profile
from fhir_gateway.fhir.profile_context import Resource
from fhir_gateway.interactions.pace import breath, unhurried
from fhir_gateway.interactions.profiles import Judging, claimed, profiles
from fhir_gateway.interactions.steps import Step
from fhir_gateway.interactions.types import GOVERNED_TYPES
from fhir_gateway.security.actor import Actor
from fhir_gateway.security.institution import VALIDATION_MODES
from fhir_gateway.terminology.coder import DATA_QUALITY

PROFILE_ISSUE = "profile-issue"

REFUSE, FLAG, LEARN = VALIDATION_MODES

#: What a definition that is stored must not have: nobody could judge by it.
_UNFIT = frozenset({"profile-definition", "fhirpath", "fhirpath-regex"})


async def check_profiles(gateway: Gateway, actor: Actor, steps: Sequence[Step], epoch: int) -> None:
    """Judges what is written, as of this epoch. Raises Unprocessable with the issues of all steps
    where the institution's mode is to refuse, or a definition cannot be judged by."""
    writes = [step for step in steps if step.op != "delete" and not step.matched]
    if not writes:
        return
    await breath()
    judging = await profiles(gateway, epoch)
    mode = judging.modes.get(actor.institution or "", "")
    resolve = _resolver(steps)
    refused: list[Issue] = []
    now = gateway.clock.now()
    async for step in unhurried(writes):
        assert step.resource is not None
        found = _found(judging, step.resource, mode, resolve, now)
        wrong = bool(found) and any(issue.severity == "error" for issue in found)
        unfit = _unfit(judging, step.resource)
        if unfit or (wrong and mode == REFUSE):
            refused += step.placed(Unprocessable(issues=(*unfit, *found))).issues
            continue
        step.issues = tuple(found)
        if wrong:
            gateway.count("profile_issues", 1)
            if mode != LEARN and step.type not in GOVERNED_TYPES:
                flag(step.resource)
    if refused:
        raise Unprocessable(issues=tuple(refused))


def _found(
    judging: Judging,
    resource: Resource,
    mode: str,
    resolve: Callable[[str], Resource | None],
    now: int,
) -> list[Issue]:
    by = claimed(resource)
    if mode:
        by += judging.applies.of(resource)
    return judging.issues(resource, by=by, resolve=resolve, now=now, hints=False)


def _resolver(steps: Sequence[Step]) -> Callable[[str], Resource | None]:
    """What is written in the same request, by its reference."""
    together = {step.name: step.resource for step in steps if step.resource is not None}
    return together.get


def _unfit(judging: Judging, resource: Resource) -> tuple[Issue, ...]:
    """Why nobody could be judged by a StructureDefinition of a profile or an extension."""
    if resource.get("resourceType") != "StructureDefinition":
        return ()
    if resource.get("derivation") != "constraint" or resource.get("kind") == "logical":
        return ()
    doubts = compile_profile(resource, known=judging.known).doubts
    return tuple(doubt for doubt in doubts if doubt.rule in _UNFIT)


def flag(resource: dict[str, Any]) -> None:
    """Says in a resource that it breaks a profile, once."""
    tags = resource.setdefault("meta", {}).setdefault("tag", [])
    if not any(_is_ours(tag) for tag in tags):
        tags.append({"system": DATA_QUALITY, "code": PROFILE_ISSUE})


def _is_ours(tag: Mapping[str, Any]) -> bool:
    return tag.get("system") == DATA_QUALITY and tag.get("code") == PROFILE_ISSUE
