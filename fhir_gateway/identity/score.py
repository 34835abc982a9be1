"""How likely two records are one person's: a score, a grade, and the reasons in words.

The score is that of Fellegi and Sunter (1969): the weights of the levels are added to the odds that
any two records are one person's, and become a probability. Rules stand above it. *Certain* is what
is linked by itself, and nothing else: the same identity document and the same name
(`cross_reference.py`). All that is below is a proposal, whatever its score.
hl7.org/fhir/R4/patient-operation-match.html, extension-match-grade.html; docs/identity.md
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from fhir_gateway.identity.compare import Levels, compare
from fhir_gateway.identity.compare_names import ONE_NAME
from fhir_gateway.identity.record import Record
from fhir_gateway.identity.words import FIELD_NAMES, RULES, WORDS, Text

Grade = Literal["certainly-not", "possible", "probable", "certain"]

#: From the weakest to the strongest.
GRADES: tuple[Grade, ...] = ("certainly-not", "possible", "probable", "certain")

#: A certain match stands before all others, and no other reaches its score.
CERTAIN, HIGHEST = 1.0, 0.999


class Weights(NamedTuple):
    """`bits` are log2 of how much more often a level is met among records of one person, `prior`
    log2 of the odds of any two records; a score of `probable` or `possible` has that grade."""

    bits: Mapping[str, Mapping[str, float]]
    prior: float
    probable: float
    possible: float


class Reason(NamedTuple):
    """One field of the explanation: its level, and the bits by which it counts."""

    field: str
    level: str
    bits: float

    @property
    def text(self) -> Text:
        """The reason in words."""
        name, said = FIELD_NAMES[self.field], WORDS[self.field][self.level]
        return Text(f"{name.zh}：{said.zh}", f"{name.en}: {said.en}")


class Match(NamedTuple):
    """What two records are to one another. `rules` are those that held the grade down.

    `conflict` says that they bear one identity document under two names.
    """

    score: float
    grade: Grade
    reasons: tuple[Reason, ...]
    rules: tuple[str, ...] = ()
    conflict: bool = False


@lru_cache(maxsize=1)
def weights() -> Weights:
    """The weights of `weights.json`; the file says how they were fitted."""
    file = Path(__file__).with_name("weights.json")
    return read_weights(json.loads(file.read_text(encoding="utf-8")))


def read_weights(data: Mapping[str, object]) -> Weights:
    """Weights from the form in which they are kept."""
    fields: Mapping[str, Mapping[str, Mapping[str, float]]] = data["fields"]  # type: ignore[assignment]
    thresholds: Mapping[str, float] = data["thresholds"]  # type: ignore[assignment]
    bits = {
        field: {level: row["bits"] for level, row in levels.items()}
        for field, levels in fields.items()
    }
    prior: float = data["prior_bits"]  # type: ignore[assignment]
    return Weights(bits, prior, thresholds["probable"], thresholds["possible"])


def match(one: Record, other: Record, using: Weights | None = None) -> Match:
    """What two records are to one another. The order of the two never matters."""
    using = using or weights()
    levels = compare(one, other)
    reasons = tuple(
        Reason(field, level, using.bits.get(field, {}).get(level, 0.0))
        for field, level in levels.items()
        if level != "unknown"
    )
    total = using.prior + sum(reason.bits for reason in reasons)
    score = min(1 / (1 + 2.0 ** -max(min(total, 900), -900)), HIGHEST)
    rules, cap = _held(one, other, levels)
    conflict = _conflict(one, other)
    if not rules and one.keys & other.keys:
        return Match(CERTAIN, "certain", reasons)
    grade = min(_graded(score, using), cap, key=GRADES.index)
    return Match(_capped(score, grade, using), grade, reasons, rules, conflict)


def _conflict(one: Record, other: Record) -> bool:
    return bool(one.document_keys & other.document_keys) and not one.keys & other.keys


def _graded(score: float, using: Weights) -> Grade:
    if score >= using.probable:
        return "probable"
    return "possible" if score >= using.possible else "certainly-not"


def _capped(score: float, grade: Grade, using: Weights) -> float:
    """The score within the range of its grade, so that the order of scores is that of grades."""
    ceiling = {"possible": using.probable, "certainly-not": using.possible}.get(grade)
    return score if ceiling is None else min(score, ceiling * 0.999)


#: Names that two children of one family may have.
_OF_ONE_HOUSE = frozenset({"given", "one-character", "part", "unknown"})


# -- rules above the score -----------------------------------------------------------------------


def _held(one: Record, other: Record, levels: Levels) -> tuple[tuple[str, ...], Grade]:
    """The rules that hold the grade down, and the highest grade that they leave."""
    held = tuple(name for name, (_, holds) in _RULES.items() if holds(one, other, levels))
    caps = [_RULES[name][0] for name in held]
    return held, min(caps, key=GRADES.index, default="certain")


def _document_conflict(one: Record, other: Record, levels: Levels) -> bool:
    return levels["document"] == "same" and levels["name"] not in ONE_NAME


def _name_in_doubt(one: Record, other: Record, levels: Levels) -> bool:
    return _conflict(one, other) and levels["name"] in ONE_NAME


def _mother_and_child(one: Record, other: Record, levels: Levels) -> bool:
    """One is called by the other's name, or bears the other's document as a child does."""
    for child, mother in ((one, other), (other, one)):
        if child.newborn is None or mother.newborn is not None:
            continue
        if child.mothers & {name.text for name in mother.names}:
            return True
        if levels["document"] in ("same", "contradicted"):
            return True
    return False


def _elder_document(one: Record, other: Record, levels: Levels) -> bool:
    """The same document, and the people are of two generations."""
    return levels["document"] == "contradicted" and (one.elder or other.elder)


def _own_document(one: Record, other: Record, levels: Levels) -> bool:
    return one.elder or other.elder


def _unnamed_child(one: Record, other: Record, levels: Levels) -> bool:
    return one.newborn is not None or other.newborn is not None


def _birth_order(one: Record, other: Record, levels: Levels) -> bool:
    return levels["order"] == "other"


def _twins(one: Record, other: Record, levels: Levels) -> bool:
    """As far as is known born on one day, and with a name that may be a brother's or sister's."""
    return levels["birth"] not in ("other", "unknown") and levels["name"] in _OF_ONE_HOUSE


def _two_documents(one: Record, other: Record, levels: Levels) -> bool:
    return levels["document"] == "other-card"


def _two_births(one: Record, other: Record, levels: Levels) -> bool:
    return levels["birth"] == "other"


def _two_sexes(one: Record, other: Record, levels: Levels) -> bool:
    return levels["sex"] == "other"


def _two_names(one: Record, other: Record, levels: Levels) -> bool:
    return levels["name"] in ("given", "other", "spelled-other")


def _no_document(one: Record, other: Record, levels: Levels) -> bool:
    return not one.keys & other.keys


#: Each rule with the highest grade that it leaves, and when it holds.
_RULES: Mapping[str, tuple[Grade, Callable[[Record, Record, Levels], bool]]] = {
    "document-conflict": ("possible", _document_conflict),
    "name-in-doubt": ("probable", _name_in_doubt),
    "mother-and-child": ("certainly-not", _mother_and_child),
    "elder-document": ("certainly-not", _elder_document),
    "own-document": ("possible", _own_document),
    "unnamed-child": ("possible", _unnamed_child),
    "birth-order": ("certainly-not", _birth_order),
    "twins": ("possible", _twins),
    "two-documents": ("possible", _two_documents),
    "two-births": ("possible", _two_births),
    "two-sexes": ("possible", _two_sexes),
    "two-names": ("possible", _two_names),
    "no-document": ("probable", _no_document),
}

if _RULES.keys() != RULES.keys():
    raise AssertionError("every rule of identity has its sentence")
