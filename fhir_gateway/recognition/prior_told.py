"""A page of earlier results as a Parameters resource, joined from bytes.

What is the same for many answers is kept: what the catalogue says of an item, and the sources.
prior_pieces.py writes the results. docs/prior-results.md shows an answer
(hl7.org/fhir/R4/parameters.html).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, cast

from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.sources import Source
from fhir_gateway.recognition.criteria_mark import standing_2
from fhir_gateway.recognition.legible import outcome
from fhir_gateway.recognition.model import Candidate, ItemOutcome, OrderedItem
from fhir_gateway.recognition.prior_filter import entry_of
from fhir_gateway.recognition.prior_pieces import Counted, Frame, Judged, part, result_of
from fhir_gateway.recognition.prior_results import Group, Prior, records_by_owner
from fhir_gateway.recognition.rules import RuleSet
from fhir_gateway.recognition.situation import Situation, Window, today
from fhir_gateway.terminology.catalogue import Catalogue, Item
from fhir_gateway.terminology.code_system import Vocabulary

#: What an empty answer says. It never says that there are no earlier results.
NOTHING = (
    "没有您可见的既往结果；这不表示患者没有做过检查检验。来源及其最近接收时间见 source。",
    "No result is available to you. This does not say that there is none: see the sources.",
)

#: What is said of the identity, from the most doubtful.
_CONTESTED, _DOUBTFUL, _DOCUMENTED, _UNDOCUMENTED = (
    "contested", "doubtful", "documented", "undocumented",
)  # fmt: skip


def told(prior: Prior, links: Sequence[tuple[str, str]], vocabulary: Vocabulary) -> bytes:
    """The page; `links` are its own address and that of the next one, by relation. Its sentences
    have the names of the vocabulary."""
    head = [*_head(prior), *(part(name, "valueUri", url) for name, url in links)]
    situation = Situation(
        prior.query, OrderedItem("", None), None, Window(None, ""), today(prior.query), 0
    )
    frame = Frame(
        situation,
        prior.facts.institutions,
        prior.query.zone,
        prior.query.as_of_us,
        len(prior.person.records) > 1,
        prior.examinations,
        prior.facts.register,
        standing_2(situation, cast(Candidate, Judged("-", 0, 0, ()))),
        standing_2(situation, cast(Candidate, Judged("", 0, 0, ()))),
    )
    groups = [_group(prior, frame, group, vocabulary) for group in prior.groups]
    sources = _sources(prior.facts.sources, prior.told.hidden)
    whole = b",".join([*head, *groups, *([sources] if sources else [])])
    return b'{"resourceType":"Parameters","parameter":[' + whole + b"]}"


def _head(prior: Prior) -> Iterator[bytes]:
    yield part("patient", "valueReference", {"reference": f"Patient/{prior.person.asked}"})
    yield part("identity", "valueCode", _identity(prior))
    yield part("as-of", "valueInstant", instant(prior.query.as_of_us))
    yield part("total", "valueInteger", prior.total)
    if prior.facts.rules is not None:
        yield part("rule-set", "valueCanonical", prior.facts.rules.rule_set.canonical)
    for record, name in records_by_owner(prior):
        patient = part("patient", "valueReference", {"reference": f"Patient/{record.id}"})
        parts = [patient, part("institution", "valueString", name)] if name else [patient]
        yield b'{"name":"record","part":[' + b",".join(parts) + b"]}"
    if not prior.total:
        yield part("text", "valueString", NOTHING[0])
        yield part("text-en", "valueString", NOTHING[1])


def _identity(prior: Prior) -> str:
    if prior.identity.contested:
        return _CONTESTED
    if prior.person.doubt == "doubtful":
        return _DOUBTFUL
    return _DOCUMENTED if prior.identity.documented else _UNDOCUMENTED


# -- one item ------------------------------------------------------------------------------------


def _group(prior: Prior, frame: Frame, group: Group, vocabulary: Vocabulary) -> bytes:
    known = _items(prior)
    said = known.get((group.item, group.results[0].kind))
    if said is None:
        said = known[group.item, group.results[0].kind] = _item(prior, group)
    pieces = [said.piece, _COUNT % group.many]
    outcomes: Mapping[str, str] = {}
    if group.outcome is not None:
        pieces += _outcome(group.outcome, vocabulary)
        outcomes = _each(group.outcome)
    pieces += [result_of(frame, one, said.window, said.unit, outcomes) for one in group.results]
    return b'{"name":"item","part":[' + b",".join(pieces) + b"]}"


def _window(prior: Prior, entry: Item | None) -> Counted:
    """The window of the rule set in force; without one, the catalogue's own."""
    rules = prior.facts.rules
    if rules is None:
        days = entry.validity_days if entry is not None else 0
        return Counted(days or None, entry.validity_source if entry and days else "", False, False)
    window, rule = rules.rule_set.window(entry), rules.rule_set.window_rule
    start, count = getattr(rule, "start", "clinical"), getattr(rule, "count", "days")
    return Counted(window.days, window.source, start == "issued", count == "hours")


