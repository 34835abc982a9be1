"""A decision as it is kept for ever: one GuidanceResponse in the journal, about 2 kB.

hl7.org/fhir/R4/guidanceresponse.html, docs/adr/0013-decisions-are-guidance-responses.md. The
contained Parameters hold what `decide` was given (parameter `inputs`, the exact JSON of `Inputs`)
and what it said (one `item` for each ordered item); sentences are not kept, they are rendered
from rule and reason. Everything is joined as bytes: this runs for every call of a workstation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

import msgspec
from msgspec.json import encode

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.wire import instant
from fhir_gateway.recognition.model import Decision, ItemOutcome, Line, Query
from fhir_gateway.recognition.record_needs import needed
from fhir_gateway.settings import CANONICAL

#: What stands as module when no rule set was in force.
RECOGNIZE_URL = f"{CANONICAL}/OperationDefinition/recognize"

_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _BASE32 for second in _BASE32]
_SHIFTS = tuple(range(120, -1, -10))
#: The lowest 12 bits of a decision's number are 0 and count its cards and suggestions.
_COUNTED = 0xFFF
MAX_LINES = 1_000


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """A Sight as it was: see security.actor. `at` is the moment (µs) of the snapshot."""

    party: int
    relation: bool
    permit: bool
    denials: bool
    at: int


class Inputs(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that `decide` was given, or by which it can be read again at commit `query.t`.

    `rule_set` is the version of the PlanDefinition ("PlanDefinition/x/_history/3"), or those of all
    levels with a space between them; `digest` the hash of its rules; `max_class`, `owners`, `sight`
    and `homes` are the caller's Access.
    """

    query: Query
    rule_set: str = ""
    digest: str = ""
    max_class: int = 0
    owners: tuple[int, ...] | None = None
    unknown: str = ""  # why there is no person: patient-unknown, identity-contradictory
    lists: tuple[str, ...] = ()  # versions of the lists that the rule set speaks of, and their maps
    sight: Seen | None = None  # how rows of others opened; None: no policy asked for anything
    homes: tuple[int, ...] | None = None


class Occasion(NamedTuple):
    """Where a question came from: what was called, by whom, in which visit (a reference), and the
    hash of the kept call."""

    operation: str  # order-sign, order-select, $recognize
    instance: str = ""
    user: str = ""
    received: str = ""  # hex of SHA-256
    encounter: str = ""


class Sources(NamedTuple):
    """The sources of an answer in short: how many, and the ids of the stale ones."""

    total: int
    stale: str


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
    bits = number << 2
    return "".join([_PAIRS[(bits >> shift) & 1023] for shift in _SHIFTS])


def card_uuid(number: int, line: int, suggestion: int = 0) -> str:
    """The uuid of an order line's card: decision and line can be read from it, nothing is kept."""
    text = f"{number | line << 2 | suggestion:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def read_card_uuid(text: str) -> Card:
    """What a card's uuid says. Raises Invalid for one that no gateway has made."""
    try:
        number = UUID(text).int
    except ValueError:
        raise Invalid("This is not a uuid", rule="card-uuid") from None
    low = number & _COUNTED
    return Card(logical_id(number - low), low >> 2, low & 3)


# -- the resource ----------------------------------------------------------------------------------


def render_tail(inputs: Inputs, decision: Decision, occasion: Occasion, sources: Sources) -> bytes:
    """The GuidanceResponse after `"lastUpdated":"…"`: see fhir.wire.tail."""
    query = inputs.query
    parts = [
        '},"contained":[{"resourceType":"Parameters","id":"out","parameter":[',
        _told("inputs", encode(inputs).decode()),
        f',{{"name":"operation","valueCode":"{occasion.operation}"}},',
        _items(decision),
        f',{{"name":"sources","valueInteger":{sources.total}}}',
    ]
    if sources.stale:
        parts += ",", _told("stale", sources.stale)
    if occasion.user:
        parts += ",", _string("user", occasion.user)
    if occasion.received:
        parts.append(f',{{"name":"received","valueString":"urn:sha256:{occasion.received}"}}')
    parts.append("]}]")
    if occasion.instance:
        parts.append(f',"requestIdentifier":{{"value":{_quoted(occasion.instance)}}}')
    if decision.rule_set:
        parts.append(f',"moduleCanonical":{_quoted(decision.rule_set)}')
    else:
        parts.append(f',"moduleUri":"{RECOGNIZE_URL}"')
    # R4 has one status for all items: one that lacks data makes the whole call lack them
    lacking = needed(decision)
    parts.append(f',"status":"{"data-required" if lacking else "success"}"')
    if query.patient:
        parts.append(f',"subject":{{"reference":"Patient/{query.patient}"}}')
    if occasion.encounter:
        parts.append(f',"encounter":{{"reference":{_quoted(occasion.encounter)}}}')
    parts.append(
        f',"occurrenceDateTime":"{instant(decision.as_of_us)}",'
        '"performer":{"display":"fhir-gateway"},"outputParameters":{"reference":"#out"}'
    )
    parts.append(lacking)
    return "".join(parts).encode() + b"}"


