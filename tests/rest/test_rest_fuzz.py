"""Whatever is sent: no 5xx, and every refusal is an OperationOutcome (faults.md 30)."""

from __future__ import annotations

import json
from copy import deepcopy
from urllib.parse import quote

from effort import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_samples import bundle, entry, observation, patient

from fhir_gateway.fhir.definitions import definitions

FHIR = {"content-type": "application/fhir+json"}
MODEST = settings(
    max_examples=examples(150),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
SAMPLES = [
    patient(identifier=[{"system": "http://a.example", "value": "1"}], birthDate="1990-01-01"),
    observation("Patient/nobody", valueQuantity={"value": 1.5, "unit": "mmol/L"}),
    bundle(
        "transaction",
        {"fullUrl": "urn:uuid:00000000-0000-4000-8000-000000000001",
         **entry("POST", "Patient", patient(), ifNoneExist="identifier=a|b")},
        entry("PUT", "Patient/p", patient(id="p"), ifMatch='W/"1"'),
        entry("GET", "Patient?name=x"),
    ),
    bundle("batch", entry("DELETE", "Patient/p"), entry("POST", "Patient", patient())),
]  # fmt: skip
PLACES = ["", "Patient", "Observation", "Bundle", "ServiceRequest/$recognize", "Patient/_search"]


def _sound(answer):
    assert answer.status_code < 500
    if not 200 <= answer.status_code < 400 and answer.content:
        assert answer.json()["resourceType"] == "OperationOutcome"


@MODEST
@given(place=st.sampled_from(PLACES), body=st.binary(max_size=200))
def test_any_bytes(client, place, body):
    _sound(client.request("POST", f"/fhir/{place}", content=body, headers=FHIR))


@MODEST
@given(place=st.sampled_from(PLACES), body=JSON)
def test_any_json(client, place, body):
    text = json.dumps(body).encode("utf-8", "surrogatepass")
    _sound(client.request("POST", f"/fhir/{place}", content=text, headers=FHIR))


def _paths(value, path=()):
    yield path
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _paths(child, (*path, key))
    if isinstance(value, list):
        for key, child in enumerate(value):
            yield from _paths(child, (*path, key))


@MODEST
@given(data=st.data())
def test_a_sound_body_with_one_part_replaced(client, data):
    body = deepcopy(data.draw(st.sampled_from(SAMPLES)))
    path = data.draw(st.sampled_from([path for path in _paths(body) if path]))
    holder = body
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = data.draw(JSON)
    place = "" if body.get("type") in ("transaction", "batch") else str(body.get("resourceType"))
    text = json.dumps(body).encode("utf-8", "surrogatepass")
    _sound(client.request("POST", f"/fhir/{quote(place, errors='replace')}",
                          content=text, headers=FHIR))  # fmt: skip


NAMES = st.sampled_from(
    sorted({
        code
        for type in ("Patient", "Observation", "AuditEvent")
        for code in definitions().search_parameters[type]
    } | {"_sort", "_count", "_include", "_revinclude", "_total", "_summary", "_has", "_page",
         "_cursor", "_elements", "_format", "_pretty", "_contained"})
) | st.text(max_size=8)  # fmt: skip
MODIFIERS = st.sampled_from(
    ["", ":exact", ":missing", ":not", ":contains", ":identifier", ":Patient", ".name", ":x", ":"]
)
VALUES = st.sampled_from(
    ["", "x", "a|b", "|", "a|", "|b", "ge2026", "2026-13", "Patient/1", "true", "1,2,3", r"\,",
     "-1", "1e400", "999999999999999999999", "Observation:subject", "*", "%", "_", "'", "\\"]
) | st.text(max_size=20)  # fmt: skip


@MODEST
@given(
    type=st.sampled_from(["Patient", "Observation", "AuditEvent", "Provenance"]),
    pairs=st.lists(st.tuples(NAMES, MODIFIERS, VALUES), max_size=4),
    lenient=st.booleans(),
    form=st.booleans(),
)
def test_any_query(client, type, pairs, lenient, form):
    query = "&".join(
        f"{quote(name + modifier, errors='replace')}={quote(value, errors='replace')}"
        for name, modifier, value in pairs
    )
    headers = {"prefer": "handling=lenient"} if lenient else {}
    if form:
        headers["content-type"] = "application/x-www-form-urlencoded"
        _sound(client.request("POST", f"/fhir/{type}/_search", content=query, headers=headers))
    else:
        _sound(client.get(f"/fhir/{type}?{query}", headers=headers))


SEGMENTS = st.sampled_from(
    ["Patient", "metadata", "_history", "_search", "$recognize", "$", "1", "..", ".", "", "x" * 70]
) | st.text(max_size=6)


@MODEST
@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "X"]),
    segments=st.lists(SEGMENTS, max_size=5),
    query=st.binary(max_size=12),
)
def test_any_address(client, method, segments, query):
    path = "/".join(quote(segment, safe="", errors="replace") for segment in segments)
    answer = client.request(method, f"/fhir/{path}?{quote(query, safe='=&%')}")
    if method != "HEAD":
        _sound(answer)
    assert answer.status_code < 500


TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30)


@MODEST
@given(headers=st.dictionaries(
    st.sampled_from(["accept", "content-type", "prefer", "if-match", "if-none-match",
                     "if-modified-since", "if-none-exist", "host", "x-request-id",
                     "content-encoding"]),
    TEXTS, max_size=4,
))  # fmt: skip
def test_any_headers(client, headers):
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    _sound(client.request("GET", "/fhir/Patient/p", headers=raw))
    _sound(client.request("PUT", "/fhir/Patient/p", headers=raw,
                          content=json.dumps(patient(id="p")).encode()))  # fmt: skip
    _sound(client.request("POST", "/fhir/Patient", headers=raw, content=b"{}"))
