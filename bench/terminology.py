"""`python -m bench.terminology`: how fast the terminology service answers, by itself.

No store and no HTTP: what is measured is the pure service on the catalogue, R4's own systems and a
made-up system of 100,000 codes. The REST door adds what it adds to every request (see bench.run).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.builtin import builtin_systems, builtin_value_sets
from fhir_gateway.terminology.expansion import Expanding
from fhir_gateway.terminology.resource_system import ResourceSystem
from fhir_gateway.terminology.service import Terminology
from fhir_gateway.terminology.service_validate import Coding
from fhir_gateway.terminology.value_set import load_vocabulary, terminology_resources

FOLDER = Path(__file__).parents[1] / "terminology"
HUGE, HUGE_SIZE = "http://bench.example.org/huge", 100_000
LAB = f"{CANONICAL}/ValueSet/catalogue-lab"
GENDERS = "http://hl7.org/fhir/ValueSet/administrative-gender"
GENDER = "http://hl7.org/fhir/administrative-gender"


class Timed(NamedTuple):
    """One line: the first answer, which makes the lists, and the median and p99 of the others."""

    name: str
    first_ms: float
    p50_ms: float
    p99_ms: float


def made() -> Terminology:
    """The terminology of the shipped tables, R4 and the large system."""
    vocabulary = load_vocabulary(FOLDER)
    huge = {
        "resourceType": "CodeSystem", "url": HUGE, "content": "complete", "caseSensitive": True,
        "concept": [{"code": f"c{n}", "display": f"编号 {n}"} for n in range(HUGE_SIZE)],
    }  # fmt: skip
    known = Terminology(builtin_systems(vocabulary), builtin_value_sets())
    known = known.beside(terminology_resources(vocabulary))
    return Terminology([*known.systems, ResourceSystem(huge)], known.value_sets)


def cases(known: Terminology) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is measured."""
    item = sorted(known.codes_of(LAB))[0]
    right = Coding(item[0], item[1], display=known.lookup(*item).display)
    yield "$validate-code, item and display", lambda: known.validate_code(right, LAB)
    male = Coding(GENDER, "male")
    yield "$validate-code, R4 binding", lambda: known.validate_code(male, GENDERS)
    yield "is_member, R4 binding", lambda: known.is_member(GENDERS, GENDER, "male")
    for text in ("蛋白", "danbai", "albumin"):
        asked = Expanding(filter=text, most=20)
        yield f"$expand, catalogue, filter {text}", lambda asked=asked: known.expand(LAB, asked)
    page = Expanding(offset=50_000, most=20)
    yield f"$expand, page of {HUGE_SIZE:,}", lambda: known.expand(f"{HUGE}/vs", page)
    few = Expanding(filter="99999", most=20)
    yield f"$expand, filter in {HUGE_SIZE:,}", lambda: known.expand(f"{HUGE}/vs", few)


def timed(name: str, work: Callable[[], object], seconds: float = 1.0) -> Timed:
    """One case, repeated for some time."""
    began = time.perf_counter()
    work()
    first = time.perf_counter() - began
    taken: list[float] = []
    until = time.perf_counter() + seconds
    while not taken or time.perf_counter() < until:
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    taken.sort()
    return Timed(
        name, first * 1e3, taken[len(taken) // 2] * 1e3, taken[int(len(taken) * 0.99)] * 1e3
    )


def rows(seconds: float = 1.0) -> list[Timed]:
    """All lines; `bench.run` may print them beside its own."""
    known = made()
    return [timed(name, work, seconds) for name, work in cases(known)]


def table(seconds: float = 1.0) -> str:
    """The lines as text."""
    head = f"{'terminology, one caller':<44}{'first ms':>10}{'p50 ms':>9}{'p99 ms':>9}"
    lines = [
        f"{one.name:<44}{one.first_ms:>10.2f}{one.p50_ms:>9.3f}{one.p99_ms:>9.3f}"
        for one in rows(seconds)
    ]
    return "\n".join([head, *lines])


if __name__ == "__main__":
    print(table())
