"""$meta, $meta-add and $meta-delete: profiles, tags and security labels of one resource.

hl7.org/fhir/R4/resource-operation-meta.html and its neighbours. A change makes a new version, with
the guards, the owner and the audit of a patch; old versions are never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Deleted, Invalid, Issue, NotFound
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.audit import disclose_read
from fhir_gateway.interactions.events import write_events
from fhir_gateway.interactions.extras import Extras
from fhir_gateway.interactions.operation_definitions import Call, Definition, Taken
from fhir_gateway.interactions.operation_definitions import Parameter as P
from fhir_gateway.interactions.steps import Step
from fhir_gateway.interactions.types import check_may_write
from fhir_gateway.interactions.write import write
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.store import Stored
from fhir_gateway.terminology.coder import DATA_QUALITY

_RESULT = P("return", "Meta", "The meta of the current version", 1)

META = Definition(
    code="meta",
    title="Profiles, tags and security labels of a resource",
    says="The meta of the current version of one resource.",
    types=("Resource",),
    levels=("instance",),
    gives=(_RESULT,),
    standard="Resource-meta",
)
META_ADD = Definition(
    code="meta-add",
    title="Add profiles, tags and security labels",
    says=(
        "Adds the profiles, tags and security labels that the resource does not have yet. Makes a "
        "new version, or none when it has them all."
    ),
    types=("Resource",),
    levels=("instance",),
    takes=(P("meta", "Meta", "Profiles, tags and security labels to add", 1),),
    gives=(_RESULT,),
    affects=True,
    standard="Resource-meta-add",
)
META_DELETE = Definition(
    code="meta-delete",
    title="Remove profiles, tags and security labels",
    says=(
        "Removes those of the profiles, tags and security labels that the resource has. Makes a "
        "new version, or none when it has none of them."
    ),
    types=("Resource",),
    levels=("instance",),
    takes=(P("meta", "Meta", "Profiles, tags and security labels to remove", 1),),
    gives=(_RESULT,),
    affects=True,
    standard="Resource-meta-delete",
)

Meta = dict[str, Any]

#: The sets of a meta. Tags and labels are the same when system and code are, profiles by their url.
_SETS: Mapping[str, Callable[[Any], Any]] = {
    "profile": lambda url: url,
    "security": lambda label: (label.get("system"), label.get("code")),
    "tag": lambda tag: (tag.get("system"), tag.get("code")),
}

#: Given by the server, so what a client sends back of them says nothing.
_OURS = frozenset({"versionId", "lastUpdated"})


async def meta(gateway: Gateway, actor: Actor, call: Call) -> Meta:
    """The meta of one resource. Raises NotFound, Deleted."""
    async with gateway.store.snapshot(actor.access) as reader:
        stored = await reader.read(call.type, call.id)
    if stored is None:
        raise NotFound("There is no such resource", rule="unknown-id")
    if stored.deleted:
        raise Deleted("This resource is deleted", rule="deleted")
    await disclose_read(gateway, actor, stored, interaction="operation")
    return _answer(stored.whole())


async def meta_add(gateway: Gateway, actor: Actor, call: Call) -> Meta:
    """Adds to the meta. Raises as an update does, Invalid for what is none of the three sets."""
    return await _change(gateway, actor, call, _added)


async def meta_delete(gateway: Gateway, actor: Actor, call: Call) -> Meta:
    """Removes from the meta. Raises as an update does, Invalid for what is none of the sets."""
    return await _change(gateway, actor, call, _removed)


async def _change(
    gateway: Gateway, actor: Actor, call: Call, changed: Callable[[Meta, Meta], Meta]
) -> Meta:
    check_may_write(actor, call.type)
    given = _sets(call.parameters["meta"][0])

    def edit(stored: Stored) -> dict[str, Any] | None:
        """The next version, None when it would be the same; called anew in each attempt."""
        resource = parse(stored.whole())
        before = resource["meta"]
        resource["meta"] = changed(before, given)
        return None if resource["meta"] == before else resource

    step = Step("update", call.type, call.id, root=call.type, if_match=call.if_match, edit=edit)
    written = await write(
        gateway, actor, [step], audit=write_events(gateway, actor), extras=Extras(base=call.base)
    )
    return _answer(written.outcomes[0].body())


def _sets(taken: Taken) -> Meta:
    """The sets of the meta that is given. Raises Invalid for what cannot be changed here."""
    given, issues = taken.value, []
    for name in given:
        if name not in _SETS and name not in _OURS:
            text = "Profiles, tags and security labels are changed here; use update for the rest"
            issues.append(Issue("invalid", text, f"{taken.expression}.{name}", "meta"))
    for place, tag in enumerate(given.get("tag", ())):
        if tag.get("system") == DATA_QUALITY:
            text = "Tags of this system say what the gateway found; a client cannot set them"
            issues.append(Issue("invalid", text, f"{taken.expression}.tag[{place}]", "meta"))
    if issues:
        raise Invalid(issues=tuple(issues))
    return {name: given[name] for name in _SETS if name in given}


def _added(before: Meta, given: Meta) -> Meta:
    after = dict(before)
    for name, members in given.items():
        key = _SETS[name]
        known = {key(one): one for one in before.get(name, ())}
        for one in members:
            known.setdefault(key(one), one)
        after[name] = list(known.values())
    return after


def _removed(before: Meta, given: Meta) -> Meta:
    after = dict(before)
    for name, members in given.items():
        key = _SETS[name]
        gone = {key(one) for one in members}
        after[name] = [one for one in before.get(name, ()) if key(one) not in gone]
    return {name: value for name, value in after.items() if value != []}


def _answer(resource: bytes) -> Meta:
    shown = parse(resource)["meta"]
    return {
        "resourceType": "Parameters",
        "parameter": [{"name": "return", "valueMeta": shown}],
    }
