"""Media types in and out: _format over Accept, 406, 415 (hl7.org/fhir/R4/http.html#mime-type)."""

from __future__ import annotations

import json

import pytest
from rest_samples import patient

from fhir_gateway.rest.negotiation import prefer

FHIR, JSON = "application/fhir+json; charset=utf-8", "application/json; charset=utf-8"
FHIR_XML, XML = "application/fhir+xml; charset=utf-8", "application/xml; charset=utf-8"


@pytest.fixture(scope="module")
def path(client):
    return f"/fhir/Patient/{client.post('/fhir/Patient', patient()).json()['id']}"


@pytest.mark.parametrize(
    ("accept", "served"),
    [
        ("application/fhir+json", FHIR),
        ("application/json", JSON),
        ("application/json+fhir", FHIR),
        ("text/json", "text/json; charset=utf-8"),
        ("*/*", FHIR),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", FHIR),
        ("text/html,application/xml;q=0.9,application/json;q=0.1", JSON),
        ("text/html,application/fhir+xml;q=0.9,*/*;q=0.8", FHIR_XML),
        ("text/html;q=0,application/xml;q=0.9,*/*;q=0.8", XML),
        ("text/html,application/xml;q=0.9", XML),
        ("application/fhir+json; fhirVersion=4.0", FHIR),
        ("APPLICATION/FHIR+JSON;charset=utf-8", FHIR),
        ("application/fhir+xml, application/fhir+json;q=0.1", FHIR_XML),
        ("application/fhir+xml;q=0.1, application/fhir+json", FHIR),
        ("application/fhir+xml, application/fhir+json", FHIR_XML),
        ("application/fhir+json, application/fhir+xml", FHIR),
        ("application/fhir+xml", FHIR_XML),
        ("application/xml+fhir", FHIR_XML),
        ("application/xml", XML),
        ("text/xml", "text/xml; charset=utf-8"),
        ("application/fhir+xml;q=0", None),
        ("application/fhir+xml; fhirVersion=5.0", None),
        ("application/fhir+json; fhirVersion=5.0", None),
        ("application/fhir+json;q=0", None),
        ("application/fhir+json;q=0.000", None),
        ("application/json;q=0.9, application/fhir+json;q=0.1", JSON),
        ("application/json;q=0.1, application/fhir+json", FHIR),
        ("application/json;q=0.5, */*;q=0.6", FHIR),
        ("application/fhir+json;q=0, */*", JSON),
        ("application/fhir+json;q=0, application/json;q=0, */*", FHIR_XML),
        (
            "application/fhir+json;q=0, application/json;q=0, application/fhir+xml;q=0, "
            "application/xml;q=0, */*",
            None,
        ),
        ("application/fhir+json;q=nonsense", FHIR),
        ("application/fhir+json; fhirVersion=3.0, application/json", JSON),
        ("text/turtle", None),
        ("", FHIR),
    ],
)
def test_accept(client, path, accept, served):
    answer = client.get(path, headers={"accept": accept})
    assert answer.status_code == (200 if served else 406)
    assert answer.headers["content-type"] == (served or FHIR)


@pytest.mark.parametrize(
    ("format", "status"),
    [
        ("json", 200),
        ("application/json", 200),
        ("application/fhir%2Bjson", 200),
        ("application/fhir+json", 200),
        ("application/json%3BfhirVersion=4.0", 200),
        ("json%3BfhirVersion=5.0", 406),
        ("application/fhir%2Bxml", 200),
        ("application/fhir+xml", 200),
        ("text/xml", 200),
        ("xml", 200),
        ("xml%3BfhirVersion=5.0", 406),
        ("", 406),
        ("ttl", 406),
        ("nonsense", 406),
    ],
)
def test_format_wins_over_accept(client, path, format, status):
    answer = client.get(
        f"{path}?_format={format}",
        headers={"accept": "text/turtle" if status == 200 else "application/fhir+json"},
    )
    assert answer.status_code == status
    if status == 200:
        assert ("xml" in answer.headers["content-type"]) == ("xml" in format)


def test_pretty_changes_nothing_but_the_layout(client, path):
    plain, pretty = client.get(path), client.get(f"{path}?_pretty=true")
    assert pretty.text.startswith('{\n  "resourceType": "Patient"')
    assert pretty.json() == plain.json()


@pytest.mark.parametrize("text", ["yes", "1", "TRUE", ""])
def test_pretty_is_true_or_false(client, path, text):
    answer = client.get(f"{path}?_pretty={text}")
    assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (400, ["_pretty"])
    assert client.get(f"{path}?_pretty=false").content == client.get(path).content


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, ("representation", False, False)),
        ("return=minimal", ("minimal", False, False)),
        ("return=minimal, handling=lenient", ("minimal", True, False)),
        ("return=minimal; x=y , HANDLING = lenient", ("minimal", True, False)),
        ('return="OperationOutcome"', ("OperationOutcome", False, False)),
        ("respond-async, wait=10", ("representation", False, True)),
        ("return=nonsense, handling=strict", ("representation", False, False)),
        ("handling=strict, handling=lenient", ("representation", False, False)),
        (",,;=", ("representation", False, False)),
    ],
)
def test_several_preferences_are_each_read(header, expected):
    assert prefer(header) == expected


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_search_and_a_history_answer_head_like_get(client, path, method):
    for address in ("/fhir/Patient?_count=1", f"{path}/_history", "/fhir/metadata"):
        answer = client.request(method, address)
        assert (answer.status_code, bool(answer.content)) == (200, method == "GET")
        assert int(answer.headers["content-length"]) > 100


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/fhir+json", 201),
        ("application/json", 201),
        ("application/json+fhir; charset=UTF-8", 201),
        ("application/fhir+json; fhirVersion=4.0", 201),
        ("application/fhir+json; fhirVersion=3.0", 415),
        ("application/fhir+json; charset=gb18030", 415),
        ("application/fhir+xml; charset=gb18030", 415),
        ("application/fhir+xml; fhirVersion=3.0", 415),
        ("application/xhtml+xml", 415),
        ("application/x-www-form-urlencoded", 415),
        ("text/plain", 415),
        ("*/*", 415),
        ("json", 415),
        ("", 415),
    ],
)
def test_content_type(client, content_type, status):
    answer = client.request(
        "POST",
        "/fhir/Patient",
        content=json.dumps(patient()).encode(),
        headers={"content-type": content_type},
    )
    assert answer.status_code == status
    assert answer.json()["resourceType"] == ("Patient" if status == 201 else "OperationOutcome")


def test_compressed_bodies_are_refused_before_they_are_read(client):
    answer = client.request(
        "POST",
        "/fhir/Patient",
        content=b"\x1f\x8b",
        headers={"content-type": "application/fhir+json", "content-encoding": "gzip"},
    )
    assert answer.status_code == 415


@pytest.mark.parametrize("host", ["", "a b", 'x"><script>', "h/../", "[::1"])
def test_a_host_that_is_no_host_is_refused(client, path, host):
    answer = client.get(path, headers={"host": host})
    assert answer.status_code == 400


def test_links_follow_the_address_that_the_client_called(client):
    answer = client.get("/fhir/Patient?_count=1", headers={"host": "localhost:9999"})
    assert answer.json()["link"][0]["url"].startswith("http://localhost:9999/fhir/Patient")


def test_a_configured_base_url_is_what_clients_see(start):
    server = start(open_access=True, base_url="https://gateway.example/fhir")
    answer = server.post("/fhir/Patient", patient())
    assert answer.headers["location"].startswith("https://gateway.example/fhir/Patient/")
