"""$validate: what is wrong with a resource, without storing it (resource-operation-validate.html).

The answer is 200 with an OperationOutcome, also for a resource that is refused; any other status
says that nothing was judged. Judged is structure, then R4's invariants and bindings, codes, units
and national numbers, and the profiles that are asked for, that the resource claims, or that apply
to its type and category (profiles/applies.csv). With a mode the write itself is rehearsed:
everything that it would look up and check happens, but for the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from fhir_gateway.interactions.profiles import Judging, claimed, profiles
from fhir_gateway.interactions.rehearse import rehearse
from fhir_gateway.interactions.steps import Step
from fhir_gateway.interactions.types import check_may_write, check_type
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.store import Stored

VALIDATE = Definition(
    code="validate",
    title="What is wrong with a resource",
    says=(
        "Judges a resource by the definitions of R4 and by profiles and, with a mode, rehearses "
        "the write without storing anything. What cannot be judged is told."
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

#: Issues of structure that leave no shape to judge by anything else.
_SHAPELESS = frozenset({"structure", "invalid", "too-long"})
_NOT_JUDGED = Issue(
    "informational",
    "Invariants and profiles were not judged: correct the structure and ask again",
    None,
    "structure-first",
    "information",
)
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
        if isinstance(resource, dict):
            found += await _judged(gateway, call, resource, found)
        if sound and question.mode in ("create", "update"):
            found += await _rehearsed(gateway, actor, call, question.mode, resource)
    elif question.mode == "delete":
        found += await _rehearsed(gateway, actor, call, "delete", None)
    if gateway.audit and (question.mode or call.id):
        await _disclose(gateway, actor, call, question)
    return operation_outcome(list(dict.fromkeys(found)))


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


async def _judged(
    gateway: Gateway, call: Call, resource: dict[str, Any], found: Sequence[Issue]
) -> list[Issue]:
    """What goes beyond structure. It is judged where the JSON has the shape that R4 wants."""
    named = call.value("profile")
    judging = await profiles(gateway)
    if any(issue.code in _SHAPELESS for issue in found):
        meta = resource.get("meta")
        asked = named is not None or (isinstance(meta, dict) and "profile" in meta)
        return [_NOT_JUDGED] if asked else []
    by = [*([named] if named else []), *claimed(resource), *judging.applies.of(resource)]
    resolve = _in_bundle(resource) if call.type == "Bundle" else None
    now = gateway.clock.now()
    more = await judging.issues_unhurried(resource, by=by, resolve=resolve, now=now)
    told = {(issue.rule, issue.expression) for issue in found}
    return [
        *_unknown(judging, call, named, resource),
        *(issue for issue in more if (issue.rule, issue.expression) not in told),
    ]


def _unknown(
    judging: Judging, call: Call, named: str | None, resource: dict[str, Any]
) -> list[Issue]:
    """What is not known: a profile that is asked for, an error by the standard, and those that
    the resource claims."""
    places = [(named, "profile", "error")] if named is not None else []
    places += [
        (url, f"{call.type}.meta.profile[{place}]", "information")
        for place, url in enumerate(claimed(resource))
        if url != named
    ]
    says = "This profile is not known here, so the resource was not judged by it"
    return [
        Issue("not-supported", says, place, "profile-unknown", severity)  # type: ignore[arg-type]
        for url, place, severity in places
        if judging.unknown([url])
    ]


def _in_bundle(resource: dict[str, Any]) -> Callable[[str], dict[str, Any] | None]:
    """What stands in the same Bundle, by fullUrl and by type and id."""
    entries = resource.get("entry")
    found: dict[str, dict[str, Any]] = {}
    for one in entries if isinstance(entries, list) else ():
        inner = one.get("resource") if isinstance(one, dict) else None
        if isinstance(inner, dict):
            found[f"{inner.get('resourceType')}/{inner.get('id')}"] = inner
            found[str(one.get("fullUrl"))] = inner
    return found.get


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
