"""Deciding alone, without HTTP, store and texts; and what a stored decision takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from fhir_gateway.app import open_gateway
from fhir_gateway.fhir.wire import parse
from fhir_gateway.recognition.decide import decide
from fhir_gateway.recognition.model import Candidate, Identity, OrderedItem, Query
from fhir_gateway.recognition.record import render_decided
from fhir_gateway.recognition.rules import load_rule_set
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.settings import CANONICAL, load_settings
from fhir_gateway.store.blobs import pack
from fhir_gateway.store.changes import Evaluation
from fhir_gateway.terminology.catalogue import Catalogue
from fhir_gateway.terminology.value_set import load_vocabulary

ROOT = Path(__file__).resolve().parents[1]
ITEMS, CANDIDATES = 5, 10
_DAY = 86_400_000_000
_NOW = int(datetime(2026, 11, 22, 2, tzinfo=UTC).timestamp()) * 1_000_000


def decision_alone() -> Iterator[str]:
    """What five items with ten candidates each cost, and their record."""
    text = (ROOT / "profiles/PlanDefinition/recognition-1.0.0.json").read_bytes()
    rule_set = load_rule_set(parse(text.replace(b"{CANONICAL}", CANONICAL.encode())))
    catalogue = load_vocabulary(str(ROOT / "terminology")).catalogue
    codes = [code for code, item in catalogue.items.items() if item.kind == "lab"][:ITEMS]
    query = Query(
        patient="p", home=1, receiver="r", receiver_area="110105", as_of_us=_NOW, t=1,
        items=tuple(OrderedItem(f"ServiceRequest/{code}", code) for code in codes),
        identity=Identity(documented=True), receiver_within=("110000", "110105", "CN"),
    )  # fmt: skip
    for name, age in (("the newest can be used", 1), ("none can be used", 400)):
        candidates = [
            _candidate(catalogue, code, number, age) for code in codes for number in range(10)
        ]
        decision = decide(query, candidates, rule_set, catalogue)
        cost = _best(lambda found=candidates: decide(query, found, rule_set, catalogue))
        record = _best(lambda made=decision: render_decided(made))
        yield (
            f"decide     {ITEMS} items x {CANDIDATES} candidates, {name}: {cost:.0f} us "
            f"(aim 150); its record {record:.0f} us more"
        )


def _candidate(catalogue: Catalogue, code: str, number: int, age: int) -> Candidate:
    item = catalogue.items[code]
    time_us = _NOW - (age + number) * _DAY
    evaluation = Evaluation(
        "i", code, "110000", "2020-01-01", "2040-12-31", True, "evaluator", "round"
    )
    return Candidate(
        source=f"Observation/{code}-{number}", rid=number, version=1, patient="p", item=code,
        kind="lab", time=time_us, time_high=time_us, issued=time_us, status="final",
        report_status="final", report_source=f"DiagnosticReport/{code}-{number}", issuer="i",
        specimen=str(item.specimen).partition("/")[0], unit=item.ucum_unit, value="4.1",
        evaluations=(evaluation,), time_of="collected",
    )  # fmt: skip


def _best(run: object, *, times: int = 7, calls: int = 300) -> float:
    """µs of processor time of a call, the best of several tries."""
    best = float("inf")
    for _ in range(times):
        began = time.process_time()
        for _ in range(calls):
            run()  # type: ignore[operator]  # a function without arguments
        best = min(best, time.process_time() - began)
    return best / calls * 1e6


def record_bytes(database: str, began: datetime) -> Iterator[str]:
    """How large the last decisions are, as they came and as they are kept."""
    sizes = asyncio.run(_sizes(database))
    if sizes:
        raw, packed = (sum(size[n] for size in sizes) / len(sizes) for n in (0, 1))
        most = max(size[1] for size in sizes)
        yield (
            f"  a decision of 5 items: {raw:,.0f} bytes, {packed:,.0f} stored, at most {most:,} "
            f"of {len(sizes)} (aim 2,000)"
        )


async def _sizes(database: str) -> list[tuple[int, int]]:
    gateway = await open_gateway(load_settings({}, database=database), begin=False)
    try:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            versions = await reader.changes(type="GuidanceResponse", limit=200)
    finally:
        await gateway.store.close()
    return [(len(one.stored.tail), len(pack(one.stored.tail)[1])) for one in versions]
