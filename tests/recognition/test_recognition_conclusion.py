"""A diagnosis is no part of a recognised result: conclusion, findings and files are never read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from recognition_cases import CATALOGUE, RULE_SET, evaluation, query

from fhir_gateway.fhir.keys import key64
from fhir_gateway.recognition.candidates import candidates
from fhir_gateway.recognition.decide import decide
from fhir_gateway.recognition.facts import derive
from fhir_gateway.recognition.record import render_decided
from fhir_gateway.store.changes import Derived
from fhir_gateway.store.store import StoredFact
from fhir_gateway.terminology.catalogue import IMAGING_SYSTEM, LAB_SYSTEM

Json = dict[str, Any]

SAYINGS = st.fixed_dictionaries(
    {},
    optional={
        "conclusion": st.sampled_from(("未见异常", "考虑肺癌，建议增强复查", "CRITICAL 作废 左侧")),
        "conclusionCode": st.just([{"coding": [{"code": "HH"}], "text": "危急值"}]),
        "presentedForm": st.just([{"contentType": "text/plain", "data": "5L2c5bqf"}]),
        "text": st.just({"status": "generated", "div": "<div>entered-in-error</div>"}),
        "media": st.just([{"comment": "左侧", "link": {"reference": "Media/1"}}]),
    },
)


def _report(item: str, system: str, **more: Any) -> Json:
    return {
        "resourceType": "DiagnosticReport",
        "id": "r",
        "status": "final",
        "code": {"coding": [{"system": system, "code": item}]},
        "subject": {"reference": "Patient/patient"},
        "performer": [{"reference": "Organization/hospital"}],
        "effectiveDateTime": "2026-11-18T08:00:00+08:00",
        "issued": "2026-11-18T15:00:00+08:00",
        **more,
    }


def _observation(**more: Any) -> Json:
    return {
        "resourceType": "Observation",
        "id": "o",
        "status": "final",
        "code": {"coding": [{"system": LAB_SYSTEM, "code": "K"}]},
        "subject": {"reference": "Patient/patient"},
        "performer": [{"reference": "Organization/hospital"}],
        "specimen": {"display": "血清"},
        "effectiveDateTime": "2026-11-18T08:00:00+08:00",
        "issued": "2026-11-18T15:00:00+08:00",
        "valueQuantity": {
            "value": 5.1,
            "unit": "mmol/L",
            "system": "http://unitsofmeasure.org",
            "code": "mmol/L",
        },
        **more,
    }


def _decided(item: str, resources: Iterable[Json]) -> bytes:
    """The decision as it is recorded, on what these resources give."""
    facts, links = [], {}
    for resource in resources:
        rows = Derived()
        derive(json.loads(json.dumps(resource)), rows)
        facts += rows.facts
        links |= {link.result: link for link in rows.links}
    stored = []
    for number, fact in enumerate(facts):
        link = links.get(key64(fact.source))
        told = (link.status, "DiagnosticReport/r") if link else ("", "")
        stored.append(StoredFact(fact, number, 1, 1, "patient", *told))
    register = {("hospital", item): (evaluation(item),)}
    asked = query({"item": item})
    return render_decided(decide(asked, candidates(stored, register), RULE_SET, CATALOGUE))


def _laboratory(sayings: Json, notes: Json) -> list[Json]:
    results = {"result": [{"reference": "Observation/o"}]}
    return [_report("PANEL", LAB_SYSTEM, **results, **sayings), _observation(**notes)]


@settings(max_examples=examples(40), deadline=None)
@given(SAYINGS, st.sampled_from(({}, {"note": [{"text": "建议复查"}]})))
def test_a_laboratory_report_may_say_what_it_likes(sayings: Json, notes: Json) -> None:
    plain = _decided("K", _laboratory({}, {}))
    assert b'"valueCode":"recognize"' in plain
    assert _decided("K", _laboratory(sayings, notes)) == plain


@pytest.mark.parametrize("item", ["CT-HEAD", "US-THYROID"])
@settings(max_examples=examples(40), deadline=None)
@given(sayings=SAYINGS)
def test_an_imaging_report_may_say_what_it_likes(item: str, sayings: Json) -> None:
    plain = _decided(item, [_report(item, IMAGING_SYSTEM)])
    assert b"DiagnosticReport/r" in plain
    assert _decided(item, [_report(item, IMAGING_SYSTEM, **sayings)]) == plain