_COUNT = b'{"name":"count","valueInteger":%d}'


class _Said(NamedTuple):
    """What is told once of all results of an item, and what its results are counted by."""

    piece: bytes
    window: Counted
    unit: str


class _Kept(NamedTuple):
    """What was told of items by one catalogue and one rule set, for as long as they hold."""

    catalogue: Catalogue
    rule_set: RuleSet | None
    items: dict[tuple[str, str], _Said]


_kept: dict[tuple[int, int], _Kept] = {}
_MOST_KEPT = 16


def _items(prior: Prior) -> dict[tuple[str, str], _Said]:
    """What was told of items so far; both are held, so that their addresses stay theirs."""
    catalogue, rules = prior.facts.view.catalogue, prior.facts.rules
    rule_set = rules.rule_set if rules is not None else None
    place = id(catalogue), id(rule_set)
    kept = _kept.get(place)
    if kept is None:
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        kept = _kept[place] = _Kept(catalogue, rule_set, {})
    return kept.items


def _item(prior: Prior, group: Group) -> _Said:
    entry = entry_of(prior.facts.view.catalogue, group.item)
    window = _window(prior, entry)
    coding = entry.coding() if entry is not None else {"code": group.item}
    parts = [
        part("item", "valueCoding", coding),
        part("kind", "valueCode", group.results[0].kind),
    ]
    if entry is not None:
        parts += _words(
            ("class", "valueString", entry.item_class or entry.modality),
            ("modality", "valueCode", entry.modality),
            ("unit", "valueCode", entry.ucum_unit),
        )
    if window.days is not None:
        parts.append(part("window-days", "valueInteger", window.days))
        parts += _words(("window-source", "valueString", window.source))
    return _Said(b",".join(parts), window, entry.ucum_unit if entry is not None else "")


def _words(*said: tuple[str, str, str]) -> list[bytes]:
    """What a catalogue, a list or a rule set says of an item, without what it leaves empty."""
    return [part(name, element, text) for name, element, text in said if text]


def _outcome(found: ItemOutcome, vocabulary: Vocabulary) -> list[bytes]:
    """What the rules in force would answer, were the item ordered now."""
    return [
        part("outcome", "valueCode", found.outcome),
        part("reason", "valueCode", found.reason),
        part("text", "valueString", outcome(found, vocabulary)),
    ]


def _each(outcome: ItemOutcome) -> dict[str, str]:
    """The outcome of every result that was judged, by its name."""
    found = {other.source: str(other.outcome) for other in outcome.others}
    if outcome.chosen is not None:
        found[outcome.chosen.source] = str(outcome.outcome)
    return found


# -- where it comes from -------------------------------------------------------------------------


#: By what is hidden from a caller: the list of sources that was last told, and how.
_told: dict[frozenset[str], tuple[Sequence[Source], bytes]] = {}
_MOST_TOLD = 256


def _sources(sources: Sequence[Source], hidden: frozenset[str]) -> bytes:
    """All sources; the list is shared and long, so its bytes are kept for as long as it is."""
    kept = _told.get(hidden)
    if kept is None or kept[0] is not sources:
        if len(_told) >= _MOST_TOLD:
            _told.clear()
        parts = [_source(one, one.institution in hidden) for one in sources]
        kept = _told[hidden] = (sources, b",".join(parts))
    return kept[1]


def _source(source: Source, is_hidden: bool) -> bytes:
    reference = {"reference": f"Organization/{source.institution}", "display": source.name}
    parts = [part("institution", "valueReference", reference)]
    if source.last_received_us is not None:
        parts.append(part("last-received", "valueInstant", instant(source.last_received_us)))
    parts.append(part("stale", "valueBoolean", source.stale))
    parts.append(part("asked", "valueBoolean", not is_hidden))
    return b'{"name":"source","part":[' + b",".join(parts) + b"]}"
