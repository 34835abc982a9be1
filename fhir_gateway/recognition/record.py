"""A decision as it is kept for ever: one GuidanceResponse in the journal, about 2 kB.

hl7.org/fhir/R4/guidanceresponse.html, docs/adr/0013-decisions-are-guidance-responses.md. The
contained Parameters hold what `decide` was given (parameter `inputs`, the exact JSON of `Inputs`)
and what it said (one `item` for each ordered item); sentences are not kept, they are rendered
from rule and reason. Everything is joined as bytes: this runs for every call of a workstation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

import msgspec
from msgspec.json import encode

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.wire import instant
from fhir_gateway.recognition.model import Decision, ItemOutcome, Line, Query
from fhir_gateway.settings import CANONICAL

#: What stands as module when no rule set was in force.
RECOGNIZE_URL = f"{CANONICAL}/OperationDefinition/recognize"

_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"
#: The lowest 12 bits of a decision's number are 0 and count its cards and suggestions.
_COUNTED = 0xFFF
MAX_LINES = 1_000


class Inputs(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that `decide` was given, or by which it can be read again at commit `query.t`.

    `rule_set` is the version of the PlanDefinition ("PlanDefinition/x/_history/3"), `digest` the
    hash of its rules; `max_class` and `owners` are the caller's Access.
    """

    query: Query
    rule_set: str = ""
    digest: str = ""
    max_class: int = 0
    owners: tuple[int, ...] | None = None
    unknown: str = ""  # why there is no person: patient-unknown, identity-contradictory


class Occasion(NamedTuple):
    """Where a question came from: what was called, by whom, and the hash of the kept call."""

    operation: str  # order-sign, order-select, $recognize
    instance: str = ""
    user: str = ""
    received: str = ""  # hex of SHA-256


class Card(NamedTuple):
    """What the uuid of a card or of its suggestion says."""

    decision: str
    line: int
    suggestion: int  # 0 for the card itself


def decision_number(gateway: Gateway) -> int:
    """A number that nobody has, laid out as a version 7 UUID (RFC 9562) whose last bits are 0."""
    chance = int.from_bytes(gateway.random(8), "big")
    milliseconds = gateway.clock.now() // 1000
    high = milliseconds << 16 | 0x7000 | chance >> 52
    return (high << 64) | (2 << 62) | ((chance & ((1 << 50) - 1)) << 12)


def logical_id(number: int) -> str:
    """A 128-bit number as a logical id: 26 characters that sort as the numbers do."""
    return "".join(_BASE32[number >> shift & 31] for shift in range(125, -1, -5))


def card_uuid(number: int, line: int, suggestion: int = 0) -> str:
    """The uuid of an order line's card: decision and line can be read from it, nothing is kept."""
    return str(UUID(int=number | line << 2 | suggestion))


def read_card_uuid(text: str) -> Card:
    """What a card's uuid says. Raises Invalid for one that no gateway has made."""
    try:
        number = UUID(text).int
    except ValueError:
        raise Invalid("This is not a uuid", rule="card-uuid") from None
    low = number & _COUNTED
    return Card(logical_id(number - low), low >> 2, low & 3)


# -- the resource ----------------------------------------------------------------------------------


def render_tail(
    inputs: Inputs, decision: Decision, occasion: Occasion, stale: Sequence[str], sources: int
) -> bytes:
    """The GuidanceResponse after `"lastUpdated":"…"`: see fhir.wire.tail."""
    query = inputs.query
    parts = [
        b'},"contained":[{"resourceType":"Parameters","id":"out","parameter":[',
        _string("inputs", encode(inputs).decode()),
        b",", _code("operation", occasion.operation),
        b",", render_items(decision),
        b',{"name":"sources","valueInteger":%d}' % sources,
    ]  # fmt: skip
    parts += (b"," + _reference("stale", f"Organization/{name}") for name in stale)
    if occasion.user:
        parts += b",", _string("user", occasion.user)
    if occasion.received:
        parts += b",", _string("received", f"urn:sha256:{occasion.received}")
    parts.append(b"]}]")
    if occasion.instance:
        parts.append(b',"requestIdentifier":{"value":%s}' % encode(occasion.instance))
    if decision.rule_set:
        parts.append(b',"moduleCanonical":%s' % encode(decision.rule_set))
    else:
        parts.append(b',"moduleUri":%s' % encode(RECOGNIZE_URL))
    parts.append(b',"status":"%s"' % _status(decision))
    if query.patient:
        parts.append(b',"subject":{"reference":%s}' % encode(f"Patient/{query.patient}"))
    parts.append(b',"occurrenceDateTime":"%s"' % instant(decision.as_of_us).encode())
    parts.append(b',"performer":{"display":"fhir-gateway"}')
    parts.append(b',"outputParameters":{"reference":"#out"}}')
    return b"".join(parts)


