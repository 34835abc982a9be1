"""Finding, placing and resolving references."""

from __future__ import annotations

import pytest

from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.references import expression, full_url_base, local, slots


def test_every_literal_reference_is_found_wherever_it_stands():
    resource = {
        "resourceType": "Observation",
        "subject": {"reference": "Patient/1"},
        "performer": [{"reference": "Practitioner/2"}, {"display": "no literal"}],
        "extension": [{"url": "x", "valueReference": {"reference": "Device/3"}}],
        "contained": [{"resourceType": "Specimen", "subject": {"reference": "#"}}],
        "component": [{"code": {"text": "reference"}}],
    }
    found = slots(resource)
    assert sorted((expression("Observation", resource, slot), slot.text) for slot in found) == [
        ("Observation.contained[0].subject.reference", "#"),
        ("Observation.extension[0].valueReference.reference", "Device/3"),
        ("Observation.performer[0].reference", "Practitioner/2"),
        ("Observation.subject.reference", "Patient/1"),
    ]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"resourceType":"Observation","subject":{"reference":"Patient/1"}}',
        b'{"resourceType":"Observation","subject":{"\\u0072eference":"Patient/1"}}',
        b'{"resourceType":"Observation","note":[{"text":"\\"reference\\""}],'
        b'"subject":{"reference" : "Patient/1"}}',
    ],
)
def test_the_spelling_of_the_json_hides_no_reference(raw):
    resource = parse(raw)
    assert [slot.text for slot in slots(resource, raw)] == ["Patient/1"]
    assert slots({"resourceType": "Patient"}, b"{}") == []


def test_rewriting_a_slot_changes_the_resource():
    resource = {"resourceType": "Observation", "subject": {"reference": "urn:uuid:1"}}
    slots(resource)[0].holder["reference"] = "Patient/1"
    assert resource["subject"] == {"reference": "Patient/1"}


def test_a_stored_bundle_is_a_document_of_its_own():
    assert slots({"resourceType": "Bundle", "entry": [{"resource": {"a": {"reference": "X/1"}}}]}
                 ) == []  # fmt: skip


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Patient/1", ("Patient", "1")),
        ("Patient/1/_history/2", ("Patient", "1")),
        ("https://own.example/fhir/Patient/1", ("Patient", "1")),
        ("https://other.example/fhir/Patient/1", None),
        ("#contained", None),
        ("urn:uuid:7ae3cf64-d4ac-44fe-8d7a-e8a7ba4ff3a9", None),
    ],
)
def test_local_references(text, named):
    found = local(text, "https://own.example/fhir")
    assert (found and (found.type, found.id)) == named


@pytest.mark.parametrize(
    ("full_url", "base"),
    [
        ("http://a.example/fhir/Patient/1", "http://a.example/fhir/"),
        ("urn:uuid:1", ""),
        ("http://a.example/fhir/Observation/1", ""),
        (None, ""),
    ],
)
def test_the_base_of_a_full_url(full_url, base):
    assert full_url_base(full_url, "Patient") == base
