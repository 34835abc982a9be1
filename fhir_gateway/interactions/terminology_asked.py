"""What the calls of the terminology operations ask, read from their parameters."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, Unprocessable
from fhir_gateway.fhir.validate import issues
from fhir_gateway.interactions.operation_definitions import Call, Taken
from fhir_gateway.interactions.terminology import TYPES, stored_resource, terminology
from fhir_gateway.terminology.compose import Pins
from fhir_gateway.terminology.service import Terminology
from fhir_gateway.terminology.service_library import canonical
from fhir_gateway.terminology.service_validate import Coding

Resource = Mapping[str, Any]

#: Codings of one CodeableConcept.
MOST_CODINGS = 50


async def asked_of(gateway: Gateway, call: Call) -> Terminology:
    """The terminology that answers a call: what is in force, and what the call brings along.

    Raises Unprocessable for a resource that is broken, Invalid for one of another type.
    """
    known = await terminology(gateway)
    brought = [await sound(taken, TYPES) for taken in call.parameters.get("tx-resource", ())]
    return known.beside(brought)


async def sound(taken: Taken, types: tuple[str, ...]) -> Resource:
    """What `judged` answers, found in a thread: a resource may be large."""
    return await asyncio.to_thread(judged, taken, types)


def judged(taken: Taken, types: tuple[str, ...]) -> Resource:
    """A resource that a call brings along, sound and of one of these types."""
    resource = taken.value
    type = resource.get("resourceType") if isinstance(resource, dict) else None
    if type not in types:
        raise Invalid(
            f"This must be a {' or a '.join(types)}", expression=taken.expression, rule="resource"
        )
    found = issues(resource, type=type)
    if found:
        raise Unprocessable(issues=tuple(found))
    return dict(resource)


async def subject(gateway: Gateway, call: Call, inline: str, version: str) -> Resource | str:
    """The resource that a call is about: the instance, the one it brings, or a canonical url.

    "" when nothing is named. Raises NotFound for an unknown instance, Invalid when two are named.
    """
    named = [
        taken for name in ("url", inline) if (taken := call.one(name)) is not None
    ]  # fmt: skip
    if call.id and named:
        raise Invalid(
            f"The call is on one {call.type} already; leave this out",
            expression=named[0].expression,
            rule="parameter",
        )
    if len(named) > 1:
        raise Invalid(
            f"Give url or {inline}, not both", expression=named[1].expression, rule="parameter"
        )
    if call.id:
        return await stored_resource(gateway, call.type, call.id)
    if not named:
        return ""
    if isinstance(named[0].value, str):
        return versioned(named[0].value, call.value(version) or "")
    return await sound(named[0], (call.type,))


def versioned(url: str, version: str) -> str:
    """A canonical url with the version that stands apart, where it has none of its own."""
    return f"{url}|{version}" if version and "|" not in url else url


def codings(call: Call, *, system: str, version: str) -> list[Coding]:
    """The codings of a call: code, coding or codeableConcept, exactly one of them.

    `system` and `version` go with a bare code. Raises Invalid.
    """
    given = [
        taken
        for name in ("code", "coding", "codeableConcept")
        if (taken := call.parameters.get(name)) and (taken := taken[0])  # type: ignore[assignment]
    ]
    if len(given) != 1:
        raise Invalid(
            "Give one of code, coding and codeableConcept",
            expression=given[1].expression if given else "code",
            rule="required" if not given else "parameter",
        )
    one = given[0]
    if call.one("code") is not None:
        return [Coding(system, one.value, version, call.value("display") or "")]
    if call.one("coding") is not None:
        return [_coding(one.value, "Coding", call.value("display") or "")]
    listed = one.value.get("coding", ())
    if len(listed) > MOST_CODINGS:
        raise Invalid(
            f"A concept has at most {MOST_CODINGS} codings here",
            expression=one.expression,
            rule="parameter",
        )
    return [
        _coding(value, f"CodeableConcept.coding[{number}]") for number, value in enumerate(listed)
    ]


def coding_of(taken: Taken) -> Coding:
    """A Coding parameter."""
    return _coding(taken.value, taken.expression)


def _coding(value: Resource, where: str, display: str = "") -> Coding:
    return Coding(
        value.get("system", ""),
        value.get("code", ""),
        value.get("version", ""),
        value.get("display", "") or display,
        where,
    )


def pins(call: Call) -> Pins:
    """The versions that a call insists on. Raises Invalid for one without a version."""
    return Pins(
        tuple(_pins(call, "system-version")),
        tuple(_pins(call, "check-system-version")),
        tuple(_pins(call, "force-system-version")),
        tuple(canonical(text) for text in _values(call, "exclude-system")),
    )


def _pins(call: Call, name: str) -> Iterator[Any]:
    for taken in call.parameters.get(name, ()):
        pin = canonical(taken.value)
        if not pin.url or not pin.version:
            raise Invalid(
                f"{name} is a system and its version: url|version",
                expression=taken.expression,
                rule="parameter",
            )
        yield pin


def _values(call: Call, name: str) -> list[str]:
    return [taken.value for taken in call.parameters.get(name, ())]