def _status(decision: Decision) -> bytes:
    """`data-required` when nothing at all could be decided."""
    decided = any(item.outcome != "cannot-decide" for item in decision.items)
    return b"success" if decided or not decision.items else b"data-required"


def render_items(decision: Decision) -> bytes:
    """The decision itself. Deciding again from the same inputs must give the same bytes."""
    parameters = [_string("catalogue", decision.catalogue)] if decision.catalogue else []
    parameters += map(_item, decision.items)
    return b",".join(parameters)


def _item(item: ItemOutcome) -> bytes:
    parts = [_string("key", item.key)]
    if item.item:
        parts.append(_code("code", item.item))
    parts += (_code("outcome", item.outcome), _code("reason", item.reason))
    if item.suggest:
        parts.append(b'{"name":"suggest","valueBoolean":true}')
    if item.ground:
        parts.append(_code("ground", item.ground))
    if item.window_days is not None:
        parts.append(_string("window", f"{item.window_days} {item.window_source}".strip()))
    if item.chosen is not None:
        chosen = f"{item.chosen.source}/_history/{item.chosen.version}"
        parts.append(_reference("result", chosen))
        if item.chosen.report_source:
            parts.append(_reference("report", item.chosen.report_source))
        parts += _lines(item.lines, chosen)
    parts += (
        _string(
            "other",
            f"{other.source}/_history/{other.version} {other.outcome} {_words(other.line)}",
        )
        for other in item.others
    )
    parts += (
        _string(
            "newer",
            f"{newer.candidate.source}/_history/{newer.candidate.version} {newer.outcome}"
            f"{' pending' if newer.pending else ''}",
        )
        for newer in item.newer
    )
    return b'{"name":"item","part":[%s]}' % b",".join(parts)


def _lines(lines: Iterable[Line], chosen: str) -> Iterable[bytes]:
    """All lines of the chosen candidate: names of those that passed, the others with their facts.

    The area of a mark is evidence, so the line that found it is always told in full.
    """
    quiet: dict[str, list[str]] = {"pass": [], "not-applicable": []}
    told = []
    for line in lines:
        if line.verdict in quiet and "area" not in line.values:
            quiet[line.verdict].append(line.rule)
        else:
            told.append(_string("line", _line_text(line, chosen)))
    for verdict, rules in quiet.items():
        if rules:
            yield _string(verdict, " ".join(rules))
    yield from told


def _line_text(line: Line, chosen: str) -> str:
    text = _words(line)
    if line.evidence and line.evidence != chosen:
        text = f"{text} {line.evidence}"
    return f"{text} {encode(line.values).decode()}" if line.values else text


def _words(line: Line) -> str:
    return (
        f"{line.rule} {line.verdict} {line.reason}"
        if line.reason
        else (f"{line.rule} {line.verdict}")
    )


def _string(name: str, text: str) -> bytes:
    return b'{"name":"%s","valueString":%s}' % (name.encode(), encode(text))


def _code(name: str, code: str) -> bytes:
    return b'{"name":"%s","valueCode":%s}' % (name.encode(), encode(code))


def _reference(name: str, reference: str) -> bytes:
    return b'{"name":"%s","valueReference":{"reference":%s}}' % (name.encode(), encode(reference))
