"""What `decide` alone costs: 5 ordered items with 10 results each, no store, no HTTP, no texts.

`python -m bench.decide` prints microseconds for each question; the pure function must stay under
150 µs in the usual case (docs/performance.md). Results are read from no store: what reading costs
is in the other tables.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from fhir_gateway.fhir.datatypes import DAY, date_range
from fhir_gateway.recognition.decide import decide
from fhir_gateway.recognition.model import Candidate, Identity, OrderedItem, Query
from fhir_gateway.recognition.rules import RuleSet, load_rule_set
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import Evaluation
from fhir_gateway.terminology.catalogue import Catalogue, Item, load_catalogue

ROOT = Path(__file__).resolve().parents[1]
ITEMS, RESULTS = 5, 10
AS_OF = date_range("2026-11-20T10:00:00+08:00")[0]

Case = tuple[Query, list[Candidate]]


def rule_set() -> RuleSet:
    """The shipped rule set, as if it were in force."""
    path = ROOT / "profiles" / "PlanDefinition" / "recognition-1.0.0.json"
    text = path.read_text(encoding="utf-8").replace("{CANONICAL}", CANONICAL)
    return load_rule_set(json.loads(text) | {"status": "active"})


def question(items: list[Item]) -> Query:
    """One line for each item, asked in Beijing of a patient with a document."""
    return Query(
        patient="p", home=1, items=tuple(map(OrderedItem, "01234", [one.code for one in items])),
        receiver="r", receiver_area="110105", as_of_us=AS_OF, identity=Identity(documented=True),
        receiver_within=("100000", "110000", "110105"), born="1960-01-01",
    )  # fmt: skip


def result(item: Item, number: int, **changes: object) -> Candidate:
    """A marked result of `number` days ago that can be recognised."""
    taken = AS_OF - number * DAY - DAY // 2
    row = Evaluation(
        f"h{number % 3}", item.code, "110000", "2026-01-01", "2026-12-31", True, "QC", "1"
    )
    lab = item.kind == "lab"
    one = Candidate(
        source=f"Observation/{item.code}-{number}", rid=number, version=1, patient="p",
        item=item.code, kind=item.kind, time=taken, time_high=taken, issued=taken + 3_600_000_000,
        status="final", report_status="final", issuer=f"h{number % 3}",
        specimen="serum" if lab else "", unit=item.ucum_unit, value="5.10", quantity="5.10",
        evaluations=(row,), retrievable=None if lab else True, region=item.body_part_dicom,
    )  # fmt: skip
    return msgspec.structs.replace(one, **changes)


def cases(catalogue: Catalogue) -> dict[str, Case]:
    """The usual question, and those in which more has to be judged."""
    labs, images = catalogue.of("lab")[:ITEMS], catalogue.of("imaging")[:ITEMS]

    def made(items: list[Item], newest: int = 0, **changes: object) -> Case:
        found = [
            result(one, number, **(changes if number < newest else {}))
            for one in items
            for number in range(RESULTS)
        ]
        return question(items), found

    return {
        "the newest is recognised": made(labs),
        "the newest is pending": made(labs, 1, status="registered", flags=4),
        "three newer ones without a mark": made(labs, 3, evaluations=()),
        "none has a mark: all are judged": made(labs, RESULTS, evaluations=()),
        "imaging, the newest is recognised": made(images),
        "nothing on file": (question(labs), []),
    }


def measure(call: Callable[[], object], rounds: int = 200) -> float:
    """Microseconds of one call: the quickest of rounds, so that what else runs is not counted."""
    started = time.perf_counter()
    call()
    number = max(1, int(0.002 / max(time.perf_counter() - started, 1e-6)))
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(number):
            call()
        taken.append((time.perf_counter() - started) / number)
    return min(taken) * 1e6


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def main(as_json: bool) -> None:
    """Prints a row for each case."""
    rules, catalogue = rule_set(), load_catalogue(ROOT / "terminology")
    figures = {}
    for name, (query, found) in cases(catalogue).items():
        outcomes = {one.outcome for one in decide(query, found, rules, catalogue).items}
        cost = measure(lambda query=query, found=found: decide(query, found, rules, catalogue))  # type: ignore[misc]
        figures[name] = round(cost, 1)
        if not as_json:
            click.echo(f"{cost:8.1f} µs  {name} ({', '.join(sorted(outcomes))})")
    if as_json:
        click.echo(json.dumps(figures, ensure_ascii=False))


if __name__ == "__main__":
    main()
