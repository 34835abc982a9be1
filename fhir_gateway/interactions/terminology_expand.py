"""$expand and $translate (FHIR R4 valueset-operations.html, conceptmap-operations.html).

Long lists are made in a thread, so that other requests go on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.operation_definitions import Call, Taken
from fhir_gateway.interactions.terminology_asked import asked_of, codings, pins, subject
from fhir_gateway.interactions.terminology_operations import Json, parameters
from fhir_gateway.security.actor import Actor
from fhir_gateway.terminology.expansion import Expanding
from fhir_gateway.terminology.service_library import canonical
from fhir_gateway.terminology.service_validate import Coding
from fhir_gateway.terminology.translation import (
    Dependency,
    Match,
    Translated,
    Translating,
)

#: Characters of a filter.
_LONGEST_FILTER = 200


async def expand(gateway: Gateway, actor: Actor, call: Call) -> Json:
    """A ValueSet with its expansion. Raises NotFound, Unprocessable, TooCostly."""
    known = await asked_of(gateway, call)
    named = await subject(gateway, call, "valueSet", "valueSetVersion")
    if not named:
        raise Invalid(
            "Say which value set: give url or valueSet", expression="url", rule="required"
        )
    expanding = _expanding(gateway, call)
    plain = not any(expanding.pins) and not expanding.date
    if isinstance(named, str) and plain and known.is_quick(named):
        return known.expand(named, expanding)
    return await asyncio.to_thread(known.expand, named, expanding)


def _expanding(gateway: Gateway, call: Call) -> Expanding:
    text = call.value("filter") or ""
    if len(text) > _LONGEST_FILTER:
        raise Invalid(
            f"A filter has at most {_LONGEST_FILTER} characters",
            expression="filter",
            rule="parameter",
        )
    return Expanding(
        filter=text,
        offset=_size(call, "offset"),
        most=_size(call, "count"),
        active_only=bool(call.value("activeOnly")),
        include_designations=bool(call.value("includeDesignations")),
        designations=tuple(call.values("designation")),
        include_definition=bool(call.value("includeDefinition")),
        exclude_nested=bool(call.value("excludeNested")),
        exclude_not_for_ui=bool(call.value("excludeNotForUI")),
        display_language=call.value("displayLanguage") or "",
        properties=tuple(dict.fromkeys(call.values("property"))),
        pins=pins(call),
        date=call.value("date") or "",
        identifier=UUID(bytes=gateway.random(16), version=4).urn,
        timestamp=instant(gateway.clock.now()),
    )


def _size(call: Call, name: str) -> int | None:
    taken = call.one(name)
    if taken is None:
        return None
    if taken.value < 0:
        raise Invalid(f"{name} is 0 or more", expression=taken.expression, rule="parameter")
    size: int = taken.value
    return size


async def translate(gateway: Gateway, actor: Actor, call: Call) -> Json:
    """What a code is in another system. Raises NotFound for an unknown concept map."""
    known = await asked_of(gateway, call)
    named = await subject(gateway, call, "conceptMap", "conceptMapVersion")
    system, version = canonical(call.value("system") or "")
    given = codings(call, system=system, version=version or call.value("version") or "")
    if not all(one.system and one.code for one in given):
        raise Invalid(
            "A code is translated with its system: give both", expression="system", rule="required"
        )
    translating = _translating(actor, call, named)
    if not named and not (translating.target or translating.target_system or translating.source):
        raise Invalid(
            "Say by which map, or to what: give url, conceptMap, target or targetsystem",
            expression="url",
            rule="required",
        )
    found = [await asyncio.to_thread(known.translate, one, translating) for one in given]
    return parameters([*_told(_joined(found))])


def _translating(actor: Actor, call: Call, named: Mapping[str, Any] | str) -> Translating:
    return Translating(
        map=None if isinstance(named, str) else named,
        url=named if isinstance(named, str) else "",
        source=call.value("source") or "",
        target=call.value("target") or "",
        target_system=call.value("targetsystem") or "",
        dependencies=tuple(_dependency(one) for one in call.parameters["dependency"]),
        reverse=bool(call.value("reverse")),
        language=call.value("displayLanguage") or "",
        institution=actor.institution if actor.bound else None,
    )


def _dependency(taken: Taken) -> Dependency:
    (element,), (concept,) = taken.value["element"], taken.value["concept"]
    values = {
        (one.get("system", ""), one.get("code", "")) for one in concept.value.get("coding", ())
    }
    if concept.value.get("text"):
        values.add(("", concept.value["text"]))
    return Dependency(element.value, frozenset(values))


def _joined(found: Sequence[Translated]) -> Translated:
    """The answers for the codings of one concept as one."""
    if not found:
        return Translated(False, "There is no coding to translate", ())
    result = any(one.result for one in found)
    said = [one.message for one in found if one.message and (one.result or not result)]
    matches = dict.fromkeys(match for one in found for match in one.matches)
    return Translated(result, "; ".join(dict.fromkeys(said)), tuple(matches))


def _told(found: Translated) -> Iterator[Json]:
    yield {"name": "result", "valueBoolean": found.result}
    if found.message:
        yield {"name": "message", "valueString": found.message}
    for match in found.matches:
        yield {"name": "match", "part": [*_match(match)]}


def _match(match: Match) -> Iterator[Json]:
    yield {"name": "equivalence", "valueCode": match.equivalence}
    if match.coding is not None:
        yield {"name": "concept", "valueCoding": _coding(match.coding)}
    for product in match.products:
        part: list[Json] = (
            [{"name": "element", "valueUri": product.element}] if (product.element) else []
        )
        part.append({"name": "concept", "valueCoding": _coding(product.coding)})
        yield {"name": "product", "part": part}
    if match.source:
        yield {"name": "source", "valueUri": match.source}


def _coding(coding: Coding) -> Json:
    told = {
        "system": coding.system, "version": coding.version, "code": coding.code,
        "display": coding.display,
    }  # fmt: skip
    return {name: value for name, value in told.items() if value}
