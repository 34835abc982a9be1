"""Trains the zstd dictionary of stored bodies: python bench/train_dictionary.py OUTPUT FOLDER…

Reads every FHIR resource under the folders (.json and .json.bz2, Bundles entry by entry), adds the
AuditEvents that the gateway itself writes, cuts them as the store does, and trains on those tails.
Types that the gateway keeps most weigh most. A new dictionary needs a new number in
fhir_gateway/store/blobs.py: bodies that were packed with the old one stay as they are.
"""

from __future__ import annotations

import bz2
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

from fhir_gateway.audit import events
from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.wire import parse, tail

SIZE = 65_536
LEVEL = 3

#: Most samples taken of one type.
SHARES = {"Observation": 4_000, "DiagnosticReport": 2_000, "Patient": 500, "ServiceRequest": 500}
DEFAULT_SHARE = 200
LONGEST = 20_000
EVENTS = 3_000

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


def samples(folders: list[Path]) -> list[bytes]:
    """The tails to train on, at most a share of each type."""
    taken: dict[str, list[bytes]] = defaultdict(list)
    for resource in _resources(folders):
        bodies = taken[resource["resourceType"]]
        body = tail(resource)
        if len(bodies) < SHARES.get(resource["resourceType"], DEFAULT_SHARE):
            bodies.append(body[:LONGEST])
    return [body for bodies in taken.values() for body in bodies]


def audit_events(count: int) -> list[bytes]:
    """Tails of AuditEvents as the gateway writes them, with ids drawn by chance."""
    chance = random.Random(1)

    def id() -> str:
        return "".join(chance.choices(_DIGITS, k=26))

    written = []
    for number in range(count):
        call = events.Call(
            recorded_us=1_790_000_000_000_000 + number * 977_000_123,
            actor_name=id(), institution=id(), request_id=id(), purpose="TREAT",
            address=f"10.{number % 250}.{number % 17}.{number % 99}",
        )  # fmt: skip
        patient, kind = id(), chance.choice(("Observation", "DiagnosticReport", "Patient"))
        written += [
            events.read_event(call, type=kind, id=id(), version=1, patient=patient),
            events.search_event(
                call, query=f"Observation?patient={patient}&code=L001", patient=patient, count=3
            ),
            events.create_event(call, type=kind, id=id(), patient=patient),
            events.transaction_event(
                call, resources=[f"Observation/{id()}/_history/1", f"DiagnosticReport/{id()}"],
                patients=[patient],
            ),
        ]  # fmt: skip
    return written


def _resources(folders: list[Path]) -> Iterator[dict[str, Any]]:
    for path in sorted(path for folder in folders for path in folder.rglob("*.json*")):
        raw = path.read_bytes()
        try:
            resource = parse(bz2.decompress(raw) if path.suffix == ".bz2" else raw)
        except GatewayError:
            continue
        yield from _entries(resource)


def _entries(resource: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if resource.get("resourceType") != "Bundle":
        if "resourceType" in resource:
            yield resource
        return
    for entry in resource.get("entry", ()):
        if "resource" in entry:
            yield from _entries(entry["resource"])


def main(arguments: list[str]) -> None:
    """Writes the dictionary, then says what it saves and costs."""
    output, *folders = map(Path, arguments)
    bodies = samples(folders) + audit_events(EVENTS // 4)
    dictionary = zstandard.train_dictionary(SIZE, bodies, level=LEVEL)
    output.write_bytes(dictionary.as_bytes())
    dictionary.precompute_compress(level=LEVEL)
    coder = zstandard.ZstdCompressor(level=LEVEL, dict_data=dictionary, write_dict_id=False)
    before, started = sum(map(len, bodies)), time.perf_counter()
    after = sum(len(coder.compress(body)) for body in bodies)
    each = (time.perf_counter() - started) / len(bodies) * 1e6
    print(f"{len(bodies)} bodies, {before} bytes, {after} packed, {each:.1f} us each")


if __name__ == "__main__":
    main(sys.argv[1:])
