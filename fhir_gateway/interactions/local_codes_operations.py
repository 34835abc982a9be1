"""The operations on an institution's local codes: the work list, decisions, coverage.

Organization/[id]/$unmapped-codes, $map-codes and $code-coverage. An institution asks for its own
codes, an operator for anybody's. docs/local-codes.md shows them.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.local_codes_coverage import Coverage, coverage, share
from fhir_gateway.interactions.local_codes_decide import (
    Asked,
    accepted_above,
    decide,
    use_of,
)
from fhir_gateway.interactions.local_codes_work import Line, check_institution, work_list
from fhir_gateway.interactions.operation_definitions import MANY, Call, Definition, Taken
from fhir_gateway.interactions.operation_definitions import Parameter as P
from fhir_gateway.interactions.own_operations import audit_asked, check_own, parameters, part
from fhir_gateway.security.actor import Actor
from fhir_gateway.terminology.local_map_check import Cells
from fhir_gateway.terminology.local_map_decide import Kind
from fhir_gateway.terminology.matcher import Proposal

#: Lines of an answer when nothing is asked for, and at most.
LINES, MOST_LINES = 100, 1_000

#: Resources that are looked at for an answer, and days back when no time is given.
MOST_SEEN, DAYS = 50_000, 30

_DAY = 86_400_000_000

_PROPOSAL = (
    P("item", "Coding", "What it may mean; several for a panel", 1, MANY),
    P("score", "decimal", "How often names like this one were right, 0 to 1", 1),
    P("sure", "boolean", "Whether nothing speaks against it, and the score is high", 1),
    P("reason", "string", "Why", 0, MANY),
    P("against", "string", "What contradicts", 0, MANY),
)
_LINE = (
    P("use", "code", "result, or order", 1),
    P("coding", "Coding", "The local code; without a code it comes under its name", 1),
    P("count", "integer", "How often it came, as far as nobody has decided it", 1),
    P("first", "instant", "When one that was looked at was stored first", 1),
    P("last", "instant", "… and last", 1),
    P("specimen", "string", "The specimen by which it has to be told apart"),
    P("unit", "string", "The unit by which it has to be told apart"),
    P("seen", "string", "A specimen, unit or method that it came with", 0, MANY),
    P("example", "Reference", "A resource with this code", 1),
    P("own", "boolean", "Whether the institution can map it: no code of a published system", 1),
    P("proposal", "", "What it may mean, the likeliest first", 0, 3, parts=_PROPOSAL),
)
UNMAPPED = Definition(
    code="unmapped-codes",
    title="Codes of an institution that no map knows",
    says=(
        "The codes of an institution's results and orders that nobody has mapped or decided, those "
        "that come most often first, with proposals. A proposal maps nothing: see $map-codes. An "
        "institution asks for its own."
    ),
    types=("Organization",),
    levels=("instance",),
    takes=(
        P("use", "code", "result, or order for orders and charges; both when left out"),
        P("limit", "positiveInt", f"Codes to answer, {LINES} when left out, {MOST_LINES} at most"),
    ),
    gives=(P("code", "", "A code to decide", 0, MANY, parts=_LINE),),
)

_DECISION = (
    P("kind", "code", "accept, reject, or nothing: the catalogue has nothing for it", 1),
    P("use", "code", "result, or order", 1),
    P("coding", "Coding", "The local code", 1),
    P("item", "code", "The item; several for the panel of an order", 0, MANY),
    P("specimen", "string", "Only in this specimen"),
    P("unit", "string", "Only in this unit"),
    P("method", "string", "Only by this method"),
    P("period", "Period", "Only on these days"),
    P("comment", "string", "A note for people"),
)
MAP = Definition(
    code="map-codes",
    title="Decide what codes of an institution mean",
    says=(
        "A person who is named accepts or rejects items for local codes, or says that the "
        "catalogue has nothing for them; all decisions or none are stored, as a version of the "
        "institution's map, and count at once. An institution decides its own codes."
    ),
    types=("Organization",),
    levels=("instance",),
    takes=(
        P("person", "string", "Who decides", 1),
        P("decision", "", "One decision", 0, MANY, parts=_DECISION),
        P("acceptAbove", "decimal", "Take all sure proposals of at least this score"),
        P("use", "code", "… of results, or of orders; both when left out"),
    ),
    gives=(
        P("map", "Reference", "The map as it is stored now", 0, 2),
        P("decided", "integer", "How many decisions were taken", 1),
    ),
    affects=True,
)

_SHARE = (
    P("use", "code", "result, or order", 1),
    P("codes", "integer", "Codes that came", 1),
    P("codesMapped", "integer", "… that have an item wherever they came", 1),
    P("codesShare", "decimal", "… as a share; left out when none came"),
    P("volume", "integer", "Results, or orders, that came", 1),
    P("volumeMapped", "integer", "… that have an item", 1),
    P("volumeShare", "decimal", "… as a share; left out when none came"),
)
COVERAGE = Definition(
    code="code-coverage",
    title="How much of what an institution sends is mapped",
    says=(
        "By today's maps: results and orders apart, each by distinct codes and by volume. Looks at "
        f"what was stored since a time, {DAYS} days ago when left out. An institution asks for its "
        "own."
    ),
    types=("Organization",),
    levels=("instance",),
    takes=(P("since", "dateTime", "Only what was stored at or after this time"),),
    gives=(P("coverage", "", "The figures of results, and of orders", 2, 2, parts=_SHARE),),
)


async def unmapped(gateway: Gateway, actor: Actor, call: Call) -> dict[str, Any]:
    """Organization/[id]/$unmapped-codes. Raises Forbidden for another institution's, NotFound,
    Invalid, Unavailable while the index is brought up to date."""
    check_own(actor, call.id, "codes")
    limit = call.value("limit") or LINES
    if limit > MOST_LINES:
        raise Invalid(f"limit is {MOST_LINES} at most", expression="limit", rule="limit")
    lines = await work_list(
        gateway, call.id, use=use_of(call.value("use") or ""), access=actor.access, limit=limit
    )
    await audit_asked(gateway, actor, call)
    return parameters([part("code", _line(line)) for line in lines])


async def map_codes(gateway: Gateway, actor: Actor, call: Call) -> dict[str, Any]:
    """Organization/[id]/$map-codes. Raises Forbidden for another institution's codes, NotFound,
    Invalid, Unprocessable with every fault, Conflict."""
    check_own(actor, call.id, "codes")
    await check_institution(gateway, call.id, actor.access)
    threshold = call.value("acceptAbove")
    given = call.parameters["decision"]
    if (threshold is None) == (not given):
        raise Invalid(
            "Send decisions, or acceptAbove", expression="Parameters.parameter", rule="decisions"
        )
    if threshold is None:
        asked = [_asked(taken) for taken in given]
    else:
        lines = await work_list(
            gateway, call.id, use=use_of(call.value("use") or ""), access=actor.access
        )
        asked = accepted_above(lines, score_of(threshold))
        if not asked:
            return parameters([{"name": "decided", "valueInteger": 0}])
    done = await decide(gateway, actor, call.id, asked, person=call.value("person"))
    maps = [
        {"name": "map", "valueReference": {"reference": f"ConceptMap/{id}/_history/{version}"}}
        for id, version in done.maps
    ]
    return parameters([*maps, {"name": "decided", "valueInteger": done.decisions}])


async def code_coverage(gateway: Gateway, actor: Actor, call: Call) -> dict[str, Any]:
    """Organization/[id]/$code-coverage. Raises Forbidden for another institution's, NotFound,
    TooCostly for more than can be looked at while somebody waits."""
    check_own(actor, call.id, "codes")
    text = call.value("since")
    since = gateway.clock.now() - DAYS * _DAY
    if text:
        since = date_range(text, gateway.settings.zone)[0]
    found = await coverage(
        gateway, call.id, access=actor.access, since=max(since, 1), most=MOST_SEEN
    )
    await audit_asked(gateway, actor, call)
    return parameters([part("coverage", _figures(use, one)) for use, one in found.items()])


# -- as Parameters -------------------------------------------------------------------------------


def _line(line: Line) -> list[dict[str, Any]]:
    local = line.local
    coding = {"system": local.system, "code": local.code, "display": local.name}
    parts: list[dict[str, Any]] = [
        {"name": "use", "valueCode": local.use},
        {"name": "coding", "valueCoding": {key: text for key, text in coding.items() if text}},
        {"name": "count", "valueInteger": line.times},
        {"name": "first", "valueInstant": instant(line.first)},
        {"name": "last", "valueInstant": instant(line.last)},
    ]
    told = (("specimen", local.specimen), ("unit", local.unit))
    parts += [{"name": name, "valueString": text} for name, text in told if text]
    seen = (*line.specimens, *line.units, *line.methods)
    parts += [{"name": "seen", "valueString": text} for text in seen]
    parts += [
        {"name": "example", "valueReference": {"reference": line.example}},
        {"name": "own", "valueBoolean": line.is_own},
    ]
    return parts + [part("proposal", _proposal(one)) for one in line.proposals]


def _proposal(one: Proposal) -> list[dict[str, Any]]:
    return [
        *({"name": "item", "valueCoding": item.coding()} for item in one.items),
        {"name": "score", "valueDecimal": one.score},
        {"name": "sure", "valueBoolean": one.sure},
        *({"name": "reason", "valueString": text} for text in one.reasons),
        *({"name": "against", "valueString": text} for text in one.against),
    ]


def _figures(use: str, one: Coverage) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"name": "use", "valueCode": use}]
    for name, mapped, whole in (
        ("codes", one.codes_mapped, one.codes),
        ("volume", one.mapped, one.volume),
    ):
        parts.append({"name": name, "valueInteger": whole})
        parts.append({"name": f"{name}Mapped", "valueInteger": mapped})
        if (part := share(mapped, whole)) is not None:
            parts.append({"name": f"{name}Share", "valueDecimal": part})
    return parts


_KINDS: dict[str, Kind] = {"accept": "accept", "reject": "reject", "nothing": "nothing"}


def _asked(taken: Taken) -> Asked:
    """A decision out of its parts."""
    parts: dict[str, list[Taken]] = taken.value

    def text(name: str) -> str:
        return str(parts[name][0].value) if parts[name] else ""

    if text("kind") not in _KINDS:
        known = ", ".join(_KINDS)
        raise Invalid(f"kind is one of {known}", expression=taken.expression, rule="decision-kind")
    coding = parts["coding"][0].value
    period = parts["period"][0].value if parts["period"] else {}
    cells = Cells(
        kind=text("use"),
        local_system=coding.get("system", ""),
        local_code=coding.get("code", ""),
        local_name=coding.get("display", ""),
        item=tuple(str(one.value) for one in parts["item"]),
        specimen=text("specimen"),
        unit=text("unit"),
        method=text("method"),
        note=text("comment"),
        from_=period.get("start", ""),
        to=period.get("end", ""),
    )
    return Asked(_KINDS[text("kind")], cells, where=taken.expression)


def score_of(value: Decimal | float) -> float:
    """A threshold as a number. Raises Invalid outside of 0 to 1."""
    if not 0 <= value <= 1:
        raise Invalid("A score is from 0 to 1", expression="acceptAbove", rule="score")
    return float(value)
