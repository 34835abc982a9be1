"""An Answer as the Parameters of $recognize: one `item` for each ordered item, and the sources.

docs/api/recognize.md shows one. Sentences are rendered here; the record keeps codes only.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.sources import Source
from fhir_gateway.recognition.ask import Answer
from fhir_gateway.recognition.legible import legible, outcome
from fhir_gateway.recognition.model import Candidate, Effect, ItemOutcome, Line, Verdict
from fhir_gateway.recognition.spell import exam_time, value_text, window_end
from fhir_gateway.recognition.texts import sentence
from fhir_gateway.recognition.whole import Whole, wholes
from fhir_gateway.terminology.code_system import Vocabulary

Part = dict[str, Any]


def told(answer: Answer, vocabulary: Vocabulary) -> dict[str, Any]:
    """The answer as a Parameters resource; its sentences have the names of the vocabulary."""
    parameters: list[Part] = list(_standing(answer))
    if answer.decision.rule_set:
        parameters.append({"name": "rule-set", "valueCanonical": answer.decision.rule_set})
    for layer in answer.decision.layers:
        parameters.append({"name": "layer", "valueCanonical": layer})
    for item in answer.decision.items:
        parameters.append({"name": "item", "part": list(_item(answer, item, vocabulary))})
    parameters += [_panel(whole) for whole in wholes(answer.decision)]
    parameters += [_source(source) for source in answer.sources]
    return {"resourceType": "Parameters", "parameter": parameters}


def _panel(whole: Whole) -> Part:
    """An order line of several items, by its worst member."""
    parts: list[Part] = [
        {"name": "key", "valueString": whole.key},
        {"name": "outcome", "valueCode": whole.outcome},
        {"name": "reason", "valueCode": whole.reason},
        {"name": "members", "valueInteger": len(whole.members)},
    ]
    if whole.suggest:
        parts.append({"name": "suggest", "valueBoolean": True})
    return {"name": "panel", "part": parts}


#: What an answer of the past says of itself.
NOTE = (
    "What would have been said then. It was audited, it is not recorded and reminded nobody. "
    "The sources, and how fresh they are, are those of today."
)


def _standing(answer: Answer) -> Iterator[Part]:
    """What became of the answer: the recorded decision, or the moment of the past it is about."""
    if not answer.as_of:
        yield _reference("decision", f"GuidanceResponse/{answer.id}")
        return
    yield {"name": "as-of", "valueInstant": instant(answer.as_of)}
    yield {"name": "commit", "valueInteger": answer.query.t}
    yield {"name": "recorded", "valueBoolean": False}
    yield {"name": "note", "valueString": NOTE}


def _item(answer: Answer, item: ItemOutcome, vocabulary: Vocabulary) -> Iterator[Part]:
    yield {"name": "key", "valueString": item.key}
    entry = vocabulary.catalogue.items.get(item.item or "")
    if entry is not None:
        yield {"name": "item", "valueCoding": entry.coding()}
    yield {"name": "outcome", "valueCode": item.outcome}
    yield {"name": "reason", "valueCode": item.reason}
    yield {"name": "text", "valueString": outcome(item, vocabulary)}
    if item.chosen is not None:
        yield {"name": "result", "part": list(_result(answer, item.chosen))}
    yield from _window(answer, item)
    if item.suggest:
        yield {"name": "suggest", "valueBoolean": True}
    if item.ground:
        yield {"name": "ground", "valueCode": item.ground}
    own = _version(item.chosen) if item.chosen is not None else ""
    yield from ({"name": "line", "part": _line(line, own, vocabulary)} for line in item.lines)
    yield from _rest(answer, item, vocabulary)


def _window(answer: Answer, item: ItemOutcome) -> Iterator[Part]:
    if item.window_days is not None:
        yield {"name": "window-days", "valueInteger": item.window_days}
        if item.window_source:
            yield {"name": "window-source", "valueString": item.window_source}
    if end := window_end(item, answer.query.zone):
        yield {"name": "window-end", "valueDate": end}


def _rest(answer: Answer, item: ItemOutcome, vocabulary: Vocabulary) -> Iterator[Part]:
    """The results that were not chosen: newer ones in full, all others with what decided them."""
    for newer in item.newer:
        parts = list(_result(answer, newer.candidate))
        parts.append({"name": "outcome", "valueCode": newer.outcome})
        parts.append({"name": "pending", "valueBoolean": newer.pending})
        yield {"name": "newer", "part": parts}
    for other in item.others:
        own = f"{other.source}/_history/{other.version}"
        yield {
            "name": "other",
            "part": [
                _reference("reference", own),
                {"name": "outcome", "valueCode": other.outcome},
                {"name": "line", "part": _line(other.line, own, vocabulary)},
            ],
        }


def _result(answer: Answer, candidate: Candidate) -> Iterator[Part]:
    yield _reference("reference", _version(candidate))
    if candidate.report_source:
        yield _reference("report", candidate.report_source)
    if text := value_text(candidate):
        yield {"name": "value", "valueString": text}
    if candidate.issuer:
        part = _reference("issuer", f"Organization/{candidate.issuer}")
        issuer = answer.institutions.get(candidate.issuer)
        if issuer is not None:
            part["valueReference"]["display"] = issuer.name
        yield part
    if time := exam_time(candidate, answer.query.zone):
        yield {"name": "time", "valueDateTime": time}
    if candidate.issued:
        yield {"name": "issued", "valueInstant": instant(candidate.issued)}
    yield {"name": "status", "valueCode": candidate.report_status or candidate.status}


def _version(candidate: Candidate) -> str:
    return f"{candidate.source}/_history/{candidate.version}"


def _line(line: Line, own: str, vocabulary: Vocabulary) -> list[Part]:
    """A line; its evidence is the result's `own` version unless it names another."""
    values = tuple(legible(line, vocabulary).values.items())
    said, cited = _said(line.rule, line.verdict, line.reason, line.effect, line.clause, values)
    evidence = line.evidence or own
    return [*said, _reference("evidence", evidence), *cited] if evidence else [*said, *cited]


@lru_cache(maxsize=8_192)
def _said(
    rule: str,
    verdict: Verdict,
    reason: str,
    effect: Effect,
    clause: str,
    values: tuple[tuple[str, str | int], ...],
) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """The parts before the evidence and those after it; they are shared: do not change them."""
    text = sentence(Line(rule, verdict, reason, effect, "", clause, dict(values)))
    said: list[Part] = [
        {"name": "rule", "valueCode": rule},
        {"name": "verdict", "valueCode": verdict},
        {"name": "text", "valueString": text},
    ]
    if reason:
        said.append({"name": "reason", "valueCode": reason})
    return tuple(said), ({"name": "clause", "valueString": clause},) if clause else ()


@lru_cache(maxsize=8_192)
def _source(source: Source) -> Part:
    """The part is shared: do not change it."""
    reference = {"reference": f"Organization/{source.institution}", "display": source.name}
    parts: list[Part] = [{"name": "institution", "valueReference": reference}]
    if source.last_received_us is not None:
        received = instant(source.last_received_us)
        parts.append({"name": "last-received", "valueInstant": received})
    parts.append({"name": "stale", "valueBoolean": source.stale})
    return {"name": "source", "part": parts}


def _reference(name: str, reference: str) -> Part:
    return {"name": name, "valueReference": {"reference": reference}}
