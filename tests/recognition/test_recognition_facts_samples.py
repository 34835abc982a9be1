"""Facts of real resources: HL7's own examples, Australia's, and Synthea's, where they are here.

None of them carries a code of our catalogue: each gets one, so that it is read.
"""

from __future__ import annotations

import bz2
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from facts_cases import CATALOGUE

from fhir_gateway.fhir import wire
from fhir_gateway.recognition import facts
from fhir_gateway.recognition.facts_more import LONGEST, SAME, more_of
from fhir_gateway.store.changes import Derived
from fhir_gateway.terminology.catalogue import IMAGING_SYSTEM, LAB_SYSTEM

SAMPLES = Path(__file__).parents[3] / "shared" / "data" / "samples"
ITEM = {"system": LAB_SYSTEM, "code": "K"}
IMAGE = {"system": IMAGING_SYSTEM, "code": "CT-HEAD"}

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the folder of samples is not here")


def _resources() -> Iterator[dict[str, Any]]:
    for folder in ("fhir-r4-examples", "au-core"):
        for path in sorted((SAMPLES / folder).glob("*.json")):
            yield from _parts(wire.parse(path.read_bytes()))
    for path in sorted((SAMPLES / "synthea").glob("*.json.bz2"))[:4]:
        yield from _parts(wire.parse(bz2.decompress(path.read_bytes())))


def _parts(resource: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield resource
    if resource.get("resourceType") == "Bundle":
        for entry in resource.get("entry", ()):
            yield from _parts(entry.get("resource", {}))


def _coded(resource: dict[str, Any]) -> dict[str, Any]:
    """The resource with a code of the catalogue beside its own."""
    if resource["resourceType"] == "ImagingStudy":
        return resource
    coding = ITEM if resource["resourceType"] == "Observation" else IMAGE
    concept = resource.get("code", {})
    return {**resource, "code": {**concept, "coding": [*concept.get("coding", ()), coding]}}


def test_every_sample_gives_facts_that_can_be_packed() -> None:
    seen: Counter[str] = Counter()
    for resource in _resources():
        if resource.get("resourceType") not in ("Observation", "DiagnosticReport", "ImagingStudy"):
            continue
        rows = Derived()
        facts.derive(_coded({"id": "x", **resource}), rows, catalogue=CATALOGUE)
        assert rows.facts, resource.get("id")
        for fact in rows.facts:
            more = more_of(fact.more)
            assert more.packed() == fact.more
            assert all(len(member) <= LONGEST for member in more if member != more.endpoints)
            # what a result states of its time is what it is dated by
            if "effectiveDateTime" in resource:
                assert more.time_of in ("collected", "performed")
            if more.quantity not in ("", SAME):
                assert Decimal(more.quantity).is_finite()
            seen[resource["resourceType"]] += 1
            seen[f"time {more.time_of}"] += 1
            seen["quantity"] += bool(more.quantity)
            seen["interval"] += bool(more.interval)
    assert seen["Observation"] > 100
    assert min(seen[name] for name in ("DiagnosticReport", "ImagingStudy", "interval")) > 0
    assert seen["quantity"] > 0


def test_hl7_s_own_imaging_study() -> None:
    """hl7.org/fhir/R4/imagingstudy-example-xr.json: a side, and a body site that is
    no term of DICOM."""
    path = SAMPLES / "fhir-r4-examples" / "ImagingStudy-example-xr.json"
    rows = Derived()
    facts.derive(wire.parse(path.read_bytes()), rows)
    (fact,) = rows.facts
    assert (fact.laterality, fact.item) == ("L", "")
    more = more_of(fact.more)
    assert (more.time_of, more.zone, more.contrast, more.region) == (
        "started", "", "", "",
    )  # fmt: skip
