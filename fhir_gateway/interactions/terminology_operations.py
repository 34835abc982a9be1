"""$lookup, $validate-code, $batch-validate-code and $subsumes (FHIR R4 codesystem-operations.html).

A code that is wrong is an answer and no error: 200 with result false. Errors are for what makes a
question meaningless: an unknown value set, parameters that contradict each other. Terminology is
about nobody, so these answers leave no AuditEvent; refusals do, as everywhere (docs/adr/0016).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Invalid
from fhir_gateway.fhir.outcome import outcome_resource
from fhir_gateway.interactions.given import take
from fhir_gateway.interactions.operation_definitions import Call
from fhir_gateway.interactions.pace import unhurried
from fhir_gateway.interactions.terminology import TYPES
from fhir_gateway.interactions.terminology_asked import (
    asked_of,
    coding_of,
    codings,
    judged,
    pins,
    sound,
    subject,
    versioned,
)
from fhir_gateway.interactions.terminology_definitions import VALIDATE_CODE
from fhir_gateway.security.actor import Actor
from fhir_gateway.terminology.compose_filters import values_of
from fhir_gateway.terminology.expansion import told_value
from fhir_gateway.terminology.service import Looked, Terminology
from fhir_gateway.terminology.service_library import canonical
from fhir_gateway.terminology.service_names import display_of, names_of
from fhir_gateway.terminology.service_validate import Checking, Coding, Verdict
from fhir_gateway.terminology.system import System

Json = dict[str, Any]

#: Codes below one code that are told as its properties.
_MOST_CHILDREN = 1_000


def parameters(members: Sequence[Json]) -> Json:
    """A Parameters resource."""
    return {"resourceType": "Parameters", "parameter": list(members)}


# -- $lookup -------------------------------------------------------------------------------------


async def lookup(gateway: Gateway, actor: Actor, call: Call) -> Json:
    """What a code means. Raises NotFound for an unknown system, version or code."""
    known = await asked_of(gateway, call)
    (coding,) = codings(
        call, system=call.value("system") or "", version=call.value("version") or ""
    )
    if not coding.system or not coding.code:
        raise Invalid(
            "A code is looked up in its system: give both",
            expression="system" if not coding.system else "code",
            rule="required",
        )
    url, version = canonical(versioned(coding.system, coding.version))
    language = call.value("displayLanguage") or ""
    looked = known.lookup(
        url, coding.code, version=version, date=call.value("date") or "", language=language
    )
    return parameters([*_told(looked, set(call.values("property")), language)])


def _told(looked: Looked, wanted: set[str], language: str) -> Iterator[Json]:
    """The answer. What is not asked for is left out, but for what R4 requires."""
    system, concept, display = looked
    yield {"name": "name", "valueString": system.title or system.url}
    if system.version:
        yield {"name": "version", "valueString": system.version}
    yield {"name": "display", "valueString": display or concept.code}
    if concept.abstract:
        yield {"name": "abstract", "valueBoolean": True}
    if concept.inactive:
        yield {"name": "inactive", "valueBoolean": True}
    if concept.definition and (not wanted or "definition" in wanted):
        yield {"name": "definition", "valueString": concept.definition}
    if not wanted or "designation" in wanted:
        for one in names_of(concept, system):
            part: list[Json] = []
            if one.language:
                part.append({"name": "language", "valueCode": one.language})
            if one.use is not None:
                use = {"system": one.use[0], "code": one.use[1]}
                part.append({"name": "use", "valueCoding": {k: v for k, v in use.items() if v}})
            part.append({"name": "value", "valueString": one.value})
            yield {"name": "designation", "part": part}
    yield from _properties(looked, wanted, language)


def _properties(looked: Looked, wanted: set[str], language: str) -> Iterator[Json]:
    system, concept, _ = looked
    for one in concept.properties:
        if one.code not in ("parent", "child") and (not wanted or one.code in wanted):
            value = told_value(one.value, one.type, system, one.code)
            yield _property(one.code, value, _named(system, value.get("valueCode"), language))
    for name in ("parent", "child"):
        if wanted and name not in wanted:
            continue
        for number, code in enumerate(values_of(concept, name, system)):
            if number == _MOST_CHILDREN:
                break
            yield _property(name, {"valueCode": code}, _named(system, code, language))
    if "inactive" in wanted and not any(one.code == "inactive" for one in concept.properties):
        yield _property("inactive", {"valueBoolean": concept.inactive}, "")


def _named(system: System, code: Any, language: str) -> str:
    found = system.find(code) if isinstance(code, str) else None
    return display_of(found, system, language) if found is not None else ""


def _property(code: str, value: Json, description: str) -> Json:
    part: list[Json] = [{"name": "code", "valueCode": code}, {"name": "value", **value}]
    if description:
        part.append({"name": "description", "valueString": description})
    return {"name": "property", "part": part}


# -- $validate-code ------------------------------------------------------------------------------


async def validate_code(gateway: Gateway, actor: Actor, call: Call) -> Json:
    """Whether a code is right. Raises NotFound for an unknown value set."""
    known = await asked_of(gateway, call)
    return await _validated(gateway, known, call)


async def batch_validate_code(gateway: Gateway, actor: Actor, call: Call) -> Json:
    """Whether codes are right, one answer for each question; a bad question spoils no other."""
    known = await asked_of(gateway, call)
    answers = []
    async for taken in unhurried(call.parameters["validation"]):
        try:
            given = take(judged(taken, ("Parameters",)), VALIDATE_CODE.taken_on(call.type))
            one = call._replace(parameters=given.parameters)
            brought = [await sound(resource, TYPES)
                       for resource in given.parameters["tx-resource"]]  # fmt: skip
            answer = await _validated(gateway, known.beside(brought), one)
        except GatewayError as error:
            answer = outcome_resource(error.issues)
        answers.append({"name": "validation", "resource": answer})
    return parameters(answers)


async def _validated(gateway: Gateway, known: Terminology, call: Call) -> Json:
    if call.type == "CodeSystem":
        return _verdict(await _in_system(gateway, known, call))
    return _verdict(await _in_value_set(gateway, known, call))


def _checking(call: Call) -> Checking:
    abstract = call.value("abstract")
    return Checking(
        language=call.value("displayLanguage") or "",
        abstract=abstract is not False,
        lenient_display=bool(call.value("lenient-display-validation")),
        active_only=bool(call.parameters.get("activeOnly") and call.value("activeOnly")),
        infer=bool(call.parameters.get("inferSystem") and call.value("inferSystem")),
        date=call.value("date") or "",
        pins=pins(call),
    )


async def _in_system(gateway: Gateway, known: Terminology, call: Call) -> Verdict:
    """On CodeSystem: the codings are all of the one system."""
    named = await subject(gateway, call, "codeSystem", "version")
    if not isinstance(named, str):
        if not named.get("url"):
            raise Invalid("The code system has no url", expression="codeSystem", rule="required")
        known = known.beside([named])
        named = versioned(named["url"], named.get("version", ""))
    url, version = canonical(named)
    given = codings(call, system=url, version=version)
    if not url and any(not one.system for one in given):
        raise Invalid("Say in which code system: give url", expression="url", rule="required")
    inside, checking = [_inside(one, url, version) for one in given], _checking(call)
    if not any(one.display for one in inside):
        return known.validate_code(inside, checking=checking)
    return await asyncio.to_thread(known.validate_code, inside, checking=checking)


def _inside(one: Coding, url: str, version: str) -> Coding:
    if url and one.system and one.system != url:
        raise Invalid(
            "The coding is of another system than the one that is asked",
            expression=f"{one.expression}.system",
            rule="system",
        )
    return one._replace(system=one.system or url, version=one.version or version)


async def _in_value_set(gateway: Gateway, known: Terminology, call: Call) -> Verdict:
    named = await subject(gateway, call, "valueSet", "valueSetVersion")
    if not named:
        raise Invalid("Say in which value set: give url or valueSet", expression="url",
                      rule="required")  # fmt: skip
    system, version = canonical(call.value("system") or "")
    given = codings(call, system=system, version=version or call.value("systemVersion") or "")
    checking = _checking(call)
    if isinstance(named, str) and known.is_compiled(named) and not any(checking.pins):
        return known.validate_code(given, named, checking)
    return await asyncio.to_thread(known.validate_code, given, named, checking)


def _verdict(verdict: Verdict) -> Json:
    coding = verdict.coding
    told: list[Json] = [{"name": "result", "valueBoolean": verdict.result}]
    for name, element, value in (
        ("message", "valueString", verdict.message),
        ("display", "valueString", coding.display if verdict.result or verdict.named else ""),
        ("code", "valueCode", coding.code),
        ("system", "valueUri", coding.system),
        ("version", "valueString", coding.version),
        ("inactive", "valueBoolean", verdict.inactive),
    ):
        if value:
            told.append({"name": name, element: value})
    if verdict.issues:
        told.append({"name": "issues", "resource": outcome_resource(verdict.issues)})
    return parameters(told)


# -- $subsumes -----------------------------------------------------------------------------------


async def subsumes(gateway: Gateway, actor: Actor, call: Call) -> Json:
    """How code A stands to code B. Raises NotFound for an unknown system or code."""
    known = await asked_of(gateway, call)
    url, version = canonical(call.value("system") or "")
    version = version or call.value("version") or ""
    if call.id:
        if url:
            raise Invalid("The call is on one CodeSystem already; leave this out",
                          expression="system", rule="parameter")  # fmt: skip
        named = await subject(gateway, call, "codeSystem", "version")
        assert not isinstance(named, str)
        known = known.beside([named])
        url, version = named.get("url", ""), named.get("version", "")
    first, second = _side(call, "A", url, version), _side(call, "B", url, version)
    if first.system != second.system:
        raise Invalid("Both codes must be of one system", expression="codingB", rule="system")
    if not first.system:
        raise Invalid("Say in which code system", expression="system", rule="required")
    outcome = await asyncio.to_thread(
        known.subsumes, first.system, first.code, second.code, version=first.version or version
    )
    return parameters([{"name": "outcome", "valueCode": outcome}])


def _side(call: Call, side: str, url: str, version: str) -> Coding:
    code, coding = call.one(f"code{side}"), call.one(f"coding{side}")
    if (code is None) == (coding is None):
        raise Invalid(
            f"Give code{side} or coding{side}",
            expression=f"code{side}",
            rule="required" if code is None else "parameter",
        )
    if code is not None:
        return Coding(url, code.value, version)
    assert coding is not None
    given = coding_of(coding)
    if url and given.system and given.system != url:
        raise Invalid("The coding is of another system than the one that is asked",
                      expression=coding.expression, rule="system")  # fmt: skip
    return given._replace(system=given.system or url)
