"""patch: JSON Patch and FHIRPath Patch, also by condition (hl7.org/fhir/R4/http.html#patch).

A patch is computed on one version and stored only if that version is still the current one: with
If-Match the caller is told when it is not, without it the patch is computed again. So no change is
ever lost, whoever else writes. The result is judged whole, as an update would be.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, Structure, Unprocessable, UnsupportedMedia
from fhir_gateway.fhir.fhirpath_patch import apply_fhirpath_patch, read_fhirpath_patch
from fhir_gateway.fhir.json_patch import apply_json_patch, read_json_patch
from fhir_gateway.fhir.validate import read_resource
from fhir_gateway.fhir.wire import parse, render, tail
from fhir_gateway.interactions.audit import audited
from fhir_gateway.interactions.conditional import condition
from fhir_gateway.interactions.events import write_events
from fhir_gateway.interactions.extras import Extras
from fhir_gateway.interactions.outcome import Outcome
from fhir_gateway.interactions.steps import Edit, Step
from fhir_gateway.interactions.types import check_id, check_may_write, check_type
from fhir_gateway.interactions.write import write
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.store import Stored

JSON_PATCH = "application/json-patch+json"

#: What a client is told that sends the one format which is not read.
XML_PATCH = "XML Patch is not taken; send JSON Patch, or FHIRPath Patch in JSON or XML"

#: What a patch may not touch, with the name of the element.
_FIXED = ("resourceType", "id")
_GIVEN = ("versionId", "lastUpdated")

Change = Callable[[dict[str, Any]], Any]

#: Reads the body of a patch; json_patch, fhirpath_patch and patch_in_bundle are the ones there are.
Format = Callable[[bytes], Edit]


def json_patch(body: bytes) -> Edit:
    """The edit of a JSON Patch. Raises Structure, Invalid, TooCostly for what is none."""
    operations = read_json_patch(body)
    return _edit(lambda resource: apply_json_patch(resource, operations))


def fhirpath_patch(body: bytes) -> Edit:
    """The edit of a FHIRPath Patch. Raises Structure, Unprocessable, Invalid for what is none."""
    operations = read_fhirpath_patch(read_resource(body, type="Parameters"))

    def change(resource: dict[str, Any]) -> dict[str, Any]:
        apply_fhirpath_patch(resource, operations)
        return resource

    return _edit(change)


def patch_in_bundle(raw: bytes) -> Edit:
    """The edit of an entry: Parameters, or a Binary that holds a JSON Patch.

    Raises UnsupportedMedia for a Binary with anything else, Invalid for any other resource.
    """
    type = parse(raw).get("resourceType")
    if type == "Parameters":
        return fhirpath_patch(raw)
    if type != "Binary":
        raise Invalid(
            "A patch in a Bundle is Parameters, or a Binary with a JSON Patch", rule="patch-format"
        )
    binary = read_resource(raw, type="Binary")
    media = binary["contentType"].partition(";")[0].strip().lower()
    if media != JSON_PATCH:
        raise UnsupportedMedia(
            XML_PATCH if "xml" in media else f"A Binary with a patch is {JSON_PATCH}",
            expression="Binary.contentType",
            rule="content-type",
        )
    return json_patch(b64decode(binary.get("data", "")))


@audited("patch")
async def patch(
    gateway: Gateway,
    actor: Actor,
    *,
    type: str,
    id: str,
    body: bytes,
    format: Format,
    if_match: int | None = None,
    base: str = "",
) -> Outcome:
    """Stores the next version; of kind "unchanged", with the current one, when nothing changes.

    Raises what `format` says of the body, NotFound, Deleted, PreconditionFailed for `if_match`,
    Unprocessable for an operation that fails and for a result that is not sound, Forbidden.
    """
    check_type(type, "patch")
    check_id(id)
    check_may_write(actor, type)
    step = Step("update", type, id, root=type, edit=format(body), if_match=if_match)
    return await _carry_out(gateway, actor, step, base)


@audited("patch")
async def patch_conditional(
    gateway: Gateway,
    actor: Actor,
    *,
    type: str,
    pairs: Sequence[tuple[str, str]],
    body: bytes,
    format: Format,
    if_match: int | None = None,
    base: str = "",
) -> Outcome:
    """Patches the one resource that meets a condition.

    Raises NotFound when there is none, MultipleMatches when there are several, else as `patch`.
    """
    check_type(type, "patch")
    check_may_write(actor, type)
    wanted = condition(gateway, type, pairs)
    step = Step("update", type, "", root=type, edit=format(body), if_match=if_match)
    step.condition = wanted
    return await _carry_out(gateway, actor, step, base)


async def _carry_out(gateway: Gateway, actor: Actor, step: Step, base: str) -> Outcome:
    audit = write_events(gateway, actor)
    written = await write(gateway, actor, [step], audit=audit, extras=Extras(base=base))
    return written.outcomes[0]


def _edit(change: Change) -> Edit:
    def edit(stored: Stored) -> dict[str, Any] | None:
        before = stored.whole()
        after = change(parse(before))
        if not isinstance(after, dict):
            raise Unprocessable("The patch leaves no resource", rule="patch-result")
        _check_identity(parse(before), after)
        if tail(after) == tail(parse(before)):
            return None
        return _sound(after, stored.type)

    return edit


def _check_identity(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Raises Unprocessable when a patch makes another resource or version of it.

    Leaving versionId and lastUpdated out says nothing: the gateway gives them.
    """
    meta = after.get("meta", {})
    if not isinstance(meta, dict):
        raise Unprocessable("meta must be an object", expression="Resource.meta", rule="type")
    given = [name for name in _GIVEN if name in meta and meta[name] != before["meta"][name]]
    changed = [name for name in _FIXED if after.get(name) != before[name]]
    for name in (*changed, *(f"meta.{one}" for one in given)):
        raise Unprocessable(
            f"A patch does not change {name}",
            expression=f"{before['resourceType']}.{name}",
            rule="patch-identity",
        )


def _sound(resource: dict[str, Any], type: str) -> dict[str, Any]:
    """The result read like one that was sent. Raises Unprocessable with all its issues."""
    try:
        return read_resource(render(resource), type=type)
    except Structure as error:
        raise Unprocessable(issues=error.issues) from None
    except (RecursionError, TypeError):
        raise Unprocessable("The patched resource is nested too deep", rule="depth") from None
