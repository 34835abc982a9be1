"""What judging costs: `python -m bench.validation`. One process, one core, no store.

Full validation of a laboratory Observation as $validate does it: JSON, structure, R4's invariants
and bindings, codes, units, identifiers, and the profile of a recognisable result with terminology.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from fhir_gateway.app import profile_resources
from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.fhirpath import compile_test
from fhir_gateway.fhir.invariants import r4_invariants
from fhir_gateway.fhir.profile_base import judge
from fhir_gateway.fhir.profile_context import Context
from fhir_gateway.fhir.profile_known import Known
from fhir_gateway.fhir.validate import read_resource
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.builtin import builtin_systems, builtin_value_sets
from fhir_gateway.terminology.catalogue import load_catalogue
from fhir_gateway.terminology.looks import Looks
from fhir_gateway.terminology.naming_files import load_naming
from fhir_gateway.terminology.service import of_resources
from fhir_gateway.terminology.value_set import load_vocabulary, terminology_resources

PROFILES, TERMINOLOGY = "profiles", "terminology"
PROFILE = "recognizable-laboratory-observation"
AIM = 800  # Observations a second on one core

T = TypeVar("T")


class Measured(NamedTuple):
    """One row: what is done, and how many microseconds one Observation takes."""

    name: str
    micros: float


def context_of(known: Known) -> Context:
    """What judging asks, of the project's own folders."""
    vocabulary = load_vocabulary(TERMINOLOGY)
    resources = [*profile_resources(PROFILES), *terminology_resources(vocabulary)]
    terms = of_resources([*builtin_value_sets(), *resources], builtin_systems(vocabulary))
    looks = Looks(terms, load_catalogue(TERMINOLOGY), load_naming(PROFILES))
    return Context(
        member=terms.is_member, coding=looks.coding, quantity=looks.quantity,
        identifier=looks.identifier, whole=looks.whole, known=known,
    )  # fmt: skip


def known_profiles() -> Known:
    """The definitions of the profiles folder."""
    found = profile_resources(PROFILES)
    return Known(one for one in found if one["resourceType"] == "StructureDefinition")


def samples() -> list[bytes]:
    """The good examples of the profile, as they come over the wire."""
    folder = Path(PROFILES) / "examples" / PROFILE
    files = sorted(folder.glob("good-*.json"))
    return [file.read_bytes().replace(b"{CANONICAL}", CANONICAL.encode()) for file in files]


def measure(seconds: float) -> list[Measured]:
    """The rows of the table."""
    known = known_profiles()
    context, profile = (
        context_of(known),
        known.profile(f"{CANONICAL}/StructureDefinition/{PROFILE}"),
    )
    assert profile is not None
    bodies = samples()
    resources = [read_resource(body, type="Observation") for body in bodies]
    began = time.perf_counter()
    for resource in resources:
        judge(resource, context, (profile,))
    first = (time.perf_counter() - began) * 1e6

    def full(body: bytes) -> None:
        judge(read_resource(body, type="Observation"), context, (profile,))

    return [
        Measured("the first ones: everything is compiled", first),
        Measured("JSON and structure", _each(bodies, read_resource, seconds)),
        Measured("R4: invariants, bindings, codes", _each(
            resources, lambda one: judge(one, context), seconds)),
        Measured("the same without hints, as on write", _each(
            resources, lambda one: judge(one, context, hints=False), seconds)),
        Measured("the profile alone", _each(
            resources, lambda one: profile.issues(one, context), seconds)),
        Measured("full validation", _each(bodies, full, seconds)),
    ]  # fmt: skip


def _each(values: list[T], work: Callable[[T], object], seconds: float) -> float:
    """Microseconds for one value, the best of three runs: others use the machine too."""
    best = float("inf")
    for _ in range(3):
        done, began = 0, time.process_time()
        while time.process_time() - began < seconds / 3:
            for value in values:
                work(value)
            done += len(values)
        best = min(best, (time.process_time() - began) / done * 1e6)
    return best


def hand_compiled() -> tuple[int, int]:
    """How many of R4's own invariants are compiled here, and how many there are."""
    stated = [one for found in r4_invariants().invariants.values() for one in found]
    compiled = 0
    for one in stated:
        try:
            compile_test(one.expression)
            compiled += 1
        except Invalid:
            pass
    return compiled, len(stated)


def main() -> int:
    """Prints the table. Returns 1 when full validation misses its aim."""
    parser = argparse.ArgumentParser(prog="bench.validation", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each row")
    rows = measure(parser.parse_args().seconds)
    compiled, stated = hand_compiled()
    print(f"\n{'validation of an Observation':44}{'µs':>10}{'/s/core':>12}")
    for row in rows:
        print(f"{row.name:44}{row.micros:10,.0f}{1e6 / row.micros:12,.0f}")
    print(f"{compiled} of R4's {stated} invariants are compiled here, the rest by fhirpathpy")
    return 0 if 1e6 / rows[-1].micros >= AIM else 1


if __name__ == "__main__":
    raise SystemExit(main())
