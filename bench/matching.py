"""How well the matcher does on names that it was not made from; `--fit` calibrates it.

Three sets, all written from the domain by the same hand as the synonym table, so that they flatter
more than a hospital will: `names/{lab,imaging,orders,nothing}.csv` are the test, and were never
looked at while the matcher was tuned; `names/calibration.csv` was used for that, and gives the
steps of terminology/synonyms-calibration.csv. Names of the test that stand letter by letter in the
synonym table are counted apart.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fhir_gateway.terminology.catalogue import Catalogue, load_catalogue
from fhir_gateway.terminology.matcher import SURE, Matcher, Proposal
from fhir_gateway.terminology.matcher_score import fitted, load_steps
from fhir_gateway.terminology.synonyms import Words, load_words
from fhir_gateway.terminology.unmapped import Local

NAMES = Path(__file__).parent / "names"
TERMINOLOGY = Path(__file__).parents[1] / "terminology"
TEST = ("lab", "imaging", "orders", "nothing")
STEPS = TERMINOLOGY / "synonyms-calibration.csv"


class Case(NamedTuple):
    """A local name and the codes it means, "" for nothing in the catalogue."""

    local: Local
    items: str


class Figures(NamedTuple):
    """What came of a set: how many have an item, and of how many it was proposed first, or among
    three; how many sure proposals there were, and how many of them were wrong."""

    cases: int
    mapped: int
    first: int
    three: int
    sure: int
    wrong: int
    microseconds: float

    @property
    def top1(self) -> float:
        """The share of names with an item whose item came first."""
        return self.first / self.mapped if self.mapped else 0.0

    @property
    def top3(self) -> float:
        """The share of names with an item whose item was among three."""
        return self.three / self.mapped if self.mapped else 0.0

    @property
    def wrong_but_sure(self) -> float:
        """The share of all names with a proposal that was sure, and wrong."""
        return self.wrong / self.cases if self.cases else 0.0


def cases(name: str) -> list[Case]:
    """A set of names."""
    with (NAMES / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return [
            Case(
                Local(
                    "order" if row["use"] == "order" else "result", "", row["code"], row["name"],
                    row["specimen"], row["unit"], row["method"],
                ),
                row["items"],
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


def measure(matcher: Matcher, given: list[Case]) -> Figures:
    """What the matcher makes of a set."""
    mapped = first = three = sure = wrong = 0
    began = time.perf_counter()
    for case in given:
        proposals = matcher.propose(case.local)
        mapped += bool(case.items)
        first += bool(case.items) and _codes(proposals[:1]) == [case.items]
        three += bool(case.items) and case.items in _codes(proposals)
        if proposals and proposals[0].sure:
            sure += 1
            wrong += _codes(proposals[:1]) != [case.items]
    spent = (time.perf_counter() - began) * 1e6 / max(len(given), 1)
    return Figures(len(given), mapped, first, three, sure, wrong, spent)


def _codes(proposals: list[Proposal]) -> list[str]:
    return [proposal.codes for proposal in proposals]


def made() -> tuple[Catalogue, Words]:
    """The catalogue and the words of the project."""
    catalogue = load_catalogue(TERMINOLOGY)
    return catalogue, load_words(TERMINOLOGY, catalogue)


def lines() -> Iterator[str]:
    """The figures of the test, as `make bench` prints them."""
    catalogue, words = made()
    matcher = Matcher(catalogue, words, load_steps(TERMINOLOGY))
    spelled = {one.text for one in words.synonyms} | {
        name for item in catalogue.items.values() for name in (item.name_zh, item.abbreviation)
    }
    every: list[Case] = []
    for name in TEST:
        given = cases(name)
        every += given
        yield _line(name, measure(matcher, given))
    yield _line("all", measure(matcher, every))
    unknown = [case for case in every if case.local.name not in spelled]
    yield _line("not in the synonyms", measure(matcher, unknown))
    yield f"sure: score of at least {SURE}, and nothing that contradicts"


def _line(name: str, one: Figures) -> str:
    return (
        f"{name:20} {one.cases:4} names, {one.mapped:4} with an item:"
        f" first {one.top1:6.1%}, among three {one.top3:6.1%};"
        f" sure {one.sure:4}, wrong but sure {one.wrong} ({one.wrong_but_sure:.2%});"
        f" {one.microseconds:.0f} µs"
    )


def fit() -> None:
    """Makes the steps anew from the names of the calibration."""
    catalogue, words = made()
    matcher = Matcher(catalogue, words, ())
    seen = []
    for case in cases("calibration"):
        worths = matcher.worths(case.local)
        if worths:
            worth, items, _ = worths[0]
            seen.append((worth, ";".join(item.code for item in items) == case.items))
    steps = fitted(seen)
    with STEPS.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("worth", "share"))
        writer.writerows(steps)
    print(f"{len(seen)} names, {len(steps)} steps: {STEPS.name}")


def main() -> None:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--fit", action="store_true", help="calibrate, and write the steps")
    if options.parse_args().fit:
        fit()
        return
    for line in lines():
        print(line)


if __name__ == "__main__":
    main()
