"""What has become of a result: pure comparisons of two versions."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_gateway.recognition.relied_change import what_became
from fhir_gateway.terminology.catalogue import LAB_SYSTEM
from fhir_gateway.terminology.mapped_by import MAPPED_BY

Json = dict[str, Any]

OURS = {"system": LAB_SYSTEM, "code": "L001", "extension": [
    {"url": MAPPED_BY, "valueCanonical": "m|1"}]}  # fmt: skip
RESULT: Json = {
    "resourceType": "Observation", "status": "final",
    "code": {"coding": [{"system": "urn:local", "code": "K"}]},
    "subject": {"reference": "Patient/p"}, "performer": [{"reference": "Organization/o"}],
    "effectiveDateTime": "2026-01-02T08:00:00+08:00", "valueQuantity": {"value": 4},
}  # fmt: skip
REPORT: Json = {
    "resourceType": "DiagnosticReport", "status": "final", "code": {"text": "CT"},
    "subject": {"reference": "Patient/p"}, "conclusion": "无异常",
    "result": [{"reference": "Observation/a"}], "imagingStudy": [{"reference": "ImagingStudy/s"}],
}  # fmt: skip
STUDY: Json = {
    "resourceType": "ImagingStudy", "status": "available", "subject": {"reference": "Patient/p"},
    "started": "2026-01-02", "numberOfInstances": 3,
}  # fmt: skip


def changed(resource: Json, **members: Any) -> Json:
    return {name: value for name, value in {**resource, **members}.items() if value is not ...}


@pytest.mark.parametrize(
    ("before", "members", "expected"),
    [
        (RESULT, {}, ""),
        (RESULT, {"note": [{"text": "x"}], "meta": {"versionId": "9"}}, ""),
        (RESULT, {"code": {"coding": [{"system": "urn:local", "code": "K"}, OURS]}}, ""),
        (RESULT, {"performer": [*RESULT["performer"], {"reference": "Practitioner/x"}]}, ""),
        (RESULT, {"code": {"coding": [{"system": "urn:local", "code": "NA"}]}}, "corrected"),
        (RESULT, {"valueQuantity": {"value": 5}}, "corrected"),
        (RESULT, {"valueQuantity": ..., "valueString": "溶血"}, "corrected"),
        (RESULT, {"effectiveDateTime": "2026-01-03T08:00:00+08:00"}, "corrected"),
        (RESULT, {"status": "amended"}, "corrected"),
        (RESULT, {"status": "corrected"}, "corrected"),
        (RESULT, {"modifierExtension": [{"url": "urn:x", "valueBoolean": True}]}, "corrected"),
        (RESULT, {"status": "entered-in-error", "valueQuantity": ...}, "voided"),
        (RESULT, {"status": "cancelled", "subject": {"reference": "Patient/q"}}, "voided"),
        (RESULT, {"subject": {"reference": "Patient/q"}}, "other-patient"),
        (RESULT, {"performer": [{"reference": "Organization/q"}]}, "other-issuer"),
        (changed(RESULT, status="entered-in-error"), {}, ""),
        (changed(RESULT, status="entered-in-error"), {"status": "final"}, "corrected"),
        (changed(RESULT, status="amended"), {}, ""),
        (changed(RESULT, status="amended"), {"valueQuantity": {"value": 5}}, "corrected"),
        (changed(RESULT, status="preliminary"), {"status": "final"}, ""),
        (changed(RESULT, status="preliminary"), {"valueQuantity": {"value": 5}}, ""),
        (changed(RESULT, status="registered"), {"status": "cancelled"}, "voided"),
        (REPORT, {"result": [{"reference": "Observation/a"}, {"reference": "Observation/b"}]}, ""),
        (REPORT, {"result": ...}, "corrected"),
        (REPORT, {"imagingStudy": ...}, "corrected"),
        (REPORT, {"conclusion": "结节"}, "corrected"),
        (REPORT, {"status": "appended"}, "corrected"),
        (STUDY, {"numberOfInstances": 400}, ""),
        (STUDY, {"started": "2026-01-03"}, "corrected"),
        (STUDY, {"status": "cancelled"}, "voided"),
    ],
)
def test_what_becomes_of_a_result(before: Json, members: Json, expected: str) -> None:
    assert what_became(before, changed(before, **members)) == expected


@pytest.mark.parametrize("resource", [RESULT, REPORT, STUDY])
def test_what_is_gone_is_deleted(resource: Json) -> None:
    assert what_became(resource, None) == "deleted"