def render_decided(decision: Decision) -> bytes:
    """The decision itself, with the ends of what stands around it in its record: so it is found
    only where no item stands before it or after it. Deciding again from the same inputs must give
    the same bytes."""
    return f'"}},{_items(decision)},{{"name":"sources","valueInteger":'.encode()


def render_item(item: ItemOutcome) -> str:
    """The parameter of one item, as it stands in the record."""
    return _item(item)


def _items(decision: Decision) -> str:
    parameters = [_string("catalogue", decision.catalogue)] if decision.catalogue else []
    parameters += [_string("layer", layer) for layer in decision.layers]
    parameters += map(_item, decision.items)
    return ",".join(parameters)


def _item(item: ItemOutcome) -> str:
    """One parameter. Codes and references need no quoting: their alphabet is ours or FHIR's."""
    parts = [
        _string("key", item.key),
        _said(
            item.item,
            item.outcome,
            item.reason,
            item.suggest,
            item.ground,
            item.window_days,
            item.window_source,
        ),
    ]
    if item.chosen is not None:
        chosen = f"{item.chosen.source}/_history/{item.chosen.version}"
        parts.append(_reference("result", chosen))
        if item.chosen.report_source:
            parts.append(_reference("report", item.chosen.report_source))
        parts += _lines(item.lines, chosen)
    if item.others or item.newer:
        parts += _rest(item)
    return f'{{"name":"item","part":[{",".join(parts)}]}}'


@lru_cache(maxsize=8_192)
def _said(
    code: str | None,
    outcome: str,
    reason: str,
    suggest: bool,
    ground: str,
    days: int | None,
    source: str,
) -> str:
    """What is the same for every patient who is answered so."""
    parts = [_string("code", code)] if code else []
    parts.append(
        f'{{"name":"outcome","valueCode":"{outcome}"}},{{"name":"reason","valueCode":"{reason}"}}'
    )
    if suggest:
        parts.append('{"name":"suggest","valueBoolean":true}')
    if ground:
        parts.append(_string("ground", ground))
    if days is not None:
        parts.append(_string("window", f"{days} {source}".strip()))
    return ",".join(parts)


def _rest(item: ItemOutcome) -> list[str]:
    """The results that were not chosen."""
    parts = [
        f'{{"name":"other","valueString":"{other.source}/_history/{other.version} '
        f'{other.outcome} {_words(other.line)}"}}'
        for other in item.others
    ]
    parts += [
        f'{{"name":"newer","valueString":"{newer.candidate.source}/_history/'
        f'{newer.candidate.version} {newer.outcome}{" pending" if newer.pending else ""}"}}'
        for newer in item.newer
    ]
    return parts


def _lines(lines: Sequence[Line], chosen: str) -> list[str]:
    """All lines of the chosen candidate: names of those that passed, the others with their facts.

    The area of a mark is evidence, so the line that found it is always told in full.
    """
    passed = [one.rule for one in lines if one.verdict == "pass" and "area" not in one.values]
    idle = [one.rule for one in lines if one.verdict == "not-applicable"]
    told = [
        one
        for one in lines
        if one.verdict != "not-applicable" and (one.verdict != "pass" or "area" in one.values)
    ]
    parts = []
    if passed:
        parts.append(f'{{"name":"pass","valueString":"{" ".join(passed)}"}}')
    if idle:
        parts.append(f'{{"name":"not-applicable","valueString":"{" ".join(idle)}"}}')
    parts += [_string("line", _line_text(line, chosen)) for line in told]
    return parts


def _line_text(line: Line, chosen: str) -> str:
    text = _words(line)
    if line.evidence and line.evidence != chosen:
        text = f"{text} {line.evidence}"
    return f"{text} {encode(line.values).decode()}" if line.values else text


def _words(line: Line) -> str:
    words = f"{line.rule} {line.verdict}"
    return f"{words} {line.reason}" if line.reason else words


def _quoted(text: str) -> str:
    return encode(text).decode()


def _told(name: str, text: str) -> str:
    return f'{{"name":"{name}","valueString":{encode(text).decode()}}}'


#: Order lines, items, rules and what they say are the same few thousand texts again and again.
_string = lru_cache(maxsize=16_384)(_told)


def _reference(name: str, reference: str) -> str:
    return f'{{"name":"{name}","valueReference":{{"reference":"{reference}"}}}}'
