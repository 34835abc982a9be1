"""From what a name is worth to how often names of that worth were right.

The steps are fitted on names whose items are known (isotonic regression, pool adjacent violators)
and kept as data; `python -m bench.matching --fit` makes them again. docs/local-codes.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from fhir_gateway.terminology.table import Table


class Step(NamedTuple):
    """Names of at least this worth were right in this share of cases."""

    worth: float
    share: float


#: A share that is better than this was never shown: a set of a few hundred names cannot.
_MOST = 0.99


def load_steps(folder: Path | str) -> tuple[Step, ...]:
    """The steps in this folder. Raises Unprocessable with every fault: file, row, column."""
    table = Table(Path(folder) / "synonyms-calibration.csv", ("worth", "share"))
    steps: list[Step] = []
    for line, cells in table.rows():
        numbers = []
        for column in ("worth", "share"):
            try:
                number = float(cells[column])
            except ValueError:
                number = -1.0
            if not 0 <= number <= 1:
                table.fault(line, column, "must be a number from 0 to 1", rule="step-number")
            numbers.append(number)
        step = Step(*numbers)
        if steps and (step.worth <= steps[-1].worth or step.share < steps[-1].share):
            table.fault(line, "share", "must rise from row to row", rule="step-order")
        steps.append(step)
    table.check()
    return tuple(steps)


def score(worth: float, steps: Iterable[Step]) -> float:
    """The share of the steps at this worth, on a straight line between two of them."""
    before = Step(0.0, 0.0)
    for step in steps:
        if worth <= step.worth:
            width = step.worth - before.worth
            part = (worth - before.worth) / width if width else 1.0
            return round(before.share + part * (step.share - before.share), 3)
        before = step
    return before.share


def fitted(cases: Iterable[tuple[float, bool]]) -> list[Step]:
    """The steps that fit (worth, right) best and never fall.

    Each block counts half a case more that was wrong, so that a block of few is not sure of itself.
    """
    blocks: list[list[float]] = []  # [sum of worths, right, cases]
    for worth, right in sorted(cases):
        blocks.append([worth, float(right), 1.0])
        while len(blocks) > 1 and _share(blocks[-2]) >= _share(blocks[-1]):
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
    steps: list[Step] = []
    for worths, hits, count in blocks:
        step = Step(round(worths / count, 3), round(min(hits / (count + 0.5), _MOST), 3))
        if steps and (step.worth <= steps[-1].worth or step.share <= steps[-1].share):
            continue
        steps.append(step)
    return steps


def _share(block: list[float]) -> float:
    return block[1] / block[2]
