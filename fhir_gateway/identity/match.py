"""Patient/$match: which records may be of the person that a Patient describes, and how likely.

hl7.org/fhir/R4/patient-operation-match.html, IHE PDQm ITI-119. What is compared is found by
`candidates.py`, judged by `score.py`; every match says why in words. Nothing is linked by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, Issue, TooCostly
from fhir_gateway.fhir import bundle
from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.fhir.validate import read_resource
from fhir_gateway.fhir.wire import parse, render
from fhir_gateway.identity.candidates import Block, Candidates, blocks, candidates
from fhir_gateway.identity.record import record_of
from fhir_gateway.identity.score import Match, match
from fhir_gateway.identity.words import RULES, Text
from fhir_gateway.interactions.audit import disclose_search
from fhir_gateway.interactions.operation_definitions import Call, Definition
from fhir_gateway.interactions.operation_definitions import Parameter as P
from fhir_gateway.interactions.pace import unhurried
from fhir_gateway.security.actor import Actor
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.store import Stored

MATCH = Definition(
    code="match",
    title="Records that may be of this person",
    says=(
        "A searchset of Patients, the most likely first, each with a score from 0 to 1, a match "
        "grade and the reasons in words. Only records with the same identity document and name "
        "are certain; all others are proposals that a person has to confirm."
    ),
    types=("Patient",),
    levels=("type",),
    takes=(
        P("resource", "Resource", "The Patient to match, as far as it is known", 1),
        P("onlyCertainMatches", "boolean", "Nothing at all unless the match is beyond doubt"),
        P("count", "integer", "The most records that are returned; 50 when left out"),
    ),
    gives=(P("return", "Bundle", "A searchset", 1),),
    standard="Patient-match",
    body="resource",
)

GRADE = "http://hl7.org/fhir/StructureDefinition/match-grade"
REASON = f"{CANONICAL}/StructureDefinition/match-reason"
_TRANSLATION = "http://hl7.org/fhir/StructureDefinition/translation"

#: Records that are returned when the caller names no number.
COUNT = 50


class Judged(NamedTuple):
    """A record with what was said of it."""

    stored: Stored
    match: Match


async def match_patient(gateway: Gateway, actor: Actor, call: Call) -> bytes:
    """The matches as a searchset.

    Raises Invalid for what is no Patient, has no number, name or birth date to go by, or asks for
    no record at all; TooCostly when none of its searches can run.
    """
    patient = _patient(call)
    count = call.value("count")
    if count is not None and count < 1:
        raise Invalid("count must be at least 1", expression="count", rule="search-count")
    record = record_of(patient, gateway.extractor.naming)
    wanted = blocks(patient, record)
    if not wanted:
        raise Invalid(
            "There is nothing to match by: send an identifier, a name, or both with a birth date",
            expression="Parameters.parameter.resource",
            rule="match-criteria",
        )
    found = await candidates(gateway, actor.access, wanted)
    if len(found.costly) == len({block.by for block in wanted}) and not found.found:
        raise TooCostly(
            "Too many records agree with this; add a birth date or an identifier",
            expression="Parameters.parameter.resource",
            rule="match-criteria",
        )
    judged = await _judged(gateway, record, found.found)
    only_certain = bool(call.value("onlyCertainMatches"))
    if only_certain:
        judged = _beyond_doubt(judged, found)
    shown = judged[: count or COUNT]
    await disclose_search(
        gateway,
        actor,
        asked=_asked(wanted, only_certain, count),
        matches=[one.stored for one in shown],
        interaction="operation",
    )
    return _answer(call.base, judged, shown, found)


def _patient(call: Call) -> dict[str, Any]:
    """The Patient of the call, valid as FHIR has it. Raises Invalid, Unprocessable."""
    taken = call.one("resource")
    value = None if taken is None else taken.value
    if taken is None or not isinstance(value, dict) or value.get("resourceType") != "Patient":
        raise Invalid(
            "resource must be a Patient",
            expression=taken.expression if taken else "resource",
            rule="match-patient",
        )
    body = render(value)
    read_resource(body, type="Patient")
    return parse(body)


async def _judged(gateway: Gateway, record: Any, found: Iterable[Stored]) -> list[Judged]:
    """The matches, the most likely first; who is certainly another person is left out."""
    naming, judged = gateway.extractor.naming, list[Judged]()
    async for stored in unhurried(found):
        other = record_of(parse(stored.whole()), naming)
        judged.append(Judged(stored, match(record, other)))
    kept = [one for one in judged if one.match.grade != "certainly-not"]
    return sorted(kept, key=lambda one: (-_score(one.match), one.stored.id))


def _beyond_doubt(judged: Sequence[Judged], found: Candidates) -> list[Judged]:
    """The certain matches when all of them are one person's and nobody else may be meant."""
    certain = [one for one in judged if one.match.grade == "certain"]
    homes = {one.stored.home for one in certain}
    doubtful = any(
        one.stored.home not in homes and (one.match.grade == "probable" or one.match.conflict)
        for one in judged
    )
    unseen = "numbers" in (*found.costly, *found.cut)
    return [] if doubtful or unseen or len(homes) != 1 else certain


