"""$validate: what is wrong with a resource, without storing it (resource-operation-validate.html).

The answer is 200 with an OperationOutcome, also for a resource that is refused; any other status
says that nothing was judged. With a mode the write itself is rehearsed: everything that it would
look up and check happens, but for the commit. Structure is judged by the definitions of R4;
profiles are not known yet, and every one that is named or claimed is told as not judged.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import urlencode

from fhir_gateway.audit.events import search_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Deleted, GatewayError, Invalid, Issue, NotFound
from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.fhir.validate import issues
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.audit import call_of, disclose, entry, patient_of
from fhir_gateway.interactions.operation_definitions import Call, Definition
from fhir_gateway.interactions.operation_definitions import Parameter as P
from fhir_gateway.interactions.rehearse import rehearse
from fhir_gateway.interactions.steps import Step
from fhir_gateway.interactions.types import check_may_write, check_type
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.store import Stored

VALIDATE = Definition(
    code="validate",
    title="What is wrong with a resource",
    says=(
        "Judges a resource by the definitions of R4 and, with a mode, rehearses the write without "
        "storing anything. Profiles are not known yet: what cannot be judged is told."
    ),
    types=("Resource",),
    levels=("type", "instance"),
    takes=(
        P("resource", "Resource", "What is judged; not needed by mode delete and profile"),
        P("mode", "code", "create, update, delete or profile; none judges the resource alone"),
        P("profile", "uri canonical", "The profile to judge by"),
    ),
    gives=(P("return", "OperationOutcome", "All that was found", 1),),
    standard="Resource-validate",
    body="resource",
)

_BASE = "http://hl7.org/fhir/StructureDefinition/"
_VERSIONS = ("", "4.0.1", "4.0")
_MODES = ("create", "update", "delete", "profile")
_ON_INSTANCE = frozenset({"update", "delete", "profile"})


class _Question(NamedTuple):
    """What is judged: the resource that was sent, or the one that is stored."""

    mode: str
    sent: Any
    stored: Stored | None

    @property
    def resource(self) -> Any:
        """What is judged, None for a deletion."""
        if self.mode == "delete":
            return None
        if self.sent is None and self.stored is not None:
            return parse(self.stored.whole())
        return self.sent


async def validate(gateway: Gateway, actor: Actor, call: Call) -> bytes:
    """An OperationOutcome of all that was found. Raises what makes it impossible to judge."""
    question = await _question(gateway, actor, call)
    resource = question.resource
    found: list[Issue] = []
    if resource is not None:
        found += issues(resource, type=call.type)
        sound = not found
        found += _profiles(call, resource if isinstance(resource, dict) else {})
        if sound and question.mode in ("create", "update"):
            found += await _rehearsed(gateway, actor, call, question.mode, resource)
    elif question.mode == "delete":
        found += await _rehearsed(gateway, actor, call, "delete", None)
    if gateway.audit and (question.mode or call.id):
        await _disclose(gateway, actor, call, question)
    return operation_outcome(found)


async def _question(gateway: Gateway, actor: Actor, call: Call) -> _Question:
    mode, sent = call.value("mode") or "", call.value("resource")
    if mode and mode not in _MODES:
        raise Invalid(f"mode is one of {', '.join(_MODES)}", expression="mode", rule="mode")
    if mode in _ON_INSTANCE and not call.id:
        raise Invalid(
            f"mode {mode} is about one resource: call {call.type}/[id]/$validate",
            expression="mode",
            rule="mode",
        )
    needed = mode in ("create", "update") or (not mode and not call.id)
    if sent is None and needed:
        raise Invalid("There is no resource to judge", expression="resource", rule="required")
    if not call.id or mode == "delete":
        return _Question(mode, sent, None)
    async with gateway.store.snapshot(actor.access) as reader:
        stored = await reader.read(call.type, call.id)
    if sent is None and stored is None:
        raise NotFound("There is no such resource", rule="unknown-id")
    if sent is None and stored is not None and stored.deleted:
        raise Deleted("This resource is deleted", rule="deleted")
    return _Question(mode, sent, stored)


def _profiles(call: Call, resource: dict[str, Any]) -> list[Issue]:
    """What cannot be judged: a profile that is asked for, an error by the standard, and those
    that the resource claims."""
    found = []
    named = call.value("profile")
    if named is not None and not _is_base(named, call.type):
        found.append(
            Issue(
                "not-supported",
                "This profile is not known here, so the resource was not judged by it",
                "profile",
                "profile-unknown",
            )
        )
    meta = resource.get("meta")
    claimed = meta.get("profile") if isinstance(meta, dict) else None
    for place, profile in enumerate(claimed if isinstance(claimed, list) else ()):
        if profile != named and not _is_base(profile, call.type):
            found.append(
                Issue(
                    "not-supported",
                    "This profile is not known here, so the resource was not judged by it",
                    f"{call.type}.meta.profile[{place}]",
                    "profile-unknown",
                    "information",
                )
            )
    return found


def _is_base(profile: Any, type: str) -> bool:
    """Whether a profile is R4's own definition of the type, which everything is judged by."""
    if not isinstance(profile, str):
        return False
    url, _, version = profile.partition("|")
    return url == _BASE + type and version in _VERSIONS


async def _rehearsed(
    gateway: Gateway, actor: Actor, call: Call, mode: str, resource: dict[str, Any] | None
) -> tuple[Issue, ...]:
    """What would refuse the write."""
    try:
        check_type(call.type, mode)
        check_may_write(actor, call.type)
        if mode == "update" and resource is not None and resource.get("id") != call.id:
            raise Invalid(
                "The id in the body must be the id in the URL",
                expression=f"{call.type}.id",
                rule="id",
            )
        id = "" if mode == "create" else call.id
        step = Step(mode, call.type, id, root=call.type, resource=resource)
        await rehearse(gateway, actor, step, base=call.base)
    except GatewayError as error:
        return error.issues
    return ()


async def _disclose(gateway: Gateway, actor: Actor, call: Call, question: _Question) -> None:
    """The event of a call that told something of what is stored."""
    path = "/".join(part for part in (call.type, call.id, "$validate") if part)
    query = f"{path}?{urlencode({'mode': question.mode})}" if question.mode else path
    stored = question.stored
    event = search_event(
        call_of(gateway, actor),
        query=query,
        patient=patient_of(stored) if stored is not None else None,
        interaction="operation",
    )
    home = max(stored.home, 0) if stored is not None else 0
    await disclose(gateway, [entry(gateway, event, home=home)])
