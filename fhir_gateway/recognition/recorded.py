"""A decision read back from its GuidanceResponse: for the doctor's answer and for the replay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.errors import NotFound
from fhir_gateway.fhir.wire import parse
from fhir_gateway.recognition.record import Inputs
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.store import Reader, Stored

_inputs = msgspec.json.Decoder(Inputs)


class RecordedItem(NamedTuple):
    """One ordered item of a recorded decision. References of results carry no version."""

    code: str
    outcome: str
    reason: str
    result: str  # the chosen result, "" when there is none
    named: frozenset[str]  # every result that was weighed
    report: str = ""  # the report that carries the chosen result
    suggest: bool = False  # whether the workstation may offer to replace the order


class RecordedLine(NamedTuple):
    """One order line: all items under its key."""

    key: str
    items: tuple[RecordedItem, ...]


class Recorded(NamedTuple):
    """A decision as it stands in the journal."""

    stored: Stored
    inputs: Inputs
    lines: tuple[RecordedLine, ...]
    rule_set: str
    catalogue: str
    user: str  # who asked, as the workstation names them
    encounter: str = ""  # a reference to the visit, as it was asked


class Brief(NamedTuple):
    """What is needed to decide again; the rest of a record is read when something differs."""

    inputs: Inputs
    rule_set: str
    catalogue: str


async def read_decision(reader: Reader, actor: Actor, id: str) -> Recorded:
    """The recorded decision with this logical id.

    Raises NotFound when there is none, or when another institution asked for it.
    """
    stored = await reader.read("GuidanceResponse", id)
    recorded = recorded_of(stored) if stored is not None else None
    if recorded is None or not _is_its_own(actor, recorded):
        raise NotFound("There is no such decision", rule="decision")
    return recorded


def _is_its_own(actor: Actor, recorded: Recorded) -> bool:
    return not actor.bound or recorded.inputs.query.receiver == actor.institution


def recorded_of(stored: Stored) -> Recorded | None:
    """The decision that a GuidanceResponse holds; None when it holds none of ours."""
    resource = parse(stored.whole())
    parameters = _parameters(resource)
    texts = {p["name"]: p["valueString"] for p in parameters if "valueString" in p}
    if "inputs" not in texts:
        return None
    lines: dict[str, list[RecordedItem]] = {}
    for parameter in parameters:
        if parameter["name"] == "item":
            key, item = _item(parameter["part"])
            lines.setdefault(key, []).append(item)
    return Recorded(
        stored,
        _inputs.decode(texts["inputs"]),
        tuple(RecordedLine(key, tuple(items)) for key, items in lines.items()),
        resource.get("moduleCanonical", ""),
        texts.get("catalogue", ""),
        texts.get("user", ""),
        resource.get("encounter", {}).get("reference", ""),
    )


class _Said(msgspec.Struct):
    name: str = ""
    valueString: str = ""


class _Contained(msgspec.Struct):
    parameter: list[_Said] = []


class _Guidance(msgspec.Struct):
    contained: list[_Contained] = []
    moduleCanonical: str = ""


_guidance = msgspec.json.Decoder(_Guidance)


def brief_of(stored: Stored) -> Brief | None:
    """What a GuidanceResponse holds to decide by; None when it holds no decision of ours."""
    guidance = _guidance.decode(stored.whole())
    said = guidance.contained[0].parameter if guidance.contained else []
    texts = {one.name: one.valueString for one in said if one.valueString}
    if "inputs" not in texts:
        return None
    inputs = _inputs.decode(texts["inputs"])
    return Brief(inputs, guidance.moduleCanonical, texts.get("catalogue", ""))


def receiver_of(stored: Stored) -> str:
    """The institution that asked; "" where a GuidanceResponse holds no decision of ours."""
    brief = brief_of(stored)
    return brief.inputs.query.receiver if brief is not None else ""


def _parameters(resource: dict[str, Any]) -> list[dict[str, Any]]:
    for contained in resource.get("contained", ()):
        if contained["resourceType"] == "Parameters":
            found: list[dict[str, Any]] = contained.get("parameter", [])
            return found
    return []


def _item(parts: list[dict[str, Any]]) -> tuple[str, RecordedItem]:
    single = {part["name"]: part for part in parts}
    result = single.get("result", {}).get("valueReference", {}).get("reference", "")
    named = {_unversioned(text) for text in _named(parts)} | {_unversioned(result)} - {""}
    return single["key"]["valueString"], RecordedItem(
        single.get("code", {}).get("valueString", ""),
        single["outcome"]["valueCode"],
        single["reason"]["valueCode"],
        _unversioned(result),
        frozenset(named),
        single.get("report", {}).get("valueReference", {}).get("reference", ""),
        "suggest" in single,
    )


def _named(parts: list[dict[str, Any]]) -> Iterator[str]:
    for part in parts:
        if part["name"] in ("other", "newer"):
            yield part["valueString"].partition(" ")[0]
        elif part["name"] == "report":
            yield part["valueReference"]["reference"]


def _unversioned(reference: str) -> str:
    return reference.partition("/_history/")[0]