def _score(match: Match) -> float:
    return round(match.score, 4)


def _asked(wanted: Sequence[Block], only_certain: bool, count: int | None) -> str:
    """What the audit keeps: the parameters of the searches, personal values as pseudonyms."""
    pairs = [pair for block in wanted for pair in block.ways[0]]
    if only_certain:
        pairs.append(("onlyCertainMatches", "true"))
    if count is not None:
        pairs.append(("count", str(count)))
    return f"Patient/$match?{urlencode(pairs)}"


# -- the answer ----------------------------------------------------------------------------------


def _answer(
    base: str, judged: Sequence[Judged], shown: Sequence[Judged], found: Candidates
) -> bytes:
    hits = [
        bundle.Hit(f"{base}/Patient/{one.stored.id}", one.stored.whole(), search=_search(one.match))
        for one in shown
    ]
    issues = [*_conflicts(shown), *_left_out(found)]
    if issues:
        hits.append(bundle.Hit("", operation_outcome(issues), "outcome"))
    links = [("self", f"{base}/Patient/$match")]
    return bundle.searchset(hits, links=links, total=len(judged))


def _search(match: Match) -> dict[str, Any]:
    """Grade, reasons and score of an entry."""
    reasons = [_reason(one.field, one.level, one.text, one.bits) for one in match.reasons]
    rules = [_reason("rule", name, RULES[name]) for name in match.rules]
    return {
        "extension": [{"url": GRADE, "valueCode": match.grade}, *reasons, *rules],
        "score": _score(match),
    }


def _reason(field: str, level: str, text: Text, bits: float | None = None) -> dict[str, Any]:
    translation = [
        {"url": "lang", "valueCode": "en"},
        {"url": "content", "valueString": text.en},
    ]
    parts: list[dict[str, Any]] = [
        {"url": "field", "valueCode": field},
        {"url": "level", "valueCode": level},
        {
            "url": "text",
            "valueString": text.zh,
            "_valueString": {"extension": [{"url": _TRANSLATION, "extension": translation}]},
        },
    ]
    if bits is not None:
        parts.append({"url": "weight", "valueDecimal": bits})
    return {"url": REASON, "extension": parts}


def _conflicts(shown: Iterable[Judged]) -> list[Issue]:
    return [
        Issue(
            "conflict",
            f"Patient/{one.stored.id} bears the same identity document under another name; the "
            "two institutions have to settle whose it is",
            f"Patient/{one.stored.id}",
            "document-conflict",
            "warning",
        )
        for one in shown
        if one.match.conflict
    ]


#: What each search goes by, in words.
_BY = {
    "numbers": "identifiers",
    "name": "the name with the birth date",
    "undated": "the name and have no birth date",
    "sound": "the sound of the name with the birth date",
    "surname": "the surname with the birth date",
}


def _left_out(found: Candidates) -> list[Issue]:
    issues = [
        Issue(
            "too-costly",
            f"Records that agree in {_BY[by]} were not looked for: there are too many. Add a full "
            "birth date or an identifier",
            None,
            "match-cut",
            "warning",
        )
        for by in found.costly
    ]
    issues += [
        Issue(
            "incomplete",
            f"More records agree in {_BY[by]} than are compared; add what else is known",
            None,
            "match-cut",
            "warning",
        )
        for by in found.cut
    ]
    return issues
