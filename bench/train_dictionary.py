"""Trains the zstd dictionary of stored bodies: python bench/train_dictionary.py OUTPUT FOLDER…

Reads every FHIR resource under the folders (.json and .json.bz2, Bundles entry by entry), adds the
AuditEvents and decisions that the gateway itself writes, cuts them as the store does, and trains
on those tails. Types that the gateway keeps most weigh most. A new dictionary needs a new number in
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
from fhir_gateway.recognition import record
from fhir_gateway.recognition.model import (
    Candidate,
    Decision,
    Identity,
    ItemOutcome,
    Line,
    Newer,
    OrderedItem,
    Other,
    Query,
)
from fhir_gateway.settings import CANONICAL

SIZE = 65_536
LEVEL = 3

#: Most samples taken of one type.
SHARES = {"Observation": 4_000, "DiagnosticReport": 2_000, "Patient": 500, "ServiceRequest": 500}
DEFAULT_SHARE = 200
LONGEST = 20_000
EVENTS, DECISIONS = 3_000, 2_000

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


_CHANCE = random.Random(1)  # the same samples every time


def _id() -> str:
    return "".join(_CHANCE.choices(_DIGITS, k=26))


def audit_events(count: int) -> list[bytes]:
    """Tails of AuditEvents as the gateway writes them, with ids drawn by chance."""
    written = []
    for number in range(count):
        call = events.Call(
            recorded_us=1_790_000_000_000_000 + number * 977_000_123,
            actor_name=_id(), institution=_id(), request_id=_id(), purpose="TREAT",
            address=f"10.{number % 250}.{number % 17}.{number % 99}",
        )  # fmt: skip
        patient, kind = _id(), _CHANCE.choice(("Observation", "DiagnosticReport", "Patient"))
        written += [
            events.read_event(call, type=kind, id=_id(), version=1, patient=patient),
            events.search_event(
                call, query=f"Observation?patient={patient}&code=L001", patient=patient, count=3
            ),
            events.create_event(call, type=kind, id=_id(), patient=patient),
            events.transaction_event(
                call, resources=[f"Observation/{_id()}/_history/1", f"DiagnosticReport/{_id()}"],
                patients=[patient],
            ),
        ]  # fmt: skip
    return written


def decisions(count: int) -> list[bytes]:
    """Tails of GuidanceResponses as the gateway writes them."""
    return [_decision(1_790_000_000_000_000 + n * 977_000_123) for n in range(count)]


def _decision(now: int) -> bytes:
    items = tuple(
        OrderedItem(
            f"ServiceRequest/{_id()}", f"{_CHANCE.choice('LI')}{_CHANCE.randint(1, 300):03}"
        )
        for _ in range(_CHANCE.randint(1, 5))
    )
    query = Query(_id(), _CHANCE.randint(1, 99_999), items, _id(), "110101", now,
                  identity=Identity(documented=True), t=_CHANCE.randint(1, 99_999),
                  receiver_within=("110000", "110101"))  # fmt: skip
    version = f"PlanDefinition/recognition/_history/{_CHANCE.randint(1, 9)}"
    inputs = record.Inputs(query, version, f"{_CHANCE.getrandbits(256):064x}")
    url = f"{CANONICAL}/PlanDefinition/recognition|1.0.0"
    decision = Decision(tuple(map(_outcome, items)), url, now, query.t, "2026.1")
    occasion = record.Occasion("order-sign", _id(), f"Practitioner/{_id()}",
                               f"{_CHANCE.getrandbits(256):064x}")  # fmt: skip
    return record.render_tail(inputs, decision, occasion, [_id()], _CHANCE.randint(1, 40))


_OUTCOMES = (
    ("recognize", "usable"), ("view-only", "evaluation-missing"), ("not-recognizable", "too-old"),
    ("not-recognizable", "none-available-to-you"), ("cannot-decide", "issuer-unknown"),
)  # fmt: skip
_RULES = (
    "item-in-catalogue@1", "report-final@1", "quality-evaluation@1", "window@1", "specimen@1",
    "unit@1", "identity@1", "ultrasound@1", "images@1", "always-repeat@1", "context@1",
)  # fmt: skip


def _outcome(item: OrderedItem) -> ItemOutcome:
    outcome, reason = _CHANCE.choice(_OUTCOMES)
    if reason == "none-available-to-you":
        return ItemOutcome(item.key, item.item, outcome, reason)
    lines = tuple(
        Line(rule, "pass", "", "remind", "", "", {"area": "110000"} if "quality" in rule else {})
        for rule in _RULES
    )
    other = Other(f"Observation/{_id()}", 1, "superseded", Line("window@1", "fail", "too-old",
                  "remind", "", "", {"days": _CHANCE.randint(1, 99)}))  # fmt: skip
    newer = Newer(_candidate(item), "cannot-decide", pending=True)
    return ItemOutcome(item.key, item.item, outcome, reason, _candidate(item), lines, (other,),
                       (newer,) if _CHANCE.random() < 0.2 else (), outcome == "recognize", 14,
                       "compiled")  # fmt: skip


def _candidate(item: OrderedItem) -> Candidate:
    time = 1_789_000_000_000_000 + _CHANCE.randint(0, 10**15)
    return Candidate(f"Observation/{_id()}", 1, 1, _id(), item.item or "", "lab", time, time, time,
                     "final", "final", f"DiagnosticReport/{_id()}", _id())  # fmt: skip


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
    bodies = samples(folders) + audit_events(EVENTS // 4) + decisions(DECISIONS)
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
