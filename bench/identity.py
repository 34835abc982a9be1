"""Fits the weights of identity, and prints how well they tell people apart.

    python -m bench.identity             precision and recall by threshold, and what a pair costs
    python -m bench.identity --fit       writes fhir_gateway/identity/weights.json again

Fellegi and Sunter (1969), with labels instead of an estimate: m is how often a level is met among
pairs of one person with the errors of `tests/identity/identity_errors.py`, u among all pairs of an
artificial population, relatives included. Everything comes from a seed, so that the same program
writes the same file.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from math import log2
from pathlib import Path
from typing import Any, NamedTuple

from fhir_gateway.identity.compare import FIELDS, UNKNOWN, compare
from fhir_gateway.identity.record import Record, record_of
from fhir_gateway.identity.score import Match, Weights, match, read_weights
from fhir_gateway.identity.words import WORDS
from fhir_gateway.terminology.naming import Naming
from fhir_gateway.terminology.naming_files import load_naming

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "identity"))  # the pairs are the tests' own

from identity_pairs import Pair, pairs, population  # noqa: E402 - after its folder is known

WEIGHTS = ROOT / "fhir_gateway" / "identity" / "weights.json"
SEED = 20261122

#: Records of one person, and people all of whose pairs are compared.
MATCHED, PEOPLE = 40_000, 1_600
#: People of the city that the odds of any two records are taken from.
CITY = 22_000_000
#: From which score on a pair is proposed, and from which it is shown.
PROBABLE, POSSIBLE = 0.9, 0.02
#: Weights are no surer than this, whatever a sample says.
MOST_BITS = 20.0
THRESHOLDS = (0.02, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)


def main() -> int:
    """Prints the tables; returns 1 when two people were linked."""
    arguments = _arguments()
    naming = load_naming(ROOT / "profiles")
    if arguments.fit:
        data = fit(naming, matched=MATCHED, people=PEOPLE, seed=SEED)
        text = json.dumps(data, ensure_ascii=False, indent=1)
        WEIGHTS.write_text(text + "\n", encoding="utf-8")
        print(f"wrote {WEIGHTS.relative_to(ROOT)}")
    using = read_weights(json.loads(WEIGHTS.read_text(encoding="utf-8")))
    started = time.process_time()
    judged = judge(pairs(SEED + 1, arguments.pairs), naming, using)
    spent = time.process_time() - started
    return _tell(judged, arguments.pairs, spent)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.identity", description=__doc__)
    parser.add_argument("--fit", action="store_true", help="fit the weights again")
    parser.add_argument("--pairs", type=int, default=20_000)
    return parser.parse_args()


# -- fitting -------------------------------------------------------------------------------------


def fit(naming: Naming, *, matched: int, people: int, seed: int) -> dict[str, Any]:
    """The weights as they are kept, with how they were fitted."""
    agreeing = _count(
        compare(record_of(pair.one, naming), record_of(pair.other, naming))
        for pair in pairs(seed, matched, same=1.0)
    )
    records = [record_of(patient, naming) for patient in population(seed, people)]
    any_two = _count(compare(one, other) for one, other in combinations(records, 2))
    return {
        "what": "Weights of the levels of identity: bits = log2(m / u), at most "
        f"{MOST_BITS:.0f} either way. Written by python -m bench.identity --fit.",
        "fitted": {"seed": seed, "pairs_of_one_person": matched, "people": people,
                   "pairs_of_any_two": people * (people - 1) // 2},
        "prior_bits": round(-log2(CITY), 2),
        "thresholds": {"probable": PROBABLE, "possible": POSSIBLE},
        "fields": {field: _weighed(field, agreeing[field], any_two[field]) for field in FIELDS},
    }  # fmt: skip


def _count(levels: Iterable[Mapping[str, str]]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {field: Counter() for field in FIELDS}
    for one in levels:
        for field, level in one.items():
            if level != UNKNOWN:
                found[field][level] += 1
    return found


def _weighed(
    field: str, agreeing: Counter[str], any_two: Counter[str]
) -> dict[str, dict[str, float]]:
    """m, u and bits of each level; what was never met says nothing."""
    rows = {}
    for level in WORDS[field]:
        if level == UNKNOWN:
            continue
        m, u = _rate(agreeing, level, field), _rate(any_two, level, field)
        met = agreeing[level] + any_two[level] > 0
        bits = max(-MOST_BITS, min(MOST_BITS, log2(m / u))) if met else 0.0
        rows[level] = {"m": float(f"{m:.3g}"), "u": float(f"{u:.3g}"), "bits": round(bits, 2)}
    return rows


def _rate(counts: Counter[str], level: str, field: str) -> float:
    """How often a level is met, with half a pair more for each level."""
    return (counts[level] + 0.5) / (counts.total() + 0.5 * (len(WORDS[field]) - 1))


# -- judging -------------------------------------------------------------------------------------


class Judged(NamedTuple):
    """A pair without its records, and what was said of it."""

    same: bool
    kind: str
    match: Match


def judge(found: Iterable[Pair], naming: Naming, using: Weights | None = None) -> list[Judged]:
    """What is said of each pair."""
    return [Judged(pair.same, pair.kind, match(*_records(pair, naming), using)) for pair in found]


def _records(pair: Pair, naming: Naming) -> tuple[Record, Record]:
    return record_of(pair.one, naming), record_of(pair.other, naming)


class Row(NamedTuple):
    """Of the pairs with this score or more: how many are one person, and of all such pairs."""

    threshold: float
    precision: float
    recall: float
    wrong: int


def by_threshold(judged: Sequence[Judged], thresholds: Iterable[float] = THRESHOLDS) -> list[Row]:
    """Precision and recall of the score."""
    whole = sum(one.same for one in judged)
    rows = []
    for threshold in thresholds:
        above = [one for one in judged if one.match.score >= threshold]
        right = sum(one.same for one in above)
        rows.append(Row(threshold, right / max(len(above), 1), right / whole, len(above) - right))
    return rows


def _tell(judged: Sequence[Judged], count: int, spent: float) -> int:
    wrong = [one for one in judged if one.match.grade == "certain" and not one.same]
    print(f"\nidentity, {count:,} pairs, {spent / count * 1e6:.0f} µs a pair (made and compared)")
    print("  score >=   precision   recall   wrong")
    for row in by_threshold(judged):
        print(f"  {row.threshold:8.2f}   {row.precision:9.4f}   {row.recall:6.4f}   {row.wrong:5d}")
    print("  kind of pair             pairs   certain  probable  possible  certainly-not")
    for kind, same in dict.fromkeys((one.kind, one.same) for one in judged):
        grades = Counter(one.match.grade for one in judged if one.kind == kind)
        said = "one person" if same else "two people"
        print(
            f"  {kind:20} {grades.total():9,}   {grades['certain']:7,}   {grades['probable']:7,}"
            f"   {grades['possible']:7,}   {grades['certainly-not']:11,}   {said}"
        )
    print(f"  false automatic links: {len(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
