"""Ten thousand labelled pairs in CI and a million in torture: nobody is linked to somebody else,
and how much is found is what docs/identity.md says."""

from __future__ import annotations

import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pytest
from identity_pairs import MATCHES, OTHERS, Pair, pairs
from identity_people import World

from fhir_gateway.identity.record import record_of
from fhir_gateway.identity.score import match
from fhir_gateway.settings import load_settings
from fhir_gateway.terminology.naming import Naming
from fhir_gateway.terminology.naming_files import load_naming

PAGE = Path(__file__).resolve().parents[2] / "docs" / "identity.md"
MODEST, FULL, PIECE = 10_000, 1_000_000, 10_000


@lru_cache(maxsize=1)
def _naming() -> Naming:
    return load_naming(load_settings({}).profiles)


def grade_of(pair: Pair) -> str:
    return match(record_of(pair.one, _naming()), record_of(pair.other, _naming())).grade


class Tally(NamedTuple):
    """Of so many pairs of one person and of two: how many were linked, how many at least proposed.

    `wrong` names the pairs of two people that were linked.
    """

    same: int
    linked: int
    proposed: int
    wrongly_proposed: int
    wrong: list[str]


def tally(seed: int, count: int) -> Tally:
    """What is said of the pairs of a seed."""
    same = linked = proposed = wrongly = 0
    wrong = []
    for number, pair in enumerate(pairs(seed, count)):
        grade = grade_of(pair)
        same += pair.same
        linked += pair.same and grade == "certain"
        proposed += pair.same and grade in ("certain", "probable")
        wrongly += not pair.same and grade in ("certain", "probable")
        if grade == "certain" and not pair.same:
            wrong.append(f"seed {seed}, pair {number}, {pair.kind}")
    return Tally(same, linked, proposed, wrongly, wrong)


def test_068_of_ten_thousand_pairs_none_of_two_people_is_linked() -> None:
    """The pairs of two people are chosen because they look alike: precision is among these."""
    found = tally(1, MODEST)
    assert found.wrong == []
    assert found.linked / found.same > 0.4
    assert found.proposed / found.same > 0.9
    assert found.proposed / (found.proposed + found.wrongly_proposed) > 0.96


@pytest.mark.torture
def test_068_of_a_million_pairs_none_of_two_people_is_linked() -> None:
    seeds = range(1_000, 1_000 + FULL // PIECE)
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as processes:
        found = list(processes.map(tally, seeds, [PIECE] * len(seeds)))
    assert [line for one in found for line in one.wrong] == []
    assert sum(one.same for one in found) > FULL * 0.4
    assert sum(one.proposed for one in found) > 0.9 * sum(one.same for one in found)


def test_the_same_seed_makes_the_same_pairs_and_all_kinds_come() -> None:
    assert list(pairs(7, 50)) == list(pairs(7, 50))
    names = {make.__name__.removeprefix("_").replace("_", "-") for make in (*MATCHES, *OTHERS)}
    assert {pair.kind for pair in pairs(7, 1_500)} == names


def test_numbers_are_clearly_made_up() -> None:
    world = World(11)
    for person in (world.person() for _ in range(200)):
        assert (person.card[:2], person.phone[:4]) == ("99", "1999")


@pytest.mark.torture
def test_the_weights_and_the_page_are_what_the_program_makes() -> None:
    from bench.identity import (
        MATCHED,
        PEOPLE,
        SEED,
        WEIGHTS,
        by_threshold,
        fit,
        judge,
        read_weights,
    )

    fitted = fit(_naming(), matched=MATCHED, people=PEOPLE, seed=SEED)
    assert fitted == json.loads(WEIGHTS.read_text(encoding="utf-8"))
    judged = judge(pairs(SEED + 1, 20_000), _naming(), read_weights(fitted))
    page = PAGE.read_text(encoding="utf-8")
    for row in by_threshold(judged):
        assert f"| {row.threshold:.2f} | {row.precision:.4f} | {row.recall:.4f} |" in page
