"""$export: what is asked for, checked in full before it is accepted.

Bulk Data Access 2.0 (hl7.org/fhir/uv/bulkdata/STU2/export.html): at the base everything that the
caller may see, on Patient what stands in persons' homes, on a Group what names its members. The
work is done by `export_job.py`. What cannot be done exactly is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Deleted, GatewayError, Invalid, Issue, NotFound, Unprocessable
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.home import HOME_RULES
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.asynchronous import EXPORT, start
from fhir_gateway.interactions.conditional import pairs_of
from fhir_gateway.interactions.export_filter import filter_of
from fhir_gateway.interactions.given import local_id
from fhir_gateway.interactions.operation_definitions import MANY, Call, Definition, Taken
from fhir_gateway.interactions.operation_definitions import Parameter as P
from fhir_gateway.interactions.permits import check_types, searched
from fhir_gateway.interactions.references import local
from fhir_gateway.interactions.types import interactions_of
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.jobs import Job

_GUIDE = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition"

DEFINITION = Definition(
    code="export",
    title="Export of many resources as files",
    says=(
        "Bulk Data Access 2.0. Answers 202 with the address of the request's state; needs Prefer: "
        "respond-async. Everything is as of the moment of the request. AuditEvents are part of it "
        "when _type names them. On Patient and on a Group: what stands in a person's record."
    ),
    types=("Patient", "Group"),
    levels=("system", "type", "instance"),
    takes=(
        P("_outputFormat", "string code", "application/fhir+ndjson, which is the only one"),
        P("_since", "instant dateTime", "Only what was stored or deleted at or after this time"),
        P("_type", "string code", "Only these types; a comma stands between them", 0, MANY),
        P("_typeFilter", "string", "Searches such as Observation?status=final; of a type that is "
          "named here only what one of its searches finds. Neither chains nor _has", 0, MANY),
        P("patient", "Reference", "Only these patients; by POST, on Patient and Group", 0, MANY),
    ),
    gives=(P("return", "OperationOutcome", "Nothing: the answer has no body"),),
    guide=(
        ("", "system", f"{_GUIDE}/export"),
        ("Patient", "type", f"{_GUIDE}/patient-export"),
        ("Group", "instance", f"{_GUIDE}/group-export"),
    ),
)  # fmt: skip

_FORMATS = ("application/fhir+ndjson", "application/ndjson", "ndjson")

#: Types that hold journal entries of everybody's requests: exported when they are named.
_NAMED_ONLY = frozenset({"AuditEvent"})

_BETWEEN_SEARCHES = re.compile(r",(?=[A-Z][A-Za-z]*\?)")


class Export(msgspec.Struct, frozen=True):
    """What an export is after. `persons` leaves out what stands in no person's home; `patients`
    are the logical ids of those that are wanted, None for all; `since` is in µs."""

    types: tuple[str, ...]
    persons: bool
    patients: tuple[str, ...] | None
    since: int | None
    filters: tuple[tuple[str, str], ...]


async def start_export(gateway: Gateway, actor: Actor, call: Call) -> Job:
    """Accepts an export. Raises NotFound, Invalid and NotSupported for what cannot be done."""
    _check_format(call)
    offered = _types(call)
    check_types(gateway, actor, (name for name, _ in _named_types(call)), expression="_type")
    types = tuple(searched(gateway, actor, offered))
    filters = await _filters(gateway, call, types)
    since = call.value("_since")
    wanted = Export(
        types=types,
        persons=bool(call.type),
        patients=await _patients(gateway, actor, call),
        since=None if since is None else date_range(since, gateway.settings.zone)[0],
        filters=filters,
    )
    return await start(gateway, actor, kind=EXPORT, path=_path(call), base=call.base, wanted=wanted)


def _check_format(call: Call) -> None:
    format = call.value("_outputFormat")
    if format is not None and format.replace(" ", "+") not in _FORMATS:
        raise Invalid(
            f"Exports are {_FORMATS[0]}", expression="_outputFormat", rule="output-format"
        )


def _types(call: Call) -> tuple[str, ...]:
    """The types in their order, Patient first. Raises Invalid for one that has no place here."""
    offered = [
        type
        for type in definitions().resource_types
        if interactions_of(type) and (not call.type or _is_personal(type))
    ]
    offered.sort(key=lambda type: (type != "Patient", type))
    named = {name: taken for name, taken in _named_types(call)}
    issues = [
        Issue("invalid", _no_type(call), taken.expression, "export-type")
        for name, taken in named.items()
        if name not in offered
    ]
    if issues:
        raise Invalid(issues=tuple(issues))
    return tuple(type for type in offered if (type in named if named else type not in _NAMED_ONLY))


def _named_types(call: Call) -> Iterable[tuple[str, Taken]]:
    for taken in call.parameters.get("_type", ()):
        for name in taken.value.split(","):
            yield name, taken


def _no_type(call: Call) -> str:
    if call.type:
        return "_type names what is no resource type of a person's record"
    return "_type names what is no resource type that is stored here"


def _is_personal(type: str) -> bool:
    rule = HOME_RULES[type]
    return type == "Patient" or bool(rule.person or rule.follow)


async def _filters(
    gateway: Gateway, call: Call, types: Sequence[str]
) -> tuple[tuple[str, str], ...]:
    """The searches of _typeFilter, each understood. Raises Invalid, NotSupported by name."""
    found: list[tuple[str, str]] = []
    for taken in call.parameters.get("_typeFilter", ()):
        for text in _BETWEEN_SEARCHES.split(taken.value):
            type, _, query = text.partition("?")
            if type not in types or not query:
                raise Invalid(
                    "_typeFilter is a search such as Observation?status=final, of a type that is "
                    "exported",
                    expression=taken.expression,
                    rule="type-filter",
                )
            await _understand(gateway, call, taken, (type, query))
            found.append((type, query))
    return tuple(found)


async def _understand(gateway: Gateway, call: Call, taken: Taken, search: tuple[str, str]) -> None:
    """Raises what is wrong with a search, naming _typeFilter."""
    name, query = search
    try:
        await filter_of(gateway, name, pairs_of(query), base=call.base)
    except GatewayError as error:
        issues = (
            Issue(one.code, f"_typeFilter: {one.diagnostics}", taken.expression, one.rule)
            for one in error.issues
        )
        raise type(error)(issues=tuple(issues)) from None


# -- whose records ---------------------------------------------------------------------------------


async def _patients(gateway: Gateway, actor: Actor, call: Call) -> tuple[str, ...] | None:
    """The patients that are asked for, None for all that there are."""
    named = {local_id(taken, "Patient"): taken for taken in call.parameters.get("patient", ())}
    if named and not call.type:
        raise Invalid(
            "patient has a meaning on Patient and on a Group",
            expression=next(iter(named.values())).expression,
            rule="export-patient",
        )
    members = await _members(gateway, actor, call.id) if call.id else None
    if not named:
        return members
    for id, taken in named.items():
        if members is not None:
            known = id in members
        else:
            async with gateway.store.snapshot(actor.access) as reader:
                stored = await reader.read("Patient", id)
            known = stored is not None and not stored.deleted
        if not known:
            raise Invalid(
                "patient names nobody who could be exported here",
                expression=taken.expression,
                rule="export-patient",
            )
    return tuple(named)


async def _members(gateway: Gateway, actor: Actor, id: str) -> tuple[str, ...]:
    """The Patients that are members of a Group now. Raises NotFound, Deleted, Unprocessable."""
    async with gateway.store.snapshot(actor.access) as reader:
        stored = await reader.read("Group", id)
    if stored is None:
        raise NotFound("There is no such Group", rule="unknown-id")
    if stored.deleted:
        raise Deleted("This Group is deleted", rule="deleted")
    group = parse(stored.whole())
    if not group.get("actual"):
        raise Unprocessable(
            "This Group describes its members and does not name them",
            expression="Group.actual",
            rule="group",
        )
    found: dict[str, None] = {}
    for place, member in enumerate(group.get("member", ())):
        patient = local(member["entity"].get("reference") or "", gateway.settings.base_url)
        if patient is None or patient.type != "Patient":
            raise Unprocessable(
                "A Group is exported whose members are Patients of this server",
                expression=f"Group.member[{place}].entity",
                rule="group",
            )
        if _is_member(gateway, member):
            found[patient.id] = None
    return tuple(found)


def _is_member(gateway: Gateway, member: dict[str, Any]) -> bool:
    """True unless the member is inactive, or its period is over or still to come."""
    if member.get("inactive"):
        return False
    period, zone, now = member.get("period", {}), gateway.settings.zone, gateway.clock.now()
    begun = "start" not in period or date_range(period["start"], zone)[0] <= now
    return begun and ("end" not in period or now <= date_range(period["end"], zone)[1])


def _path(call: Call) -> str:
    """The request as one address: of a POST the parameters stand where they would in a GET."""
    place = "/".join(part for part in (call.type, call.id, call.name) if part)
    pairs = [
        (name, taken.value if isinstance(taken.value, str) else taken.value.get("reference", ""))
        for name, given in call.parameters.items()
        for taken in given
    ]
    return f"{place}?{urlencode(pairs)}" if pairs else place
